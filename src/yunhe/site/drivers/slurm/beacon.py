"""When the hub was last heard, for the nodes. By this and the disk's clock, they find out how their clocks differ."""

import asyncio
import logging
import os
from pathlib import Path

from yunhe.site.contact import boot_id
from yunhe.site.supervisor.records import boottime_ms

log = logging.getLogger(__name__)
BEACON_S = 1.0


class Beacon:
    """`path` is on the shared disk; `contact` is written by the agent."""

    def __init__(self, path: Path, contact: Path) -> None:
        self.path = path
        self._contact = contact

    def write(self) -> None:
        heard = self._contact.read_text().strip() if self._contact.exists() else ""
        tmp = self.path.with_name(f"beacon.{os.getpid()}")
        tmp.write_text(f"{boot_id()} {boottime_ms()} {heard or 0}")
        tmp.rename(self.path)

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(BEACON_S)
            try:
                await asyncio.to_thread(self.write)
            except OSError as error:
                log.warning("the beacon on the shared disk cannot be written: %s", error)
