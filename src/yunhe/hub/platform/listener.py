"""On PostgreSQL, hears that another replica committed something, and wakes this replica's waiters."""

import asyncio
import logging

import psycopg
from psycopg.conninfo import make_conninfo

from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.db import PG_CONNECT_S, PG_KEEPALIVE

log = logging.getLogger(__name__)

RECONNECT_S = 1.0
DEBOUNCE_S = 0.005  # many groups of a busy replica make one wake-up of the loops
ALL_S = 0.25  # and of everybody who waits for one order: there may be thousands of them
QUIET_S = 30.0  # then ask whether the server is there at all


class _Hints:
    """Wakes the loops at once, everybody else at most a few times a second."""

    def __init__(self, platform: Platform) -> None:
        self._signals = platform.signals
        self._pending = False

    def fire(self) -> None:
        self._signals.fire_shared()
        if not self._pending:
            self._pending = True
            asyncio.get_running_loop().call_later(ALL_S, self._fire_all)

    def _fire_all(self) -> None:
        self._pending = False
        self._signals.fire_all()


async def listen(platform: Platform) -> None:
    """Run until cancelled. Nothing to do on SQLite: there is one process."""
    if platform.db.is_sqlite:
        return
    url = platform.db.url.replace("postgresql+psycopg://", "postgresql://")
    address = make_conninfo(url, connect_timeout=PG_CONNECT_S, **PG_KEEPALIVE)
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(address, autocommit=True) as conn:
                await _hear(conn, platform)
        except (psycopg.Error, OSError) as error:
            log.warning("not listening to the database right now: %s", error)
        await asyncio.sleep(RECONNECT_S)


async def _hear(conn: psycopg.AsyncConnection[tuple[object, ...]], platform: Platform) -> None:
    hints, own = _Hints(platform), platform.db.own_backends
    await conn.execute("LISTEN yunhe")
    hints.fire()  # what was missed while not listening
    while True:
        heard = [notice.pid async for notice in conn.notifies(timeout=QUIET_S, stop_after=1)]
        if not heard:
            await conn.execute("SELECT 1")
        if all(pid in own for pid in heard):
            continue
        await asyncio.sleep(DEBOUNCE_S)
        async for _ in conn.notifies(timeout=0):
            pass  # said by the same wake-up
        hints.fire()
