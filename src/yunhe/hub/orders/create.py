"""New orders: their rows, in the transaction in which intake took the hold."""

from collections import defaultdict
from collections.abc import Sequence

import sqlalchemy as sa

from yunhe.core.errors import IdempotencyConflict
from yunhe.core.lifecycle import OrderState, TaskState
from yunhe.hub.orders import store, tasks
from yunhe.hub.orders.model import NewOrder
from yunhe.hub.platform import bulk
from yunhe.hub.platform.writer import Tx

ROUND = "round"  # topic: there may be something to place

_BY_KEY = sa.select(store.order.c.id, store.order.c.idem_key, store.order.c.idem_sha).where(
    store.order.c.org == sa.bindparam("org"), bulk.any_of(store.order.c.idem_key)
)


def known_keys(tx: Tx, keys: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str], str | IdempotencyConflict]:
    """For (org, idempotency key, body sha): the order that the key made before, or the refusal of another body."""
    known: dict[tuple[str, str], str | IdempotencyConflict] = {}
    if not keys:
        return known
    shas: dict[str, dict[str, str]] = defaultdict(dict)
    for org, key, sha in keys:
        shas[org][key] = sha
    for org, wanted in shas.items():
        for order_id, key, sha in tx.conn.execute(_BY_KEY, {"org": org, "ids": list(wanted)}).all():
            known[org, key] = order_id if wanted[key] == sha else _other_body(order_id)
    return known


def ids_of_keys(tx: Tx, org: str, keys: Sequence[str]) -> tuple[str, ...]:
    """The orders that the idempotency keys made, in the order of the keys."""
    found = {key: order_id for order_id, key, _ in tx.conn.execute(_BY_KEY, {"org": org, "ids": list(keys)})}
    return tuple(found[key] for key in keys)


def same_body(first: NewOrder, second: NewOrder) -> IdempotencyConflict | None:
    """Two submissions with one key in one transaction: None when they say the same."""
    return None if first.idem_sha == second.idem_sha else _other_body(first.id)


def _other_body(order_id: str) -> IdempotencyConflict:
    return IdempotencyConflict(
        f"this Idempotency-Key was used for order {order_id} with another body", field="Idempotency-Key"
    )


def insert(tx: Tx, orders: Sequence[NewOrder]) -> None:
    """Write orders and their tasks. The idempotency keys must be unknown (see `known_keys`)."""
    if not orders:
        return
    bundles = {o.bundle_sha256: o.bundle_json for o in orders if o.bundle_sha256 is not None}
    bundle_rows = [{"sha256": sha, "json": text} for sha, text in sorted(bundles.items())]
    specs = {o.spec_hash: {"hash": o.spec_hash, "json": o.spec_json, "bundle": o.bundle_sha256} for o in orders}
    bulk.write(
        tx.conn,
        bulk.Insert(store.bundle, bundle_rows, ignore=True),
        bulk.Insert(store.spec, [specs[key] for key in sorted(specs)], ignore=True),
        bulk.Insert(store.order, [_order_row(order) for order in orders]),
        bulk.Insert(store.secret, [{"order_id": o.id, "sealed": o.sealed} for o in orders if o.sealed is not None]),
        bulk.Insert(store.task, [row for order in orders for row in _task_rows(order)]),
        bulk.Insert(store.fact, [tasks.order_fact(order.id, "submitted", "", order.submitted_ms) for order in orders]),
    )
    tx.notify(ROUND)
    tx.notify(tasks.FACTS)


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
        "start_ms": order.start_ms,
        "hold_microcny": order.hold_microcny,
        "pending": order.spec.array,
        "secrets": order.sealed is not None,
        "spot": order.spec.spot,
        "origin": order.origin_json,
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
