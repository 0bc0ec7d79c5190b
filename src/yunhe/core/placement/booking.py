"""Bookings in a round: which orders that start later get units of which pool, and what that leaves for the others.

A pool with bookings ahead is, for all other orders, as many lanes as it has steps: what is free for anything, and
what is free for tasks only that are certain to be gone before the next booking.  Each lane is a column of the board
like any pool.  The lanes of one pool overlap (a task that needs all of them would else fit none), so what was given is
checked once more by the calendar, the first in line first.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from yunhe.core.demand import Shape
from yunhe.core.placement.board import Board, free_of
from yunhe.core.placement.calendar import Calendar, Calendars, Span, is_booking, span_of
from yunhe.core.placement.classes import is_late, row_of
from yunhe.core.placement.columns import ANY, Bools, Ints
from yunhe.core.placement.feasible import BEFORE_BOOKING, BOOKED_OUT, BUSY, Fit, feasible, within_budget
from yunhe.core.placement.values import Assignment, Given, Queue, Snapshot
from yunhe.core.policy import Policy
from yunhe.core.supply import Booking, Free, Supply

_MOST_STEPS = 8  # lanes of one pool; what is free before later bookings counts as the least of them


# --- booking ------------------------------------------------------------------------------------------------------


class Booked(NamedTuple):
    """What a round booked, and orders with tasks that are not: those that some pool could take, and those that none."""

    assignments: tuple[Assignment, ...]
    bookings: tuple[Booking, ...]
    waiting: int
    unplaceable: int


NOTHING_BOOKED = Booked((), (), 0, 0)


def book(snapshot: Snapshot, board: Board, calendars: Calendars, now_ms: int, seed: int) -> Booked:
    """Orders that start later, by priority and then by age: each task gets the best pool that has room for its span.

    `calendars` has them afterwards. An account's bookings at one time stay within its quota.
    """
    queue, policy = snapshot.queue, board.policy
    later = [is_booking(shape, now_ms) for shape in snapshot.shapes]
    rows = np.flatnonzero(np.array(later, dtype=bool)[queue.shape] & (queue.tasks > 0))
    rows = rows[_in_line(queue, rows)]
    looked_at = _fair(queue, rows, policy.max_bookings, now_ms)
    quotas, known = _Quotas(snapshot), dict[int, _Places]()
    assignments: list[Assignment] = []
    bookings: list[Booking] = []
    waiting = unplaceable = 0
    for row in looked_at.tolist():
        shape, left = snapshot.shapes[int(queue.shape[row])], int(queue.tasks[row])
        account = snapshot.accounts[int(queue.account[row])].id
        places = known.get(id(shape)) or known.setdefault(id(shape), _places(shape, board, seed))
        span = span_of(shape, now_ms, policy)
        for pool, need, need_memory in places.free(calendars, span):
            count = _count(calendars.at(pool), span, left, need, need_memory)
            count = min(count, quotas.left(account, span) // need)
            if count <= 0:
                continue
            taken = Booking(board.supply.pools[pool].id, account, *span, need * count, need_memory * count)
            calendars.book(pool, taken)
            quotas.take(taken)
            bookings.append(taken)
            which = queue.ids[row], int(queue.version[row]), taken.pool_id, count
            assignments.append(Assignment(*which, taken.milli, taken.memory_bytes))
            left -= count
            if not left:
                break
        waiting += bool(left) and places.any
        unplaceable += bool(left) and not places.any
    return Booked(tuple(assignments), tuple(bookings), waiting + len(rows) - len(looked_at), unplaceable)


def _fair(queue: Queue, rows: Ints, most: int, now_ms: int) -> Ints:
    """At most `most` of `rows`, in their sequence: of each account as many as of any other, and in every round others.

    What cannot be booked is looked at again and again; so it must not hold up what others book, or its own owner.
    """
    if len(rows) <= most:
        return rows
    account = queue.account[rows]
    _, of, counts = np.unique(account, return_inverse=True, return_counts=True)
    by_account = np.argsort(of, kind="stable")
    turn = np.empty(len(rows), dtype=np.int64)
    turn[by_account] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    turn = (turn + now_ms) % counts[of]
    return rows[np.sort(np.argsort(turn, kind="stable")[:most])]


class _Places(NamedTuple):
    """Where a shape may go, best first: positions, units and memory of one task."""

    pools: Ints
    milli: Ints
    memory: Ints
    any: bool  # also what is closed now

    def free(self, calendars: Calendars, span: Span) -> Iterator[tuple[int, int, int]]:
        room, room_memory = calendars.room(span)
        for i in np.flatnonzero((self.milli <= room[self.pools]) & (self.memory <= room_memory[self.pools])):
            yield int(self.pools[i]), int(self.milli[i]), int(self.memory[i])


def _places(shape: Shape, board: Board, seed: int) -> _Places:
    """At the time of its start: work until a deadline takes more than it would now."""
    terms = shape.terms
    assert terms.start_ms is not None
    row = row_of(shape, board, terms.start_ms, seed)
    may: Bools = np.ones(len(row.pools), dtype=bool)
    if is_late(shape, terms.start_ms):
        may[:] = False
    elif terms.budget_microcny is not None:
        may = within_budget(row.look, terms.budget_microcny, terms.array)
    at = np.flatnonzero(may & row.open)
    return _Places(row.pools[at], row.milli[at], row.memory[at], bool(may.any()))


def _count(calendar: Calendar, span: Span, tasks: int, milli: int, memory_bytes: int) -> int:
    """How many of `tasks` equal tasks there is room for."""
    room, room_memory = calendar.least(span)
    count = min(tasks, room // milli)
    return max(0, min(count, room_memory // memory_bytes) if memory_bytes else count)


class _Quotas:
    """What each account may still book. Its leases play no part: who knows how long it will have them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._limits = {account.id: account.quota_milli for account in snapshot.accounts}
        self._made: dict[str, Calendar] = {}
        self._before = snapshot.supply.bookings

    def _of(self, account: str) -> Calendar | None:
        limit = self._limits.get(account)
        if limit is None:
            return None
        if account not in self._made:
            made = self._made[account] = Calendar(limit, 0)
            for booking in self._before:
                if booking.account == account:
                    made.take(Span(booking.from_ms, booking.until_ms), booking.milli, 0)
        return self._made[account]

    def left(self, account: str, span: Span) -> int:
        calendar = self._of(account)
        return ANY if calendar is None else calendar.least(span)[0]

    def take(self, booking: Booking) -> None:
        calendar = self._of(booking.account)
        if calendar is not None:
            calendar.take(Span(booking.from_ms, booking.until_ms), booking.milli, 0)


