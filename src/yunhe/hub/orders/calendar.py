"""Bookings and the ends of leases, read from the rows of tasks for the core's calendars."""

from collections.abc import Iterable
from dataclasses import replace

import sqlalchemy as sa

from yunhe.core.lifecycle import PLACED
from yunhe.core.placement.calendar import Calendar, Span
from yunhe.core.policy import Policy
from yunhe.core.supply import Booking, LeaseEnd, Supply
from yunhe.hub.catalogue import guards
from yunhe.hub.orders import store
from yunhe.hub.platform import bulk
from yunhe.hub.platform.writer import Tx

_task, _order = store.task.c, store.order.c
_BOOKINGS = (
    sa.select(_task.pool_id, _order.org, _task.booked_from_ms, _task.booked_until_ms, _task.milli, _task.memory_bytes)
    .join(store.order, _order.id == _task.order_id)
    .where(store.BOOKED)
    .order_by(_task.lease_id)
)
_BOOKINGS_OF = _BOOKINGS.where(bulk.any_of(_task.pool_id))
_LEASES = (
    sa.select(_task.pool_id, _task.booked_until_ms, _task.started_ms, _task.limit_ms, _task.milli, _task.memory_bytes)
    .where(_task.state.in_(sorted(state.value for state in PLACED)))
    .order_by(_task.lease_id)
)
_LEASES_OF = _LEASES.where(bulk.any_of(_task.pool_id))


def with_bookings(conn: sa.Connection, supply: Supply, policy: Policy, now_ms: int, *, to_book: bool) -> Supply:
    """`supply` with what is booked, and with the ends of leases where they matter: at pools with bookings, or, where
    something is `to_book`, at all."""
    bookings = _bookings(conn, None)
    if not bookings and not to_book:
        return supply
    booked = None if to_book else {booking.pool_id for booking in bookings}
    return replace(supply, bookings=tuple(bookings), leases=tuple(_leases(conn, booked, policy, now_ms)))


def booked(conn: sa.Connection, pool_ids: Iterable[str]) -> set[str]:
    """Those of the pools that have bookings."""
    return {booking.pool_id for booking in _bookings(conn, pool_ids)}


def locked(tx: Tx, pool_ids: Iterable[str], policy: Policy) -> dict[str, Calendar]:
    """The calendars of pools, which are locked before they are read; without those that are certified no more."""
    calendars = {pool_id: Calendar(*left) for pool_id, left in guards.lock(tx, pool_ids).items()}
    for lease in _leases(tx.conn, calendars, policy, tx.now_ms):
        calendars[lease.pool_id].gives_back(lease.until_ms, lease.milli, lease.memory_bytes)
    for booking in _bookings(tx.conn, calendars):
        span = Span(booking.from_ms, booking.until_ms)
        calendars[booking.pool_id].take(span, booking.milli, booking.memory_bytes)
    return calendars


def _bookings(conn: sa.Connection, pool_ids: Iterable[str] | None) -> list[Booking]:
    if pool_ids is None:
        rows = conn.execute(_BOOKINGS).all()
    else:
        rows = conn.execute(_BOOKINGS_OF, {"ids": sorted(pool_ids)}).all()
    return [Booking(*row) for row in rows]


def _leases(conn: sa.Connection, pool_ids: Iterable[str] | None, policy: Policy, now_ms: int) -> list[LeaseEnd]:
    if pool_ids is None:
        rows = conn.execute(_LEASES).all()
    else:
        rows = conn.execute(_LEASES_OF, {"ids": sorted(pool_ids)}).all()
    found = []
    for pool_id, booked_until_ms, started_ms, limit_ms, milli, memory_bytes in rows:
        # Of what has not begun it is not known when it will: it counts as if it began now.
        until_ms = booked_until_ms or (started_ms or now_ms) + limit_ms
        if until_ms <= now_ms:  # it should be gone, and is not
            until_ms = now_ms + policy.booking_margin_ms
        found.append(LeaseEnd(pool_id, until_ms, milli, memory_bytes))
    return found
