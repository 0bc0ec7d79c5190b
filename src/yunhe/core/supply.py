"""What the network has, as plain values. Units are in the field names, as in `demand`."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from yunhe.core.demand import Ability, Precision
from yunhe.core.hours import FLAT, Hours

# Software stacks that an order has commands for and that a pool runs; each is that of some chip in facts/chips.
STACKS = frozenset(
    {
        "cpu",
        "cuda",
        "rocm",
        "cann",
        "corex",
        "dtk",
        "maca",
        "musa",
        "neuware",
        "ppu",
        "supa",
        "synapse",
        "tops",
        "xla",
        "xpu",
    }
)


class PoolKind(StrEnum):
    CPU = "cpu"  # unit: a core
    ACCELERATOR = "accelerator"  # unit: a card


class SiteState(StrEnum):
    PENDING = "pending"  # enrolled, waits for the operator
    APPROVED = "approved"  # may connect; waits for certification
    ACTIVE = "active"
    PAUSED = "paused"  # no new leases; running ones go on
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Rate:
    """FLOP/s of ONE whole unit (core or card), dense, at `precision`. None: not known."""

    precision: Precision
    nominal_flops: int | None
    measured_flops: int | None


@dataclass(frozen=True, slots=True)
class Site:
    """A computing centre, with the physical facts that price, carbon and latency are computed from."""

    id: str
    name: str
    provider: str  # organisation id that is paid
    region: str  # province, the residency name
    cluster: str | None  # facts/clusters id
    lat: float
    lon: float
    pue_milli: int  # 1250: PUE 1.25
    carbon_g_per_kwh: int  # grid emission factor
    power_price_microcny_per_kwh: int
    tier: int  # highest security tier that the site can give
    bandwidth_bps: int
    state: SiteState
    connected: bool = True
    hours: Hours = FLAT  # how price and carbon go on; the two figures above are those of the hour that it is


def at_hour(site: Site, hour: int) -> Site:
    """The site at the price and the factor of an hour (since 1970, UTC)."""
    if site.hours == FLAT:
        return site
    power, carbon = site.power_price_microcny_per_kwh, site.carbon_g_per_kwh
    return replace(
        site,
        power_price_microcny_per_kwh=site.hours.power_at(hour, power),
        carbon_g_per_kwh=site.hours.carbon_at(hour, carbon),
    )


@dataclass(frozen=True, slots=True)
class Pool:
    """Equal units at one site. `capacity_milli` is certified; memory is host memory for the whole pool."""

    id: str
    site_id: str
    kind: PoolKind
    chip: str  # chip id of the catalogue, or "unknown"
    stack: str  # one of STACKS
    capacity_milli: int
    memory_bytes: int
    card_memory_bytes: int
    max_slot_milli: int  # largest slot on one host
    rates: tuple[Rate, ...]
    price_microcny_per_unit_hour: int
    watts_per_unit: int  # at full load, IT power
    # How far its rates are believed: 1000 where the network has seen them, less where they are only claimed.
    trust_milli: int = 1000
    operators: frozenset[str] = frozenset()  # of its software stack, tried and right; empty: nothing was tried
    abilities: frozenset[Ability] = frozenset(Ability)  # of its engine
    longest_ms: int | None = None  # the longest run limit that its site takes now; None: any


@dataclass(frozen=True, slots=True)
class Free:
    """What of a pool is free now: certified minus leases minus foreign use."""

    milli: int
    memory_bytes: int


class Link(NamedTuple):
    """A line between two nodes of the network: site ids, place ids or names of routers. It goes both ways."""

    a: str
    b: str
    one_way_us: int
    bandwidth_bps: int


class Booking(NamedTuple):
    """Units of a pool that are promised to one task for [from_ms, until_ms), UTC ms; in use only from then on."""

    pool_id: str
    account: str
    from_ms: int
    until_ms: int
    milli: int
    memory_bytes: int


class LeaseEnd(NamedTuple):
    """A lease gives so much back by `until_ms` at the latest, UTC ms."""

    pool_id: str
    until_ms: int
    milli: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Supply:
    """All sites and pools; `free[i]` belongs to `pools[i]`. `places` maps place id to (lat, lon)."""

    sites: tuple[Site, ...]
    pools: tuple[Pool, ...]
    free: tuple[Free, ...]
    places: dict[str, tuple[float, float]] = field(default_factory=dict)
    # Measured latency overrides the computed one: (site id, place id) -> one-way us.
    measured_latency_us: dict[tuple[str, str], int] = field(default_factory=dict)
    # Where both a site and a place are nodes, delay and bandwidth between them follow the links; else great circles.
    links: tuple[Link, ...] = ()
    bookings: tuple[Booking, ...] = ()
    leases: tuple[LeaseEnd, ...] = ()  # where an end matters to bookings; one that is not listed is taken to stay
