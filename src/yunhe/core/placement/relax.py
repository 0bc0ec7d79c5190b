"""Where tasks go at the least cost, as a linear program over kinds of tasks and pools, and a bound of it.

    minimise    sum k[f,p] x[f,p]
    subject to  sum over the pools within budget j of x[f,p] >= the tasks with this budget or less, for each budget
                sum_f milli[f,p] x[f,p] <= free[p]               and the same of memory, where it can bind
                0 <= x[f,p] <= how many of the kind fit into p   whole tasks
                sum_f floor(milli[f,p] / u) x[f,p] <= floor(free[p] / u)   whole tasks, where a solution breaks it

Pools within a smaller budget are within a larger one too, so these rows are all that it takes for everyone to find a
place within the own budget (Hall's condition for nested sets).

Few of the pools matter to a kind, so the program starts with its cheapest ones and grows by what the prices of the
last solution show to be worth while (column generation).  By the same prices there is a bound that holds for all
pools: what the rows are worth, less what is free at its price, and what every column with a negative reduced cost
could still save.  HiGHS solves it, one thread, a fixed seed.

The last kind of row holds for whole tasks only: without it the program fills with fractions what no gang can fill.  On
national instances it closes a third to two thirds of the distance to the best whole plan, and fractions are fewer.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from yunhe.core.errors import Unavailable
from yunhe.core.placement.columns import Floats, Ints
from yunhe.core.placement.family import Family
from yunhe.core.placement.likely import likely
from yunhe.core.placement.sizing import HUGE

_MORE = 48  # that a family gets more at a time
_ROUNDS = 12
_STEPS = 1_000_000  # a nation takes 30,000; beyond it the first plan stays
_ENOUGH_TO_CUT, _ENOUGH = 5e-2, 2e-3  # relative distance to the bound that ends the growing
_MOST_COUNTED = 32
_TOLERANCE = 1e-6
_MILLI, _GIB, _CNY = 1e-3, 2.0**-30, 1e-6  # units, GiB and CNY in the program, so that figures are of one order


@dataclass(frozen=True, slots=True)
class Relaxed:
    """`flow[f]`: (elements, tasks there, in fractions) of family f."""

    flow: tuple[tuple[Ints, Floats], ...]
    solved: "Solved"
    bound: float  # no choice of pools for whole tasks costs less


def relax(families: list[Family], free: Ints, free_memory: Ints) -> Relaxed:
    """Solve the relaxation; what the families have now must fit. Raises Unavailable when HiGHS gives up."""
    program = Program(families, free, free_memory)
    program.add(likely(families, free))
    bound, enough = -np.inf, _ENOUGH_TO_CUT
    for turn in range(_ROUNDS):
        solved = program.solve()
        least, more = program.price_out(solved)
        bound = max(bound, least - solved.rent)
        if turn == _ROUNDS - 1:
            break
        if solved.optimum - bound <= enough * abs(solved.optimum) or not program.add(more):
            if enough == _ENOUGH or not program.cut():
                break
            enough = _ENOUGH
    return Relaxed(program.flow(), solved, bound)


def _saved(reduced: Floats, at: Ints, family: Family) -> float:
    """What the tasks could save at most, all of them once, at elements with a negative reduced cost, which rises; not
    positive."""
    most = family.most[at]
    tasks = np.clip(int(family.needs[-1]) - (np.cumsum(most) - most), 0, most)
    return float((reduced[at] * tasks).sum())


@dataclass(frozen=True, slots=True)
class Solved:
    """Prices have one element per pool; `worth[f][j]`: what another task with budget j would cost, so what a pool may
    cost that is within it."""

    worth: list[Floats]
    price: Floats  # of 1/1000 unit
    memory_price: Floats  # of a byte
    share: Ints  # units that count as one where whole tasks are counted; see Program.cut
    share_price: Floats
    rent: float  # all that is free, at these prices
    optimum: float  # of the program over the pools that were looked at

    def reduced(self, family: Family, end: int | None = None) -> Floats:
        """Cost of one task with prices at the first elements."""
        pools, milli = family.pools[:end], family.milli[:end]
        found: Floats = family.cost[:end] + self.price[pools] * milli
        if self.memory_price.any():
            found += self.memory_price[pools] * family.memory[:end]
        of_share = self.share_price[pools]
        at = np.flatnonzero(of_share)
        found[at] += of_share[at] * (milli[at] // self.share[pools[at]])
        return found


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
        for name, setting in (("output_flag", False), ("presolve", "off"), *limits):
            self._solver.setOptionValue(name, setting)
        self._families = families
        self._free, self._memory = free, free_memory
        self._start = np.cumsum([0, *(len(family.needs) for family in families)])  # first row of each family
        self._rows = 0
        self._row = np.full(len(free), -1, dtype=np.int32)
        self._memory_row = np.full(len(free), -1, dtype=np.int32)
        self._share_row = np.full(len(free), -1, dtype=np.int32)
        self._share: Ints = np.full(len(free), HUGE)
        self._milli: list[Ints] = []
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
        self._milli.append(milli)
        all_columns = np.arange(len(of))
        rows_each = self._start[of + 1] - self._start[of] - level  # a pool counts for its budget and all larger ones
        within = np.repeat(all_columns, rows_each)
        nth = np.arange(len(within)) - np.repeat(np.cumsum(rows_each) - rows_each, rows_each)
        at_memory = np.flatnonzero((self._memory_row[pools] >= 0) & (memory > 0))
        share = milli // self._share[pools]
        at_share = np.flatnonzero((self._share_row[pools] >= 0) & (share > 0))
        row = np.concatenate(
            (
                (self._start[of] + level)[within] + nth,
                self._row[pools],
                self._memory_row[pools[at_memory]],
                self._share_row[pools[at_share]],
            )
        )
        column = np.concatenate((within, all_columns, at_memory, at_share))
        value = np.concatenate((np.ones(len(within)), milli * _MILLI, memory[at_memory] * _GIB, share[at_share]))
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
        price, memory_price, share_price = np.zeros((3, len(self._free)))
        rent = 0.0
        for found, rows, room, unit in (
            (price, self._row, self._free, _MILLI),
            (memory_price, self._memory_row, self._memory, _GIB),
            (share_price, self._share_row, self._free // self._share, 1.0),
        ):
            at = np.flatnonzero(rows >= 0)
            found[at] = np.maximum(-duals[rows[at]], 0) * unit
            rent += float((found[at] * room[at]).sum())
        optimum = float(self._solver.getInfo().objective_function_value) / _CNY
        return Solved(worth, price, memory_price, self._share, share_price, rent, optimum)

    def cut(self) -> bool:
        """Whole tasks leave gaps that fractions fill: where a pool has room for k tasks of more than its (k+1)th part,
        the program must not have more of them there.  For each pool the k for which it is most over that (rounding
        cuts of Chvatal and Gomory; coefficients are what a task takes of the smallest unit that goes k times).
        """
        x = np.array(self._solver.getSolution().col_value)
        pool, milli = np.concatenate(self._pool), np.concatenate(self._milli)
        some = np.flatnonzero(x > _TOLERANCE)
        over, best = np.full(len(self._free), _TOLERANCE), np.zeros(len(self._free), dtype=np.int64)
        for k in range(1, _MOST_COUNTED + 1):
            unit = self._free // (k + 1) + 1
            share = milli[some] // unit[pool[some]]
            excess = np.bincount(pool[some], x[some] * share, len(over)) / k - 1
            better = (excess > over) & (self._free // unit == k)
            over[better], best[better] = excess[better], unit[better]
        pools = np.flatnonzero(best)
        self._share[pools] = best[pools]
        columns = np.flatnonzero(best[pool])
        columns = columns[milli[columns] >= best[pool[columns]]]
        columns = columns[np.argsort(pool[columns], kind="stable")]
        self._share_row[pools] = self._rows + np.arange(len(pools))
        start = np.searchsorted(pool[columns], pools).astype(np.int32)
        value = (milli[columns] // best[pool[columns]]).astype(np.float64)
        upper = (self._free[pools] // best[pools]).astype(np.float64)
        lower = np.full(len(pools), -np.inf)
        self._solver.addRows(len(pools), lower, upper, len(value), start, columns.astype(np.int32), value)
        self._rows = int(self._solver.getNumRow())
        return bool(len(pools))

    def price_out(self, solved: Solved) -> tuple[float, list[Ints]]:
        """(what the tasks cost at least by these prices, elements of each family that are worth to come in)."""
        least, more = 0.0, []
        for family, worth, inside in zip(self._families, solved.worth, self.inside, strict=True):
            most = float(worth[0])
            end = int(family.cost.searchsorted(most))  # from here on the cost alone is more than a task is worth
            reduced = solved.reduced(family, end) - worth[family.level[:end]]
            at = np.flatnonzero(reduced < 0)
            at = at[np.argsort(reduced[at], kind="stable")]
            least += float((worth * np.diff(family.needs, prepend=0)).sum()) + _saved(reduced, at, family)
            more.append(at[(reduced[at] < -1e-9 * max(1.0, most)) & ~inside[at]][:_MORE])
        return least, more

    def flow(self) -> tuple[tuple[Ints, Floats], ...]:
        """Of each family: elements, and tasks there."""
        x = np.array(self._solver.getSolution().col_value)
        of, at = np.concatenate(self._of), np.concatenate(self._at)
        some = np.flatnonzero(x > 0)
        some = some[np.lexsort((at[some], of[some]))]
        ends = np.searchsorted(of[some], np.arange(len(self._families) + 1)).tolist()
        return tuple((at[some[a:b]], x[some[a:b]]) for a, b in zip(ends, ends[1:], strict=False))
