"""The network as placement sees it: columns, and every answer that many shapes share, computed once.

A board holds what sites and pools are, not what is free of them, so it serves as long as they stay what they are: one
round, or all decisions between two changes of the network.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from yunhe.core.demand import Precision
from yunhe.core.placement.columns import ANY, Bools, Columns, Floats, Ints, columns
from yunhe.core.placement.hourly import Hourly
from yunhe.core.placement.topology import NO_PATH, Topology, great_circles_us, topology_of
from yunhe.core.policy import Policy
from yunhe.core.supply import Free, Pool, Supply
from yunhe.core.tariff import unit_price

UNKNOWN_US = -1
NO_RATE = 10**18  # stands where `known` is False; large, so that what is divided by it stays small
_MOST_MASKS = 10_000  # one byte a pool each


@dataclass(frozen=True, slots=True)
class Rates:
    """Trusted FLOP/s of one unit per pool; `known` tells where there is none."""

    flops: Ints
    known: Bools


class Board:
    """`supply.free` plays no part in it."""

    def __init__(self, supply: Supply, policy: Policy, until_ms: Ints | None = None) -> None:
        """`until_ms`: each pool takes only what is certain to be gone by then (see `booking`); None: anything."""
        self.supply = supply
        self.policy = policy
        self.until_ms = until_ms
        self.columns: Columns = columns(supply)
        power, carbon = self.columns.power_price, self.columns.carbon.astype(np.float64)
        self.hourly = Hourly(supply.sites, self.columns.site_index, power, carbon)
        self.all: Ints = np.arange(len(supply.pools))
        self.topology: Topology | None = topology_of(supply.links) if supply.links else None
        numbers = self.topology.numbers if self.topology else {}
        self._node = np.array([numbers.get(site.id, -1) for site in supply.sites], dtype=np.int64)
        self._one_way: dict[str, Ints] = {}
        self._path_bps: dict[str, Ints] = {}
        self._spot_price: Floats | None = None
        self._prices: dict[tuple[bool, bool], Floats] = {}
        self._rates: dict[Precision, Rates] = {}
        self._masks: dict[Hashable, Bools] = {}
        # Rows of `classes`, for who decides many rounds over one board; None: every round makes its own.
        self.rows: dict[Hashable, Any] | None = None

    def __len__(self) -> int:
        return len(self.all)

    def mask(self, key: Hashable, make: Callable[[], Bools]) -> Bools:
        """One flag per pool, kept under `key`."""
        found = self._masks.get(key)
        if found is None:
            if len(self._masks) >= _MOST_MASKS:
                self._masks.clear()
            found = self._masks[key] = make()
        return found

    def one_way_us(self, place: str) -> Ints:
        """One-way delay from each pool to `place`: measured, else along the links, else by the great circle;
        UNKNOWN_US where nobody knows."""
        if place not in self._one_way:
            self._one_way[place] = self._site_one_way_us(place)[self.columns.site_index]
        return self._one_way[place]

    def _site_one_way_us(self, place: str) -> Ints:
        supply, sites = self.supply, self.supply.sites
        found = np.full(len(sites), UNKNOWN_US, dtype=np.int64)
        if place in supply.places:
            lat, lon = np.array([site.lat for site in sites]), np.array([site.lon for site in sites])
            found = great_circles_us(lat, lon, supply.places[place], self.policy.route_factor_percent)
        if self.topology is not None and place in self.topology.numbers:
            known = np.flatnonzero(self._node >= 0)
            along = self.topology.delays_us(place)[self._node[known]]
            found[known] = np.where(along == NO_PATH, UNKNOWN_US, along)
        for i, site in enumerate(sites) if supply.measured_latency_us else ():
            found[i] = supply.measured_latency_us.get((site.id, place), found[i])
        return found

    def lies_at(self, place: str) -> Bools:
        """Where data at `place` (a site or a cluster) already lie."""
        return self.mask(
            ("lies_at", place),
            lambda: np.array([place in (site.id, site.cluster) for site in self.supply.sites], dtype=bool)[
                self.columns.site_index
            ],
        )

    def bandwidth_from(self, place: str) -> Ints:
        """Bit/s that data from `place` can come with: the site's network, and the widest path where links are known."""
        if self.topology is None or place not in self.topology.numbers:
            return self.columns.bandwidth
        if place not in self._path_bps:
            widest = np.where(self._node >= 0, self.topology.widest_bps(place)[self._node], ANY)
            self._path_bps[place] = np.minimum(widest[self.columns.site_index], self.columns.bandwidth)
        return self._path_bps[place]

    def price(self, *, spot: bool) -> Floats:
        """What a unit costs an order for an hour without its energy, at each pool. micro-CNY."""
        if not spot:
            return self.columns.price
        if self._spot_price is None:
            percent = self.policy.spot_discount_percent
            each = [unit_price(pool.price_microcny_per_unit_hour, spot, percent) for pool in self.supply.pools]
            self._spot_price = np.array(each, dtype=np.float64)
        return self._spot_price

    def prices(self, *, accelerator: bool, spot: bool) -> Floats:
        """Of a unit at full load for an hour, energy in its dearest hour included, at the pools of one kind; sorted.
        micro-CNY."""
        key = accelerator, spot
        if key not in self._prices:
            columns = self.columns
            each = self.price(spot=spot) + columns.kw_per_unit * self.hourly.most_power
            self._prices[key] = np.sort(each[columns.accelerator == accelerator])
        return self._prices[key]

    def rates(self, precision: Precision) -> Rates:
        if precision not in self._rates:
            found = [trusted_rate(pool, precision, self.policy) for pool in self.supply.pools]
            known = np.array([rate is not None for rate in found], dtype=bool)
            self._rates[precision] = Rates(np.array([rate or NO_RATE for rate in found], dtype=np.int64), known)
        return self._rates[precision]


def trusted_rate(pool: Pool, precision: Precision, policy: Policy) -> int | None:
    """FLOP/s of one unit that placement counts on: measured and derated by the pool's trust, else nominal derated by
    policy, else None (unknown)."""
    for rate in pool.rates:
        if rate.precision is precision:
            if rate.measured_flops:
                return rate.measured_flops * pool.trust_milli // 1000 or None
            if rate.nominal_flops:
                return rate.nominal_flops * policy.nominal_derate_percent // 100 or None
    return None


def free_of(supply: Supply) -> tuple[Ints, Ints]:
    """(free units in 1/1000, free memory in bytes) of each pool."""
    free: tuple[Free, ...] = supply.free
    return np.array([each.milli for each in free], dtype=np.int64), np.array(
        [each.memory_bytes for each in free], dtype=np.int64
    )
