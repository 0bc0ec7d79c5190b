"""What a scenario is made of: centres, customers, work, rules, lines. `scenario` puts them together."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from yunhe.core.demand import Precision, Preference
from yunhe.simulator import quantities as q

HOURS = 24
MAX_CARDS = 10_000_000  # of one pool
MAX_CENTRES = 50_000
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"

Name = Annotated[str, Field(pattern=_NAME)]
Count = Annotated[int, Field(ge=1, le=MAX_CENTRES)]
Share = Annotated[q.BasisPoints, Field(le=10_000)]  # of 10,000
ByHour = Annotated[tuple[Annotated[float, Field(ge=0, le=100)], ...], Field(min_length=HOURS, max_length=HOURS)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


# --- centres ------------------------------------------------------------------------------------------------------


class PoolSpec(Part):
    """Equal cards (or cores) at a centre."""

    name: Name = "main"
    chip: str  # of the catalogue; `cpu` for cores
    cards: Annotated[int, Field(ge=1, le=MAX_CARDS)] | None = None
    cores: Annotated[int, Field(ge=1, le=MAX_CARDS)] | None = None
    per_host: Annotated[int, Field(ge=1, le=1024)] = 8
    memory: q.SizeBytes | None = None  # host memory of the pool; 128 GiB per card, 4 GiB per core without
    price: q.PerHour  # of one card or core
    speed: tuple[q.Speed, ...] = ()  # measured, of one card or core; nominal figures of the catalogue without
    power: q.Watts | None = None  # of one card or core at full load; the catalogue's without

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.cards is None) == (self.cores is None):
            raise ValueError("needs exactly one of `cards` and `cores`")
        if (self.chip == "cpu") != (self.cores is not None):
            raise ValueError("`cores` goes with `chip: cpu`, `cards` with every other chip")
        return self


class Outages(Part):
    """The whole centre falls silent, again and again: exponential times between, exponential lengths."""

    every: q.SpanMs
    last: q.DurationMs


class Maintenance(Part):
    """No new leases from `at` (since the start of the run) for `last`; what runs goes on."""

    at: q.DelayMs
    last: q.DurationMs


class CentreSpec(Part):
    """One centre, or `count` equal ones called name-1, name-2, ..."""

    name: Name
    count: Count = 1
    cluster: str | None = None  # one of the ten clusters, or
    place: str | None = None  # a known city, or
    region: str | None = None  # a province with coordinates
    lat: Annotated[float, Field(ge=-90, le=90)] | None = None
    lon: Annotated[float, Field(ge=-180, le=180)] | None = None
    provider: Name | None = None  # paid for it; the centre's own name without
    bandwidth: q.BandwidthBps = 10_000_000_000
    tier: Annotated[int, Field(ge=0, le=5)] = 2
    pue: q.Pue | None = None
    power_price: q.PerKwh | None = None
    power_by_hour: ByHour | None = None  # multiples of power_price, local time of the start
    carbon: q.Carbon | None = None
    carbon_by_hour: ByHour | None = None  # multiples of carbon
    network_load_by_hour: ByHour | None = None  # share of the bandwidth that others use, 0 to 0.99
    outages: Outages | None = None
    card_failures_every: q.SpanMs | None = None  # mean time between failures of ONE card; its lease ends
    maintenance: tuple[Maintenance, ...] = ()
    pools: Annotated[tuple[PoolSpec, ...], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        stated = [self.cluster is not None, self.place is not None, self.region is not None]
        if sum(stated) != 1:
            raise ValueError("needs exactly one of `cluster`, `place` and `region`")
        if (self.region is not None) != (self.lat is not None and self.lon is not None):
            raise ValueError("`region` goes with `lat` and `lon`")
        if self.network_load_by_hour and max(self.network_load_by_hour) >= 1:
            raise ValueError("network_load_by_hour must stay below 1")
        if len({pool.name for pool in self.pools}) < len(self.pools):
            raise ValueError("two pools have one name")
        return self


# --- customers ----------------------------------------------------------------------------------------------------


class CustomerSpec(Part):
    """One customer, or one per centre of a group."""

    name: Name
    home: str | None = None  # its own centre: where its data lie, and where it stays with `network: off`
    one_per: str | None = None  # a centre of the list above: name-1 is at home in centre-1, ...
    place: str | None = None  # where its users are; its home without
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    quota_cards: Annotated[int, Field(ge=1, le=MAX_CARDS)] | None = None
    deposit: q.Money = 10**15

    @model_validator(mode="after")
    def _one_home(self) -> Self:
        if self.home is not None and self.one_per is not None:
            raise ValueError("needs `home` or `one_per`, not both")
        return self


# --- work ---------------------------------------------------------------------------------------------------------


class TraceSource(Part):
    """A public trace, read as it lies."""

    format: Literal["venus", "philly", "pai2020", "azure", "mooncake"]
    path: str  # beside the scenario, or absolute
    sort: bool = False  # a trace whose arrivals are not in order is read whole and sorted
    skip: q.DelayMs = 0  # begin so far behind its first arrival


class FittedSource(Part):
    """Made up, after statistics of a public trace."""

    like: Literal["venus", "philly", "pai2020"]
    jobs_per_day: Annotated[int, Field(ge=1, le=100_000_000)]
    # Jobs that came so long before the start and would still run then are there at the start, with what is left of
    # them: a network does not begin empty.
    before: q.DelayMs = 0


class Near(Part):
    """A share of the jobs must run within a round trip of their customer."""

    share: Share
    rtt: q.DelayUs


class Data(Part):
    """A share of the jobs bring input data that lie at their customer's home."""

    share: Share
    size: q.SizeBytes


