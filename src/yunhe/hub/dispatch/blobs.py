"""Logs and outputs of jobs as files under the hub's data directory, written in chunks by offset.

A chunk that comes again, or overlaps what is there, changes nothing that is there already.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from yunhe.core.errors import Conflict, InvalidInput, StorageFull, TooLarge
from yunhe.hub.platform.writer import CrashPoint, no_crash

READ_BYTES = 256 * 1024


class Blobs:
    def __init__(self, root: Path, crash_point: CrashPoint = no_crash) -> None:
        self._root = root
        self._crash_point = crash_point

    def log_path(self, lease_id: str, epoch: int) -> Path:
        return self._root / "logs" / _shelf(lease_id) / f"{lease_id}.{epoch}.log"

    def _output_path(self, lease_id: str, epoch: int, path: str) -> Path:
        # By hash: a job's path never becomes a path of the hub.
        name = hashlib.sha256(path.encode()).hexdigest()[:32]
        return self._root / "outputs" / _shelf(lease_id) / f"{lease_id}.{epoch}.{name}"

    def append_log(self, lease_id: str, epoch: int, offset: int, chunk: bytes, cap: int) -> int:
        """New size. Raises Conflict when `offset` leaves a hole, TooLarge beyond `cap`, StorageFull."""
        return self._append(self.log_path(lease_id, epoch), offset, chunk, cap)

    def append_output(self, lease_id: str, epoch: int, path: str, offset: int, chunk: bytes, cap: int) -> int:
        return self._append(self._output_path(lease_id, epoch, path), offset, chunk, cap)

    def check_output(self, lease_id: str, epoch: int, path: str, sha256: str) -> None:
        """Make a complete output durable. Raises InvalidInput, and forgets the bytes, when the hash differs."""
        file = self._output_path(lease_id, epoch, path)
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
            os.fsync(stream.fileno())
        if found != sha256:
            file.unlink()
            raise InvalidInput("the output's SHA-256 differs: send it again from the start", field="sha256")

    def _append(self, file: Path, offset: int, chunk: bytes, cap: int) -> int:
        size = _size(file)
        if offset > size:
            raise Conflict(f"the next chunk starts at {size}, not at {offset}", field="offset")
        fresh = chunk[size - offset :]
        if size + len(fresh) > cap:
            raise TooLarge(f"more than the cap of {cap} bytes", field="offset")
        if fresh or not file.exists():  # an empty output is an output too
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                self._crash_point("blobs.before_write")
                _write_at(file, size, fresh)
                self._crash_point("blobs.after_write")
            except OSError as error:
                # A part may have been written; the site asks for the size and goes on from there.
                raise StorageFull(f"the hub cannot store this: {error.strerror}") from error
        return size + len(fresh)

    def log_size(self, lease_id: str, epoch: int) -> int:
        return _size(self.log_path(lease_id, epoch))

    def output_size(self, lease_id: str, epoch: int, path: str) -> int:
        return _size(self._output_path(lease_id, epoch, path))

    def read_log(self, lease_id: str, epoch: int, offset: int) -> bytes:
        return _read(self.log_path(lease_id, epoch), offset)

    def forget_log(self, lease_id: str, epoch: int) -> None:
        self.log_path(lease_id, epoch).unlink(missing_ok=True)

    def forget_outputs(self, lease_id: str, epochs: Iterable[int], path: str) -> None:
        """Of attempts whose file nobody will ask for again."""
        for epoch in epochs:
            self._output_path(lease_id, epoch, path).unlink(missing_ok=True)

    def output_file(self, lease_id: str, epoch: int, path: str) -> Path:
        return self._output_path(lease_id, epoch, path)


def _shelf(lease_id: str) -> str:
    """The last two digits of the order's id, which are drawn by chance."""
    return lease_id.partition(".")[0][-2:]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _write_at(file: Path, offset: int, data: bytes) -> None:
    """By position, not at the end: a request that comes twice at the same time writes the same bytes twice."""
    fd = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        while data:
            done = os.pwrite(fd, data, offset)
            data, offset = data[done:], offset + done
    finally:
        os.close(fd)


def _read(file: Path, offset: int) -> bytes:
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            return stream.read(READ_BYTES)
    except FileNotFoundError:
        return b""
