"""Which pools a relaxation should start with, by prices that are guessed.

Every kind spreads its tasks over pools, the more the cheaper they are with what the pool's units cost; where more is
asked for than is free, the price rises, and it falls where less is.  Few steps, and a spread that becomes narrower
with each, give prices some percent off the best, which tell the pools that matter from those that do not.  Memory and
budgets play no part in the prices.  Only sums, products and quotients are used: the same on every machine.
"""

from typing import NamedTuple

import numpy as np

from yunhe.core.placement.columns import Bools, Floats, Ints
from yunhe.core.placement.family import Family

_STEPS = 20
_WIDEST, _NARROWEST = 0.3, 0.02  # of the spread, relative to the cost at the best pool
_PACE = 0.7
_DEEPER = 1.5  # pools that are looked at: so many times as far down as tasks are now, and some more
_MORE = 16
_CLOSE = 0.02  # pools so much dearer than the last one that is needed still matter
_LEAST, _MOST = 12, 64  # pools of a kind, and how many beyond those that are needed


class _Flat(NamedTuple):
    """The first pools of all families, one after the other."""

    family: Ints
    start: Ints  # of each family
    element: Ints
    pool: Ints  # numbered anew
    cost: Floats
    milli: Floats
    most: Floats
    level: Ints
    free: Floats  # of each pool


def likely(families: list[Family], free: Ints) -> list[Ints]:
    """Elements of each family that may be of use, and those where it has tasks now."""
    cuts = [_cut(family) for family in families]
    flat = _flatten(families, cuts, free)
    needs = np.array([family.needs[-1] for family in families], dtype=np.float64)
    reduced, best = _reduced(flat, needs)
    order = np.lexsort((reduced, flat.family))
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order] = _enough(families, flat, needs, (reduced / best[flat.family])[order], order)
    chosen[np.concatenate([family.has + start for family, start in zip(families, flat.start, strict=True)])] = True
    at = np.flatnonzero(chosen)
    return np.split(flat.element[at], np.searchsorted(flat.family[at], np.arange(1, len(families))))


def _cut(family: Family) -> int:
    return min(len(family.pools), int(_DEEPER * (int(family.has.max()) + 1)) + _MORE)


def _flatten(families: list[Family], cuts: list[int], free: Ints) -> _Flat:
    def column(name: str) -> Ints:
        return np.concatenate([getattr(family, name)[:cut] for family, cut in zip(families, cuts, strict=True)])

    start = np.cumsum([0, *cuts[:-1]])
    family = np.repeat(np.arange(len(families)), cuts)
    used = np.zeros(len(free), dtype=bool)
    pools = column("pools")
    used[pools] = True
    number = np.cumsum(used) - 1
    return _Flat(
        family,
        start,
        np.arange(len(family)) - start[family],
        number[pools],
        np.asarray(column("cost"), dtype=np.float64),
        column("milli").astype(np.float64),
        column("most").astype(np.float64),
        column("level"),
        np.maximum(free[used], 1).astype(np.float64),
    )


def _reduced(flat: _Flat, needs: Floats) -> tuple[Floats, Floats]:
    """Cost with prices of each element, and the least of each family."""
    price = np.zeros(len(flat.free))
    for step in range(_STEPS):
        width = _WIDEST + (_NARROWEST - _WIDEST) * step / (_STEPS - 1)
        reduced = flat.cost + price[flat.pool] * flat.milli
        best = np.maximum(np.minimum.reduceat(reduced, flat.start), 1.0)[flat.family]
        # Falls like exp(-x) near the best and less far from it.
        share = 1 / (1 + (reduced / best - 1) / (8 * width))
        share *= share
        share *= share
        share *= share * flat.most
        asked = needs / np.add.reduceat(share, flat.start)
        units = np.minimum(share * asked[flat.family], flat.most) * flat.milli
        load = np.bincount(flat.pool, units, len(price))
        worth = np.bincount(flat.pool, units * best / flat.milli, len(price)) / np.maximum(load, 1e-9)
        price = np.maximum(0, price + 2 * _PACE * width * worth * (load - flat.free) / (load + flat.free))
    reduced = flat.cost + price[flat.pool] * flat.milli
    return reduced, np.maximum(np.minimum.reduceat(reduced, flat.start), 1.0)


def _enough(families: list[Family], flat: _Flat, needs: Floats, value: Floats, order: Ints) -> Bools:
    """In each family's order of `value`: what its tasks need, within each budget too, what is close, and some more."""
    family, most, level = flat.family[order], flat.most[order], flat.level[order]
    nth = flat.element  # within a family the positions are the same in any order
    before = _before(most, flat.start, family)
    needed = before < needs[family]
    last = flat.start + np.add.reduceat(needed.astype(np.int64), flat.start) - 1
    count = last - flat.start + 1
    close = value <= value[last][family] * (1 + _CLOSE)
    some = nth < np.maximum(_LEAST, np.minimum(2 * count, count + _MOST))[family]
    found: Bools = needed | (close & (nth < (count + 4 * _MOST)[family])) | some
    budgets = np.array([len(each.needs) for each in families])
    for j in range(int(budgets.max()) - 1):
        at = np.flatnonzero((budgets > j + 1)[family] & (level <= j))
        if len(at):
            of = family[at]
            starts = np.flatnonzero(np.concatenate(([True], of[1:] != of[:-1])))
            number = np.cumsum(np.concatenate(([0], (of[1:] != of[:-1]).astype(np.int64))))
            within = np.array([each.needs[j] if len(each.needs) > j else 0 for each in families], dtype=np.float64)
            found[at] |= _before(most[at], starts, number) < within[of]
    return found


def _before(most: Floats, start: Ints, number: Ints) -> Floats:
    """Tasks that the elements before each one of the same family hold."""
    before = np.cumsum(most) - most
    return before - before[start][number]