class Tokens(Part):
    """How token traces become work: the requests of each window are one order of `per_token` times their tokens."""

    per_token: q.Amount
    window: q.DurationMs = 60_000


class WorkloadSpec(Part):
    """Jobs of one source, dealt out to customers."""

    name: Name
    trace: TraceSource | None = None
    fitted: FittedSource | None = None
    tokens: Tokens | None = None
    customers: dict[str, Annotated[int, Field(ge=1, le=1_000_000)]] = {}  # weight by name; all alike without
    jobs: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None  # at most
    times: Annotated[int, Field(ge=1, le=100_000)] = 1  # every job of the source so often, dealt out each by itself
    faster: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0  # arrivals so many times as dense
    # What the orders state: cards as the source has them; the compute rate of those cards, so that their number is
    # Yunhe's choice; or the work that they did, so that it may also be done slower or faster.
    ask: Literal["cards", "compute", "work"] = "cards"
    chip: str | None = None  # only on this chip; any without
    reference_chip: str = "v100-sxm2-32g"  # the run times of the source were taken on it
    precision: Precision = Precision.FP16
    busy: Share = 10_000  # of the cards while a job runs
    limits: Annotated[tuple[q.DurationMs, ...], Field(min_length=1, max_length=32)] = (
        3_600_000,
        6 * 3_600_000,
        86_400_000,
        3 * 86_400_000,
        14 * 86_400_000,
    )  # run limits that people ask for: the least above `limit_over` times the run
    limit_over: Annotated[float, Field(ge=1, le=100)] = 1.2
    near: Near | None = None
    data: Data | None = None
    stay_in_region: Share = 0  # share of jobs that may not leave their customer's province
    preference: Preference = Preference.COST
    patience: q.DelayMs = 0  # how long an order may wait for an hour of cheaper or cleaner power
    priority: Annotated[int, Field(ge=0, le=9)] = 0
    retries: Annotated[int, Field(ge=0, le=10)] = 0
    fails: Share = 0  # of the runs end with an exit code that is not 0

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.trace is None) == (self.fitted is None):
            raise ValueError("needs exactly one of `trace` and `fitted`")
        of_tokens = self.trace is not None and self.trace.format in ("azure", "mooncake")
        if of_tokens != (self.tokens is not None):
            raise ValueError("`tokens` goes with a trace of tokens (azure, mooncake)")
        if self.patience and self.preference is Preference.SPEED:
            raise ValueError("`patience` goes with preference cost or carbon")
        if list(self.limits) != sorted(set(self.limits)):
            raise ValueError("limits must rise")
        return self


# --- rules and lines ---------------------------------------------------------------------------------------------


class Rules(Part):
    """The hub's policy; what is not stated is the hub's own default (`core.policy`)."""

    nominal_derate: Share | None = None
    operator_fee: Share | None = None
    route_factor: q.BasisPoints | None = None
    transfer_price: q.PerGib | None = None
    backfill: bool | None = None
    reserve_after: q.DurationMs | None = None
    max_assignments: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_carbon: q.Carbon | None = None  # of the grid, for every job


class SitesModel(Part):
    """How sites behave beyond the figures of each centre."""

    start_delay: q.DelayMs = 0  # from the lease to the first line of the job
    stragglers: Share = 0  # of the runs are slow,
    straggler_factor: Annotated[float, Field(ge=1, le=100)] = 2.0  # so many times
    # As in the hub's settings: silence until leases are `unknown`, and until they are placed again.
    silent_after: q.DurationMs = 90_000
    disconnect_limit: q.DurationMs = 300_000
    disconnect_grace: q.DurationMs = 30_000


class LineSpec(Part):
    """A line between a centre and a place or another centre, in place of the computed way."""

    centre: str
    to: str
    one_way: q.DelayUs
    bandwidth: q.BandwidthBps | None = None  # of the centre's network from now on
