"""What the leader notices by time: silent sites, lost leases, overdue runs, missed deadlines, whose turn to measure,
and hubs above that are silent.

Silence is measured on this process's monotonic clock from the moment at which it saw a site's last contact change, so a
wrong wall clock, here or at another replica, gives no site up.  A new leader starts to count afresh, which is late,
never early.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

from yunhe.core.errors import YunheError
from yunhe.core.lifecycle import TaskState
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.dispatch import turns
from yunhe.hub.dispatch.claims import Verdict
from yunhe.hub.orders import events, following
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.leader import Leader
from yunhe.hub.platform.writer import Tx

log = logging.getLogger(__name__)

TICK_S = 0.5
LOOK_S, LOOKS = 2.0, 20  # sites are looked at so often, or oftener where a limit is short: so many times in it
BATCH = 500
CERTIFY_TOPIC = "certify"


class ContactWatch:
    """For how long each site has been silent, by this process's own clock."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int | None, float]] = {}

    def reset(self) -> None:
        self._seen.clear()

    def silent_ms(self, site_id: str, last_contact_ms: int | None, now_s: float) -> float:
        seen = self._seen.get(site_id)
        if seen is None or seen[0] != last_contact_ms:
            self._seen[site_id] = (last_contact_ms, now_s)
            return 0
        return (now_s - seen[1]) * 1000


class Watch:
    def __init__(self, platform: Platform, lead: Leader) -> None:
        self._platform = platform
        self._leader = lead
        self._contacts = ContactWatch()
        settings = platform.settings
        shortest_ms = min(
            settings.silent_after_ms,
            settings.disconnect_limit_ms + settings.disconnect_grace_ms,
            settings.certify_turn_ms,
        )
        self._look_every_s = min(LOOK_S, shortest_ms / 1000 / LOOKS)
        self._look_at_s = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        with self._platform.signals.waiting(CERTIFY_TOPIC) as waiter:
            while True:
                waiter.rearm()
                if self._leader.leading:
                    try:
                        await self._tick()
                        await self._check_proofs()
                        await self._check_followers()
                    except YunheError as error:
                        log.warning("the watch pauses: %s", error)
                        await asyncio.sleep(TICK_S)
                else:
                    self._contacts.reset()
                if await waiter.wait(TICK_S):
                    self._look_at_s = 0.0

    async def _tick(self) -> None:
        platform = self._platform
        now_s = time.monotonic()
        if now_s >= self._look_at_s:
            await self._look_at_sites()
            self._look_at_s = now_s + self._look_every_s
        if await platform.read(lambda conn: events.timers_due(conn, platform.clock.now_ms())):
            await platform.write(_timers, None)

    async def _look_at_sites(self) -> None:
        """Who is silent, and whose turn it is to measure. A nation has thousands, so this is not done at every tick."""
        platform, settings = self._platform, self._platform.settings
        sites = await platform.read(catalogue.contacts)
        placed = await platform.read(events.silent_candidates)
        now_s = time.monotonic()
        silent: dict[str, int | None] = {}
        lost: dict[str, int | None] = {}
        for site in sites:
            quiet_ms = self._contacts.silent_ms(site.id, site.last_contact_ms, now_s)
            states = placed.get(site.id, set())
            if quiet_ms > settings.silent_after_ms and states - {TaskState.UNKNOWN.value}:
                silent[site.id] = site.last_contact_ms
            if quiet_ms > settings.disconnect_limit_ms + settings.disconnect_grace_ms and states:
                lost[site.id] = site.last_contact_ms
        if silent:
            log.warning("silent: %s", ", ".join(silent))
            await platform.write(_silent, silent)
        if lost:
            log.warning("given up: %s", ", ".join(lost))
            await platform.write(_lost, lost)
        now_ms = platform.clock.now_ms()
        waiting = await platform.read(lambda conn: turns.candidates(conn, sites, now_ms, settings))
        if waiting:
            await platform.write(self._next_turn, waiting)

    async def _check_proofs(self) -> None:
        """Answers to challenges, one after the other; the arithmetic runs beside the loop."""
        settings = self._platform.settings
        for row in await self._platform.read(turns.unchecked):
            verdict = await asyncio.to_thread(turns.check, row, settings)
            await self._platform.write(self._conclude, (row.challenge, verdict))

    async def _check_followers(self) -> None:
        """Hubs above that have gone silent: nobody waits for their orders any more."""
        now_s = time.monotonic()
        known = await self._platform.read(following.followers)
        silent = [f for f in known if self._contacts.silent_ms(f.name, f.seen_ms, now_s) > f.silence_ms]
        if not silent:
            return
        left = await self._platform.read(lambda conn: following.waiting(conn, silent))
        if left:
            log.warning("orders of silent followers are cancelled: %s", ", ".join(item.name for item in left))
            await self._platform.write(following.give_up, left)
        await self._platform.write(following.forget, [item for item in silent if item not in left])

    def _next_turn(self, tx: Tx, items: Sequence[turns.Waiting]) -> list[None]:
        for waiting in items:
            turns.give(tx, waiting, self._platform.settings)
        return [None] * len(items)

    def _conclude(self, tx: Tx, items: Sequence[tuple[str, Verdict]]) -> list[None]:
        for challenge, verdict in items:
            turns.conclude(tx, challenge, verdict, self._platform.settings)
        return [None] * len(items)


# A replica that stood still between its look and its write must not give up a site that has spoken meanwhile, here or
# at another replica: its job would run twice. So the contact that was judged travels along, and is compared again.


def _silent(tx: Tx, batches: Sequence[Mapping[str, int | None]]) -> list[None]:
    for contacts in batches:
        events.site_silent(tx, catalogue.unheard_since(tx, contacts))
    return [None] * len(batches)


def _lost(tx: Tx, batches: Sequence[Mapping[str, int | None]]) -> list[None]:
    for contacts in batches:
        sites = catalogue.unheard_since(tx, contacts)
        events.site_silent(tx, sites)
        events.give_up(tx, sites)
    return [None] * len(batches)


def _timers(tx: Tx, items: Sequence[None]) -> list[None]:
    events.overdue(tx, BATCH)
    events.deadlines(tx, BATCH)
    return [None] * len(items)
