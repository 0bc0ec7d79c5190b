"""Yunhe's own packing policy: a task goes where it destroys least of what the tasks to come can use.

Free cards are worth what an optimal cutting would make of them (`worth.priced`) and a little of what the next task
could use of them (`worth.usable`): the first sees gaps that fit together and gaps that nothing will ever fill, the
second tells apart what the first calls equal.  Cards without cores are worth nothing, and cores without cards neither:
with C what the cards are worth and B what the free cores could carry, a node is worth (C^-4 + B^-4)^(-1/4), the smaller
of the two with its corner rounded.  So a task that takes many cores and few cards goes to nodes that have cores to
spare, before anything runs out there.

Losses below a grain are none; of nodes that are then equal the one with least free on its cards is taken, which keeps
other nodes whole.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from yunhe.core.placement.columns import Floats
from yunhe.core.placement.packing.fleet import Fleet
from yunhe.core.placement.packing.values import WHOLE, Need
from yunhe.core.placement.packing.worth import Demand, WorthTable, cores_around, levels, priced, usable

# Set by a look at 30 made-up clusters (benchmarks/placement/generated.py, seeds 100 to 129); not sensitive.
USABLE_SHARE = 0.1  # how much what is usable counts against what is best
CORES_CARRY = 3.0  # cards that free cores carry, over what they carry in the mean: tasks can be chosen to suit
GRAIN_MILLI = 10
_TINY = 1e-9


class LeastLoss:
    """The rule for a demand, given as how often each need is asked for."""

    def __init__(self, fleet: Fleet, demand: Mapping[Need, float]) -> None:
        total = sum(demand.values())
        shares = [(need, count / total) for need, count in demand.items()]
        thresholds = levels(shares)
        best, next_one = priced(fleet, shares, thresholds), usable(fleet, shares, thresholds)
        part = best.part + USABLE_SHARE * next_one.part
        self._table = WorthTable(thresholds, part, best.whole + USABLE_SHARE * next_one.whole)
        self._carry = (CORES_CARRY * _milli_per_core_milli(fleet, shares))[fleet.model]  # per node
        self._least_free = 1.0 / (WHOLE * len(fleet.cards) + 1)

    def costs(self, fleet: Fleet, need: Need, at: npt.NDArray[np.intp]) -> Floats:
        cpu = cores_around(fleet, need, at)
        worth = self._table.around(fleet, need, at, cpu)
        ratio = worth / (cpu * self._carry.take(at) + _TINY)
        ratio *= ratio
        ratio *= ratio
        ratio += 1.0
        np.sqrt(ratio, out=ratio)
        worth /= np.sqrt(ratio, out=ratio)
        grains: Floats = np.floor((worth[0] - worth[1]) * (1.0 / GRAIN_MILLI) + 1e-9)
        grains += fleet.free.take(at) * self._least_free
        return grains

    def card(self, fleet: Fleet, need: Need, at: int) -> int:
        return self._table.card(fleet, need, at)


def _milli_per_core_milli(fleet: Fleet, demand: Demand) -> Floats:
    """Per model: milli of cards that tasks with cards take for each milli of a core, all such tasks together."""
    cards, cores = np.zeros(len(fleet.models)), np.zeros(len(fleet.models))
    for need, weight in demand:
        if need.cards:
            allowed = fleet.allowed(need)
            cards += allowed * (weight * need.total_milli)
            cores += allowed * (weight * need.cpu_milli)
    carried: Floats = np.maximum(cards, _TINY) / np.maximum(cores, _TINY)
    return carried
