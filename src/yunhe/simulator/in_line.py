"""Orders that wait, by kind: so that a round over thousands looks at those alone that it could give something.

Of one customer's orders a round gives every kind at most as many places as there are for that kind alone, to those that
came first.  So the first of each kind, one more than there are places for, decide as the whole line does; the one more
is who is kept units for, or who stops the others where nobody may pass.  With several customers it is not so: how much
each of them asks for is part of the turns they take.
"""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from yunhe.core.demand import Shape


class Waiting(Protocol):
    """What of an order a decision depends on."""

    number: int
    id: str
    customer: int
    shape: Shape
    priority: int
    submitted_ms: int
    version: int


def turn(order: Waiting) -> tuple[int, int, str]:
    """Orders of one customer are looked at in this order."""
    return -order.priority, order.submitted_ms, order.id


class _Kind:
    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.orders: dict[int, Waiting] = {}
        self.sorted = True
        self.last: tuple[int, int, str] | None = None

    def add(self, order: Waiting) -> None:
        at = turn(order)
        if self.last is not None and at < self.last:  # it had been placed before
            self.sorted = False
        self.last = at
        self.orders[order.number] = order

    def first(self, count: int) -> list[Waiting]:
        if not self.sorted:
            in_turn = sorted(self.orders.values(), key=turn)
            self.orders = {order.number: order for order in in_turn}
            self.sorted, self.last = True, turn(in_turn[-1])
        return [order for order, _ in zip(self.orders.values(), range(count), strict=False)]


class InLine:
    """All orders that wait."""

    def __init__(self) -> None:
        # By the identity of the shape, which the kind keeps, and priority.
        self._kinds: dict[tuple[int, int], _Kind] = {}
        self._key: dict[int, tuple[int, int]] = {}  # of each order
        self.customers: Counter[int] = Counter()  # how many are of each

    def add(self, order: Waiting, shape: Shape) -> None:
        """`shape`: what a decision is asked about."""
        key = self._key[order.number] = (id(shape), order.priority)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind(shape)
        kind.add(order)
        self.customers[order.customer] += 1

    def remove(self, order: Waiting) -> None:
        key = self._key.pop(order.number)
        kind = self._kinds[key]
        del kind.orders[order.number]
        if not kind.orders:
            del self._kinds[key]
        self.customers[order.customer] -= 1
        if not self.customers[order.customer]:
            del self.customers[order.customer]

    def in_question(self, places: Callable[[Shape, int], int]) -> list[Waiting]:
        """Where they are one customer's: those that decide what a round gives; none where it gives nothing.

        `places`: how many of so many tasks of a shape there is room for now.
        """
        found: list[Waiting] = []
        some = False
        for kind in self._kinds.values():
            count = places(kind.shape, len(kind.orders))
            some = some or count > 0
            found += kind.first(count + 1)
        return sorted(found, key=turn) if some else []
