"""Slurm from Debian as a peer: one controller and a few node daemons on this host, without systemd, then stopped.

It accepts, runs and reports jobs as Yunhe does, but keeps no account of money, and what it has acknowledged is on the
disk only when its state is saved, some seconds later.  Its figures are taken on the same machine in the same run.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

from benchmarks.figure import PeerFigure
from benchmarks.scene import NotMeasurable, Scene

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "sinfo", "munged")
PACKAGES = "slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"
NODES, CPUS = 6, 16  # claimed, not there: jobs of `true` need none
UP_S, STOP_S, CALL_S = 30.0, 10.0, 30.0
SUBMITTERS = 8
RATE_S, QUICK_RATE_S = 8.0, 3.0
COMPLETED_S, QUICK_COMPLETED_S, COMPLETED_WARM_S = 20.0, 8.0, 3.0
ARRAYS, TASKS = 20, 500
STARTS, QUICK_STARTS = 15, 4

# What differs from Slurm's defaults: one host, no accounting, no cgroups, a scheduler that reacts at once.
CONFIGURATION = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,bf_interval=1,batch_sched_delay=0,sched_interval=2
MpiDefault=none
ReturnToService=2
MaxJobCount=200000
MaxArraySize=10001
SlurmdParameters=config_overrides
MailProg=/bin/true
{nodes}
PartitionName=main Nodes=n[1-{count}] Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """Started at its first use, once per run; figures that two benchmarks share are taken once."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._folder: Path | None = None
        self._known: dict[str, PeerFigure] = {}
        self._why_not = ""

    # --- figures ------------------------------------------------------------------------------------------------

    def submit_rate(self) -> PeerFigure:
        """Jobs that `sbatch` accepted per second, 8 callers at a time; the cluster is taken, so they wait."""

        def measure() -> float:
            seconds = self._scene.seconds(RATE_S, QUICK_RATE_S)
            self._fill()
            with _Submitters(self._environment(), self._workplace(), ("--wrap=true",)) as callers:
                time.sleep(1)
                first, since = callers.done, time.monotonic()
                time.sleep(seconds)
                rate = (callers.done - first) / (time.monotonic() - since)
            self._clear()
            return rate

        return self._figure("submit", measure)

    def array_rate(self) -> PeerFigure:
        """Tasks of job arrays that `sbatch` accepted per second (one record each until its tasks start)."""

        def measure() -> float:
            self._fill()
            since = time.monotonic()
            for _ in range(ARRAYS):
                self._sbatch(f"--array=0-{TASKS - 1}", "--wrap=true")
            rate = ARRAYS * TASKS / (time.monotonic() - since)
            self._clear()
            return rate

        return self._figure("array", measure)

    def completed_rate(self) -> PeerFigure:
        """Jobs of `true` completed per second while 8 callers submit."""

        def measure() -> float:
            seconds = self._scene.seconds(COMPLETED_S, QUICK_COMPLETED_S)
            with _Submitters(self._environment(), self._workplace(), ("--wrap=true",)):
                time.sleep(COMPLETED_WARM_S)
                first, since = self._completed(), time.monotonic()
                time.sleep(seconds)
                rate = (self._completed() - first) / (time.monotonic() - since)
            self._clear()
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
        out = self._workplace() / f"start-{number}"
        before = time.time_ns()
        self._sbatch("--output", str(out), "--wrap=date +%s%N")
        until = time.monotonic() + CALL_S
        while not (out.exists() and out.read_text().endswith("\n")):
            if time.monotonic() > until:
                raise RuntimeError("Slurm did not start a job in time")
            time.sleep(0.01)
        while self._call("squeue", "-h"):  # idle again before the next
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
        if self._folder is not None:
            return
        missing = [program for program in PROGRAMS if _program(program) is None]
        if missing:
            self._why_not = f"Slurm is not installed: sudo apt-get install -y --no-install-recommends {PACKAGES}"
            raise NotMeasurable(self._why_not)
        self._folder = self._scene.subfolder("slurm")
        self._start_daemons(self._folder)

    def _start_daemons(self, folder: Path) -> None:
        # Jobs run as the submitting user in its workplace: the way to it must be open to munge's checks.
        folder.chmod(0o755)
        for name in ("munge", "state", "spool", "jobs"):
            (folder / name).mkdir()
        (folder / "munge").chmod(0o711)
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host, port = socket.gethostname().partition(".")[0], _free_ports(NODES + 1)
        nodes = "\n".join(
            f"NodeName=n{i + 1} NodeHostname={host} NodeAddr=127.0.0.1 Port={port[i + 1]} CPUs={CPUS} State=UNKNOWN"
            for i in range(NODES)
        )
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True, timeout=5).stdout.strip()
        text = CONFIGURATION.format(host=host, port=port[0], user=user, folder=folder, nodes=nodes, count=NODES)
        (folder / "slurm.conf").write_text(text)
        munge = folder / "munge"
        _daemon(
            [
                "munged",
                f"--key-file={key}",
                f"--socket={munge}/socket",
                f"--pid-file={munge}/pid",
                f"--log-file={munge}/log",
                f"--seed-file={munge}/seed",
            ],
            {},
        )
        _daemon(["slurmctld", "-i"], self._environment())
        for i in range(NODES):
            (folder / "spool" / f"n{i + 1}").mkdir()
            _daemon(["slurmd", "-N", f"n{i + 1}"], self._environment())
        self._until(lambda: len(self._call("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split()) == NODES, "come up")

    def stop(self) -> None:
        """Every daemon that was started, by the number in its own pid file."""
        if self._folder is None:
            return
        files = [*self._folder.glob("slurmd-*.pid"), self._folder / "slurmctld.pid", self._folder / "munge" / "pid"]
        numbers = [int(file.read_text()) for file in files if file.exists() and file.read_text().strip()]
        for number in numbers:
            _kill(number, signal.SIGTERM)
        until = time.monotonic() + STOP_S
        while any(_alive(number) for number in numbers) and time.monotonic() < until:
            time.sleep(0.05)
        for number in numbers:
            _kill(number, signal.SIGKILL)
        self._folder = None

    def _fill(self) -> None:
        """One job on each node that takes all of it."""
        for _ in range(NODES):
            self._sbatch("--exclusive", "--output=/dev/null", "--wrap=sleep 600")
        self._until(lambda: len(self._call("squeue", "-h", "-t", "running", "-o", "%i").split()) == NODES, "fill up")

    def _clear(self) -> None:
        """Nothing queued, nothing running."""
        self._call("scancel", "--user", str(os.getuid()))
        self._until(lambda: not self._call("squeue", "-h", "-o", "%i"), "become empty")

    def _until(self, reached: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + UP_S
        while not reached():
            if time.monotonic() > until:
                raise RuntimeError(f"it did not {what} in {UP_S:.0f} s")
            time.sleep(0.05)

    def _environment(self) -> dict[str, str]:
        return {"SLURM_CONF": f"{self._folder}/slurm.conf"}

    def _workplace(self) -> Path:
        assert self._folder is not None
        return self._folder / "jobs"

    def _completed(self) -> int:
        assert self._folder is not None
        file = self._folder / "completed.txt"
        return len(re.findall(r"JobState=COMPLETED", file.read_text())) if file.exists() else 0

    def _sbatch(self, *arguments: str) -> str:
        return self._call("sbatch", "--parsable", "--chdir", str(self._workplace()), *arguments)

    def _call(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments],
            env={**os.environ, **self._environment()},
            capture_output=True,
            text=True,
            check=False,
            timeout=CALL_S,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr.strip()[-300:]}")
        return done.stdout.strip()


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


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _daemon(command: list[str], environment: dict[str, str]) -> None:
    """It puts itself into the background; its exit status is that of its start."""
    program = _program(command[0])
    assert program is not None
    done = subprocess.run(
        [program, *command[1:]],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=CALL_S,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} did not start (status {done.returncode})")


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _alive(number: int) -> bool:
    return Path(f"/proc/{number}").exists()


def _kill(number: int, what: signal.Signals) -> None:
    try:
        os.kill(number, what)
    except ProcessLookupError:
        return
