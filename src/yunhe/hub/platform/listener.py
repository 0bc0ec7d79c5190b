"""On PostgreSQL, hears that another replica committed something, and wakes this replica's waiters."""

import asyncio
import logging

import psycopg

from yunhe.hub.platform.context import Platform

log = logging.getLogger(__name__)

RECONNECT_S = 1.0
DEBOUNCE_S = 0.005  # many groups of a busy replica make one wake-up


async def listen(platform: Platform) -> None:
    """Run until cancelled. Nothing to do on SQLite: there is one process."""
    if platform.db.is_sqlite:
        return
    url = platform.db.url.replace("postgresql+psycopg://", "postgresql://")
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=5) as conn:
                await conn.execute("LISTEN yunhe")
                platform.signals.fire_all()  # what was missed while not listening
                async for notice in conn.notifies():
                    if notice.pid in platform.db.own_backends:
                        continue
                    await asyncio.sleep(DEBOUNCE_S)
                    platform.signals.fire_all()
        except (psycopg.Error, OSError) as error:
            log.warning("not listening to the database right now: %s", error)
        await asyncio.sleep(RECONNECT_S)
