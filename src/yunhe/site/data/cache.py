"""Inputs at a site, kept by their content. Everything here may wait for the disk.

    content/SHA256        a file, read-only; its time of change is when it was last used
    owners/ORG/SHA256     an organisation that has fetched this content itself: it may have it by its hash alone
    sources/KEY           what a source (a URL, and who asks it how) gave last: {"validator", "sha256"}
    partial/KEY/          downloads on their way (see `layout`)
    leases/LEASE          {path: {"sha256", "size"}} of a lease's inputs: such content is not dropped

A hash is no secret, so knowing one opens nobody else's file: content goes to an organisation that fetched it before, or
whose URL was found to hold it just now.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from yunhe.site.data.layout import BYTES
from yunhe.site.drivers.contract import LeaseKey


@dataclass(frozen=True, slots=True)
class Content:
    """A cached file."""

    sha256: str
    size: int


def key_of(text: str) -> str:
    """A name for a file about `text` (a URL, an organisation)."""
    return hashlib.sha256(text.encode()).hexdigest()[:40]


class Cache:
    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._content = folder / "content"
        self._leases = folder / "leases"

    def open(self, held: Iterable[LeaseKey]) -> None:
        """Make the folders; leases that the site no longer holds use nothing."""
        for name in ("content", "owners", "sources", "partial", "leases"):
            (self._folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        known = {str(key) for key in held}
        for path in self._leases.iterdir():
            if path.name not in known:
                path.unlink()

    def path(self, sha256: str) -> Path:
        return self._content / sha256

    def partial(self, source: str) -> Path:
        return self._folder / "partial" / key_of(source)

    def partial_bytes(self, source: str) -> int:
        """Of an unfinished download."""
        try:
            return (self.partial(source) / BYTES).stat().st_size
        except FileNotFoundError:
            return 0

    # --- finding --------------------------------------------------------------------------------------------------

    def find(self, tenant: str, sha256: str) -> Content | None:
        """Content that the organisation may have by its hash."""
        return self._used(sha256) if sha256 and self._owner(tenant, sha256).exists() else None

    def known(self, source: str) -> tuple[str, str]:
        """(validator, SHA-256) of what the source gave last, if that is still here; else empty."""
        try:
            state = json.loads((self._folder / "sources" / key_of(source)).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return "", ""
        return (state["validator"], state["sha256"]) if self.path(state["sha256"]).exists() else ("", "")

    def take(self, tenant: str, sha256: str) -> Content | None:
        """Content that the organisation's URL was just found to hold; None when it is gone."""
        content = self._used(sha256)
        if content:
            self._own(tenant, sha256)
        return content

    def _used(self, sha256: str) -> Content | None:
        try:
            os.utime(self.path(sha256))
            return Content(sha256, self.path(sha256).stat().st_size)
        except FileNotFoundError:
            return None

    def _owner(self, tenant: str, sha256: str) -> Path:
        return self._folder / "owners" / key_of(tenant) / sha256

    def _own(self, tenant: str, sha256: str) -> None:
        self._owner(tenant, sha256).parent.mkdir(exist_ok=True)
        self._owner(tenant, sha256).touch()

    # --- keeping --------------------------------------------------------------------------------------------------

    def add(self, tenant: str, source: str, sha256: str, validator: str) -> Content:
        """Take the complete file out of the partial folder of `source`."""
        folder = self.partial(source)
        (folder / BYTES).chmod(0o444)
        (folder / BYTES).rename(self.path(sha256))
        shutil.rmtree(folder)
        self._own(tenant, sha256)
        if validator:
            entry = self._folder / "sources" / key_of(source)
            new = entry.with_suffix(".new")
            new.write_text(json.dumps({"validator": validator, "sha256": sha256}), encoding="utf-8")
            new.rename(entry)
        content = self._used(sha256)
        assert content is not None
        return content

    def pin(self, key: LeaseKey, inputs: Mapping[str, Content]) -> None:
        """The lease uses these until `release`, also over a restart of the agent."""
        text = json.dumps({path: asdict(content) for path, content in inputs.items()})
        new = self._leases / f".{key}"
        new.write_text(text, encoding="utf-8")
        new.rename(self._leases / str(key))

    def release(self, key: LeaseKey) -> None:
        (self._leases / str(key)).unlink(missing_ok=True)

    def evict(self, busy: Iterable[str]) -> None:
        """Drop what was used least recently until the rest fits. `busy`: sources of downloads that run."""
        spared = self._pinned() | {key_of(source) for source in busy}
        found = sorted((self._measure(path) for path in self._droppable()), key=lambda entry: entry[0])
        total = sum(size for _, size, _ in found)
        for _, size, path in found:
            if total <= self._limit:
                return
            if path.name not in spared:
                self._drop(path)
                total -= size

    def _droppable(self) -> list[Path]:
        return [*self._content.iterdir(), *(self._folder / "partial").iterdir()]

    @staticmethod
    def _measure(path: Path) -> tuple[int, int, Path]:
        """(last use in ns, bytes, path) of a file or of the files in a folder."""
        files = [path, *path.iterdir()] if path.is_dir() else [path]
        infos = [file.stat() for file in files]
        return max(info.st_mtime_ns for info in infos), sum(info.st_size for info in infos), path

    def _drop(self, path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
            return
        path.unlink()
        for folder in (self._folder / "owners").iterdir():
            (folder / path.name).unlink(missing_ok=True)

    def _pinned(self) -> set[str]:
        return {
            content["sha256"]
            for path in self._leases.iterdir()
            if not path.name.startswith(".")
            for content in json.loads(path.read_text(encoding="utf-8")).values()
        }
