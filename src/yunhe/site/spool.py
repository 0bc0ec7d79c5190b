"""What the agent must not forget: accepted leases, reports that the hub has not acknowledged, where the link stands.

SQLite, written with `synchronous=FULL`: an instruction counts as applied, and a report as made, only in a committed
transaction.  One thread uses a spool at a time.

    accepted --> started --> ended      a row leaves when the hub has acknowledged the report of its end
        `----------------------^
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from yunhe.core.errors import StorageFull
from yunhe.core.lifecycle import EndReason
from yunhe.site.crash import CrashPoint, no_crash
from yunhe.site.drivers.contract import LeaseKey
from yunhe.wire.invalid import readable
from yunhe.wire.link import (
    Certificate,
    Checkpoint,
    LeaseEnded,
    LeaseMoved,
    LeaseStaging,
    LeaseStarted,
    MovedFile,
    Proof,
    ProveNow,
    Report,
    StartLease,
    UsageReport,
    UsageTotals,
)

BUSY_MS = 5_000
RESERVE_BYTES = 1 << 20  # given free when the disk is full, so that ends of running jobs can still be written
SCHEMA = """
CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease (
    lease_id TEXT NOT NULL, epoch INTEGER NOT NULL, state TEXT NOT NULL, start TEXT NOT NULL,
    contact_ms INTEGER NOT NULL, boot TEXT NOT NULL, cancel TEXT,
    usage_n INTEGER NOT NULL DEFAULT 0, usage_to_ms INTEGER NOT NULL DEFAULT 0, totals TEXT,
    end_seq INTEGER,
    PRIMARY KEY (lease_id, epoch)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS report (seq INTEGER PRIMARY KEY, body TEXT NOT NULL);
"""
_reports: TypeAdapter[Report] = TypeAdapter(Report)


class LeaseState(StrEnum):
    ACCEPTED = "accepted"
    STARTED = "started"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Marks:
    """Where the link stands. `epoch_spoken`: the newest epoch that may have polled; `epoch_heard`: the newest that
    certainly did. A crash around the first poll of an epoch leaves the two apart."""

    epoch_spoken: int = 0
    epoch_heard: int = 0
    start_no: int = 0  # how often an agent was started on this spool
    applied_seq: int = 0
    report_seq: int = 0  # last one made
    certify_seq: int = 0  # last certify instruction seen; larger than `certified_seq`: still to be done
    certified_seq: int = 0


@dataclass(frozen=True, slots=True)
class HeldLease:
    start: StartLease
    state: LeaseState
    contact_ms: int
    boot: str  # the host's boot in which it was accepted: no job survives the next one
    cancel: EndReason | None = None
    totals: UsageTotals | None = None  # of the last usage report

    @property
    def key(self) -> LeaseKey:
        return LeaseKey(self.start.lease_id, self.start.epoch)


@dataclass(frozen=True, slots=True)
class Started:
    key: LeaseKey
    utc_ms: int


@dataclass(frozen=True, slots=True)
class Used:
    key: LeaseKey
    totals: UsageTotals
    final: bool
    saved_ms: int = 0  # of a job that saves checkpoints


@dataclass(frozen=True, slots=True)
class Ended:
    """The last word about a lease; a lease of which no `Started` was recorded has no usage."""

    key: LeaseKey
    reason: EndReason
    exit_code: int | None = None
    detail: str = ""
    checkpoint: Checkpoint | None = None  # of a preempted one, when the hub has it


@dataclass(frozen=True, slots=True)
class Staged:
    """How far a lease's data is. `problem`: why it is tried again."""

    key: LeaseKey
    phase: Literal["in", "out"]
    done_bytes: int = 0
    total_bytes: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """What was fetched for a lease, or what became of its outputs with a URL."""

    key: LeaseKey
    phase: Literal["in", "out"]
    files: tuple[MovedFile, ...]


Event = Started | Used | Ended | Staged | Moved


@dataclass(frozen=True, slots=True)
class Applied:
    """Instructions as the site takes them, with their net effect already worked out."""

    seq: int
    accepted: tuple[HeldLease, ...] = ()
    cancelled: tuple[tuple[LeaseKey, EndReason], ...] = ()
    certify_seq: int = 0
    prove: ProveNow | None = None  # not kept: the hub asks anew with another challenge
    # Leases that end without ever having been held: refused, too late, or cancelled in the same batch.
    ended: tuple[Ended, ...] = ()


class Spool:
    """Opens at `open()`. Raises StorageFull when a transaction cannot be written; then nothing of it is."""

    def __init__(self, path: Path, crash_point: CrashPoint = no_crash) -> None:
        self._path = path
        self._crash_point = crash_point
        self._reserve = path.with_suffix(".reserve")
        self._db: sqlite3.Connection | None = None

    def open(self) -> None:
        self._path.touch(mode=0o600, exist_ok=True)
        db = sqlite3.connect(self._path, isolation_level=None, timeout=BUSY_MS / 1000, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(SCHEMA)
        self._db = db
        self.refill_reserve()

    def close(self) -> None:
        if self._db:
            self._db.close()
            self._db = None

    def refill_reserve(self) -> bool:
        """Set the reserve aside again; False when the disk has no room for it."""
        if self._reserve.exists() and self._reserve.stat().st_size == RESERVE_BYTES:
            return True
        try:
            self._reserve.write_bytes(b"\0" * RESERVE_BYTES)
        except OSError:
            self._reserve.unlink(missing_ok=True)
            return False
        return True

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        assert self._db is not None, "open() comes first"
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            self._crash_point("spool.before_commit")
            db.execute("COMMIT")
            self._crash_point("spool.after_commit")
        except sqlite3.OperationalError as error:
            _rollback(db)
            self._reserve.unlink(missing_ok=True)
            raise StorageFull(f"the site's spool cannot be written: {error}", hint="free disk space here") from error
        except BaseException:
            _rollback(db)
            raise

    # --- reading --------------------------------------------------------------------------------------------------

    def marks(self) -> Marks:
        assert self._db is not None, "open() comes first"
        return Marks(**dict(self._db.execute("SELECT name, value FROM mark").fetchall()))

    def leases(self) -> list[HeldLease]:
        assert self._db is not None, "open() comes first"
        rows = self._db.execute("SELECT start, state, contact_ms, boot, cancel, totals FROM lease")
        return [
            HeldLease(
                StartLease.model_validate_json(start),
                LeaseState(state),
                contact_ms,
                boot,
                EndReason(cancel) if cancel else None,
                UsageTotals.model_validate_json(totals) if totals else None,
            )
            for start, state, contact_ms, boot, cancel, totals in rows
        ]

    def unsent(self) -> list[Report]:
        """Reports that the hub has not acknowledged, in order."""
        assert self._db is not None, "open() comes first"
        return [_reports.validate_json(body) for (body,) in self._db.execute("SELECT body FROM report ORDER BY seq")]

    # --- writing --------------------------------------------------------------------------------------------------

    def count_start(self) -> None:
        """Before the first word of a process: it is newer than every process that spoke from this spool before."""
        with self._transaction() as db:
            _set_mark(db, "start_no", self.marks().start_no + 1)

    def note_epoch(self, spoken: int, heard: int) -> None:
        """Before the first poll of an epoch: it may reach the hub even if this process never hears of it."""
        with self._transaction() as db:
            _set_mark(db, "epoch_spoken", spoken)
            _set_mark(db, "epoch_heard", heard)

    def skip_reports(self, hub_seq: int) -> None:
        """The hub has stored more reports than this spool remembers: continue after them."""
        with self._transaction() as db:
            if _mark(db, "report_seq") < hub_seq:
                _set_mark(db, "report_seq", hub_seq)

    def apply(self, applied: Applied) -> list[Report]:
        """Take instructions; returns the reports that this made at once (leases that ended before they began)."""
        with self._transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO lease (lease_id, epoch, state, start, contact_ms, boot, cancel)"
                " VALUES (?, ?, 'accepted', ?, ?, ?, ?)",
                [
                    (
                        *held.key,
                        held.start.model_dump_json(),
                        held.contact_ms,
                        held.boot,
                        held.cancel and held.cancel.value,
                    )
                    for held in applied.accepted
                ],
            )
            db.executemany(
                "UPDATE lease SET cancel = ? WHERE lease_id = ? AND epoch = ? AND cancel IS NULL",
                [(reason.value, *key) for key, reason in applied.cancelled],
            )
            made = self._write(db, applied.ended)
            if applied.certify_seq:
                _set_mark(db, "certify_seq", applied.certify_seq)
            _set_mark(db, "applied_seq", applied.seq)
        return made

    def record(self, events: Sequence[Event]) -> list[Report]:
        """Events of leases with their reports, in one transaction; each report has the next sequence number."""
        with self._transaction() as db:
            return self._write(db, events)

    def record_certificate(self, certificate: Certificate, certify_seq: int) -> Report:
        """The answer to the certify instruction `certify_seq`."""
        with self._transaction() as db:
            seq = _mark(db, "report_seq") + 1
            report = certificate.model_copy(update={"seq": seq})
            db.execute("INSERT INTO report VALUES (?, ?)", (seq, report.model_dump_json()))
            _set_mark(db, "report_seq", seq)
            _set_mark(db, "certified_seq", certify_seq)
        return report

    def record_proof(self, proof: Proof) -> Report:
        """The answer to a challenge."""
        with self._transaction() as db:
            seq = _mark(db, "report_seq") + 1
            report = proof.model_copy(update={"seq": seq})
            db.execute("INSERT INTO report VALUES (?, ?)", (seq, report.model_dump_json()))
            _set_mark(db, "report_seq", seq)
        return report

    def _write(self, db: sqlite3.Connection, events: Iterable[Event]) -> list[Report]:
        seq = _mark(db, "report_seq")
        made: list[Report] = []
        for event in events:
            report = _report(db, event, seq + 1)
            if report is not None:
                seq += 1
                made.append(report)
        if made:
            db.executemany("INSERT INTO report VALUES (?, ?)", [(r.seq, r.model_dump_json()) for r in made])
            _set_mark(db, "report_seq", seq)
        return made

    def acknowledge(self, report_seq: int) -> list[LeaseKey]:
        """The hub has stored the reports up to this one; returns the leases that are done with."""
        with self._transaction() as db:
            db.execute("DELETE FROM report WHERE seq <= ?", (report_seq,))
            rows = db.execute("DELETE FROM lease WHERE end_seq <= ? RETURNING lease_id, epoch", (report_seq,))
            return [LeaseKey(lease_id, epoch) for lease_id, epoch in rows.fetchall()]


def _rollback(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")


def _mark(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT value FROM mark WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


def _set_mark(db: sqlite3.Connection, name: str, value: int) -> None:
    db.execute("INSERT INTO mark VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value))


def _report(db: sqlite3.Connection, event: Event, seq: int) -> Report | None:
    """The report of an event, with the lease's row brought along. None: the row says that it was told already."""
    lease_id, epoch = event.key
    match event:
        case Started(_, utc_ms):
            update = "UPDATE lease SET state = 'started' WHERE lease_id = ? AND epoch = ? AND state = 'accepted'"
            if not db.execute(update, (lease_id, epoch)).rowcount:
                return None
            return LeaseStarted(seq=seq, lease_id=lease_id, epoch=epoch, started_utc_ms=utc_ms)
        case Used(_, totals, final, saved_ms):
            row = db.execute(
                "SELECT usage_n, usage_to_ms FROM lease WHERE lease_id = ? AND epoch = ? AND state = 'started'",
                (lease_id, epoch),
            ).fetchone()
            if row is None:
                return None
            n, from_ms = row
            if totals.wall_ms <= from_ms and not final:
                return None  # nothing new: after a restart the engine's totals may still be those of the last record
            to_ms = max(from_ms, totals.wall_ms)
            totals = totals.model_copy(update={"wall_ms": to_ms})
            db.execute(
                "UPDATE lease SET usage_n = ?, usage_to_ms = ?, totals = ? WHERE lease_id = ? AND epoch = ?",
                (n + 1, to_ms, totals.model_dump_json(), lease_id, epoch),
            )
            return UsageReport(
                seq=seq,
                lease_id=lease_id,
                epoch=epoch,
                n=n,
                from_ms=from_ms,
                to_ms=to_ms,
                totals=totals,
                final=final,
                saved_ms=saved_ms,
            )
        case Staged(_, phase, done, total, why):
            return LeaseStaging(
                seq=seq, lease_id=lease_id, epoch=epoch, phase=phase, done_bytes=done, total_bytes=total, problem=why
            )
        case Moved(_, phase, files):
            return LeaseMoved(seq=seq, lease_id=lease_id, epoch=epoch, phase=phase, files=files)
        case Ended(_, reason, exit_code, detail, checkpoint):
            done = db.execute(
                "UPDATE lease SET state = 'ended', end_seq = ? WHERE lease_id = ? AND epoch = ? AND state <> 'ended'",
                (seq, lease_id, epoch),
            ).rowcount
            known = db.execute("SELECT 1 FROM lease WHERE lease_id = ? AND epoch = ?", (lease_id, epoch)).fetchone()
            if known and not done:
                return None
            return LeaseEnded(
                seq=seq,
                lease_id=lease_id,
                epoch=epoch,
                reason=reason,
                exit_code=exit_code,
                detail=readable(detail).replace("\0", "\\0")[:500],
                checkpoint=checkpoint,
            )
