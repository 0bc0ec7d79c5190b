"""Work until a deadline: which pools are the best now, without a look at those that cannot be.

What such a task takes of a pool depends on the time that is left, so its ranking holds for a moment only.  But its
cost has a floor that no deadline changes: with u units of 1/1000 it runs for t = flop / (rate u) and the transfer of
its data, d, so it pays for

    u (t + d) >= flop / rate + u_least d        u_least: the units that it takes with the whole run limit

Pools in the order of their floors, a few at a time: those that cost less than the next floor are the best of all.  A
run time has no such floor (whole cards finish early by what is rounded up), so `speed` looks at all of them.
"""

from dataclasses import replace

import numpy as np

from yunhe.core.demand import Preference, Shape
from yunhe.core.placement.board import Board
from yunhe.core.placement.classes import Row, places_of, row_among
from yunhe.core.placement.columns import Bools, Floats, Ints
from yunhe.core.placement.cost import data_bytes
from yunhe.core.placement.feasible import within_budget
from yunhe.core.placement.look import Look
from yunhe.core.tariff import BYTES_PER_GIB, MILLI_MS_PER_UNIT_HOUR

_MILLI_MS = 1e6  # of a unit and second
_SURE = 1 - 1e-9  # far more than the roundings of a floor and of a cost


class Ahead:
    """The pools where work of one kind may ever go, by `floor`: no task costs less there, whenever it starts."""

    def __init__(self, board: Board, seed: int, pools: Ints, floor: Floats, flops: Floats) -> None:
        self._board = board
        self._seed = seed
        self._pools = pools
        self._floor = floor
        self._flops = flops

    def __len__(self) -> int:
        return len(self._pools)

    def row(self, shape: Shape, now_ms: int, count: int, free: tuple[Ints, Ints]) -> tuple[Row, int]:
        """The row of `shape` among those of the first `count` pools where a task is within budget and fits into `free`
        now, and how many of it are certainly better than all pools after these."""
        need, terms = shape.requirement, shape.terms
        assert need.work is not None
        if terms.preference is Preference.SPEED:
            count = len(self._pools)
        pools, window_ms = self._pools[:count], Look(self._board, shape, now_ms, self._pools[:0]).remaining_ms
        # Most of what is looked at closer for nothing is left out by one division, and by 1 ms where time is over.
        least_milli = need.work.flop * (_MILLI_MS * _SURE / max(1, window_ms)) / self._flops[:count]
        pools = pools[least_milli <= free[0][pools]]
        row = row_among(shape, self._board, now_ms, pools, self._seed, free)
        may: Bools = row.open
        if terms.budget_microcny is not None:
            may = may & within_budget(row.look, terms.budget_microcny, terms.array)
        if not may.all():
            at = np.flatnonzero(may)
            row = Row(row.look.take(at), row.pools[at], row.open[at], row.milli[at], row.memory[at])
        if count >= len(self._pools):
            return row, len(row.pools)
        costs = row.look.costs
        key = costs.carbon_mg if terms.preference is Preference.CARBON else costs.expected
        return row, int(key.searchsorted(self._floor[count] * _SURE))


def ahead_of(shape: Shape, board: Board, seed: int) -> Ahead:
    """For all shapes with the requirement, run limit and preference of `shape`, which states `work`."""
    need, terms = shape.requirement, shape.terms
    assert need.work is not None
    pools = places_of(shape, board)
    rates = board.rates(need.work.precision)
    pools = pools[rates.known[pools]]
    flops, columns = rates.flops[pools].astype(np.float64), board.columns
    whole = Look(board, replace(shape, terms=replace(terms, deadline_ms=None)), 0, pools).sizes
    milli_ms = need.work.flop * _MILLI_MS / flops + whole.milli * whole.transfer_ms.astype(np.float64)
    kw = columns.kw_per_unit[pools]
    match terms.preference:
        case Preference.COST:
            price = columns.price[pools] + kw * columns.power_price[pools]
            transfer = data_bytes(shape) * board.policy.transfer_microcny_per_gib / BYTES_PER_GIB
            floor = milli_ms / MILLI_MS_PER_UNIT_HOUR * price + transfer
        case Preference.CARBON:
            floor = milli_ms / MILLI_MS_PER_UNIT_HOUR * (kw * columns.carbon[pools] * 1000)
        case Preference.SPEED:
            floor = np.zeros(len(pools))
    order = np.argsort(floor, kind="stable")
    return Ahead(board, seed, pools[order], floor[order], flops[order])
