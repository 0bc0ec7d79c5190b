"""Messages of the hub-site link. The agent dials out; see docs/architecture.md for the protocol.

Every request is signed with the site's Ed25519 key over `signed_bytes` (see `yunhe.wire.signing`). Times named
`_ms` without `utc` are milliseconds on the site's monotonic clock since the lease's start.
"""

from typing import Annotated, Literal

from pydantic import Field

from yunhe.core.demand import Precision
from yunhe.core.lifecycle import EndReason
from yunhe.wire.message import NO_NUL, Message
from yunhe.wire.origin import HubId, Origin
from yunhe.wire.urls import DataUrl

MAX_SYNC_BYTES = 4 * 1024 * 1024
MAX_REPORTS_PER_SYNC = 1_000
MAX_INSTRUCTIONS_PER_ANSWER = 500
MAX_CHUNK_BYTES = 1024 * 1024
MAX_MOVED_FILES = 200  # of one lease and phase
CHECKPOINT_PATH = "yunhe-checkpoint.tar"  # among an attempt's outputs
LINK_VERSION: Literal[1] = 1

Id = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
Small = Annotated[int, Field(ge=0, le=2**31 - 1)]  # numbers of epochs of a lease, and of records of one
OperatorName = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
Version = Annotated[str, Field(max_length=80, pattern=NO_NUL)]
Challenge = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


# --- enrolment ------------------------------------------------------------------------------------------------


class Enrol(Message):
    """One-time token plus the site's public key; the operator approves afterwards. Not signed: the token is proof,
    but `proof` is a signature of the token by the new key, so that the key is held by the sender."""

    token: Annotated[str, Field(max_length=200, pattern=NO_NUL)]
    name: Annotated[str, Field(min_length=1, max_length=60, pattern=NO_NUL)]
    public_key: Annotated[str, Field(max_length=64)]  # base64url, raw Ed25519
    proof: Annotated[str, Field(max_length=128)]
    cluster: Annotated[str, Field(max_length=40, pattern=NO_NUL)] | None = None  # facts/clusters id
    # Needed without a cluster: region, lat and lon.
    region: Annotated[str, Field(max_length=40, pattern=NO_NUL)] | None = None
    lat: Annotated[float, Field(ge=-90, le=90)] | None = None
    lon: Annotated[float, Field(ge=-180, le=180)] | None = None


class Enrolled(Message):
    site_id: Id
    state: str


class Hello(Message):
    """Ask for a new agent epoch. `previous_epoch` is the last one with which this spool polled (0: none)."""

    site_id: Id
    previous_epoch: Count
    # Of this agent process: the same hello again (repeated, doubled, late) is the same epoch, not one more.
    nonce: Annotated[str, Field(max_length=40, pattern=r"^[0-9a-f]*$")] = ""
    # How often an agent was started on this spool: the late hello of a process that is gone displaces no newer one.
    start_no: Count = 0
    link_version: Literal[1] = LINK_VERSION  # a hub that speaks another one says so at the first word
    agent_version: Annotated[str, Field(max_length=40, pattern=NO_NUL)] = ""


class Welcome(Message):
    epoch: Count
    poll_hold_ms: Count  # longest time that the hub holds a poll
    report_seq: Count  # last report of this site that the hub has stored
    hub_utc_ms: Count


# --- reports: site to hub, each with a contiguous sequence number of the site -----------------------------------


class LeaseStarted(Message):
    kind: Literal["started"] = "started"
    seq: Count
    lease_id: Id
    epoch: Small
    started_utc_ms: Count  # the site's wall clock, shown only


class Checkpoint(Message):
    """What an attempt left to go on from: a tar archive among its outputs, at CHECKPOINT_PATH."""

    epoch: Small  # the attempt that saved it
    kept_ms: Count  # from that attempt's start to its newest file
    size_bytes: Count
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class LeaseEnded(Message):
    kind: Literal["ended"] = "ended"
    seq: Count
    lease_id: Id
    epoch: Small
    reason: EndReason
    exit_code: Annotated[int, Field(ge=-(2**31), le=2**31 - 1)] | None = None
    detail: Annotated[str, Field(max_length=500, pattern=NO_NUL)] = ""
    checkpoint: Checkpoint | None = None  # of a preempted attempt, once the hub has it


