"""Orders: what is asked for, what is offered, what became of it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer, SecretStr, SerializationInfo

from yunhe.core.demand import Preference
from yunhe.core.lifecycle import OrderState, TaskState
from yunhe.wire.api.money import PriceView
from yunhe.wire.link import OperatorName
from yunhe.wire.message import NO_NUL, NUMBER, Answer, Message, Name, Quantity
from yunhe.wire.origin import Origin
from yunhe.wire.urls import DataUrl

MAX_BATCH_ORDERS = 10_000
MAX_FILES_BYTES = 1024 * 1024
MAX_COMMAND_CHARS = 64 * 1024  # with the environment
MAX_LOOK = 1_000  # orders of one look
MAX_SECRETS = 16
MAX_SECRET_BYTES = 8 * 1024  # each, in UTF-8
REVEAL = {"reveal": True}  # serialisation context of the one who sends an order; all others get MASK
MASK = "**********"

EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Word = Annotated[str, Field(max_length=4096)]
Image = Annotated[str, Field(max_length=300, pattern=r"^[^\s\x00]*$")]
Command = Annotated[tuple[Word, ...], Field(min_length=1, max_length=256)]


def _shown(value: SecretStr, info: SerializationInfo) -> str:
    return value.get_secret_value() if info.context == REVEAL else MASK


Secret = Annotated[
    SecretStr, Field(min_length=1, max_length=MAX_SECRET_BYTES), PlainSerializer(_shown, when_used="json")
]


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("must be a path inside the job's directory, without '..'")
    return path


RelativePath = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00\\]+$"), AfterValidator(_inside)]


# --- requirement and order -----------------------------------------------------------------------------------------


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

    cores: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False), NUMBER] | None = None  # per slot
    cards: Annotated[int, Field(gt=0, le=100_000), NUMBER] | None = None  # per slot
    compute: Quantity | None = None  # "0.05TFLOPS@fp64", of the whole task
    work: Quantity | None = None  # "3EFLOP@bf16", done before the deadline
    chip: Name | None = None
    slots: Annotated[int, Field(ge=1, le=20_000), NUMBER] = 1
    memory: Quantity | None = None  # per slot
    card_memory: Quantity | None = None  # per card
    latency: Annotated[tuple[LatencySpec | Quantity, ...], Field(max_length=16)] | LatencySpec | Quantity = ()
    bandwidth: Quantity | None = None
    data: DataSpec | None = None
    residency: Annotated[tuple[Name, ...], Field(max_length=64)] = ()
    tier: Annotated[int, Field(ge=0, le=5), NUMBER] = 0
    # Of the pool's software stack, as its certificate lists them: `yunhe site show SITE`.
    operators: Annotated[tuple[OperatorName, ...], Field(max_length=32)] = ()
    max_carbon: Quantity | None = None  # "400g/kWh"
    sites: Annotated[tuple[Name, ...], Field(max_length=256)] = ()
    pools: Annotated[tuple[Name, ...], Field(max_length=256)] = ()


class CheckpointSpec(Message):
    """The job saves its work in a folder of its directory ($YUNHE_CHECKPOINT) and goes on from what it finds there.

    A site that needs the units for its own users sends `signal`, waits for as long as it says, and stops the job.
    """

    signal: Literal["SIGTERM", "SIGUSR1"] = "SIGTERM"
    folder: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")] = "checkpoint"


class InputSpec(Message):
    """A file that the site fetches into the job's directory before the job starts. `size` and `sha256` are checked."""

    url: DataUrl  # "{task}" in it is the number of the task
    path: RelativePath
    size: Annotated[int, Field(ge=0, le=2**50), NUMBER] | Quantity | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    secret: EnvName | None = None  # of run.secrets: the options of the store (docs/data.md), as JSON


class OutputSpec(Message):
    """A file or folder that the site sends to `url` when the job has ended."""

    path: RelativePath
    url: DataUrl


class RunSpec(Message):
    """One command per software stack; `command` alone means the cpu stack."""

    command: Command | None = None
    stacks: Annotated[dict[Name, Command], Field(max_length=8)] = Field(default_factory=dict)
    # Container image of the command, or one per stack; engines without containers run the command as it is.
    image: Image = ""
    images: Annotated[dict[Name, Image], Field(max_length=8)] = Field(default_factory=dict)
    network: bool = False  # the job may open network connections
    env: Annotated[dict[EnvName, Word], Field(max_length=64)] = Field(default_factory=dict)
    # Text of small files put into the job's directory (programs, parameters); 1 MiB together.
    files: Annotated[dict[RelativePath, str], Field(max_length=64)] = Field(default_factory=dict)
    inputs: Annotated[tuple[InputSpec, ...], Field(max_length=64)] = ()
    outputs: Annotated[tuple[RelativePath | OutputSpec, ...], Field(max_length=64)] = ()
    checkpoint: CheckpointSpec | None = None  # None: a job that is stopped midway starts from nothing
    # Given to the job as files $YUNHE_SECRETS/NAME, kept nowhere in the clear; shown and stored as MASK.
    secrets: Annotated[dict[EnvName, Secret], Field(max_length=MAX_SECRETS)] = Field(default_factory=dict)


