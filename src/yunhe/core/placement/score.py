"""Which of the pools that fit is best for a class of shapes: an order over pools, the last tie broken explicitly."""

import numpy as np

from yunhe.core.demand import Preference
from yunhe.core.placement.columns import Ints
from yunhe.core.placement.feasible import Fit


def ranked(fit: Fit, group: int, pools: Ints, seed: int = 0) -> Ints:
    """`pools` (positions), best first, by the preference of class `group`.

    - cost: expected price, then run time.
    - speed: run time, then the transfer of the input data (a run that cannot be predicted hides it), then price.
    - carbon: expected carbon, then price.

    Equal pools follow the order of their ids, turned by `seed`: seed 0 begins with the first id, and other seeds
    spread equal work over equal pools.
    """
    table = fit.table
    price = table.costs.expected[group, pools]
    run = table.sizes.run_ms[group, pools]
    tie = (table.columns.id_rank[pools] + seed) % max(len(table.columns), 1)
    match table.shapes[group].terms.preference:
        case Preference.COST:
            order = np.lexsort((tie, run, price))
        case Preference.SPEED:
            order = np.lexsort((tie, price, table.sizes.transfer_ms[group, pools], run))
        case Preference.CARBON:
            order = np.lexsort((tie, price, table.costs.carbon_mg[group, pools]))
    return pools[order]
