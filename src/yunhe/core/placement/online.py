"""One order at once: the decision that a round of this order alone would make, without a look at the whole network.

For every kind of task there is a lane: the pools that it can ever go to, best first.  The decision is the first of them
where a task fits, and it is found by looking at the first few, then at ever larger parts of the lane: nine in ten
orders of a nation find it among the first twenty.

Work until a deadline takes more of every pool from hour to hour, so its lane would hold for a moment only.  What a
pool costs for it at least does not change (`ahead`): the pools are looked at in that order, as many as it takes until
the others cannot be better.

How many pools are `busy` is counted when somebody asks why: each lane has flags that say where a task fits, a change
of what is free is noted in a log, and a lane brings its flags up to date from the log.

A lane holds as long as the network stays what it is; prices of the next hour, or a site that connects, make another
`Online`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from yunhe.core.demand import Requirement, Shape
from yunhe.core.errors import InvalidInput
from yunhe.core.placement.ahead import Ahead, ahead_of
from yunhe.core.placement.board import Board, free_of
from yunhe.core.placement.classes import Row, is_late, row_of
from yunhe.core.placement.columns import Bools
from yunhe.core.placement.feasible import BUDGET, BUSY, feasible, within_budget
from yunhe.core.placement.look import Look
from yunhe.core.placement.sizing import HUGE
from yunhe.core.policy import Policy
from yunhe.core.supply import Supply
from yunhe.core.tariff import MILLI_MS_PER_UNIT_HOUR

_LOG = 1 << 16  # changes that are remembered; a lane that slept longer looks at all its pools
_FEW = 4  # changes that are cheaper one by one
_ROUNDING = 1e4  # micro-CNY: more than rounding up the parts of a price adds, at any price of power below 1 CNY/mWh
_MOST_SHAPES = 200_000
_MOST_LANES = 5_000
_HEAD = 4  # pools that are looked at one by one, which is cheaper than any vector
_NEXT = 64  # and then so many at a time, and more and more
_MORE = 8

Spot = tuple[int, int, int]  # a pool, and units and memory of a task there


class Taken(NamedTuple):
    """`tasks` tasks go to the pool at position `pool`, and take so much together."""

    pool: int
    tasks: int
    milli: int
    memory: int


class Count(NamedTuple):
    """How many pools a constraint keeps from taking the task; one pool may fail several."""

    code: str
    lasting: bool
    pools: int


class _Lane:
    """A row with its flags. The last element of each array stands for all pools that are not in the row."""

    def __init__(self, row: Row, count: int) -> None:
        # Not the row itself: what it keeps besides takes thrice as much, and there are thousands of lanes.
        self.look, self.pools, self.open = row.look, row.pools, row.open
        self.size = len(row.pools)
        self.milli = np.append(np.where(row.open, row.milli, HUGE), HUGE)
        self.memory = np.append(row.memory, HUGE)
        self.where = np.full(count, self.size, dtype=np.int32)
        self.where[row.pools] = np.arange(self.size)
        self.fits = np.zeros(self.size + 1, dtype=bool)
        self.least = int(self.milli.min())
        self.head: list[Spot] = []
        if row.open[:_HEAD].all():
            columns = (row.pools[:_HEAD], row.milli[:_HEAD], row.memory[:_HEAD])
            self.head = list(zip(*(column.tolist() for column in columns), strict=True))
        self.seen = -_LOG  # nothing yet
        self.counts: tuple[tuple[Count, ...], int] | None = None  # of all orders of the kind, whatever their budgets


@dataclass(slots=True)
class _Class:
    """A shape in its lane. `allowed`: pools within the budget, None for all; they end at `end`, and `first`: they are
    all the pools up to there."""

    shape: Shape
    lane: _Lane
    allowed: Bools | None
    end: int
    first: bool
    counts: tuple[Count, ...] | None = None  # all reasons but `busy`, which changes
    certified: int = 0


class Online:
    """What is free in the network, and who fits where. Positions are those of `supply.pools`."""

    def __init__(self, supply: Supply, policy: Policy, seed: int = 0) -> None:
        self.board = Board(supply, policy)
        self.free, self.free_memory = free_of(supply)
        self._pools = len(self.board)
        self._policy = policy
        self._seed = seed
        self._log = np.zeros(_LOG, dtype=np.int32)
        self._changes = 0
        self._classes: dict[int, _Class] = {}  # by the identity of the shape, which the class keeps alive
        self._lanes: dict[tuple[object, ...], _Lane] = {}
        self._ahead: dict[tuple[object, ...], Ahead] = {}
        self._needs: dict[int, tuple[Requirement, int]] = {}
        self._numbers: dict[Requirement, int] = {}

    # --- what changes ----------------------------------------------------------------------------------------------

    def take(self, taken: tuple[Taken, ...]) -> None:
        """Units that were decided on are in use from now on."""
        for pool, _, milli, memory in taken:
            self.change(pool, -milli, -memory)

    def give_back(self, taken: tuple[Taken, ...]) -> None:
        """Units are free again."""
        for pool, _, milli, memory in taken:
            self.change(pool, milli, memory)

    def change(self, pool: int, milli: int, memory: int) -> None:
        """What is free of a pool changes by so much (foreign use, a host that failed).

        Raises InvalidInput for a pool that is not there and for an amount that nobody has.
        """
        if not 0 <= pool < self._pools or not -HUGE < milli < HUGE or not -HUGE < memory < HUGE:
            field = "milli" if 0 <= pool < self._pools else "pool"
            raise InvalidInput(f"pool {pool} cannot change by {milli} milli and {memory} bytes", field=field)
        self.free[pool] += milli
        self.free_memory[pool] += memory
        self._log[self._changes % _LOG] = pool
        self._changes += 1

    # --- what is decided -------------------------------------------------------------------------------------------

    def decide(self, shape: Shape, now_ms: int, tasks: int = 1, within_milli: int | None = None) -> tuple[Taken, ...]:
        """Where the tasks of an order of `shape` go now: what `plan_round` gives to it alone. Changes nothing.

        `within_milli`: what is left of its account's quota.  Tasks that fit nowhere are not in the answer.
        """
        if is_late(shape, now_ms):
            return ()
        within, left = HUGE if within_milli is None else within_milli, min(tasks, self._policy.max_assignments)
        if _moves(shape):
            return self._decide_moving(shape, now_ms, left, within)
        asked = self._class(shape, now_ms)
        if asked.lane.least > within:
            return ()
        return self._fill(self._spots(asked), left, within)[0]

    def _fill(self, spots: Iterator[Spot], left: int, within: int) -> tuple[tuple[Taken, ...], int]:
        """What `left` tasks take of `spots`, of at most `within` milli, and how many of them are left then."""
        found: list[Taken] = []
        for pool, milli, memory in spots if left > 0 else ():
            if milli <= within:
                count = min(left, int(self.free[pool]) // milli, within // milli)
                if memory:
                    count = min(count, int(self.free_memory[pool]) // memory)
                found.append(Taken(pool, count, milli * count, memory * count))
                within -= milli * count
                left -= count
                if not left or not within:
                    break
        return tuple(found), left

    def _spots(self, asked: _Class) -> Iterator[Spot]:
        """Where a task fits now, best first."""
        free, free_memory, lane, start = self.free, self.free_memory, asked.lane, 0
        if asked.first:
            for spot in lane.head[: asked.end]:
                if spot[1] <= free[spot[0]] and spot[2] <= free_memory[spot[0]]:
                    yield spot
            start = len(lane.head)
        size = _NEXT
        while start < asked.end:
            end = min(start + size, asked.end)
            pools, milli, memory = lane.pools[start:end], lane.milli[start:end], lane.memory[start:end]
            fits = milli <= free[pools]
            fits &= memory <= free_memory[pools]
            if not asked.first and asked.allowed is not None:
                fits &= asked.allowed[start:end]
            for i in np.flatnonzero(fits).tolist():
                yield int(pools[i]), int(milli[i]), int(memory[i])
            start, size = end, size * _MORE

    def _decide_moving(self, shape: Shape, now_ms: int, tasks: int, within: int) -> tuple[Taken, ...]:
        """For work until a deadline: the same, among the first pools that come into question, then among more."""
        ahead, count = self._ahead_of(shape), _NEXT
        while True:
            row, sure = ahead.row(shape, now_ms, count, (self.free, self.free_memory))
            columns = (row.pools[:sure], row.milli[:sure], row.memory[:sure])
            spots = zip(*(column.tolist() for column in columns), strict=True)
            taken, left = self._fill(spots, tasks, within)
            if not left or count >= len(ahead):
                return taken
            count *= _MORE

    def why(self, shape: Shape, now_ms: int) -> tuple[Count, ...]:
        """How many pools each constraint keeps from taking a task now, in reading order; `busy` comes last.

        The same constraints as `explain`, counted.
        """
        if is_late(shape, now_ms) or _moves(shape):
            return self._counted(shape, now_ms, busy=True)[0]
        asked = self._class(shape, now_ms)
        if asked.counts is None:
            asked.counts, asked.certified = self._counts_of(asked, now_ms)
        flags = self._flags(asked.lane)
        fitting = int(np.count_nonzero(flags if asked.allowed is None else flags & asked.allowed))
        busy = asked.certified - fitting
        return (*asked.counts, Count(BUSY.code, False, busy)) if busy else asked.counts

    def _counts_of(self, asked: _Class, now_ms: int) -> tuple[tuple[Count, ...], int]:
        """All reasons but `busy`, and the pools without any; those that orders of one kind share are counted once."""
        lane, shape, terms = asked.lane, asked.shape, asked.shape.terms
        if lane.counts is None:
            kind = replace(shape, terms=replace(terms, budget_microcny=None))
            lane.counts = self._counted(kind, now_ms)
        counts, certified = lane.counts
        if asked.allowed is None:
            return counts, certified
        dear = self._too_dear(shape, now_ms)
        open_and_cheap = int(np.count_nonzero(lane.open & asked.allowed[:-1]))
        return (*counts, Count(BUDGET.code, BUDGET.lasting, dear)) if dear else counts, open_and_cheap

    def _too_dear(self, shape: Shape, now_ms: int) -> int:
        """How many pools fail the budget. Where a task takes the same of all pools of a kind, they are sorted by price
        once for all shapes; else, and where a float cannot tell, each is looked at."""
        need, terms = shape.requirement, shape.terms
        assert terms.budget_microcny is not None
        milli = need.cores_milli if need.cards is None else need.cards * 1000
        if milli and not need.data_bytes:
            hours = min(need.slots * milli, HUGE) / MILLI_MS_PER_UNIT_HOUR * terms.run_limit_ms
            each = terms.budget_microcny / terms.array
            prices = self.board.prices(accelerator=need.cards is not None, spot=terms.spot)
            within = int(prices.searchsorted((each * (1 - 1e-8) - _ROUNDING) / hours, "right"))
            if within == int(prices.searchsorted(each * (1 + 1e-8) / hours, "right")):
                return len(prices) - within
        over = BUDGET.fails(Look(self.board, shape, now_ms))
        return 0 if over is None else int(np.count_nonzero(over))

    def _counted(self, shape: Shape, now_ms: int, busy: bool = False) -> tuple[tuple[Count, ...], int]:
        fit = feasible(shape, self.board, self.free, self.free_memory, now_ms)
        some = [(c, fails) for c, fails in fit.failing if busy or c is not BUSY]
        counts = tuple(Count(c.code, c.lasting, int(np.count_nonzero(fails))) for c, fails in some)
        return counts, int(np.count_nonzero(fit.certified))

    # --- lanes -----------------------------------------------------------------------------------------------------

    def _flags(self, lane: _Lane) -> Bools:
        """The flags of a lane, up to date."""
        behind = self._changes - lane.seen
        if behind > min(_LOG, lane.size):
            pools, fits = lane.pools, lane.fits[:-1]
            np.less_equal(lane.milli[:-1], self.free[pools], out=fits)
            fits &= lane.memory[:-1] <= self.free_memory[pools]
        elif behind > _FEW:
            start, end = lane.seen % _LOG, self._changes % _LOG
            changed = self._log[start:end] if start < end else np.append(self._log[start:], self._log[:end])
            at = lane.where[changed]
            lane.fits[at] = (lane.milli[at] <= self.free[changed]) & (lane.memory[at] <= self.free_memory[changed])
        else:
            for i in range(lane.seen, self._changes):
                pool = self._log[i % _LOG]
                at = lane.where[pool]
                lane.fits[at] = lane.milli[at] <= self.free[pool] and lane.memory[at] <= self.free_memory[pool]
        lane.seen = self._changes
        return lane.fits

    def _class(self, shape: Shape, now_ms: int) -> _Class:
        found = self._classes.get(id(shape))
        if found is not None and found.shape is shape:
            return found
        lane, allowed, terms = self._lane(shape, now_ms), None, shape.terms
        may = lane.open
        if terms.budget_microcny is not None:
            within = within_budget(lane.look, terms.budget_microcny, terms.array)
            allowed, may = np.append(within, False), may & within
        at = np.flatnonzero(may)
        end = int(at[-1]) + 1 if len(at) else 0
        first = allowed is None or bool(allowed[:end].all())
        if len(self._classes) >= _MOST_SHAPES:
            self._classes.clear()
        asked = self._classes[id(shape)] = _Class(shape, lane, allowed, end, first)
        return asked

    def _lane(self, shape: Shape, now_ms: int) -> _Lane:
        terms = shape.terms
        key = (self._number(shape.requirement), terms.run_limit_ms, terms.preference, terms.spot)
        lane = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= _MOST_LANES:
                self._lanes.clear()
            lane = self._lanes[key] = _Lane(row_of(shape, self.board, now_ms, self._seed), len(self.board))
            if shape.terms.budget_microcny is None:
                lane.look.forget()
        return lane

    def _ahead_of(self, shape: Shape) -> Ahead:
        terms = shape.terms
        key = (self._number(shape.requirement), terms.run_limit_ms, terms.preference, terms.spot)
        found = self._ahead.get(key)
        if found is None:
            if len(self._ahead) >= _MOST_LANES:
                self._ahead.clear()
            found = self._ahead[key] = ahead_of(shape, self.board, self._seed)
        return found

    def _number(self, need: Requirement) -> int:
        """Hashing a requirement takes longer than a decision; orders of one form share the object."""
        known = self._needs.get(id(need))
        if known is not None and known[0] is need:
            return known[1]
        if len(self._needs) >= _MOST_SHAPES:
            self._needs.clear()
        number = self._numbers.setdefault(need, len(self._numbers))
        self._needs[id(need)] = (need, number)
        return number


def _moves(shape: Shape) -> bool:
    """What a task takes changes with the time: work until a deadline."""
    return shape.requirement.work is not None and shape.terms.deadline_ms is not None
