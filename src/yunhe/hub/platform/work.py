"""What one room leaves for another to do, as durable rows written in the transaction of their cause.

A row is (room, key, due).  A consumer deletes the rows that it takes and does the work in the same transaction, so the
work happens once however many replicas look: the second DELETE finds nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

import orjson
import sqlalchemy as sa

from yunhe.core.errors import YunheError
from yunhe.hub.platform import bulk
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.db import metadata
from yunhe.hub.platform.writer import Tx

log = logging.getLogger(__name__)

IDLE_S = 1.0  # a hint may be lost; due rows are found at the latest after this
BATCH = 500
RETRY_MS = 1_000
MAX_RETRY_MS = 300_000

work = sa.Table(
    "work",
    metadata,
    sa.Column("room", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("due_ms", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Index("ix_work_room_due", "room", "due_ms"),
)

_ONE_OF = sa.and_(work.c.room == sa.bindparam("room"), bulk.any_of(work.c.key))
_FREE = sa.select(work.c.key).where(_ONE_OF).order_by(work.c.key).with_for_update(skip_locked=True)
_DELETE = sa.delete(work).where(_ONE_OF)
# A range instead of LIKE: the same plan on both databases, whatever the collation's LIKE does.
_LEFT = """
SELECT p.value FROM {prefixes} WHERE EXISTS (
    SELECT 1 FROM work WHERE room = {room} AND key >= p.value AND key < p.value || {last})
"""
_LEFT_SQLITE = _LEFT.format(prefixes="json_each(?) AS p", room="?", last="char(1114111)")
_LEFT_POSTGRESQL = _LEFT.format(prefixes="json_array_elements_text(%s) AS p(value)", room="%s", last="chr(1114111)")

Consumer = Callable[[Tx, Sequence[str]], None]


def topic(room: str) -> str:
    return f"work:{room}"


def put(tx: Tx, room: str, keys: Iterable[str], due_ms: int) -> None:
    """Leave work for `room`; a key that is there already stays as it is."""
    bulk.insert(tx.conn, work, [{"room": room, "key": key, "due_ms": due_ms} for key in keys], ignore=True)
    tx.notify(topic(room))


def leaving(tx: Tx, room: str, keys: Iterable[str], due_ms: int) -> bulk.Insert:
    """As `put`, for `bulk.write` together with other changes."""
    rows = [{"room": room, "key": key, "due_ms": due_ms} for key in keys]
    if rows:
        tx.notify(topic(room))
    return bulk.Insert(work, rows, ignore=True)


def left(conn: sa.Connection, room: str, key_prefixes: Iterable[str]) -> set[str]:
    """Which of the prefixes still have work rows."""
    prefixes = orjson.dumps(list(key_prefixes)).decode()
    if conn.dialect.name == "sqlite":
        return {prefix for (prefix,) in conn.exec_driver_sql(_LEFT_SQLITE, (prefixes, room))}
    return {prefix for (prefix,) in conn.exec_driver_sql(_LEFT_POSTGRESQL, (prefixes, room))}


def take(tx: Tx, room: str, keys: Sequence[str]) -> list[str]:
    """Delete the rows and return the keys that this transaction deleted, in order.

    Rows that another replica is about to delete are passed over rather than waited for.
    """
    taken = set(tx.conn.scalars(_FREE, {"room": room, "ids": sorted(keys)}).all())
    if taken:
        tx.conn.execute(_DELETE, {"room": room, "ids": sorted(taken)})
    return [key for key in keys if key in taken]


def _due(conn: sa.Connection, room: str, now_ms: int) -> list[str]:
    statement = sa.select(work.c.key).where(work.c.room == room, work.c.due_ms <= now_ms)
    return list(conn.scalars(statement.order_by(work.c.due_ms, work.c.key).limit(BATCH)).all())


class WorkLoop:
    """Runs `consume(tx, keys)` over the due rows of one room until cancelled."""

    def __init__(self, platform: Platform, room: str, consume: Consumer) -> None:
        self._platform = platform
        self._room = room
        self._consume = consume

    async def run(self) -> None:
        with self._platform.signals.waiting(topic(self._room)) as waiter:
            while True:
                waiter.rearm()
                try:
                    done = await self._once()
                except YunheError as error:
                    log.warning("work of %s waits: %s", self._room, error)
                    done = 0
                if not done:
                    await waiter.wait(IDLE_S)

    async def _once(self) -> int:
        platform, room = self._platform, self._room
        now_ms = platform.clock.now_ms()
        keys = await platform.read(lambda conn: _due(conn, room, now_ms))
        if not keys:
            return 0
        try:
            return await platform.write(self._apply, tuple(keys))
        except YunheError:
            raise
        except Exception:
            log.exception("work of %s failed for a batch of %d: trying them singly", room, len(keys))
            await asyncio.sleep(0)
            for key in keys:
                await self._single(key)
        return len(keys)

    def _apply(self, tx: Tx, batches: Sequence[tuple[str, ...]]) -> list[int]:
        """Writer handler: how many rows were done."""
        done = []
        for keys in batches:
            taken = take(tx, self._room, keys)
            if taken:
                self._consume(tx, taken)
            done.append(len(taken))
        return done

    async def _single(self, key: str) -> None:
        try:
            await self._platform.write(self._apply, (key,))
        except YunheError:
            raise
        except Exception:
            log.exception("work %s of %s failed; it will be tried again", key, self._room)
            await self._platform.write(self._postpone, key)

    def _postpone(self, tx: Tx, keys: Sequence[str]) -> list[None]:
        for key in keys:
            row = tx.conn.execute(
                sa.update(work)
                .where(work.c.room == self._room, work.c.key == key)
                .values(attempts=work.c.attempts + 1)
                .returning(work.c.attempts)
            ).first()
            if row is not None:
                due_ms = tx.now_ms + min(MAX_RETRY_MS, RETRY_MS * 2 ** min(row.attempts, 10))
                tx.conn.execute(
                    sa.update(work).where(work.c.room == self._room, work.c.key == key).values(due_ms=due_ms)
                )
        return [None] * len(keys)