class OrderSpec(Message):
    """The whole order, as YAML, as JSON and over the API."""

    name: Name = "order"
    run: RunSpec
    requirement: RequirementSpec = Field(default_factory=RequirementSpec)
    duration: Quantity = "10m"  # run limit of one task
    start_at: Quantity | None = None  # "in 2h", or an ISO 8601 time with zone: capacity is booked for then
    deadline: Quantity | None = None  # "6h" from now, or an ISO 8601 time with zone
    # "6h", or "deadline" for as long as that allows: it may wait so long for an hour of cheaper or cleaner power.
    patience: Quantity | None = None
    budget: Quantity | None = None  # "2CNY"
    preference: Preference = Preference.COST
    array: Annotated[int, Field(ge=1, le=10_000), NUMBER] = 1
    priority: Annotated[int, Field(ge=0, le=9), NUMBER] = 0
    retries: Annotated[int, Field(ge=0, le=10), NUMBER] = 0
    spot: bool = False  # cheaper, and ended by the network when an order that is not needs its units
    origin: Origin | None = None  # set by a hub that passes the order down, see docs/drivers/hub.md


class OrderBatch(Message):
    """Many orders in one call; all are accepted or none."""

    orders: Annotated[tuple[OrderSpec, ...], Field(min_length=1, max_length=MAX_BATCH_ORDERS)]


class BatchAccepted(Answer):
    ids: tuple[str, ...]


# --- quote ---------------------------------------------------------------------------------------------------------


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
    # Within 24 hours and the deadline, where power changes with the hour: the start with the least expected cost (or
    # carbon, where that is preferred), and what it saves against one now, micro-CNY or milligrams. Nothing is reserved.
    best_start_utc_ms: int | None = None
    best_saves: int = 0


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


class CandidateView(Answer):
    """A pool that fitted an order. `reasons`: why none, or no more, of its tasks went there."""

    rank: int  # 1: the best by the order's preference
    site_id: str
    site_name: str
    pool_id: str
    chip: str
    tasks: int  # that went there
    units_milli: int  # per task
    run_ms: int
    start_utc_ms: int
    finish_utc_ms: int
    price: PriceView  # expected, of the whole order there
    carbon_mg: int
    latency_us: tuple[int, ...]  # one per bound
    free_milli: int  # of the pool when the round began
    left_milli: int  # when it was over
    reasons: tuple[ReasonView, ...]


class PlacingView(Answer):
    """Why one attempt went where it did. `chosen` None: the round that decided it is kept no more."""

    lease_id: str
    epoch: int
    site_id: str
    pool_id: str
    placed_utc_ms: int
    text: str  # in plain sentences
    round_id: int | None = None
    preference: str = ""
    fitting: int = 0  # pools that fitted then
    chosen: CandidateView | None = None
    others: tuple[CandidateView, ...] = ()  # the best of those that were not chosen, each with its reasons


class WaitView(Answer):
    """An order waits for an hour of cheaper or cleaner power. No capacity is reserved for it."""

    site_id: str
    start_utc_ms: int  # expected
    latest_utc_ms: int
    preference: Preference
    saves: int  # of its tasks that wait, against a start now: micro-CNY, or milligrams of CO2 (preference carbon)
    saves_percent: int


class WhyView(Answer):
    """Why an order is where it is, or why it waits."""

    order_id: str
    state: OrderState
    summary: str
    placed: tuple[str, ...] = ()  # "task 0: zhangjiakou (cheapest of 2 offers)"
    sites: tuple[SiteReasonsView, ...] = ()
    wait: WaitView | None = None
    placings: tuple[PlacingView, ...] = ()  # of an order that was placed: the newest attempts


# --- orders that exist ---------------------------------------------------------------------------------------------


class StagingView(Answer):
    """How far a task's data is: "in" before its job starts, "out" after it has ended."""

    phase: str
    done_bytes: int
    total_bytes: int | None = None  # None: not known
    problem: str = ""  # why it is tried again


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
    kept_ms: int = 0  # saved by attempts that were preempted; the next one goes on from there
    staging: StagingView | None = None  # while data moves
    delivery: str = ""  # of outputs with a URL, when the job has ended: "delivered" or "undelivered"
    booked_from_utc_ms: int | None = None  # while it is booked
    booked_until_utc_ms: int | None = None
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
    tasks: dict[str, int]  # count by task state, and "staging" for leased tasks whose data is being fetched
    undelivered: int = 0  # tasks with an output that did not get to its URL
    hold_microcny: int
    charged_microcny: int
    settled: bool


class AttemptView(Answer):
    """One placement of a task: whether it began there, how it ended (None: not yet), and what it used so far."""

    epoch: int
    started: bool
    end_reason: str | None
    wall_ms: int
    cpu_ms: int
    peak_memory_bytes: int
    sampled: bool


class Follow(Message):
    """Whoever looks stands for all own orders whose Idempotency-Key begins with `tag` and a colon: when nobody has
    looked for it for `silence_ms`, the hub cancels those that go on."""

    tag: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
    silence_ms: Annotated[int, Field(ge=1_000, le=2**40)]


class LookRequest(Message):
    """Orders by the Idempotency-Keys under which they were submitted."""

    follow: Follow | None = None

    keys: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=100, pattern=NO_NUL)], ...], Field(max_length=MAX_LOOK)
    ]


class FactView(Answer):
    utc_ms: int
    lease_id: str | None
    epoch: int | None
    kind: str
    detail: str


class LookView(Answer):
    """What became of one order: of its first task every attempt, oldest first."""

    key: str
    order: OrderView
    task: TaskView
    attempts: tuple[AttemptView, ...]


class LookList(Answer):
    orders: tuple[LookView, ...]


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
    stored: bool = True  # the hub has it too; otherwise it is at its URL alone
    url: str = ""  # where the site sent it
    problem: str = ""  # why it did not get there


class OutputList(Answer):
    outputs: tuple[OutputView, ...]
