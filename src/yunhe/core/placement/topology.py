"""How far and how wide it is from place to place, along the links that are known.

    delay      the least sum of one-way delays over all paths (Dijkstra)
    bandwidth  the widest path: the most that the narrowest link on a path lets through, which is what the path in a
               maximum spanning tree lets through (T. C. Hu, "The Maximum Capacity Route Problem", Operations Research
               9(6), 1961)

Links go both ways.  Cycles and parallel links are fine, a link from a place to itself is not.  Where there is no graph,
distances are great circles (`yunhe.core.lines`), which is an assumption and no measurement.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from yunhe.core.errors import InvalidInput
from yunhe.core.lines import EARTH_RADIUS_KM, FIBRE_US_PER_KM, one_way_us
from yunhe.core.supply import Link

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NO_PATH = -1
_LONGEST_US = 10**12  # 12 days; sums over any path stay whole numbers in a float
_WIDEST_BPS = 2**52


class Topology:
    """Answers from each place are kept: one search serves all sites."""

    def __init__(self, links: tuple[Link, ...]) -> None:
        """Raises InvalidInput naming the link and its field."""
        import scipy.sparse.csgraph as graphs  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy, and only networks with links need it

        _check(links)
        self._graphs = graphs
        self.numbers: dict[str, int] = {}
        number = self.numbers.setdefault
        ends = np.array([(number(x.a, len(self.numbers)), number(x.b, len(self.numbers))) for x in links]).reshape(
            -1, 2
        )
        delay = np.array([link.one_way_us for link in links], dtype=np.float64)
        width = np.array([link.bandwidth_bps for link in links], dtype=np.float64)
        self._delays = _matrix(ends, delay, len(self.numbers))
        # The smallest weights make the maximum spanning tree; none is zero, which would be no link.
        tree = graphs.minimum_spanning_tree(_matrix(ends, _WIDEST_BPS + 1.0 - width, len(self.numbers)))
        self._tree = tree + tree.T
        self._delay_from: dict[str, Ints] = {}
        self._width_from: dict[str, Ints] = {}

    def delays_us(self, place: str) -> Ints:
        """One-way delay from each node to `place`, which must be one (KeyError), in microseconds; NO_PATH."""
        if place not in self._delay_from:
            found = self._graphs.dijkstra(self._delays, directed=True, indices=self.numbers[place])
            self._delay_from[place] = np.where(np.isinf(found), NO_PATH, found).astype(np.int64)
        return self._delay_from[place]

    def widest_bps(self, place: str) -> Ints:
        """What the widest path from each node to `place` lets through, bit/s; 0 where there is none."""
        if place not in self._width_from:
            start, tree = self.numbers[place], self._tree.tocsr()
            order, before = self._graphs.breadth_first_order(tree, start, directed=False)
            width = [0] * len(self.numbers)
            width[start] = _WIDEST_BPS
            if len(order) > 1:
                weights = np.asarray(tree[order[1:], before[order[1:]]]).ravel()
                narrow = (_WIDEST_BPS + 1 - weights).astype(np.int64)
                for node, link in zip(order[1:].tolist(), narrow.tolist(), strict=True):
                    width[node] = min(width[before[node]], link)
            self._width_from[place] = np.array(width, dtype=np.int64)
        return self._width_from[place]


@lru_cache(maxsize=4)
def topology_of(links: tuple[Link, ...]) -> Topology:
    """The graph of `links`, searched once however many rounds ask; a changed link makes another graph."""
    return Topology(links)


def _check(links: tuple[Link, ...]) -> None:
    for i, link in enumerate(links):
        if link.a == link.b:
            message = f"the link goes from {link.a[:40]!r} to itself"
            raise InvalidInput(message, field=f"links[{i}].b", hint="leave it out")
        # Also refuses NaN, which is not between anything.
        if not 0 <= link.one_way_us <= _LONGEST_US:
            message = f"the link from {link.a[:40]!r} to {link.b[:40]!r} has a delay of {link.one_way_us} us"
            raise InvalidInput(message, field=f"links[{i}].one_way_us", hint="a delay is between 0 and 10^12 us")
        if not 0 <= link.bandwidth_bps <= _WIDEST_BPS:
            message = f"the link from {link.a[:40]!r} to {link.b[:40]!r} has a bandwidth of {link.bandwidth_bps} bit/s"
            raise InvalidInput(message, field=f"links[{i}].bandwidth_bps", hint="a bandwidth is 0 to 2^52 bit/s")


def _matrix(ends: Ints, weight: Floats, nodes: int) -> Any:
    """Both ways; of parallel links the one with the least weight (a sparse matrix would add them up)."""
    from scipy.sparse import csr_array  # noqa: PLC0415 - as above

    row, column = np.concatenate((ends, ends[:, ::-1])).T
    value = np.concatenate((weight, weight))
    order = np.lexsort((value, column, row))
    row, column, value = row[order], column[order], value[order]
    first = np.ones(len(row), dtype=bool)
    first[1:] = (row[1:] != row[:-1]) | (column[1:] != column[:-1])
    return csr_array((value[first], (row[first], column[first])), shape=(nodes, nodes))


def great_circles_us(lat: Floats, lon: Floats, to: tuple[float, float], route_factor_percent: int) -> Ints:
    """`lines.one_way_us` from each of many points (degrees) to one; equal to it point by point."""
    north, east = np.radians(to[0] - lat) / 2, np.radians(to[1] - lon) / 2
    h = np.sin(north) ** 2 + np.cos(np.radians(lat)) * np.cos(np.radians(to[0])) * np.sin(east) ** 2
    us = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(1.0, np.sqrt(h))) * route_factor_percent / 100 * FIBRE_US_PER_KM
    found: Ints = np.ceil(us).astype(np.int64)
    # The last bit of a sine may differ between two libraries, which matters next to a whole number only.
    for i in np.flatnonzero(np.abs(us - np.rint(us)) < 1e-6).tolist():
        found[i] = one_way_us(float(lat[i]), float(lon[i]), *to, route_factor_percent)
    return found
