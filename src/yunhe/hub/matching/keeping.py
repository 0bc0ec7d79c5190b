"""The newest rounds are kept in the database, as they were decided, so that people can look at them.

A round only hands over what it has; it is written a moment later, beside the work.  After each writing this rests a
hundred times as long as it took, so that keeping rounds takes a hundredth of one core at most, however busy the hub is.
What comes in faster than it can be kept is left out, oldest first, and said so in the log.

Found, on one core of an EPYC: with 16 sites and some 100 orders a round 0.6 ms a round, the database's part included:
0.5 % of the hub's CPU at 300 to 400 orders settled a second, no fewer than without.  With a nation (7,000 sites, 20,000
pools, 10,000 orders, rounds of 2.6 s CPU) 100 ms where all orders are new, 35 ms where they were there before, and 160
ms more when a site or a pool has changed.
"""

import asyncio
import hashlib
import logging
import time
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from yunhe.core.errors import YunheError
from yunhe.core.supply import Supply
from yunhe.hub.matching import store
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.writer import Tx
from yunhe.wire.rounds import STAYING, RecordedRound, ShapeTexts, rest_part, supply_part

log = logging.getLogger(__name__)

PAUSE_S = 1.0
REST_TIMES = 100
MAX_REST_S = 600.0
PENDING_ROUNDS = 1_000
PENDING_ROWS = 200_000  # orders and pools of the rounds that wait to be written: bounds what they hold in memory
PER_TRANSACTION = 100
SLACK = 10
LEVEL = 1  # of zlib: half of the bytes for a tenth of the time


@dataclass(frozen=True, slots=True)
class Decided:
    """A round and how it went. `placed`: tasks, when its plan was committed."""

    recorded: RecordedRound
    cause: str
    placed: int
    took_ms: float

    @property
    def rows(self) -> int:
        snapshot = self.recorded.snapshot
        return len(snapshot.queue.ids) + len(snapshot.supply.pools)


@dataclass(frozen=True, slots=True)
class _Written:
    supplies: dict[str, bytes]  # that the rounds were decided on
    rounds: list[dict[str, object]]
    spent_s: float


class Keeper:
    """One per process; only the leader's has something to keep."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        settings = platform.settings
        self._most, self._most_bytes = settings.round_keep, settings.round_keep_bytes
        self._pending: deque[Decided] = deque()
        self._pending_rows = 0
        self._left_out = 0
        self.kept = 0
        self.spent_s = 0.0  # CPU time that keeping them took in this process
        self._texts = ShapeTexts()
        self._supply: Supply | None = None
        self._supply_part = ("", b"")  # its hash, and its part as it is stored
        # Written since old ones were forgotten; so large at first that the first writing does.
        self._rounds, self._bytes = self._most, self._most_bytes

    def note(self, decided: Decided) -> None:
        """On the event loop; nothing is copied or written here."""
        if not self._most:
            return
        self._pending.append(decided)
        self._pending_rows += decided.rows
        while len(self._pending) > 1 and (len(self._pending) > PENDING_ROUNDS or self._pending_rows > PENDING_ROWS):
            self._pending_rows -= self._pending.popleft().rows
            self._left_out += 1

    async def run(self) -> None:
        """Until cancelled; what waits then is lost."""
        while True:
            await asyncio.sleep(PAUSE_S)
            spent_s = 0.0
            try:
                for _ in range(0, len(self._pending), PER_TRANSACTION):
                    spent_s += await self._write()
            except YunheError as error:
                log.warning("rounds could not be kept: %s", error)
            except Exception:  # what is only kept to be looked at must not end the hub
                log.exception("rounds could not be kept")
            if self._left_out:
                log.info("%d rounds came faster than they are kept", self._left_out)
                self._left_out = 0
            await asyncio.sleep(min(max(0.0, REST_TIMES * spent_s - PAUSE_S), MAX_REST_S))

    async def _write(self) -> float:
        """Some of them. Returns the CPU time that it took in this process, in seconds."""
        some = [self._pending.popleft() for _ in range(min(len(self._pending), PER_TRANSACTION))]
        self._pending_rows -= sum(decided.rows for decided in some)
        written = await asyncio.to_thread(self._written, some)
        spent_s = written.spent_s + await self._platform.write(self._add, written)
        self.kept += len(some)
        self.spent_s += spent_s
        return spent_s

    def _written(self, some: Sequence[Decided]) -> _Written:
        began = time.thread_time()
        supplies: dict[str, bytes] = {}
        rounds = [
            _row(decided, self._named(decided.recorded.snapshot.supply, supplies), self._texts) for decided in some
        ]
        return _Written(supplies, rounds, time.thread_time() - began)

    def _named(self, supply: Supply, supplies: dict[str, bytes]) -> str:
        """The hash of what stays of a supply, which is put into `supplies`."""
        if self._supply is None or not _same(self._supply, supply):
            part = supply_part(supply)
            self._supply = supply
            self._supply_part = (hashlib.sha256(part).hexdigest(), zlib.compress(part, LEVEL))
        name, part = self._supply_part
        supplies[name] = part
        return name

    def _add(self, tx: Tx, items: Sequence[_Written]) -> list[float]:
        """Writer handler; answers with the CPU time that it took."""
        began = time.thread_time()
        for item in items:
            store.add(tx.conn, item.supplies, item.rounds)
            self._rounds += len(item.rounds)
            self._bytes += sum(int(str(row["bytes"])) for row in item.rounds)
        # A tenth more than is kept may be there for a while: looking through them each second would cost more.
        if self._rounds * SLACK > self._most or self._bytes * SLACK > self._most_bytes:
            store.trim(tx.conn, self._most, self._most_bytes)
            self._rounds, self._bytes = 0, 0
        return [(time.thread_time() - began) / len(items)] * len(items)


def _same(a: Supply, b: Supply) -> bool:
    """But for what is free. Equal sites and pools are the same objects from round to round, so this is soon told."""
    return all(getattr(a, name) == getattr(b, name) for name in STAYING)


def _row(decided: Decided, supply: str, texts: ShapeTexts) -> dict[str, object]:
    recorded = decided.recorded
    plan = recorded.plan
    body = zlib.compress(rest_part(recorded, texts), LEVEL)
    return {
        "at_ms": recorded.now_ms,
        "cause": decided.cause,
        "orders": len(recorded.snapshot.queue.ids),
        "assigned": sum(item.tasks for item in plan.assignments),
        "placed": decided.placed,
        "waiting": plan.waiting,
        "unplaceable": plan.unplaceable,
        "took_ms": decided.took_ms,
        "cost": None if plan.bound is None else plan.bound.cost,
        "least": None if plan.bound is None else plan.bound.least,
        "supply": supply,
        "bytes": len(body),
        "body": body,
    }
