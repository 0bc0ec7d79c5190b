"""The folder in which a job saves its work (`CheckpointPlan`), as a driver with a folder on a disk keeps it.

Names that end in `.tmp` are not part of a checkpoint, neither files nor folders: a job writes under such a name and
renames, so that what counts is whole. Links are not kept.
"""

import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNFINISHED = ".tmp"
MAX_FILES = 10_000
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
    size = saved.archive.stat().st_size
    try:
        with tarfile.open(saved.archive, "r:") as tar:
            for n, member in enumerate(tar):
                path = PurePosixPath(member.name)
                outside = path.is_absolute() or ".." in path.parts or not path.parts
                if outside or not member.isreg() or member.issparse() or member.size > size or n >= MAX_FILES:
                    raise OSError(f"the checkpoint has an entry that no checkpoint has: {member.name[:100]!r}")
                place = target / path
                place.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None
                with open(place, "xb") as file:
                    shutil.copyfileobj(source, file)
    except tarfile.TarError as error:
        raise OSError(f"the checkpoint is no archive: {error}") from error


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
                except FileNotFoundError:  # a job that still runs renames it
                    continue
                if stat.S_ISREG(info.st_mode) and not name.endswith(UNFINISHED):
                    yield info.st_ctime_ns
    finally:
        os.close(fd)
