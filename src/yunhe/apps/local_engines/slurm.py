"""A private Slurm from Debian: one controller and a few node daemons on this host, without systemd, root or cgroups.

Everything lies in one folder and listens on 127.0.0.1 alone. Nodes claim more cores than there are, and their GPUs
are copies of /dev/null: enough for everything but speed.
"""

import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from yunhe.apps.local_engines.processes import alive, free_ports, kill, marked

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo", "scontrol", "srun", "munged")
PACKAGES = "slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"
INSTALL = f"sudo apt-get install -y --no-install-recommends {PACKAGES}"
UP_S, STOP_S, CALL_S = 60.0, 10.0, 60.0

# What differs from Slurm's defaults: one host, no accounting, no cgroups, a scheduler that reacts at once.
CONFIGURATION = """\
ClusterName={name}
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
SelectTypeParameters={consumed}
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,bf_interval=1,batch_sched_delay=0,sched_interval=2
MpiDefault=none
ReturnToService=2
KillWait=2
MaxJobCount=200000
MaxArraySize=10001
SlurmdParameters=config_overrides
MailProg=/bin/true
{nodes}
PartitionName={partition} Nodes=n[1-{count}] Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the cluster claims to be. `memory_mib` 0: memory is not counted. `gpu` is a GRES type; empty: no GPUs."""

    nodes: int
    cpus: int
    partition: str = "main"
    memory_mib: int = 0
    gpu: str = ""
    gpus: int = 2  # of each node
    features: str = ""


def missing() -> str:
    """Why Slurm cannot be started here, with the line that installs it; empty when it can."""
    if all(_program(program) for program in PROGRAMS):
        return ""
    return f"Slurm is not installed: {INSTALL}"


class Cluster:
    """`start`, use, `stop`. Raises RuntimeError when a daemon or a command fails."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.folder = folder
        self.shape = shape
        self.jobs = folder / "jobs"
        self.environment = {"SLURM_CONF": f"{folder}/slurm.conf"}

    # --- start and stop -----------------------------------------------------------------------------------------

    def start(self) -> None:
        # Jobs run as the submitting user in a folder below: the way to it must be open to munge's checks.
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        for name in ("munge", "state", "spool", "jobs"):
            (self.folder / name).mkdir()
        (self.folder / "munge").chmod(0o711)
        self._configure()
        munge = self.folder / "munge"
        key = munge / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = [f"--{name}-file={munge}/{name}" for name in ("pid", "log", "seed")]
        self._daemon(["munged", f"--key-file={key}", f"--socket={munge}/socket", *files])
        self.start_controller()
        for node in self.nodes:
            (self.folder / "spool" / node).mkdir()
            self.start_node(node)
        self.until(lambda: len(self.idle()) == self.shape.nodes, "come up")

    @property
    def nodes(self) -> list[str]:
        return [f"n{i + 1}" for i in range(self.shape.nodes)]

    def _configure(self) -> None:
        shape, host = self.shape, socket.gethostname().partition(".")[0]
        ports = free_ports(shape.nodes + 1)
        what = f"CPUs={shape.cpus} State=UNKNOWN"
        what += f" RealMemory={shape.memory_mib}" if shape.memory_mib else ""
        what += f" Gres=gpu:{shape.gpu}:{shape.gpus}" if shape.gpu else ""
        what += f" Feature={shape.features}" if shape.features else ""
        lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} {what}"
            for node, port in zip(self.nodes, ports[1:], strict=True)
        ]
        if shape.gpu:
            lines.append("GresTypes=gpu")
            self._make_gpus()
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True, timeout=5).stdout.strip()
        text = CONFIGURATION.format(
            name="yunhe",
            host=host,
            port=ports[0],
            user=user,
            folder=self.folder,
            consumed="CR_Core_Memory" if shape.memory_mib else "CR_Core",
            nodes="\n".join(lines),
            partition=shape.partition,
            count=shape.nodes,
        )
        (self.folder / "slurm.conf").write_text(text)

    def _make_gpus(self) -> None:
        """Character devices like /dev/null (needs root); Slurm only counts them."""
        folder, gpus = self.folder / "dev", range(self.shape.gpus)
        folder.mkdir()
        for node in self.nodes:
            for i in gpus:
                os.mknod(folder / f"{node}-gpu{i}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        lines = [
            f"NodeName={node} Name=gpu Type={self.shape.gpu} File={folder}/{node}-gpu[0-{gpus[-1]}]"
            for node in self.nodes
        ]
        (self.folder / "gres.conf").write_text("\n".join(lines) + "\n")

    def start_controller(self) -> None:
        self._daemon(["slurmctld", "-i"])

    def start_node(self, node: str) -> None:
        self._daemon(["slurmd", "-N", node])

    def _daemon(self, command: list[str]) -> None:
        """It puts itself into the background; its exit status is that of its start."""
        program = _program(command[0])
        if program is None:
            raise RuntimeError(missing())
        done = subprocess.run(
            [program, *command[1:]],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=CALL_S,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]} did not start (status {done.returncode})")

    def controller_pid(self) -> int:
        return int((self.folder / "slurmctld.pid").read_text())

    def kill_controller(self) -> None:
        """As a crash would: what was not saved is lost."""
        self._end_controller(signal.SIGKILL)

    def stop_controller(self) -> None:
        """In good order."""
        self._end_controller(signal.SIGTERM)

    def _end_controller(self, how: signal.Signals) -> None:
        number = self.controller_pid()
        os.kill(number, how)
        self.until(lambda: not alive(number), "end", pause_s=0.01)

    def stop(self) -> None:
        """Every daemon that was started, by the number in its own pid file."""
        files = [*self.folder.glob("slurmd-*.pid"), self.folder / "slurmctld.pid", self.folder / "munge" / "pid"]
        numbers = [int(file.read_text()) for file in files if file.exists() and file.read_text().strip()]
        for number in numbers:
            kill(number, signal.SIGTERM)
        until = time.monotonic() + STOP_S
        while any(alive(number) for number in numbers) and time.monotonic() < until:
            time.sleep(0.05)
        # Steps too: one that cannot tell a controller of its end would wait for one for ever.
        for number in (*numbers, *marked("SLURM_CONF", self.environment["SLURM_CONF"])):
            kill(number, signal.SIGKILL)

    # --- use ----------------------------------------------------------------------------------------------------

    def call(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=CALL_S,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr.strip()[-300:]}")
        return done.stdout.strip()

    def sbatch(self, *arguments: str) -> str:
        return self.call("sbatch", "--parsable", "--chdir", str(self.jobs), *arguments)

    def idle(self) -> list[str]:
        return self.call("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split()

    def clear(self) -> None:
        """Nothing queued, nothing running."""
        self.call("scancel", "--user", str(os.getuid()))
        self.until(lambda: not self.call("squeue", "-h", "-o", "%i"), "become empty")

    def until(self, reached: Callable[[], bool], what: str, pause_s: float = 0.05) -> None:
        until = time.monotonic() + UP_S
        while not reached():
            if time.monotonic() > until:
                raise RuntimeError(f"it did not {what} in {UP_S:.0f} s")
            time.sleep(pause_s)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
