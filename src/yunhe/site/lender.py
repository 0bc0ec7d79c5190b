"""Beside the site's own users: tells the hub what it may not use, and gives back what they need."""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence

from yunhe.core.errors import YunheError
from yunhe.core.lifecycle import EndReason
from yunhe.site.checkpoints import saved_ms
from yunhe.site.drivers.contract import yields_units
from yunhe.site.lending import Lent, digests, to_give_back
from yunhe.site.parts import Lease, Parts
from yunhe.site.runner import Runner
from yunhe.wire.link import PoolDigest, PoolReport

log = logging.getLogger(__name__)


class Lender:
    """`pools`: what the next poll says."""

    def __init__(self, parts: Parts, runner: Runner) -> None:
        self._parts = parts
        self._runner = runner
        self._certified: dict[str, PoolReport] = {}
        self._foreign: tuple[PoolDigest, ...] = ()
        self.pools: tuple[PoolDigest, ...] = ()

    async def open(self) -> None:
        self._certified = {pool.name: pool for pool in await self._parts.driver.discover()}
        self._foreign = tuple(PoolDigest(name=name) for name in self._certified)
        self.pools = self._not_lent(self._foreign)

    def _not_lent(self, foreign: Sequence[PoolDigest]) -> tuple[PoolDigest, ...]:
        return digests(self._parts.lend, self._certified, foreign, time.time_ns() // 1_000_000)

    def _to_clear(self) -> tuple[PoolDigest, ...]:
        """What leases have to make room for: of an engine that allocates units itself, what is not lent any more."""
        if yields_units(self._parts.driver):
            return self.pools
        return self._not_lent([PoolDigest(name=name) for name in self._certified])

    async def run(self) -> None:
        """Until cancelled. What the engine cannot say stays as it was last known; the clock goes on."""
        while True:
            try:
                self._foreign = await self._parts.driver.foreign()
            except (YunheError, OSError) as error:
                log.info("the engine does not say what others use: %s", error)
            pools = self._not_lent(self._foreign)
            if _bounds(pools) != _bounds(self.pools):
                self._parts.recorder.news.set()
            self.pools = pools
            await self._give_back()
            await asyncio.sleep(self._parts.settings.foreign_interval_ms / 1000)

    async def _give_back(self) -> None:
        """The units of leases that are being stopped already are on their way."""
        held = {
            lease.key: lease
            for lease in self._runner.leases.values()
            if lease.cancel is None and not lease.finishing and lease.held.start.pool in self._certified
        }
        clear = self._to_clear()
        if not to_give_back(self._certified, clear, [self._lent(lease) for lease in held.values()]):
            return  # nothing has to go: the engine need not be asked how far each is
        for lent in to_give_back(self._certified, clear, await self._at_risk(held.values())):
            log.info("%s: its units go back to the site's own users", lent.key)
            await self._runner.cancel(lent.key, EndReason.PREEMPTED)

    def _lent(self, lease: Lease, at_risk_ms: int = 0) -> Lent:
        start = lease.held.start
        memory = start.slots * start.slot_memory_bytes
        return Lent(lease.key, start.pool, start.slots * start.slot_milli, memory, at_risk_ms)

    async def _at_risk(self, held: Iterable[Lease]) -> Sequence[Lent]:
        """With what each would lose, as far as the engine can say it now."""
        driver, leases = self._parts.driver, list(held)
        try:
            seen = await driver.observe([lease.key for lease in leases])
        except (YunheError, OSError) as error:
            log.info("the engine does not say how far its jobs are: %s", error)
            seen = {}
        found = []
        for lease in leases:
            status = seen.get(lease.key)
            ran_ms = status.totals.wall_ms if status and status.totals else 0
            kept_ms = await saved_ms(driver, lease.held.start) if ran_ms else 0
            found.append(self._lent(lease, max(0, ran_ms - kept_ms)))
        return found


def _bounds(pools: Sequence[PoolDigest]) -> list[tuple[str, int, int, int | None]]:
    """What placement goes by; how busy the units are waits for the next poll."""
    return [(pool.name, pool.foreign_milli, pool.foreign_memory_bytes, pool.longest_ms) for pool in pools]
