"""Hands free units to open orders, one priority after the other, until nothing fits or the round is full.

Within a priority:

1. Orders that have waited longer than the policy's age go first, the oldest of an account, oldest first, a few per
   round; one that does not fit keeps what is free in the pool where it lacks least.  So small orders that come in
   all the time cannot keep a large one waiting for ever.
2. All others take turns by weighted fair share between accounts; within an account, by arrival.  Each takes the best
   pool that it fits, and an order that does not fit waits without holding up others (backfill).

Orders are looked at by class (see `placement.classes`).  Free units only shrink during a round: what has stopped
fitting a class never fits it again.  So every class keeps one mark in its ranking of pools that only moves on, and
classes that fit nowhere leave the sequence in bulk.
"""

import numpy as np

from yunhe.core.placement import order
from yunhe.core.placement.board import free_of
from yunhe.core.placement.classes import Classes, Row
from yunhe.core.placement.columns import Bools, Floats, Ints
from yunhe.core.placement.giving import by_arrival, joined
from yunhe.core.placement.improve import Improver
from yunhe.core.placement.rooms import Left, Made, Own, Rooms
from yunhe.core.placement.sizing import HUGE
from yunhe.core.placement.values import Bound, Given, Snapshot
from yunhe.core.policy import Policy

# Turns between two looks at the shares: they are sorted anew only when something ran out in between.
WINDOW = 2048
_NONE = -1  # not looked up yet
_CLOSED = -2  # no pool takes one more task


class Choices:
    """Where a kind of task can start, best first: (pool, milli, memory of one task). Made into tuples as they are
    needed: few look far down."""

    def __init__(self, row: Row, at: Ints) -> None:
        """`at`: positions in the row."""
        self.listed: list[tuple[int, int, int]] = []
        self.at = at
        self.first = 0  # below it nothing fits any more, whatever the budget
        self._row = row

    def list_more(self) -> None:
        have = len(self.listed)
        some = self.at[have : max(64, 2 * have)]
        columns = (self._row.pools[some].tolist(), self._row.milli[some].tolist(), self._row.memory[some].tolist())
        self.listed += zip(*columns, strict=True)

    def drop_full(self, free: list[int], memory: list[int]) -> None:
        """Moves `first` over pools that are too full by now; they stay so."""
        while self.first < len(self.listed):
            pool, milli, need_memory = self.listed[self.first]
            if milli <= free[pool] and need_memory <= memory[pool]:
                return
            self.first += 1