# --- around bookings ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Around:
    """What a round booked, and a snapshot for all other orders, in which pools with bookings are several.

    `pool`: the real one of each, by its position.
    """

    booked: Booked
    calendars: Calendars
    snapshot: Snapshot
    board: Board
    pool: Ints

    def checked(self, given: Given, now_ms: int) -> Given:
        """`given` in real pools, without what does not fit with the bookings."""
        queue, shapes, policy = self.snapshot.queue, self.snapshot.shapes, self.board.policy
        given = given._replace(pool=self.pool[given.pool])
        booked = np.zeros(len(self.pool), dtype=bool)
        booked[self.calendars.booked()] = True
        at = np.flatnonzero(booked[given.pool])
        keep = given.tasks.copy()
        for i in at[_in_line(queue, given.row[at])].tolist():
            calendar, tasks = self.calendars.at(int(given.pool[i])), int(given.tasks[i])
            milli, memory = int(given.milli[i]) // tasks, int(given.memory[i]) // tasks
            span = span_of(shapes[int(queue.shape[given.row[i]])], now_ms, policy)
            keep[i] = count = _count(calendar, span, tasks, milli, memory)
            if count:
                calendar.take(span, milli * count, memory * count)
        some = np.flatnonzero(keep)
        totals = given.milli // given.tasks * keep, given.memory // given.tasks * keep
        return Given(*(column[some] for column in (given.row, given.pool, keep, *totals)))


