"""The lower hub's supply as this site offers it, and what of that was certified last: kept on disk, so that leases
have an agent that speaks for them also while a hub is away."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from yunhe.core.errors import Refused, TooLarge, Unavailable
from yunhe.site.drivers.hub import supply
from yunhe.site.drivers.hub.lower import LowerHub
from yunhe.site.drivers.hub.supply import Ends, Offered
from yunhe.site.drivers.hub.upper import Upper
from yunhe.site.drivers.lease_dir import replace_text
from yunhe.site.settings import LowerHubSettings
from yunhe.wire.api import SiteView
from yunhe.wire.link import PoolDigest

log = logging.getLogger(__name__)
KEPT_FILE = "lower.json"


class Around:
    """`ends` and `offered` are there after `open`; the latter changes only by a certification."""

    def __init__(self, settings: LowerHubSettings, lower: LowerHub, upper: Upper, data_dir: Path) -> None:
        self._settings = settings
        self._lower = lower
        self._upper = upper
        self._kept = data_dir / KEPT_FILE
        self._checked = False
        self.ends = Ends("", "")
        self.offered: dict[str, Offered] = {}

    async def open(self) -> None:
        """What was certified last, or what there is. Raises Unavailable before a first answer, Refused for a circle."""
        if self._kept.exists():
            self.ends, sites = await asyncio.to_thread(self._recall)
            self._take(supply.offered(sites, self.ends, self._settings))
        else:
            await self.certify()

    async def now(self) -> tuple[Offered, ...]:
        """As of now; while a hub is away, or has nothing to offer, as certified last: leases have their agent."""
        try:
            return supply.offered(await self._ask(), self.ends, self._settings)
        except (Unavailable, Refused, TooLarge) as error:
            if not self.offered:
                raise
            log.warning("what the lower hub offered the last time is taken: %s", error)
            return tuple(self.offered.values())

    async def certify(self) -> tuple[Offered, ...]:
        """As of now, and from now on. Raises Unavailable."""
        sites = await self._ask()
        found = supply.offered(sites, self.ends, self._settings)
        if self._kept.parent.is_dir():  # a first look, before the site has a folder
            await asyncio.to_thread(self._keep, sites)
        self._take(found)
        return found

    async def foreign(self, ours: Mapping[str, tuple[int, int]]) -> tuple[PoolDigest, ...]:
        sites = await self._lower.sites()
        return supply.foreign(list(self.offered.values()), sites, ours, self._settings.max_run_ms)

    async def _ask(self) -> tuple[SiteView, ...]:
        if not self._checked:
            await self._lower.check_account()
        self.ends = Ends(await self._upper.hub_id(), await self._lower.hub_id())
        supply.check_ends(self.ends)
        self._checked = True
        return await self._lower.sites()

    def _take(self, found: Sequence[Offered]) -> None:
        self.offered = {one.report.name: one for one in found}

    def _keep(self, sites: Sequence[SiteView]) -> None:
        rows = [site.model_dump(mode="json") for site in sites]
        text = json.dumps({"upper": self.ends.upper, "lower": self.ends.lower, "sites": rows})
        replace_text(self._kept, text)

    def _recall(self) -> tuple[Ends, tuple[SiteView, ...]]:
        kept = json.loads(self._kept.read_text())
        return Ends(kept["upper"], kept["lower"]), tuple(SiteView.model_validate(row) for row in kept["sites"])
