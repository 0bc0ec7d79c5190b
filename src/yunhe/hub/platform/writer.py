"""Group commit: one thread takes whatever queued while the last commit ran, and commits it as one transaction.

There is no timer: alone, a write goes at once; under load the groups grow by themselves.  A handler gets all its
items of the group and gives one result (or one YunheError, a refusal) for each.  If the group fails as a whole, its
items are run again one by one, so that one bad item harms no other.  Answers go out after COMMIT.

When the connection breaks during COMMIT nobody knows whether it happened.  Each group therefore leaves a marker row
in its transaction; after a reconnect the marker tells, and the group is answered or run again, never twice.
"""

import asyncio
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from yunhe.core.errors import Unavailable, YunheError
from yunhe.hub.platform.clock import Clock
from yunhe.hub.platform.db import Database, metadata, storage_error
from yunhe.hub.platform.signals import Signals

log = logging.getLogger(__name__)

Item = TypeVar("Item")
R = TypeVar("R")

MAX_GROUP = 2_000
MAX_QUEUE = 20_000
RETRIES = 6
RETRY_S = 0.05
MARKER_KEEP_MS = 600_000

commit_marker = sa.Table(
    "commit_marker",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False, index=True),
)


@dataclass
class Tx:
    """One write transaction. `notify` wakes the waiters of a topic after COMMIT, here and at other replicas."""

    conn: sa.Connection
    now_ms: int
    topics: set[str] = field(default_factory=set)

    def notify(self, topic: str) -> None:
        self.topics.add(topic)


Handler = Callable[[Tx, Sequence[Item]], Sequence[R | YunheError]]
CrashPoint = Callable[[str], None]


def no_crash(_name: str) -> None:
    """The crash point of a healthy process."""


@dataclass
class _Job:
    handler: Handler[Any, Any]
    item: Any
    done: Callable[[Any], None]


class Writer:
    def __init__(self, db: Database, clock: Clock, signals: Signals, crash_point: CrashPoint = no_crash) -> None:
        self._db = db
        self._clock = clock
        self._signals = signals
        self._crash_point = crash_point
        self._queue: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._markers_swept_ms = 0

    # --- callers ----------------------------------------------------------------------------------------------

    async def do(self, handler: Handler[Item, R], item: Item) -> R:
        """Run `handler` on `item` inside the next group. Raises the item's refusal, or what broke the write."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._put(_Job(handler, item, lambda outcome: _settle_later(loop, future, outcome)))
        result: R = await future
        return result

    def do_blocking(self, handler: Handler[Item, R], item: Item, timeout_s: float = 30) -> R:
        """The same from a plain thread (start-up, tests)."""
        done = threading.Event()
        box: list[Any] = []

        def finish(outcome: Any) -> None:
            box.append(outcome)
            done.set()

        self._put(_Job(handler, item, finish))
        if not done.wait(timeout_s):
            raise Unavailable("the write did not finish in time")
        if isinstance(box[0], BaseException):
            raise box[0]
        result: R = box[0]
        return result

    def _put(self, job: _Job) -> None:
        with self._wake:
            if self._stopping:
                raise Unavailable("the hub is stopping", hint="try again")
            if len(self._queue) >= MAX_QUEUE:
                raise Unavailable("the hub has too many writes waiting", hint="try again in a few seconds")
            self._queue.append(job)
            self._wake.notify()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="yunhe-writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Commit what is queued, then end."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout=30)

    # --- the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._stopping:
                    self._wake.wait()
                if not self._queue:
                    return
                group = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_GROUP))]
            self._run_group(group)

    def _run_group(self, group: list[_Job]) -> None:
        try:
            outcomes = self._commit(group)
        except Exception as error:  # noqa: BLE001 - whatever broke is every waiting caller's answer
            if len(group) > 1:
                log.info("a group of %d writes failed (%s): running them singly", len(group), error)
                for job in group:
                    self._run_group([job])
                return
            outcomes = [self._retry_single(group[0], error)]
        for job, outcome in zip(group, outcomes, strict=True):
            job.done(outcome)

    def _retry_single(self, job: _Job, error: Exception) -> Any:
        for attempt in range(RETRIES):
            if not _transient(error):
                break
            time.sleep(RETRY_S * 2**attempt)
            try:
                return self._commit([job])[0]
            except Exception as again:  # noqa: BLE001
                error = again
        known = storage_error(error) if isinstance(error, sa.exc.DBAPIError) else None
        if known is None and not isinstance(error, YunheError):
            log.error("a write failed", exc_info=error)
        return known or error

    def _commit(self, group: list[_Job]) -> list[Any]:
        """One transaction for the whole group; raises when nothing was committed."""
        now_ms = self._clock.now_ms()
        marker = None if self._db.is_sqlite else uuid.uuid4().hex
        with self._db.write_engine.connect() as conn:
            transaction = conn.begin()
            tx = Tx(conn, now_ms)
            try:
                outcomes = self._apply(tx, group)
                if marker is not None:
                    self._mark(conn, marker, now_ms)
                self._crash_point("writer.before_commit")
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except sa.exc.DBAPIError:
                if marker is None or not self._was_committed(marker):
                    raise
        self._crash_point("writer.after_commit")
        if tx.topics:
            self._signals.fire_from_thread(tx.topics)
        return outcomes

    @staticmethod
    def _apply(tx: Tx, group: list[_Job]) -> list[Any]:
        outcomes: list[Any] = [None] * len(group)
        by_handler: dict[Handler[Any, Any], list[int]] = {}
        for index, job in enumerate(group):
            by_handler.setdefault(job.handler, []).append(index)
        for handler, indices in by_handler.items():
            results = handler(tx, [group[i].item for i in indices])
            for index, result in zip(indices, results, strict=True):
                outcomes[index] = result
        return outcomes

    def _mark(self, conn: sa.Connection, marker: str, now_ms: int) -> None:
        conn.execute(commit_marker.insert(), {"id": marker, "at_ms": now_ms})
        if now_ms - self._markers_swept_ms > MARKER_KEEP_MS:
            self._markers_swept_ms = now_ms
            conn.execute(commit_marker.delete().where(commit_marker.c.at_ms < now_ms - MARKER_KEEP_MS))
        # Payload-free, one per group, delivered by the server only if the group commits.
        conn.exec_driver_sql("NOTIFY yunhe")

    def _was_committed(self, marker: str) -> bool:
        """After a broken COMMIT. Waits for the server to come back; when it does not, the answer is unknown: raise."""
        for attempt in range(RETRIES * 2):
            try:
                with self._db.read_engine.connect() as conn:
                    found = conn.execute(sa.select(commit_marker.c.id).where(commit_marker.c.id == marker)).first()
                return found is not None
            except sa.exc.DBAPIError:
                time.sleep(min(RETRY_S * 2**attempt, 2))
        raise Unavailable("the database went away during COMMIT", hint="ask again with the same Idempotency-Key")


def _transient(error: Exception) -> bool:
    """Worth running again: deadlock, serialisation, lock time-out, lost connection, a room's own "not now"."""
    if not isinstance(error, sa.exc.DBAPIError):
        return type(error) is Unavailable
    known = storage_error(error)
    state = getattr(error.orig, "sqlstate", None) or ""
    return state in ("40001", "40P01", "55P03") or (known is not None and type(known) is Unavailable)


def _settle_later(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], outcome: Any) -> None:
    def settle() -> None:
        if future.done():  # the caller went away; what was written stays written
            return
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