class UsageTotals(Message):
    """Cumulative since the lease's start, at `to_ms`. All measured by the kernel, `sampled` where it is not."""

    wall_ms: Count  # elapsed
    cpu_ms: Count
    peak_memory_bytes: Count
    sampled: bool = False  # peak memory read by sampling the process tree


class UsageReport(Message):
    """The interval [from_ms, to_ms) since lease start. Unique by (lease_id, epoch, n); n starts at 0."""

    kind: Literal["usage"] = "usage"
    seq: Count
    lease_id: Id
    epoch: Small
    n: Small
    from_ms: Count
    to_ms: Count
    totals: UsageTotals
    final: bool


class BenchmarkResult(Message):
    """Median of `repeats` runs; spread is (max - min) / median in percent."""

    # "gemm_fp64", "gemm_fp32", "memory_bandwidth", "disk_write", ...
    name: Annotated[str, Field(max_length=40, pattern=NO_NUL)]
    value: Annotated[float, Field(ge=0, le=1e24, allow_inf_nan=False)]
    unit: Annotated[str, Field(max_length=20, pattern=NO_NUL)]  # "FLOP/s", "B/s"
    repeats: Annotated[int, Field(ge=1, le=1000)]
    spread_percent: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class RateReport(Message):
    """FLOP/s of one whole unit."""

    precision: Precision
    nominal_flops: Count | None = None
    measured_flops: Count | None = None
    not_measured: Annotated[str, Field(max_length=200, pattern=NO_NUL)] = ""  # why, where it is not


class Missing(Message):
    """An operator that did not run, and what it said."""

    operator: OperatorName
    reason: Annotated[str, Field(max_length=200, pattern=NO_NUL)]


class StackReport(Message):
    """What of the pool's software stack was tried in a job of its own, and with which versions."""

    versions: Annotated[dict[Version, Version], Field(max_length=24)] = Field(default_factory=dict)
    operators: Annotated[tuple[OperatorName, ...], Field(max_length=64)] = ()  # ran, with the right result
    missing: Annotated[tuple[Missing, ...], Field(max_length=64)] = ()


class PoolReport(Message):
    """A discovered and tested pool. `name` is unique in the site; the hub's pool id is `site_id:name`."""

    name: Annotated[str, Field(min_length=1, max_length=24, pattern=r"^[a-z0-9][a-z0-9-]*$")]
    kind_of_unit: Literal["core", "card"]
    chip: Annotated[str, Field(max_length=40, pattern=NO_NUL)]  # catalogue id or "unknown"
    chip_name: Annotated[str, Field(max_length=120, pattern=NO_NUL)]  # as the hardware says it
    stack: Annotated[str, Field(max_length=16, pattern=NO_NUL)]
    capacity_milli: Count
    memory_bytes: Count
    card_memory_bytes: Count = 0
    max_slot_milli: Count
    watts_per_unit: Annotated[int, Field(ge=0, le=100_000)]
    watts_source: Annotated[str, Field(max_length=200, pattern=NO_NUL)] = "assumed"
    # Of a pool behind another hub: the hubs in between, the site's own first; what the site asks for a unit; and when
    # the figures were measured down there (0: with the certificate).
    hubs: Annotated[tuple[HubId, ...], Field(max_length=8)] = ()
    asking_microcny_per_unit_hour: Annotated[int, Field(ge=1, le=10**12)] | None = None
    tested_utc_ms: Count = 0
    rates: Annotated[tuple[RateReport, ...], Field(max_length=16)]
    benchmarks: Annotated[tuple[BenchmarkResult, ...], Field(max_length=32)] = ()
    stack_check: StackReport | None = None  # None: not tried; an order that needs operators does not go there


