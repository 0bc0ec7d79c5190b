"""Slurm's accounting, where the centre has it: why a job ended that left no record and that Slurm lists no more, how
long it ran and what energy was measured.

It is late by minutes at times, so it is waited for; what it never tells stays lost.
"""

import asyncio
import logging
import time

from yunhe.core.errors import Unavailable
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.drivers.nodes.verdict import Stage
from yunhe.site.drivers.slurm.batches import Batches
from yunhe.site.drivers.slurm.client import AccountLine, SlurmClient
from yunhe.site.settings import SlurmSettings

log = logging.getLogger(__name__)
AT_ONCE = 200  # names in one question


class Accounting:
    """Asked by `sacct` for all such leases together."""

    def __init__(self, client: SlurmClient, batches: Batches, settings: SlurmSettings) -> None:
        self._client, self._batches = client, batches
        self._on = settings.accounting
        self._wait_s = settings.accounting_wait_ms / 1000
        self._interval_s = settings.accounting_interval_ms / 1000
        self._since: dict[LeaseKey, float] = {}  # monotonic s of the first wish to know
        self._found: dict[LeaseKey, AccountLine] = {}
        self._news = asyncio.Event()

    def waits(self, key: LeaseKey) -> bool:
        """True while it may still tell; the first call makes it look."""
        if not self._on or key in self._found:
            return False
        if key not in self._since:
            self._since[key] = time.monotonic()
            self._news.set()
        return time.monotonic() - self._since[key] < self._wait_s

    def word(self, key: LeaseKey) -> AccountLine | None:
        return self._found.get(key)

    def forget(self, key: LeaseKey) -> None:
        self._since.pop(key, None)
        self._found.pop(key, None)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            open_keys = [key for key in self._since if key not in self._found][:AT_ONCE]
            names = sorted({name for key in open_keys for name in self._batches.names(key)})
            if not names:
                self._news.clear()
                continue
            try:
                found = await self._client.accounted(names, self._batches.members)
            except Unavailable as error:
                log.warning("Slurm's accounting cannot be asked: %s", error)
            else:
                for key in open_keys:
                    over = [job for job in found.get(key, ()) if job.stage is Stage.OVER]
                    if over:
                        self._found[key] = over[-1]
            await asyncio.sleep(self._interval_s)
