"""Work until a deadline: which pools are the best now, without a look at those that cannot be.

What such a task takes of a pool depends on the time that is left, so its ranking holds for a moment only.  But its
cost has a floor that no deadline changes: with u units of 1/1000 it runs for t = flop / (rate u) and the transfer of
its data, d, so it pays for

    u (t + d) >= flop / rate + u_least d        u_least: the units that it takes with the whole run limit

Pools in the order of their floors, a few at a time: those that cost less than the next floor are the best of all.  A
run time has no such floor: it is all the time that is left but for what rounding up to whole cards saves.  So for
`speed` the floors are reckoned at the moment, from the most that rounding can add.
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
from yunhe.core.placement.sizing import UNIT
from yunhe.core.tariff import BYTES_PER_GIB, MILLI_MS_PER_UNIT_HOUR

_MILLI_MS = 1e6  # of a unit and second
_SURE = 1 - 1e-9  # far more than the roundings of a floor and of a cost


class Ahead:
    """The pools where work of one kind may ever go, by `floor`: no task costs less there, whenever it starts."""

    def __init__(self, board: Board, seed: int, pools: Ints, floor: Floats, flops: Floats, transfer_ms: Ints) -> None:
        self._board = board
        self._seed = seed
        self._pools = pools
        self._floor = floor
        self._flops = flops
        self._transfer_ms = transfer_ms

    def __len__(self) -> int:
        return len(self._pools)

    def row(self, shape: Shape, now_ms: int, count: int, free: tuple[Ints, Ints]) -> tuple[Row, int]:
        """The row of `shape` among those of the first `count` pools where a task is within budget and fits into `free`
        now, and how many of it are certainly better than all pools after these."""
        need, terms = shape.requirement, shape.terms
        assert need.work is not None
        window_ms = max(1, Look(self._board, shape, now_ms, self._pools[:0]).remaining_ms)
        speed = terms.preference is Preference.SPEED
        end = len(self._pools) if speed or count >= len(self._pools) else count
        beyond = np.inf if end == len(self._pools) else float(self._floor[end])
        # Most of what is looked at closer for nothing is left out by one division.
        least_milli = need.work.flop * (_MILLI_MS * _SURE / window_ms) / self._flops[:end]
        at = np.flatnonzero(least_milli <= free[0][self._pools[:end]])
        if speed and count < len(at):
            floor = self._soonest(shape, window_ms, at)
            nearest = np.argpartition(floor, count)
            at, beyond = at[nearest[:count]], float(floor[nearest[count]])
        pools = self._pools[at]
        row = row_among(shape, self._board, now_ms, pools, self._seed, free)
        may: Bools = row.open
        if terms.budget_microcny is not None:
            may = may & within_budget(row.look, terms.budget_microcny, terms.array)
        if not may.all():
            at = np.flatnonzero(may)
            row = Row(row.look.take(at), row.pools[at], row.open[at], row.milli[at], row.memory[at])
        costs, key = row.look.costs, row.look.sizes.run_ms.astype(np.float64)
        if not speed:
            key = costs.carbon_mg if terms.preference is Preference.CARBON else costs.expected
        return row, int(key.searchsorted(beyond * _SURE))

    def _soonest(self, shape: Shape, window_ms: int, at: Ints) -> Floats:
        """No run is shorter than this, ms: with all the units that whole milli, cards and equal slots can add."""
        work, slots, columns = shape.requirement.work, shape.requirement.slots, self._board.columns
        assert work is not None
        pools, transfer = self._pools[at], self._transfer_ms[at]
        milli_ms = work.flop * _MILLI_MS / self._flops[at]
        milli = milli_ms / (np.maximum(window_ms - transfer, 1) * _SURE)
        cards = np.floor(milli / UNIT) + 1
        hosts = np.ceil(cards / np.maximum(columns.max_slot[pools] // UNIT, 1)) if slots == 1 else slots
        most = np.where(columns.accelerator[pools], (cards + hosts - 1) * UNIT, milli + 1 + slots)
        return milli_ms / most + transfer


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
            price = board.price(spot=terms.spot)[pools] + kw * board.hourly.least_power[pools]
            transfer = data_bytes(shape) * board.policy.transfer_microcny_per_gib / BYTES_PER_GIB
            floor = milli_ms / MILLI_MS_PER_UNIT_HOUR * price + transfer
        case Preference.CARBON:
            floor = milli_ms / MILLI_MS_PER_UNIT_HOUR * (kw * board.hourly.least_carbon[pools] * 1000)
        case Preference.SPEED:
            floor = np.zeros(len(pools))
    order = np.argsort(floor, kind="stable")
    return Ahead(board, seed, pools[order], floor[order], flops[order], whole.transfer_ms[order])
