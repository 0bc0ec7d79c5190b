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
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))

from yunhe.site.supervisor.far import FarSupervisor
from yunhe.site.supervisor.kernel import send, tree
from yunhe.site.supervisor.records import Spec, claim, complain
from yunhe.site.supervisor.seat import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, Seat

libc = ctypes.CDLL(None, use_errno=True)
GRACE_MS = 2_000  # at most, after the engine's own SIGTERM: its SIGKILL follows (Ray: after 3 s)


def supervise(news: str, engine: str, variables: Sequence[str], guard: int) -> int:
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
    supervisor = FarSupervisor(spec, seat, news, engine, GRACE_MS)
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
        code = supervise(news, engine, variables, guard)
    except BaseException as error:  # noqa: BLE001 - a forked process must not return
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
