"""What the free part of a node is worth to the tasks that come, in milli-cards that they can use.

The worth of a node with cards free by l_1, l_2, ... and c cores free is a sum over its cards,

    worth = sum over cards that are partly taken of part[model, level(c), l]  +  whole[model, level(c), n]

with n cards of which nothing is taken, and level(c) the number of thresholds that c reaches.  A table of it answers for
thousands of nodes by a few look-ups: the cost of a task is the worth that it destroys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yunhe.core.placement.columns import Floats, Ints
from yunhe.core.placement.packing.fleet import Fleet
from yunhe.core.placement.packing.prices import part_prices
from yunhe.core.placement.packing.values import WHOLE, Need

Demand = Sequence[tuple[Need, float]]  # what is asked for, with weights

MAX_LEVELS = 128


@dataclass(frozen=True, slots=True)
class WorthTable:
    """`part[m, k, l]` for l in 0..1000 (0 at 0 and at 1000), `whole[m, k, n]` for n whole cards; m as in the fleet.

    `thresholds` are in milli cores, ascending: at c cores free the level k is how many of them c reaches.
    """

    thresholds: Ints
    part: Floats
    whole: Floats

    def level(self, cpu_milli: Ints) -> Ints:
        return np.searchsorted(self.thresholds, cpu_milli, side="right")

    def of(self, fleet: Fleet, at: npt.NDArray[np.intp]) -> Floats:
        """The worth of the nodes `at` as they are."""
        return self._of(fleet, at, self.level(fleet.cpu[at]))

    def after(self, fleet: Fleet, need: Need, at: npt.NDArray[np.intp]) -> Floats:
        """The worth of the nodes `at` when each has taken the task, of the card where it does least harm."""
        level = self.level(fleet.cpu[at] - need.cpu_milli)
        worth = self._of(fleet, at, level)
        if need.shares:
            worth += self._by_card(fleet, need, at, level).max(axis=1)
        elif need.cards:
            model, whole = fleet.model[at], fleet.whole[at]
            worth += self.whole[model, level, whole - need.cards] - self.whole[model, level, whole]
        return worth

    def card(self, fleet: Fleet, need: Need, at: int) -> int:
        """The card of node `at` where a share does least harm; of equal ones the first."""
        one = np.array([at])
        level = self.level(fleet.cpu[one] - need.cpu_milli)
        return int(self._by_card(fleet, need, one, level)[0].argmax())

    def _of(self, fleet: Fleet, at: npt.NDArray[np.intp], level: Ints) -> Floats:
        model = fleet.model[at]
        base = (model * self.part.shape[1] + level) * (WHOLE + 1)
        parts: Floats = self.part.ravel()[base[:, None] + fleet.cards[at]].sum(axis=1)
        return parts + self.whole[model, level, fleet.whole[at]]

    def _by_card(self, fleet: Fleet, need: Need, at: npt.NDArray[np.intp], level: Ints) -> Floats:
        """The change of worth when the share is taken of each card; -inf where it does not fit."""
        model, whole, free = fleet.model[at], fleet.whole[at], fleet.cards[at]
        base = ((model * self.part.shape[1] + level) * (WHOLE + 1))[:, None]
        flat = self.part.ravel()
        last = self.whole[model, level, whole] - self.whole[model, level, np.maximum(whole - 1, 0)]
        before = np.where(free == WHOLE, last[:, None], flat[base + free])
        change = flat[base + np.maximum(free - need.card_milli, 0)] - before
        return np.where(free >= need.card_milli, change, -np.inf)


def usable(fleet: Fleet, demand: Demand, thresholds: Ints | None = None) -> WorthTable:
    """Expected milli-cards that the next task, drawn from `demand`, could use of a node.

    1 - worth / free is the fragmentation of Weng et al., "Beware of Fragmentation", ATC'23, section 3: a card counts for
    a task when the node could run it and the card has at least what it takes of one card.
    """
    thresholds = levels(demand) if thresholds is None else thresholds
    part, whole = _empty(fleet, thresholds)
    for need, weight in demand:
        if not need.cards:
            continue
        first, models = _from_level(thresholds, need), np.flatnonzero(fleet.allowed(need))
        if need.shares:
            part[models, first:, need.card_milli : WHOLE] += weight
            whole[models, first:, 1:] += weight
        else:
            whole[models, first:, need.cards :] += weight
    part *= np.arange(WHOLE + 1)
    whole *= WHOLE * np.arange(whole.shape[2])
    return WorthTable(thresholds, part, whole)


def priced(fleet: Fleet, demand: Demand, thresholds: Ints | None = None) -> WorthTable:
    """The best total price of parts that each card can still take, of the sizes that fit the node's cores and model.

    Prices are those of `part_prices`; a whole card is worth itself where some task can use it.  A task that goes where
    an optimal cutting of cards has it costs nothing; what it costs elsewhere is what that place wastes for good.
    """
    thresholds = levels(demand) if thresholds is None else thresholds
    part, whole = _empty(fleet, thresholds)
    counts: dict[int, float] = {}
    for need, weight in demand:
        if need.shares:
            counts[need.card_milli] = counts.get(need.card_milli, 0.0) + weight
    prices = part_prices(counts)
    takes = {size: np.zeros(part.shape[:2], dtype=bool) for size in prices}
    one = np.zeros(part.shape[:2], dtype=bool)  # some task takes whole cards, one at least
    for need, _ in demand:
        mask = takes.get(need.card_milli, None) if need.shares else one if need.cards else None
        if mask is not None:
            mask[np.flatnonzero(fleet.allowed(need)), _from_level(thresholds, need) :] = True
    worth = np.moveaxis(part, 2, 0)  # a view: the milli first
    offers = [(size, prices[size] * mask) for size, mask in takes.items() if prices[size] > 0]
    for free in range(1, WHOLE + 1):
        best = worth[free]
        np.copyto(best, worth[free - 1])
        for size, price in offers:
            if size <= free:
                np.maximum(best, worth[free - size] + price, out=best)
    full = np.where(one, float(WHOLE), worth[WHOLE])
    part[:, :, WHOLE] = 0.0
    whole[:] = full[:, :, None] * np.arange(whole.shape[2])
    return WorthTable(thresholds, part, whole)


def levels(demand: Demand) -> Ints:
    """Thresholds of cores for `demand`: what its tasks with cards take, thinned out to MAX_LEVELS."""
    asked = np.unique(np.array([need.cpu_milli for need, _ in demand if need.cards], dtype=np.int64))
    if len(asked) <= MAX_LEVELS:
        return asked
    return asked[np.linspace(0, len(asked) - 1, MAX_LEVELS).round().astype(np.int64)]


def _from_level(thresholds: Ints, need: Need) -> int:
    """The first level at which the cores surely suffice."""
    return int(np.searchsorted(thresholds, need.cpu_milli, side="left")) + 1


def _empty(fleet: Fleet, thresholds: Ints) -> tuple[Floats, Floats]:
    shape = (len(fleet.models), len(thresholds) + 1)
    return np.zeros((*shape, WHOLE + 1)), np.zeros((*shape, fleet.cards.shape[1] + 1))


def typical(counts: Mapping[Need, float], share: float) -> list[tuple[Need, float]]:
    """The most frequent needs that together make up `share` of all, with weights that sum to 1.

    Of equally frequent ones the larger comes first: by cores, then milli of a card, then cards, then models.
    """
    ranked = sorted(counts.items(), key=lambda item: (item[1], _size(item[0])), reverse=True)
    total, chosen, reached = sum(counts.values()), [], 0.0
    for need, count in ranked:
        if reached >= share * total:
            break
        chosen.append((need, count))
        reached += count
    return [(need, count / reached) for need, count in chosen]


def _size(need: Need) -> tuple[int, int, int, str]:
    return need.cpu_milli, need.card_milli, need.cards, "|".join(sorted(need.models))
