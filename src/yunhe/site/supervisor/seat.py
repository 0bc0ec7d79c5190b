"""A place for a job, made before the job is known: control groups, pipes, and a process that waits in them.

Joining a control group waits for the kernel's other processors (6 to 14 ms when nobody did so just before); a job
that finds its seat ready starts that much sooner.
"""

import fcntl
import json
import os
import resource
import signal
import sys
import time
from typing import NoReturn

from yunhe.site.supervisor import given
from yunhe.site.supervisor.kernel import libc as libc
from yunhe.site.supervisor.records import Spec, complain

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
NAME = "@"  # stands for the seat's name in the paths of control groups
EMPTY_TRIES = 60


class SpawnFailed(Exception):
    """The site could not start the job."""


class Seat:
    """`dirs`: control groups to make and join, with `@` for the seat's name. `pid` is the waiting process.

    What goes wrong here is told when the seat is taken: there may never be a job for it.
    """

    def __init__(self, dirs: list[str]) -> None:
        self.name = f"seat-{os.getpid()}-{time.monotonic_ns()}"
        self.dirs = [path.replace(NAME, self.name) for path in dirs]
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.log, log_write = os.pipe()
        self.status, status_write = os.pipe()
        go_read, self.go = os.pipe()
        fcntl.fcntl(self.log, fcntl.F_SETPIPE_SZ, 1 << 20)
        self.problem = ""
        try:
            for path in self.dirs:
                os.makedirs(path, exist_ok=True)
        except OSError as error:
            self.problem = f"control group: {error}"
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            for fd in (self.go, self.log, self.status):
                os.close(fd)
            wait_for_job(go_read, log_write, status_write, self.dirs, parent)
        for fd in (go_read, log_write, status_write):
            os.close(fd)
        os.set_blocking(self.status, False)

    def take(self, spec: Spec, values: given.Values) -> None:
        """Set the limits and let the waiting process become the job, with its secrets. Raises SpawnFailed."""
        if self.problem:
            raise SpawnFailed(self.problem)
        try:
            for path, value in spec["cgroup"]["limits"] if spec["cgroup"] else ():
                with open(path.replace(NAME, self.name), "w", encoding="ascii") as file:
                    file.write(value)
            data = memoryview(f"{json.dumps(spec)}\n{json.dumps(dict(values))}".encode())
            while data:
                data = data[os.write(self.go, data) :]
        except OSError as error:
            raise SpawnFailed(str(error)) from error
        finally:
            self.close_go()

    def close_go(self) -> None:
        """The waiting process goes on with what it was given; with nothing, it ends."""
        if self.go >= 0:
            os.close(self.go)
            self.go = -1

    def leave(self) -> None:
        """Nobody took it: let the process end, and remove the groups."""
        self.close_go()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            complain("the seat's process was reaped before")
        self.remove()

    def remove(self) -> None:
        """The groups, once their last process has gone."""
        for path in self.dirs:
            for left in reversed(range(EMPTY_TRIES)):
                try:
                    os.rmdir(path)
                    break
                except FileNotFoundError:
                    break
                except OSError as error:
                    if not left:  # the driver tries again when it forgets the lease
                        complain(f"{path}: {error}")
                    time.sleep(0.002 if left > EMPTY_TRIES // 2 else 0.05)


def wait_for_job(go: int, log_write: int, status_write: int, dirs: list[str], parent: int) -> NoReturn:
    """In the waiting process: join the groups, wait for the spec, become the job. Never returns."""
    step = "control group"
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        for path in dirs:
            with open(f"{path}/cgroup.procs", "w", encoding="ascii") as file:
                file.write("0")
        with open(go, "rb") as pipe:
            data = pipe.read()
        if not data:
            os._exit(0)
        spec_text, _, values = data.partition(b"\n")
        spec: Spec = json.loads(spec_text)
        step = "limits"
        prepare(spec, log_write, parent)
        if not spec["sandbox"]:
            become_command(spec)
        step = "sandbox"
        os.set_inheritable(status_write, True)
        files = given.words(spec["secrets"], json.loads(values)) if "secrets" in spec else []
        argv = [*spec["sandbox"], *files, "--json-status-fd", str(status_write), "--", *spec["argv"]]
        os.execve(argv[0], argv, spec["env"])
    except BaseException as error:  # noqa: BLE001 - a forked process must not return
        os.write(status_write, json.dumps({"spawn-error": f"{step}: {error}"}).encode())
    finally:
        os._exit(125)


def prepare(spec: Spec, log_write: int, parent: int) -> None:
    """Streams, limits, folder and user of the job."""
    for number in (signal.SIGURG, signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, target in ((null, 0), (log_write, 1), (log_write, 2)):
        os.dup2(fd, target)
    for name, value in spec["rlimits"]:
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))
    os.chdir(spec["cwd"])
    if spec["uid"] is not None:
        os.umask(0o077)  # what it leaves in /tmp is not for other tenants
        os.setgroups([])
        os.setgid(spec["uid"])
        os.setuid(spec["uid"])
    # Changing the user clears this, so it comes after; and the supervisor may have died just before.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(125)


def become_command(spec: Spec) -> NoReturn:
    """Without a sandbox: a command that cannot be run is the job's own failure, said as a shell says it."""
    try:
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])
    except OSError as error:
        sys.stderr.write(f"{spec['argv'][0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)
