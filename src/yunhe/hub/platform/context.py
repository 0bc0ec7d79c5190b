"""What every room stands on, handed to it by the composition root."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from yunhe.hub.platform.clock import Clock, DatabaseClock, SystemClock
from yunhe.hub.platform.db import Database, database_now_ms
from yunhe.hub.platform.settings import HubSettings
from yunhe.hub.platform.signals import Signals
from yunhe.hub.platform.writer import Handler, Writer

T = TypeVar("T")
Item = TypeVar("Item")
R = TypeVar("R")


@dataclass(frozen=True)
class Platform:
    db: Database
    writer: Writer
    signals: Signals
    clock: Clock
    settings: HubSettings
    readers: ThreadPoolExecutor

    async def read(self, fn: Callable[[sa.Connection], T]) -> T:
        """Run `fn` with a read connection on a thread of the reader pool."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, self.read_blocking, fn)

    def read_blocking(self, fn: Callable[[sa.Connection], T]) -> T:
        with self.db.reading() as conn:
            return fn(conn)

    async def write(self, handler: Handler[Item, R], item: Item) -> R:
        """Run `handler` on `item` in the next group commit; see `writer`."""
        return await self.writer.do(handler, item)


def open_platform(settings: HubSettings, clock: Clock, crash_point: Callable[[str], None]) -> Platform:
    """Engines, writer (not started) and signals for one hub process.

    Replicas on PostgreSQL go by the database's clock instead of their machine's. Raises Unavailable without it.
    """
    db = Database(settings.database_url, settings.read_connections)
    signals = Signals()
    if isinstance(clock, SystemClock) and not db.is_sqlite:
        with db.reading() as conn:
            clock = DatabaseClock(database_now_ms(conn))
    return Platform(
        db=db,
        writer=Writer(db, clock, signals, crash_point),
        signals=signals,
        clock=clock,
        settings=settings,
        readers=ThreadPoolExecutor(settings.read_connections, thread_name_prefix="yunhe-reader"),
    )
