"""Slurm from Debian as a peer: one controller and a few node daemons on this host, without systemd, then stopped.

It accepts, runs and reports jobs as Yunhe does, but keeps no account of money, and what it has acknowledged is on the
disk only when its state is saved, some seconds later.  Its figures are taken on the same machine in the same run.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

from benchmarks.figure import PeerFigure
from benchmarks.scene import NotMeasurable, Scene
from tests.engines.slurm import CALL_S, Cluster, Shape, missing

SHAPE = Shape(nodes=6, cpus=16)  # claimed, not there: jobs of `true` need none
SUBMITTERS = 8
RATE_S, QUICK_RATE_S = 8.0, 3.0
COMPLETED_S, QUICK_COMPLETED_S, COMPLETED_WARM_S = 20.0, 8.0, 3.0
ARRAYS, TASKS = 20, 500
STARTS, QUICK_STARTS = 15, 4


class Slurm:
    """Started at its first use, once per run; figures that two benchmarks share are taken once."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._running: Cluster | None = None
        self._known: dict[str, PeerFigure] = {}
        self._why_not = ""

    # --- figures ------------------------------------------------------------------------------------------------

    def submit_rate(self) -> PeerFigure:
        """Jobs that `sbatch` accepted per second, 8 callers at a time; the cluster is taken, so they wait."""

        def measure() -> float:
            seconds = self._scene.seconds(RATE_S, QUICK_RATE_S)
            self._fill()
            with _Submitters(self._cluster.environment, self._cluster.jobs, ("--wrap=true",)) as callers:
                time.sleep(1)
                first, since = callers.done, time.monotonic()
                time.sleep(seconds)
                rate = (callers.done - first) / (time.monotonic() - since)
            self._cluster.clear()
            return rate

        return self._figure("submit", measure)

    def array_rate(self) -> PeerFigure:
        """Tasks of job arrays that `sbatch` accepted per second (one record each until its tasks start)."""

        def measure() -> float:
            self._fill()
            since = time.monotonic()
            for _ in range(ARRAYS):
                self._cluster.sbatch(f"--array=0-{TASKS - 1}", "--wrap=true")
            rate = ARRAYS * TASKS / (time.monotonic() - since)
            self._cluster.clear()
            return rate

        return self._figure("array", measure)

    def completed_rate(self) -> PeerFigure:
        """Jobs of `true` completed per second while 8 callers submit."""

        def measure() -> float:
            seconds = self._scene.seconds(COMPLETED_S, QUICK_COMPLETED_S)
            with _Submitters(self._cluster.environment, self._cluster.jobs, ("--wrap=true",)):
                time.sleep(COMPLETED_WARM_S)
                first, since = self._completed(), time.monotonic()
                time.sleep(seconds)
                rate = (self._completed() - first) / (time.monotonic() - since)
            self._cluster.clear()
            return rate

        return self._figure("completed", measure)

    def start_p50(self) -> PeerFigure:
        return self._start(50)

    def start_p99(self) -> PeerFigure:
        return self._start(99)

    def _start(self, percent: int) -> PeerFigure:
        """Milliseconds from calling `sbatch` to the time that the job's first line prints, on an idle cluster."""

        def measure() -> float:
            count = STARTS if not self._scene.quick else QUICK_STARTS
            spent = sorted(self._one_start(n) for n in range(count))
            for known in (50, 99):
                value = spent[min(count - 1, count * known // 100)]
                self._known[f"start_{known}"] = PeerFigure(value, f"{count} jobs one after the other")
            return 0.0

        if f"start_{percent}" not in self._known:
            failed = self._figure("starts", measure)
            if failed.value is None:
                return failed
        return self._known[f"start_{percent}"]

    def _one_start(self, number: int) -> float:
        out = self._cluster.jobs / f"start-{number}"
        before = time.time_ns()
        self._cluster.sbatch("--output", str(out), "--wrap=date +%s%N")
        until = time.monotonic() + CALL_S
        while not (out.exists() and out.read_text().endswith("\n")):
            if time.monotonic() > until:
                raise RuntimeError("Slurm did not start a job in time")
            time.sleep(0.01)
        while self._cluster.call("squeue", "-h"):  # idle again before the next
            time.sleep(0.05)
        return (int(out.read_text()) - before) / 1e6

    # --- the cluster --------------------------------------------------------------------------------------------

    def _figure(self, name: str, measure: Callable[[], float]) -> PeerFigure:
        if name in self._known:
            return self._known[name]
        try:
            self._ensure()
            found = PeerFigure(measure())
            self._scene.say(f"Slurm {name}: {found.value:.1f}")
        except NotMeasurable as error:
            found = PeerFigure(None, str(error))
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            found = PeerFigure(None, f"Slurm failed here: {error}")
        self._known[name] = found
        return found

    def _ensure(self) -> None:
        if self._why_not:
            raise NotMeasurable(self._why_not)
        if self._running is not None:
            return
        self._why_not = missing()
        if self._why_not:
            raise NotMeasurable(self._why_not)
        self._running = Cluster(self._scene.subfolder("slurm"), SHAPE)
        self._running.start()

    @property
    def _cluster(self) -> Cluster:
        assert self._running is not None
        return self._running

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    def _fill(self) -> None:
        """One job on each node that takes all of it."""
        cluster = self._cluster
        for _ in range(SHAPE.nodes):
            cluster.sbatch("--exclusive", "--output=/dev/null", "--wrap=sleep 600")
        cluster.until(
            lambda: len(cluster.call("squeue", "-h", "-t", "running", "-o", "%i").split()) == SHAPE.nodes, "fill up"
        )

    def _completed(self) -> int:
        file = self._cluster.folder / "completed.txt"
        return len(re.findall(r"JobState=COMPLETED", file.read_text())) if file.exists() else 0


class _Submitters:
    """Callers of `sbatch`, each in a loop of its own, while the context lasts."""

    def __init__(self, environment: dict[str, str], workplace: Path, arguments: tuple[str, ...]) -> None:
        self._command = ["sbatch", "--parsable", "--output=/dev/null", "--chdir", str(workplace), *arguments]
        self._environment = {**os.environ, **environment}
        self._stop = Event()
        self._counts = [0] * SUBMITTERS
        self._threads = [Thread(target=self._loop, args=(i,), daemon=True) for i in range(SUBMITTERS)]

    @property
    def done(self) -> int:
        return sum(self._counts)

    def _loop(self, index: int) -> None:
        while not self._stop.is_set():
            done = subprocess.run(
                self._command, env=self._environment, capture_output=True, check=False, timeout=CALL_S
            )
            self._counts[index] += done.returncode == 0

    def __enter__(self) -> "_Submitters":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(CALL_S)
