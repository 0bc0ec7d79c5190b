"""The two ways to start: one lease, or the launcher that forks a supervisor for each lease."""

import gc
import json
import os
import signal
import sys

from yunhe.site.supervisor.job import libc
from yunhe.site.supervisor.records import Spec, claim
from yunhe.site.supervisor.watch import Supervisor

PR_SET_CHILD_SUBREAPER = 36


def supervise(lease_dir: str) -> None:
    os.chdir(lease_dir)
    errors = os.open("supervisor.err", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDWR)
    for fd, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(fd, target)
    if not claim():
        return
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with open("spec.json", encoding="utf-8") as file:
        spec: Spec = json.load(file)
    Supervisor(spec).run()


def launcher() -> None:
    """Fork a supervisor for each line. Ends with its standard input; the supervisors live on."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            code = 1
            try:
                supervise(line.rstrip("\n"))
                code = 0
            except BaseException as error:  # noqa: BLE001 - a forked child must not return
                sys.excepthook(type(error), error, error.__traceback__)
            finally:
                sys.stderr.flush()
                os._exit(code)


def main() -> None:
    if sys.argv[1] == "--launcher":
        launcher()
    else:
        supervise(sys.argv[1])
