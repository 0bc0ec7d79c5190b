"""Word that nodes leave for the agent: files named after leases, in a folder of the shared disk. Hints only."""

import asyncio
import os
import time
from pathlib import Path

from yunhe.site.drivers.contract import LeaseKey


class News:
    """`every_ms`: the folder is looked at so often."""

    def __init__(self, folder: Path, every_ms: int) -> None:
        self.folder = folder
        self._every_ms = every_ms

    async def wait(self, timeout_ms: int) -> frozenset[LeaseKey]:
        """The leases that there is word of; empty after the timeout."""
        until = time.monotonic() + timeout_ms / 1000
        while True:
            found = await asyncio.to_thread(self._take)
            left = until - time.monotonic()
            if found or left <= 0:
                return found
            await asyncio.sleep(min(left, self._every_ms / 1000))

    def _take(self) -> frozenset[LeaseKey]:
        names = os.listdir(self.folder)
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
        return frozenset(key for key in map(LeaseKey.parse, names) if key is not None)
