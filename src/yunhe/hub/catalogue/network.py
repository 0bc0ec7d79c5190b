"""The whole network in one view, for whoever looks, and its last days in samples of a minute."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Header, Query, Request, Response

from yunhe.core.errors import NotFound, YunheError
from yunhe.hub.catalogue import store
from yunhe.hub.catalogue.showing import Loads, Shown, sites
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.db import insert_ignore
from yunhe.hub.platform.leader import Leader
from yunhe.hub.platform.streams import BEAT_S, MAX_STREAM_MS, RETRY_MS, EventStream, Slots
from yunhe.hub.platform.writer import Tx
from yunhe.wire.api import ComputeView, NetworkHistory, NetworkSample, NetworkView

log = logging.getLogger(__name__)

SAMPLE_MS = 60_000
KEPT_MS = 7 * 86_400_000
FRESH_MS = 1_500  # the network is read at most once in this time, however many look
DAY_MS = 86_400_000
DAY_FRESH_MS = 10_000  # the day has a new sample once in a minute
MAX_TAG_CHARS = 200
WATCHED = "network"  # topic of those who wait for the next look: only the hub's end wakes them earlier


def router(platform: Platform, loads: Loads) -> APIRouter:
    """Open to callers without a key where the operator lets it be (`public_network`). `loads`: of the sites' lines."""
    routes = APIRouter(prefix="/v1/network", tags=["network"])
    settings = platform.settings
    looking = asyncio.Lock()
    slots = Slots(settings.network_streams, settings.network_streams_per_address)
    shown = Shown(settings.silent_after_ms, settings.policy.route_factor_percent, loads)

    async def look() -> None:
        """At most once in `FRESH_MS`, whoever asks."""
        async with looking:
            now_ms = platform.clock.now_ms()
            if not 0 <= now_ms - shown.at_ms < FRESH_MS:
                await platform.read(lambda conn: shown.read(conn, now_ms))

    @routes.get("", response_model=NetworkView, responses={304: {"description": "It is as If-None-Match says"}})
    async def network(if_none_match: Annotated[str, Header(max_length=MAX_TAG_CHARS)] = "") -> Response:
        _check_public(platform)
        await look()
        headers = {"ETag": shown.tag, "Cache-Control": "no-cache"}
        if if_none_match == shown.tag:
            return Response(status_code=304, headers=headers)
        return Response(shown.json(), media_type="application/json", headers=headers)

    # An event is an object, whose data is a NetworkChange.
    described: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/event-stream": {"schema": {"type": "object"}}}}
    }

    @routes.get("/changes", response_class=EventStream, status_code=200, responses=described)
    async def changes(
        request: Request, timeout_ms: Annotated[int, Query(ge=0, le=MAX_STREAM_MS)] = MAX_STREAM_MS
    ) -> EventStream:
        """Server-sent events, each a NetworkChange: the whole network first, then what differs, at most two seconds
        later; now and then that nothing does.

        Whoever comes back is told everything once more.
        """
        _check_public(platform)

        async def blocks() -> AsyncGenerator[bytes, None]:
            seen, until = None, time.monotonic() + timeout_ms / 1000
            beaten = time.monotonic()
            yield f"retry: {RETRY_MS}\n\n".encode()
            with platform.signals.waiting(WATCHED) as waiter:
                while not platform.signals.closing and (now := time.monotonic()) < until:
                    try:
                        await look()
                    except YunheError:
                        return  # whoever comes back is told why
                    said, seen = shown.since(seen)
                    if said is not None or now - beaten >= BEAT_S:
                        beaten = now
                        yield b"data: %b\n\n" % (said or shown.same())
                    waiter.rearm()
                    await waiter.wait(min(FRESH_MS / 1000, max(0.0, until - now)))

        return EventStream(slots, request.client.host if request.client else "", blocks())

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


def view(conn: sa.Connection, now_ms: int, silent_after_ms: int) -> NetworkView:
    """Sites that take part, with what they have; what moves on their lines is left out."""
    return NetworkView(at_utc_ms=now_ms, sites=tuple(sites(conn, now_ms, silent_after_ms, 100, {})))


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
        seen = view(tx.conn, tx.now_ms, self._platform.settings.silent_after_ms).sites
        totals = {name: sum(getattr(site, name) for site in seen) for name in ComputeView.model_fields}
        row = {"sites": len(seen), "connected": sum(site.connected for site in seen), **totals}
        insert_ignore(table).execute(tx.conn, [{"at_utc_ms": minute, **row} for minute in minutes])
        tx.conn.execute(sa.delete(table).where(table.c.at_utc_ms < tx.now_ms - KEPT_MS))
        return [None] * len(minutes)
