"""Reports: site to hub, each with a contiguous sequence number of the site."""

from typing import Annotated, Literal

from pydantic import Field

from yunhe.core.lifecycle import EndReason
from yunhe.wire.link.certificates import Certificate, Proof
from yunhe.wire.link.parts import MAX_MOVED_FILES, MAX_MOVED_PATH, Count, Id, Small
from yunhe.wire.message import NO_NUL, Message


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
    # From the start to the newest checkpoint that the job has written by now: says which spot lease loses least when it
    # ends, and is never money.
    saved_ms: Count = 0


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

    path: Annotated[str, Field(min_length=1, max_length=MAX_MOVED_PATH, pattern=NO_NUL)]
    size_bytes: Count = 0
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    problem: Annotated[str, Field(max_length=200, pattern=NO_NUL)] = ""


class LeaseMoved(Message):
    """What was fetched for the lease ("in"), or what became of its outputs with a URL ("out").

    The last one of an epoch and phase counts.
    """

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
