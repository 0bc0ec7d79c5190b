"""The folder in which a job saves its work (`CheckpointPlan`), as a driver with a folder on a disk keeps it.

Names that end in `.tmp` are not part of a checkpoint, neither files nor folders: a job writes under such a name and
renames, so that what counts is whole. Links are not kept.
"""

import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

UNFINISHED = ".tmp"
MAX_FILES = 10_000
BLOCK = 512  # of a tar archive
MAX_MORE_BYTES = 64 << 10
COPY_BYTES = 1 << 20
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Saved:
    """`folder` of the job's directory, and the archive of what shall be in it when the job starts."""

    folder: str
    archive: Path | None = None


def finished(path: PurePosixPath) -> bool:
    """Whether a file at this path, inside the folder, is part of the checkpoint."""
    return not any(part.endswith(UNFINISHED) for part in path.parts)


def place(saved: Saved, job: Path) -> None:
    """Make the folder in the job's directory `job`, and fill it. Raises OSError, also for an archive that is not what
    `yunhe.site.checkpoints` packs."""
    target = job / saved.folder
    target.mkdir(parents=True, exist_ok=True)
    if saved.archive is None:
        return
    with open(saved.archive, "rb") as archive:
        for n, (name, size) in enumerate(_entries(archive)):
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name or n >= MAX_FILES:
                raise OSError(f"the checkpoint has an entry that no checkpoint has: {name[:100]!r}")
            place = target / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with open(place, "wb") as file:  # over a file of the order
                for start in range(0, size, COPY_BYTES):
                    file.write(_read(archive, min(COPY_BYTES, size - start)))
            _read(archive, -size % BLOCK)


def _entries(archive: BinaryIO) -> Iterator[tuple[str, int]]:
    """(name, size) of each file, whose bytes come next. Raises OSError for all that `yunhe.site.checkpoints` does not
    pack: the archive comes from another site, and tarfile's own reader can be made to work for hours."""
    more: dict[str, str] = {}
    while any(block := _read(archive, BLOCK)):
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            if member.type == tarfile.XHDTYPE and not more and 0 < member.size <= MAX_MORE_BYTES:
                more = _records(_read(archive, member.size))
                _read(archive, -member.size % BLOCK)
                continue
            size = int(more.get("size", member.size))
        except (tarfile.TarError, ValueError) as error:
            raise OSError(f"the checkpoint is no archive: {error}") from error
        name = more.get("path", member.name)
        if member.type != tarfile.REGTYPE or size < 0:
            raise OSError(f"the checkpoint has an entry that no checkpoint has: {name[:100]!r}")
        yield name, size
        more = {}


def _records(text: bytes) -> dict[str, str]:
    """What a name or a size needs that a header cannot hold: "LENGTH KEY=VALUE\\n" each. Raises ValueError."""
    found: dict[str, str] = {}
    while text:
        head, _, _ = text[:20].partition(b" ")
        length = int(head)
        key, mark, value = text[len(head) + 1 : length].decode("utf-8", "surrogateescape").partition("=")
        if not mark or not value.endswith("\n"):
            raise ValueError("a record of it is broken")
        found[key], text = value[:-1], text[length:]
    return found


def _read(archive: BinaryIO, size: int) -> bytes:
    """Exactly so many bytes. Raises OSError at an earlier end."""
    data = archive.read(size)
    if len(data) != size:
        raise OSError("the checkpoint is no archive: it breaks off")
    return data


def newest_ns(job_fd: int, folder: str) -> int:
    """When the newest finished file of the folder was last changed, in ns of its file system's clock; 0 without one.

    By the inode's change time: the kernel sets it, so that a job cannot make its work look older than it is.
    """
    return max(_change_times(job_fd, folder), default=0)


def _change_times(job_fd: int, folder: str) -> Iterator[int]:
    try:
        fd = os.open(folder, DIRECTORY, dir_fd=job_fd)
    except OSError:  # the job owned it, and has done with it what it liked
        return
    try:
        seen = 0
        for inside, folders, names, at in os.fwalk(".", dir_fd=fd):
            folders[:] = [name for name in folders if not name.endswith(UNFINISHED)]
            if not finished(PurePosixPath(inside)):
                continue
            for name in names:
                seen += 1
                if seen > MAX_FILES:
                    return
                try:
                    info = os.stat(name, dir_fd=at, follow_symlinks=False)
                except OSError:  # a job that still runs renames it, or has closed the folder
                    continue
                if stat.S_ISREG(info.st_mode) and not name.endswith(UNFINISHED):
                    yield info.st_ctime_ns
    finally:
        os.close(fd)
