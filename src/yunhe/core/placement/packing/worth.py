"""What the free part of a node is worth to the tasks that come, in milli-cards that they can use.

The worth of a node with cards free by l_1, l_2, ... and c cores free is a sum over its cards,

    worth = sum over cards that are partly taken of part[model, level(c), l]  +  whole[model, level(c), n]

with n cards of which nothing is taken, and level(c) the number of thresholds that c reaches.  A table of it answers for
thousands of nodes by a few look-ups: the cost of a task is the worth that it destroys.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from yunhe.core.placement.columns import Floats, Ints
from yunhe.core.placement.packing.fleet import Fleet
from yunhe.core.placement.packing.prices import part_prices
from yunhe.core.placement.packing.values import WHOLE, Need

Positions = npt.NDArray[np.intp]
Demand = Sequence[tuple[Need, float]]  # what is asked for, with weights

MAX_LEVELS = 128
MAX_KEPT = 2**25  # numbers (256 MiB) that a table keeps about sizes that were asked for


class WorthTable:
    """`part[m, k, l]` for l in 0..1000 (0 at 0 and at 1000), `whole[m, k, n]` for n whole cards; m as in the fleet.

    `thresholds` are in milli cores, ascending: at c cores free the level k is how many of them c reaches.

    All rows (m, k) lie in one flat table, each with the parts, one entry that is never counted, and the whole cards:
    `Fleet.entries` are positions in such a row, so that the worth of a node is the sum of what is found there.
    """

    def __init__(self, thresholds: Ints, part: Floats, whole: Floats) -> None:
        self.thresholds, self.part, self.whole = thresholds, part, whole
        never = np.full((*part.shape[:2], 1), -np.inf)
        rows = np.concatenate([part, never, whole], axis=2)
        self._width = rows.shape[2]
        self._flat = rows.ravel()
        # By size of a part: what each entry of a row changes by when such a part is taken there.
        self._taken: dict[int, Floats] = {}

    def of(self, fleet: Fleet, at: Positions) -> Floats:
        """The worth of the nodes `at` as they are."""
        worth: Floats = self._flat.take(self._first(fleet, at, fleet.cpu[at]) + fleet.entries[:, at]).sum(axis=0)
        return worth

    def around(self, fleet: Fleet, need: Need, at: Positions, cpu: Ints) -> Floats:
        """The worth of the nodes `at` without the task (row 0) and with it, on the card where it does least harm.

        `cpu` are the cores free in both cases, see `cores_around`.
        """
        first = self._first(fleet, at, cpu)
        entries = first[:, None, :] + fleet.entries.take(at, axis=1)
        if need.shares:
            worth: Floats = self._flat.take(entries).sum(axis=1)
            worth[1] += self._changes(need.card_milli).take(entries[1]).max(axis=0)
        else:
            entries[1, -1] -= need.cards  # the cards taken count by this alone: `part` has 0 for a whole card
            worth = self._flat.take(entries).sum(axis=1)
        return worth

    def by_card(self, fleet: Fleet, need: Need, at: int) -> Floats:
        """By how much node `at` is worth more with the part of each card taken; -inf where it does not fit."""
        level = int(self.thresholds.searchsorted(fleet.cpu[at] - need.cpu_milli, side="right"))
        first = (int(fleet.model[at]) * self.part.shape[1] + level) * self._width
        changes = self._changes(need.card_milli).take(fleet.entries[:, at] + first)
        more: Floats = np.where(fleet.cards[:, at] == WHOLE, changes[-1], changes[:-1])
        return more

    def card(self, fleet: Fleet, need: Need, at: int) -> int:
        """The card of node `at` where a share does least harm; of equal ones the first."""
        return int(self.by_card(fleet, need, at).argmax())

    def _first(self, fleet: Fleet, at: Positions, cpu_milli: Ints) -> Ints:
        """Where in the flat table the row of each node begins, with that many cores free."""
        row = self.thresholds.searchsorted(cpu_milli, side="right")
        row += fleet.model.take(at) * self.part.shape[1]
        row *= self._width
        return row

    def _changes(self, size: int) -> Floats:
        if size not in self._taken:
            if len(self._taken) >= max(4, MAX_KEPT // self._flat.size):
                self._taken.clear()
            rows = self._flat.reshape(-1, self._width)
            change = np.full_like(rows, -np.inf)
            change[:, size:WHOLE] = rows[:, : WHOLE - size] - rows[:, size:WHOLE]
            # Of a whole card: it becomes a part, and there is one whole card less.
            change[:, WHOLE + 3 :] = rows[:, WHOLE - size, None] + rows[:, WHOLE + 2 : -1] - rows[:, WHOLE + 3 :]
            self._taken[size] = change.ravel()
        return self._taken[size]


def cores_around(fleet: Fleet, need: Need, at: Positions) -> Ints:
    """Milli cores free of the nodes `at` without the task (row 0) and with it."""
    free: Ints = fleet.cpu.take(at) - np.array([[0], [need.cpu_milli]])
    return free


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
