"""slurm_share, slurm_added_start, slurm_observe_10000: the driver beside Slurm alone, on one private cluster.

The driver is the one that a site agent has, in this process; jobs are `true`, one core each. Slurm alone gets the same
jobs from 8 callers of `sbatch`. Both begin with an empty cluster and end when the last job has ended, in turns, so
that what else this machine does falls on both. Of the driver, a job has ended when it tells so with its use, and its
folder is removed again.

The share is taken on six nodes of one core, where the slots are the limit as on a real cluster; steps run on this
machine's cores too. With 96 claimed slots these cores are the limit instead, and every step's own Python (some 50 ms
of them) counts in full: that share stands beside it as `crowded`.
"""

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from benchmarks.figure import Extra, Figure
from benchmarks.scene import NotMeasurable, Scene
from tests.engines.slurm import CALL_S, Cluster, Shape, missing
from yunhe.site.drivers.contract import Job, LeaseKey, Phase
from yunhe.site.drivers.slurm.driver import SlurmDriver
from yunhe.site.settings import DriverSettings, SlurmSettings
from yunhe.site.supervisor.records import boottime_ms
from yunhe.wire.link import StartLease

SHAPE = Shape(nodes=6, cpus=1, memory_mib=4_000)
CROWDED = Shape(nodes=6, cpus=16, memory_mib=64_000)
POOL = SHAPE.partition
JOBS, QUICK_JOBS = 120, 60
TURNS, QUICK_TURNS = 3, 1
STARTS, QUICK_STARTS = 15, 5
MANY, QUICK_MANY = 10_000, 1_000
CYCLES = 5
CALLERS = 8
ENDED_S = 120.0
PRINT_TIME = ("sh", "-c", "date +%s%N")
Result = TypeVar("Result")


def share(scene: Scene) -> Figure:
    turns, count = (QUICK_TURNS, QUICK_JOBS) if scene.quick else (TURNS, JOBS)
    alone, ours = _rates(scene, SHAPE, turns, count)
    crowded_alone, crowded_ours = _rates(scene, CROWDED, turns, count)
    extra: dict[str, Extra] = {
        "driver_per_s": round(ours, 1),
        "slurm_per_s": round(alone, 1),
        "crowded": round(crowded_ours / crowded_alone, 2),
        "crowded_slurm_per_s": round(crowded_alone, 1),
    }
    return Figure(ours / alone, extra=extra)


def _rates(scene: Scene, shape: Shape, turns: int, count: int) -> tuple[float, float]:
    """Jobs per second of Slurm alone and over the driver, medians."""
    alone, ours = [], []
    with _cluster(scene, shape) as cluster, _site(scene, cluster) as site:
        for turn in range(turns):
            alone.append(count / _alone(cluster, count))
            ours.append(count / site.run(site.all_ended(f"r{turn}", count)))
            scene.say(f"{shape.nodes * shape.cpus} slots: Slurm alone {alone[-1]:.1f} jobs/s, driver {ours[-1]:.1f}")
    return median(alone), median(ours)


def added_start(scene: Scene) -> Figure:
    with _cluster(scene) as cluster, _site(scene, cluster) as site:
        count = QUICK_STARTS if scene.quick else STARTS
        alone, ours = [], []
        for number in range(count):
            alone.append(_alone_start(cluster, number))
            ours.append(site.run(site.start_ms(f"s{number}")))
        extra: dict[str, Extra] = {"driver_ms": round(median(ours), 1), "slurm_ms": round(median(alone), 1)}
        return Figure(median(ours) - median(alone), extra=extra)


def observe(scene: Scene) -> Figure:
    """Seconds of one look at 10,000 leases that wait, the question to the controller included."""
    with _cluster(scene) as cluster, _site(scene, cluster) as site:
        count = QUICK_MANY if scene.quick else MANY
        cluster.call("scontrol", "update", f"PartitionName={POOL}", "State=DOWN")
        began = time.monotonic()
        keys = site.run(site.submit_all("m", count))
        site.run(site.listed(keys))
        submitted_s = time.monotonic() - began
        scene.say(f"{count} leases given to Slurm in {submitted_s:.1f} s")
        spent = [site.run(site.cycle(keys)) for _ in range(CYCLES)]
        cluster.call("scancel", "--user", str(os.getuid()))
        extra: dict[str, Extra] = {"leases": count, "submitted_s": round(submitted_s, 1), "slowest": max(spent)}
        return Figure(median(spent), extra=extra)


# --- Slurm alone ------------------------------------------------------------------------------------------------------


