"""Every driver behind one harness: the contract suite asks for `harness` and runs on all of them."""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.engines import slurm
from tests.fakes.fake_hub import start_lease
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Driver, Isolation, Job, LeaseKey, Phase, Status
from yunhe.site.drivers.fake import FakeDriver
from yunhe.site.drivers.process.driver import ProcessDriver
from yunhe.site.drivers.slurm.driver import SlurmDriver
from yunhe.site.settings import DriverSettings, SlurmSettings
from yunhe.site.supervisor.records import boottime_ms

Result = TypeVar("Result")
QUICK = DriverSettings(
    cores_milli=1000, memory_bytes=512 << 20, usage_write_ms=50, term_grace_ms=300, sample_ms=20, pids_limit=40
)


# The partition is called as the leases of the suite call their pool.
CLUSTER = slurm.Shape(nodes=3, cpus=8, partition="cpu", memory_mib=4000, gpu="h20" if os.geteuid() == 0 else "")
QUICK_SLURM = SlurmSettings(
    command_limit_ms=3_000,
    news_ms=20,
    listing_valid_ms=2_500,
    vanished_ms=300,
    start_ms=15_000,
    lost_ms=1_500,
    end_word_ms=6_000,
    cancel_hard_ms=1_000,
)


class Harness:
    """One driver with a loop of its own, and words for jobs that every engine understands."""

    def __init__(self, make: Callable[[], Driver], scripted: bool, data_dir: Path) -> None:
        self._make = make
        self.scripted = scripted  # commands are a script of the fake driver, not programs
        self.data_dir = data_dir
        self._runner = asyncio.Runner()
        self.driver = make()
        self.isolation: Isolation = self.run(self.driver.open())
        self.keys: set[LeaseKey] = set()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(asyncio.wait_for(coroutine, 60))

    def reopen(self) -> None:
        """As a restarted agent would: a new driver over what is there. An engine in memory stays the same one."""
        if self.scripted:
            return
        self.run(self.driver.close())
        self.driver = self._make()
        self.run(self.driver.open())

    def command(self, say: str = "", run_ms: int = 0, write: tuple[str, str] | None = None, code: int = 0) -> Any:
        if self.scripted:
            words = ["run", str(run_ms), "exit", str(code)]
            words += ["say", say] if say else []
            words += ["write", *write] if write else []
            return tuple(words)
        lines = [f"echo {say}"] if say else []
        lines += [f"printf %s {write[1]} > {write[0]}"] if write else []
        lines += [f"sleep {run_ms / 1000}", f"exit {code}"]
        return ("sh", "-c", "; ".join(lines))

    def job(self, lease_id: str, command: tuple[str, ...], files: dict[str, str] | None = None, **changes: Any) -> Job:
        job = Job(start_lease(lease_id, command, **changes), boottime_ms(), files or {})
        self.keys.add(job.key)
        return job

    def submit(self, lease_id: str, command: tuple[str, ...], **changes: Any) -> LeaseKey:
        job = self.job(lease_id, command, **changes)
        self.run(self.driver.submit(job))
        return job.key

    def status(self, key: LeaseKey) -> Status:
        return self.run(self.driver.observe([key]))[key]

    def until(self, key: LeaseKey, phase: Phase, timeout_s: float = 20) -> Status:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            status = self.status(key)
            if status.phase is phase:
                return status
            time.sleep(0.005)
        raise AssertionError(f"{key} is not {phase} within {timeout_s} s: {self.status(key)}, {self.log(key)!r}")

    def ended(self, key: LeaseKey, timeout_s: float = 20) -> Status:
        return self.until(key, Phase.ENDED, timeout_s)

    def log(self, key: LeaseKey) -> bytes:
        return self.run(self.driver.logs(key, 0, 1 << 22))

    def do(self, lease_id: str, command: tuple[str, ...], **changes: Any) -> tuple[Status, str]:
        """Run to the end; how it ended, and its log."""
        key = self.submit(lease_id, command, **changes)
        return self.ended(key), self.log(key).decode(errors="replace")

    def lease_dir(self, key: LeaseKey) -> Path:
        return self.data_dir / "leases" / str(key)

    def supervisor_pid(self, key: LeaseKey) -> int:
        return int((self.lease_dir(key) / "claim").read_text().split()[0])

    def close(self) -> None:
        for key in self.keys:
            if self.status(key).phase in (Phase.ACCEPTED, Phase.STARTED):
                os.kill(self.supervisor_pid(key), signal.SIGTERM)
                self.ended(key)
            self.run(self.driver.forget(key))
        self.run(self.driver.close())
        self._runner.close()


