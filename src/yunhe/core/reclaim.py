"""Which running work goes when its units are needed: the least work lost.

One rule for a site that takes back what it lent and for whoever else ends work that may be ended.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar


class Reclaimable(Protocol):
    """Work that may be ended. `at_risk_ms`: what it ran since its start or its newest checkpoint; `key` parts ties."""

    @property
    def key(self) -> Any: ...
    @property
    def milli(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def at_risk_ms(self) -> int: ...


T = TypeVar("T", bound=Reclaimable)


def choose(running: Sequence[T], units: int, memory: int) -> tuple[T, ...]:
    """Work that frees `units` (1/1000) and `memory` (bytes) together, with little of it lost and few units moved; all
    of it when that is not enough.

    Covering a sum at the least cost is a knapsack problem. By the work lost per unit (which is `at_risk_ms`), each
    piece that is enough with the smaller ones before it closes a choice, and the cheapest of these loses at most twice
    what has to be lost (Csirik, Frenk, Labbe, Zhang 1991). What turned out to be needless in it stays where it is.
    """
    by_loss = sorted(running, key=lambda one: (one.at_risk_ms, one.milli, one.memory_bytes, one.key))
    small: list[T] = []
    closed: list[list[T]] = []
    if _enough(small, units, memory):
        return ()
    for one in by_loss:
        if _enough([*small, one], units, memory):
            closed.append([*small, one])
        elif (one.milli and units > 0) or (one.memory_bytes and memory > 0):
            small.append(one)
    taken = min(closed, key=_cost, default=small)
    for one in sorted(taken, key=lambda one: (-waste(one), -one.milli, one.key)):
        others = [other for other in taken if other is not one]
        if _enough(others, units, memory):
            taken = others
    return tuple(taken)


def waste(one: Reclaimable) -> int:
    """Work that is done once more when it is ended now, milli-unit ms."""
    return one.milli * one.at_risk_ms


def _enough(taken: Sequence[Reclaimable], units: int, memory: int) -> bool:
    return sum(one.milli for one in taken) >= units and sum(one.memory_bytes for one in taken) >= memory


def _cost(taken: Sequence[Reclaimable]) -> tuple[int, int]:
    return sum(waste(one) for one in taken), sum(one.milli for one in taken)
