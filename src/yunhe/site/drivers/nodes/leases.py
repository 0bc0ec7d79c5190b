"""The part of a driver that looks after the lease folders on the disk that agent and nodes share."""

import asyncio
import os
from pathlib import Path
from typing import Generic, TypeVar

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.drivers.lease_dir import LeaseFiles
from yunhe.site.drivers.nodes.beacon import Beacon
from yunhe.site.drivers.nodes.folder import LeaseFolder
from yunhe.site.drivers.nodes.news import News
from yunhe.site.drivers.nodes.program import Program

Folder = TypeVar("Folder", bound=LeaseFolder)


class LeaseFolders(LeaseFiles, Generic[Folder]):
    """Nodes see `shared` alone: `leases/`, `news/`, `programs/` and `beacon`. `contact` is the agent's own file."""

    def __init__(self, shared: Path, contact: Path, news_ms: int, program: Program, kind: type[Folder]) -> None:
        self._leases = shared / "leases"
        self._news = News(shared / "news", news_ms)
        self._beacon = Beacon(shared / "beacon", contact)
        self._program = program
        self._kind = kind

    def _prepare_folders(self) -> None:
        """Raises OSError."""
        for folder in (self._leases, self._news.folder, self._leases.parent / "programs"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._program.install()
        self._beacon.write()

    def _folder(self, key: LeaseKey) -> Folder:
        return self._kind(self._leases / str(key), self._news.folder)

    def _known(self) -> frozenset[LeaseKey]:
        return frozenset(key for key in map(LeaseKey.parse, os.listdir(self._leases)) if key is not None)

    def _stop_folder(self, key: LeaseKey, reason: EndReason) -> bool:
        """Leave the reason for a supervisor. True: sealed before one began."""
        folder = self._folder(key)
        if not folder.prepared or folder.evidence().ended_for:
            return False
        folder.cancel(reason)
        if not folder.seal(reason, "stopped before it was started"):
            return False
        folder.announce(key)
        return True

    async def changed(self, timeout_ms: int) -> frozenset[LeaseKey]:
        return await self._news.wait(timeout_ms)

    async def logs(self, key: LeaseKey, offset: int, limit: int) -> bytes:
        return await asyncio.to_thread(self._folder(key).log, offset, limit)

    async def known(self) -> frozenset[LeaseKey]:
        return await asyncio.to_thread(self._known)
