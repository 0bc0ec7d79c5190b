"""The two ways to start: for one lease, or as the launcher that has a supervisor ready for each lease to come."""

import gc
import json
import os
import select
import signal
import sys

from yunhe.site.supervisor.records import Spec, claim
from yunhe.site.supervisor.seat import Seat
from yunhe.site.supervisor.watch import Supervisor

QUIET_MS = 50


def supervise(lease_dir: str, seat: Seat) -> None:
    os.chdir(lease_dir)
    errors = os.open("supervisor.err", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDWR)
    for fd, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(fd, target)
    if not claim(seat.name):
        seat.leave()
        return
    with open("spec.json", encoding="utf-8") as file:
        spec: Spec = json.load(file)
    Supervisor(spec, seat).run()


def waiting_supervisor(dirs: list[str]) -> int:
    """Fork a supervisor with its seat; returns the pipe that tells it its lease."""
    read, write = os.pipe()
    if os.fork():
        os.close(read)
        return write
    code = 1
    try:
        os.close(write)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        seat = Seat(dirs)
        with open(read, encoding="utf-8") as pipe:
            lease_dir = pipe.read()
        if lease_dir:
            supervise(lease_dir, seat)
        else:
            seat.leave()
        code = 0
    except BaseException as error:  # noqa: BLE001 - a forked process must not return
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stderr.flush()
        os._exit(code)


def launcher(dirs: list[str]) -> None:
    """A supervisor for each line. Ends with its standard input; supervisors that have a lease live on."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    spare = waiting_supervisor(dirs)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    text = b""
    while True:
        # A seat in the making holds up every fork of the host for some ms: not while a job is being started.
        if spare < 0 and not poll.poll(QUIET_MS):
            spare = waiting_supervisor(dirs)
        chunk = os.read(0, 1 << 16)
        if not chunk:
            return
        *lines, text = (text + chunk).split(b"\n")
        for line in lines:
            with open(waiting_supervisor(dirs) if spare < 0 else spare, "wb") as pipe:
                pipe.write(line)
            spare = -1


def main() -> None:
    if sys.argv[1] == "--launcher":
        launcher(sys.argv[2:])
    else:
        with open(os.path.join(sys.argv[1], "spec.json"), encoding="utf-8") as file:
            spec: Spec = json.load(file)
        supervise(sys.argv[1], Seat(spec["cgroup"]["dirs"] if spec["cgroup"] else []))
