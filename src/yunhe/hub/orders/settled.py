"""What settlement writes back to an order's row."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from yunhe.core.units import format_money
from yunhe.hub.orders import store, tasks
from yunhe.hub.platform import bulk
from yunhe.hub.platform.writer import Tx


def recording(
    tx: Tx, orders: Mapping[str, sa.Row[Any]], charged: Mapping[str, int], over: Iterable[str]
) -> tuple[bulk.Update, bulk.Insert]:
    """For `bulk.write`: add to what the locked `orders` were charged, micro-CNY, and mark those that are `over`."""
    ended = set(over)
    rows: list[dict[str, Any]] = [
        {
            "id": order_id,
            "charged_microcny": orders[order_id].charged_microcny + charged.get(order_id, 0),
            "settled": orders[order_id].settled or order_id in ended,
        }
        for order_id in sorted(ended | charged.keys())
    ]
    for order_id in ended:
        tx.notify(f"order:{order_id}")
    facts = [
        tasks.order_fact(row["id"], "settled", f"charged {format_money(row['charged_microcny'])}", tx.now_ms)
        for row in rows
        if row["settled"] and not orders[row["id"]].settled
    ]
    if facts:
        tx.notify(tasks.FACTS)
    return bulk.Update(store.order, ("id",), rows), bulk.Insert(store.fact, facts)
