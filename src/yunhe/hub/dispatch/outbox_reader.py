"""One reader of the outbox per replica: wakes the held polls of sites that have something new.

A held poll costs a future, not a connection or a thread. The newest poll of a site wins; the one before is answered.
"""

import asyncio
import logging
from functools import partial

from yunhe.core.errors import YunheError
from yunhe.hub.orders import outbox
from yunhe.hub.orders.outbox import OUTBOX
from yunhe.hub.platform.context import Platform

log = logging.getLogger(__name__)

RECHECK_S = 2.0  # a hint may be lost
SITES_PER_QUERY = 500


class OutboxReader:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._held: dict[str, tuple[int, asyncio.Future[bool]]] = {}

    @property
    def held(self) -> int:
        return len(self._held)

    async def hold(self, site_id: str, applied_seq: int, hold_s: float) -> bool:
        """Wait for an instruction above `applied_seq`. False: time is up, or a newer poll of the site came."""
        self.supersede(site_id)
        if self._platform.signals.closing:
            return False
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._held[site_id] = (applied_seq, future)
        # Register first, then look, then wait: what was written in between is not missed.
        self._platform.signals.fire((OUTBOX,))
        try:
            return await asyncio.wait_for(future, hold_s)
        except TimeoutError:
            return False
        finally:
            if self._held.get(site_id, (0, None))[1] is future:
                del self._held[site_id]

    def supersede(self, site_id: str) -> None:
        held = self._held.pop(site_id, None)
        if held is not None and not held[1].done():
            held[1].set_result(False)

    async def run(self) -> None:
        """Until cancelled."""
        with self._platform.signals.waiting(OUTBOX) as waiter:
            while True:
                waiter.rearm()
                if self._platform.signals.closing:
                    for site_id in list(self._held):
                        self.supersede(site_id)
                    return
                try:
                    await self._wake_ready()
                except YunheError as error:
                    log.warning("the outbox cannot be read right now: %s", error)
                await waiter.wait(RECHECK_S)

    async def _wake_ready(self) -> None:
        sites = list(self._held)
        for start in range(0, len(sites), SITES_PER_QUERY):
            part = sites[start : start + SITES_PER_QUERY]
            heads = await self._platform.read(partial(outbox.heads, site_ids=part))
            for site_id, head in heads.items():
                held = self._held.get(site_id)
                if held is not None and head > held[0] and not held[1].done():
                    held[1].set_result(True)
