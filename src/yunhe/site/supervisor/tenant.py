"""A job of another user than its supervisor's: it can touch neither that process nor the records.

`become` is a command of the site, as `/usr/bin/sudo -n -u USER --`: what follows it runs as the job's user. It starts
the job, and signals it where this user may not. It gets no variable of the job's: those are for the job's user alone.
"""

import os
import time
from collections.abc import Mapping, Sequence

from yunhe.site.supervisor.records import complain, read_text

CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
# The group may read and write what the job leaves: it is the way of the agent to the outputs.
ENTER = 'umask 007; . "$1" || exit 125; shift; exec "$@"'
GROUPS = "/proc/self/cgroup"
SIGNAL_S, CHMOD_S, LOOK_S = 5.0, 60.0, 0.005


def command(become: Sequence[str], argv: Sequence[str], env: Mapping[str, str], path: str) -> list[str]:
    """What to execute, with `CLEAN` as its environment. `path`: a file for the job's variables, made here, in a folder
    that its group may enter and not write. Raises OSError.

    A `become` that moves the job out of the engine's control groups, as PAM may, would take it from its limits: then
    nothing is started, and the log says so. Names that a shell cannot hold are left out.
    """
    here = quoted((read_text(GROUPS) or "").strip())
    said = quoted("the job was moved out of its control groups when its user was changed")
    lines = [f'[ "$(cat {GROUPS})" = {here} ] || {{ echo {said} >&2; exit 125; }}']
    lines += [f"export {name}={quoted(value)}" for name, value in env.items() if name.isidentifier() and name.isascii()]
    fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o640)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("\n".join(lines) + "\n")
        os.fchmod(fd, 0o640)
    return [*become, "env", "-i", "sh", "-c", ENTER, "sh", path, *argv]


def quoted(text: str) -> str:
    """As one word of a shell; without `shlex`, for which each job would wait."""
    return "'" + text.replace("'", "'\\''") + "'"


def send_as(become: Sequence[str], pids: Sequence[int], number: int) -> None:
    """Signal processes of the job's user."""
    run([*become, "sh", "-c", 'kill "$@" 2>/dev/null', "sh", f"-{int(number)}", *map(str, pids)], SIGNAL_S)


def open_to_group(become: Sequence[str], folder: str) -> None:
    """What the job has closed of its folder can be read by the agent: files that were renamed from temporary ones."""
    run([*become, "chmod", "-R", "g+rX", folder], CHMOD_S)


def run(words: Sequence[str], limit_s: float) -> None:
    """Until it has ended, or `limit_s` have passed; what it says goes where this process's own errors go."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1)]
        pid = os.posix_spawn(words[0], list(words), CLEAN, file_actions=actions, setsigmask=())
    except OSError as error:
        complain(f"{words[0]}: {error.strerror}")
        return
    finally:
        os.close(null)
    until = time.monotonic() + limit_s
    try:
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > until:
                complain(f"{words[0]}: no end within {limit_s:g} s")
                return
            time.sleep(LOOK_S)
    except ChildProcessError:
        return
