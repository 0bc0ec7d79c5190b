"""What one placer decides over: the whole network, or one centre by itself."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from yunhe.core.supply import Supply


@dataclass(frozen=True, slots=True)
class Part:
    """Some sites of the network with all their pools. Positions in the network."""

    supply: Supply
    sites: tuple[int, ...]
    pools: tuple[int, ...]


def whole(supply: Supply) -> Part:
    return Part(supply, tuple(range(len(supply.sites))), tuple(range(len(supply.pools))))


def islands(supply: Supply, homes: Sequence[int]) -> list[Part]:
    """Each of the sites `homes` by itself."""
    pools: dict[str, list[int]] = {}
    for i, pool in enumerate(supply.pools):
        pools.setdefault(pool.site_id, []).append(i)
    return [_island(supply, home, pools.get(supply.sites[home].id, [])) for home in homes]


def _island(supply: Supply, home: int, pools: list[int]) -> Part:
    own = replace(
        supply,
        sites=(supply.sites[home],),
        pools=tuple(supply.pools[i] for i in pools),
        free=tuple(supply.free[i] for i in pools),
    )
    return Part(own, (home,), tuple(pools))
