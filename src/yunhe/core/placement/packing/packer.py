"""Packing as a running site does it: tasks come and go, and what will come is learned from what came."""

from collections.abc import Sequence

from yunhe.core.placement.packing.fleet import Fleet, check_need
from yunhe.core.placement.packing.index import PackingIndex
from yunhe.core.placement.packing.rule import LeastLoss
from yunhe.core.placement.packing.values import Need, Node

FIRST_LOOK = 64  # tasks after which the demand is looked at for the first time; then whenever twice as many have come
MEMORY = 2**16  # tasks; beyond them all counts are halved, so that old demand fades


class Packer:
    """Nodes of one pool and the tasks on them. Not thread-safe; the caller keeps what `place` returned."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.fleet = Fleet(nodes)
        self._seen: dict[Need, float] = {}
        self._total = 0.0
        self._next_look = float(FIRST_LOOK)
        self._index: PackingIndex | None = None

    def place(self, need: Need) -> tuple[int, tuple[int, ...]] | None:
        """The node's position and the cards that the task has now, None when no node fits.

        Raises InvalidInput, naming the field, for a need that no task can have.
        """
        if need not in self._seen:
            check_need(need)
        self._learn(need)
        if self._index is None or self._total >= self._next_look:
            self._next_look = max(2 * self._total, FIRST_LOOK)
            self._index = PackingIndex(self.fleet, LeastLoss(self.fleet, self._seen))
        return self._index.place(need)

    def end(self, at: int, need: Need, cards: Sequence[int]) -> None:
        """The task that had `cards` of node `at` is over.

        Raises InvalidInput where it cannot have had them.
        """
        self.fleet.give_back(at, need, cards)

    def _learn(self, need: Need) -> None:
        self._seen[need] = self._seen.get(need, 0.0) + 1.0
        self._total += 1.0
        if self._total > MEMORY:
            self._seen = {each: count / 2 for each, count in self._seen.items() if count >= 1.0}
            self._total = sum(self._seen.values())
            self._next_look = self._total  # look again now
