"""What the supervisor reads and writes, and by which clocks."""

import fcntl
import json
import os
import time
from collections.abc import Mapping
from typing import NotRequired, TypedDict

RECORD_BYTES = 4096  # of the exit record, reserved at the start so that a full disk cannot swallow it


class Cgroup(TypedDict):
    """Paths have `@` where the name of the lease's seat belongs."""

    dirs: list[str]  # made, and joined by the job
    limits: list[tuple[str, str]]  # file, what to write
    procs: str
    kill: str | None  # cgroup.kill
    oom: tuple[str, str]  # file, line prefix
    cpu: tuple[str, str, int]  # file, line prefix, units per ms
    peak: list[str]  # the first that can be read


class Spec(TypedDict):
    """spec.json. `argv` runs in `cwd`; in front of it comes `sandbox`, the bubblewrap command without its `--`."""

    key: str
    argv: list[str]
    env: dict[str, str]
    cwd: str
    sandbox: list[str]
    uid: int | None  # to become before the job's first program, None: stay (or the sandbox does it)
    cgroup: Cgroup | None
    rlimits: list[tuple[str, int]]
    memory_limit_bytes: int
    pids_limit: int
    run_limit_ms: int
    disconnect_limit_ms: int
    contact_ms: int  # CLOCK_BOOTTIME when the poll was sent that brought the lease
    contact_path: str  # the same of the latest poll that the hub answered
    term_grace_ms: int
    log_cap_bytes: int
    sample_ms: int
    usage_write_ms: int
    notify: str  # abstract socket of the agent; a hint only
    # Folder of the job's secrets as the job sees it. Their values come over a pipe and are in no file of a disk;
    # without them the job is not started.
    secrets: NotRequired[str]
    # What a job is told when the site needs its units, and how long after it is ended, ms.
    notice: NotRequired[tuple[int, int]]
    # Command before another that makes it run as the job's user (see `tenant`); without it the job is of this user.
    become: NotRequired[list[str]]


class Totals(TypedDict):
    wall_ms: int
    cpu_ms: int
    peak_memory_bytes: int
    sampled: bool


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def boottime_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def read_text(path: str) -> str | None:
    """The file's text, or None where there is none (also for cgroup files that this kernel lacks)."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def write_record(path: str, record: Mapping[str, object], sync: bool = True) -> None:
    """Write whole, then rename: a reader sees the old record or the new one."""
    tmp = f"{path}.tmp"
    with open(tmp, "w", encoding="utf-8") as file:
        json.dump(record, file)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    os.rename(tmp, path)


def claim(seat: str) -> bool:
    """True when this process is the only one that may run the job. The lock is held until the process ends."""
    tmp = f"claim.{os.getpid()}"
    fd = os.open(tmp, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    os.write(fd, f"{os.getpid()} {seat}\n".encode())
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        os.link(tmp, "claim")  # locked before it can be seen, and only one link succeeds
    except FileExistsError:
        return False
    finally:
        os.unlink(tmp)
    return True


def complain(text: str) -> None:
    """Into supervisor.err, which the agent shows when the supervisor is lost."""
    try:
        os.write(2, f"{text}\n".encode("utf-8", "replace"))
    except OSError:  # the disk is full: there is nowhere to say it
        return


def cancel_reason() -> str:
    """The reason in the `cancel` link of this folder; empty when nobody asked for the end."""
    try:
        return os.readlink("cancel")
    except FileNotFoundError:
        return ""
