"""One poll of an agent and its answer."""

from typing import Annotated

from pydantic import Field

from yunhe.wire.link.instructions import SiteInstruction
from yunhe.wire.link.parts import MAX_REPORTS_PER_SYNC, Count, Id, Small
from yunhe.wire.link.reports import Report
from yunhe.wire.message import NO_NUL, Message


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


class SyncAnswer(Message):
    epoch: Count
    poll_no: Count
    report_seq: Count  # last report that the hub has stored
    want_snapshot: bool = False
    instructions: tuple[SiteInstruction, ...] = ()
