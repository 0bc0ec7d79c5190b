"""The spool: contiguous reports, one transaction per cause, and nothing lost when the process is killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.fake_hub import start_lease
from tests.site.conftest import fill_disk, small_disk
from yunhe.core.errors import StorageFull
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.recorder import Recorder
from yunhe.site.spool import Applied, Ended, HeldLease, LeaseState, Spool, Started, Used
from yunhe.wire.link import (
    MAX_REPORTS_PER_SYNC,
    MAX_SYNC_BYTES,
    Certificate,
    LeaseEnded,
    LeaseMoved,
    LeaseStarted,
    MovedFile,
    Sync,
    UsageReport,
    UsageTotals,
)

A = LeaseKey("a", 1)


def opened(path: Path) -> Spool:
    spool = Spool(path)
    spool.open()
    return spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return opened(tmp_path / "spool.sqlite")


def held(lease_id: str = "a") -> HeldLease:
    return HeldLease(start_lease(lease_id, ("x",)), LeaseState.ACCEPTED, contact_ms=5, boot="boot")


def totals(wall_ms: int) -> UsageTotals:
    return UsageTotals(wall_ms=wall_ms, cpu_ms=1, peak_memory_bytes=1)


def test_a_lease_from_start_to_acknowledgement(spool: Spool, tmp_path: Path) -> None:
    assert spool.apply(Applied(seq=4, accepted=(held(),))) == []
    assert spool.marks().applied_seq == 4
    (lease,) = spool.leases()
    assert (lease.key, lease.state, lease.contact_ms, lease.boot) == (A, LeaseState.ACCEPTED, 5, "boot")
    made = spool.record([Started(A, 77), Used(A, totals(100), final=False)])
    made += spool.record([Used(A, totals(250), final=True), Ended(A, EndReason.EXITED, 0)])
    assert [report.seq for report in made] == [1, 2, 3, 4]
    started, first, last, ended = made
    assert isinstance(started, LeaseStarted) and started.started_utc_ms == 77
    assert isinstance(first, UsageReport) and (first.n, first.from_ms, first.to_ms, first.final) == (0, 0, 100, False)
    assert isinstance(last, UsageReport) and (last.n, last.from_ms, last.to_ms, last.final) == (1, 100, 250, True)
    assert isinstance(ended, LeaseEnded) and ended.exit_code == 0
    spool.close()
    again = opened(tmp_path / "spool.sqlite")
    assert again.unsent() == made
    assert again.acknowledge(3) == []
    assert again.unsent() == [ended]
    assert again.acknowledge(4) == [A]
    assert again.unsent() == [] and again.leases() == []
    assert again.marks().report_seq == 4


def test_what_was_told_is_not_told_again(spool: Spool) -> None:
    spool.apply(Applied(seq=1, accepted=(held(),)))
    spool.record([Started(A, 1)])
    assert spool.record([Started(A, 2)]) == []
    spool.record([Used(A, totals(5), final=True), Ended(A, EndReason.EXITED, 0)])
    assert spool.record([Started(A, 3), Used(A, totals(9), final=True), Ended(A, EndReason.LOST)]) == []
    assert spool.marks().report_seq == 3


def test_applying_again_changes_nothing(spool: Spool) -> None:
    spool.apply(Applied(seq=1, accepted=(held(),)))
    spool.record([Started(A, 1)])
    spool.apply(Applied(seq=1, accepted=(held(),)))
    assert [lease.state for lease in spool.leases()] == [LeaseState.STARTED]


def test_a_lease_that_never_started_has_no_usage(spool: Spool) -> None:
    spool.apply(Applied(seq=1, accepted=(held(),)))
    detail = "\0\ud800" + "x" * 900
    (only,) = spool.record([Used(A, totals(5), final=True), Ended(A, EndReason.SPAWN_FAILED, detail=detail)])
    assert isinstance(only, LeaseEnded) and len(only.detail) == 500


def test_ends_of_leases_never_held(spool: Spool) -> None:
    made = spool.apply(
        Applied(seq=3, ended=(Ended(A, EndReason.SITE_REFUSED), Ended(LeaseKey("b", 2), EndReason.LOST)))
    )
    assert [(report.kind, report.seq) for report in made] == [("ended", 1), ("ended", 2)]
    assert spool.leases() == []
    assert spool.acknowledge(2) == []


def test_cancels_are_kept(spool: Spool) -> None:
    spool.apply(Applied(seq=1, accepted=(held(),)))
    spool.apply(Applied(seq=2, cancelled=((A, EndReason.TIME_LIMIT),)))
    spool.apply(Applied(seq=3, cancelled=((A, EndReason.CANCELLED),)))
    assert spool.leases()[0].cancel is EndReason.TIME_LIMIT


def test_certificates_and_epochs(spool: Spool) -> None:
    spool.apply(Applied(seq=1, certify_seq=1))
    certificate = Certificate(seq=0, tested_utc_ms=1, tier=0, isolation="", software="", pools=())
    assert spool.record_certificate(certificate, 1).seq == 1
    spool.note_epoch(spoken=7, heard=6)
    marks = spool.marks()
    assert (marks.certify_seq, marks.certified_seq, marks.epoch_spoken, marks.epoch_heard) == (1, 1, 7, 6)
    spool.skip_reports(40)
    spool.skip_reports(3)
    assert spool.record_certificate(certificate, 1).seq == 41


def test_usage_never_runs_backwards(spool: Spool) -> None:
    spool.apply(Applied(seq=1, accepted=(held(),)))
    spool.record([Started(A, 1), Used(A, totals(500), final=False)])
    (last,) = spool.record([Used(A, totals(400), final=True)])
    assert isinstance(last, UsageReport) and (last.from_ms, last.to_ms, last.totals.wall_ms) == (500, 500, 500)


def test_usage_that_did_not_grow_is_no_record(spool: Spool) -> None:
    """After a restart the engine's totals may still be those of the last record; the hub refuses an empty interval."""
    spool.apply(Applied(seq=1, accepted=(held(),)))
    spool.record([Started(A, 1), Used(A, totals(500), final=False)])
    assert spool.record([Used(A, totals(500), final=False)]) == []
    (later,) = spool.record([Used(A, totals(700), final=False)])
    assert isinstance(later, UsageReport) and (later.n, later.from_ms, later.to_ms) == (1, 500, 700)


