"""Refuse what could not be kept, before it is half-written."""

import shutil
import time
from pathlib import Path

from yunhe.core.errors import StorageFull

CHECK_S = 1.0


class DiskGuard:
    """Free space under `path`, looked at once a second at most."""

    def __init__(self, path: Path, min_free_bytes: int) -> None:
        self._path = path
        self._min_free = min_free_bytes
        self._checked_s = 0.0
        self._free = min_free_bytes

    def check(self) -> None:
        """Raises StorageFull when less than the minimum is free."""
        now = time.monotonic()
        if now - self._checked_s > CHECK_S:
            self._checked_s = now
            self._free = shutil.disk_usage(self._path).free
        if self._free < self._min_free:
            raise StorageFull(f"the hub has {self._free >> 20} MiB of disk left and keeps {self._min_free >> 20} free")