def around(snapshot: Snapshot, board: Board | None, policy: Policy, now_ms: int, seed: int) -> Around | None:
    """Books what is to be booked; None where nothing is, and nothing was."""
    if not snapshot.supply.bookings and not any(is_booking(shape, now_ms) for shape in snapshot.shapes):
        return None
    calendars = Calendars(snapshot.supply)
    booked = book(snapshot, board or Board(snapshot.supply, policy), calendars, now_ms, seed)
    laned, until_ms, pool = _lanes(snapshot, calendars, now_ms)
    return Around(booked, calendars, laned, Board(laned.supply, policy, until_ms), pool)


def _lanes(snapshot: Snapshot, calendars: Calendars, now_ms: int) -> tuple[Snapshot, Ints, Ints]:
    """The first of a pool's lanes, at its own position, takes anything; those behind all pools take short tasks."""
    supply = snapshot.supply
    free, extra, until, pool = list(supply.free), [], [ANY] * len(supply.pools), list(range(len(supply.pools)))
    for position in calendars.booked():
        *before, last = calendars.at(position).steps(now_ms)
        free[position] = Free(max(0, last.milli), max(0, last.memory_bytes))
        for step in reversed(before[:_MOST_STEPS]):  # of equal pools the last comes first, see `columns`
            assert step.until_ms is not None
            extra.append(supply.pools[position])
            free.append(Free(max(0, step.milli), max(0, step.memory_bytes)))
            until.append(step.until_ms)
            pool.append(position)
    laned = replace(supply, pools=(*supply.pools, *extra), free=tuple(free))
    # What starts later has had its turn.
    later = np.array([is_booking(shape, now_ms) for shape in snapshot.shapes], dtype=bool)
    queue = snapshot.queue
    left = replace(queue, tasks=np.where(later[queue.shape], 0, queue.tasks).astype(queue.tasks.dtype))
    return replace(snapshot, supply=laned, queue=left), np.array(until, dtype=np.int64), np.array(pool, dtype=np.int64)


def _in_line(queue: Queue, rows: Ints) -> Ints:
    """By priority, then by age."""
    return np.lexsort((rows, queue.submitted_ms[rows], -queue.priority[rows].astype(np.int64)))


# --- one shape, for quotes and reasons ----------------------------------------------------------------------------


class Ahead(NamedTuple):
    """`feasible` for the time that a shape needs its units, and what is free of each pool for all that time."""

    fit: Fit
    room: tuple[Free, ...]


def fit_ahead(shape: Shape, supply: Supply, policy: Policy, now_ms: int) -> Ahead:
    """A pool whose units are booked too soon is not free now; for what starts later, `now` of a fit is its start."""
    board = Board(supply, policy)
    later = is_booking(shape, now_ms)
    if not later and not supply.bookings:
        return Ahead(feasible(shape, board, *free_of(supply), now_ms), supply.free)
    span = span_of(shape, now_ms, policy)
    milli, memory = Calendars(supply).room(span)
    room = tuple([Free(max(0, m), max(0, b)) for m, b in zip(milli.tolist(), memory.tolist(), strict=True)])
    fit = feasible(shape, board, *((milli, memory) if later else free_of(supply)), span.from_ms)
    if later:
        named = tuple([(BOOKED_OUT if constraint is BUSY else constraint, fails) for constraint, fails in fit.failing])
        return Ahead(replace(fit, failing=named), room)
    booked = fit.now & ((fit.look.sizes.milli > milli) | (fit.look.sizes.memory > memory))
    if not booked.any():
        return Ahead(fit, room)
    return Ahead(replace(fit, failing=(*fit.failing, (BEFORE_BOOKING, booked)), now=fit.now & ~booked), room)
