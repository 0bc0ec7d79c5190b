"""What a job without a sandbox leaves on the host beside its folder, found by the user that only this job had."""

import ctypes
import os
import signal
from collections.abc import Callable, Iterator

from yunhe.site.supervisor.kernel import libc, send
from yunhe.site.supervisor.records import complain, read_text

OPEN_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")  # where everybody may leave files
FIRST_UID = 0x70000000  # the process driver's, one per lease: above what distributions and container tools hand out
IPC_RMID = 0
IPC: tuple[tuple[str, str, Callable[[int], object]], ...] = (
    ("shm", "shmid", lambda number: libc.shmctl(number, IPC_RMID, None)),
    ("msg", "msqid", lambda number: libc.msgctl(number, IPC_RMID, None)),
    ("sem", "semid", lambda number: libc.semctl(number, 0, IPC_RMID, ctypes.c_long(0))),
)


def remove_of(uid: int | None) -> None:
    """Processes, files and folders, shared memory, semaphores and queues of `uid`, if it is one of a single job."""
    if uid is None or uid < FIRST_UID:
        return
    for pid in _processes(uid):
        send(pid, signal.SIGKILL)
    for folder in OPEN_FOLDERS:
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            _remove(entry, uid)
    for kind, column, remove in IPC:
        for number in _ipc(kind, column, uid):
            remove(number)


def _processes(uid: int) -> Iterator[int]:
    for name in filter(str.isdigit, os.listdir("/proc")):
        for line in (read_text(f"/proc/{name}/status") or "").splitlines():
            if line.startswith("Uid:") and line.split()[1] == str(uid):
                yield int(name)


def _remove(entry: "os.DirEntry[str]", uid: int) -> None:
    try:
        if entry.stat(follow_symlinks=False).st_uid != uid:
            return
        if entry.is_dir(follow_symlinks=False):
            import shutil  # noqa: PLC0415 - seldom needed, and each job waits for what is imported

            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
    except OSError as error:
        complain(f"{entry.path}: {error}")


def _ipc(kind: str, column: str, uid: int) -> Iterator[int]:
    header, *rows = (read_text(f"/proc/sysvipc/{kind}") or "none").splitlines()
    names = header.split()
    for row in rows:
        fields = dict(zip(names, row.split(), strict=False))
        if str(uid) in (fields.get("uid"), fields.get("cuid")) and column in fields:
            yield int(fields[column])
