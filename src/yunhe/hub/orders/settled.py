"""What settlement writes back to an order's row."""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from yunhe.hub.orders import store
from yunhe.hub.platform.writer import Tx


def add_charges(tx: Tx, amounts: Mapping[str, int]) -> None:
    """Add to what the orders were charged, micro-CNY."""
    if amounts:
        tx.conn.execute(
            sa.update(store.order)
            .where(store.order.c.id == sa.bindparam("b_id"))
            .values(charged_microcny=store.order.c.charged_microcny + sa.bindparam("b_n")),
            [{"b_id": order_id, "b_n": n} for order_id, n in sorted(amounts.items())],
        )


def mark_settled(tx: Tx, order_ids: Iterable[str]) -> None:
    ids = sorted(order_ids)
    if ids:
        tx.conn.execute(
            sa.update(store.order).where(store.order.c.id == sa.bindparam("b_id")).values(settled=True),
            [{"b_id": order_id} for order_id in ids],
        )
    for order_id in ids:
        tx.notify(f"order:{order_id}")
