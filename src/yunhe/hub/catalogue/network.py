"""The whole network in one view, for whoever looks, and its last days in samples of a minute."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache

import sqlalchemy as sa
from fastapi import APIRouter

from yunhe.core.demand import Precision
from yunhe.core.errors import NotFound, YunheError
from yunhe.facts.load import chips
from yunhe.hub.catalogue import service, store
from yunhe.hub.catalogue.records import LISTED, PoolRecord, SiteRecord
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.db import insert_ignore
from yunhe.hub.platform.leader import Leader
from yunhe.hub.platform.writer import Tx
from yunhe.wire.api import ComputeView, NetworkHistory, NetworkSample, NetworkSiteView, NetworkView

log = logging.getLogger(__name__)

SAMPLE_MS = 60_000
KEPT_MS = 7 * 86_400_000
FRESH_MS = 1_000  # a view is made at most once in this time, however many look
DAY_MS = 86_400_000


def router(platform: Platform) -> APIRouter:
    """Open to callers without a key where the operator lets it be (`public_network`)."""
    routes = APIRouter(prefix="/v1/network", tags=["network"])
    looking = asyncio.Lock()
    latest: list[NetworkView] = []

    @routes.get("")
    async def network() -> NetworkView:
        _check_public(platform)
        async with looking:
            now_ms = platform.clock.now_ms()
            if not latest or not 0 <= now_ms - latest[0].at_utc_ms < FRESH_MS:
                latest[:] = [await platform.read(lambda conn: view(conn, now_ms, platform.settings.silent_after_ms))]
        return latest[0]

    @routes.get("/history")
    async def history() -> NetworkHistory:
        """The last day, a sample of each minute."""
        _check_public(platform)
        since_ms = platform.clock.now_ms() - DAY_MS
        return NetworkHistory(samples=await platform.read(lambda conn: samples(conn, since_ms)))

    return routes


def _check_public(platform: Platform) -> None:
    if not platform.settings.public_network:
        raise NotFound("this hub does not show its network to visitors", hint="sign in: GET /v1/sites")


def view(conn: sa.Connection, now_ms: int, silent_after_ms: int) -> NetworkView:
    """Sites that take part, with what they have."""
    by_site = defaultdict(list)
    for pool in service.list_pools(conn):
        by_site[pool.site_id].append(pool)
    shown = [site for site in service.list_sites(conn) if site.state in LISTED]
    return NetworkView(
        at_utc_ms=now_ms,
        sites=tuple(_site(site, by_site[site.id], site.connected(now_ms, silent_after_ms)) for site in shown),
    )


def _site(site: SiteRecord, pools: Sequence[PoolRecord], connected: bool) -> NetworkSiteView:
    vendors = {_vendors().get(pool.chip, "unknown") for pool in pools}
    return NetworkSiteView(
        id=site.id,
        name=site.name,
        provider=site.provider,
        region=site.region,
        cluster=site.cluster,
        lat=site.lat,
        lon=site.lon,
        state=site.state.value,
        connected=connected,
        tier=site.tier,
        carbon_g_per_kwh=site.carbon_g_per_kwh,
        bandwidth_bps=site.bandwidth_bps,
        vendors=tuple(sorted(vendors)),
        **compute(pools),
    )


def compute(pools: Iterable[PoolRecord]) -> dict[str, int]:
    """Fields of ComputeView: each pool counts as what it is, a processor's FP32 or an accelerator's FP16."""
    found = dict.fromkeys(ComputeView.model_fields, 0)
    for pool in pools:
        kind, precision = ("general", Precision.FP32) if pool.kind == "cpu" else ("intelligent", Precision.FP16)
        rate = next((r.measured_flops or r.nominal_flops or 0 for r in pool.rates if r.precision == precision), 0)
        used = min(pool.capacity_milli, pool.used_milli + pool.foreign_milli)
        found[f"{kind}_gflops"] += rate * pool.capacity_milli // 10**12
        found[f"{kind}_used_gflops"] += rate * used // 10**12
    return found


@cache
def _vendors() -> dict[str, str]:
    return {chip.id: chip.vendor for chip in chips()}


# --- samples ------------------------------------------------------------------------------------------------------


def samples(conn: sa.Connection, since_ms: int) -> tuple[NetworkSample, ...]:
    """Oldest first."""
    table = store.network_sample
    rows = conn.execute(sa.select(table).where(table.c.at_utc_ms >= since_ms).order_by(table.c.at_utc_ms))
    return tuple(NetworkSample(**row._mapping) for row in rows)


class Sampling:
    """The leading replica's loop: one row a minute. A minute that nobody led has none."""

    def __init__(self, platform: Platform, lead: Leader) -> None:
        self._platform, self._lead = platform, lead

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            now_ms = self._platform.clock.now_ms()
            if self._lead.leading:
                try:
                    await self._platform.write(self._sample, now_ms // SAMPLE_MS * SAMPLE_MS)
                except YunheError as error:
                    log.warning("no sample of the network: %s", error)
            await asyncio.sleep((SAMPLE_MS - now_ms % SAMPLE_MS) / 1000)

    def _sample(self, tx: Tx, minutes: Sequence[int]) -> list[None]:
        table = store.network_sample
        seen = view(tx.conn, tx.now_ms, self._platform.settings.silent_after_ms)
        totals = {name: sum(getattr(site, name) for site in seen.sites) for name in ComputeView.model_fields}
        row = {"sites": len(seen.sites), "connected": sum(site.connected for site in seen.sites), **totals}
        insert_ignore(table).execute(tx.conn, [{"at_utc_ms": minute, **row} for minute in minutes])
        tx.conn.execute(sa.delete(table).where(table.c.at_utc_ms < tx.now_ms - KEPT_MS))
        return [None] * len(minutes)
