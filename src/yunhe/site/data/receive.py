"""Download into a partial file that survives this process, and go on with it. Runs in the transfer's own process."""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from yunhe.site.data.failure import Blame, TransferFailed
from yunhe.site.data.layout import BYTES, LOCK, STATE
from yunhe.site.data.sources import READ_BYTES, Opened, Source

Tell = Callable[[int, int | None], None]  # bytes so far, of how many
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the order and the site say of the file. `known`: the source's name of content that is here already."""

    size: int | None
    sha256: str
    limit_bytes: int
    known: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """A complete file in the folder; `unchanged`: nothing was fetched, the content is the known one."""

    size: int
    sha256: str
    validator: str
    unchanged: bool = False


class _Partial:
    """The bytes so far, with their hash."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.size = 0
        self.validator = ""
        self.total: int | None = None
        self.digest = hashlib.sha256()

    def load(self, tell: Tell, trusted: bool) -> None:
        """Take up what is there. Without a name of its content it is of use only when the hash is known."""
        try:
            state = json.loads((self._folder / STATE).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return
        if not (state["validator"] or trusted):
            return
        self.validator, self.total = state["validator"], state["size"]
        with open(self._folder / BYTES, "ab+") as file:
            file.seek(0)
            while chunk := file.read(READ_BYTES):
                self.digest.update(chunk)
                self.size += len(chunk)
                tell(self.size, self.total)

    def begin(self, opened: Opened) -> None:
        """From where the source answers: the end of what is here, or the start."""
        if opened.offset != self.size or opened.size != self.total or opened.validator != self.validator:
            if opened.offset:
                raise TransferFailed(Blame.CHANGED, "the source has changed")
            self.forget()
        self.validator, self.total = opened.validator, opened.size
        if not self.size:
            temporary = self._folder / f"{STATE}.new"
            temporary.write_text(json.dumps({"validator": self.validator, "size": self.total}), encoding="utf-8")
            temporary.rename(self._folder / STATE)

    def forget(self) -> None:
        self.size, self.validator, self.total, self.digest = 0, "", None, hashlib.sha256()
        for name in (STATE, BYTES):
            (self._folder / name).unlink(missing_ok=True)

    def add(self, opened: Opened, limit: int, tell: Tell) -> None:
        with open(self._folder / BYTES, "ab") as file:
            for chunk in opened.chunks:
                if self.size + len(chunk) > limit:
                    raise _too_large(limit)
                file.write(chunk)
                self.digest.update(chunk)
                self.size += len(chunk)
                tell(self.size, self.total)
            file.flush()
            os.fsync(file.fileno())


def receive(source: Source, folder: Path, wanted: Wanted, tell: Tell) -> Received:
    """The whole file in `folder`, checked against what is wanted. Raises TransferFailed, and the library's errors.

    After CHANGED nothing is left here; after other failures what has come stays for the next try.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a process of an agent that was killed may still be about to notice
        partial = _Partial(folder)
        try:
            return _receive(source, partial, wanted, tell)
        except TransferFailed as failure:
            if failure.blame is not Blame.LUCK:
                partial.forget()
            raise
        except OSError as error:
            if error.errno in NO_ROOM:
                raise TransferFailed(Blame.SITE, "the site's disk is full") from error
            raise


def _receive(source: Source, partial: _Partial, wanted: Wanted, tell: Tell) -> Received:
    partial.load(tell, trusted=bool(wanted.sha256))
    resumed = partial.size > 0
    if partial.total is None or partial.size < partial.total or not resumed:
        with source.open(partial.size, partial.validator, "" if resumed else wanted.known) as opened:
            if opened.unchanged:
                return Received(0, "", opened.validator, unchanged=True)
            _check_size(opened.size, wanted)
            partial.begin(opened)
            resumed = opened.offset > 0
            partial.add(opened, wanted.limit_bytes, tell)
        if partial.total is not None and partial.size != partial.total:
            raise TransferFailed(Blame.LUCK, f"it broke off after {partial.size} of {partial.total} bytes")
    _check_size(partial.size, wanted)
    sha256 = partial.digest.hexdigest()
    if wanted.sha256 and sha256 != wanted.sha256:
        # What was put together of two answers may be of two files; only a whole one is judged.
        blame = Blame.CHANGED if resumed else Blame.ORDER
        raise TransferFailed(blame, f"its SHA-256 is {sha256}, the order says {wanted.sha256}")
    return Received(partial.size, sha256, partial.validator)


def _check_size(size: int | None, wanted: Wanted) -> None:
    if size is None:
        return
    if wanted.size is not None and size != wanted.size:
        raise TransferFailed(Blame.ORDER, f"it has {size} bytes, the order says {wanted.size}")
    if size > wanted.limit_bytes:
        raise _too_large(wanted.limit_bytes)


def _too_large(limit: int) -> TransferFailed:
    return TransferFailed(Blame.SITE, f"it is larger than the {limit} bytes that this site takes")
