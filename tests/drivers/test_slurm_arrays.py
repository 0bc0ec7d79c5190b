"""Leases that come together are one job array, each still a lease of its own; and what others use of the cluster."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.conftest import CLUSTER, SlurmHarness
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Job, LeaseKey, Phase
from yunhe.site.drivers.slurm import sender

MIB = 1 << 20


@pytest.fixture(autouse=True)
def slow_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that come together go together, however long this host takes between two of them."""
    monkeypatch.setattr(sender, "QUIET_S", 0.2)
    monkeypatch.setattr(sender, "GATHER_S", 5.0)


def together(harness: SlurmHarness, jobs: Sequence[Job]) -> list[LeaseKey]:
    """As an agent does with the leases of one answer of the hub."""

    async def submit() -> None:
        await asyncio.gather(*(harness.driver.submit(job) for job in jobs))
        await asyncio.gather(*(harness._placed(job.key) for job in jobs))

    harness.run(submit())
    return [job.key for job in jobs]


def all_ended(harness: SlurmHarness, keys: Sequence[LeaseKey], timeout_s: float = 60) -> dict[LeaseKey, Any]:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        found = harness.run(harness.driver.observe(keys))
        if all(status.phase is Phase.ENDED for status in found.values()):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


@pytest.fixture
def closed(on_slurm: SlurmHarness) -> Iterator[SlurmHarness]:
    """Nothing starts until the partition is open."""
    on_slurm.cluster.call("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    yield on_slurm
    on_slurm.cluster.call("scontrol", "update", "PartitionName=cpu", "State=UP")


# --- arrays ---------------------------------------------------------------------------------------------------------


def test_leases_that_come_together_are_one_array(on_slurm: SlurmHarness, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    command = ("sh", "-c", f"echo $YUNHE_LEASE >> {witness}; echo $0; [ $0 != 3 ] || exit 7")
    jobs = [on_slurm.job(f"o.{i}", (*command, str(i)), slot_milli=500) for i in range(12)]
    other = on_slurm.job("p.0", ("true",), run_limit_ms=900_000)
    keys = together(on_slurm, [*jobs, other])
    found = all_ended(on_slurm, keys)
    assert [found[job.key].exit_code for job in jobs] == [7 if i == 3 else 0 for i in range(12)]
    assert [on_slurm.log(job.key) for job in jobs] == [f"{i}\n".encode() for i in range(12)]
    assert sorted(witness.read_text().split()) == sorted(str(job.key) for job in jobs)
    numbers = {number for job in jobs for number in on_slurm.listed(job.key, "%F")}
    assert len(numbers) == 1, "tasks of one order went one by one"
    assert not numbers & set(on_slurm.listed(other.key, "%F")), "another limit is another job"


def test_each_element_is_stopped_on_its_own(closed: SlurmHarness) -> None:
    jobs = [closed.job(f"o.{i}", ("sleep", "30"), slot_milli=500) for i in range(5)]
    keys = together(closed, jobs)
    closed.until(keys[4], Phase.ACCEPTED)
    closed.run(closed.driver.cancel(keys[1], EndReason.CANCELLED))
    assert closed.ended(keys[1]).reason is EndReason.CANCELLED
    closed.cluster.call("scontrol", "update", "PartitionName=cpu", "State=UP")
    rest = [key for key in keys if key != keys[1]]
    for key in rest:
        closed.until(key, Phase.STARTED)
    assert not closed.status(keys[1]).started
    closed.run(closed.driver.cancel(rest[0], EndReason.CANCELLED))
    assert closed.ended(rest[0]).reason is EndReason.CANCELLED
    assert {closed.status(key).phase for key in rest[1:]} == {Phase.STARTED}


def test_an_array_of_which_nothing_is_wanted_leaves_the_queue(closed: SlurmHarness) -> None:
    keys = together(closed, [closed.job(f"o.{i}", ("true",), slot_milli=500) for i in range(4)])
    foreign = closed.cluster.sbatch("--output=/dev/null", "--wrap=true")
    for key in keys:
        closed.run(closed.driver.cancel(key, EndReason.WITHDRAWN))
    closed.cluster.until(lambda: not closed.listed(keys[0], "%T", "PENDING"), "cancel the array")
    assert closed.cluster.call("squeue", "-h", "-j", foreign, "-o", "%T") == "PENDING"
    closed.cluster.call("scancel", foreign)


def test_a_restarted_agent_knows_the_elements(closed: SlurmHarness) -> None:
    jobs = [closed.job(f"o.{i}", ("sh", "-c", f"exit {i}"), slot_milli=500) for i in range(4)]
    keys = together(closed, jobs)
    first = closed.listed(keys[0], "%F")
    closed.reopen()
    assert {closed.until(key, Phase.ACCEPTED).phase for key in keys} == {Phase.ACCEPTED}
    together(closed, jobs)  # the hub says it again
    closed.cluster.call("scontrol", "update", "PartitionName=cpu", "State=UP")
    found = all_ended(closed, keys)
    assert [found[key].exit_code for key in keys] == [0, 1, 2, 3]
    # No second array for what the hub said again.
    assert set(first) == {number for key in keys for number in closed.listed(key, "%F")} and len(set(first)) == 1
    for key in keys:
        closed.run(closed.driver.forget(key))
    assert not list((closed.data_dir / "batches").iterdir())


def test_an_array_that_is_too_much_for_slurm_goes_in_parts(
    on_slurm: SlurmHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A centre that allows arrays of two; and one lease of the same kind is refused as each of them would be."""
    real, folder = shutil.which("sbatch"), tmp_path / "bin"
    folder.mkdir()
    shim = folder / "sbatch"
    refuse = 'case "$*" in *array=0-[2-9]*) echo "sbatch: error: Invalid job array specification" >&2; exit 1;; esac'
    shim.write_text(f'#!/bin/sh\n{refuse}\nexec {real} "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    (tmp_path / "few").mkdir()
    with closing(SlurmHarness(on_slurm.cluster, tmp_path / "few")) as few:
        keys = together(few, [few.job(f"o.{i}", ("true",), slot_milli=500) for i in range(7)])
        assert {status.exit_code for status in all_ended(few, keys).values()} == {0}
        too_large = together(few, [few.job(f"l.{i}", ("true",), slot_memory_bytes=3 << 40) for i in range(5)])
        found = all_ended(few, too_large)
        assert {status.reason for status in found.values()} == {EndReason.SPAWN_FAILED}
        assert all("emory" in status.detail for status in found.values())


def test_a_controller_that_forgot_an_array_runs_each_element_once(closed: SlurmHarness, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    command = ("sh", "-c", f"echo $YUNHE_LEASE >> {witness}")
    keys = together(closed, [closed.job(f"o.{i}", command, slot_milli=500) for i in range(6)])
    first = closed.job_name(keys[0])
    closed.cluster.kill_controller()
    shutil.rmtree(closed.cluster.folder / "state")  # all that it knew
    (closed.cluster.folder / "state").mkdir()
    closed.cluster.start_controller()
    closed.cluster.until(lambda: len(closed.cluster.idle()) == CLUSTER.nodes, "come up again")
    found = all_ended(closed, keys)
    assert {status.exit_code for status in found.values()} == {0}
    assert sorted(witness.read_text().split()) == sorted(str(key) for key in keys)
    assert closed.job_name(keys[0]) != first
    held = [closed.cluster.sbatch("--hold", "--output=/dev/null", "--wrap=true") for _ in range(4)]
    closed.cluster.call("scancel", *held)  # numbers that a node has seen before are refused by it


# --- what others use ------------------------------------------------------------------------------------------------


def abroad(harness: SlurmHarness) -> dict[str, tuple[int, int]]:
    """Pool -> (units, MiB) that others than the site's leases hold."""
    found = harness.run(harness.driver.foreign())
    return {pool.name: (pool.foreign_milli, pool.foreign_memory_bytes // MIB) for pool in found}


def test_what_others_run_is_told_and_our_own_is_not(on_slurm: SlurmHarness) -> None:
    cluster = on_slurm.cluster
    cluster.until(lambda: not any(map(any, abroad(on_slurm).values())), "become empty")
    # Ours: one and a half cores in two of Slurm's; the half is what nobody else can have either.
    key = on_slurm.submit("a", ("sleep", "30"), slot_milli=1_500, slot_memory_bytes=200 * MIB)
    on_slurm.until(key, Phase.STARTED)
    cluster.until(lambda: abroad(on_slurm)["cpu"] == (500, 0), "see our own")
    # Another's job of the same user, and one that waits.
    other = cluster.sbatch("--output=/dev/null", "-c2", "--mem=300", "--wrap=sleep 30")
    waits = cluster.sbatch("--output=/dev/null", "--hold", "-c4", "--wrap=true")
    cluster.until(lambda: abroad(on_slurm)["cpu"] == (2_500, 300), "see the other job")
    if CLUSTER.gpu:
        cards = cluster.sbatch("--output=/dev/null", "--gres=gpu:2", "-c1", "--mem=50", "--wrap=sleep 30")
        cluster.until(lambda: abroad(on_slurm)["cpu-h20"][0] == 2_000, "see the cards")
        cluster.call("scancel", cards)
    cluster.call("scancel", other, waits)
    cluster.until(lambda: abroad(on_slurm)["cpu"] == (500, 0), "see that they are over")


def test_nodes_that_go_are_held_and_return(on_slurm: SlurmHarness) -> None:
    cluster = on_slurm.cluster
    cores = 4_000 if CLUSTER.gpu else 8_000
    whole = on_slurm.run(on_slurm.driver.discover())
    cluster.until(lambda: not any(map(any, abroad(on_slurm).values())), "become empty")
    for how, back in (("DRAIN", "UNDRAIN"), ("DOWN", "IDLE")):
        cluster.call("scontrol", "update", "NodeName=n2", f"State={how}", "Reason=test")
        try:
            cluster.until(lambda: abroad(on_slurm)["cpu"][0] == cores, f"see it {how}")
            if CLUSTER.gpu:
                assert abroad(on_slurm)["cpu-h20"][0] == 2_000
            assert on_slurm.run(on_slurm.driver.discover()) == whole
        finally:
            cluster.call("scontrol", "update", "NodeName=n2", f"State={back}")
        cluster.until(lambda: abroad(on_slurm)["cpu"] == (0, 0), "have it back")


def test_the_controller_is_asked_once_per_interval(on_slurm: SlurmHarness, tmp_path: Path, monkeypatch: Any) -> None:
    """However often the agent looks, and whatever it looks for."""
    folder, asked = tmp_path / "bin", tmp_path / "asked"
    folder.mkdir()
    for name in ("squeue", "sinfo"):
        (folder / name).write_text(f'#!/bin/sh\necho {name} >> {asked}\nexec {shutil.which(name)} "$@"\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    (tmp_path / "one").mkdir()
    site = SlurmHarness(on_slurm.cluster, tmp_path / "one", listing_interval_ms=300)
    asked.write_text("")  # sinfo --version asks nobody
    began = time.monotonic()

    async def look() -> None:
        while len(asked.read_text().split()) < 6:
            await asyncio.gather(site.driver.observe([LeaseKey("x", 1)]), site.driver.foreign())

    with closing(site):
        site.run(look())
        questions = asked.read_text().split()
        assert len(questions) <= 1 + (time.monotonic() - began) / 0.3
        assert set(questions) == {"squeue", "sinfo"}


def test_the_disk_is_looked_at_once_for_thousands(on_slurm: SlurmHarness) -> None:
    """Folders of leases that were never given to Slurm: each is still answered, none is invented."""
    folder = on_slurm.data_dir / "leases"
    keys = [LeaseKey(f"many.{i}", 1) for i in range(2_000)]
    for key in keys[::2]:
        (folder / str(key)).mkdir()
    found = on_slurm.run(on_slurm.driver.observe(keys))
    assert {status.phase for status in found.values()} == {Phase.ABSENT}
    for key in keys[::2]:
        os.rmdir(folder / str(key))


# --- accounts -------------------------------------------------------------------------------------------------------


def test_accounts_that_come_late_explain_an_end(
    on_slurm: SlurmHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that left no record and that Slurm lists no more: `sacct` (here a stand-in with its format) knows why."""
    folder, accounts = tmp_path / "bin", tmp_path / "accounts"
    folder.mkdir()
    (folder / "sacct").write_text(f"#!/bin/sh\ncat {accounts} 2>/dev/null\n")
    (folder / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    (tmp_path / "kept").mkdir()
    site = SlurmHarness(on_slurm.cluster, tmp_path / "kept", accounting=True, accounting_interval_ms=100)
    with closing(site):
        keys = [site.submit(name, ("sleep", "30")) for name in ("told", "never")]
        for key in keys:
            site.until(key, Phase.STARTED)
            os.kill(site.supervisor_pid(key), signal.SIGKILL)
            site.cluster.call("scancel", f"--name={site.job_name(key)}")
        site.cluster.kill_controller()
        shutil.rmtree(site.cluster.folder / "state")  # it lists none of them any more
        (site.cluster.folder / "state").mkdir()
        site.cluster.start_controller()
        site.cluster.until(lambda: len(site.cluster.idle()) == CLUSTER.nodes, "come up again")
        # Where the accounts are waited for, the job would have been given up without them.
        driver: Any = site.driver
        for key in keys:
            site.cluster.until(lambda key=key: site.status(key) and key in driver._accounting._since, "be looked up")
            assert site.status(key).phase is Phase.UNKNOWN
        accounts.write_text(f"7|TIMEOUT|3|1790000000|0|{site.job_name(keys[0])}\n")
        status = site.ended(keys[0])
        assert (status.reason, status.exit_code) == (EndReason.TIME_LIMIT, None)
        assert "accounting says TIMEOUT" in status.detail
        assert site.status(keys[1]).phase is Phase.UNKNOWN
        accounts.write_text(f"8|NODE_FAIL|3|1790000000|0|{site.job_name(keys[1])}\n")
        assert site.ended(keys[1]).reason is EndReason.SUPERVISOR_LOST
    held = [on_slurm.cluster.sbatch("--hold", "--output=/dev/null", "--wrap=true") for _ in range(4)]
    on_slurm.cluster.call("scancel", *held)
