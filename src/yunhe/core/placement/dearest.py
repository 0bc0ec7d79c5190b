"""The hold of an order: the most that it can cost at any place that takes it. The same as over all offers of a quote,
without making them."""

import numpy as np

from yunhe.core.demand import Shape
from yunhe.core.placement.cost import hold_of
from yunhe.core.placement.feasible import feasible
from yunhe.core.policy import Policy
from yunhe.core.supply import Supply


def dearest_hold(shape: Shape, supply: Supply, policy: Policy, now_ms: int) -> int | None:
    """Micro-CNY for all tasks at full load up to the run limit; None where no place takes it now or after waiting."""
    fit = feasible((shape,), supply, policy, now_ms)
    pools = np.flatnonzero(fit.certified[0])
    if not len(pools):
        return None
    table = fit.table
    # Floats say which can be the dearest, integers what it costs.
    close = pools[table.costs.hold_most[0, pools] >= table.costs.hold_least[0, pools].max()]
    return max(
        hold_of(shape, supply.pools[p], table.columns.sites[p], int(table.sizes.milli[0, p]), policy).total
        for p in close.tolist()
    )
