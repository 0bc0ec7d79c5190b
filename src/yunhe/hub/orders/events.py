"""Events change orders only here: lock, step each task, write back, release, leave settlement its work."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from yunhe.core import lifecycle
from yunhe.core.errors import Conflict, NotFound, YunheError
from yunhe.core.lifecycle import (
    ENDED,
    ORDER_ENDED,
    PLACED,
    WAITING,
    CancelRequested,
    DeadlinePassed,
    Ended,
    EndReason,
    Event,
    GivenUp,
    Instruction,
    OrderState,
    Overdue,
    SiteBack,
    SiteSilent,
    Step,
    Task,
    TaskState,
    order_state,
)
from yunhe.hub.accounts import service as accounts
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.orders import outbox, secrets, store, tasks
from yunhe.hub.orders.create import ROUND
from yunhe.hub.orders.model import SETTLEMENT, attempt_key, order_end_key, order_of
from yunhe.hub.platform import bulk, work
from yunhe.hub.platform.writer import Tx
from yunhe.wire.link import CancelLease, Checkpoint

# A site that was told to stop a task says within so long that it has, or the hub counts on it no more. It is time for a
# link that breaks, for the job's grace and for its outputs; a site that is silent meanwhile is given up sooner.
STOP_LIMIT_MS = 600_000
BACK_MS = 60_000  # one that comes back after that has so long to say what happened
# Placed at a site that is not silent: of the others nobody knows, and `give_up` comes.
HEARD_OF = [TaskState.LEASED, TaskState.RUNNING]
# Tasks that one transaction changes because of the time; what is left is found again half a second later.
MAX_BY_TIME = 2_000


@dataclass(frozen=True, slots=True)
class LeaseEvent:
    """An event for one task. `detail` and `at_ms` are shown to people; the site's clock is not trusted."""

    lease_id: str
    event: Event
    detail: str = ""
    checkpoint: Checkpoint | None = None  # what the attempt left to go on from, and the hub has


@dataclass
class _Changes:
    """What a batch of steps adds up to."""

    columns: dict[str, dict[str, object]] = field(default_factory=dict)
    facts: list[dict[str, object]] = field(default_factory=list)
    instructions: dict[str, list[CancelLease]] = field(default_factory=lambda: defaultdict(list))
    pools: dict[str, tuple[int, int]] = field(default_factory=dict)
    quotas: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    ended_attempts: list[dict[str, object]] = field(default_factory=list)  # columns of `lease`
    unbooked: bool = False
    order_ids: set[str] = field(default_factory=set)


def apply(tx: Tx, events: Sequence[LeaseEvent]) -> None:
    """Step every named task through its events, in order. Unknown leases, late and doubled events change nothing."""
    orders = tasks.lock_orders(tx, (order_of(e.lease_id) for e in events))
    rows = tasks.load(tx, (e.lease_id for e in events))
    current = {lease_id: tasks.to_task(row) for lease_id, row in rows.items()}
    changes = _Changes()
    for item in events:
        task = current.get(item.lease_id)
        if task is None:
            continue
        step = lifecycle.step(task, item.event, tx.now_ms)
        if step.changed:
            row = rows[item.lease_id]
            _note(changes, orders[row.order_id], row, task, step, item, tx.now_ms)
            current[item.lease_id] = step.task
    _write(tx, changes, current, orders)


def _note(
    changes: _Changes,
    order: sa.Row[Any],
    row: sa.Row[Any],
    before: Task,
    step: Step,
    item: LeaseEvent,
    now_ms: int,
) -> None:
    task = step.task
    columns = changes.columns.setdefault(task.lease_id, tasks.extra_columns(row))
    changes.order_ids.add(order.id)
    changes.facts += tasks.fact_rows(order.id, step, now_ms)
    for instruction in step.instructions:
        if before.site_id is not None:
            changes.instructions[before.site_id].append(_cancel(instruction))
    if task.stopping and not before.stopping:
        columns["overdue_ms"] = now_ms + STOP_LIMIT_MS
    elif task.stopping and isinstance(item.event, SiteBack):
        columns["overdue_ms"] = max(int(str(columns["overdue_ms"])), now_ms + BACK_MS)
    if task.started and not before.started:
        columns["started_ms"] = now_ms
        # The run limit counts from here: neither a start that came late (the site was cut off) nor one that waited in
        # the centre's queue is overdue for it.
        if not task.stopping:
            columns["overdue_ms"] = now_ms + row.limit_ms
    if task.state in ENDED or step.released:
        columns["ended_ms"] = now_ms
        columns["detail"] = item.detail
        columns["overdue_ms"] = None
    if before.state is TaskState.BOOKED:
        changes.unbooked = True
        columns |= {"milli": 0, "memory_bytes": 0, "booked_from_ms": None, "booked_until_ms": None}
    if step.released and before.pool_id is not None:
        milli, memory = changes.pools.get(before.pool_id, (0, 0))
        changes.pools[before.pool_id] = (milli + row.milli, memory + row.memory_bytes)
        changes.quotas[order.org] += row.milli
        reason = task.reason.value if task.reason else ""
        keeps = task.reason is EndReason.PREEMPTED and before.started
        kept_ms = _keep(columns, item, now_ms - row.placed_ms) if keeps else 0
        changes.ended_attempts.append(
            {
                "lease_id": task.lease_id,
                "epoch": before.epoch,
                "end_reason": reason,
                "ended_ms": now_ms,
                "kept_ms": kept_ms,
            }
        )