class Certificate(Message):
    """What the site has, and what the benchmark measured. Replaces the one before."""

    kind: Literal["certificate"] = "certificate"
    seq: Count
    tested_utc_ms: Count
    tier: Annotated[int, Field(ge=0, le=5)]
    isolation: Annotated[str, Field(max_length=200, pattern=NO_NUL)]  # "bubblewrap + cgroup v1", "process groups"
    software: Annotated[str, Field(max_length=500, pattern=NO_NUL)]
    pools: Annotated[tuple[PoolReport, ...], Field(max_length=64)]
    # Of the site's own network: "rtt_hub", "rate_hub", "rtt_ADDRESS".
    network: Annotated[tuple[BenchmarkResult, ...], Field(max_length=32)] = ()


class Proof(Message):
    """The answer to a ProveNow, named by its challenge. A second one of the same challenge changes nothing."""

    kind: Literal["proof"] = "proof"
    seq: Count
    challenge: Challenge
    digests: Annotated[str, Field(max_length=400_000)] = ""  # base64, see core.chain.Answer
    columns: Annotated[str, Field(max_length=400_000)] = ""
    error: Annotated[str, Field(max_length=300, pattern=NO_NUL)] = ""  # why there is none


class LeaseStaging(Message):
    """How far the lease's data is: before the job starts, and after it has ended. Each replaces the one before."""

    kind: Literal["staging"] = "staging"
    seq: Count
    lease_id: Id
    epoch: Small
    phase: Literal["in", "out"]
    done_bytes: Count
    total_bytes: Count | None = None  # None: not known yet
    problem: Annotated[str, Field(max_length=300, pattern=NO_NUL)] = ""  # why it is tried again


class MovedFile(Message):
    """An input or an output with a URL; the order says which URL. `problem`: it did not get there."""

    path: Annotated[str, Field(min_length=1, max_length=400, pattern=NO_NUL)]
    size_bytes: Count = 0
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    problem: Annotated[str, Field(max_length=200, pattern=NO_NUL)] = ""


class LeaseMoved(Message):
    """What was fetched for the lease ("in"), or what became of its outputs with a URL ("out"). Once per phase."""

    kind: Literal["moved"] = "moved"
    seq: Count
    lease_id: Id
    epoch: Small
    phase: Literal["in", "out"]
    files: Annotated[tuple[MovedFile, ...], Field(max_length=MAX_MOVED_FILES)]


Report = Annotated[
    LeaseStarted | LeaseEnded | UsageReport | Certificate | Proof | LeaseStaging | LeaseMoved,
    Field(discriminator="kind"),
]


# --- sync -----------------------------------------------------------------------------------------------------


class LeaseDigest(Message):
    """One lease that the site still holds (accepted, and its end not yet acknowledged)."""

    lease_id: Id
    epoch: Small
    started: bool


class PoolDigest(Message):
    """Units and memory that others than the hub's leases use right now."""

    name: Annotated[str, Field(max_length=24, pattern=NO_NUL)]
    foreign_milli: Count = 0
    foreign_memory_bytes: Count = 0
    longest_ms: Count | None = None  # the longest run limit that this pool takes now; None: any
    # Shown, never placed on. None: the engine cannot say, which is not zero.
    busy_milli: Count | None = None  # units that really work, for whomever
    powered_milli: Count | None = None  # units that are on


class Sync(Message):
    """One poll. `applied_seq` is the last instruction that the spool holds durably."""

    site_id: Id
    epoch: Count
    poll_no: Annotated[int, Field(ge=1, le=2**53)]
    applied_seq: Count
    wait_ms: Annotated[int, Field(ge=0, le=60_000)]
    accepting: bool = True  # False: the site's own pause; leases that run go on
    reports: Annotated[tuple[Report, ...], Field(max_length=MAX_REPORTS_PER_SYNC)] = ()
    pools: Annotated[tuple[PoolDigest, ...], Field(max_length=64)] = ()
    # Full snapshot: every lease that the site holds; sent on a new epoch and about every 10 minutes.
    leases: Annotated[tuple[LeaseDigest, ...], Field(max_length=100_000)] | None = None


