"""What a job saved of its work, as a tar archive: packed where it was preempted, fetched where it goes on."""

import asyncio
import errno
import hashlib
import io
import logging
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from yunhe.core.errors import InvalidInput, TooLarge, YunheError
from yunhe.site.drivers.contract import Checkpoints, Driver, LeaseKey, Output, SpawnFailed
from yunhe.site.drivers.saved import MAX_FILES, finished
from yunhe.site.link import Link
from yunhe.wire.link import MAX_CHUNK_BYTES, Checkpoint, CheckpointPlan, StartLease

log = logging.getLogger(__name__)
BLOCK = 512  # of a tar archive: each file has a header and is filled up to a whole block
UNLIMITED = 2**62


async def saved_ms(driver: Driver, start: StartLease) -> int:
    """From a running job's start to its newest checkpoint, as far as the engine can say it now; 0: nothing yet."""
    if start.checkpoint is None or not isinstance(driver, Checkpoints):
        return 0
    key = LeaseKey(start.lease_id, start.epoch)
    try:
        return await driver.kept_ms(key, start.checkpoint.folder)
    except (YunheError, OSError) as error:  # the folder is the job's, and what it likes
        log.info("%s: what it has saved cannot be seen: %s", key, error)
        return 0


@dataclass(slots=True)
class Archive:
    """A packed checkpoint on its way to the hub."""

    path: Path
    kept_ms: int
    size_bytes: int
    sha256: str
    delivered: bool = False

    async def part(self, _path: str, offset: int, limit: int) -> bytes:
        with self.path.open("rb") as file:
            return await asyncio.to_thread(os.pread, file.fileno(), limit, offset)

    def told(self, epoch: int) -> Checkpoint:
        return Checkpoint(epoch=epoch, kept_ms=self.kept_ms, size_bytes=self.size_bytes, sha256=self.sha256)


class CheckpointStore:
    """Archives on their way, in a folder of the site that no job sees."""

    def __init__(self, driver: Driver, link: Link, data_dir: Path) -> None:
        self._driver = driver
        self._link = link
        self._folder = data_dir / "checkpoints"

    def open(self) -> None:
        """What an agent left that was killed is made again."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for path in self._folder.iterdir():
            path.unlink()

    async def pack(self, start: StartLease, wall_ms: int) -> Archive | None:
        """What the ended attempt saved since its start; None when that is nothing. `wall_ms`: how long it ran.

        Raises TooLarge over the cap, OSError for what cannot be read or written.
        """
        key, plan = LeaseKey(start.lease_id, start.epoch), start.checkpoint
        if plan is None or not isinstance(self._driver, Checkpoints):
            return None
        kept_ms = min(await self._driver.kept_ms(key, plan.folder), wall_ms)
        if kept_ms <= 0:
            return None
        found = await self._driver.outputs(key, (plan.folder,), UNLIMITED)
        if len(found) >= MAX_FILES:
            raise TooLarge(f"the checkpoint has {len(found)} files or more", hint="write fewer")
        files = [f for f in found if not f.missing and finished(PurePosixPath(f.path).relative_to(plan.folder))]
        path = self._folder / f"{key}.out"
        with open(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600), "w+b") as out:
            for output in sorted(files, key=lambda f: f.path):
                await self._add(out, key, output, plan)
            out.write(b"\0" * 2 * BLOCK)
            size = out.tell()
            if size > plan.cap_bytes:
                raise TooLarge(f"the checkpoint is larger than {plan.cap_bytes} bytes")
            out.seek(0)
            digest = await asyncio.to_thread(hashlib.file_digest, out, "sha256")
        return Archive(path, kept_ms, size, digest.hexdigest())

    async def _add(self, out: BinaryIO, key: LeaseKey, output: Output, plan: CheckpointPlan) -> None:
        """In chunks: a checkpoint may be larger than the agent. Equal files make equal bytes: an upload that was broken
        off can go on."""
        header = tarfile.TarInfo(str(PurePosixPath(output.path).relative_to(plan.folder)))
        header.size, header.mode = output.size_bytes, 0o600
        out.write(header.tobuf(tarfile.PAX_FORMAT))
        if out.tell() + output.size_bytes > plan.cap_bytes:
            raise TooLarge(f"the checkpoint is larger than {plan.cap_bytes} bytes")
        done = 0
        while done < output.size_bytes:
            chunk = await self._driver.read_output(key, output.path, done, MAX_CHUNK_BYTES)
            if not chunk:
                raise OSError(errno.EIO, f"{output.path} became shorter")
            done += out.write(chunk[: output.size_bytes - done])
        out.write(b"\0" * (-done % BLOCK))

    async def fetch(self, start: StartLease) -> Path | None:
        """What the lease goes on from; None without. Continues where an earlier call was broken off.

        Raises the link's errors, InvalidInput when the bytes are not what was promised, SpawnFailed where they cannot
        be kept.
        """
        wanted = start.restore
        if wanted is None or start.checkpoint is None:
            return None
        if not isinstance(self._driver, Checkpoints):
            raise SpawnFailed("the engine of this site cannot give a job its checkpoint back")
        try:
            return await self._fetch(start, wanted)
        except OSError as error:
            raise SpawnFailed(f"the checkpoint cannot be kept here: {error.strerror}") from error

    async def _fetch(self, start: StartLease, wanted: Checkpoint) -> Path:
        path = self._folder / f"{start.lease_id}.{start.epoch}.in"
        with open(os.open(path, os.O_CREAT | os.O_RDWR, 0o600), "r+b") as file:
            size = file.seek(0, io.SEEK_END)
            while size < wanted.size_bytes:
                chunk = await self._link.checkpoint(start.lease_id, wanted.epoch, size)
                if not chunk:
                    raise InvalidInput("the hub's checkpoint is shorter than it said", field="restore")
                size += file.write(chunk)
            file.seek(0)
            digest = await asyncio.to_thread(hashlib.file_digest, file, "sha256")
        if size != wanted.size_bytes or digest.hexdigest() != wanted.sha256:
            path.unlink()
            raise InvalidInput("the hub's checkpoint is not what its hash says", field="restore")
        return path

    def forget(self, key: LeaseKey) -> None:
        for kind in ("in", "out"):
            (self._folder / f"{key}.{kind}").unlink(missing_ok=True)
