"""The nodes of a pool as columns: what is free on each, and which of them changed."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from yunhe.core.errors import InvalidInput, TooLarge
from yunhe.core.placement.columns import Bools, Ints
from yunhe.core.placement.packing.values import WHOLE, Need, Node

MAX_NODES = 1_000_000
MAX_MODELS = 64
FIRST_WHOLE = WHOLE + 2  # entry of no whole card in a row of a worth table, after the parts and one that never counts
MAX_CARDS = 64  # of one node; the largest scale-up hosts in the catalogue hold 16


class Fleet:
    """Position i is `nodes[i]`; a tie between nodes goes to the lowest position.

    `cards[j, i]` is what is free of card j of node i, 0 where there is no such card, and `free[i]` their sum.  What is
    free of node i moved last at change number `moved[i]`, out of `changes` so far.  `entries` are `cards` and one row
    more, 1002 + `whole`: where a node's cards stand in a row of a `WorthTable`.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        if not nodes:
            raise InvalidInput("a pool needs at least one node", field="nodes")
        if len(nodes) > MAX_NODES:
            raise TooLarge(f"at most {MAX_NODES} nodes in a pool", field="nodes")
        for node in nodes:
            _check(node)
        self.nodes = tuple(nodes)
        self.models = tuple(sorted({node.model for node in nodes}))
        if len(self.models) > MAX_MODELS:
            raise TooLarge(f"at most {MAX_MODELS} models of cards in a pool", field="nodes")
        index = {model: number for number, model in enumerate(self.models)}
        count, width = len(nodes), max(node.cards for node in nodes) or 1
        self.cpu: Ints = np.array([node.cpu_milli for node in nodes], dtype=np.int64)
        self.memory: Ints = np.array([node.memory_bytes for node in nodes], dtype=np.int64)
        self.model: Ints = np.array([index[node.model] for node in nodes], dtype=np.int64)
        self.installed: Ints = np.array([node.cards for node in nodes], dtype=np.int64)
        self.entries: Ints = np.empty((width + 1, count), dtype=np.int64)
        self.entries[:width] = np.where(np.arange(width)[:, None] < self.installed, WHOLE, 0)
        self.entries[width] = FIRST_WHOLE + self.installed
        self.cards: Ints = self.entries[:width]
        self.free: Ints = self.installed * WHOLE
        self.whole: Ints = self.installed.copy()  # cards of which nothing is taken
        self.largest: Ints = np.where(self.installed > 0, WHOLE, 0)  # the most that is free of one card
        self.changes = 0
        self.returns = 0  # how often something was given back
        self.moved: Ints = np.zeros(count, dtype=np.int64)

    def allowed(self, need: Need) -> Bools:
        """Per model of `models`: whether the need may go there."""
        return np.array([not need.models or model in need.models for model in self.models], dtype=bool)

    def fits(self, need: Need, at: npt.NDArray[np.intp] | slice = slice(None)) -> Bools:
        """Of the positions `at`: whether cores, memory, cards and model are there."""
        fit: Bools = (self.cpu[at] >= need.cpu_milli) & (self.memory[at] >= need.memory_bytes)
        if need.models:
            fit &= self.allowed(need)[self.model[at]]
        if need.shares:
            fit &= self.largest[at] >= need.card_milli
        elif need.cards:
            fit &= self.whole[at] >= need.cards
        return fit

    def take(self, at: int, need: Need, card: int = -1) -> tuple[int, ...]:
        """Take it at node `at`: of `card` where it shares one, else of the first whole cards. Returns the cards.

        Raises InvalidInput where it does not fit: nothing was taken then.
        """
        if not 0 <= at < len(self.nodes):
            raise InvalidInput(f"{at} is no position of {len(self.nodes)} nodes", field="node")
        used = (card,) if need.shares else self.first_whole(at, need.cards)
        row = self.cards[:, at]
        room = self.cpu[at] >= need.cpu_milli and self.memory[at] >= need.memory_bytes and len(used) == need.cards
        if not room or any(not 0 <= j < self.installed[at] or row[j] < need.card_milli for j in used):
            raise InvalidInput(f"{need} does not fit {self.nodes[at].name} on cards {used}", field="node")
        self._move(at, need, used, -1)
        return used

    def give_back(self, at: int, need: Need, used: Sequence[int]) -> None:
        """The task has ended that had taken the cards `used` of node `at`.

        Raises InvalidInput where more would be free than the node has: nothing was given back then.
        """
        if not 0 <= at < len(self.nodes):
            raise InvalidInput(f"{at} is no position of {len(self.nodes)} nodes", field="node")
        node, row = self.nodes[at], self.cards[:, at]
        over = self.cpu[at] + need.cpu_milli > node.cpu_milli or self.memory[at] + need.memory_bytes > node.memory_bytes
        if (
            over
            or len(set(used)) != need.cards
            or any(not 0 <= j < node.cards or row[j] + need.card_milli > WHOLE for j in used)
        ):
            raise InvalidInput(f"{need} was not taken at {node.name} on cards {tuple(used)}", field="node")
        self._move(at, need, used, 1)
        self.returns += 1

    def _move(self, at: int, need: Need, used: Sequence[int], sign: int) -> None:
        self.cpu[at] += sign * need.cpu_milli
        self.memory[at] += sign * need.memory_bytes
        if used:
            row = self.cards[:, at]
            for j in used:
                row[j] += sign * need.card_milli
            free = row.tolist()
            self.free[at] += sign * need.total_milli
            self.whole[at] = whole = free.count(WHOLE)
            self.entries[-1, at] = FIRST_WHOLE + whole
            self.largest[at] = max(free)
        self.changes += 1
        self.moved[at] = self.changes

    def first_whole(self, at: int, cards: int) -> tuple[int, ...]:
        """The first `cards` whole cards of node `at`, fewer where it has fewer."""
        if not cards:
            return ()
        return tuple(j for j, free in enumerate(self.cards[:, at].tolist()) if free == WHOLE)[:cards]


def check_need(need: Need) -> None:
    """Raises InvalidInput naming the field for what no task can ask of a node."""
    for field, value, most in (
        ("cpu_milli", need.cpu_milli, 2**53),
        ("memory_bytes", need.memory_bytes, 2**53),
        ("cards", need.cards, MAX_CARDS),
        ("card_milli", need.card_milli, WHOLE),
    ):
        if not 0 <= value <= most:
            raise InvalidInput(f"{value} is not between 0 and {most}", field=f"need.{field}")
    if bool(need.cards) != bool(need.card_milli):
        raise InvalidInput("cards and what is taken of each go together", field="need.card_milli")
    if need.shares and need.cards > 1:
        raise InvalidInput("a part is taken of one card only", field="need.cards", hint="ask for one card")


def _check(node: Node) -> None:
    if node.cpu_milli < 0 or node.memory_bytes < 0 or max(node.cpu_milli, node.memory_bytes) > 2**53:
        raise InvalidInput(f"{node.name}: cores and memory are between 0 and 2^53", field="nodes")
    if not 0 <= node.cards <= MAX_CARDS:
        raise TooLarge(f"{node.name}: a node has at most {MAX_CARDS} cards", field="nodes")
