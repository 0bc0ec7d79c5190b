"""The two ways to start: for one lease, or as the launcher that has a supervisor ready for each lease to come."""

import errno
import fcntl
import gc
import json
import os
import select
import signal
import sys
import time

from yunhe.site.supervisor.kernel import keep_memory_private
from yunhe.site.supervisor.records import Spec, claim
from yunhe.site.supervisor.seat import Seat
from yunhe.site.supervisor.watch import Supervisor

QUIET_MS = 50
LEAVE_S = 3.0


def supervise(lease_dir: str, seat: Seat, secrets: str = "") -> None:
    """`secrets`: a JSON object; empty when none came."""
    os.chdir(lease_dir)
    errors = os.open("supervisor.err", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDWR)
    for fd, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(fd, target)
    with open("spec.json", encoding="utf-8") as file:
        spec: Spec = json.load(file)
    if ("secrets" in spec and not secrets) or not claim(seat.name):
        seat.leave()
        return
    Supervisor(spec, seat, json.loads(secrets) if secrets else {}).run()


def waiting_supervisor(dirs: list[str]) -> tuple[int, int]:
    """Fork a supervisor with its seat; returns its number and the pipe that tells it its lease."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(read)
        return pid, write
    code = 1
    try:
        os.close(write)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        seat = Seat(dirs)
        with open(read, encoding="utf-8") as pipe:
            lease_dir, _, secrets = pipe.read().partition("\0")
        if lease_dir:
            supervise(lease_dir, seat, secrets)
        else:
            seat.leave()
        code = 0
    except BaseException as error:  # noqa: BLE001 - a forked process must not return
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stderr.flush()
        os._exit(code)


def launcher(lock: str, dirs: list[str]) -> None:
    """A supervisor for each line. Ends with its standard input; supervisors that have a lease live on.

    A line is a lease directory, and behind a NUL the lease's secrets.
    """
    keep_memory_private()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    pid, spare = waiting_supervisor(dirs)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    text = b""
    while True:
        # A seat in the making holds up every fork of the host for some ms: not while a job is being started.
        if spare < 0 and not poll.poll(QUIET_MS):
            pid, spare = waiting_supervisor(dirs)
        chunk = os.read(0, 1 << 16)
        if not chunk:
            break
        *lines, text = (text + chunk).split(b"\n")
        for line in lines:
            with open(waiting_supervisor(dirs)[1] if spare < 0 else spare, "wb") as pipe:
                pipe.write(line)
            spare = -1
    if spare >= 0:
        os.close(spare)
        wait_gone(pid)
    tidy(lock, dirs)


def wait_gone(pid: int) -> None:
    until = time.monotonic() + LEAVE_S
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.005)


def tidy(lock: str, dirs: list[str]) -> None:
    """An agent that was killed leaves the site's control groups to its launcher, unless another agent is there."""
    fd = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    for path in dirs:
        try:
            os.rmdir(os.path.dirname(path))
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY, errno.ENOENT):
                raise


def main() -> None:
    if sys.argv[1] == "--launcher":
        launcher(sys.argv[2], sys.argv[3:])
    else:
        with open(os.path.join(sys.argv[1], "spec.json"), encoding="utf-8") as file:
            spec: Spec = json.load(file)
        supervise(sys.argv[1], Seat(spec["cgroup"]["dirs"] if spec["cgroup"] else []))
