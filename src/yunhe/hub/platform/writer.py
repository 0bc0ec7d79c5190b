"""Group commit: one thread takes whatever queued while the last commit ran, and commits it as one transaction.

There is no timer: alone, a write goes at once; under load the groups grow by themselves.  A handler gets all its
items of the group and gives one result (or one YunheError, a refusal) for each.  If the group fails as a whole, its
items are run again one by one, so that one bad item harms no other.  Answers go out after COMMIT.  What fails by bad
luck (a deadlock, a lost connection) is run again as a group first.

When the connection breaks during COMMIT nobody knows whether it happened.  Each group therefore leaves a marker row
in its transaction; after a reconnect the marker tells, and the group is answered or run again, never twice.
"""

import asyncio
import contextlib
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
from yunhe.hub.platform.db import POSTGRESQL_NOW_MS, Database, insert_ignore, metadata, storage_error
from yunhe.hub.platform.signals import Signals

log = logging.getLogger(__name__)

Item = TypeVar("Item")
R = TypeVar("R")

MAX_GROUP = 2_000
MAX_QUEUE = 20_000
RETRIES = 6
RACE_RETRIES = 3  # a race that is lost again and again is no race
RETRY_S = 0.05
MARKER_KEEP_MS = 600_000
CLAIMED = -1  # `at_ms` of a marker that was written after a broken COMMIT, in the place of the group's own
UNKNOWN_S = 30.0  # how long a broken COMMIT waits for the database to come back
# Serialisation, deadlock, lock time-out, and a row that another replica inserted first (40001 40P01 55P03 23505):
# the next look finds what the other left.
RACES = frozenset({"40001", "40P01", "55P03", "23505"})

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


class _OutcomeUnknown(Exception):
    """A group may or may not be committed."""


@dataclass
class _Job:
    handler: Handler[Any, Any]
    item: Any
    done: "Callable[[Any], None] | _Waiting"


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A caller on an event loop."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


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
        self._put(_Job(handler, item, _Waiting(loop, future)))
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
        error: Exception | None = None
        for attempt in range(RETRIES + 1):
            try:
                outcomes = self._commit(group)
            except _OutcomeUnknown:
                # Running it again could do it twice.
                self._answer(group, [_unknown() for _ in group])
                return
            except Exception as caught:  # noqa: BLE001 - whatever broke is every waiting caller's answer
                error = caught
                if not _transient(caught) or (attempt >= RACE_RETRIES and not _away(caught)):
                    break
                time.sleep(RETRY_S * 2**attempt)
            else:
                self._answer(group, outcomes)
                return
        assert error is not None
        if len(group) > 1 and not _away(error):
            log.info("a group of %d writes failed (%s): running them singly", len(group), error)
            for job in group:
                self._run_group([job])
            return
        if not isinstance(error, YunheError):
            log.error("a write failed", exc_info=error)
        self._answer(group, [_refusal(error) for _ in group])

    @staticmethod
    def _answer(group: list[_Job], outcomes: Sequence[Any]) -> None:
        waiting: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
        for job, outcome in zip(group, outcomes, strict=True):
            if isinstance(job.done, _Waiting):
                waiting.setdefault(job.done.loop, []).append((job.done.future, outcome))
            else:
                job.done(outcome)
        for loop, answers in waiting.items():
            # One wake-up for all of them. The loop may be closing: then nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, answers)

    def _commit(self, group: list[_Job]) -> list[Any]:
        """One transaction for the whole group; raises when nothing was committed, _OutcomeUnknown when nobody knows."""
        marker = None if self._db.is_sqlite else uuid.uuid4().hex
        conn = self._db.write_engine.connect()
        try:
            transaction = conn.begin()
            tx = Tx(conn, self._clock.now_ms())
            try:
                outcomes = self._apply(tx, group)
                if marker is not None:
                    self._mark(conn, marker)
                self._crash_point("writer.before_commit")
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except sa.exc.DBAPIError:
                if marker is None or not self._was_committed(marker):
                    raise
        finally:
            _give_back(conn)
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

    def _mark(self, conn: sa.Connection, marker: str) -> None:
        # By the database's clock: a replica whose own clock is wrong must not sweep the others' markers.
        insert = commit_marker.insert().values(id=marker, at_ms=sa.text(POSTGRESQL_NOW_MS))
        now_ms = conn.scalar(insert.returning(commit_marker.c.at_ms)) or 0
        if abs(now_ms - self._markers_swept_ms) > MARKER_KEEP_MS:
            self._markers_swept_ms = now_ms
            conn.execute(commit_marker.delete().where(commit_marker.c.at_ms < now_ms - MARKER_KEEP_MS))
        # Payload-free, one per group, delivered by the server only if the group commits.
        conn.exec_driver_sql("NOTIFY yunhe")

    def _was_committed(self, marker: str) -> bool:
        """After a broken COMMIT: take the marker's place, which waits for a COMMIT still under way at the server.

        When the server does not come back in time, the answer is unknown: raises _OutcomeUnknown.
        """
        until = time.monotonic() + UNKNOWN_S
        while True:
            try:
                with self._db.write_engine.connect() as conn:
                    insert_ignore(commit_marker).execute(conn, [{"id": marker, "at_ms": CLAIMED}])
                    conn.commit()
                    row = conn.execute(sa.select(commit_marker.c.at_ms).where(commit_marker.c.id == marker)).first()
                return row is not None and row.at_ms != CLAIMED
            except sa.exc.DBAPIError as error:
                if time.monotonic() > until:
                    log.error("the database went away during COMMIT and did not come back: %s", error)
                    raise _OutcomeUnknown from error
                time.sleep(RETRY_S * 4)


def _give_back(conn: sa.Connection) -> None:
    """To the pool. A connection that broke meanwhile must not make a committed group look failed."""
    try:
        conn.close()
    except sa.exc.SQLAlchemyError as error:
        log.warning("a database connection could not be given back: %s", error)


def _unknown() -> Unavailable:
    return Unavailable("the database went away during COMMIT", hint="ask again with the same Idempotency-Key")


def _away(error: Exception) -> bool:
    """The database itself cannot be reached: asking once per write would only take longer."""
    if not isinstance(error, sa.exc.DBAPIError) or _sqlstate(error) in RACES:
        return False
    return type(storage_error(error)) is Unavailable


def _refusal(error: Exception) -> Exception:
    """An answer of its own for one caller."""
    known = storage_error(error) if isinstance(error, sa.exc.DBAPIError) else None
    return known or error


def _sqlstate(error: sa.exc.DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _transient(error: Exception) -> bool:
    """Worth running again: another writer was faster, a lost connection, a room's own "not now"."""
    if not isinstance(error, sa.exc.DBAPIError):
        return type(error) is Unavailable
    return _sqlstate(error) in RACES or type(storage_error(error)) is Unavailable


def _settle(answers: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in answers:
        if future.done():  # the caller went away; what was written stays written
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
