"""Supply as columns: one array position per pool, so that a constraint is one vector operation over all pools."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from yunhe.core.supply import PoolKind, Site, SiteState, Supply

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ANY = 2**62  # no bound

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Columns:
    """Position i is `supply.pools[i]`; units as in `yunhe.core.supply`."""

    supply: Supply
    sites: tuple[Site, ...]  # of each pool
    site_index: Ints  # into supply.sites
    id_rank: Ints  # position of the pool's id in sorted order, the last tie-break
    accelerator: Bools
    capacity: Ints
    memory: Ints
    host_memory: Ints  # of one host, taking hosts to be equal: the pool's memory times max_slot / capacity
    bytes_per_milli: Ints  # whole bytes of host memory that belong to 1/1000 unit
    card_memory: Ints
    max_slot: Ints
    free: Ints
    free_memory: Ints
    left: Bools  # the site has left
    closed: Bools  # the site takes no new leases now
    refuted: Bools  # its claims were found to be false
    longest: Ints  # run limit that its site takes now, ms
    bandwidth: Ints
    tier: Ints
    carbon: Ints
    # Floats serve the ranking and a first look at budgets; whatever is said or booked is computed in integers.
    price: Floats
    watts: Floats
    pue: Floats  # 1.25, not 1250
    power_price: Floats

    def __len__(self) -> int:
        return len(self.sites)


def columns(supply: Supply) -> Columns:
    """Lay out `supply` by pools. Every pool's site must be among `supply.sites` (KeyError otherwise)."""
    pools = supply.pools
    index = {site.id: i for i, site in enumerate(supply.sites)}
    positions = [index[pool.site_id] for pool in pools]
    site_index = np.array(positions, dtype=np.int64)
    by_id = sorted(range(len(pools)), key=lambda i: pools[i].id)
    id_rank = np.empty(len(pools), dtype=np.int64)
    id_rank[by_id] = np.arange(len(pools))
    capacity = _ints([pool.capacity_milli for pool in pools])
    memory = _ints([pool.memory_bytes for pool in pools])
    return Columns(
        supply=supply,
        sites=tuple([supply.sites[i] for i in positions]),
        site_index=site_index,
        id_rank=id_rank,
        accelerator=np.array([pool.kind is PoolKind.ACCELERATOR for pool in pools], dtype=bool),
        capacity=capacity,
        memory=memory,
        host_memory=_ints([p.memory_bytes * p.max_slot_milli // max(p.capacity_milli, 1) for p in pools]),
        bytes_per_milli=memory // np.maximum(capacity, 1),
        card_memory=_ints([pool.card_memory_bytes for pool in pools]),
        max_slot=_ints([pool.max_slot_milli for pool in pools]),
        free=_ints([free.milli for free in supply.free]),
        free_memory=_ints([free.memory_bytes for free in supply.free]),
        left=np.array([site.state is SiteState.LEFT for site in supply.sites], dtype=bool)[site_index],
        closed=np.array([not is_open(site) for site in supply.sites], dtype=bool)[site_index],
        refuted=np.array([pool.trust_milli == 0 for pool in pools], dtype=bool),
        longest=_ints([ANY if pool.longest_ms is None else pool.longest_ms for pool in pools]),
        bandwidth=_ints([site.bandwidth_bps for site in supply.sites])[site_index],
        tier=_ints([site.tier for site in supply.sites])[site_index],
        carbon=_ints([site.carbon_g_per_kwh for site in supply.sites])[site_index],
        price=_floats([pool.price_microcny_per_unit_hour for pool in pools]),
        watts=_floats([pool.watts_per_unit for pool in pools]),
        pue=_floats([site.pue_milli / 1000 for site in supply.sites])[site_index],
        power_price=_floats([site.power_price_microcny_per_kwh for site in supply.sites])[site_index],
    )


def is_open(site: Site) -> bool:
    """Whether the site takes new leases now."""
    return site.state is SiteState.ACTIVE and site.connected


def by_distinct(keys: Sequence[Key], row: Callable[[Key], Bools]) -> Bools:
    """A matrix with one row per key; equal keys are computed once (many shapes share their constraints)."""
    numbers: dict[Key, int] = {}
    index = [numbers.setdefault(key, len(numbers)) for key in keys]
    found = np.stack([row(key) for key in numbers])
    return found if len(numbers) == len(index) else found[index]


def _ints(values: list[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _floats(values: list[int] | list[float]) -> Floats:
    return np.array(values, dtype=np.float64)
