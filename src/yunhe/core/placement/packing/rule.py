"""Yunhe's own packing policy: a task goes where it destroys least of what the tasks to come can use.

What is free on a node is worth what an optimal cutting of cards would make of it (`worth.priced`), and a little of what
the next task could use of it (`worth.usable`): the first sees gaps that fit together and gaps that nothing will ever
fill, the second sees cores that run out and tells apart what the first calls equal.  Differences below a grain are
none; of nodes that are then equal the one with the least free cards is taken, which keeps other nodes whole.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from yunhe.core.placement.columns import Floats
from yunhe.core.placement.packing.fleet import Fleet
from yunhe.core.placement.packing.values import WHOLE, Need
from yunhe.core.placement.packing.worth import WorthTable, levels, priced, usable

USABLE_SHARE = 0.1  # how much the second counts against the first
GRAIN_MILLI = 10


class LeastLoss:
    """The rule for a demand, given as how often each need is asked for."""

    def __init__(self, fleet: Fleet, demand: Mapping[Need, float]) -> None:
        total = sum(demand.values())
        shares = [(need, count / total) for need, count in demand.items()]
        thresholds = levels(shares)
        best, next_one = priced(fleet, shares, thresholds), usable(fleet, shares, thresholds)
        part = best.part + USABLE_SHARE * next_one.part
        self._table = WorthTable(thresholds, part, best.whole + USABLE_SHARE * next_one.whole)

    def costs(self, fleet: Fleet, need: Need, at: npt.NDArray[np.intp]) -> Floats:
        grains: Floats = np.floor(self._table.loss(fleet, need, at) / GRAIN_MILLI + 1e-9)
        grains += fleet.free.take(at) / (WHOLE * len(fleet.cards) + 1)
        return grains

    def card(self, fleet: Fleet, need: Need, at: int) -> int:
        return self._table.card(fleet, need, at)
