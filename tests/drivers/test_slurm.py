"""The Slurm driver on a real Slurm: what is asked of it, what it says, and who may start what."""

import asyncio
import os
import pwd
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.conftest import CLUSTER, QUICK, SlurmHarness
from tests.engines import slurm
from yunhe.core.errors import Unavailable
from yunhe.core.lifecycle import EndReason
from yunhe.site.contact import Contact
from yunhe.site.drivers.contract import LeaseKey, Phase, SpawnFailed
from yunhe.site.supervisor.records import boottime_ms

with_gpus = pytest.mark.skipif(not CLUSTER.gpu, reason="fake GPUs are device files, which only root can make")


def job_field(harness: SlurmHarness, key: LeaseKey, name: str) -> str:
    """One field of `scontrol show job`."""
    number = harness.listed(key, "%A")[-1]
    found = re.search(rf"\b{name}=(\S+)", harness.cluster.call("scontrol", "show", "job", number))
    assert found, name
    return found.group(1)


# --- supply ---------------------------------------------------------------------------------------------------------


def test_partitions_and_cards_are_pools(on_slurm: SlurmHarness) -> None:
    pools = {pool.name: pool for pool in on_slurm.run(on_slurm.driver.discover())}
    cores = pools["cpu"]
    assert (cores.kind_of_unit, cores.chip, cores.stack) == ("core", "unknown", "cpu")
    if not CLUSTER.gpu:
        assert cores.capacity_milli == 24_000
        return
    cards = pools["cpu-h20"]
    assert (cards.kind_of_unit, cards.chip, cards.stack, cards.capacity_milli) == ("card", "h20", "cuda", 6_000)
    assert {rate.precision: rate.nominal_flops for rate in cards.rates}["bf16"] == 148 * 10**12
    assert cards.card_memory_bytes == 96 * 10**9
    # A core that goes with a card is not offered a second time.
    assert (cores.capacity_milli, cores.max_slot_milli) == (12_000, 4_000)
    assert cores.memory_bytes + cards.memory_bytes == 3 * 4000 * 1024 * 1024


def test_the_last_nodes_serve_while_the_controller_is_away(on_slurm: SlurmHarness, tmp_path: Path) -> None:
    before = on_slurm.run(on_slurm.driver.discover())
    nowhere = tmp_path / "slurm.conf"
    text = (on_slurm.cluster.folder / "slurm.conf").read_text()
    nowhere.write_text(re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=9", text))
    with closing(SlurmHarness(on_slurm.cluster, tmp_path, conf=nowhere, command_limit_ms=700)) as away:
        assert away.run(away.driver.discover()) == before
    never = tmp_path / "other"
    never.mkdir()
    with closing(SlurmHarness(on_slurm.cluster, never, conf=nowhere, command_limit_ms=700)) as fresh:
        with pytest.raises(Unavailable):
            fresh.run(fresh.driver.discover())


# --- what is asked --------------------------------------------------------------------------------------------------


def test_thousandths_are_rounded_up_and_memory_goes_along(on_slurm: SlurmHarness) -> None:
    key = on_slurm.submit("a", ("true",), slot_milli=1_500, slot_memory_bytes=301 << 20, run_limit_ms=600_000)
    assert job_field(on_slurm, key, "NumCPUs") == "2"
    assert job_field(on_slurm, key, "MinMemoryCPU") == "151M"
    assert job_field(on_slurm, key, "TimeLimit") == "00:13:00"  # the step's own limit comes first
    assert job_field(on_slurm, key, "Requeue") == "0"
    assert on_slurm.ended(key).exit_code == 0


@with_gpus
def test_cards_are_given_by_slurm(on_slurm: SlurmHarness) -> None:
    status, log = on_slurm.do(
        "a", ("sh", "-c", "echo $CUDA_VISIBLE_DEVICES; nproc >/dev/null"), pool="cpu-h20", slot_milli=2_000
    )
    assert (status.exit_code, log) == (0, "0,1\n")
    with pytest.raises(SpawnFailed, match="whole cards"):
        on_slurm.submit("b", ("true",), pool="cpu-h20", slot_milli=1_500)


def test_a_refusal_is_the_words_of_slurm(on_slurm: SlurmHarness) -> None:
    status, _ = on_slurm.do("a", ("true",), slot_memory_bytes=100 << 30)
    assert (status.reason, status.started) == (EndReason.SPAWN_FAILED, False)
    assert "memory" in status.detail.lower()
    with pytest.raises(SpawnFailed, match="no pool"):
        on_slurm.submit("b", ("true",), pool="elsewhere")


def test_a_job_that_waits_is_accepted_and_can_be_stopped_there(on_slurm: SlurmHarness) -> None:
    long = {"slot_milli": 4_000, "run_limit_ms": 300_000}
    full = [on_slurm.submit(f"f{i}", ("sleep", "300"), **long) for i in range(6 if CLUSTER.gpu else 3)]
    for key in full:
        on_slurm.until(key, Phase.STARTED)
    waiting = on_slurm.submit("w", ("true",), slot_milli=4_000, epoch=7)
    on_slurm.until(waiting, Phase.ACCEPTED)
    on_slurm.cluster.until(lambda: on_slurm.listed(waiting, "%T") == ["PENDING"], "list it")
    on_slurm.run(on_slurm.driver.cancel(waiting, EndReason.WITHDRAWN))
    status = on_slurm.status(waiting)
    assert (status.phase, status.reason, status.started) == (Phase.ENDED, EndReason.WITHDRAWN, False)
    on_slurm.cluster.until(lambda: on_slurm.listed(waiting, "%T") == ["CANCELLED"], "cancel it")


# --- gangs ----------------------------------------------------------------------------------------------------------

WHO = "echo rank $YUNHE_RANK of $YUNHE_SIZE; "
BUSY = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"


def test_a_gang_has_ranks_and_its_use_is_the_sum(on_slurm: SlurmHarness) -> None:
    status, log = on_slurm.do("a", ("sh", "-c", f"{WHO} {BUSY}; sleep 0.3"), slots=3, slot_milli=3_000)
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 0), log
    assert sorted(log.splitlines()) == [f"rank {rank} of 3" for rank in range(3)]
    assert status.totals is not None and status.totals.sampled
    assert status.totals.cpu_ms >= 3 * 30 and status.totals.wall_ms >= 300


