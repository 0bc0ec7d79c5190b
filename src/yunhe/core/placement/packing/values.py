"""What packing works on. `_milli` is 1/1000 of a core or of a card; memory is in bytes."""

from dataclasses import dataclass

WHOLE = 1000  # milli of a whole card


@dataclass(frozen=True, slots=True)
class Node:
    """One host. `model` names its cards, all alike; a node without cards has "" there."""

    name: str
    cpu_milli: int
    memory_bytes: int
    cards: int = 0
    model: str = ""


@dataclass(frozen=True, slots=True)
class Need:
    """What one task takes of one node: `card_milli` of each of `cards` different cards.

    A part of a card (`card_milli` below 1000) is asked for of one card only.  `models` empty: any node.
    Hashable: tasks of equal needs are scored once.
    """

    cpu_milli: int
    memory_bytes: int = 0
    cards: int = 0
    card_milli: int = 0
    models: frozenset[str] = frozenset()

    @property
    def total_milli(self) -> int:
        """Of all its cards."""
        return self.cards * self.card_milli

    @property
    def shares(self) -> bool:
        """Takes a part of one card."""
        return 0 < self.card_milli < WHOLE
