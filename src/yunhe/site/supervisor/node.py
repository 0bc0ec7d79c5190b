"""A job that a cluster's engine starts on one of its nodes:

    python -I -S node.py LEASE_DIR NEWS_DIR ENGINE [VARIABLE...]

Supervises it, once for ever: a second start of the same lease finds the claim taken and ends at once. ENGINE is the
engine's name for people; VARIABLEs are taken over from the engine's environment, which says nothing else to the job.

Two processes guard each other. The engine knows the first, the guard, and stops or kills it as it likes. The second,
the supervisor, has a session of its own: it hears of the guard's end by a signal, stops the job and writes down what
became of it. Should the supervisor be killed, the guard inherits the job's processes and ends them.
"""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))

from yunhe.site.supervisor.kernel import send, tree
from yunhe.site.supervisor.records import Spec, boottime_ms, claim, complain, monotonic_ms, read_text
from yunhe.site.supervisor.seat import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, Seat
from yunhe.site.supervisor.watch import Supervisor

libc = ctypes.CDLL(None, use_errno=True)
STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGKILL)
FENCE_MS = 1_000
SPREAD_MS = 500  # the engine signals processes one after the other: the job may fall before its supervisor is told
GRACE_MS = 2_000  # at most, after the engine's own SIGTERM: its SIGKILL follows (Ray: after 3 s)
PAUSE_S = 0.01


def clock_offset_ms(beacon: str, age_ms: int, boot: str, now_ms: int) -> int:
    """What to add to the agent's CLOCK_BOOTTIME to have this host's.

    `beacon` is "BOOT MS CONTACT": which boot of which host, its clock when this was written, `age_ms` ago by the clock
    of the shared disk, and when the hub was last heard. An age that was read too small makes that look later than it
    was, so no age is below 0.
    """
    their_boot, ms, _ = beacon.split()
    return 0 if their_boot == boot else now_ms - (int(ms) + max(0, age_ms))


def measured_offset_ms(beacon: Path, probe: Path) -> int:
    """Both files have their times from the shared disk. Raises OSError or ValueError where there is no beacon."""
    probe.write_text("x")
    age = (probe.stat().st_mtime_ns - beacon.stat().st_mtime_ns) // 1_000_000
    probe.unlink()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return clock_offset_ms(beacon.read_text(), age, boot, boottime_ms())


class NodeSupervisor(Supervisor):
    """Far from the agent, and not the only one who may stop the job."""

    def __init__(self, spec: Spec, seat: Seat, offset_ms: int, news: Path, engine: str) -> None:
        spec["contact_ms"] += offset_ms
        super().__init__(spec, seat)
        self.offset_ms = offset_ms
        self.news = news
        self.engine = engine
        self.next_fence = 0
        signal.signal(signal.SIGTERM, lambda *_: self.stopped_by_engine())

    def stopped_by_engine(self) -> None:
        self.check_limits()  # a cancel or limit of ours comes first
        self.stop("supervisor_lost", f"stopped by {self.engine}", min(self.spec["term_grace_ms"], GRACE_MS))

    def disconnected_in_ms(self) -> int:
        words = (read_text(self.spec["contact_path"]) or "").split()
        self.contact_ms = max(self.contact_ms, int(words[2]) + self.offset_ms if len(words) == 3 else 0)
        return self.contact_ms + self.spec["disconnect_limit_ms"] - boottime_ms()

    def check_limits(self) -> None:
        now = monotonic_ms()
        if not self.reason and now >= self.next_fence:
            self.next_fence = now + FENCE_MS
            if os.path.exists("exit.json") or not os.path.exists("spec.json"):
                self.stop("supervisor_lost", "the agent has given it up")
        super().check_limits()

    def judge(self, cleared: bool) -> None:
        until = monotonic_ms() + SPREAD_MS
        while not self.reason and self.job.status in STOPPED and monotonic_ms() < until:
            time.sleep(PAUSE_S)  # whose signal was it? The engine's reaches this process too
        super().judge(cleared)

    def publish(self) -> None:
        try:
            os.link("exit.json.tmp", "exit.json")
        except FileExistsError:
            complain("the agent has written its end before")

    def notify(self) -> None:
        """A file named after the lease in a folder that the agent looks at."""
        try:
            (self.news / self.spec["key"]).touch()
        except OSError as error:  # a hint only
            complain(f"news: {error}")


def supervise(news: Path, engine: str, variables: Sequence[str], guard: int) -> int:
    """In the supervisor's process; the exit status of the job."""
    early: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: early.append(number))
    os.setsid()
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    seat = Seat([])
    if os.getppid() != guard or not claim(f"{seat.name} {os.uname().nodename}"):
        complain(f"started again on {os.uname().nodename}: nothing done")
        seat.leave()
        return 0
    spec: Spec = json.loads(Path("spec.json").read_text(encoding="utf-8"))
    spec["env"] = {name: os.environ[name] for name in variables if name in os.environ} | spec["env"]
    try:
        offset = measured_offset_ms(Path(spec["contact_path"]), Path("probe"))
    except (OSError, ValueError) as error:
        complain(f"no beacon of the agent, its clock is taken for this host's: {error}")
        offset = 0
    supervisor = NodeSupervisor(spec, seat, offset, news, engine)
    if early:
        supervisor.stopped_by_engine()
    supervisor.run()
    return supervisor.job.status or 0


def stand_guard(pid: int) -> int:
    """Until the supervisor has ended, and all that it may have left behind; its exit status."""
    status = None
    while status is None:
        done, state = os.waitpid(-1, 0)
        if done == pid:
            status = os.waitstatus_to_exitcode(state)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while left := tree(os.getpid()):
        for other in left:
            send(other, signal.SIGKILL)
        os.waitpid(-1, 0)
    return status if status >= 0 else 128 - status


def main() -> int:
    lease_dir, news, engine, *variables = sys.argv[1:]
    os.chdir(lease_dir)  # a lease that was given up has no folder: nothing is started
    errors = os.open("supervisor.err", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDWR)
    for fd, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(fd, target)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    guard, child = os.getpid(), 0

    def forward(number: int, _frame: object) -> None:
        if child:
            send(child, number)

    signal.signal(signal.SIGTERM, forward)
    child = os.fork()
    if child:
        return stand_guard(child)
    code = 1
    try:
        code = supervise(Path(news), engine, variables, guard)
    except BaseException as error:  # noqa: BLE001 - a forked process must not return
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
