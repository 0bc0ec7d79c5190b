"""Supply as columns: one array position per pool, so that a constraint is one vector operation over all pools."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from yunhe.core.supply import PoolKind, Site, SiteState, Supply

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ANY = 2**62  # no bound
Array = TypeVar("Array", Bools, Ints, Floats)


@dataclass(frozen=True, slots=True)
class Coded:
    """One name per pool, as a number: what is asked of names is asked once for each, and looked up for the pools."""

    numbers: dict[str, int]
    codes: Ints

    def among(self, names: Iterable[str]) -> Bools:
        """Whether each pool's name is one of `names`."""
        table = np.zeros(len(self.numbers), dtype=bool)
        table[[self.numbers[name] for name in names if name in self.numbers]] = True
        found: Bools = table[self.codes]
        return found


@dataclass(frozen=True, slots=True)
class Columns:
    """Position i is `supply.pools[i]`; units as in `yunhe.core.supply`."""

    supply: Supply
    sites: tuple[Site, ...]  # of each pool
    site_index: Ints  # into supply.sites
    site: Coded
    pool: Coded
    stack: Coded
    chip: Coded
    region: Coded
    id_rank: Ints  # position of the pool's id in sorted order, the last tie-break
    accelerator: Bools
    capacity: Ints
    memory: Ints
    host_memory: Ints  # of one host, taking hosts to be equal: the pool's memory times max_slot / capacity
    bytes_per_milli: Ints  # whole bytes of host memory that belong to 1/1000 unit
    card_memory: Ints
    max_slot: Ints
    left: Bools  # the site has left
    closed: Bools  # the site takes no new leases now
    refuted: Bools  # its claims were found to be false
    longest: Ints  # run limit that its site takes now, ms
    bandwidth: Ints
    tier: Ints
    carbon: Ints
    # Floats serve the ranking and a first look at budgets; whatever is said or booked is computed in integers.
    price: Floats
    kw_per_unit: Floats  # at the meter: watts of the unit times PUE
    power_price: Floats

    def __len__(self) -> int:
        return len(self.sites)


def columns(supply: Supply) -> Columns:
    """Lay out `supply` by pools. Every pool's site must be among `supply.sites` (KeyError otherwise)."""
    pools = supply.pools
    index = {site.id: i for i, site in enumerate(supply.sites)}
    positions = [index[pool.site_id] for pool in pools]
    site_index = np.array(positions, dtype=np.int64)
    pue = _floats([site.pue_milli / 1000 for site in supply.sites])[site_index]
    regions = coded([site.region for site in supply.sites])
    by_id = sorted(range(len(pools)), key=lambda i: (pools[i].id, -i))  # of lanes of one pool (`booking`) the last
    id_rank = np.empty(len(pools), dtype=np.int64)
    id_rank[by_id] = np.arange(len(pools))
    capacity = _ints([pool.capacity_milli for pool in pools])
    memory = _ints([pool.memory_bytes for pool in pools])
    return Columns(
        supply=supply,
        sites=tuple([supply.sites[i] for i in positions]),
        site_index=site_index,
        site=Coded(index, site_index),
        pool=coded([pool.id for pool in pools]),
        stack=coded([pool.stack for pool in pools]),
        chip=coded([pool.chip for pool in pools]),
        region=Coded(regions.numbers, regions.codes[site_index]),
        id_rank=id_rank,
        accelerator=np.array([pool.kind is PoolKind.ACCELERATOR for pool in pools], dtype=bool),
        capacity=capacity,
        memory=memory,
        host_memory=_ints([p.memory_bytes * p.max_slot_milli // max(p.capacity_milli, 1) for p in pools]),
        bytes_per_milli=memory // np.maximum(capacity, 1),
        card_memory=_ints([pool.card_memory_bytes for pool in pools]),
        max_slot=_ints([pool.max_slot_milli for pool in pools]),
        left=np.array([site.state is SiteState.LEFT for site in supply.sites], dtype=bool)[site_index],
        closed=np.array([not is_open(site) for site in supply.sites], dtype=bool)[site_index],
        refuted=np.array([pool.trust_milli == 0 for pool in pools], dtype=bool),
        longest=_ints([ANY if pool.longest_ms is None else pool.longest_ms for pool in pools]),
        bandwidth=_ints([site.bandwidth_bps for site in supply.sites])[site_index],
        tier=_ints([site.tier for site in supply.sites])[site_index],
        carbon=_ints([site.carbon_g_per_kwh for site in supply.sites])[site_index],
        price=_floats([pool.price_microcny_per_unit_hour for pool in pools]),
        kw_per_unit=_floats([pool.watts_per_unit for pool in pools]) * pue / 1000,
        power_price=_floats([site.power_price_microcny_per_kwh for site in supply.sites])[site_index],
    )


def is_open(site: Site) -> bool:
    """Whether the site takes new leases now."""
    return site.state is SiteState.ACTIVE and site.connected


def coded(names: list[str]) -> Coded:
    """Numbers in the order in which names come first."""
    numbers: dict[str, int] = {}
    return Coded(numbers, np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64))


def _ints(values: list[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _floats(values: list[int] | list[float]) -> Floats:
    return np.array(values, dtype=np.float64)