def test_the_first_rank_that_fails_ends_the_gang(on_slurm: SlurmHarness) -> None:
    script = f"{WHO} [ $YUNHE_RANK = 1 ] && exit 9; sleep 300"
    status, _ = on_slurm.do("a", ("sh", "-c", script), slots=2, slot_milli=1_000, run_limit_ms=300_000)
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 9)


def test_a_cancelled_gang_may_finish_its_checkpoint(on_slurm: SlurmHarness) -> None:
    script = "trap 'echo saved $YUNHE_RANK; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    key = on_slurm.submit("a", ("sh", "-c", script), slots=2, slot_milli=1_000)
    on_slurm.cluster.until(lambda: on_slurm.log(key).count(b"up") == 2, "start both ranks")
    on_slurm.run(on_slurm.driver.cancel(key, EndReason.CANCELLED))
    assert on_slurm.ended(key).reason is EndReason.CANCELLED
    assert {"saved 0", "saved 1"} <= set(on_slurm.log(key).decode().splitlines())


def test_a_rank_over_its_memory_is_said_so(on_slurm: SlurmHarness) -> None:
    script = "import os, time\nif os.environ['YUNHE_RANK'] == '1': x = b'x' * (200 << 20)\ntime.sleep(20)"
    status, _ = on_slurm.do("a", ("python3", "-c", script), slots=2, slot_milli=1_000, slot_memory_bytes=64 << 20)
    assert status.reason is EndReason.MEMORY_LIMIT


# --- limits on the node ---------------------------------------------------------------------------------------------


def test_a_step_without_word_of_the_hub_stops_its_job(on_slurm: SlurmHarness) -> None:
    contact = Contact(on_slurm.data_dir)
    contact.open()
    contact.heard(boottime_ms())
    key = on_slurm.submit("a", ("sleep", "60"), disconnect_limit_ms=4_000, run_limit_ms=60_000)
    on_slurm.until(key, Phase.STARTED)
    status = on_slurm.ended(key)
    assert status.reason is EndReason.DISCONNECTED
    assert status.totals is not None and status.totals.wall_ms < 6_000  # with what a busy host adds
    contact.close()


def test_a_lease_that_was_given_up_stops(on_slurm: SlurmHarness, tmp_path: Path) -> None:
    """An agent that forgot a lease, by whatever mistake, has no job of it running for long."""
    alive = tmp_path / "alive"
    key = on_slurm.submit("a", ("sh", "-c", f"while :; do touch {alive}; sleep 0.05; done"))
    on_slurm.until(key, Phase.STARTED)
    on_slurm.cluster.until(alive.exists, "begin")
    on_slurm.run(on_slurm.driver.forget(key))

    def quiet() -> bool:
        alive.unlink(missing_ok=True)
        time.sleep(0.3)
        return not alive.exists()

    on_slurm.cluster.until(quiet, "stop")


# --- rights ---------------------------------------------------------------------------------------------------------


