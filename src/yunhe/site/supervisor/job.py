"""The processes of one job: started, measured, ended."""

import json
import os
import resource
import signal
import time

from yunhe.site.supervisor import given, tenant
from yunhe.site.supervisor.kernel import PAGE, TICKS, counter, send, tree
from yunhe.site.supervisor.log import Log
from yunhe.site.supervisor.records import Cgroup, Spec, Totals, complain, monotonic_ms, read_text
from yunhe.site.supervisor.seat import NAME, Seat, SpawnFailed

DRAIN_LIMIT_MS = 30_000  # how long to wait for killed processes to be gone


def named(cgroup: Cgroup | None, name: str) -> Cgroup | None:
    """The control groups of one seat."""
    if cgroup is None:
        return None
    text: Cgroup = json.loads(json.dumps(cgroup).replace(NAME, name))
    return text


class Job:
    """The job's processes, and what the kernel says about them."""

    def __init__(self, spec: Spec, seat: Seat, values: given.Values | None = None) -> None:
        self.spec = spec
        self.values = values or {}
        self.seat = seat
        self.cgroup = named(spec["cgroup"], seat.name)
        self.pid = 0
        self.start_ms = 0
        self.status: int | None = None  # exit code once it was reaped
        self.peak = 0
        self.cpu_ms = 0
        self.too_many = False
        self.sandbox_pid = 0
        self.log: Log | None = None
        self.report: dict[str, object] = {}
        self.reaped: set[int] = set()  # their numbers may belong to others by now
        self.last_sample = 0
        self.folder = ""  # of its secrets, to be removed

    # --- start ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Raises SpawnFailed when the site cannot start it (not when the command does not exist: exit 127)."""
        self.log = Log(self.seat.log, self.spec["log_cap_bytes"])
        self.start_ms = monotonic_ms()
        self.pid = self.seat.pid
        # In a sandbox the secrets are in the sandbox's own memory file system: nobody has to remove them.
        self.folder = "" if self.spec["sandbox"] else self.spec.get("secrets", "")
        if self.folder:
            try:
                given.place(self.folder, self.values, self.spec["uid"])
            except OSError as error:
                raise SpawnFailed(f"secrets: {error.strerror}") from error
        self.seat.take(self.spec, self.values)
        self.values = {}

    # --- end --------------------------------------------------------------------------------------------------

    def forget_secrets(self) -> None:
        if self.folder:
            given.remove(self.folder)

    def reap(self) -> None:
        """Collect ended children; the job's own first process sets `status`."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.reaped.add(pid)
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                self.status = code if code >= 0 else 128 - code

    def sandbox_report(self) -> dict[str, object]:
        """What bubblewrap said: its process inside, and whether the command was started at all."""
        try:
            lines = os.read(self.seat.status, 1 << 16).decode(errors="replace").splitlines()
        except BlockingIOError:
            lines = []
        for line in lines:
            if line.startswith("{"):
                self.report.update(json.loads(line))
        pid = self.report.get("child-pid")
        self.sandbox_pid = pid if isinstance(pid, int) else 0
        return self.report

    def members(self) -> set[int]:
        """The job's processes, without those of the sandbox itself."""
        pids = set(tree(os.getpid()))
        if self.cgroup:
            pids.update(int(pid) for pid in (read_text(self.cgroup["procs"]) or "").split())
        if self.spec["sandbox"]:
            self.sandbox_report()
            pids -= {self.pid, self.sandbox_pid}
        return pids

    def terminate(self) -> None:
        self.send(self.members(), signal.SIGTERM)

    def warn(self, number: int) -> None:
        self.send(self.members(), number)

    def send(self, pids: set[int], number: int) -> None:
        """Also where they are of another user."""
        others = [pid for pid in pids if not send(pid, number)]
        if others and "become" in self.spec:
            tenant.send_as(self.spec["become"], others, number)

    def kill(self) -> None:
        """SIGKILL to everything the job started."""
        if self.cgroup and self.cgroup["kill"]:
            try:
                with open(self.cgroup["kill"], "w", encoding="ascii") as file:
                    file.write("1")
            except OSError as error:
                complain(f"cgroup.kill: {error}")
        self.sandbox_report()
        self.send(({self.sandbox_pid, self.pid} - self.reaped - {0}) | self.members(), signal.SIGKILL)

    def clear(self) -> bool:
        """Kill until nothing is left; False when something does not go away."""
        until = monotonic_ms() + DRAIN_LIMIT_MS
        pause = 0.0005
        while True:
            self.kill()
            self.reap()
            if self.status is not None and not self.members():
                return True
            if monotonic_ms() > until:
                return False
            if self.log:
                self.log.pump(64)
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    # --- figures ----------------------------------------------------------------------------------------------

    def out_of_memory(self) -> bool:
        """The kernel killed a part of it for memory, or the sampled tree is over its limit."""
        if self.cgroup:
            return bool(counter(*self.cgroup["oom"]))
        return self.peak > self.spec["memory_limit_bytes"]

    def sample(self) -> None:
        """Without cgroups: memory and CPU of the process tree. Over the limit, pages shared are counted once."""
        now = monotonic_ms()
        if self.cgroup or now - self.last_sample < self.spec["sample_ms"]:
            return
        self.last_sample = now
        pids = tree(os.getpid())
        self.too_many = len(pids) > self.spec["pids_limit"]
        memory = ticks = 0
        for pid in pids:
            stat = (read_text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
            if len(stat) > 21:
                memory += int(stat[21]) * PAGE
                ticks += sum(int(value) for value in stat[11:15])
        if memory > self.spec["memory_limit_bytes"]:
            shares = [counter(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in pids]
            if None not in shares:
                memory = min(memory, sum(share * 1024 for share in shares if share is not None))
        self.peak = max(self.peak, memory)
        self.cpu_ms = max(self.cpu_ms, ticks * 1000 // TICKS)

    def totals(self) -> Totals:
        """Cumulative use since the start, by the kernel's own counters where they are."""
        sampled = True
        if self.cgroup:
            path, prefix, per_ms = self.cgroup["cpu"]
            value = counter(path, prefix)
            self.cpu_ms = max(self.cpu_ms, 0 if value is None else value // per_ms)
            peak = next((v for v in (counter(path, "") for path in self.cgroup["peak"]) if v is not None), None)
            sampled = peak is None
            self.peak = max(self.peak, peak or 0)
        else:
            reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
            self.cpu_ms = max(self.cpu_ms, int((reaped.ru_utime + reaped.ru_stime) * 1000))
            self.peak = max(self.peak, 0 if self.status is None else reaped.ru_maxrss * 1024)
        wall = monotonic_ms() - self.start_ms
        return {"wall_ms": wall, "cpu_ms": self.cpu_ms, "peak_memory_bytes": self.peak, "sampled": sampled}
