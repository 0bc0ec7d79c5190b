"""The job's secrets as files in memory: name -> value in base64, as they come over the pipe."""

import binascii
import os
from collections.abc import Mapping

DIR_MODE, FILE_MODE = 0o700, 0o400
ROOM_BYTES = 1 << 20  # of the memory file system in a sandbox; 16 secrets of 8 KiB are 128 KiB
Values = Mapping[str, str]


def words(folder: str, values: Values) -> list[str]:
    """For bubblewrap: a file system in memory that only the sandbox has, and that the kernel drops with it."""
    found = ["--perms", f"{DIR_MODE:04o}", "--size", str(ROOM_BYTES), "--tmpfs", folder]
    for name, value in values.items():
        fd = os.memfd_create(name)
        _write(fd, value)
        os.lseek(fd, 0, os.SEEK_SET)
        os.set_inheritable(fd, True)
        found += ["--perms", f"{FILE_MODE:04o}", "--file", str(fd), f"{folder}/{name}"]
    return found


def place(folder: str, values: Values, uid: int | None) -> None:
    """Without a sandbox: a folder of the job's user on a file system in memory; `remove` ends it. Raises OSError."""
    os.mkdir(folder, DIR_MODE)
    for name, value in values.items():
        fd = os.open(f"{folder}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, FILE_MODE)
        try:
            _write(fd, value)
            if uid is not None:
                os.fchown(fd, uid, uid)
        finally:
            os.close(fd)
    if uid is not None:
        os.chown(folder, uid, uid)


def remove(folder: str) -> None:
    """What the job made of it included; what does not go (it took its own rights away) the driver removes."""
    import shutil  # noqa: PLC0415 - seldom needed, and each job waits for what is imported

    shutil.rmtree(folder, ignore_errors=True)


def _write(fd: int, value: str) -> None:
    data = memoryview(binascii.a2b_base64(value))
    while data:
        data = data[os.write(fd, data) :]
