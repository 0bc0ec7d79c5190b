"""Which running work goes when its units are needed: the least work lost.

One rule for a site that takes back what it lent and for whoever else ends work that may be ended.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
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
MOST_STEPS = 2_000  # of the search for the least of all


def choose(running: Sequence[T], units: int, memory: int) -> tuple[T, ...]:
    """Work that frees `units` (1/1000) and `memory` (bytes) together, with little of it lost and few units moved; all
    of it when that is not enough.

    Covering a sum at the least cost is a knapsack problem. By the work lost per unit (which is `at_risk_ms`), each
    piece that is enough with the smaller ones before it closes a choice, and the cheapest of these loses at most twice
    what has to be lost (Csirik, Frenk, Labbe, Zhang 1991). Then a bounded search looks for less; what it can go
    through as a whole, the few leases of most pools, comes out at the very least. What turned out to be needless stays
    where it is.
    """
    by_loss = sorted(running, key=lambda one: (one.at_risk_ms, one.milli, one.memory_bytes, one.key))
    taken = _search(by_loss, units, memory, _cheap(by_loss, units, memory))
    return _needed(taken, units, memory)


def waste(one: Reclaimable) -> int:
    """Work that is done once more when it is ended now, milli-unit ms."""
    return one.milli * one.at_risk_ms


def cost(taken: Sequence[Reclaimable]) -> tuple[int, int]:
    """Work that is lost, milli-unit ms, and units that move."""
    return sum(waste(one) for one in taken), sum(one.milli for one in taken)


def _cheap(by_loss: Sequence[T], units: int, memory: int) -> list[T]:
    """At most twice the least cost; all that helps where it is not enough."""
    if units <= 0 and memory <= 0:
        return []
    small: list[T] = []
    best: tuple[tuple[int, int], int, T] | None = None  # its cost; how many of `small` it takes, and what closes it
    lost, moved, bytes_ = 0, 0, 0
    for one in by_loss:
        if moved + one.milli >= units and bytes_ + one.memory_bytes >= memory:
            closed = (lost + waste(one), moved + one.milli)
            if best is None or closed < best[0]:
                best = closed, len(small), one
        elif (one.milli and units > 0) or (one.memory_bytes and memory > 0):
            small.append(one)
            lost, moved, bytes_ = lost + waste(one), moved + one.milli, bytes_ + one.memory_bytes
    return small if best is None else [*small[: best[1]], best[2]]


def _search(by_loss: Sequence[T], units: int, memory: int, known: list[T]) -> list[T]:
    """Cheaper than `known`, or `known`: depth first, in the order of `by_loss`, each piece taken before it is left out.

    Units that are still missing cost no less than if the next pieces could be taken in part.
    """
    milli = [0, *accumulate(one.milli for one in by_loss)]
    lost_by = [0, *accumulate(waste(one) for one in by_loss)]
    freed = [0, *accumulate(one.memory_bytes for one in by_loss)]
    if milli[-1] < units or freed[-1] < memory:
        return known
    best, least = known, cost(known)
    # (next piece, pieces taken as a chain, work lost, units moved, memory freed)
    open_: list[tuple[int, tuple[Any, ...], int, int, int]] = [(0, (), 0, 0, 0)]
    for _ in range(MOST_STEPS):
        if not open_:
            break
        i, chain, lost, moved, bytes_ = open_.pop()
        if moved >= units and bytes_ >= memory:
            if (lost, moved) < least:
                best, least = _unchained(chain), (lost, moved)
            continue
        missing = max(0, units - moved)
        if milli[-1] - milli[i] < missing or bytes_ + freed[-1] - freed[i] < memory:
            continue
        whole = bisect_right(milli, milli[i] + missing, i) - 1  # so far the next pieces are needed as a whole
        part = milli[i] + missing - milli[whole]
        bound = lost_by[whole] - lost_by[i] + (part * by_loss[whole].at_risk_ms if part else 0)
        if (lost + bound, moved + missing) >= least:
            continue
        one = by_loss[i]
        open_.append((i + 1, chain, lost, moved, bytes_))
        open_.append((i + 1, (chain, one), lost + waste(one), moved + one.milli, bytes_ + one.memory_bytes))
    return best


def _unchained(chain: tuple[Any, ...]) -> list[Any]:
    found = []
    while chain:
        chain, one = chain
        found.append(one)
    return found[::-1]


def _needed(taken: list[T], units: int, memory: int) -> tuple[T, ...]:
    """Without what turned out to be needless, the most work first."""
    over = sum(one.milli for one in taken) - units
    over_bytes = sum(one.memory_bytes for one in taken) - memory
    needless = set()
    for one in sorted(taken, key=lambda one: (-waste(one), -one.milli, one.key)):
        if one.milli <= over and one.memory_bytes <= over_bytes:
            needless.add(one.key)
            over, over_bytes = over - one.milli, over_bytes - one.memory_bytes
    return tuple(one for one in taken if one.key not in needless)
