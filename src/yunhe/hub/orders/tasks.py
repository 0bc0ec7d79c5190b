"""Between rows of `task` and values of `core.lifecycle`; writing back what a step changed."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from yunhe.core.lifecycle import EndReason, Step, Task, TaskState
from yunhe.hub.orders import store
from yunhe.hub.platform import bulk
from yunhe.hub.platform.writer import Tx

FACTS = "facts"  # topic: something was added to the log of facts
CHUNK = 500  # ids per statement: far below SQLite's bound on variables


def chunks(items: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


_LOCKED_ORDERS = (
    sa.select(store.order).where(bulk.any_of(store.order.c.id)).order_by(store.order.c.id).with_for_update()
)
_TASKS = sa.select(store.task).where(bulk.any_of(store.task.c.lease_id))


def lock_orders(tx: Tx, order_ids: Iterable[str]) -> dict[str, sa.Row[Any]]:
    """The orders' rows, locked in sorted order (a no-op on SQLite, where the transaction is the only writer)."""
    ids = sorted(set(order_ids))
    return {row.id: row for row in tx.conn.execute(_LOCKED_ORDERS, {"ids": ids}).all()} if ids else {}


def load(tx: Tx, lease_ids: Iterable[str]) -> dict[str, sa.Row[Any]]:
    ids = sorted(set(lease_ids))
    return {row.lease_id: row for row in tx.conn.execute(_TASKS, {"ids": ids}).all()} if ids else {}


def to_task(row: sa.Row[Any]) -> Task:
    return Task(
        lease_id=row.lease_id,
        state=TaskState(row.state),
        epoch=row.epoch,
        site_id=row.site_id,
        pool_id=row.pool_id,
        retries_left=row.retries_left,
        site_faults=row.site_faults,
        preemptions=row.preemptions,
        not_before_ms=row.not_before_ms,
        cancel_requested=row.cancel_requested,
        stopping=row.stopping,
        started=row.started,
        exit_code=row.exit_code,
        reason=EndReason(row.reason) if row.reason else None,
    )


def changing(changed: Sequence[tuple[Task, dict[str, object]]]) -> bulk.Update:
    """One row per task; the dict holds the columns that the value does not know (times, sizes, detail)."""
    rows = [
        {
            "lease_id": task.lease_id,
            "state": task.state.value,
            "epoch": task.epoch,
            "site_id": task.site_id,
            "pool_id": task.pool_id,
            "retries_left": task.retries_left,
            "site_faults": task.site_faults,
            "preemptions": task.preemptions,
            "not_before_ms": task.not_before_ms,
            "cancel_requested": task.cancel_requested,
            "stopping": task.stopping,
            "started": task.started,
            "exit_code": task.exit_code,
            "reason": task.reason.value if task.reason else None,
            **extra,
        }
        for task, extra in changed
    ]
    return bulk.Update(store.task, ("lease_id",), rows)


def extra_columns(row: sa.Row[Any]) -> dict[str, object]:
    """The columns of a task's row that `Task` does not hold."""
    return {
        "milli": row.milli,
        "memory_bytes": row.memory_bytes,
        "booked_from_ms": row.booked_from_ms,
        "booked_until_ms": row.booked_until_ms,
        "detail": row.detail,
        "placed_ms": row.placed_ms,
        "started_ms": row.started_ms,
        "ended_ms": row.ended_ms,
        "overdue_ms": row.overdue_ms,
        "kept_ms": row.kept_ms,
        "checkpoint": row.checkpoint,
    }


def fact_rows(order_id: str, step: Step, now_ms: int) -> list[dict[str, object]]:
    return [
        {
            "order_id": order_id,
            "lease_id": step.task.lease_id,
            "epoch": step.task.epoch,
            "at_ms": now_ms,
            "kind": kind,
            "detail": detail,
        }
        for kind, detail in step.facts
    ]


def order_fact(order_id: str, kind: str, detail: str, at_ms: int) -> dict[str, object]:
    """About an order as a whole."""
    return {"order_id": order_id, "lease_id": None, "epoch": None, "at_ms": at_ms, "kind": kind, "detail": detail}
