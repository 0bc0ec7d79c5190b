"""The packing policies that the FGD paper compares, by the text of Weng et al. (ATC'23) and the scores that their
simulator gives: whole numbers from 0 to 100, the highest wins, of equal ones the first node by name."""

import numpy as np
import numpy.typing as npt

from yunhe.core.placement.columns import Floats
from yunhe.core.placement.packing.fleet import Fleet
from yunhe.core.placement.packing.index import PackingIndex
from yunhe.core.placement.packing.values import WHOLE, Need
from yunhe.core.placement.packing.worth import WorthTable, cores_around

At = npt.NDArray[np.intp]

LARGEST_CPU_MILLI = 128_000  # of any node there: by these two they make cores and cards comparable
LARGEST_CARD_MILLI = 8_000


class TightestCard:
    """A share goes to the card with the least that suffices."""

    def card(self, fleet: Fleet, need: Need, at: int) -> int:
        free = fleet.cards[:, at]
        return int(np.where(free >= need.card_milli, free, 2 * WHOLE).argmin())


class BestFit(TightestCard):
    """Least left of cores and cards together, each as a share of the largest node's."""

    def costs(self, fleet: Fleet, need: Need, at: At) -> Floats:
        cpu = (fleet.cpu[at] - need.cpu_milli) / LARGEST_CPU_MILLI
        cards = (fleet.free[at] - need.total_milli) / LARGEST_CARD_MILLI
        return -np.floor((1 - (cpu + cards) / 2) * 100 + 1e-9)


class DotProduct(TightestCard):
    """Smallest product of what is free and what is asked (Tetris, SIGCOMM'14)."""

    def costs(self, fleet: Fleet, need: Need, at: At) -> Floats:
        cpu = fleet.cpu[at] / LARGEST_CPU_MILLI * (need.cpu_milli / LARGEST_CPU_MILLI)
        cards = fleet.free[at] / LARGEST_CARD_MILLI * (need.total_milli / LARGEST_CARD_MILLI)
        return -np.floor((1 - (cpu + cards) / 2) * 100 + 1e-9)


class Packing(TightestCard):
    """Cards in use before idle cards of nodes in use before idle nodes."""

    def costs(self, fleet: Fleet, need: Need, at: At) -> Floats:
        if not need.cards:
            return np.zeros(len(at))
        whole, installed = fleet.whole[at], fleet.installed[at]
        idle = np.maximum(33 - whole, whole)
        used = np.maximum(50 - need.cards, 33)
        if need.shares:
            free = fleet.cards[:, at]
            tightest = np.where((free >= need.card_milli) & (free < WHOLE), free, WHOLE).min(axis=0)
            shared = np.maximum(100 - tightest * 100 // WHOLE // 10, 50)
            used = np.where(tightest < WHOLE, shared, used)
        return -np.where(whole == installed, idle, used).astype(float)


class Clustering(TightestCard):
    """Tasks of one size together: nodes that hold only such tasks first, then such among others, then idle ones.

    Keeps what kinds of tasks each node has taken.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._index = PackingIndex(fleet, self)
        self._held = np.zeros((len(fleet.nodes), 0), dtype=bool)
        self._kinds: dict[int, int] = {}

    def place(self, need: Need) -> tuple[int, tuple[int, ...]] | None:
        placed = self._index.place(need)
        if placed is not None and need.cards:
            self._held[placed[0], self._kind(need)] = True
        return placed

    def _kind(self, need: Need) -> int:
        key = 0 if need.shares else need.cards
        if key not in self._kinds:
            self._kinds[key] = len(self._kinds)
            self._held = np.pad(self._held, ((0, 0), (0, 1)))
        return self._kinds[key]

    def costs(self, fleet: Fleet, need: Need, at: At) -> Floats:
        if not need.cards:
            return np.zeros(len(at))
        kind = self._kind(need)
        same, kinds = self._held[at, kind], self._held[at].sum(axis=1)
        rank = np.where(same, np.where(kinds == 1, 75, 50), np.where(kinds == 0, 25, 0))
        taken = 25 * (LARGEST_CARD_MILLI - fleet.free[at]) // LARGEST_CARD_MILLI
        return -(rank + taken).astype(float)


class Random:
    """Any node that fits, and any card of it that fits."""

    def __init__(self, seed: int, fleet: Fleet) -> None:
        self._draw = np.random.default_rng((seed, 1))
        self._index = PackingIndex(fleet, self)

    def costs(self, fleet: Fleet, need: Need, at: At) -> Floats:
        return np.zeros(len(at))

    def place(self, need: Need) -> tuple[int, tuple[int, ...]] | None:
        fitting = np.flatnonzero(np.isfinite(self._index.costs(need)))
        if not fitting.size:
            return None
        at = int(fitting[self._draw.integers(fitting.size)])
        fleet = self._index.fleet
        return at, fleet.take(at, need, self.card(fleet, need, at) if need.shares else -1)

    def card(self, fleet: Fleet, need: Need, at: int) -> int:
        return int(self._draw.choice(np.flatnonzero(fleet.cards[:, at] >= need.card_milli)))


class Fgd:
    """Fragmentation gradient descent: least growth of what a task drawn from the typical ones could not use."""

    def __init__(self, table: WorthTable) -> None:
        self._table = table

    def costs(self, fleet: Fleet, need: Need, at: At) -> Floats:
        before, after = self._table.around(fleet, need, at, cores_around(fleet, need, at))
        return -_score(need, after - before)

    def card(self, fleet: Fleet, need: Need, at: int) -> int:
        """The first card of the highest score, which is a whole number too."""
        one = np.array([at])
        cpu = cores_around(fleet, need, one)
        # What the cores alone change, without any card.
        cores = self._table.around(fleet, Need(need.cpu_milli), one, cpu)
        score = _score(need, cores[1, 0] - cores[0, 0] + self._table.by_card(fleet, need, at))
        # A card that does well by no task scores 0 like one where the share does not fit.
        return int(np.where(fleet.cards[:, at] >= need.card_milli, score, -1).argmax())


def _score(need: Need, more: Floats) -> Floats:
    """0 to 100 by how many cards fragments become less; `more` is what becomes usable, in milli."""
    return np.floor(100 / (1 + np.exp(-(need.total_milli + more) / WHOLE)) + 1e-9)