def process_harness(tmp_path: Path, settings: DriverSettings) -> Harness:
    data_dir = tmp_path / "site"
    data_dir.mkdir(mode=0o700)
    (data_dir / "key").write_bytes(b"secret of the site")
    (data_dir / "key").chmod(0o600)
    return Harness(lambda: ProcessDriver(settings, "test", data_dir), scripted=False, data_dir=data_dir)


class SlurmHarness(Harness):
    """A site of its own on the cluster that the tests share."""

    def __init__(self, cluster: slurm.Cluster, tmp_path: Path, **changes: Any) -> None:
        self.cluster = cluster
        settings = QUICK_SLURM.model_copy(update={"conf": cluster.folder / "slurm.conf", **changes})
        data_dir = tmp_path / "site"
        data_dir.mkdir(mode=0o700, exist_ok=True)
        super().__init__(lambda: SlurmDriver(QUICK, settings, "test", data_dir), scripted=False, data_dir=data_dir)

    def close(self) -> None:
        for key in self.keys:
            if self.status(key).phase is not Phase.ABSENT:
                self.run(self.driver.cancel(key, EndReason.CANCELLED))
        for key in self.keys:
            if self.status(key).phase is not Phase.ABSENT:
                self.ended(key)
            self.run(self.driver.forget(key))
        self.run(self.driver.close())
        self._runner.close()


@pytest.fixture(scope="session")
def cluster() -> Iterator[slurm.Cluster]:
    """A real Slurm with three nodes, for all tests of the session."""
    if why := slurm.missing():
        pytest.skip(why)
    # munge wants a way to its socket that everybody may go.
    with tempfile.TemporaryDirectory(prefix="yunhe-slurm-") as folder:
        made = slurm.Cluster(Path(folder), CLUSTER)
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture
def on_slurm(cluster: slurm.Cluster, tmp_path: Path) -> Iterator[SlurmHarness]:
    made = SlurmHarness(cluster, tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["fake", "sandbox", "processes", "slurm"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """Every driver: in memory, in the best isolation that this host gives, without any, and on a real Slurm."""
    if request.param == "fake":
        made = Harness(lambda: FakeDriver("cpu", 1000, 512 << 20, 0), scripted=True, data_dir=tmp_path)
    elif request.param == "slurm":
        made = SlurmHarness(request.getfixturevalue("cluster"), tmp_path)
    else:
        isolation = "auto" if request.param == "sandbox" else "processes"
        made = process_harness(tmp_path, QUICK.model_copy(update={"isolation": isolation}))
    yield made
    made.close()


@pytest.fixture(params=["sandbox", "processes"])
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """The process driver, in the best isolation that this host gives, and without any."""
    isolation = "auto" if request.param == "sandbox" else "processes"
    made = process_harness(tmp_path, QUICK.model_copy(update={"isolation": isolation}))
    yield made
    made.close()


@pytest.fixture
def sandboxed(tmp_path: Path) -> Iterator[Harness]:
    """The process driver with a sandbox; skipped where there is none."""
    made = process_harness(tmp_path, QUICK)
    try:
        if made.isolation.tier < 1:
            pytest.skip(f"no sandbox here ({made.isolation.text}): apt-get install bubblewrap")
        yield made
    finally:
        made.close()
