"""Room that spot leases make for an order that is not spot: what is held, who waits for what, and the word to end.

An order has room at one pool at a time, for one or more of its tasks (`room_pool`, `room_tasks`). It counts down as its
tasks are placed, wherever that is.  Whether the units still come is worked out anew by every round (`core.placement.
rooms`), so nothing has to be taken back here.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from yunhe.core.lifecycle import EndReason, OrderState, Reclaimed, TaskState
from yunhe.core.round import Held, Preemption, Room
from yunhe.core.units import format_span
from yunhe.hub.orders import events, store, tasks
from yunhe.hub.orders.events import LeaseEvent
from yunhe.hub.orders.model import order_of
from yunhe.hub.platform import bulk
from yunhe.hub.platform.writer import Tx
from yunhe.wire.link import UsageReport

_order, _task = store.order.c, store.task.c
MAX_SAID = 5
# Sorted here: asked for in order, SQLite goes through all tasks there ever were.
_HELD = (
    sa.select(
        _task.lease_id,
        _task.epoch,
        _task.pool_id,
        _task.milli,
        _task.memory_bytes,
        _task.started_ms,
        _task.saved_ms,
        _task.stopping,
        _order.org,
    )
    .join(store.order, _order.id == _task.order_id)
    .where(
        _order.spot,
        _order.state == OrderState.RUNNING.value,
        _task.state.in_([TaskState.LEASED.value, TaskState.RUNNING.value]),
    )
)


def held(conn: sa.Connection, now_ms: int) -> tuple[Held, ...]:
    """The leases of spot orders at sites that are not silent. What did not start yet loses nothing."""
    return tuple(
        Held(
            row.lease_id,
            row.epoch,
            row.pool_id,
            row.milli,
            row.memory_bytes,
            0 if row.started_ms is None else max(0, now_ms - row.started_ms - row.saved_ms),
            row.stopping,
            row.org,
        )
        for row in sorted(conn.execute(_HELD), key=attrgetter("lease_id"))
    )


def note_saved(tx: Tx, reports: Sequence[UsageReport], touched: Iterable[str]) -> None:
    """How much of each spot lease is saved by its site's word: less is lost when it ends. `touched`: leases of other
    reports of this transaction, whose orders are locked here too, all in one order."""
    if not reports:
        return
    orders = tasks.lock_orders(tx, (order_of(lease_id) for lease_id in {*touched, *(r.lease_id for r in reports)}))
    newest = {(r.lease_id, r.epoch): r.saved_ms for r in reports if orders[order_of(r.lease_id)].spot}
    rows = [{"lease_id": lease_id, "epoch": epoch, "saved_ms": ms} for (lease_id, epoch), ms in newest.items()]
    bulk.update(tx.conn, store.task, ("lease_id", "epoch"), rows)


def of_rows(rows: Iterable[sa.Row[Any]]) -> tuple[Room, ...]:
    """The rooms of open orders."""
    return tuple(Room(row.id, row.room_pool, row.room_tasks) for row in rows if row.room_pool is not None)


def after_placing(order: sa.Row[Any], placed: int) -> dict[str, object]:
    """The columns of an order of which `placed` tasks were placed."""
    left = max(0, int(order.room_tasks) - placed)
    return {"room_pool": order.room_pool if left else None, "room_tasks": left}


def make(tx: Tx, plans: Sequence[tuple[Preemption, ...]]) -> list[int]:
    """Writer handler: the spot leases are told to end, and the orders have room. Gives the number of leases told.

    What changed since the plan drops out: an order that was placed, cancelled or served since, a lease that ended or
    is another epoch's. A lease that has ended meanwhile is no loss: its units are free.
    """
    return [_make(tx, plan) for plan in plans]


def _make(tx: Tx, plan: tuple[Preemption, ...]) -> int:
    victims = {lease for room in plan for lease in room.leases}
    ids = [*(room.order_id for room in plan), *(order_of(lease_id) for lease_id, _ in victims)]
    orders = tasks.lock_orders(tx, ids)
    fresh = [room for room in plan if _is_fresh(room, orders.get(room.order_id))]
    rows = [
        {
            "id": room.order_id,
            "room_pool": room.pool_id,
            "room_tasks": room.tasks,
            "version": orders[room.order_id].version + 1,
        }
        for room in fresh
    ]
    facts = [tasks.order_fact(room.order_id, "room", _told(room), tx.now_ms) for room in fresh]
    bulk.write(tx.conn, bulk.Update(store.order, ("id",), rows), bulk.Insert(store.fact, facts))
    if facts:
        tx.notify(tasks.FACTS)
    reclaimed = [
        LeaseEvent(lease_id, Reclaimed(epoch))
        for room in fresh
        for lease_id, epoch in room.leases
        if orders[order_of(lease_id)].spot
    ]
    events.apply(tx, reclaimed)
    return len(reclaimed)


def _is_fresh(room: Preemption, order: sa.Row[Any] | None) -> bool:
    return order is not None and order.version == room.version and order.pending >= room.tasks and not order.spot


def _told(room: Preemption) -> str:
    what = f"{room.tasks} task" + "s" * (room.tasks != 1)
    ending = f"{len(room.leases)} spot lease" + "s" * (len(room.leases) != 1)
    return f"units of {room.pool_id} for {what}: {ending} told to end" if room.leases else f"units of {room.pool_id}"


# --- said to people -------------------------------------------------------------------------------------------------

_ENDING = sa.select(_task.state, _task.kept_ms, sa.func.count()).where(
    _task.order_id == sa.bindparam("order"),
    _task.stopping,
    sa.or_(
        sa.and_(_task.state == TaskState.PENDING.value, _task.reason == EndReason.PREEMPTED.value),
        sa.and_(_task.state.in_([TaskState.LEASED.value, TaskState.RUNNING.value]), sa.not_(_task.cancel_requested)),
    ),
)


def said(conn: sa.Connection, order_id: str) -> str:
    """What spot leases have to do with where the order is; empty: nothing. To be put behind a summary."""
    order = conn.execute(sa.select(_order.spot, _order.room_pool).where(_order.id == order_id)).one()
    if order.room_pool is not None:
        return f"; units of {order.room_pool} are being freed for it: spot leases end"
    if not order.spot:
        return ""
    grouped = _ENDING.group_by(_task.state, _task.kept_ms).order_by(_task.state, _task.kept_ms).limit(MAX_SAID)
    return "".join(_ended(*row) for row in conn.execute(grouped, {"order": order_id}))


def _ended(state: str, kept_ms: int, count: int) -> str:
    tasks_ = "" if count == 1 else f"{count} tasks: "
    if state != TaskState.PENDING.value:
        return f"; {tasks_}about to be ended for an order that is not spot"
    after = f"goes on from its checkpoint at {format_span(kept_ms)}" if kept_ms else "begins anew: nothing was saved"
    return f"; {tasks_}ended for an order that is not spot; {after}"