WRITER = """
import sys
from pathlib import Path
from tests.site.test_spool import *
spool = opened(Path(sys.argv[1]))
done = spool.marks().applied_seq
while True:
    done += 1
    lease = held(f"l{done}")
    spool.apply(Applied(seq=done, accepted=(lease,)))
    sys.stdout.write(f"a {done}\\n"); sys.stdout.flush()
    events = [Started(lease.key, 1), Used(lease.key, totals(9), final=True), Ended(lease.key, EndReason.EXITED, 0)]
    made = spool.record(events)
    sys.stdout.write(f"r {done} {made[-1].seq}\\n"); sys.stdout.flush()
"""


def test_nothing_that_was_said_is_lost_by_a_kill(tmp_path: Path) -> None:
    """A writer is killed at random moments; what it said it had written is there, whole."""
    draw = random.Random(20)
    path = tmp_path / "spool.sqlite"
    said: dict[str, int] = {"a": 0, "r": 0}
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert writer.stdout is not None
        first = writer.stdout.readline().split()
        time.sleep(draw.uniform(0.01, 0.15))
        writer.send_signal(signal.SIGKILL)
        for words in [first, *(line.split() for line in writer.stdout.read().splitlines())]:
            if len(words) >= 2:
                said[words[0]] = int(words[1])
        writer.wait()
        spool = opened(path)
        marks, reports, leases = spool.marks(), spool.unsent(), spool.leases()
        assert marks.applied_seq >= said["a"]
        assert [report.seq for report in reports] == list(range(1, len(reports) + 1))
        assert marks.report_seq == len(reports)
        ended = {lease.start.lease_id for lease in leases if lease.state is LeaseState.ENDED}
        assert {f"l{n}" for n in range(1, said["r"] + 1)} <= ended
        assert len([r for r in reports if r.kind == "ended"]) == len(ended)
        for lease in leases:
            if lease.state is LeaseState.ACCEPTED:  # killed between the two transactions: told after the restart
                spool.record([Ended(lease.key, EndReason.SUPERVISOR_LOST)])
        spool.close()


def test_a_full_disk_takes_nothing_and_keeps_everything(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "3m"):
        spool = opened(disk / "spool.sqlite")
        spool.apply(Applied(seq=1, accepted=(held(),)))
        fill_disk(disk / "ballast")
        big = HeldLease(start_lease("b", ("x" * 4000,) * 100), LeaseState.ACCEPTED, 1, "boot")
        with pytest.raises(StorageFull, match="spool"):
            spool.apply(Applied(seq=2, accepted=(big,)))
        assert spool.marks().applied_seq == 1
        assert [lease.key for lease in spool.leases()] == [A]
        # The reserve was given free: the end of what runs can still be written.
        made = spool.record([Started(A, 1), Used(A, totals(3), final=True), Ended(A, EndReason.DISK_FULL)])
        assert [report.seq for report in made] == [1, 2, 3]
        (disk / "ballast").unlink()
        assert spool.refill_reserve()
        spool.apply(Applied(seq=2, accepted=(big,)))
        spool.close()


def test_a_poll_takes_no_more_than_the_hub_does(tmp_path: Path) -> None:
    files = tuple(MovedFile(path=f"{n:0200}", sha256="0" * 64) for n in range(64))
    recorder = Recorder(Spool(tmp_path / "spool.sqlite"))
    kinds = (LeaseMoved(seq=0, lease_id="a", epoch=1, phase="in", files=files), ended_report())
    recorder.outbox.extend(kinds[seq % 2].model_copy(update={"seq": seq}) for seq in range(1, 2_001))
    polls = 0
    while recorder.outbox:
        reports = recorder.next_reports()
        assert 1 < len(reports) <= MAX_REPORTS_PER_SYNC
        poll = Sync(site_id="s", epoch=1, poll_no=1, applied_seq=0, wait_ms=0, reports=tuple(reports))
        assert len(poll.model_dump_json().encode()) < MAX_SYNC_BYTES
        assert recorder.stored(reports[-1].seq)
        polls += 1
    assert polls < 40


def ended_report() -> LeaseEnded:
    return LeaseEnded(seq=0, lease_id="a", epoch=1, reason=EndReason.EXITED, exit_code=0, detail="\u6cb3" * 500)