def _keep(columns: dict[str, object], item: LeaseEvent, placed_for_ms: int) -> int:
    """The next attempt goes on from what this one saved; wall time that was saved, in ms: no more than there was."""
    kept_ms = min(item.event.kept_ms, max(1, placed_for_ms)) if isinstance(item.event, Ended) else 0
    if item.checkpoint is not None and kept_ms:
        columns["checkpoint"] = item.checkpoint.model_dump_json()
        columns["kept_ms"] = int(str(columns["kept_ms"])) + kept_ms
    return kept_ms


def _cancel(instruction: Instruction) -> CancelLease:
    assert instruction.reason is not None
    return CancelLease(seq=0, lease_id=instruction.lease_id, epoch=instruction.epoch, reason=instruction.reason)


def _write(tx: Tx, changes: _Changes, current: dict[str, Task], orders: dict[str, sa.Row[Any]]) -> None:
    # Guards in the order that committing a plan takes them: pools, quotas, outbox heads.
    catalogue.release_many(tx, changes.pools)
    accounts.release_quota(tx, changes.quotas)
    instructions = outbox.adding(tx, changes.instructions)
    ended = changes.ended_attempts
    bulk.write(
        tx.conn,
        tasks.changing([(current[lease_id], extra) for lease_id, extra in changes.columns.items()]),
        bulk.Insert(store.fact, changes.facts),
        bulk.Update(
            store.lease,
            ("lease_id", "epoch"),
            ended,
        ),
        instructions,
    )
    rows, over = _order_rows(tx, changes, current, orders)
    keys = [attempt_key(str(a["lease_id"]), int(str(a["epoch"]))) for a in ended] + [order_end_key(i) for i in over]
    bulk.write(tx.conn, bulk.Update(store.order, ("id",), rows), work.leaving(tx, SETTLEMENT, keys, tx.now_ms))
    ended_ids = {str(row["id"]) for row in rows if row["ended_ms"]}
    secrets.forget(tx, (order_id for order_id in ended_ids if orders[order_id].secrets))
    if changes.pools or changes.unbooked:
        tx.notify(ROUND)
    if changes.facts:
        tx.notify(tasks.FACTS)


def _order_rows(
    tx: Tx, changes: _Changes, current: dict[str, Task], orders: dict[str, sa.Row[Any]]
) -> tuple[list[dict[str, object]], list[str]]:
    """The locked orders' rows in step with their tasks, and the orders that ended by none of their attempts."""
    attempted = {order_of(str(attempt["lease_id"])) for attempt in changes.ended_attempts}
    rows: list[dict[str, object]] = []
    over: list[str] = []
    for order_id in sorted(changes.order_ids):
        order = orders[order_id]
        waiting, counts = _tally(tx, order, current)
        state = order_state(counts)
        ended = state in ORDER_ENDED
        rows.append(
            {
                "id": order_id,
                "state": state.value,
                **waiting,
                "ended_ms": order.ended_ms or tx.now_ms if ended else None,
                "version": order.version + 1,
            }
        )
        if ended and OrderState(order.state) not in ORDER_ENDED and order_id not in attempted:
            over.append(order_id)
        tx.notify(f"order:{order_id}")
    return rows, over


def _tally(tx: Tx, order: sa.Row[Any], current: dict[str, Task]) -> tuple[dict[str, int], dict[TaskState, int]]:
    """The order's columns about its pending tasks, and the count of tasks by state."""
    if order.array == 1:
        task = current[f"{order.id}.0"]
        pending = task.state is TaskState.PENDING
        return _waiting(int(pending), *(task.not_before_ms * pending,) * 2), {task.state: 1}
    column = store.task.c
    rows = tx.conn.execute(
        sa.select(column.state, sa.func.count(), sa.func.min(column.not_before_ms), sa.func.max(column.not_before_ms))
        .where(column.order_id == order.id)
        .group_by(column.state)
    ).all()
    counts = {TaskState(state): n for state, n, _, _ in rows}
    waiting = next(((n, first, last) for state, n, first, last in rows if state == TaskState.PENDING), (0, 0, 0))
    return _waiting(*waiting), counts