class CheckpointPlan(Message):
    """How the job is told to save its work, and where it does: `folder` of its directory is $YUNHE_CHECKPOINT."""

    signal: Literal["SIGTERM", "SIGUSR1"] = "SIGTERM"
    folder: str
    cap_bytes: Count


class DataInput(Message):
    """A file to be in the job's directory before the job starts."""

    url: DataUrl
    path: str
    size_bytes: Count | None = None
    sha256: str = ""
    secret: str = ""  # of the lease's secrets: options of the store, as JSON


class Delivery(Message):
    """A file or folder that goes to a URL when the job has ended."""

    path: str
    url: DataUrl


class StartLease(Message):
    kind: Literal["start"] = "start"
    seq: Count
    lease_id: Id
    epoch: Small
    pool: str  # pool name in the site
    slots: int
    slot_milli: int  # units per slot
    slot_memory_bytes: int  # per slot; 0: the slot's share of the pool
    run_limit_ms: int
    disconnect_limit_ms: int
    command: tuple[str, ...]
    tenant: str = ""  # the customer's organisation: whose jobs may see each other's files
    origin: Origin | None = None  # of an order that another hub has passed down to this one
    earns_microcny: int = 0  # most that this attempt can bring the site's provider; 0: not said
    image: str = ""  # container image of the command; empty: the engine's own
    network: bool = False  # the job may open connections; otherwise it has none where the engine can hold it
    secrets: tuple[str, ...] = ()  # names; the values by POST /v1/agent/secrets/{lease_id}/{epoch}
    env: dict[str, str] = Field(default_factory=dict)
    bundle_sha256: str | None = None  # files for the job's directory, GET /v1/agent/bundles/{sha256}
    inputs: tuple[DataInput, ...] = ()
    outputs: tuple[str, ...] = ()  # relative paths to collect at the end
    deliveries: tuple[Delivery, ...] = ()  # those of them that go to a URL too
    log_cap_bytes: int = 10 * 1024 * 1024
    output_cap_bytes: int = 64 * 1024 * 1024
    checkpoint: CheckpointPlan | None = None
    restore: Checkpoint | None = None  # to be in the folder before the job starts, GET /v1/agent/checkpoints/...


class SecretsWanted(Message):
    """Asks for the secrets of a lease that this site holds and that has not started."""

    public_key: Annotated[str, Field(max_length=64)]  # base64, raw X25519, made for this delivery


class SealedSecrets(Message):
    sealed: Annotated[str, Field(max_length=512 * 1024)]  # `wire.sealing` of a JSON object, name to text


class CancelLease(Message):
    kind: Literal["cancel"] = "cancel"
    seq: Count
    lease_id: Id
    epoch: Small
    reason: EndReason


class CertifyNow(Message):
    """Measure now: the hub lets one site at a time do so. Answered by a Certificate report."""

    kind: Literal["certify"] = "certify"
    seq: Count


class ProveNow(Message):
    """Show a claimed rate: compute the chain of `core.chain` that `challenge` names. Answered by a Proof report.

    The hub counts the time from here to the answer. One at a time; a newer one replaces one that was not begun.
    """

    kind: Literal["prove"] = "prove"
    seq: Count
    challenge: Challenge
    pool: str
    precision: Precision
    n: Annotated[int, Field(ge=1, le=4_096)]
    width: Annotated[int, Field(ge=1, le=16_384)]
    steps: Annotated[int, Field(ge=1, le=65_536)]


SiteInstruction = Annotated[StartLease | CancelLease | CertifyNow | ProveNow, Field(discriminator="kind")]


class SyncAnswer(Message):
    epoch: Count
    poll_no: Count
    report_seq: Count  # last report that the hub has stored
    want_snapshot: bool = False
    instructions: tuple[SiteInstruction, ...] = ()
