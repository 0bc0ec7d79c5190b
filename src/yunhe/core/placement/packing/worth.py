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

Positions = npt.NDArray[np.intp]
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

    def of(self, fleet: Fleet, at: Positions) -> Floats:
        """The worth of the nodes `at` as they are."""
        model = fleet.model[at]
        return self._sum(fleet.cards[:, at], fleet.whole[at], self._row(model, fleet.cpu[at]))

    def around(self, fleet: Fleet, need: Need, at: Positions) -> tuple[Floats, Floats]:
        """The worth of the nodes `at` without and with the task, on the card where it does least harm."""
        model, cpu = fleet.model.take(at), fleet.cpu.take(at)
        cards, whole = fleet.cards.take(at, axis=1), fleet.whole.take(at)
        before, after = self._row(model, cpu), self._row(model, cpu - need.cpu_milli)
        without = self._sum(cards, whole, before)
        if not need.shares:
            return without, self._sum(cards, whole - need.cards, after)
        return without, self._sum(cards, whole, after) + self._by_card(need, cards, whole, after).max(axis=0)

    def card(self, fleet: Fleet, need: Need, at: int) -> int:
        """The card of node `at` where a share does least harm; of equal ones the first."""
        one = np.array([at])
        row = self._row(fleet.model[one], fleet.cpu[one] - need.cpu_milli)
        return int(self._by_card(need, fleet.cards[:, one], fleet.whole[one], row)[:, 0].argmax())

    def _row(self, model: Ints, cpu_milli: Ints) -> Ints:
        """Which row of the flat tables is for such nodes."""
        row: Ints = model * self.part.shape[1] + self.thresholds.searchsorted(cpu_milli, side="right")
        return row

    def _sum(self, cards: Ints, whole: Ints, row: Ints) -> Floats:
        """Of nodes with such cards. A whole card counts by `whole` alone: `part` has 0 for it."""
        parts: Floats = self.part.take(row * (WHOLE + 1) + cards).sum(axis=0)
        parts += self.whole.take(row * self.whole.shape[2] + whole)
        return parts

    def _by_card(self, need: Need, cards: Ints, whole: Ints, row: Ints) -> Floats:
        """The change of worth when the share is taken of each card; -inf where it does not fit."""
        base, count = row * (WHOLE + 1), row * self.whole.shape[2] + whole
        last = self.whole.take(count) - self.whole.take(count - np.minimum(whole, 1))
        left = cards - need.card_milli
        before = np.where(cards == WHOLE, last, self.part.take(base + cards))
        change = self.part.take(base + np.maximum(left, 0)) - before
        return np.where(left >= 0, change, -np.inf)


def usable(fleet: Fleet, demand: Demand, thresholds: Ints | None = None) -> WorthTable:
    """Expected milli-cards that the next task, drawn from `demand`, could use of a node.

    1 - worth / free is the fragmentation of Weng et al., "Beware of Fragmentation", ATC'23, section 3: a card counts
    for a task when the node could run it and the card has at least what it takes of one card.
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
    return np.zeros((*shape, WHOLE + 1)), np.zeros((*shape, len(fleet.cards) + 1))


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
