"""One lease's folder, as the supervisor leaves it (see `yunhe.site.supervisor` for the files)."""

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey, Output, Phase, Status
from yunhe.site.drivers.saved import Saved, newest_ns
from yunhe.site.drivers.saved import place as place_saved
from yunhe.site.supervisor.records import Spec, write_record
from yunhe.wire.link import UsageTotals

MAX_OUTPUT_FILES = 10_000
FICLONE = 0x40049409  # ioctl_ficlone(2)
COPY_BYTES = 1 << 20
NO_DATA: Mapping[str, Path] = MappingProxyType({})
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# Not following links, and not waiting for the other end of a pipe that the job left in place of a file.
REGULAR = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class LeaseDir:
    """Reads and writes; everything here may wait for the disk."""

    mode = 0o777  # of the folder itself, less the process's mask

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(
        self,
        spec: Spec,
        env_text: str,
        files: Mapping[str, str],
        uid: int | None,
        data: Mapping[str, Path] = NO_DATA,
        saved: Saved | None = None,
    ) -> None:
        """Fill the folder; `spec.json` last, so that a folder without it was never handed to a supervisor."""
        if self.path.exists():
            remove_tree(self.path)
        job = self.path / "job"
        self.path.mkdir(self.mode, parents=True)
        job.mkdir()
        (self.path / "tmp").mkdir()
        for name, text in files.items():
            target = job / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        if saved is not None:
            place_saved(saved, job)
        for name in data:
            (job / name).parent.mkdir(parents=True, exist_ok=True)
        if uid is not None:
            for folder, _, names in os.walk(job):
                for path in (folder, *(os.path.join(folder, name) for name in names)):
                    os.chown(path, uid, uid)
            os.chown(self.path / "tmp", uid, uid)
        for name, source in data.items():
            if (job / name).exists():  # of the checkpoint, which is newer
                continue
            place_data(source, job / name, uid)
        (self.path / "env").write_text(env_text, encoding="utf-8")
        (self.path / "env").chmod(0o444)
        write_record(str(self.path / "spec.json"), dict(spec), sync=False)

    def tell(self, name: str, text: str) -> None:
        """A file for the job that runs here, which may read it and has made no link in its place."""
        folder = os.open(self.path / "job", DIRECTORY)
        try:
            fd = os.open(f".{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=folder)
            with open(fd, "w", encoding="utf-8") as file:
                os.fchmod(fd, 0o644)
                file.write(text)
            os.rename(f".{name}", name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(folder)

    @property
    def prepared(self) -> bool:
        return (self.path / "spec.json").exists()

    @property
    def claimed(self) -> bool:
        return (self.path / "claim").exists()

    def record(self, name: str) -> dict[str, object] | None:
        """A record that the supervisor wrote, None when it is not there."""
        try:
            text = (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        value: dict[str, object] = json.loads(text)
        return value

    def seat(self) -> str | None:
        """The name of the seat in which the job runs; None before a supervisor has claimed it."""
        try:
            return (self.path / "claim").read_text().split()[1]
        except FileNotFoundError:
            return None

    def supervisor_alive(self) -> bool:
        """The claim is locked for as long as the supervisor lives."""
        with open(self.path / "claim", "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def status(self) -> Status:
        """What the files say. ACCEPTED also covers a claim whose supervisor is gone: see `supervisor_alive`."""
        if (end := self.record("exit.json")) is not None:
            return self._ended(end)
        if (started := self.record("started.json")) is not None:
            totals = self.record("usage.json")
            return Status(
                Phase.STARTED,
                started=True,
                started_utc_ms=_number(started, "utc_ms"),
                totals=_totals(totals) if totals else None,
            )
        return Status(Phase.ACCEPTED if self.prepared else Phase.ABSENT)

    def _ended(self, end: dict[str, object]) -> Status:
        began = bool(end["started"])
        code = end["exit_code"]
        started = self.record("started.json") or {}
        return Status(
            Phase.ENDED,
            started=began,
            started_utc_ms=_number(started, "utc_ms"),
            totals=_totals(end) if began else None,
            reason=EndReason(str(end["reason"])),
            exit_code=code if isinstance(code, int) else None,
            detail=str(end["detail"]),
        )

    def record_loss(self) -> None:
        """The supervisor is gone without an exit record: write one in its name, with the last totals known."""
        started = self.record("started.json")
        totals = self.record("usage.json") or {"wall_ms": 0, "cpu_ms": 0, "peak_memory_bytes": 0, "sampled": True}
        try:
            said = (self.path / "supervisor.err").read_text(errors="replace").strip()[-300:]
        except FileNotFoundError:
            said = ""
        detail = f"the job's supervisor was killed; {said}" if said else "the job's supervisor was killed"
        end = {"started": started is not None, "exit_code": None, "reason": EndReason.SUPERVISOR_LOST.value}
        write_record(str(self.path / "exit.json"), {**totals, **end, "detail": detail})

    def cancel(self, reason: EndReason) -> None:
        """Leave the reason as a link: that is atomic, and a full disk still has room for it."""
        try:
            os.symlink(reason.value, self.path / "cancel")
        except FileExistsError:
            return
        try:
            # Ignored by default, so that a process which got the number of a dead supervisor is not harmed.
            os.kill(int((self.path / "claim").read_text().split()[0]), signal.SIGURG)
        except (FileNotFoundError, ProcessLookupError):
            return

    def log(self, offset: int, limit: int) -> bytes:
        try:
            fd = os.open(self.path / "log", os.O_RDONLY)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(fd, limit, offset)
        finally:
            os.close(fd)

    # --- outputs: the job owned this folder, so no link is followed and nothing but plain files is read ---------

    def outputs(self, wanted: Sequence[str], cap_bytes: int) -> tuple[Output, ...]:
        """Each wanted file, or all files of a wanted folder, as long as they fit the cap together."""
        found: list[Output] = []
        left = cap_bytes
        for path in wanted:
            names = list(self._files(path))
            if not names:
                found.append(Output(path, missing="not there"))
            for name in names[:MAX_OUTPUT_FILES]:
                output = self._measure(name, left)
                left -= output.size_bytes
                found.append(output)
        return tuple(found)

    def _files(self, path: str) -> Iterator[str]:
        try:
            fd = self._open(path, DIRECTORY)
        except NotADirectoryError:
            yield path
            return
        except OSError:
            return
        try:
            # A file that cannot be listed cannot be sent either; `fwalk` leaves it out.
            for folder, _, names, _ in os.fwalk(".", dir_fd=fd):
                for name in sorted(names):
                    yield os.path.normpath(os.path.join(path, folder, name))
        finally:
            os.close(fd)

    def _measure(self, path: str, room: int) -> Output:
        try:
            fd = self._open(path, REGULAR)
        except OSError as error:
            return Output(path, missing=error.strerror or "cannot be read")
        with open(fd, "rb") as file:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                return Output(path, missing="not a plain file")
            if info.st_size > room:
                return Output(path, missing=f"{info.st_size} bytes are over the output cap")
            return Output(path, info.st_size, hashlib.file_digest(file, "sha256").hexdigest())

    def read_output(self, path: str, offset: int, limit: int) -> bytes:
        fd = self._open(path, REGULAR)
        try:
            return os.pread(fd, limit, offset)
        finally:
            os.close(fd)

    def kept_ms(self, folder: str) -> int:
        """From the job's start to the newest finished file of its checkpoint folder, by one clock: the disk's."""
        try:
            started_ns = os.stat(self.path / "started.json").st_ctime_ns
            fd = os.open(self.path / "job", DIRECTORY)
        except FileNotFoundError:
            return 0
        try:
            return max(0, newest_ns(fd, folder) - started_ns) // 1_000_000
        finally:
            os.close(fd)

    def open_output(self, path: str) -> int:
        """A descriptor of a plain file that the job left. Raises OSError."""
        fd = self._open(path, REGULAR)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a plain file")
        return fd

    def _open(self, path: str, flags: int) -> int:
        *folders, name = path.split("/")
        if ".." in (*folders, name):  # the hub refuses such paths; this folder is not left on its word
            raise OSError(errno.EINVAL, "leaves the job's folder")
        fd = os.open(self.path / "job", DIRECTORY)
        try:
            for folder in folders:
                inner = os.open(folder, DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = inner
            return os.open(name, flags, dir_fd=fd)
        finally:
            os.close(fd)


def place_data(source: Path, target: Path, uid: int | None) -> None:
    """A cached file, read-only, where a job finds it; whatever the job does, the cached one stays as it is.

    A link where the job runs as another user than the one that owns the file, so that it can neither write nor chmod
    it; else a copy, which shares the blocks where the file system can.
    """
    if uid is not None and uid != os.geteuid():
        try:
            os.link(source, target)
            return
        except OSError:  # another disk
            pass
    with open(source, "rb") as read, open(target, "xb") as write:
        try:
            fcntl.ioctl(write, FICLONE, read.fileno())
        except OSError:
            shutil.copyfileobj(read, write, COPY_BYTES)
    target.chmod(0o444)
    if uid is not None:
        os.chown(target, uid, uid)


def replace_text(path: Path, text: str) -> None:
    """The file has the old text or the new one, whatever happens to this process."""
    tmp = path.with_name(f"{path.name}.tmp")
    tmp.write_text(text, encoding="utf-8")
    tmp.rename(path)


def remove_tree(path: Path) -> None:
    """`rm` copes with any depth and with thousands of files; the job may have taken its own rights away."""
    done = subprocess.run(["rm", "-rf", "--", str(path)], capture_output=True, check=False)
    if done.returncode:
        subprocess.run(["chmod", "-R", "u+rwX", "--", str(path)], capture_output=True, check=False)
        subprocess.run(["rm", "-rf", "--", str(path)], capture_output=True, check=True)


def _number(record: Mapping[str, object], name: str) -> int:
    value = record.get(name, 0)
    return value if isinstance(value, int) else 0


def _totals(record: Mapping[str, object]) -> UsageTotals:
    return UsageTotals(
        wall_ms=_number(record, "wall_ms"),
        cpu_ms=_number(record, "cpu_ms"),
        peak_memory_bytes=_number(record, "peak_memory_bytes"),
        sampled=bool(record.get("sampled")),
    )


class LeaseFiles(ABC):
    """The part of a driver that reads what jobs left in their folders."""

    @abstractmethod
    def _folder(self, key: LeaseKey) -> LeaseDir:
        """A lease's folder, whether it is there or not."""

    async def outputs(self, key: LeaseKey, wanted: Sequence[str], cap_bytes: int) -> tuple[Output, ...]:
        return await asyncio.to_thread(self._folder(key).outputs, wanted, cap_bytes)

    async def read_output(self, key: LeaseKey, path: str, offset: int, limit: int) -> bytes:
        return await asyncio.to_thread(self._folder(key).read_output, path, offset, limit)

    async def open_output(self, key: LeaseKey, path: str) -> int:
        return await asyncio.to_thread(self._folder(key).open_output, path)

    async def kept_ms(self, key: LeaseKey, folder: str) -> int:
        return await asyncio.to_thread(self._folder(key).kept_ms, folder)
