"""What of each pool is certain to be free from now on: bookings ahead take it, leases that end give it back.

    free at t  =  free now  +  leases that certainly end by t  -  bookings that cover t

What others use of a pool (foreign use) is taken to stay, and so is a lease that is not listed: a booking is a promise.
All times are UTC ms, spans are half open: [from, until).
"""

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from operator import itemgetter
from typing import NamedTuple, TypeVar

import numpy as np

from yunhe.core.demand import Shape
from yunhe.core.placement.board import free_of
from yunhe.core.placement.columns import Ints
from yunhe.core.policy import Policy
from yunhe.core.supply import Booking, LeaseEnd, Supply

_AT = itemgetter(0)
_MOST_ROOMS = 32  # spans that are remembered
Entry = TypeVar("Entry", Booking, LeaseEnd)


class Span(NamedTuple):
    from_ms: int
    until_ms: int


def is_booking(shape: Shape, now_ms: int) -> bool:
    """Whether the order is to start later; when its time has come it is an order as any other."""
    return shape.terms.start_ms is not None and shape.terms.start_ms > now_ms


def span_of(shape: Shape, now_ms: int, policy: Policy) -> Span:
    """For which time a task of `shape` needs its units: a booking from its start, all others from now on and until
    they are certain to be gone."""
    if is_booking(shape, now_ms):
        assert shape.terms.start_ms is not None
        return Span(shape.terms.start_ms, shape.terms.start_ms + shape.terms.run_limit_ms)
    return Span(now_ms, now_ms + shape.terms.run_limit_ms + policy.booking_margin_ms)


class Step(NamedTuple):
    """So much is free for what ends by `until_ms`; None: for anything."""

    until_ms: int | None
    milli: int
    memory_bytes: int


class Calendar:
    """Of one pool (or of one account's quota, where memory plays no part)."""

    def __init__(self, milli: int, memory_bytes: int) -> None:
        """What is free now; negative where more is in use than there is."""
        self._milli = milli
        self._memory = memory_bytes
        self._changes: list[tuple[int, int, int]] = []  # (at, milli, memory) that are free more or less from then on

    def gives_back(self, at_ms: int, milli: int, memory_bytes: int) -> None:
        insort(self._changes, (at_ms, milli, memory_bytes), key=_AT)

    def take(self, span: Span, milli: int, memory_bytes: int) -> None:
        insort(self._changes, (span.from_ms, -milli, -memory_bytes), key=_AT)
        insort(self._changes, (span.until_ms, milli, memory_bytes), key=_AT)

    def least(self, span: Span) -> tuple[int, int]:
        """The least units (1/1000) and bytes that are free at any time of `span`."""
        steps = self._walk(span.from_ms)
        _, milli, memory = next(steps)
        for at, then, then_memory in steps:
            if at >= span.until_ms:
                break
            milli, memory = min(milli, then), min(memory, then_memory)
        return milli, memory

    def fits(self, span: Span, milli: int, memory_bytes: int) -> bool:
        least = self.least(span)
        return milli <= least[0] and memory_bytes <= least[1]

    def steps(self, now_ms: int) -> list[Step]:
        """What is free for how long from now on; each step is for later ends than the one before, and less."""
        steps = self._walk(now_ms)
        _, milli, memory = next(steps)
        found: list[Step] = []
        for at, then, then_memory in steps:
            if then < milli or then_memory < memory:
                found.append(Step(at, milli, memory))
                milli, memory = min(milli, then), min(memory, then_memory)
        return [*found, Step(None, milli, memory)]

    def _walk(self, from_ms: int) -> Iterator[tuple[int, int, int]]:
        """(time, units, bytes) that are free from `from_ms` on, then from each later change on."""
        milli, memory = self._milli, self._memory
        at = from_ms
        for change, more, more_memory in self._changes:
            if change > at:  # all changes of one time are one
                yield at, milli, memory
                at = change
            milli += more
            memory += more_memory
        yield at, milli, memory


class Calendars:
    """Of all pools of a supply, made where they are looked at. Positions are those of `supply.pools`."""

    def __init__(self, supply: Supply) -> None:
        self._at = {pool.id: i for i, pool in enumerate(supply.pools)}
        self._free, self._memory = free_of(supply)
        self._leases = _by_pool(supply.leases, self._at)
        self._bookings = _by_pool(supply.bookings, self._at)
        self._made: dict[int, Calendar] = {}
        self._rooms: dict[Span, tuple[Ints, Ints]] = {}
        ends = [(self._at[lease.pool_id], lease) for lease in supply.leases if lease.pool_id in self._at]
        self._ends = np.array([(p, e.until_ms, e.milli, e.memory_bytes) for p, e in ends], dtype=np.int64).reshape(
            -1, 4
        )

    def position(self, pool_id: str) -> int | None:
        return self._at.get(pool_id)

    def booked(self) -> list[int]:
        """Pools with bookings, sorted."""
        return sorted(self._bookings)

    def at(self, pool: int) -> Calendar:
        calendar = self._made.get(pool)
        if calendar is None:
            calendar = self._made[pool] = Calendar(int(self._free[pool]), int(self._memory[pool]))
            for lease in self._leases.get(pool, ()):
                calendar.gives_back(lease.until_ms, lease.milli, lease.memory_bytes)
            for each in self._bookings.get(pool, ()):
                calendar.take(Span(each.from_ms, each.until_ms), each.milli, each.memory_bytes)
        return calendar

    def room(self, span: Span) -> tuple[Ints, Ints]:
        """`Calendar.least` of every pool: units and bytes. Not to be changed."""
        found = self._rooms.get(span)
        if found is None:
            milli, memory = self._free.copy(), self._memory.copy()
            ended = self._ends[self._ends[:, 1] <= span.from_ms]
            np.add.at(milli, ended[:, 0], ended[:, 2])
            np.add.at(memory, ended[:, 0], ended[:, 3])
            for pool in self._bookings:
                milli[pool], memory[pool] = self.at(pool).least(span)
            if len(self._rooms) >= _MOST_ROOMS:
                self._rooms.clear()
            found = self._rooms[span] = milli, memory
        return found

    def book(self, pool: int, booking: Booking) -> None:
        span = Span(booking.from_ms, booking.until_ms)
        self.at(pool).take(span, booking.milli, booking.memory_bytes)
        self._bookings.setdefault(pool, []).append(booking)
        for known, (milli, memory) in self._rooms.items():
            if known.from_ms < span.until_ms and span.from_ms < known.until_ms:
                milli[pool], memory[pool] = self.at(pool).least(known)


def _by_pool(items: Iterable[Entry], at: dict[str, int]) -> dict[int, list[Entry]]:
    found: dict[int, list[Entry]] = defaultdict(list)
    for item in items:
        if item.pool_id in at:
            found[at[item.pool_id]].append(item)
    return dict(found)


def moment(utc_ms: int) -> str:
    """For people, to the second: `2026-12-01 08:00:00Z`."""
    return datetime.fromtimestamp(utc_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
