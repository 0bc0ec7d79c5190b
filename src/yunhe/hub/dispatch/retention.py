"""Logs, and the signed words behind usage, are kept for `retention_days`; what was used, charged and posted stays.

A durable row of work for each kind goes round: it removes what is old step by step, and is due again a day later.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from yunhe.hub.dispatch import store
from yunhe.hub.dispatch.blobs import Blobs
from yunhe.hub.orders import views
from yunhe.hub.platform import work
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.work import WorkLoop
from yunhe.hub.platform.writer import Tx

RETENTION = "retention"  # the room that its work rows are for
DAY_MS = 86_400_000
STEP = 500  # rows that one transaction removes
EVIDENCE, LOGS = "evidence", "logs:"  # keys; behind the second: logs of attempts that ended before it are gone, UTC ms


class Retention:
    def __init__(self, platform: Platform, blobs: Blobs) -> None:
        self._platform = platform
        self._blobs = blobs
        self._kept_ms = platform.settings.retention_days * DAY_MS

    async def run(self) -> None:
        """Until cancelled; not at all where everything is kept."""
        if self._kept_ms:
            await self._platform.write(begin, None)
            await WorkLoop(self._platform, RETENTION, self.consume).run()

    def consume(self, tx: Tx, keys: Sequence[str]) -> None:
        """Consumer of the room's work rows."""
        before_ms = tx.now_ms - self._kept_ms
        for key in keys:
            if key == EVIDENCE:
                after, more = EVIDENCE, _forget_evidence(tx, before_ms)
            else:
                last_ms, more = self._forget_logs(tx, int(key.removeprefix(LOGS)), before_ms)
                after = f"{LOGS}{last_ms}"
            work.put(tx, RETENTION, [after], tx.now_ms if more else tx.now_ms + DAY_MS)

    def _forget_logs(self, tx: Tx, from_ms: int, before_ms: int) -> tuple[int, bool]:
        """Up to when logs are gone now, and whether more are to go. A file that is gone already is no mistake: the
        transaction may come a second time."""
        before_ms = max(from_ms, before_ms)
        upto_ms = views.nth_end(tx.conn, from_ms, before_ms, STEP)
        for lease_id, epoch in views.ended_between(tx.conn, from_ms, before_ms if upto_ms is None else upto_ms + 1):
            self._blobs.forget_log(lease_id, epoch)
        return (before_ms, False) if upto_ms is None else (upto_ms + 1, True)


def begin(tx: Tx, items: Sequence[None]) -> list[None]:
    """Writer handler: what goes round goes round once, however many replicas start."""
    there = work.left(tx.conn, RETENTION, [EVIDENCE, LOGS])
    first = {EVIDENCE: EVIDENCE, LOGS: f"{LOGS}0"}
    work.put(tx, RETENTION, [key for kind, key in first.items() if kind not in there], tx.now_ms)
    return [None] * len(items)


def _forget_evidence(tx: Tx, before_ms: int) -> bool:
    """Whether more is to go."""
    table = store.evidence
    key = sa.tuple_(table.c.site_id, table.c.epoch, table.c.poll_no)
    old = sa.select(table.c.site_id, table.c.epoch, table.c.poll_no).where(table.c.at_ms < before_ms)
    gone = tx.conn.execute(sa.delete(table).where(key.in_(old.order_by(table.c.at_ms).limit(STEP))))
    return gone.rowcount == STEP
