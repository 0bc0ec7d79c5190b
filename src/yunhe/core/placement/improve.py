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
from yunhe.core.placement.relax import Family, relax
from yunhe.core.placement.values import Bound, Given
from yunhe.core.placement.whole import Group, Places, Rounding

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
        families, groups = self._families(placed, free, free_memory)
        before = sum(float(g.family.cost[g.position] @ placed.tasks[g.members]) for g in groups)
        try:
            relaxed = relax(families, free, free_memory)
        except Unavailable:
            return placed, None
        rounded = Rounding(families, groups, relaxed, free.copy(), free_memory.copy()).run()
        if rounded is None:
            rounded = Rounding(families, groups, relaxed, free, free_memory).run(few_first=True)
        if rounded is None:
            return placed, Bound(before, relaxed.bound)
        after = sum(float(g.family.cost[at] @ count) for g, (at, count) in zip(groups, rounded, strict=True))
        if after >= before:
            return placed, Bound(before, relaxed.bound)
        parts = [_hand_out(placed, *each) for each in zip(groups, rounded, strict=True)]
        return Given(*(np.concatenate(column) for column in zip(*parts, strict=True))), Bound(after, relaxed.bound)

    def _families(self, placed: Given, free: Ints, free_memory: Ints) -> tuple[list[Family], list[Group]]:
        """The kinds among `placed`, and in each the groups of equal budgets, the smallest budget first."""
        families, groups = [], []
        kind_of = self._classes.kind[self._class_of[placed.row]]
        order = np.argsort(kind_of, kind="stable")
        for number, some in enumerate(np.split(order, np.flatnonzero(np.diff(kind_of[order])) + 1)):
            kind = int(kind_of[some[0]])
            row = self._classes.rows[kind]
            fits = row.open & (row.milli <= free[row.pools]) & (row.memory <= free_memory[row.pools])
            nested = self._nested(placed, some, fits)
            at = np.flatnonzero(nested[-1][1])
            cost = self._cost(kind)[at]
            if (cost[1:] < cost[:-1]).any():
                by_cost = np.argsort(cost, kind="stable")
                at, cost = at[by_cost], cost[by_cost]
            level = np.sum([~allowed[at] for _, allowed in nested], axis=0)
            needs = np.cumsum([int(placed.tasks[members].sum()) for members, _ in nested])
            family = _family(needs, level, at, cost, row, (free, free_memory))
            by_pool = np.argsort(family.pools)
            for j, (members, _) in enumerate(nested):
                position = by_pool[np.searchsorted(family.pools, placed.pool[members], sorter=by_pool)]
                groups.append(Group(number, family, j, members, int(placed.tasks[members].sum()), position))
            has = np.unique(np.concatenate([group.position for group in groups[-len(nested) :]]))
            families.append(replace(family, has=has))
        return families, groups

    def _nested(self, placed: Given, some: Ints, fits: Bools) -> list[tuple[Ints, Bools]]:
        """(elements of `placed`, pools of the row that they may take) by budget, the smallest first."""
        class_of = self._class_of[placed.row[some]]
        order = np.argsort(class_of, kind="stable")
        found: dict[int, tuple[Ints, Bools]] = {}
        for members in np.split(some[order], np.flatnonzero(np.diff(class_of[order])) + 1):
            allowed = self._classes.allowed.get(int(self._class_of[placed.row[members[0]]]))
            may = fits if allowed is None else fits & allowed
            count = int(np.count_nonzero(may))  # of nested sets, those of one size are one
            before = found.get(count)
            found[count] = (members if before is None else np.concatenate((before[0], members)), may)
        return [found[count] for count in sorted(found)]

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


def _hand_out(placed: Given, group: Group, places: Places) -> Given:
    """The group's places to its orders: the cheapest to the first. Orders and places are cut where either ends."""
    at, count = places
    rows, tasks, family = placed.row[group.members], placed.tasks[group.members], group.family
    ends = np.union1d(np.cumsum(tasks), np.cumsum(count))
    part = np.diff(ends, prepend=0)
    place = at[np.searchsorted(np.cumsum(count), ends)]
    row = rows[np.searchsorted(np.cumsum(tasks), ends)]
    return Given(row, family.pools[place], part, family.milli[place] * part, family.memory[place] * part)
