"""The log of facts as it grows, read once per process for however many streams there are.

Its order is (xact, id). On PostgreSQL an id may be committed after a larger one; but the number of a transaction that
writes is above those of all that have ended, so what lies below the oldest one in flight is complete and stays as it
is. Readers stop there. On SQLite there is one writer, and `xact` is 0.
"""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from yunhe.core.errors import YunheError
from yunhe.hub.accounts.service import Principal
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.orders import store, views
from yunhe.hub.orders.tasks import FACTS
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.signals import Waiter
from yunhe.wire.api import EventView

log = logging.getLogger(__name__)

EVENTS = "events"  # topic: there is more in the feed
PAGE = 500  # rows of one read
KEPT = 4_000  # events in memory: streams that are less far behind read no rows
AT_START = 1_000  # of them, how many of the past: after a restart most streams come back at once
PAUSE_S = 0.2  # between reads: under load, streams wake up so often
RECHECK_S = 1.0  # a hint may be lost, or come while an older transaction is in flight
MAX_ID = 2**63 - 1
RESTORED = "facts were restored from another server's dump: UPDATE fact SET xact = 0, while no hub runs"

_fact = store.fact.c
# All transactions below it have ended.
_OLDEST = sa.cast(sa.cast(sa.func.pg_snapshot_xmin(sa.func.pg_current_snapshot()), sa.Text), sa.BigInteger)


class Cursor(NamedTuple):
    """A place in the log: behind the fact with these numbers."""

    xact: int
    id: int

    def __str__(self) -> str:
        return f"{self.xact}-{self.id}"


START = Cursor(0, 0)


@dataclass(frozen=True, slots=True)
class Event:
    """A fact, whose it is, and at whose site it happened."""

    cursor: Cursor
    org: str
    provider: str | None
    view: EventView

    def seen_by(self, who: Principal) -> bool:
        """Customers see what happens to their orders, providers what happens at their sites."""
        mine = self.provider if who.role == "provider" else self.org
        return who.sees_all or mine == who.organisation


def head(conn: sa.Connection) -> Cursor:
    """The end of what is complete: what comes now lies behind it."""
    if conn.dialect.name == "sqlite":
        return Cursor(0, conn.scalar(sa.select(sa.func.max(_fact.id))) or 0)
    return Cursor(int(conn.scalar(sa.select(_OLDEST)) or 0) - 1, MAX_ID)


def is_foreign(conn: sa.Connection) -> bool:
    """Whether there are facts of transactions that this server has not had: they were restored from another's dump."""
    if conn.dialect.name == "sqlite":
        return False
    newest = sa.cast(sa.cast(sa.func.pg_snapshot_xmax(sa.func.pg_current_snapshot()), sa.Text), sa.BigInteger)
    return conn.execute(sa.select(_fact.id).where(_fact.xact >= newest).limit(1)).first() is not None


def page(
    conn: sa.Connection, after: Cursor, providers: dict[str, str], *, order_id: str | None = None, limit: int = PAGE
) -> list[Event]:
    """The next events behind `after`, of all orders or of one. `providers`: what is known of them, by site."""
    query = (
        sa.select(store.fact)
        .where(sa.tuple_(_fact.xact, _fact.id) > sa.tuple_(*after), *_complete(conn))
        .order_by(_fact.xact, _fact.id)
        .limit(limit)
    )
    rows = conn.execute(query if order_id is None else query.where(_fact.order_id == order_id)).all()
    # By key, not by joins: a planner that expects more rows than a page reads whole tables for them.
    orders = views.keys(conn, [row.order_id for row in rows])
    placed = views.placements(conn, [row.lease_id for row in rows if row.lease_id])
    sites = {attempt: place.site_id for attempt, place in placed.items()}
    for site_id in set(sites.values()) - providers.keys():
        providers[site_id] = catalogue.site(conn, site_id).provider
    return [_event(row, orders[row.order_id].org, sites.get((row.lease_id, row.epoch)), providers) for row in rows]


def _complete(conn: sa.Connection) -> tuple[sa.ColumnElement[bool], ...]:
    return () if conn.dialect.name == "sqlite" else (_fact.xact < _OLDEST,)


def _event(row: sa.Row[Any], org: str, site_id: str | None, providers: dict[str, str]) -> Event:
    cursor = Cursor(row.xact, row.id)
    view = EventView(
        id=str(cursor),
        at_utc_ms=row.at_ms,
        order_id=row.order_id,
        lease_id=row.lease_id,
        epoch=row.epoch,
        kind=row.kind,
        detail=row.detail,
        site_id=site_id,
    )
    return Event(cursor, org, providers[site_id] if site_id else None, view)


def _near_end(conn: sa.Connection) -> Cursor:
    """A place with `AT_START` events behind it, or the log's start."""
    query = sa.select(_fact.xact, _fact.id).where(*_complete(conn)).order_by(_fact.xact.desc(), _fact.id.desc())
    row = conn.execute(query.offset(AT_START).limit(1)).first()
    return START if row is None else Cursor(row.xact, row.id)


class Feed:
    """The newest events, without a gap. It reads only while somebody watches."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._watching = 0
        self._events: list[Event] = []
        self._begin = self._end = START  # all events between the two are there
        self._warm = False
        self.providers: dict[str, str] = {}  # by site; they never change

    @property
    def end(self) -> Cursor | None:
        """How far it has read; None: not at all."""
        return self._end if self._warm else None

    @contextmanager
    def watching(self) -> Iterator[Waiter]:
        self._watching += 1
        try:
            with self._platform.signals.waiting(EVENTS) as waiter:
                self._platform.signals.fire([FACTS])
                yield waiter
        finally:
            self._watching -= 1

    def after(self, cursor: Cursor) -> tuple[list[Event], Cursor] | None:
        """Some of what was read behind `cursor`, and the place behind that; None: it lies before what is kept."""
        if not self._warm or cursor < self._begin:
            return None
        first = bisect_right(self._events, cursor, key=lambda event: event.cursor)
        found = self._events[first : first + PAGE]
        return found, found[-1].cursor if len(found) == PAGE else max(cursor, self._end)

    async def run(self) -> None:
        """Until cancelled."""
        checked = False
        with self._platform.signals.waiting(FACTS) as waiter:
            while True:
                waiter.rearm()
                try:
                    if not checked and await self._platform.read(is_foreign):
                        log.error("the stream of events has gaps: %s", RESTORED)
                    checked = True
                    more = await self._read() if self._watching else self._rest()
                except YunheError as error:
                    log.warning("the stream of events pauses: %s", error)
                    more = False
                if not more:
                    await asyncio.sleep(PAUSE_S)
                    await waiter.wait(RECHECK_S)

    def _rest(self) -> bool:
        self._warm = False
        self._events = []
        return False

    async def _read(self) -> bool:
        """One page; whether there is more."""
        if not self._warm:
            self._begin = self._end = await self._platform.read(_near_end)
            self._events, self._warm = [], True
        read = await self._platform.read(lambda conn: page(conn, self._end, self.providers))
        if read:
            self._events += read
            self._end = read[-1].cursor
            dropped, self._events = self._events[:-KEPT], self._events[-KEPT:]
            self._begin = dropped[-1].cursor if dropped else self._begin
            self._platform.signals.fire([EVENTS])
        return len(read) == PAGE
