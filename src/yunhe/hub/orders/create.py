"""New orders: their rows, in the transaction in which intake took the hold."""

from collections.abc import Sequence

import sqlalchemy as sa

from yunhe.core.errors import IdempotencyConflict
from yunhe.core.lifecycle import OrderState, TaskState
from yunhe.hub.orders import store
from yunhe.hub.orders.model import NewOrder
from yunhe.hub.platform.db import insert_ignore
from yunhe.hub.platform.writer import Tx

ROUND = "round"  # topic: there may be something to place


def known_keys(tx: Tx, keys: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str], str | IdempotencyConflict]:
    """For (org, idempotency key, body sha): the order that the key made before, or the refusal of another body."""
    known: dict[tuple[str, str], str | IdempotencyConflict] = {}
    if not keys:
        return known
    shas = {(org, key): sha for org, key, sha in keys}
    rows = tx.conn.execute(
        sa.select(store.order.c.id, store.order.c.org, store.order.c.idem_key, store.order.c.idem_sha).where(
            store.order.c.idem_key.in_([key for _, key, _ in keys])
        )
    )
    for row in rows:
        wanted = shas.get((row.org, row.idem_key))
        if wanted is not None:
            same = wanted == row.idem_sha
            known[row.org, row.idem_key] = (
                row.id
                if same
                else IdempotencyConflict(
                    f"this Idempotency-Key was used for order {row.id} with another body", field="Idempotency-Key"
                )
            )
    return known


def insert(tx: Tx, orders: Sequence[NewOrder]) -> None:
    """Write orders and their tasks. The idempotency keys must be unknown (see `known_keys`)."""
    if not orders:
        return
    bundles = {o.bundle_sha256: o.bundle_json for o in orders if o.bundle_sha256 is not None}
    insert_ignore(store.bundle).execute(
        tx.conn, [{"sha256": sha, "json": text} for sha, text in sorted(bundles.items())]
    )
    specs = {o.spec_hash: {"hash": o.spec_hash, "json": o.spec_json, "bundle": o.bundle_sha256} for o in orders}
    insert_ignore(store.spec).execute(tx.conn, [specs[key] for key in sorted(specs)])
    tx.conn.execute(store.order.insert(), [_order_row(order) for order in orders])
    tx.conn.execute(store.task.insert(), [row for order in orders for row in _task_rows(order)])
    tx.notify(ROUND)


def _order_row(order: NewOrder) -> dict[str, object]:
    return {
        "id": order.id,
        "org": order.org,
        "member": order.member,
        "name": order.spec.name,
        "spec_hash": order.spec_hash,
        "state": OrderState.OPEN.value,
        "priority": order.spec.priority,
        "array": order.spec.array,
        "submitted_ms": order.submitted_ms,
        "deadline_ms": order.deadline_ms,
        "hold_microcny": order.hold_microcny,
        "pending": order.spec.array,
        "idem_key": order.idem_key,
        "idem_sha": order.idem_sha,
    }


def _task_rows(order: NewOrder) -> list[dict[str, object]]:
    return [
        {
            "lease_id": f"{order.id}.{index}",
            "order_id": order.id,
            "idx": index,
            "state": TaskState.PENDING.value,
            "retries_left": order.spec.retries,
        }
        for index in range(order.spec.array)
    ]