def _alone(cluster: Cluster, count: int) -> float:
    """Seconds for `count` jobs of `true`."""
    completed = cluster.folder / "completed.txt"
    before = _lines(completed)
    left = iter(range(count))
    turn = threading.Lock()
    environment = {**os.environ, **cluster.environment}
    command = ["sbatch", "--parsable", "--output=/dev/null", "--ntasks=1", "--mem=64M", "--time=2", "--wrap=true"]

    def call() -> None:
        while True:
            with turn:
                if next(left, None) is None:
                    return
            subprocess.run(command, env=environment, cwd=cluster.jobs, capture_output=True, check=True, timeout=CALL_S)

    since = time.monotonic()
    threads = [threading.Thread(target=call) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while _lines(completed) - before < count:
        if time.monotonic() - since > ENDED_S:
            raise RuntimeError("Slurm alone did not end its jobs in time")
        time.sleep(0.05)
    return time.monotonic() - since


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _alone_start(cluster: Cluster, number: int) -> float:
    """Milliseconds from calling sbatch to the job's first line."""
    out = cluster.jobs / f"start-{number}"
    before = time.time_ns()
    cluster.sbatch("--output", str(out), "--mem=64M", f"--wrap={PRINT_TIME[2]}")
    cluster.until(lambda: out.exists() and out.read_text().endswith("\n"), "start a job", 0.01)
    cluster.until(lambda: not cluster.call("squeue", "-h", "-o", "%i"), "rest")
    return (int(out.read_text()) - before) / 1e6


# --- the driver -------------------------------------------------------------------------------------------------------


@dataclass
class _Site:
    """A driver with a loop of its own."""

    cluster: Cluster
    driver: SlurmDriver
    runner: asyncio.Runner

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(coroutine)

    async def submit_all(self, name: str, count: int, command: tuple[str, ...] = ("true",)) -> list[LeaseKey]:
        leases = [_lease(f"{name}.{i}", command) for i in range(count)]
        await asyncio.gather(*(self.driver.submit(Job(lease, boottime_ms())) for lease in leases))
        return [LeaseKey(lease.lease_id, 1) for lease in leases]

    async def all_ended(self, name: str, count: int) -> float:
        """Seconds until the last of `count` jobs of `true` has ended and is forgotten."""
        since = time.monotonic()
        left = set(await self.submit_all(name, count))
        while left:
            news = await self.driver.changed(2_000)
            for key, status in (await self.driver.observe(list(news & left or left))).items():
                if status.phase is Phase.ENDED:
                    if status.exit_code != 0:
                        raise RuntimeError(f"a job went wrong: {status}")
                    left.discard(key)
                    await self.driver.forget(key)
            if time.monotonic() - since > ENDED_S:
                raise RuntimeError(f"{len(left)} jobs did not end in time")
        return time.monotonic() - since

    async def start_ms(self, name: str) -> float:
        before = time.time_ns()
        [key] = await self.submit_all(name, 1, PRINT_TIME)
        while (await self.driver.observe([key]))[key].phase is not Phase.ENDED:
            await self.driver.changed(1_000)
        text = await self.driver.logs(key, 0, 100)
        await self.driver.forget(key)
        while await asyncio.to_thread(self.cluster.call, "squeue", "-h", "-o", "%i"):
            await asyncio.sleep(0.05)
        return (int(text) - before) / 1e6

    async def listed(self, keys: list[LeaseKey]) -> None:
        until = time.monotonic() + ENDED_S
        while any(status.phase is not Phase.ACCEPTED for status in (await self.driver.observe(keys)).values()):
            if time.monotonic() > until:
                raise RuntimeError("Slurm does not list all leases")
            await asyncio.sleep(0.2)

    async def cycle(self, keys: list[LeaseKey]) -> float:
        """Both parts one after the other: what the controller is asked, and what the disk says."""
        await asyncio.sleep(1.1)
        since = time.monotonic()
        await self.driver._lookout.next()
        found = await self.driver.observe(keys)
        spent = time.monotonic() - since
        if any(status.phase is not Phase.ACCEPTED for status in found.values()):
            raise RuntimeError("a lease that waits is not told so")
        return round(spent, 3)


def _lease(lease_id: str, command: tuple[str, ...]) -> StartLease:
    return StartLease(
        seq=1,
        lease_id=lease_id,
        epoch=1,
        pool=POOL,
        slots=1,
        slot_milli=1_000,
        slot_memory_bytes=64 << 20,
        run_limit_ms=60_000,
        disconnect_limit_ms=600_000,
        command=command,
    )


@contextmanager
def _cluster(scene: Scene, shape: Shape = SHAPE) -> Iterator[Cluster]:
    if why := missing():
        raise NotMeasurable(why)
    cluster = Cluster(scene.subfolder("slurm"), shape)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@contextmanager
def _site(scene: Scene, cluster: Cluster) -> Iterator[_Site]:
    settings = SlurmSettings(conf=cluster.folder / "slurm.conf")
    driver = SlurmDriver(DriverSettings(), settings, "bench", scene.subfolder("site"))
    with asyncio.Runner() as runner:
        runner.run(driver.open())
        try:
            yield _Site(cluster, driver, runner)
        finally:
            runner.run(driver.close())
