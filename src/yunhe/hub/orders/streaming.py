"""GET /v1/events: what happens to orders, as server-sent events (WHATWG HTML, section 9.2)."""

import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Header, Query

from yunhe.core.errors import InvalidInput, YunheError
from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.orders import feed, views
from yunhe.hub.orders.feed import MAX_ID, Cursor, Event, Feed
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.streams import BEAT_S, MAX_STREAM_MS, RETRY_MS, EventStream, Slots
from yunhe.wire.message import NO_NUL

KEY_CHECK_S = 5.0  # a revoked key ends its stream within this and the time that keys are kept in memory

_ID = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)


def router(platform: Platform, accounts: Accounts, source: Feed) -> APIRouter:
    api = APIRouter(tags=["orders"])
    slots = Slots(platform.settings.event_streams, platform.settings.event_streams_per_organisation)
    Caller = Annotated[Principal, Depends(accounts.require("customer", "provider"))]

    @api.get("/v1/events", response_class=EventStream, status_code=HTTPStatus.OK)
    async def events(
        who: Caller,
        order: Annotated[str | None, Query(max_length=80, pattern=NO_NUL)] = None,
        after: Annotated[str | None, Query(max_length=40)] = None,
        timeout_ms: Annotated[int, Query(ge=0, le=MAX_STREAM_MS)] = MAX_STREAM_MS,
        last_event_id: Annotated[str | None, Header(max_length=40)] = None,
        authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
    ) -> EventStream:
        """Server-sent events, each an EventView: of one's own orders, for providers of leases at their sites; of all or
        of one `order`.

        They come behind the event `Last-Event-ID`, or `after`, without a gap (`0-0`: an order's whole way); without
        either from now on. An id without data is a place to go on from, too.
        """
        field = "after" if last_event_id is None else "Last-Event-ID"
        given = _cursor(after if last_event_id is None else last_event_id, field)

        def begin(conn: sa.Connection) -> Cursor:
            if order is not None and who.role != "provider":
                views.check_sees(conn, who, order)
            end = feed.head(conn)
            if given is None:
                return end
            _check(given <= end, field, "nothing has this id", "without one the events from now on come")
            if order is None:
                since_ms = platform.clock.now_ms() - platform.settings.events_back_ms
                late = feed.page(conn, given, source.providers, limit=1)
                far = all(event.view.at_utc_ms >= since_ms for event in late)
                _check(far, field, "this lies too far back", "look at GET /v1/orders, then at the events from now on")
            return given

        start = await platform.read(begin)
        stream = _Stream(platform, source, who, order, start, time.monotonic() + timeout_ms / 1000)
        return EventStream(slots, who.organisation, stream.blocks(lambda: accounts.principal(authorization)))

    return api


@dataclass
class _Stream:
    """One caller's. While it waits it is a place in the log and a waiter, nothing more."""

    platform: Platform
    source: Feed
    who: Principal
    order_id: str | None
    cursor: Cursor
    until: float  # monotonic, s

    async def blocks(self, check_key: Callable[[], Awaitable[Principal]]) -> AsyncGenerator[bytes, None]:
        """Ends when the hub stops, the time is over, or the key is worth nothing any more."""
        beaten = checked = time.monotonic()
        with self.source.watching() as waiter:
            yield f"retry: {RETRY_MS}\n{self._place()}".encode()
            while not self.platform.signals.closing and (now := time.monotonic()) < self.until:
                waiter.rearm()
                try:
                    if now - checked >= KEY_CHECK_S:
                        checked = now
                        await check_key()
                    found = await self._next()
                except YunheError:
                    return  # whoever comes back is told why
                shown = [event for event in found if self._is_for_it(event)]
                if shown or now - beaten >= BEAT_S:
                    beaten = now
                    yield ("".join(map(_block, shown)) or self._place()).encode()
                if not found:
                    await waiter.wait(min(feed.RECHECK_S, self.until - now))

    async def _next(self) -> Sequence[Event]:
        """From memory; what lies farther back from the table, until memory goes on. Moves the place."""
        kept = self.source.after(self.cursor)
        if kept is not None:
            found, self.cursor = kept
            return found
        end = self.source.end
        read = await self.platform.read(
            lambda conn: feed.page(conn, self.cursor, self.source.providers, order_id=self.order_id)
        )
        if len(read) == feed.PAGE:
            self.cursor = read[-1].cursor
        else:  # the rest, also of what memory held when the reading began
            self.cursor = max(self.cursor, read[-1].cursor if read else feed.START, end or feed.START)
        return read

    def _is_for_it(self, event: Event) -> bool:
        return event.seen_by(self.who) and self.order_id in (None, event.view.order_id)

    def _place(self) -> str:
        """An id without data: where to go on from, although nothing happened. It keeps the connection alive, too."""
        return f"id: {self.cursor}\n\n"


def _block(event: Event) -> str:
    return f"id: {event.cursor}\nevent: {event.view.kind}\ndata: {event.view.model_dump_json()}\n\n"


def _cursor(text: str | None, field: str) -> Cursor | None:
    if text is None:
        return None
    found = _ID.fullmatch(text)
    _check(found is not None, field, f"{text[:40]!r} is no event's id", "an id is two numbers, such as 812-40")
    assert found is not None
    numbers = Cursor(int(found[1]), int(found[2]))
    _check(max(numbers) <= MAX_ID, field, "nothing has this id", "without one the events from now on come")
    return numbers


def _check(fine: bool, field: str, message: str, hint: str) -> None:
    if not fine:
        raise InvalidInput(message, field=field, hint=hint)
