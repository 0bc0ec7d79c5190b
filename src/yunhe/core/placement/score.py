"""Which of the pools that fit is best for a shape: an order over pools, the last tie broken explicitly."""

import numpy as np

from yunhe.core.demand import Preference
from yunhe.core.placement.columns import Floats, Ints
from yunhe.core.placement.look import Look


def ranking(look: Look, seed: int = 0) -> Ints:
    """Positions in `look.pools`, best first, by the preference of its shape.

    - cost: expected price, then run time.
    - speed: run time, then the transfer of the input data (a run that cannot be predicted hides it), then price.
    - carbon: expected carbon, then price.

    Equal pools follow the order of their ids, turned by `seed`: seed 0 begins with the first id, and other seeds
    spread equal work over equal pools.
    """
    price, run = look.costs.expected, look.sizes.run_ms
    keys: tuple[Ints | Floats, ...]
    match look.shape.terms.preference:
        case Preference.COST:
            keys = (price, run)
        case Preference.SPEED:
            keys = (run, look.sizes.transfer_ms, price)
        case Preference.CARBON:
            keys = (look.costs.carbon_mg, price)
    # Several times as fast as sorting by all keys, which only ties need.
    order = np.argsort(keys[0])
    first = keys[0][order]
    if not (first[1:] == first[:-1]).any():
        return order
    tie = (look.of(look.board.columns.id_rank) + seed) % max(len(look.board), 1)
    return np.lexsort((tie, *reversed(keys)))
