"""The whole network in one view, for whoever looks, and its last days in samples of a minute."""

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from functools import cache
from typing import Annotated, Any, NamedTuple

import sqlalchemy as sa
from fastapi import APIRouter, Header, Response

from yunhe.core.demand import Precision
from yunhe.core.errors import NotFound, YunheError
from yunhe.core.supply import PoolKind
from yunhe.facts.load import chips
from yunhe.hub.catalogue import store
from yunhe.hub.catalogue.records import LISTED
from yunhe.hub.catalogue.texts import parse_rates
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
DAY_FRESH_MS = 10_000  # the day has a new sample once in a minute
MAX_TAG_CHARS = 200

# Columns of a site that are shown as they are.
_SHOWN = (
    "id",
    "name",
    "provider",
    "region",
    "cluster",
    "lat",
    "lon",
    "state",
    "tier",
    "carbon_g_per_kwh",
    "bandwidth_bps",
)


def router(platform: Platform) -> APIRouter:
    """Open to callers without a key where the operator lets it be (`public_network`)."""
    routes = APIRouter(prefix="/v1/network", tags=["network"])
    looking = asyncio.Lock()
    shown = Shown(platform.settings.silent_after_ms)

    @routes.get("", response_model=NetworkView, responses={304: {"description": "It is as If-None-Match says"}})
    async def network(if_none_match: Annotated[str, Header(max_length=MAX_TAG_CHARS)] = "") -> Response:
        _check_public(platform)
        async with looking:
            now_ms = platform.clock.now_ms()
            if not 0 <= now_ms - shown.at_ms < FRESH_MS:
                await platform.read(lambda conn: shown.read(conn, now_ms))
        headers = {"ETag": shown.tag, "Cache-Control": "no-cache"}
        if if_none_match == shown.tag:
            return Response(status_code=304, headers=headers)
        return Response(shown.json(), media_type="application/json", headers=headers)

    day: list[tuple[int, bytes]] = []

    @routes.get("/history", response_model=NetworkHistory)
    async def history() -> Response:
        """The last day, a sample of each minute."""
        _check_public(platform)
        now_ms = platform.clock.now_ms()
        if not day or not 0 <= now_ms - day[0][0] < DAY_FRESH_MS:
            found = await platform.read(lambda conn: samples(conn, now_ms - DAY_MS))
            day[:] = [(now_ms, NetworkHistory(samples=found).model_dump_json().encode())]
        return Response(day[0][1], media_type="application/json")

    return routes


def _check_public(platform: Platform) -> None:
    if not platform.settings.public_network:
        raise NotFound("this hub does not show its network to visitors", hint="sign in: GET /v1/sites")


class Shown:
    """The network as text, read again when somebody looks and it is old; only what changed is written anew.

    `tag` names what is shown: as long as no site changes it stays. Another process has other tags.
    """

    def __init__(self, silent_after_ms: int) -> None:
        self._silent_after_ms = silent_after_ms
        self._rows = _Rows((), ())
        self._texts: dict[str, bytes] = {}
        self._sites = b""
        self._process, self._changes = secrets.token_hex(6), 0
        self.at_ms = -FRESH_MS

    @property
    def tag(self) -> str:
        return f'"{self._process}-{self._changes}"'

    def read(self, conn: sa.Connection, now_ms: int) -> None:
        rows = _rows(conn, now_ms, self._silent_after_ms)
        if rows != self._rows:
            touched = {row[0] for row in set(rows.sites) ^ set(self._rows.sites)}
            touched |= {row[0] for row in set(rows.pools) ^ set(self._rows.pools)}
            self._texts |= {site.id: site.model_dump_json().encode() for site in _sites(rows, touched)}
            # A site that left is named no more.
            self._texts = {row[0]: self._texts[row[0]] for row in rows.sites}
            self._sites = b",".join(self._texts.values())
            self._rows = rows
            self._changes += 1
        self.at_ms = now_ms

    def json(self) -> bytes:
        """A NetworkView."""
        return b'{"at_utc_ms":%d,"sites":[%b]}' % (self.at_ms, self._sites)


def view(conn: sa.Connection, now_ms: int, silent_after_ms: int) -> NetworkView:
    """Sites that take part, with what they have."""
    rows = _rows(conn, now_ms, silent_after_ms)
    return NetworkView(at_utc_ms=now_ms, sites=tuple(_sites(rows, {row[0] for row in rows.sites})))


# Whoever looks at the page asks for these every second or two: they are made once, and name only what is shown.
_SITES = (
    sa.select(*(store.site.c[name] for name in _SHOWN), store.site.c.last_contact_ms >= sa.bindparam("since_ms"))
    .where(store.site.c.state.in_([state.value for state in LISTED]))
    .order_by(store.site.c.id)
)
_POOLS = sa.select(
    store.pool.c.site_id,
    store.pool.c.id,
    store.pool.c.kind,
    store.pool.c.chip,
    store.pool.c.rates,
    store.pool.c.capacity_milli,
    store.pool.c.used_milli + store.pool.c.foreign_milli,
).where(store.pool.c.retired.is_(sa.false()))


class _Rows(NamedTuple):
    """All that a view is made of: of sites `_SHOWN` and whether it is connected; of pools as `_POOLS`."""

    sites: Sequence[tuple[Any, ...]]
    pools: Sequence[tuple[Any, ...]]


def _rows(conn: sa.Connection, now_ms: int, silent_after_ms: int) -> _Rows:
    """As the driver has them: tens of thousands, and equal to those before in most looks."""
    sites = conn.execute(_SITES, {"since_ms": now_ms - silent_after_ms}).cursor.fetchall()
    return _Rows(sites, conn.execute(_POOLS).cursor.fetchall())


def _sites(rows: _Rows, wanted: Set[str]) -> Iterator[NetworkSiteView]:
    """Those of the `wanted` that are there, sorted by id."""
    pools = defaultdict(list)
    for site_id, _, *pool in rows.pools:
        if site_id in wanted:
            pools[site_id].append(pool)
    for *shown, connected in rows.sites:
        if shown[0] in wanted:
            has = pools[shown[0]]
            yield NetworkSiteView(
                **dict(zip(_SHOWN, shown, strict=True)),
                connected=bool(connected),
                vendors=tuple(sorted({_vendors().get(chip, "unknown") for _, chip, *_ in has})),
                **_compute(has),
            )


def _compute(pools: Sequence[Sequence[Any]]) -> dict[str, int]:
    """Fields of ComputeView: each pool counts as what it is, a processor's FP32 or an accelerator's FP16."""
    found = dict.fromkeys(ComputeView.model_fields, 0)
    for kind, _, rates, capacity_milli, taken_milli in pools:
        name = "general" if kind == PoolKind.CPU.value else "intelligent"
        rate = _rate(rates, kind)
        found[f"{name}_gflops"] += rate * capacity_milli // 10**12
        found[f"{name}_used_gflops"] += rate * min(capacity_milli, taken_milli) // 10**12
    return found


def _rate(rates: str, kind: str) -> int:
    """FLOP/s of a whole unit: measured where it was measured, nominal otherwise."""
    precision = Precision.FP32 if kind == PoolKind.CPU.value else Precision.FP16
    return next((r.measured_flops or r.nominal_flops or 0 for r in parse_rates(rates) if r.precision == precision), 0)


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