def as_user(user: str, work: Callable[[], None]) -> int:
    """Exit status of a child process that has become `user` and does `work`."""
    entry = pwd.getpwnam(user)
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
        work()
    except BaseException:  # noqa: BLE001 - a forked process must not return
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; all tests run without root now")
@pytest.mark.skipif(not Path("/usr/bin/python3.11").exists(), reason="no Python 3.11 that every user reaches")
def test_one_user_without_rights_is_enough(cluster: slurm.Cluster) -> None:
    def work() -> None:
        site = SlurmHarness(cluster, Path(folder), python="/usr/bin/python3.11")
        assert "as user nobody" in site.isolation.text
        status, log = site.do("a", ("sh", "-c", "id -un; echo $YUNHE_RANK"), slots=2)
        assert (status.exit_code, sorted(log.split())) == (0, ["0", "1", "nobody", "nobody"])
        key = site.submit("b", ("sleep", "30"))
        site.until(key, Phase.STARTED)
        site.run(site.driver.cancel(key, EndReason.CANCELLED))
        assert site.ended(key).reason is EndReason.CANCELLED
        site.close()

    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        assert as_user("nobody", work) == 0


# --- only once ------------------------------------------------------------------------------------------------------


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Path]:
    """A file that each start of a job adds a line to."""
    path = tmp_path / "witness"
    path.touch()
    yield path
    assert len(path.read_text().splitlines()) <= 1, "a job was started twice"


def counted(witness: Path, seconds: float) -> tuple[str, ...]:
    return ("sh", "-c", f"echo started >> {witness}; sleep {seconds}")


class AgentDies(Exception):
    """In place of SIGKILL."""


@pytest.mark.parametrize("where", ["driver.prepared", "driver.asked"])
def test_an_agent_killed_around_sbatch_has_one_job(on_slurm: SlurmHarness, witness: Path, where: str) -> None:
    died = asyncio.Event()

    def crash(name: str) -> None:
        if name == where:
            died.set()
            raise AgentDies

    driver: Any = on_slurm.driver
    driver._crash_point = driver._sender._crash_point = crash
    job = on_slurm.job("a", counted(witness, 0.2))
    with suppress(AgentDies):
        on_slurm.run(driver.submit(job))
        on_slurm.run(died.wait())
    assert died.is_set()
    on_slurm.reopen()
    on_slurm.run(on_slurm.driver.submit(job))
    assert on_slurm.ended(job.key).exit_code == 0
    assert witness.read_text() == "started\n"
    assert len(on_slurm.listed(job.key, "%A")) == 1


def test_a_second_start_does_nothing(on_slurm: SlurmHarness, witness: Path) -> None:
    """As a controller does that has lost what it knew: the same script again, while the first one runs."""
    key = on_slurm.submit("a", counted(witness, 1.5))
    on_slurm.until(key, Phase.STARTED)
    script = on_slurm.lease_dir(key) / "again.sh"
    driver: Any = on_slurm.driver
    script.write_text(driver._planner.script(driver._batches.path(driver._batches.names(key)[-1])))
    number = on_slurm.cluster.sbatch("--output=/dev/null", str(script))
    on_slurm.cluster.until(
        lambda: on_slurm.cluster.call("squeue", "-h", "-t", "all", "-j", number, "-o", "%T") == "COMPLETED", "run it"
    )
    assert on_slurm.ended(key).exit_code == 0
    assert witness.read_text() == "started\n"
    assert "started again" in (on_slurm.lease_dir(key) / "supervisor.err").read_text()


def test_a_requeued_job_is_not_started_again(on_slurm: SlurmHarness, witness: Path) -> None:
    key = on_slurm.submit("a", counted(witness, 30))
    on_slurm.until(key, Phase.STARTED)
    on_slurm.cluster.until(lambda: bool(witness.read_text()), "begin")
    number = job_field(on_slurm, key, "JobId")
    on_slurm.cluster.call("scontrol", "update", f"JobId={number}", "Requeue=1")
    on_slurm.cluster.call("scontrol", "requeue", number)
    status = on_slurm.ended(key)
    assert status.reason is EndReason.SUPERVISOR_LOST and "Slurm" in status.detail
    on_slurm.cluster.call("scontrol", "update", f"JobId={number}", "StartTime=now")
    time.sleep(1)
    assert witness.read_text() == "started\n"


def test_usage_writes_are_often_enough_to_be_a_sign_of_life() -> None:
    assert QUICK.usage_write_ms * 3 < 1_500


def test_why_it_is_skipped_is_one_line_that_installs_it() -> None:
    assert "apt-get install" in slurm.INSTALL and "slurmctld" in slurm.INSTALL
