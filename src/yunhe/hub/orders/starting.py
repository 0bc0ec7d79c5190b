"""Bookings whose time has come: each becomes a lease, or is lost and says why.

The row of the task is the timer: it is due until it is no longer booked.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from yunhe.core import units
from yunhe.core.lifecycle import BookingLost, TaskState
from yunhe.core.policy import Policy
from yunhe.core.supply import SiteState, Supply
from yunhe.hub.catalogue import guards
from yunhe.hub.orders import events, store, tasks
from yunhe.hub.orders.booking import URGENT
from yunhe.hub.orders.events import LeaseEvent
from yunhe.hub.orders.shapes import Shapes
from yunhe.hub.orders.snapshot import OpenOrder
from yunhe.hub.platform.writer import Tx

MOST = 500  # that one transaction begins; the next look goes on behind them

_task, _order = store.task.c, store.order.c
_BOOKED = sa.select(_task.lease_id, _task.pool_id, _task.order_id).where(store.BOOKED)


@dataclass(frozen=True, slots=True)
class Due:
    """Tasks by lease id, their orders, and the network as it is."""

    lease_ids: tuple[str, ...]
    open_orders: Mapping[str, OpenOrder]
    supply: Supply


class Timer:
    """One per process. Looks go round, where more are due than one look takes: those that cannot begin yet stay due for
    as long as the policy's margin, and must not stand before the others."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._after = ""  # the last lease that was looked at; empty: from the beginning

    def look(self, conn: sa.Connection, supply: Callable[[], Supply], now_ms: int, *, also_gone: bool) -> Due | None:
        """Bookings whose time has come, and, with `also_gone`, those whose pool or site takes part no more."""
        rows = self._next(conn, now_ms)
        if also_gone:
            booked = conn.execute(_BOOKED.order_by(_task.lease_id)).all()
            gone = guards.gone(conn, {row.pool_id for row in booked})
            rows += [row for row in booked if row.pool_id in gone][:MOST]
        wanted = {row.lease_id: row.order_id for row in rows}
        if not wanted:
            return None
        return Due(tuple(sorted(wanted)), _orders(conn, sorted(set(wanted.values())), self._shapes), supply())

    def _next(self, conn: sa.Connection, now_ms: int) -> list[sa.Row[Any, Any, Any]]:
        due = _BOOKED.where(_task.booked_from_ms <= now_ms).order_by(_task.lease_id)
        rows = list(conn.execute(due.where(_task.lease_id > self._after).limit(MOST)))
        if self._after and len(rows) < MOST:
            rows += conn.execute(due.where(_task.lease_id <= self._after).limit(MOST - len(rows)))
        self._after = rows[-1].lease_id if len(rows) == MOST else ""
        return rows


def _orders(conn: sa.Connection, order_ids: Sequence[str], shapes: Shapes) -> dict[str, OpenOrder]:
    found: dict[str, OpenOrder] = {}
    for ids in tasks.chunks(order_ids):
        rows = conn.execute(sa.select(store.order).where(_order.id.in_(ids))).all()
        loaded = shapes.load(conn, {row.spec_hash: row.submitted_ms for row in rows})
        for row in rows:
            if row.spec_hash in loaded:
                one = loaded[row.spec_hash]
                found[row.id] = OpenOrder(one, shapes.of_order(row, one))
    return found


def still_due(tx: Tx, due: Due) -> list[sa.Row[Any]]:
    """The rows of those that are booked still; their orders are locked."""
    rows = [row for _, row in sorted(tasks.load(tx, due.lease_ids).items())]
    return [row for row in rows if row.state == TaskState.BOOKED.value and row.order_id in due.open_orders]


def lose(tx: Tx, rows: Sequence[sa.Row[Any]], over_quota: Collection[str], supply: Supply, policy: Policy) -> None:
    """What could not begin waits for the units of a job that is being stopped, for as long as that may take; then its
    order goes first among all that wait, but where its account's own quota was in the way.

    `over_quota`: lease ids of these.
    """
    here = {pool.id for pool in supply.pools}
    lost = [
        row for row in rows if row.pool_id not in here or tx.now_ms >= row.booked_from_ms + policy.booking_margin_ms
    ]
    if not lost:
        return
    events.apply(tx, [LeaseEvent(row.lease_id, BookingLost(_reason(row, over_quota, supply))) for row in lost])
    ids = sorted({row.order_id for row in lost if row.lease_id not in over_quota})
    tx.conn.execute(sa.update(store.order).where(_order.id.in_(ids)).values(priority=URGENT))


def _reason(row: sa.Row[Any], over_quota: Collection[str], supply: Supply) -> str:
    if row.lease_id in over_quota:
        return "the account's quota is used up"
    at = next((i for i, pool in enumerate(supply.pools) if pool.id == row.pool_id), None)
    if at is None:
        return f"{row.pool_id} takes part no more"
    pool, free = supply.pools[at], supply.free[at]
    site = next(site for site in supply.sites if site.id == pool.site_id)
    if site.state is not SiteState.ACTIVE:
        return f"{site.id} is {site.state.value}"
    if not site.connected:
        return f"{site.id} is silent"
    if row.milli > free.milli:
        return f"{pool.id} has {units.format_milli(free.milli)} of {units.format_milli(row.milli)} units"
    if row.memory_bytes > free.memory_bytes:
        return f"{pool.id} has {units.format_bytes(free.memory_bytes, 1)} of its memory"
    return f"{pool.id} was taken by others"
