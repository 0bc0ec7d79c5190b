"""Every driver behind one harness: the contract suite asks for `harness` and runs on all of them."""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.harness import QUICK, Harness
from tests.drivers.hub_harness import HubHarness, on_hub, two_hubs  # noqa: F401 - fixtures
from tests.drivers.nation import nation  # noqa: F401 - a fixture
from tests.drivers.ray_harness import RayHarness, head, on_ray  # noqa: F401 - fixtures
from tests.engines import slurm
from yunhe.site.drivers.contract import LeaseKey, Phase, Status
from yunhe.site.drivers.fake import FakeDriver
from yunhe.site.drivers.process.driver import ProcessDriver
from yunhe.site.drivers.slurm.driver import SlurmDriver
from yunhe.site.drivers.slurm.verdict import Memory
from yunhe.site.settings import DriverSettings, SlurmSettings

# The partition is called as the leases of the suite call their pool.
CLUSTER = slurm.Shape(nodes=3, cpus=8, partition="cpu", memory_mib=4000, gpu="h20" if os.geteuid() == 0 else "")
QUICK_SLURM = SlurmSettings(
    command_limit_ms=3_000,
    news_ms=20,
    listing_interval_ms=200,
    listing_valid_ms=2_500,
    vanished_ms=300,
    start_ms=15_000,
    lost_ms=1_500,
    end_word_ms=6_000,
    cancel_hard_ms=1_000,
)


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

    def submit(self, lease_id: str, command: tuple[str, ...], **changes: Any) -> LeaseKey:
        """Returns when sbatch is over: nothing goes on between the calls of a test."""
        key = super().submit(lease_id, command, **changes)
        self.run(self._placed(key))
        return key

    async def _placed(self, key: LeaseKey) -> None:
        memory: dict[LeaseKey, Memory] = self.driver._memory  # type: ignore[attr-defined]
        while key in memory and memory[key].placing:
            await asyncio.sleep(0.005)

    def until(self, key: LeaseKey, phase: Phase, timeout_s: float = 40) -> Status:
        try:
            return super().until(key, phase, timeout_s)
        except AssertionError as error:
            words = ("squeue", "-a", "-r", "-o", "%i %j %T %r %M %C %N")
            raise AssertionError(f"{error}\n{self.cluster.call(*words)}\n{self.cluster.call('sinfo', '-N')}") from error

    def job_name(self, key: LeaseKey) -> str:
        """As Slurm knows the newest batch of the lease."""
        names: tuple[str, ...] = self.driver._batches.names(key)  # type: ignore[attr-defined]
        return f"yunhe:{names[-1]}" if names else "yunhe:none"

    def listed(self, key: LeaseKey, form: str, state: str = "all") -> list[str]:
        """Jobs of the newest batch of the lease, as squeue prints them. Of this site alone: every test has its own
        leases "a.1", and Slurm lists the jobs of the tests before for minutes."""
        words = ("squeue", "-h", "-a", "-r", "-t", state, f"--name={self.job_name(key)}", "-o", f"%k|{form}")
        tag: str = self.driver._client._tag  # type: ignore[attr-defined]
        return [line.removeprefix(f"{tag}|") for line in self.cluster.call(*words).splitlines() if tag in line]


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


def settled(cluster: slurm.Cluster) -> slurm.Cluster:
    """With all its nodes free. A controller that was killed calls a job running for minutes that no node has any more:
    it asks when it is told to cancel it."""
    until = time.monotonic() + 40
    while len(cluster.idle()) < CLUSTER.nodes and time.monotonic() < until:
        time.sleep(0.5)
        cluster.call("scancel", f"--user={os.geteuid()}")
    return cluster


@pytest.fixture
def on_slurm(cluster: slurm.Cluster, tmp_path: Path) -> Iterator[SlurmHarness]:
    made = SlurmHarness(settled(cluster), tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["fake", "sandbox", "processes", "slurm", "ray", "hub"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """Every driver: in memory, in the best isolation that this host gives, without any, and on real clusters."""
    if request.param == "fake":
        made = Harness(lambda: FakeDriver("cpu", 1000, 512 << 20, 0), scripted=True, data_dir=tmp_path)
    elif request.param == "hub":
        made = HubHarness(request.getfixturevalue("two_hubs"), tmp_path)
    elif request.param == "slurm":
        made = SlurmHarness(settled(request.getfixturevalue("cluster")), tmp_path)
    elif request.param == "ray":
        made = RayHarness(request.getfixturevalue("head"), tmp_path)
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
        if "bubblewrap" not in made.isolation.text:
            pytest.skip(f"no sandbox here ({made.isolation.text}): apt-get install bubblewrap")
        yield made
    finally:
        made.close()
