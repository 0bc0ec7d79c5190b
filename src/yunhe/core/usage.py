"""Usage of one lease epoch: cumulative records, accepted once, in order. Late, doubled and missing ones are told.

A record covers [from_ms, to_ms) since the lease's start and carries the totals at `to_ms`.  Record 0 starts at 0;
each next one starts where the last ended; one is final.  What counts is the contiguous prefix: its totals are those
of its last record, so nothing is summed twice and nothing in a hole is ever guessed.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Totals:
    """Cumulative since the lease's start, measured by the kernel; `sampled` where peak memory is not."""

    wall_ms: int
    cpu_ms: int
    peak_memory_bytes: int
    sampled: bool = False


NOTHING_USED = Totals(0, 0, 0)

# A site's clock and the hub's may drift apart by a thousandth (a crystal: 0.01 %, a clock that is being set right:
# 0.05 %), and the hub's may be set right by seconds between a placement and an end.
TOLERANCE_MS = 5_000
DRIFT_PART = 1_000


@dataclass(frozen=True, slots=True)
class Interval:
    """One usage record. Unique by (lease, epoch, n); n starts at 0."""

    n: int
    from_ms: int
    to_ms: int
    totals: Totals
    final: bool = False


@dataclass(frozen=True, slots=True)
class Prefix:
    """The records 0..n-1 that are known without a hole, by their last one (None: none yet)."""

    last: Interval | None = None

    @property
    def next_n(self) -> int:
        return 0 if self.last is None else self.last.n + 1

    @property
    def to_ms(self) -> int:
        return 0 if self.last is None else self.last.to_ms

    @property
    def totals(self) -> Totals:
        return NOTHING_USED if self.last is None else self.last.totals

    @property
    def complete(self) -> bool:
        return self.last is not None and self.last.final


@dataclass(frozen=True, slots=True)
class Accepted:
    """The record continues the prefix."""

    prefix: Prefix


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same record again, equal in every field: nothing changes."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Records first..last (inclusive) are missing before this one. Keep it aside: it counts once they came."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """The record contradicts what is known; it never counts, and `reason` says why."""

    reason: str


Verdict = Accepted | Duplicate | Gap | Conflict


def accept(known: Prefix, record: Interval, stored: Interval | None = None) -> Verdict:
    """Judge one record. `stored` is what is already kept under the same number, in the prefix or aside, if anything.

    Pure and idempotent: the caller stores the record on Accepted and Gap, counts it on Duplicate and Gap, and
    refuses it on Conflict.
    """
    if stored is None and known.last is not None and record.n == known.last.n:
        stored = known.last
    if stored is not None and stored != record:
        return Conflict(f"record {record.n} was reported before with other values")
    flaw = _flaw(record)
    if flaw:
        return Conflict(flaw)
    if record.n < known.next_n:
        return Duplicate() if stored is not None else Conflict(f"record {record.n} is counted but not kept")
    if known.complete:
        return Conflict(f"record {record.n} comes after the final one, {known.next_n - 1}")
    if record.n > known.next_n:
        return Duplicate() if stored is not None else Gap(known.next_n, record.n - 1)
    flaw = _discontinuity(known, record)
    return Conflict(flaw) if flaw else Accepted(Prefix(record))


def _flaw(record: Interval) -> str | None:
    """What is wrong with the record by itself. Only a final one may be empty: the job ended on the boundary."""
    totals = record.totals
    if min(record.n, record.from_ms, totals.wall_ms, totals.cpu_ms, totals.peak_memory_bytes) < 0:
        return f"record {record.n} has a negative value"
    if record.to_ms < record.from_ms or (record.to_ms == record.from_ms and not record.final):
        return f"record {record.n} ends at {record.to_ms} ms, not after its start at {record.from_ms} ms"
    if totals.wall_ms > record.to_ms:
        return f"record {record.n} tells {totals.wall_ms} ms of wall time, {record.to_ms} ms after the start"
    return None


def _discontinuity(known: Prefix, record: Interval) -> str | None:
    if record.from_ms != known.to_ms:
        kind = "overlaps" if record.from_ms < known.to_ms else "leaves a hole after"
        return f"record {record.n} starts at {record.from_ms} ms and {kind} what ends at {known.to_ms} ms"
    before, now = known.totals, record.totals
    for name, old, new in (
        ("wall_ms", before.wall_ms, now.wall_ms),
        ("cpu_ms", before.cpu_ms, now.cpu_ms),
        ("peak_memory_bytes", before.peak_memory_bytes, now.peak_memory_bytes),
    ):
        if new < old:
            return f"record {record.n} lowers {name} from {old} to {new}; totals never fall"
    return None


def extend(known: Prefix, aside: Iterable[Interval]) -> tuple[Prefix, tuple[Interval, ...]]:
    """Move records kept aside behind the prefix as far as they continue it; returns it and those that now count."""
    counted = []
    for record in sorted(aside, key=lambda r: r.n):
        verdict = accept(known, record)
        if isinstance(verdict, Accepted):
            known = verdict.prefix
            counted.append(record)
    return known, tuple(counted)


def up_to(counted: Iterable[Interval], to_ms: int) -> Totals:
    """What is known to have been used by `to_ms` since the start: elapsed time to the ms, CPU time and memory as of the
    last record that ends by then (between two records nothing is guessed, so that is the least it can have been).

    `counted` are the records of the contiguous prefix.
    """
    last = NOTHING_USED
    whole = 0
    for record in sorted(counted, key=lambda r: r.n):
        whole = record.totals.wall_ms
        if record.to_ms <= to_ms:
            last = record.totals
    return Totals(max(0, min(to_ms, whole)), last.cpu_ms, last.peak_memory_bytes, last.sampled)


def most_wall_ms(placed_ms: int, ended_ms: int) -> int:
    """The most that an attempt can have run by the hub's own clock: from its placement to its end, with a tolerance."""
    elapsed_ms = max(0, ended_ms - placed_ms)
    return elapsed_ms + elapsed_ms // DRIFT_PART + TOLERANCE_MS


def bounded(used: Totals, milli: int, most_ms: int) -> Totals:
    """What counts of `used` by `milli` thousandths of a unit that ran for at most `most_ms`: a site's word is no more
    than its lease was. The rest was not agreed, or cannot have been."""
    wall_ms = min(used.wall_ms, most_ms)
    busy_ms = (min(most_ms, wall_ms + TOLERANCE_MS) * milli + 999) // 1000
    return Totals(wall_ms, min(used.cpu_ms, busy_ms), used.peak_memory_bytes, used.sampled)


def between(earlier: Prefix, later: Prefix) -> Totals:
    """What was used from the end of `earlier` to the end of `later` (peak memory is the later one's)."""
    a, b = earlier.totals, later.totals
    return Totals(b.wall_ms - a.wall_ms, b.cpu_ms - a.cpu_ms, b.peak_memory_bytes, b.sampled)