class Assigner:
    """What is left during one round: free units and memory, quotas, and the number of tasks that may be given."""

    def __init__(self, grouped: Classes, snapshot: Snapshot, policy: Policy, now_ms: int) -> None:
        self._classes = grouped
        self._queue = snapshot.queue
        self._policy = policy
        self._now_ms = now_ms
        self._budget = policy.max_assignments
        self._reservations = policy.max_reservations

        count, accounts = len(grouped), snapshot.accounts
        self._class = grouped.of_shape[snapshot.queue.shape]  # of each row
        self._kind: list[int] = grouped.kind.tolist()
        self._start_free, self._start_memory = free_of(snapshot.supply)
        self._free: list[int] = self._start_free.tolist()
        self._memory: list[int] = self._start_memory.tolist()
        self._weight = order.weights(accounts)
        self._used = np.array([account.used_milli for account in accounts], dtype=np.float64)
        quota = [HUGE if a.quota_milli is None else max(0, a.quota_milli - a.used_milli) for a in accounts]
        self._quota = np.array(quota, dtype=np.int64)
        self._within: list[int] = self._quota.tolist()  # milli that each account may still take
        # [class, account]: True once no pool can take one more task of it in this round.
        self._closed: Bools = np.zeros((count, len(accounts)), dtype=bool)
        # The least that one task takes: the size by which shares are reckoned.
        self._least = grouped.least
        # Per kind: pools where enough is free, best first; and of each class what of them it may take, and its mark.
        self._choices: list[Choices | None] = [None] * len(grouped.rows)
        self._allowed: list[bytes | None] = [None] * count
        self._mark = [0] * count
        self._current = [(_NONE, 0, 0)] * count  # pool at the mark (or why none), milli and memory of one task there
        self._rooms = Rooms(snapshot, grouped, policy)
        self._own: dict[int, Own] = {}  # of each row for which something is kept
        self._tasks = snapshot.queue.tasks.astype(np.int64)  # of each row, but for those that get their rooms
        self._spot = np.array([shape.terms.spot for shape in snapshot.shapes], dtype=bool)[snapshot.queue.shape]
        self.made: list[Made] = []
        self.bound = Bound(0.0, 0.0)
        self._single: list[tuple[int, int, int, int, int]] = []  # as in Given, given one by one
        self._bulk: list[Given] = []  # given by whole windows

    def run(self, improver: Improver | None = None) -> Given:
        """Walk all priorities, highest first, then those of spot orders; `improver` finds better places for each."""
        queue = self._queue
        certified = self._least < HUGE
        self._startable = self._can_start() if self._policy.backfill else certified
        self._closed |= ~self._startable[:, None]
        hopeful = certified[self._class] & (queue.tasks > 0)
        rows = np.flatnonzero(hopeful)
        self._keep_promises()
        ordinary = rows[~self._spot[rows]]
        self._levels(ordinary, improver)
        self._make_rooms(ordinary)
        self._levels(rows[self._spot[rows]], improver)
        return joined(self._parts((0, 0)), len(self._free))

    def _levels(self, rows: order.Rows, improver: Improver | None) -> None:
        queue = self._queue
        priority = queue.priority[rows]
        for level in np.unique(priority)[::-1]:
            if self._budget > 0:
                before = len(self._single), len(self._bulk)
                of_level = order.by_arrival(queue, rows[priority == level])
                self._level(of_level)
                if improver is not None:
                    self._improve(improver, before, of_level)

    def _level(self, rows: order.Rows) -> None:
        tasks = self._tasks[rows]
        self._oldest_first(rows, tasks)
        self._everybody(rows, tasks)

    def _everybody(self, rows: order.Rows, tasks: Ints) -> None:
        keep = (tasks > 0) & ~self._closed[self._class[rows], self._queue.account[rows]]
        rows, tasks = order.split(rows[keep], tasks[keep])
        while len(rows) and self._budget > 0:
            rows, tasks = self._turns(rows, tasks)

    def _improve(self, improver: Improver, before: tuple[int, int], rows: order.Rows) -> None:
        """Better places for all tasks given since `before`; what that leaves free goes to those of `rows` that wait."""
        given = by_arrival(joined(self._parts(before), len(self._free)), rows)
        free, memory = np.array(self._free), np.array(self._memory)
        better, bound = improver.improve(given, free.copy(), memory.copy())
        if bound is not None:
            self.bound = Bound(self.bound.cost + bound.cost, self.bound.least + bound.least)
        if better is given:
            return
        for part, sign in ((given, 1), (better, -1)):
            np.add.at(free, part.pool, sign * part.milli)
            np.add.at(memory, part.pool, sign * part.memory)
            used = np.bincount(self._queue.account[part.row], weights=part.milli, minlength=len(self._within))
            self._within = (np.array(self._within) + sign * used.astype(np.int64)).tolist()
        self._free, self._memory = free.tolist(), memory.tolist()
        del self._single[before[0] :], self._bulk[before[1] :]
        self._bulk.append(better)
        # There is room again where there was none.
        self._mark, self._current = [0] * len(self._mark), [(_NONE, 0, 0)] * len(self._mark)
        for choices in self._choices:
            if choices is not None:
                choices.first = 0
        self._closed[:] = ~self._startable[:, None]
        placed = np.bincount(better.row, weights=better.tasks, minlength=len(self._queue.ids)).astype(np.int64)
        left = self._tasks[rows] - placed[rows]
        self._everybody(rows, left)

    # --- orders that have waited too long -----------------------------------------------------------------------

    def _oldest_first(self, rows: order.Rows, tasks: Ints) -> None:
        """One task of the oldest order of each account that waits too long is placed, or has a pool kept for it."""
        queue, policy = self._queue, self._policy
        aged = queue.submitted_ms[rows] <= self._now_ms - policy.reserve_after_ms
        if not aged.any() or self._reservations <= 0:
            return
        waiting = np.zeros(len(self._weight), dtype=bool)
        waiting[queue.account[rows]] = True
        taken = self._used + self._taken()
        eligible = order.not_over_share(taken, self._weight, waiting, policy.reserve_share_limit_percent)
        within = np.array(self._within)[queue.account[rows]] >= self._least[self._class[rows]]
        old = np.flatnonzero(aged & eligible[queue.account[rows]] & within)
        first = old[np.sort(np.unique(queue.account[rows[old]], return_index=True)[1])]
        for i in first[: self._reservations].tolist():
            self._reservations -= 1
            row = int(rows[i])
            group, account = int(self._class[row]), int(queue.account[row])
            if self._take(row, group, account, 1):
                tasks[i] -= 1
            elif self._look(group)[0] == _CLOSED:
                self._own[row] = self._reserve(group)

    def _reserve(self, group: int) -> Own:
        """Keep what is free where a task of `group` lacks the fewest units (then memory) for that task."""
        row, allowed = self._classes.rows[self._kind[group]], self._classes.allowed.get(group)
        at = np.flatnonzero(row.open if allowed is None else row.open & allowed)
        pools, milli, memory = row.pools[at], row.milli[at], row.memory[at]
        lacks = np.maximum(milli - np.array(self._free)[pools], 0)
        lacks_memory = np.maximum(memory - np.array(self._memory)[pools], 0)
        best = int(np.lexsort((lacks_memory, lacks))[0])
        pool = int(pools[best])
        own = Own(pool, min(self._free[pool], int(milli[best])), min(self._memory[pool], int(memory[best])))
        self._free[pool] -= own.milli
        self._memory[pool] -= own.memory
        return own

    # --- room that spot leases make ------------------------------------------------------------------------------

    def _keep_promises(self) -> None:
        """Before all others: what has come is taken, and what comes is kept."""
        left = Left(self._free, self._memory, self._within, self._budget)
        for at in self._rooms.promised(left, self._tasks):
            if at.fits:
                self._single.append((at.row, at.pool, at.fits, at.milli * at.fits, at.memory * at.fits))
                self._tasks[at.row] -= at.fits
        self._budget = left.budget

    def _make_rooms(self, rows: order.Rows) -> None:
        """For those that wait, in the sequence in which they were looked at: what of spot leases ends for them."""
        if not self._rooms or self._budget <= 0:
            return
        given = joined(self._parts((0, 0)), len(self._free))
        started = Left(self._start_free.tolist(), self._start_memory.tolist(), self._within, self._budget)
        left, tasks = self._rooms.after(given, started, self._own)
        rows = order.by_arrival(self._queue, rows[tasks[rows] > 0])
        if not len(rows):
            return
        turns = order.fair(
            self._queue.account[rows].astype(np.int64),
            self._least[self._class[rows]] * tasks[rows],
            self._used + self._taken(),
            self._weight,
        )
        self.made = self._rooms.make(rows[turns], tasks, left, self._own)
        self._free, self._memory = left.least(self._free, self._memory)

    # --- everybody's turn ---------------------------------------------------------------------------------------

    def _turns(self, rows: order.Rows, tasks: Ints) -> tuple[order.Rows, Ints]:
        """Walk the fair sequence of `rows` until shares have to be looked at again; returns the turns that are left."""
        group, account = self._class[rows], self._queue.account[rows].astype(np.int64)
        sequence = order.fair(account, self._least[group] * tasks, self._used + self._taken(), self._weight)
        for start in range(0, len(sequence), WINDOW):
            turn = sequence[start : start + WINDOW]
            closed_before = np.count_nonzero(self._closed)
            self._walk(rows[turn], group[turn], account[turn], tasks[turn])
            if self._budget <= 0:
                break
            if np.count_nonzero(self._closed) > closed_before:
                rest = np.sort(sequence[start + WINDOW :])  # by arrival again
                rest = rest[~self._closed[group[rest], account[rest]]]
                return rows[rest], tasks[rest]
        return rows[:0], tasks[:0]

    def _walk(self, rows: order.Rows, groups: Ints, accounts: Ints, tasks: Ints) -> None:
        """Give each turn its tasks. The body is the hot loop of the round; everything unusual goes to `_take`."""
        # Turns up to here cannot exceed what the round may still give, so the loop need not count.
        safe = int(np.searchsorted(np.cumsum(tasks), self._budget, side="right"))
        free, memory, within, current = self._free, self._memory, self._within, self._current
        went: list[int] = []
        took: list[int] = []
        took_memory: list[int] = []
        columns = (groups[:safe].tolist(), accounts[:safe].tolist(), tasks[:safe].tolist())
        for g, a, k in zip(*columns, strict=True):
            p, need, need_memory = current[g]
            if k > 1:
                need *= k
                need_memory *= k
            if p >= 0 and need <= free[p] and need_memory <= memory[p] and need <= within[a]:
                free[p] -= need
                memory[p] -= need_memory
                within[a] -= need
                went.append(p)
                took.append(need)
                took_memory.append(need_memory)
            elif p == _CLOSED:
                went.append(_CLOSED)
            else:
                self._take(int(rows[len(went)]), g, a, k)
                went.append(_NONE)
        pools = np.array(went, dtype=np.int64)
        straight = np.flatnonzero(pools >= 0)
        self._budget -= int(tasks[straight].sum())
        taken = np.array(took, dtype=np.int64), np.array(took_memory, dtype=np.int64)
        self._bulk.append(Given(rows[straight], pools[straight], tasks[straight], *taken))
        for i in range(safe, len(rows)):
            if self._budget <= 0:
                break
            self._take(int(rows[i]), int(groups[i]), int(accounts[i]), int(tasks[i]))

    def _take(self, row: int, group: int, account: int, tasks: int) -> int:
        """Give up to `tasks` tasks their pools; returns how many. Closes the class when no more of it fit."""
        given = 0
        while given < tasks and self._budget > 0 and not self._closed[group, account]:
            pool, need, need_memory = self._look(group)
            if pool == _CLOSED:
                self._ran_out(group)
                break
            if need > self._within[account]:
                found = self._smaller(group, self._within[account])
                if found is None:
                    self._closed[group, account] = True
                    break
                pool, need, need_memory = found
            count = min(tasks - given, self._budget, self._free[pool] // need, self._within[account] // need)
            if need_memory:
                count = min(count, self._memory[pool] // need_memory)
            self._free[pool] -= need * count
            self._memory[pool] -= need_memory * count
            self._within[account] -= need * count
            self._budget -= count
            self._single.append((row, pool, count, need * count, need_memory * count))
            given += count
        return given

    def _look(self, group: int) -> tuple[int, int, int]:
        """The best pool that takes one more task of `group` with what it takes there, or _CLOSED; moves the mark."""
        choices = self._choices[self._kind[group]] or self._open(self._kind[group])
        allowed = self._allowed[group] or self._allow(group, choices)
        free, memory, end = self._free, self._memory, len(allowed)
        choices.drop_full(free, memory)
        found = max(self._mark[group], choices.first)
        best = (_CLOSED, 0, 0)
        while found < end:
            if found >= len(choices.listed):
                choices.list_more()
            if allowed[found]:
                pool, milli, need_memory = choices.listed[found]
                if milli <= free[pool] and need_memory <= memory[pool]:
                    best = (pool, milli, need_memory)
                    break
            found += 1
        self._mark[group] = found
        self._current[group] = best
        return best

    def _open(self, kind: int) -> "Choices":
        """What is free only shrinks from what it was at the start."""
        row = self._classes.rows[kind]
        enough = (row.milli <= self._start_free[row.pools]) & (row.memory <= self._start_memory[row.pools])
        choices = self._choices[kind] = Choices(row, np.flatnonzero(enough & row.open))
        return choices

    def _can_start(self) -> Bools:
        """Classes that some pool can take now."""
        found = np.zeros(len(self._kind), dtype=bool)
        for group, kind in enumerate(self._kind):
            at = (self._choices[kind] or self._open(kind)).at
            allowed = self._classes.allowed.get(group)
            found[group] = len(at) > 0 if allowed is None else bool(allowed[at].any())
        return found

    def _allow(self, group: int, choices: "Choices") -> bytes:
        """A flag per choice, up to the last one that is allowed; one False if none is."""
        allowed = self._classes.allowed.get(group)
        flags = np.ones(len(choices.at), dtype=bool) if allowed is None else allowed[choices.at]
        found = self._allowed[group] = flags.tobytes().rstrip(b"\0") or b"\0" * min(1, len(choices.at))
        return found

    def _smaller(self, group: int, within: int) -> tuple[int, int, int] | None:
        """The best pool where a task takes no more than `within`: pools with faster units need fewer of them."""
        if self._least[group] > within:
            return None
        choices, allowed = self._choices[self._kind[group]], self._classes.allowed.get(group)
        assert choices is not None
        row, at = self._classes.rows[self._kind[group]], choices.at[self._mark[group] :]
        at = at[row.milli[at] <= within]
        if allowed is not None:
            at = at[allowed[at]]
        columns = (row.pools[at].tolist(), row.milli[at].tolist(), row.memory[at].tolist())
        for pool, need, need_memory in zip(*columns, strict=True):
            if need <= self._free[pool] and need_memory <= self._memory[pool]:
                return pool, need, need_memory
        return None

    def _ran_out(self, group: int) -> None:
        self._closed[group] = True
        if not self._policy.backfill:
            # Nobody passes in the pools that an earlier order waits for.
            row, allowed = self._classes.rows[self._kind[group]], self._classes.allowed.get(group)
            for pool in row.pools[row.open if allowed is None else row.open & allowed].tolist():
                self._free[pool] = 0

    # --- accounts ------------------------------------------------------------------------------------------------

    def _taken(self) -> Floats:
        """Milli that each account was given in this round."""
        taken: Ints = self._quota - np.array(self._within, dtype=np.int64)
        return taken.astype(np.float64)

    def _parts(self, since: tuple[int, int]) -> list[Given]:
        single = np.array(self._single[since[0] :], dtype=np.int64).reshape(-1, 5)
        return [Given(*single.T), *self._bulk[since[1] :]]
