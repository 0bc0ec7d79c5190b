"""What a job without a sandbox leaves on the host beside its folder, found by the user that only this job had."""

import ctypes
import os
import shutil
from collections.abc import Callable

from yunhe.site.supervisor.kernel import libc
from yunhe.site.supervisor.records import complain, read_text

OPEN_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")  # where everybody may leave files
FIRST_UID = 0x70000000  # the process driver's, one per lease: above what distributions and container tools hand out
IPC_RMID = 0
REMOVERS: dict[str, Callable[[int], object]] = {
    "shm": lambda number: libc.shmctl(number, IPC_RMID, None),
    "msg": lambda number: libc.msgctl(number, IPC_RMID, None),
    "sem": lambda number: libc.semctl(number, 0, IPC_RMID, ctypes.c_long(0)),
}


def remove_of(uid: int) -> None:
    """Files and folders, shared memory, semaphores and queues of `uid`, if it is one that a single job has."""
    if uid < FIRST_UID:
        return
    for folder in OPEN_FOLDERS:
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            try:
                if entry.stat(follow_symlinks=False).st_uid == uid:
                    _remove(entry)
            except OSError as error:
                complain(f"{entry.path}: {error}")
    for kind, remove in REMOVERS.items():
        header, *rows = (read_text(f"/proc/sysvipc/{kind}") or "\n").splitlines()
        names = header.split()
        for row in rows:
            fields = dict(zip(names, row.split(), strict=False))
            if str(uid) in (fields.get("uid"), fields.get("cuid")):
                remove(int(fields[f"{kind}id"]))


def _remove(entry: "os.DirEntry[str]") -> None:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        os.unlink(entry.path)
