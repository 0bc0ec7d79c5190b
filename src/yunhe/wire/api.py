"""Messages of the public API, version 1. Quantities are written as people write them (`20PFLOPS@bf16`, `64GiB`).

Answers carry plain integers with the unit in the name; `yunhe.core.units` formats them for people.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from yunhe.core.demand import Preference
from yunhe.core.lifecycle import OrderState, TaskState

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_BATCH_ORDERS = 10_000
MAX_FILES_BYTES = 1024 * 1024

Quantity = Annotated[str, Field(min_length=1, max_length=60)]
Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[\w][\w .:-]*$")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
NO_NUL = r"^[^\x00]*$"  # what a database cannot hold as text
Word = Annotated[str, Field(max_length=4096)]
Command = Annotated[tuple[Word, ...], Field(min_length=1, max_length=256)]


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("must be a path inside the job's directory, without '..'")
    return path


RelativePath = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00\\]+$"), AfterValidator(_inside)]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """What the hub sends: a newer hub may send more fields than this SDK knows."""

    model_config = ConfigDict(extra="ignore", frozen=True)


# --- requirement and order ------------------------------------------------------------------------------------


class LatencySpec(Message):
    """`place` and exactly one of `one_way`, `rtt`. The short form is the string "20ms:shanghai" (round trip)."""

    place: Name
    one_way: Quantity | None = None
    rtt: Quantity | None = None


class DataSpec(Message):
    """Where the input data lies and how much of it has to come to the site."""

    at: Name
    size: Quantity = "0B"


class RequirementSpec(Message):
    """Constraints on the place of one task. State its size by exactly one of cores, cards, compute, work."""

    cores: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] | None = None  # per slot
    cards: Annotated[int, Field(gt=0, le=100_000)] | None = None  # per slot
    compute: Quantity | None = None  # "0.05TFLOPS@fp64", of the whole task
    work: Quantity | None = None  # "3EFLOP@bf16", done before the deadline
    chip: Name | None = None
    slots: Annotated[int, Field(ge=1, le=20_000)] = 1
    memory: Quantity | None = None  # per slot
    card_memory: Quantity | None = None  # per card
    latency: Annotated[tuple[LatencySpec | Quantity, ...], Field(max_length=16)] | LatencySpec | Quantity = ()
    bandwidth: Quantity | None = None
    data: DataSpec | None = None
    residency: Annotated[tuple[Name, ...], Field(max_length=64)] = ()
    tier: Annotated[int, Field(ge=0, le=5)] = 0
    max_carbon: Quantity | None = None  # "400g/kWh"
    sites: Annotated[tuple[Name, ...], Field(max_length=256)] = ()


class RunSpec(Message):
    """One command per software stack; `command` alone means the cpu stack."""

    command: Command | None = None
    stacks: Annotated[dict[Name, Command], Field(max_length=8)] = Field(default_factory=dict)
    env: Annotated[dict[EnvName, Word], Field(max_length=64)] = Field(default_factory=dict)
    # Text of small files put into the job's directory (programs, parameters); 1 MiB together.
    files: Annotated[dict[RelativePath, str], Field(max_length=64)] = Field(default_factory=dict)
    outputs: Annotated[tuple[RelativePath, ...], Field(max_length=64)] = ()


class OrderSpec(Message):
    """The whole order, as YAML, as JSON and over the API."""

    name: Name = "order"
    run: RunSpec
    requirement: RequirementSpec = Field(default_factory=RequirementSpec)
    duration: Quantity = "10m"  # run limit of one task
    deadline: Quantity | None = None  # "6h" from now, or an ISO 8601 time with zone
    budget: Quantity | None = None  # "2CNY"
    preference: Preference = Preference.COST
    array: Annotated[int, Field(ge=1, le=10_000)] = 1
    priority: Annotated[int, Field(ge=0, le=9)] = 0
    retries: Annotated[int, Field(ge=0, le=10)] = 0


class OrderBatch(Message):
    """Many orders in one call; all are accepted or none."""

    orders: Annotated[tuple[OrderSpec, ...], Field(min_length=1, max_length=MAX_BATCH_ORDERS)]


class BatchAccepted(Answer):
    ids: tuple[str, ...]


# --- quote ----------------------------------------------------------------------------------------------------


class PriceView(Answer):
    compute_microcny: int
    energy_microcny: int
    transfer_microcny: int
    line_microcny: int
    total_microcny: int


class OfferView(Answer):
    site_id: str
    site_name: str
    pool_id: str
    chip: str
    units_milli: int  # per task: 1/1000 core or card
    memory_bytes: int
    run_ms: int
    start_utc_ms: int
    finish_utc_ms: int
    price: PriceView  # expected
    hold: PriceView  # most it can cost
    carbon_mg: int
    latency_us: tuple[int, ...] = ()
    fits_budget: bool = True


class ReasonView(Answer):
    code: str
    need: str
    have: str
    lasting: bool


class SiteReasonsView(Answer):
    site_id: str
    site_name: str
    pool_id: str | None
    reasons: tuple[ReasonView, ...]


class QuoteView(Answer):
    offers: tuple[OfferView, ...]
    refused: tuple[SiteReasonsView, ...]


class WhyView(Answer):
    """Why an order is where it is, or why it waits."""

    order_id: str
    state: OrderState
    summary: str
    placed: tuple[str, ...] = ()  # "task 0: zhangjiakou (cheapest of 2 offers)"
    sites: tuple[SiteReasonsView, ...] = ()


# --- orders ---------------------------------------------------------------------------------------------------


class TaskView(Answer):
    lease_id: str
    index: int
    state: TaskState
    epoch: int
    site_id: str | None
    pool_id: str | None
    exit_code: int | None
    reason: str | None
    detail: str = ""
    placed_utc_ms: int | None = None
    started_utc_ms: int | None = None
    ended_utc_ms: int | None = None


class OrderView(Answer):
    id: str
    name: str
    account: str
    state: OrderState
    submitted_utc_ms: int
    ended_utc_ms: int | None
    array: int
    tasks: dict[str, int]  # count by task state
    hold_microcny: int
    charged_microcny: int
    settled: bool


class FactView(Answer):
    utc_ms: int
    lease_id: str | None
    epoch: int | None
    kind: str
    detail: str


class OrderDetail(OrderView):
    spec: OrderSpec
    task_list: tuple[TaskView, ...]
    facts: tuple[FactView, ...]


class OrderPage(Answer):
    orders: tuple[OrderView, ...]
    next_cursor: str | None = None


class OutputView(Answer):
    lease_id: str
    path: str
    size_bytes: int
    sha256: str


class OutputList(Answer):
    outputs: tuple[OutputView, ...]


# --- usage, charges, money --------------------------------------------------------------------------------------


class UsageView(Answer):
    lease_id: str
    epoch: int
    n: int
    from_ms: int
    to_ms: int
    wall_ms: int  # cumulative
    cpu_ms: int
    peak_memory_bytes: int
    sampled: bool
    final: bool
    disputed: bool
    evidence: str = ""  # "site/agent epoch/poll": the signed batch that carried it, see EvidenceView


class EvidenceView(Answer):
    """A site's own words about usage and its signature: Ed25519 of `signed` by `public_key`, all base64url.

    `signed` names the request and ends with the SHA-256 of `body`, the poll as JSON.
    """

    site_id: str
    public_key: str
    signed: str
    body: str
    signature: str


class ChargeView(Answer):
    """One charge with every input it was computed from (`inputs`) so that anyone can recompute it."""

    lease_id: str
    epoch: int
    site_id: str
    price: PriceView
    operator_fee_microcny: int
    disputed: bool
    energy_mwh: int  # milliwatt-hours, at the meter (IT x PUE)
    carbon_mg: int
    compute_delivered: dict[str, int]  # FLOP by precision: measured rate x units x time (nominal derated: absent)
    inputs: dict[str, Any]


class UsageList(Answer):
    usage: tuple[UsageView, ...]
    charges: tuple[ChargeView, ...]


class BalanceView(Answer):
    account: str
    available_microcny: int
    held_microcny: int
    credit_limit_microcny: int
    earned_microcny: int = 0


class InvoiceLine(Answer):
    order_id: str
    order_name: str
    lease_id: str
    epoch: int
    site_id: str
    price: PriceView


class InvoiceView(Answer):
    account: str
    month: str  # "2026-11", UTC
    lines: tuple[InvoiceLine, ...]
    total_microcny: int


class PostingView(Answer):
    """One move of `amount` of `unit` from `source` to `destination`; rows of one `set_ref` belong together."""

    set_ref: str
    n: int
    utc_ms: int
    kind: str
    source: str
    destination: str
    amount: int
    unit: str


class PostingPage(Answer):
    postings: tuple[PostingView, ...]
    next_cursor: str | None = None


class TrialBalanceRow(Answer):
    account: str
    unit: str
    amount: int


class TrialBalance(Answer):
    rows: tuple[TrialBalanceRow, ...]
    sum_by_unit: dict[str, int]
    postings: int
    balanced: bool  # every balance equals the sum of its postings, and every unit sums to zero


# --- catalogue --------------------------------------------------------------------------------------------------


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


class PoolView(Answer):
    id: str
    site_id: str
    chip: str
    chip_name: str
    unit: str
    stack: str
    capacity_milli: int
    free_milli: int
    memory_bytes: int
    free_memory_bytes: int
    rates: tuple[RateView, ...]
    benchmarks: tuple[BenchmarkView, ...]
    price_microcny_per_unit_hour: int
    watts_per_unit: int
    watts_source: str


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
    pools: tuple[PoolView, ...] = ()
    latency_us: dict[str, int] = Field(default_factory=dict)  # one-way to places


class SiteList(Answer):
    sites: tuple[SiteView, ...]


class SiteTerms(Message):
    """What an operator sets when approving a site (or later): price and grid figures. None: keep, or from the facts."""

    price_per_core_hour: Quantity | None = None
    price_per_card_hour: Quantity | None = None
    power_price_per_kwh: Quantity | None = None


class EnrolmentTokenRequest(Message):
    provider: Name  # organisation id that will be paid


class EnrolmentToken(Answer):
    token: str
    expires_utc_ms: int


class FactTable(Answer):
    """Rows of a shipped table of public facts, each with `source` and `confidence`."""

    rows: tuple[dict[str, Any], ...]


# --- accounts ---------------------------------------------------------------------------------------------------

Role = Literal["customer", "provider", "operator", "auditor"]


class OrganisationRequest(Message):
    id: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9-]*$")]
    name: Name
    credit_limit: Quantity = "0CNY"
    quota_cores: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None
    weight: Annotated[int, Field(ge=1, le=1000)] = 1


class OrganisationView(Answer):
    id: str
    name: str
    credit_limit_microcny: int
    quota_milli: int | None
    weight: int


class OrganisationList(Answer):
    organisations: tuple[OrganisationView, ...]


class KeyRequest(Message):
    organisation: Name
    member: Name
    role: Role


class KeyCreated(Answer):
    """The only time that the key is shown."""

    id: str
    key: str
    role: Role
    organisation: str


class KeyView(Answer):
    """A key without its secret."""

    id: str
    organisation: str
    member: str
    role: Role
    created_utc_ms: int
    revoked_utc_ms: int | None


class KeyList(Answer):
    keys: tuple[KeyView, ...]


class WhoAmI(Answer):
    organisation: str
    member: str
    role: Role


class DepositRequest(Message):
    organisation: Name
    amount: Quantity
    reference: Annotated[
        str, Field(min_length=1, max_length=80, pattern=NO_NUL)
    ]  # a repeat of a reference is not booked twice


# --- the hub itself ---------------------------------------------------------------------------------------------


class HubStats(Answer):
    orders: dict[str, int]  # count by state
    usage_records: int
    usage_gaps: int
    usage_duplicates: int
    disputed: int
    postings: int
    leader: bool


class Problem(Answer):
    """RFC 9457 problem+json."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    hint: str = ""
    retryable: bool = False
    request_id: str = ""
