"""The Slurm driver when things go wrong at the centre: real daemons killed and stopped, jobs touched by others."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.drivers.conftest import SlurmHarness
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey, Phase


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Path]:
    """A file that each start of a job adds a line to."""
    path = tmp_path / "witness"
    path.touch()
    yield path
    assert len(path.read_text().splitlines()) <= 1, "a job was started twice"


def counted(witness: Path, seconds: float) -> tuple[str, ...]:
    return ("sh", "-c", f"echo started >> {witness}; sleep {seconds}")


def phases(harness: SlurmHarness, key: LeaseKey, seconds: float) -> set[Phase]:
    """Everything that is said about it for a while, as an agent would ask; each answer within seconds."""
    seen = set()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        seen.add(harness.status(key).phase)
        assert time.monotonic() - began < 10
        time.sleep(0.1)
    return seen


def wall_ms(harness: SlurmHarness, key: LeaseKey) -> int:
    """As told so far."""
    totals = harness.status(key).totals
    return totals.wall_ms if totals else 0


def pass_lost_numbers(harness: SlurmHarness) -> None:
    """For the tests to come: the late end of a lost job cancels a job that waits and has its number now (22.05)."""
    held = [harness.cluster.sbatch("--hold", "--output=/dev/null", "--wrap=true") for _ in range(4)]
    harness.cluster.call("scancel", *held)


# --- the controller -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before_s", "run_s"), [(0.0, 0.3), (2.0, 2.5)], ids=["just submitted", "running"])
def test_a_controller_killed_after_it_said_yes(
    on_slurm: SlurmHarness, witness: Path, before_s: float, run_s: float
) -> None:
    """What it acknowledged may be gone, its number used again, or started a second time; the lease runs once."""
    key = on_slurm.submit("a", counted(witness, run_s))
    time.sleep(before_s)
    on_slurm.cluster.kill_controller()
    on_slurm.cluster.start_controller()
    other = on_slurm.submit("b", ("sleep", "0.1"))  # perhaps under the number that was lost
    status = on_slurm.ended(key, 40)
    assert witness.read_text() == "started\n"
    # Slurm may kill what it no longer knows; then the end says so, and is no success.
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 0) or status.reason is EndReason.SUPERVISOR_LOST
    assert on_slurm.ended(other, 40).reason is not None
    pass_lost_numbers(on_slurm)


def test_a_controller_that_is_away(on_slurm: SlurmHarness, witness: Path, tmp_path: Path) -> None:
    """A job that waits is unknown; one that runs shows that it lives; what ended meanwhile is told by its record."""
    running = on_slurm.submit("r", ("sleep", "60"), run_limit_ms=90_000)
    go = tmp_path / "go"
    ending = on_slurm.submit("e", ("sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done; exit 5"))
    on_slurm.until(running, Phase.STARTED)
    on_slurm.until(ending, Phase.STARTED)
    on_slurm.cluster.call("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    waiting = on_slurm.submit("w", ("true",))
    on_slurm.until(waiting, Phase.ACCEPTED)
    on_slurm.cluster.stop_controller()
    try:
        on_slurm.until(waiting, Phase.UNKNOWN)
        assert phases(on_slurm, waiting, 1.0) == {Phase.UNKNOWN}
        on_slurm.until(running, Phase.STARTED)
        late = on_slurm.submit("a", counted(witness, 0.1))
        assert on_slurm.status(late).phase is Phase.UNKNOWN
        go.touch()
        assert on_slurm.ended(ending).exit_code == 5
        on_slurm.run(on_slurm.driver.cancel(running, EndReason.CANCELLED))
        assert on_slurm.ended(running).reason is EndReason.CANCELLED
    finally:
        on_slurm.cluster.start_controller()
    on_slurm.until(waiting, Phase.ACCEPTED)
    on_slurm.cluster.call("scontrol", "update", "PartitionName=cpu", "State=UP")
    assert on_slurm.ended(waiting).exit_code == 0
    assert on_slurm.ended(late).exit_code == 0
    assert witness.read_text() == "started\n"


def test_a_controller_that_hangs(on_slurm: SlurmHarness) -> None:
    """Each question ends within seconds, and the answer is true again afterwards."""
    on_slurm.cluster.call("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    waiting = on_slurm.submit("w", ("true",))
    on_slurm.until(waiting, Phase.ACCEPTED)
    number = on_slurm.cluster.controller_pid()
    os.kill(number, signal.SIGSTOP)
    try:
        on_slurm.until(waiting, Phase.UNKNOWN)
        assert phases(on_slurm, waiting, 2.0) == {Phase.UNKNOWN}
    finally:
        os.kill(number, signal.SIGCONT)
    on_slurm.until(waiting, Phase.ACCEPTED)
    on_slurm.cluster.call("scontrol", "update", "PartitionName=cpu", "State=UP")
    assert on_slurm.ended(waiting).exit_code == 0


# --- sbatch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hanging_sbatch_is_looked_up_by_name(
    on_slurm: SlurmHarness, witness: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """A wrapper of the centre's own that hangs once, before or after the controller has the job."""
    real, once = shutil.which("sbatch"), tmp_path / "once"
    folder = tmp_path / "bin"
    folder.mkdir()
    shim = folder / "sbatch"
    first = "" if when == "before" else f'{real} "$@"; '
    hang = f"if mkdir {once} 2>/dev/null; then {first}sleep 600; fi"
    shim.write_text(f'#!/bin/sh\n{hang}\nexec {real} "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    site = tmp_path / "hung"
    site.mkdir()
    with closing(SlurmHarness(on_slurm.cluster, site, command_limit_ms=2_000)) as hung:
        began = time.monotonic()
        key = hung.submit("a", counted(witness, 0.1))
        assert time.monotonic() - began > 1.9
        assert hung.ended(key).exit_code == 0
        assert witness.read_text() == "started\n"


# --- jobs that others touch -----------------------------------------------------------------------------------------


def test_a_job_cancelled_behind_the_agents_back(on_slurm: SlurmHarness) -> None:
    key = on_slurm.submit("a", ("sleep", "30"))
    on_slurm.until(key, Phase.STARTED)
    on_slurm.cluster.call("scancel", f"--name={on_slurm.job_name(key)}")
    status = on_slurm.ended(key)
    assert status.reason is EndReason.SUPERVISOR_LOST and status.started
    assert "CANCELLED" in status.detail
    assert status.totals is not None and status.totals.wall_ms > 0


def test_a_waiting_job_cancelled_behind_the_agents_back(on_slurm: SlurmHarness) -> None:
    on_slurm.cluster.call("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        key = on_slurm.submit("a", ("sleep", "30"))
        on_slurm.cluster.call("scancel", f"--name={on_slurm.job_name(key)}")
        status = on_slurm.ended(key)
    finally:
        on_slurm.cluster.call("scontrol", "update", "PartitionName=cpu", "State=UP")
    assert (status.reason, status.started) == (EndReason.SPAWN_FAILED, False)
    assert "CANCELLED" in status.detail


def test_a_suspended_job_is_still_there_and_its_time_stands_still(on_slurm: SlurmHarness, tmp_path: Path) -> None:
    go = tmp_path / "go"
    key = on_slurm.submit("a", ("sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done"), run_limit_ms=60_000)
    started = on_slurm.until(key, Phase.STARTED)
    on_slurm.cluster.until(lambda: bool(on_slurm.listed(key, "%A", "R")), "run")
    [number] = on_slurm.listed(key, "%A", "R")
    on_slurm.cluster.call("scontrol", "suspend", number)
    since = time.monotonic()
    # Unknown where the controller is slow to answer; never over.
    assert phases(on_slurm, key, 3.0) <= {Phase.STARTED, Phase.UNKNOWN}
    on_slurm.until(key, Phase.STARTED)
    away_ms = (time.monotonic() - since) * 1000
    on_slurm.cluster.call("scontrol", "resume", number)
    go.touch()
    status = on_slurm.ended(key)
    there_ms = time.time() * 1000 - started.started_utc_ms
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 0)
    assert status.totals is not None and status.totals.wall_ms < there_ms - away_ms + 500


def test_a_step_that_was_killed_is_lost_and_no_success(on_slurm: SlurmHarness) -> None:
    key = on_slurm.submit("a", ("sleep", "30"))
    on_slurm.cluster.until(lambda: wall_ms(on_slurm, key) >= 200, "say that it ran")
    os.kill(on_slurm.supervisor_pid(key), signal.SIGKILL)
    status = on_slurm.ended(key)
    assert status.reason is EndReason.SUPERVISOR_LOST and status.exit_code is None
    assert status.totals is not None and 200 <= status.totals.wall_ms < 10_000


def test_a_node_that_goes_down_takes_its_gang_along(on_slurm: SlurmHarness, tmp_path: Path) -> None:
    script = f"echo up; while :; do touch {tmp_path}/alive.$YUNHE_RANK; sleep 0.05; done"
    key = on_slurm.submit("a", ("sh", "-c", script), slots=3, slot_milli=3_000)
    on_slurm.cluster.until(lambda: on_slurm.log(key).count(b"up") == 3, "start all ranks")
    on_slurm.cluster.call("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
    try:
        status = on_slurm.ended(key)
        alive = list(tmp_path.glob("alive.*"))
        for path in alive:
            path.unlink()
        time.sleep(0.3)
        assert len(alive) == 3 and not list(tmp_path.glob("alive.*")), "a rank outlived the end that was told"
    finally:
        on_slurm.cluster.call("scontrol", "update", "NodeName=n2", "State=IDLE")
        on_slurm.cluster.until(lambda: "n2" in on_slurm.cluster.idle(), "have its node back")
    assert status.reason is EndReason.SUPERVISOR_LOST
    assert "NODE_FAIL" in status.detail