def _waiting(pending: int, first_ms: int, last_ms: int) -> dict[str, int]:
    return {"pending": pending, "not_before_ms": first_ms, "all_from_ms": last_ms}


# --- events that name no lease ---------------------------------------------------------------------------------


def cancel_orders(tx: Tx, order_ids: Sequence[str]) -> list[str | YunheError]:
    """Writer handler: ask every task of the orders to stop. Conflict for an order that has ended otherwise."""
    results: list[str | YunheError] = []
    for order_id in order_ids:
        row = tx.conn.execute(sa.select(store.order.c.state).where(store.order.c.id == order_id)).first()
        if row is None:
            results.append(NotFound(f"order {order_id} is not known"))
        elif row.state in (OrderState.SUCCEEDED, OrderState.FAILED):
            results.append(Conflict(f"order {order_id} has {row.state} already"))
        else:
            alive = sorted(PLACED | WAITING)
            apply(tx, [LeaseEvent(i, CancelRequested()) for i in _leases(tx, store.task.c.order_id == order_id, alive)])
            results.append(order_id)
    return results


def site_silent(tx: Tx, site_ids: Iterable[str]) -> None:
    where = store.task.c.site_id.in_(sorted(site_ids))
    leases = _leases(tx, where, [TaskState.LEASED, TaskState.RUNNING], MAX_BY_TIME)
    apply(tx, [LeaseEvent(lease_id, SiteSilent()) for lease_id in leases])


def site_back(tx: Tx, site_ids: Iterable[str]) -> None:
    leases = _leases(tx, store.task.c.site_id.in_(sorted(site_ids)), [TaskState.UNKNOWN])
    apply(tx, [LeaseEvent(lease_id, SiteBack()) for lease_id in leases])


def give_up(tx: Tx, site_ids: Iterable[str]) -> None:
    where = store.task.c.site_id.in_(sorted(site_ids))
    leases = _leases(tx, where, [TaskState.UNKNOWN], MAX_BY_TIME)
    apply(tx, [LeaseEvent(lease_id, GivenUp(), "no word from the site") for lease_id in leases])


def overdue(tx: Tx, limit: int) -> None:
    leases = _leases(tx, store.task.c.overdue_ms < tx.now_ms, HEARD_OF, limit)
    detail = "the site was told to stop it, and does not say that it has"
    apply(tx, [LeaseEvent(lease_id, Overdue(), detail) for lease_id in leases])


def deadlines(tx: Tx, limit: int) -> None:
    """Fail what was not placed by its deadline."""
    ids = tx.conn.scalars(
        sa.select(store.order.c.id)
        .where(store.order.c.pending > 0, store.order.c.deadline_ms < tx.now_ms)
        .order_by(store.order.c.id)
        .limit(limit)
    ).all()
    if ids:
        leases = _leases(tx, store.task.c.order_id.in_(ids), [TaskState.PENDING], MAX_BY_TIME)
        apply(tx, [LeaseEvent(lease_id, DeadlinePassed(), "not placed before its deadline") for lease_id in leases])


def _leases(tx: Tx, where: sa.ColumnElement[bool], states: Sequence[TaskState], limit: int | None = None) -> list[str]:
    statement = sa.select(store.task.c.lease_id).where(where, store.task.c.state.in_([s.value for s in states]))
    return list(tx.conn.scalars(statement.order_by(store.task.c.lease_id).limit(limit)))


def silent_candidates(conn: sa.Connection) -> dict[str, set[str]]:
    """Sites with placed tasks, and in which states."""
    rows = conn.execute(
        sa.select(store.task.c.site_id, store.task.c.state)
        .where(store.task.c.state.in_([s.value for s in PLACED]))
        .distinct()
    )
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row.site_id].add(row.state)
    return found


def timers_due(conn: sa.Connection, now_ms: int) -> bool:
    """Whether `overdue` or `deadlines` would find anything."""
    order, task = store.order, store.task
    late = sa.select(task.c.lease_id).where(task.c.overdue_ms < now_ms, task.c.state.in_(HEARD_OF)).limit(1)
    missed = sa.select(order.c.id).where(order.c.pending > 0, order.c.deadline_ms < now_ms).limit(1)
    return conn.execute(late).first() is not None or conn.execute(missed).first() is not None
