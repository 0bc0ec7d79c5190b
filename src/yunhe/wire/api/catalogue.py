"""What the network has: sites, pools, and the public facts that they are described with."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from yunhe.core.hours import DAY, MAX_FORECAST
from yunhe.wire.message import NUMBER, Answer, Message, Name, Quantity


class BenchmarkView(Answer):
    name: str
    value: float
    unit: str
    repeats: int
    spread_percent: float


class RateView(Answer):
    precision: str
    nominal_flops: int | None
    measured_flops: int | None


class StackView(Answer):
    """What of the pool's software stack was tried, as its certificate says."""

    versions: dict[str, str]
    operators: tuple[str, ...]  # that an order can ask for
    missing: dict[str, str]  # operator -> what it said


class HoursView(Answer):
    """How a site's power price and carbon go with the hour. Best: of the 24 hours from
    the present one on the first of equals, told by its beginning."""

    utc_offset: int  # of the site's clock, hours
    power_by_hour: tuple[float, ...] = ()  # multiples of its price, 0 h first; empty: the same all day
    carbon_by_hour: tuple[float, ...] = ()  # multiples of its factor
    power_source: str = ""  # who says so; empty: nobody, it is assumed to be flat
    carbon_source: str = ""
    foretold_until_utc_ms: int | None = None  # where a forecast is stated
    power_now_microcny_per_kwh: int
    carbon_now_g_per_kwh: int
    cheapest_utc_ms: int
    cheapest_microcny_per_kwh: int
    cleanest_utc_ms: int
    cleanest_g_per_kwh: int


class PoolView(Answer):
    id: str
    site_id: str
    chip: str
    chip_name: str
    unit: str
    stack: str
    capacity_milli: int
    free_milli: int
    leased_milli: int = 0  # to orders of this network
    foreign_milli: int = 0  # to others at the site, or not lent now
    busy_milli: int | None = None  # units that really work, for whomever; None: the engine cannot say
    powered_milli: int | None = None  # units that are on; None likewise
    longest_ms: int | None = None  # the longest run that the site takes now; None: any
    memory_bytes: int
    free_memory_bytes: int
    max_slot_milli: int = 0  # largest slot on one host
    card_memory_bytes: int = 0
    rates: tuple[RateView, ...]
    benchmarks: tuple[BenchmarkView, ...]
    price_microcny_per_unit_hour: int
    watts_per_unit: int
    watts_source: str
    hubs: tuple[str, ...] = ()  # of a pool behind another hub: those in between, nearest first
    asking_microcny_per_unit_hour: int | None = None  # by the site's own wish, see SiteTerms.accept_asking
    tested_utc_ms: int = 0
    trust_milli: int = 1000  # how far placement believes its rates
    trust_note: str = ""  # what speaks against them
    abilities: tuple[str, ...] = ()  # what its engine gives jobs: secrets, data, checkpoints, network
    stack_check: StackView | None = None
    hours: HoursView | None = None  # of its site's power


class PoolList(Answer):
    pools: tuple[PoolView, ...]


class SiteView(Answer):
    id: str
    name: str
    provider: str
    state: str
    connected: bool
    accepting: bool
    cluster: str | None
    region: str
    lat: float
    lon: float
    pue_milli: int
    carbon_g_per_kwh: int
    power_price_microcny_per_kwh: int
    assumed: tuple[str, ...]  # names of figures that have no public source
    tier: int
    isolation: str
    last_contact_utc_ms: int | None
    certified_utc_ms: int | None
    retest_utc_ms: int | None = None  # when it is measured again
    software: str = ""  # that it was measured with
    network: tuple[BenchmarkView, ...] = ()  # of the site: round trips and rates
    pools: tuple[PoolView, ...] = ()
    latency_us: dict[str, int] = Field(default_factory=dict)  # one-way to places
    accept_asking: bool = False
    hours: HoursView | None = None


class SiteList(Answer):
    sites: tuple[SiteView, ...]
    next_cursor: str | None = None  # where a limit was asked for, and more follow


class SiteTerms(Message):
    """What an operator sets when approving a site (or later): price and grid figures. None: keep, or from the facts."""

    price_per_core_hour: Quantity | None = None
    price_per_card_hour: Quantity | None = None
    power_price_per_kwh: Quantity | None = None
    # Pools that state an asking price are sold at it, now and whenever the site states another one.
    accept_asking: bool | None = None


Multiples = Annotated[
    tuple[Annotated[float, Field(ge=0, le=10, allow_inf_nan=False), NUMBER], ...], Field(max_length=24)
]


class ForecastSpec(Message):
    """Values of the hours from `first` on; none: no forecast any more."""

    first: Quantity  # a full hour, ISO 8601 with its zone
    values: Annotated[tuple[Quantity, ...], Field(max_length=MAX_FORECAST)]  # "0.31CNY" per kWh, or "412g/kWh"


class SiteTariff(Message):
    """How a site's power price and carbon go with the hour. None: keep; empty: the same all day."""

    utc_offset: Annotated[int, Field(ge=-12, le=14), NUMBER] | None = None  # of the site's clock, hours
    power_by_hour: Multiples | None = None  # 24 multiples of its price, 0 h first
    carbon_by_hour: Multiples | None = None  # of its factor
    power_forecast: ForecastSpec | None = None
    carbon_forecast: ForecastSpec | None = None

    @field_validator("power_by_hour", "carbon_by_hour")
    @classmethod
    def _whole_day(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value and len(value) != DAY:
            raise ValueError(f"has {len(value)} hours, not {DAY}")
        return value


class EnrolmentTokenRequest(Message):
    provider: Name  # organisation id that will be paid


class EnrolmentToken(Answer):
    token: str
    expires_utc_ms: int


class FactTable(Answer):
    """Rows of a shipped table of public facts, each with `source` and `confidence`."""

    rows: tuple[dict[str, Any], ...]
