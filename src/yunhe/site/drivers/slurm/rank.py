"""One slot of a gang, on its node: `python -I -S rank.py LEASE_DIR MEMORY_BYTES SAMPLE_MS WRITE_MS -- COMMAND...`.

Started by srun once for each slot. Gives its command YUNHE_RANK, measures it, holds its memory, and keeps
`ranks/RANK.json` in the lease's folder, where the step sums up. A number in `ranks/stop` is a signal for the command,
to end or to save its work: one by way of Slurm would reach every process of the job, not this one first.
"""

import json
import os
import resource
import signal
import sys

sys.path.append(__file__.removesuffix("/yunhe/site/drivers/slurm/rank.py"))

from yunhe.site.supervisor import tenant
from yunhe.site.supervisor.kernel import PAGE, TICKS, send, tree
from yunhe.site.supervisor.records import Spec, complain, monotonic_ms, read_text, write_record
from yunhe.site.supervisor.seat import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, libc

# What Slurm tells the job of its place goes through; everything else comes from the lease.
PLACE = ("SLURM_", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "GPU_DEVICE_ORDINAL", "ASCEND_")
SIGNALS = (signal.SIGCHLD, signal.SIGTERM)
STOP_LOOK_MS = 200


class Rank:
    """The processes of one slot."""

    def __init__(self, folder: str, number: str, memory_bytes: int, become: list[str]) -> None:
        self.become = become
        self.record = os.path.join(folder, f"{number}.json")
        self.stop_path = os.path.join(folder, "stop")
        self.stopped = False
        self.word = ""  # the newest one from `stop`
        self.told = False  # by Slurm, to end: for a local user's job, or because another rank has failed
        self.memory_bytes = memory_bytes
        self.cpu_ms = 0
        self.peak = 0
        self.pid = 0
        self.status: int | None = None
        self.out_of_memory = False

    def start(self, command: list[str], env: dict[str, str]) -> None:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self.pid = os.fork()
        if self.pid:
            return
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        try:
            os.execvpe(command[0], command, env)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
            os._exit(127 if isinstance(error, FileNotFoundError) else 126)

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                self.status = code if code >= 0 else 128 - code

    def sample(self) -> None:
        memory = ticks = 0
        for pid in tree(os.getpid()):
            stat = (read_text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
            if len(stat) > 21:
                memory += int(stat[21]) * PAGE
                ticks += sum(int(value) for value in stat[11:15])
        self.peak = max(self.peak, memory)
        self.cpu_ms = max(self.cpu_ms, ticks * 1000 // TICKS)
        if memory > self.memory_bytes:
            self.out_of_memory = True
            self.signal(signal.SIGKILL)

    def stop(self, number: int) -> None:
        """Ask its processes to end; what they answer says nothing about the gang."""
        self.stopped = True
        self.signal(number)

    def signal(self, number: int) -> None:
        others = [pid for pid in tree(os.getpid()) if not send(pid, number)]
        if others and self.become:
            tenant.send_as(self.become, others, number)

    def write(self, ended: bool) -> None:
        reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_ms = max(self.cpu_ms, int((reaped.ru_utime + reaped.ru_stime) * 1000))
        peak = max(self.peak, reaped.ru_maxrss * 1024 if ended else 0)
        figures = {
            "cpu_ms": cpu_ms,
            "peak_memory_bytes": peak,
            "out_of_memory": self.out_of_memory,
            "ended": ended,
            "exit_code": 0 if self.stopped else self.status,
            "told": self.told,
        }
        try:
            write_record(self.record, figures, sync=ended)
        except OSError as error:
            complain(f"{self.record}: {error}")

    def run(self, sample_ms: int, write_ms: int) -> int:
        """Until its command has ended and nothing of it is left; the exit code."""
        next_write = next_look = 0
        while self.status is None:
            got = signal.sigtimedwait(SIGNALS, sample_ms / 1000)
            self.reap()
            if got is not None and got.si_signo == signal.SIGTERM:
                self.told = True
                if self.status is None:
                    self.stop(signal.SIGTERM)
            self.sample()
            if monotonic_ms() >= next_look:
                next_look = monotonic_ms() + STOP_LOOK_MS
                if (word := read_text(self.stop_path)) and word != self.word:
                    self.word = word
                    self.stop(int(word))
            if monotonic_ms() >= next_write:
                next_write = monotonic_ms() + write_ms
                self.write(ended=False)
        while tree(os.getpid()):
            self.signal(signal.SIGKILL)
            signal.sigtimedwait((signal.SIGCHLD,), 0.02)
            self.reap()
        self.told = self.told or signal.SIGTERM in signal.sigpending()
        self.write(ended=True)
        return self.status


def main() -> int:
    lease_dir, memory, sample_ms, write_ms = sys.argv[1:5]
    number = os.environ["SLURM_PROCID"]
    command, env = sys.argv[6:], {**os.environ, "YUNHE_RANK": number}
    with open(os.path.join(lease_dir, "spec.json"), encoding="utf-8") as file:
        spec: Spec = json.load(file)
    folder, become = os.path.join(lease_dir, "ranks"), spec.get("become", [])
    if become:  # this process has nothing of the job's variables
        place = {name: value for name, value in env.items() if name.startswith(PLACE)}
        wanted = {**place, **spec["env"], "YUNHE_RANK": number}
        command = tenant.command(become, command, wanted, os.path.join(folder, f"{number}.env"))
        env = tenant.CLEAN
    rank = Rank(folder, number, int(memory), become)
    rank.start(command, env)
    return rank.run(int(sample_ms), int(write_ms))


if __name__ == "__main__":
    sys.exit(main())
