"""The second half of a large round: whoever was given a place keeps one, and all of them together cost less.

Who is placed is decided before, by priority and fair share.  Where, is decided here for all tasks of one priority
together: the relaxation (`placement.relax`) says how much of what goes where; it is rounded down to whole tasks, what
is left over takes the best pool by cost and price that still holds it, largest first, and what could move to a cheaper
pool moves.  Should the rounding not find a place for all, or cost more, the first plan stays.

The cost of a task at a pool is what its order prefers, in money: the expected price for `cost`; for `speed` and
`carbon` the price at the best pool, times how much worse this pool's run time or carbon is than the best one's, and a
thousandth of the price, which decides between equals.
"""

from dataclasses import replace

import numpy as np

from yunhe.core.demand import Preference
from yunhe.core.errors import Unavailable
from yunhe.core.placement.classes import Classes, Row
from yunhe.core.placement.columns import Bools, Floats, Ints
from yunhe.core.placement.family import Family
from yunhe.core.placement.relax import relax
from yunhe.core.placement.values import Bound, Given
from yunhe.core.placement.whole import Rounding

_SECOND = 1e-3


def costs_of(row: Row) -> Floats:
    """Cost of one task at each pool of a row, micro-CNY; see above."""
    price, preference = row.look.costs.expected, row.look.shape.terms.preference
    if preference is Preference.COST or not len(price):
        return price
    measure = row.look.sizes.run_ms.astype(np.float64)
    if preference is Preference.CARBON:
        measure = row.look.costs.carbon_mg
    least = float(measure.min())
    if least <= 0:
        return price
    return float(price[int(measure.argmin())]) * measure / least + _SECOND * price


class Improver:
    """One priority at a time."""

    def __init__(self, grouped: Classes, class_of: Ints) -> None:
        """`class_of`: of each row of the queue."""
        self._classes = grouped
        self._class_of = class_of
        self._costs: dict[int, Floats] = {}  # by kind

    def improve(self, placed: Given, free: Ints, free_memory: Ints) -> tuple[Given, Bound | None]:
        """`placed`, at better pools, and how good that is. `free`: what is free besides what `placed` takes."""
        if not len(placed.row):
            return placed, None
        np.add.at(free, placed.pool, placed.milli)
        np.add.at(free_memory, placed.pool, placed.memory)
        families, members, before = self._families(placed, free, free_memory)
        try:
            relaxed = relax(families, free, free_memory)
        except Unavailable:
            return placed, None
        rounded = Rounding(families, relaxed, free.copy(), free_memory.copy()).run()
        if rounded is None:
            rounded = Rounding(families, relaxed, free, free_memory).run(few_first=True)
        if rounded is None:
            return placed, Bound(before, relaxed.bound)
        after, parts = 0.0, []
        for family, some, count in zip(families, members, rounded, strict=True):
            at = np.array(sorted(count, key=lambda at: (family.level[at], at)), dtype=np.int64)
            tasks = np.array([count[i] for i in at.tolist()], dtype=np.int64)
            after += float((family.cost[at] * tasks).sum())
            parts.append(_hand_out(placed, some, family, at, tasks))
        if after >= before:
            return placed, Bound(before, relaxed.bound)
        return Given(*(np.concatenate(column) for column in zip(*parts, strict=True))), Bound(after, relaxed.bound)

    def _families(self, placed: Given, free: Ints, free_memory: Ints) -> tuple[list[Family], list[Ints], float]:
        """The kinds among `placed`; the elements of `placed` of each, the smallest budget first; and what they cost."""
        families, members, cost = [], [], 0.0
        kind_of = self._classes.kind[self._class_of[placed.row]]
        order = np.argsort(kind_of, kind="stable")
        for some in np.split(order, np.flatnonzero(np.diff(kind_of[order])) + 1):
            kind = int(kind_of[some[0]])
            row = self._classes.rows[kind]
            fits = row.open & (row.milli <= free[row.pools]) & (row.memory <= free_memory[row.pools])
            by_budget, needs, level = self._nested(placed, some, fits)
            at = np.flatnonzero(level < len(needs))
            costs = self._cost(kind)[at]
            if (costs[1:] < costs[:-1]).any():
                by_cost = np.argsort(costs, kind="stable")
                at, costs = at[by_cost], costs[by_cost]
            family = _family(needs, level[at], at, costs, row, (free, free_memory))
            position = np.empty(len(free), dtype=np.int64)
            position[family.pools] = np.arange(len(at))
            now = position[placed.pool[by_budget]]
            cost += float((costs[now] * placed.tasks[by_budget]).sum())
            families.append(replace(family, has=np.unique(now)))
            members.append(by_budget)
        return families, members, cost

    def _nested(self, placed: Given, some: Ints, fits: Bools) -> tuple[Ints, Ints, Ints]:
        """Elements of `placed` by budget, the smallest first; tasks with each budget or a smaller one; and for pools
        of the row the smallest budget that they are within, as many as there are budgets for those within none."""
        class_of = self._class_of[placed.row[some]]
        distinct, number = np.unique(class_of, return_inverse=True)
        within = np.empty((len(distinct), len(fits)), dtype=bool)
        for i, group in enumerate(distinct.tolist()):
            allowed = self._classes.allowed.get(group)
            within[i] = fits if allowed is None else fits & allowed
        # Of nested sets, those of one size are one.
        _, first, budget = np.unique(np.count_nonzero(within, axis=1), return_index=True, return_inverse=True)
        budget_of = budget[number]
        order = np.argsort(budget_of, kind="stable")
        tasks = np.bincount(budget_of, weights=placed.tasks[some], minlength=len(first)).astype(np.int64)
        return some[order], np.cumsum(tasks), np.count_nonzero(~within[first], axis=0)

    def _cost(self, kind: int) -> Floats:
        if kind not in self._costs:
            self._costs[kind] = costs_of(self._classes.rows[kind])
        return self._costs[kind]


def _family(needs: Ints, level: Ints, at: Ints, cost: Floats, row: Row, free: tuple[Ints, Ints]) -> Family:
    pools, milli, memory = row.pools[at], row.milli[at], row.memory[at]
    most = free[0][pools] // milli
    if memory.any():
        most = np.minimum(most, free[1][pools] // np.maximum(memory, 1))
    return Family(needs, level, pools, cost, milli, memory, np.minimum(most, needs[-1]), at[:0])


def _hand_out(placed: Given, members: Ints, family: Family, at: Ints, count: Ints) -> Given:
    """Places by budget, and within one by cost, to the orders of a family, which come so too. Orders and places are
    cut where either ends."""
    until, room = np.cumsum(placed.tasks[members]), np.cumsum(count)
    ends = np.union1d(until, room)
    part = np.diff(ends, prepend=0)
    place = at[np.searchsorted(room, ends)]
    row = placed.row[members[np.searchsorted(until, ends)]]
    return Given(row, family.pools[place], part, family.milli[place] * part, family.memory[place] * part)
