"""Room for orders that are not spot, where spot leases hold it.

After a round has given out what is free to the orders that are not spot, those of them that only wait because pools
are busy are looked at in the round's order.  For each, of all pools where the end of spot leases frees enough, the one
is taken where the least work is lost (`core.reclaim`).  No lease ends for an order of its own account: what is ended
for others is not paid, and nobody is to choose that for himself.
These leases end, and until then the order has a `Room` there:

- the rounds that follow give it what has come before they look at anybody else, and keep what comes for the rest;
- a room that cannot come true (the units went to others than the network) counts no more, and the order waits like
  any other.

Spot orders are placed after all others, so that what is kept is not given to them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from yunhe.core.placement.classes import Classes
from yunhe.core.placement.columns import Ints
from yunhe.core.placement.values import Given, Held, Snapshot
from yunhe.core.policy import Policy
from yunhe.core.reclaim import choose, cost


@dataclass(slots=True)
class Left:
    """What is left in the middle of a round: units and memory of each pool, milli of each account, tasks that may be
    given; changed in place."""

    free: list[int]
    memory: list[int]
    within: list[int]
    budget: int

    def least(self, free: list[int], memory: list[int]) -> tuple[list[int], list[int]]:
        """Of what is left here and there."""
        return list(map(min, self.free, free)), list(map(min, self.memory, memory))


class Promised(NamedTuple):
    """What a room is worth now: so many of its tasks fit, and for so many more the units are coming."""

    row: int
    pool: int
    milli: int  # of one task
    memory: int
    fits: int
    coming: int


class Own(NamedTuple):
    """What of a pool is kept in this round for an order that has waited long."""

    pool: int
    milli: int
    memory: int


class Made(NamedTuple):
    row: int
    pool: int
    tasks: int
    leases: tuple[Held, ...]


@dataclass(slots=True)
class _Pool:
    """Spot leases of one pool: what may end, and what of it is coming already and promised to nobody."""

    leases: list[Held] = field(default_factory=list)
    accounts: set[str] = field(default_factory=set)  # whose they are
    coming: int = 0
    coming_memory: int = 0
    # For an account (None: that holds none here): units and work lost, the least lost per unit first; memory.
    _sums: dict[str | None, tuple[list[int], list[int], int]] = field(default_factory=dict)

    def for_(self, account: str) -> list[Held]:
        """Leases that may end for an order of `account`: those of others."""
        return [one for one in self.leases if one.account != account]

    def most(self, account: str) -> tuple[int, int]:
        """Units and memory that may be freed for `account`."""
        milli, _, memory = self._summed(account)
        return milli[-1], memory

    def least_lost(self, units: int, account: str) -> int:
        """No choice of leases that frees `units` for `account` loses less."""
        milli, lost, _ = self._summed(account)
        whole = int(np.searchsorted(milli, units, "right")) - 1
        if units <= 0 or whole == len(milli) - 1:
            return lost[-1] if units > 0 else 0
        each = (lost[whole + 1] - lost[whole]) // max(1, milli[whole + 1] - milli[whole])
        return lost[whole] + (units - milli[whole]) * each

    def end(self, leases: Iterable[Held]) -> None:
        gone = {one.key for one in leases}
        self.leases = [one for one in self.leases if one.key not in gone]
        self._sums = {}

    def _summed(self, account: str) -> tuple[list[int], list[int], int]:
        which = account if account in self.accounts else None
        if which not in self._sums:
            self._sums[which] = self._sum(self.for_(account))
        return self._sums[which]

    @staticmethod
    def _sum(leases: list[Held]) -> tuple[list[int], list[int], int]:
        by_loss = sorted(leases, key=lambda one: one.at_risk_ms)
        milli = [0, *accumulate(one.milli for one in by_loss)]
        lost = [0, *accumulate(one.milli * one.at_risk_ms for one in by_loss)]
        return milli, lost, sum(one.memory_bytes for one in by_loss)


class Rooms:
    """The rooms of one round: those that there are, and those that it makes."""

    def __init__(self, snapshot: Snapshot, grouped: Classes, policy: Policy) -> None:
        self._classes = grouped
        self._policy = policy
        self._queue = snapshot.queue
        holders = {one.account for one in snapshot.held}
        self._owner = [account.id if account.id in holders else "" for account in snapshot.accounts]  # of leases
        self._class = grouped.of_shape[snapshot.queue.shape]
        self._pools: dict[int, _Pool] = defaultdict(_Pool)
        self._promises: list[tuple[int, int, int]] = []  # row, pool, tasks
        self._served: set[int] = set()  # rows for which units are coming: one room at a time
        self._dead: set[tuple[int, str]] = set()  # classes and accounts for which no pool has enough to free
        self._kept: list[Own] = []  # for rooms
        if not snapshot.held and not snapshot.rooms:
            return
        # Where units are booked, nobody knows from what is free now whether room would be of use.
        booked = {booking.pool_id for booking in snapshot.supply.bookings}
        pools = {pool.id: i for i, pool in enumerate(snapshot.supply.pools) if pool.id not in booked}
        for one in snapshot.held:
            if one.pool_id in pools:
                self._hold(self._pools[pools[one.pool_id]], one)
        rows = {order: row for row, order in enumerate(snapshot.queue.ids)}
        for room in snapshot.rooms:
            if room.order_id in rows and room.pool_id in pools:
                self._promises.append((rows[room.order_id], pools[room.pool_id], room.tasks))

    @staticmethod
    def _hold(pool: _Pool, one: Held) -> None:
        if one.leaving:
            pool.coming, pool.coming_memory = pool.coming + one.milli, pool.coming_memory + one.memory_bytes
        else:
            pool.leases.append(one)
            pool.accounts.add(one.account)

    # --- rooms that there are -------------------------------------------------------------------------------------

    def promised(self, left: Left, tasks: Ints) -> list[Promised]:
        """What has come of each room, and what is still coming, which is kept from everybody else from here on.

        `tasks`: that each row waits with. By priority and arrival: of two with a room at one pool the first is served
        first.
        """
        queue, found = self._queue, []
        order = sorted(
            self._promises, key=lambda p: (-queue.priority[p[0]], queue.submitted_ms[p[0]], queue.ids[p[0]], p[1])
        )
        for row, pool, wanted in order:
            need = self._need(int(self._class[row]), pool)
            if need is None:
                continue
            milli, memory = need
            account = int(queue.account[row])
            most = min(wanted, int(tasks[row]), left.within[account] // max(1, milli))
            fits = min(most, left.budget, _times(left.free[pool], left.memory[pool], milli, memory))
            coming = self._keep(left, pool, most - fits, (milli * fits, memory * fits), need)
            if coming:
                self._served.add(row)
            found.append(Promised(row, pool, milli, memory, fits, coming))
            left.within[account] -= milli * (fits + coming)
            left.budget -= fits
        return found

    def _keep(self, left: Left, pool: int, tasks: int, taken: tuple[int, int], need: tuple[int, int]) -> int:
        """Takes `taken` out of what is left, and for as many of `tasks` as it suffices for, what is free and coming."""
        at = self._pools[pool]
        free, memory = left.free[pool] - taken[0], left.memory[pool] - taken[1]
        coming = min(tasks, _times(free + at.coming, memory + at.coming_memory, *need))
        kept, kept_memory = min(max(0, free), need[0] * coming), min(max(0, memory), need[1] * coming)
        at.coming -= need[0] * coming - kept
        at.coming_memory -= need[1] * coming - kept_memory
        self._kept.append(Own(pool, kept, kept_memory))
        left.free[pool], left.memory[pool] = free - kept, memory - kept_memory
        return coming

    def _need(self, group: int, pool: int) -> tuple[int, int] | None:
        """Units and memory of a task of the class at the pool; None where it takes none now."""
        row, allowed = self._classes.rows[self._classes.kind[group]], self._classes.allowed.get(group)
        at = np.flatnonzero(row.pools == pool)
        if not len(at) or not row.open[at[0]] or (allowed is not None and not allowed[at[0]]):
            return None
        return int(row.milli[at[0]]), int(row.memory[at[0]])

    def __bool__(self) -> bool:
        """Whether spot leases hold anything."""
        return any(pool.leases or pool.coming for pool in self._pools.values())

    def after(self, given: Given, left: Left, own: Mapping[int, Own]) -> tuple[Left, Ints]:
        """What was `left` at the start without what was given or is kept, and the tasks that each row waits with.

        Without backfill a round counts nothing as free where somebody waits; here it is what it is.
        """
        for pool, milli, memory in zip(given.pool.tolist(), given.milli.tolist(), given.memory.tolist(), strict=True):
            left.free[pool] -= milli
            left.memory[pool] -= memory
        for mine in (*own.values(), *self._kept):
            _give_back(left, mine, -1)
        placed = np.bincount(given.row, weights=given.tasks, minlength=len(self._queue.ids)).astype(np.int64)
        return left, self._queue.tasks - placed

    # --- rooms that are made ----------------------------------------------------------------------------------------

    def make(self, rows: Ints, tasks: Ints, left: Left, own: Mapping[int, Own]) -> list[Made]:
        """For orders that wait with `tasks` (of each row of the queue) and fit nowhere: by priority, those first for
        which something is kept, then in the sequence of `rows`.

        What is kept for them is taken out of `left`; `own` is out of it already.  At most as many orders and leases as
        the policy says.
        """
        made: list[Made] = []
        budget = self._policy.max_preempted
        fresh = np.array([row not in own for row in rows.tolist()], dtype=bool)
        for row in rows[np.lexsort((fresh, -self._queue.priority[rows].astype(np.int64)))].tolist():
            if len(made) >= self._policy.max_rooms or budget <= 0:
                break
            if row in self._served:
                continue
            mine = own.get(row)
            if mine is not None:
                _give_back(left, mine, 1)
            found = self._room(row, int(tasks[row]), left, budget, first=not made)
            if found is not None:
                made.append(found)
                budget -= len(found.leases)
                continue
            if mine is not None:
                _give_back(left, mine, -1)
            if not self._policy.backfill:
                break  # nobody passes one that waits
        return made

    def _room(self, row: int, tasks: int, left: Left, budget: int, *, first: bool) -> Made | None:
        group, account = int(self._class[row]), int(self._queue.account[row])
        owner = self._owner[account]
        if (group, owner) in self._dead or left.within[account] <= 0:
            return None
        found = self._least(group, owner, left, left.within[account])
        if found is None:
            return None
        pool, milli, memory = found
        at = self._pools[pool]
        free, free_memory = left.free[pool] + at.coming, left.memory[pool] + at.coming_memory
        most, most_memory = at.most(owner)
        count = min(tasks, _times(free + most, free_memory + most_memory, milli, memory))
        count = min(count, left.within[account] // max(1, milli))
        while True:  # of an array as many as the budget allows; a single task is not held up by it for ever
            leases = choose(at.for_(owner), milli * count - free, memory * count - free_memory)
            if len(leases) <= budget or (count == 1 and first):
                break
            if count == 1:
                return None
            count //= 2
        at.end(leases)
        at.coming += sum(one.milli for one in leases)
        at.coming_memory += sum(one.memory_bytes for one in leases)
        self._keep(left, pool, count, (0, 0), (milli, memory))
        left.within[account] -= milli * count
        return Made(row, pool, count, leases)

    def _least(self, group: int, owner: str, left: Left, within: int) -> tuple[int, int, int] | None:
        """The pool where room for one task costs the least work, and what the task takes there; of equal ones the best
        by the order's preference. None where a task fits now, or no pool has enough to free."""
        row, allowed = self._classes.rows[self._classes.kind[group]], self._classes.allowed.get(group)
        may = row.open if allowed is None else row.open & allowed
        may = may & (row.milli <= within)
        if not self._policy.backfill:  # else the round has tried everything that is free
            free, memory = np.array(left.free)[row.pools], np.array(left.memory)[row.pools]
            if (may & (row.milli <= free) & (row.memory <= memory)).any():
                return None
        bounds = []
        for i in np.flatnonzero(may & np.isin(row.pools, list(self._pools))).tolist():
            pool, milli, need_memory = int(row.pools[i]), int(row.milli[i]), int(row.memory[i])
            here = self._pools[pool]
            lacks = milli - left.free[pool] - here.coming
            lacks_memory = need_memory - left.memory[pool] - here.coming_memory
            most, most_memory = here.most(owner)
            if lacks <= most and lacks_memory <= most_memory:
                bounds.append((here.least_lost(lacks, owner), i, lacks, lacks_memory))
        best: tuple[int, int] | None = None
        for bound, i, lacks, lacks_memory in sorted(bounds):
            if best is not None and (bound, i) >= best:
                break
            leases = choose(self._pools[int(row.pools[i])].for_(owner), lacks, lacks_memory)
            found = cost(leases)[0], i
            best = found if best is None else min(best, found)
        if best is None:
            if not bounds and bool((row.milli <= within).all()):
                self._dead.add((group, owner))
            return None
        i = best[1]
        return int(row.pools[i]), int(row.milli[i]), int(row.memory[i])


def _give_back(left: Left, own: Own, sign: int) -> None:
    left.free[own.pool] += sign * own.milli
    left.memory[own.pool] += sign * own.memory


def _times(units: int, memory: int, milli: int, need_memory: int) -> int:
    """How many tasks fit."""
    count = max(0, units) // max(1, milli)
    return min(count, max(0, memory) // need_memory) if need_memory else count
