"""Where tasks go at the least cost, as a linear program over kinds of tasks and pools, and a bound of it.

    minimise    sum k[f,p] x[f,p]
    subject to  sum over the pools within budget j of x[f,p] >= the tasks with this budget or less, for each budget
                sum_f milli[f,p] x[f,p] <= free[p]               and the same of memory, where it can bind
                0 <= x[f,p] <= how many of the kind fit into p   whole tasks

Pools within a smaller budget are within a larger one too, so these rows are all that it takes for everyone to find a
place within the own budget (Hall's condition for nested sets).

Few of the pools matter to a kind, so the program starts with its cheapest ones and grows by what the prices of the
last solution show to be worth while (column generation).  By the same prices there is a bound that holds for all
pools: what the rows are worth, less what is free at its price, and what every column with a negative reduced cost
could still save.  HiGHS solves it, one thread, a fixed seed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from yunhe.core.errors import Unavailable
from yunhe.core.placement.columns import Floats, Ints

_FIRST = 16  # pools of each budget in the first program, at least and at most
_FIRST_MOST = 96
_MORE = 48  # that a family gets more at a time
_ROUNDS = 12
_STEPS = 1_000_000  # a nation takes 30,000; beyond it the first plan stays
_ENOUGH = 1e-3  # relative distance to the bound that ends the growing
_MILLI, _GIB, _CNY = 1e-3, 2.0**-30, 1e-6  # units, GiB and CNY in the program, so that figures are of one order


@dataclass(frozen=True, slots=True)
class Family:
    """Tasks of one kind. Arrays have one element per pool that some of them may take, and `cost` rises.

    `needs[j]`: how many have budget j or a smaller one.  `level`: the smallest budget that the pool is within.
    """

    needs: Ints
    level: Ints
    pools: Ints
    cost: Floats
    milli: Ints
    memory: Ints
    most: Ints  # tasks that fit into what is free, at most all
    has: Ints  # elements where tasks are now


@dataclass(frozen=True, slots=True)
class Relaxed:
    """`flow[f]`: (elements, tasks there, in fractions) of family f; `price`: of 1/1000 unit and of a byte per pool."""

    flow: tuple[tuple[Ints, Floats], ...]
    price: Floats
    memory_price: Floats
    optimum: float  # of the program over the pools that were looked at
    bound: float  # no choice of pools costs less
    program: "Program"


def relax(families: list[Family], free: Ints, free_memory: Ints) -> Relaxed:
    """Solve the relaxation; what the families have now must fit. Raises Unavailable when HiGHS gives up."""
    program = Program(families, free, free_memory)
    program.add([_first(family) for family in families])
    bound = -np.inf
    for turn in range(_ROUNDS):
        solved = program.solve()
        total = -float(solved.price @ free) - float(solved.memory_price @ free_memory)
        more: list[Ints] = []
        for family, worth, inside in zip(families, solved.worth, program.inside, strict=True):
            total += float(worth @ np.diff(family.needs, prepend=0))
            most = float(worth[0])
            end = int(family.cost.searchsorted(most))  # from here on the cost alone is more than a task is worth
            pools = family.pools[:end]
            reduced = family.cost[:end] + solved.price[pools] * family.milli[:end] - worth[family.level[:end]]
            if solved.memory_bound:
                reduced += solved.memory_price[pools] * family.memory[:end]
            total += float(np.minimum(reduced, 0) @ family.most[:end])
            new = np.flatnonzero((reduced < -1e-9 * max(1.0, most)) & ~inside[:end])
            more.append(new[np.argsort(reduced[new], kind="stable")[:_MORE]])
        bound = max(bound, total)
        if solved.optimum - bound <= _ENOUGH * abs(solved.optimum) or turn == _ROUNDS - 1 or not program.add(more):
            break
    return Relaxed(program.flow(), solved.price, solved.memory_price, solved.optimum, bound, program)


def _first(family: Family) -> Ints:
    """The cheapest pools within each budget that hold its tasks twice over, and those that they have."""
    found = [family.has]
    for j, tasks in enumerate(family.needs.tolist()):
        within = np.flatnonzero(family.level <= j)
        enough = int(np.searchsorted(np.cumsum(family.most[within]), 2 * tasks)) + 1
        found.append(within[: min(max(_FIRST, enough), _FIRST_MOST)])
    return np.unique(np.concatenate(found))


@dataclass(frozen=True, slots=True)
class Solved:
    """`worth[f][j]`: what another task with budget j would cost, so what a pool may cost that is within it."""

    worth: list[Floats]
    price: Floats
    memory_price: Floats
    memory_bound: bool
    optimum: float


class Program:
    """Columns are (family, element); rows are budgets of families, then pools and their memory as they come into it.

    It grows in place, so that the solver goes on from where it was.
    """

    def __init__(self, families: list[Family], free: Ints, free_memory: Ints) -> None:
        import highspy  # noqa: PLC0415 - heavy, and only large rounds need it

        self._highspy = highspy
        self._solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        # A limit in steps and not in time: the same input gives the same plan.
        limits = (("threads", 1), ("random_seed", 1), ("simplex_iteration_limit", _STEPS))
        for name, setting in (("output_flag", False), *limits):
            self._solver.setOptionValue(name, setting)
        self._families = families
        self._free, self._memory = free, free_memory
        self._start = np.cumsum([0, *(len(family.needs) for family in families)])  # first row of each family
        self._rows = 0
        self._row = np.full(len(free), -1, dtype=np.int32)
        self._memory_row = np.full(len(free), -1, dtype=np.int32)
        self.inside = [np.zeros(len(family.pools), dtype=bool) for family in families]
        self._of: list[Ints] = []  # family, element and pool of the columns, by batch
        self._at: list[Ints] = []
        self._pool: list[Ints] = []
        self._takes_memory: list[Ints] = []
        needs = np.concatenate([family.needs for family in families]).astype(np.float64)
        self._add_rows(needs, np.full(len(needs), np.inf))

    def add(self, new: list[Ints]) -> bool:
        """Bring elements of each family in that were not; False if there are none."""
        of = np.repeat(np.arange(len(new)), [len(at) for at in new])
        if not len(of):
            return False
        for at, inside in zip(new, self.inside, strict=True):
            inside[at] = True
        pools, cost, milli, memory, most, level = (
            np.concatenate([getattr(family, name)[at] for family, at in zip(self._families, new, strict=True)])
            for name in ("pools", "cost", "milli", "memory", "most", "level")
        )
        self._open(pools, milli, memory)
        self._of.append(of)
        self._at.append(np.concatenate(new))
        self._pool.append(pools)
        self._takes_memory.append(memory)
        all_columns = np.arange(len(of))
        rows_each = self._start[of + 1] - self._start[of] - level  # a pool counts for its budget and all larger ones
        within = np.repeat(all_columns, rows_each)
        nth = np.arange(len(within)) - np.repeat(np.cumsum(rows_each) - rows_each, rows_each)
        at_memory = np.flatnonzero((self._memory_row[pools] >= 0) & (memory > 0))
        row = np.concatenate(
            ((self._start[of] + level)[within] + nth, self._row[pools], self._memory_row[pools[at_memory]])
        )
        column = np.concatenate((within, all_columns, at_memory))
        value = np.concatenate((np.ones(len(within)), milli * _MILLI, memory[at_memory] * _GIB))
        order = np.argsort(column, kind="stable")
        start = np.concatenate(([0], np.cumsum(np.bincount(column, minlength=len(of)))[:-1]))
        matrix = (start.astype(np.int32), row[order].astype(np.int32), value[order])
        self._solver.addCols(len(of), cost * _CNY, np.zeros(len(of)), most.astype(np.float64), len(row), *matrix)
        return True

    def _open(self, pools: Ints, milli: Ints, memory: Ints) -> None:
        """Rows for pools that were in no column before, and for memory where a task takes a larger part of it."""
        new = np.unique(pools[self._row[pools] < 0])
        self._row[new] = self._rows + np.arange(len(new))
        self._add_rows(np.full(len(new), -np.inf), self._free[new].astype(np.float64) * _MILLI)
        tight = milli.astype(np.float64) * self._memory[pools] < memory.astype(np.float64) * self._free[pools]
        for pool in np.unique(pools[tight & (self._memory_row[pools] < 0)]).tolist():
            before = np.concatenate(self._pool) if self._pool else pools[:0]
            columns = np.flatnonzero(before == pool)
            takes = np.concatenate(self._takes_memory)[columns] * _GIB if len(columns) else np.zeros(0)
            columns, takes = columns[takes > 0].astype(np.int32), takes[takes > 0]
            self._memory_row[pool] = self._rows
            self._rows += 1
            self._solver.addRow(-np.inf, self._memory[pool] * _GIB, len(columns), columns, takes)

    def _add_rows(self, lower: Floats, upper: Floats) -> None:
        none = np.zeros(len(lower), dtype=np.int32)
        self._solver.addRows(len(lower), lower, upper, 0, none, none[:0], np.zeros(0))
        self._rows = int(self._solver.getNumRow())

    def solve(self) -> Solved:
        self._solver.run()
        status = self._solver.getModelStatus()
        if status != self._highspy.HighsModelStatus.kOptimal:
            raise Unavailable(f"HiGHS ended with {status}", hint="this round stays with its first plan")
        duals = np.array(self._solver.getSolution().row_dual) / _CNY
        by_row = np.maximum(duals[: self._start[-1]], 0)
        worth = [np.cumsum(each[::-1])[::-1] for each in np.split(by_row, self._start[1:-1])]
        price, memory_price = np.zeros(len(self._free)), np.zeros(len(self._free))
        used, tight = np.flatnonzero(self._row >= 0), np.flatnonzero(self._memory_row >= 0)
        price[used] = np.maximum(-duals[self._row[used]], 0) * _MILLI
        memory_price[tight] = np.maximum(-duals[self._memory_row[tight]], 0) * _GIB
        optimum = float(self._solver.getInfo().objective_function_value) / _CNY
        return Solved(worth, price, memory_price, bool(memory_price.any()), optimum)

    def settle(self, families: list[int], free: Ints, free_memory: Ints) -> bool:
        """Take `families`, which have their places, out, and go on with what is left free; False, and the flow stays
        what it was, where the columns that are in do not hold the others."""
        gone = np.zeros(len(self._families), dtype=bool)
        gone[families] = True
        columns = np.flatnonzero(gone[np.concatenate(self._of)]).astype(np.int32)
        none = np.zeros(len(columns))
        self._solver.changeColsBounds(len(columns), columns, none, none)
        rows = np.flatnonzero(np.repeat(gone, np.diff(self._start))).astype(np.int32)
        self._solver.changeRowsBounds(len(rows), rows, np.full(len(rows), -np.inf), np.full(len(rows), np.inf))
        for of, left, unit in ((self._row, free, _MILLI), (self._memory_row, free_memory, _GIB)):
            pools = np.flatnonzero(of >= 0)
            room = np.maximum(left[pools], 0) * unit
            self._solver.changeRowsBounds(len(pools), of[pools], np.full(len(pools), -np.inf), room)
        self._solver.run()
        return bool(self._solver.getModelStatus() == self._highspy.HighsModelStatus.kOptimal)

    def flow(self) -> tuple[tuple[Ints, Floats], ...]:
        """Of each family: elements, and tasks there."""
        x = np.array(self._solver.getSolution().col_value)
        of, at = np.concatenate(self._of), np.concatenate(self._at)
        some = np.flatnonzero(x > 0)
        some = some[np.lexsort((at[some], of[some]))]
        ends = np.searchsorted(of[some], np.arange(len(self._families) + 1)).tolist()
        return tuple((at[some[a:b]], x[some[a:b]]) for a, b in zip(ends, ends[1:], strict=False))
