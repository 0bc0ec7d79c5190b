"""The newest list of this site's jobs, asked for seldom and for all leases together."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from yunhe.core.errors import Unavailable
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.drivers.nodes.verdict import Stage
from yunhe.site.drivers.slurm.client import JobLine, Listing, Members, SlurmClient
from yunhe.site.settings import SlurmSettings

log = logging.getLogger(__name__)
FIRST_WAIT_S = 2.0  # who has no list yet does not wait longer for the controller


class Lookout:
    """`heard` is called with each new list."""

    def __init__(
        self,
        client: SlurmClient,
        settings: SlurmSettings,
        members: Members,
        heard: Callable[[Listing], Awaitable[None]],
    ) -> None:
        self._client, self._members, self._heard = client, members, heard
        self._interval_s = settings.listing_interval_ms / 1000
        self._valid_s = settings.listing_valid_ms / 1000
        self.newest: Listing | None = None  # None as well while Slurm does not answer
        self.running: frozenset[LeaseKey] = frozenset()  # in the newest list that there ever was
        self._asked = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def fresh(self) -> Listing | None:
        """The newest list, while the next one may be on its way; None when none is new enough to say anything."""
        now = time.monotonic()
        if now - self._asked >= self._interval_s:
            self._ask_again()
        left = self._asked + FIRST_WAIT_S - now
        if self._asking is not None and self.newest is None and left > 0:
            await asyncio.wait({self._asking}, timeout=left)
        listing = self.newest
        return None if listing is None or time.monotonic() - listing.asked > self._valid_s else listing

    async def next(self) -> None:
        """Wait for a list that is asked for after this. Raises Unavailable when Slurm does not answer."""
        now = time.monotonic()
        while self.newest is None or self.newest.asked < now:
            await asyncio.wait({self._ask_again()})
            if self.newest is None:
                raise Unavailable("Slurm does not list its jobs")

    def running_of(self, key: LeaseKey) -> list[JobLine]:
        jobs = self.newest.of(key) if self.newest else ()
        return [job for job in jobs if job.stage is Stage.RUNNING]

    def _ask_again(self) -> asyncio.Task[None]:
        if self._asking is None or self._asking.done():
            self._asked = time.monotonic()
            self._asking = asyncio.create_task(self._ask())
        return self._asking

    async def _ask(self) -> None:
        try:
            listing = await self._client.listing(self._members)
        except Unavailable as error:
            if self.newest is not None:
                log.warning("Slurm cannot be asked: %s", error)
            self.newest = None
            return
        running = (key for key, jobs in listing.jobs.items() if any(job.stage is Stage.RUNNING for job in jobs))
        self.newest, self.running = listing, frozenset(running)
        await self._heard(listing)

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
