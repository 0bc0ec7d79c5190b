"""Which replica leads. Leading only avoids doing things twice; two leaders at once do no harm (guards decide).

The lease's time is the database's, so that replicas with wrong clocks agree.
"""

import asyncio
import logging
import secrets
from collections.abc import Sequence

import sqlalchemy as sa

from yunhe.core.errors import YunheError
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.db import database_now_ms, insert_ignore, metadata
from yunhe.hub.platform.writer import Tx

log = logging.getLogger(__name__)

leadership = sa.Table(
    "leadership",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.Column("term", sa.BigInteger, nullable=False),
)

NAME = "hub"
TOPIC = "leader"


class Leader:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._ttl_ms = platform.settings.leader_ttl_ms
        self.holder = secrets.token_hex(8)
        self.leading = False

    async def run(self) -> None:
        """Hold or seek the lead until cancelled."""
        try:
            while True:
                await self.try_once()
                await asyncio.sleep(self._ttl_ms / 3000)
        finally:
            self.leading = False

    async def try_once(self) -> bool:
        try:
            leading = await self._platform.write(self._renew, None)
        except YunheError as error:
            log.warning("leadership is uncertain, so this replica does not lead: %s", error)
            leading = False
        if leading != self.leading:
            log.info("this replica %s", "leads now" if leading else "no longer leads")
        self.leading = leading
        if leading:
            self._platform.signals.fire((TOPIC,))
        return leading

    def _renew(self, tx: Tx, items: Sequence[None]) -> list[bool]:
        now_ms = database_now_ms(tx.conn)
        self._platform.clock.observe(now_ms)
        values = {"holder": self.holder, "expires_ms": now_ms + self._ttl_ms}
        insert_ignore(leadership).execute(tx.conn, [{"name": NAME, "holder": "", "expires_ms": 0, "term": 0}])
        mine = tx.conn.execute(
            sa.update(leadership).where(leadership.c.name == NAME, leadership.c.holder == self.holder).values(values)
        ).rowcount
        if not mine:
            # On SQLite there is one process: whoever held the lead before is gone. A time that is far ahead was
            # written before the database's clock was set back.
            free = sa.or_(
                sa.literal(self._platform.db.is_sqlite),
                leadership.c.expires_ms < now_ms,
                leadership.c.expires_ms > now_ms + 10 * self._ttl_ms,
            )
            mine = tx.conn.execute(
                sa.update(leadership)
                .where(leadership.c.name == NAME, free)
                .values(term=leadership.c.term + 1, **values)
            ).rowcount
        return [bool(mine)] * len(items)

    async def resign(self) -> None:
        """On a clean stop: the next replica need not wait for the lease to run out."""
        if self.leading:
            self.leading = False
            await self._platform.write(self._give_up, None)

    def _give_up(self, tx: Tx, items: Sequence[None]) -> list[None]:
        tx.conn.execute(sa.update(leadership).where(leadership.c.holder == self.holder).values(expires_ms=0))
        return [None] * len(items)
