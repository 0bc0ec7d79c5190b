"""What the catalogue keeps, as values that other rooms may read."""

from dataclasses import dataclass
from typing import NamedTuple

from yunhe.core.supply import PoolKind, Rate, SiteState
from yunhe.hub.catalogue.tariffs import Tariff
from yunhe.wire.link import BenchmarkResult, StackReport

# Sites that every user of the network may know of; the others only their provider, operators and auditors.
LISTED = frozenset({SiteState.APPROVED, SiteState.ACTIVE, SiteState.PAUSED})


class LineLoad(NamedTuple):
    """What moves to and from a site now: inputs and outputs of its leases."""

    transfers: int
    left_bytes: int  # of those whose size is known
    bps: int  # by the site's last words


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """A computing centre. Prices in micro-CNY, `pue_milli` 1250 for PUE 1.25, times in ms UTC."""

    id: str
    name: str
    provider: str  # organisation id that is paid
    region: str
    cluster: str | None
    lat: float
    lon: float
    pue_milli: int
    carbon_g_per_kwh: int
    power_price_microcny_per_kwh: int
    price_core_hour: int  # micro-CNY
    price_card_hour: int  # micro-CNY
    assumed: tuple[str, ...]  # names of figures that have no public source and were not set by the operator
    tier: int
    isolation: str
    software: str
    bandwidth_bps: int
    state: SiteState
    accepting: bool  # False: the site's own pause
    public_key: str  # Ed25519, base64url
    created_ms: int
    last_contact_ms: int | None = None
    certified_ms: int | None = None
    retest_ms: int | None = None  # when it is to be measured again
    network: tuple[BenchmarkResult, ...] = ()
    accept_asking: bool = False  # pools that state an asking price are sold at it
    tariff: Tariff = Tariff()

    def connected(self, now_ms: int, within_ms: int) -> bool:
        """Whether the site was heard of at most `within_ms` ago."""
        return self.last_contact_ms is not None and now_ms - self.last_contact_ms <= within_ms


class SiteContact(NamedTuple):
    """What tells of a site whether it is silent, and whether it is to be measured. Columns of its row."""

    id: str
    state: str  # SiteState
    last_contact_ms: int | None
    certified_ms: int | None
    retest_ms: int | None

    def connected(self, now_ms: int, within_ms: int) -> bool:
        """Whether the site was heard of at most `within_ms` ago."""
        return self.last_contact_ms is not None and now_ms - self.last_contact_ms <= within_ms


@dataclass(frozen=True, slots=True)
class SiteFilter:
    """Which sites a page of the list shows. `seen_by`: the organisation that looks; None: who sees all."""

    provider: str | None = None
    state: SiteState | None = None
    seen_by: str | None = None
    after: str = ""  # id
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """Equal units at one site: what is certified, and what of it is in use (units in 1/1000, memory in bytes)."""

    id: str  # site_id:name
    site_id: str
    name: str
    kind: PoolKind
    chip: str
    chip_name: str
    stack: str
    capacity_milli: int
    memory_bytes: int
    card_memory_bytes: int
    max_slot_milli: int
    rates: tuple[Rate, ...]
    benchmarks: tuple[BenchmarkResult, ...]
    watts_per_unit: int
    watts_source: str
    hubs: tuple[str, ...] = ()  # between this one and the pool, nearest first
    asking_microcny: int | None = None  # per unit hour, by the site's own wish
    tested_ms: int = 0  # when its figures were measured behind another hub; 0: with the certificate
    abilities: tuple[str, ...] = ()  # of the engine: core.demand.Ability
    stack_check: StackReport | None = None
    trust_milli: int = 1000  # how far the rates are believed
    trust_note: str = ""  # what speaks against them
    used_milli: int = 0  # by the hub's leases
    used_memory: int = 0
    foreign_milli: int = 0  # by others at the site, as it reports
    foreign_memory: int = 0
    longest_ms: int | None = None  # the longest run that the site takes now; None: any
    busy_milli: int | None = None  # units that really work, for whomever; None: the site cannot say
    powered_milli: int | None = None  # units that are on; None likewise
    retired: bool = False  # not in the site's latest certificate
    version: int = 0  # of the certified part

    @property
    def free_milli(self) -> int:
        return max(0, self.capacity_milli - self.foreign_milli - self.used_milli)

    @property
    def free_memory(self) -> int:
        return max(0, self.memory_bytes - self.foreign_memory - self.used_memory)
