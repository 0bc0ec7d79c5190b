"""The hold of an order: the most that it can cost at any place that takes it. The same as over all offers of a quote,
without making them."""

import numpy as np

from yunhe.core.demand import Shape
from yunhe.core.placement.board import Board
from yunhe.core.placement.cost import hold_of
from yunhe.core.placement.feasible import feasible


def dearest_hold(shape: Shape, board: Board, now_ms: int) -> int | None:
    """Micro-CNY for all tasks at full load up to the run limit; None where no place takes it now or after waiting."""
    capacity, memory = board.columns.capacity, board.columns.memory
    fit = feasible(shape, board, capacity, memory, now_ms)
    pools = np.flatnonzero(fit.certified)
    if not len(pools):
        return None
    # Floats say which can be the dearest, integers what it costs.
    costs, sizes, supply = fit.look.costs, fit.look.sizes, board.supply
    close = pools[costs.hold_most[pools] >= costs.hold_least[pools].max()]
    return max(
        hold_of(shape, supply.pools[p], board.columns.sites[p], int(sizes.milli[p]), board.policy).total
        for p in close.tolist()
    )
