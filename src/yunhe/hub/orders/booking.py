"""What a round booked, committed: units of a pool are promised to tasks for a time that is yet to come.

The promise is the task's own row (its pool, its size, from when and until when); the pool's guard is locked while it is
made, so that no two commits promise the same units.  An assignment is checked against the promises of its pool in the
same way.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from yunhe.core import lifecycle
from yunhe.core.demand import Shape
from yunhe.core.lifecycle import Booked, Task
from yunhe.core.placement.calendar import Span, is_booking, moment, span_of
from yunhe.core.policy import Policy
from yunhe.core.round import Assignment
from yunhe.hub.catalogue import guards
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.orders import calendar, store, tasks
from yunhe.hub.orders.snapshot import OpenOrder
from yunhe.hub.platform import bulk
from yunhe.hub.platform.writer import Tx

# Above every priority that an order can ask for: of an order whose booking was lost.
URGENT = 10


class Promise(NamedTuple):
    """One task that is booked, with its size."""

    order: sa.Row[Any]
    task: sa.Row[Any]
    pool_id: str
    shape: Shape
    milli: int
    memory_bytes: int


def bookable(
    tx: Tx, wanted: Sequence[Assignment], also: Iterable[str], open_orders: Mapping[str, OpenOrder], policy: Policy
) -> list[Assignment]:
    """Those for which there is still room at their time. `also`: pools that this transaction will change."""
    wanted = [a for a in wanted if is_booking(open_orders[a.order_id].shape, tx.now_ms)]
    if not wanted:
        return []
    pool_ids = {a.pool_id for a in wanted}
    guards.lock(tx, {*pool_ids, *also})
    calendars = calendar.locked(tx, pool_ids, policy)
    kept = []
    for a in wanted:
        span = span_of(open_orders[a.order_id].shape, tx.now_ms, policy)
        at = calendars.get(a.pool_id)
        if at is not None and at.fits(span, a.milli, a.memory_bytes):
            at.take(span, a.milli, a.memory_bytes)
            kept.append(a)
    return kept


def clear(tx: Tx, placed: list[Assignment], open_orders: Mapping[str, OpenOrder], policy: Policy) -> list[Assignment]:
    """Those of `placed`, whose units are reserved, that leave to bookings what they were promised; the others' units
    are given back."""
    booked = calendar.booked(tx.conn, {a.pool_id for a in placed})
    if not booked:
        return placed
    calendars = calendar.locked(tx, booked, policy)
    for a in placed:
        if a.pool_id in calendars:  # the guard has them already
            calendars[a.pool_id].gives_back(0, a.milli, a.memory_bytes)
    kept = []
    for a in placed:
        at, span = calendars.get(a.pool_id), span_of(open_orders[a.order_id].shape, tx.now_ms, policy)
        if at is None or at.fits(span, a.milli, a.memory_bytes):
            kept.append(a)
            if at is not None:
                at.take(span, a.milli, a.memory_bytes)
        else:
            catalogue.release(tx, a.pool_id, a.milli, a.memory_bytes)
    return kept


def write(tx: Tx, promises: Sequence[Promise]) -> None:
    """Into the rows of tasks and their orders, which are locked."""
    changed: list[tuple[Task, dict[str, object]]] = []
    facts: list[dict[str, object]] = []
    counts: dict[str, int] = defaultdict(int)
    orders = {promise.order.id: promise.order for promise in promises}
    for p in promises:
        assert p.shape.terms.start_ms is not None
        span = Span(p.shape.terms.start_ms, p.shape.terms.start_ms + p.shape.terms.run_limit_ms)
        detail = f"{p.pool_id} from {moment(span.from_ms)} to {moment(span.until_ms)}"
        step = lifecycle.step(tasks.to_task(p.task), Booked(p.pool_id.partition(":")[0], p.pool_id, detail), tx.now_ms)
        columns = {"milli": p.milli, "memory_bytes": p.memory_bytes}
        changed.append((step.task, {**columns, "booked_from_ms": span.from_ms, "booked_until_ms": span.until_ms}))
        facts += tasks.fact_rows(p.order.id, step, tx.now_ms)
        counts[p.order.id] += 1
    rows = [
        {"id": order_id, "pending": orders[order_id].pending - n, "version": orders[order_id].version + 1}
        for order_id, n in sorted(counts.items())
    ]
    bulk.write(
        tx.conn, tasks.changing(changed), bulk.Insert(store.fact, facts), bulk.Update(store.order, ("id",), rows)
    )
    for order_id in counts:
        tx.notify(f"order:{order_id}")
    if facts:
        tx.notify(tasks.FACTS)
