"""Group commit: one bad item harms no other, a death keeps what was answered, a broken COMMIT is found out."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.hub.conftest import FakeClock
from yunhe.core.errors import Conflict, Unavailable, YunheError
from yunhe.hub.platform import work, writer
from yunhe.hub.platform.context import Platform, open_platform
from yunhe.hub.platform.db import metadata
from yunhe.hub.platform.settings import HubSettings
from yunhe.hub.platform.writer import Tx, no_crash

ROOM = "test"


def put(tx: Tx, keys: Sequence[str]) -> list[str | YunheError]:
    """Writes every key; refuses some, breaks over others."""
    answers: list[str | YunheError] = []
    for key in keys:
        if key.startswith("refused"):
            answers.append(Conflict(f"not {key}"))
            continue
        tx.conn.execute(work.work.insert().values(room=ROOM, key=key, due_ms=0))
        if key.startswith("bad"):
            raise ValueError(key)
        answers.append(key)
    return answers


def keys(platform: Platform) -> list[str]:
    with platform.db.reading() as conn:
        return sorted(conn.scalars(sa.select(work.work.c.key).where(work.work.c.room == ROOM)))


def together(platform: Platform, items: Sequence[str]) -> dict[str, object]:
    """The outcome of each item, all of them in one group: they queue up behind a slow write."""
    busy = threading.Event()

    def slow(tx: Tx, waits: Sequence[None]) -> list[None]:
        busy.set()
        time.sleep(0.3)
        return [None] * len(waits)

    outcomes: dict[str, object] = {}

    def one(key: str) -> None:
        try:
            outcomes[key] = platform.writer.do_blocking(put, key)
        except (YunheError, ValueError, sa.exc.SQLAlchemyError) as error:
            outcomes[key] = error

    first = threading.Thread(target=platform.writer.do_blocking, args=(slow, None))
    first.start()
    busy.wait(5)
    threads = [threading.Thread(target=one, args=(key,)) for key in items]
    for thread in threads:
        thread.start()
    for thread in (first, *threads):
        thread.join(20)
    return outcomes


def test_one_bad_item_harms_no_other_of_its_group(platform: Platform) -> None:
    outcomes = together(platform, ["a", "bad", "b", "refused", "c"])
    assert {key: outcomes[key] for key in "abc"} == {"a": "a", "b": "b", "c": "c"}
    assert isinstance(outcomes["bad"], ValueError) and isinstance(outcomes["refused"], Conflict)
    assert keys(platform) == ["a", "b", "c"]


def test_a_write_that_is_there_already_is_that_callers_alone(platform: Platform) -> None:
    platform.writer.do_blocking(put, "twice")
    outcomes = together(platform, ["a", "twice", "b"])
    assert isinstance(outcomes["twice"], sa.exc.IntegrityError)
    assert keys(platform) == ["a", "b", "twice"]


def test_a_full_queue_refuses_and_a_stop_commits_what_is_queued(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_QUEUE", 2)
    entered, go_on = threading.Event(), threading.Event()

    def wait(tx: Tx, items: Sequence[None]) -> list[None]:
        entered.set()
        go_on.wait(10)
        return [None] * len(items)

    callers = [threading.Thread(target=platform.writer.do_blocking, args=(wait, None))]
    callers[0].start()
    entered.wait(5)
    callers += [threading.Thread(target=platform.writer.do_blocking, args=(put, key)) for key in "ab"]
    for caller in callers[1:]:
        caller.start()
    time.sleep(0.2)
    with pytest.raises(Unavailable, match="too many writes"):
        platform.writer.do_blocking(put, "c")
    go_on.set()
    platform.writer.stop()
    assert keys(platform) == ["a", "b"]
    with pytest.raises(Unavailable, match="stopping"):
        platform.writer.do_blocking(put, "d")


# --- death ----------------------------------------------------------------------------------------------------------

DYING = """
import sys
from yunhe.apps import crash_points
from yunhe.hub.platform.clock import SystemClock
from yunhe.hub.platform.context import open_platform
from yunhe.hub.platform.settings import HubSettings
from tests.hub.test_writer import put

chosen = HubSettings(database_url=sys.argv[1], data_dir="/nonexistent", read_connections=1)
platform = open_platform(chosen, SystemClock(), crash_points.from_environment())
platform.writer.start()
print("answered", platform.writer.do_blocking(put, "mine"), flush=True)
"""


@pytest.mark.parametrize(("point", "kept"), [("writer.before_commit", []), ("writer.after_commit", ["mine"])])
def test_a_death_around_commit(platform: Platform, database_url: str, point: str, kept: list[str]) -> None:
    died = subprocess.run(
        [sys.executable, "-c", DYING, database_url],
        env={**os.environ, "YUNHE_CRASH_POINTS": f"{point}=1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert died.stdout == ""  # nobody was told anything that is not so
    assert keys(platform) == kept


# --- a COMMIT that breaks ---------------------------------------------------------------------------------------------


class Proxy:
    """Between the hub and PostgreSQL. Breaks the connection at the next COMMIT when told to."""

    def __init__(self, host: str, port: int) -> None:
        self.server = (host, port)
        self.cut = ""  # "answer": the COMMIT happens, its answer is lost; "question": cut as soon as it was passed on
        self.closed = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.closed:
                client.close()
                continue
            upstream = socket.create_connection(self.server)
            threading.Thread(target=self._questions, args=(client, upstream), daemon=True).start()
            threading.Thread(target=self._pump, args=(upstream, client), daemon=True).start()

    def _questions(self, client: socket.socket, upstream: socket.socket) -> None:
        while data := _receive(client):
            how = self.cut if b"COMMIT\0" in data else ""
            if how:
                self.cut = ""
                if how == "gone":
                    self.closed = True
                _shut(client)
                if how == "answer":
                    time.sleep(0.1)  # the pump is in the middle of nothing: the server has only just been asked
            upstream.sendall(data)
            if how == "question":
                return
        _shut(upstream)

    @staticmethod
    def _pump(upstream: socket.socket, client: socket.socket) -> None:
        while data := _receive(upstream):
            try:
                client.sendall(data)
            except OSError:
                continue  # nobody hears the answer
        _shut(client)

    def close(self) -> None:
        self.listener.close()


def _receive(end: socket.socket) -> bytes:
    try:
        return end.recv(65_536)
    except OSError:
        return b""


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


@contextmanager
def behind_a_proxy(database_url: str, tmp_path: Path) -> Iterator[tuple[Platform, Proxy]]:
    address = sa.make_url(database_url)
    assert address.host is not None and address.port is not None
    proxy = Proxy(address.host, address.port)
    url = address.set(port=proxy.port).render_as_string(hide_password=False)
    opened = open_platform(HubSettings(database_url=url, data_dir=tmp_path), FakeClock(), no_crash)
    opened.writer.start()
    try:
        yield opened, proxy
    finally:
        proxy.closed = False
        opened.writer.stop()
        opened.readers.shutdown()
        opened.db.close()
        proxy.close()


def counted(calls: list[str]) -> Callable[[Tx, Sequence[str]], list[str | YunheError]]:
    def handler(tx: Tx, items: Sequence[str]) -> list[str | YunheError]:
        calls.extend(items)
        return put(tx, items)

    return handler


@pytest.fixture
def postgresql(platform: Platform, only_postgresql: None) -> Platform:
    return platform


def test_a_commit_whose_answer_was_lost_is_not_run_again(
    postgresql: Platform, database_url: str, tmp_path: Path
) -> None:
    calls: list[str] = []
    with behind_a_proxy(database_url, tmp_path) as (platform, proxy):
        assert platform.writer.do_blocking(counted(calls), "first") == "first"
        proxy.cut = "answer"
        assert platform.writer.do_blocking(counted(calls), "second") == "second"
        assert platform.writer.do_blocking(counted(calls), "third") == "third"
    assert calls == ["first", "second", "third"]
    assert keys(postgresql) == ["first", "second", "third"]


SLOW_COMMIT = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON work DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (left(NEW.key, 4) = 'slow') EXECUTE FUNCTION slow();
"""


def test_a_commit_that_is_still_under_way_is_waited_for(
    postgresql: Platform, database_url: str, tmp_path: Path
) -> None:
    with postgresql.db.write_engine.begin() as conn:
        conn.exec_driver_sql(SLOW_COMMIT)
    calls: list[str] = []
    with behind_a_proxy(database_url, tmp_path) as (platform, proxy):
        proxy.cut = "question"
        assert platform.writer.do_blocking(counted(calls), "slow") == "slow"
    assert (calls, keys(postgresql)) == (["slow"], ["slow"])


def test_a_backend_that_is_killed_during_commit_is_run_again(postgresql: Platform) -> None:
    with postgresql.db.write_engine.begin() as conn:
        conn.exec_driver_sql(SLOW_COMMIT)
    calls: list[str] = []
    answers: list[str] = []
    handler = counted(calls)
    caller = threading.Thread(target=lambda: answers.append(postgresql.writer.do_blocking(handler, "slow")))
    caller.start()
    kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'"
    killed = 0
    until = time.monotonic() + 10
    while not killed and time.monotonic() < until:
        time.sleep(0.05)
        with postgresql.db.read_engine.connect() as conn:
            killed = conn.exec_driver_sql(kill + " AND datname = current_database()").scalar_one()
    caller.join(20)
    assert (killed, calls, answers, keys(postgresql)) == (1, ["slow", "slow"], ["slow"], ["slow"])


def test_a_backend_that_is_killed_before_commit_is_run_again(postgresql: Platform) -> None:
    deaths: list[None] = []

    def dies_once(tx: Tx, items: Sequence[str]) -> list[str | YunheError]:
        answers = put(tx, items)
        if not deaths:
            deaths.append(None)
            tx.conn.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return answers

    assert postgresql.writer.do_blocking(dies_once, "mine") == "mine"
    assert keys(postgresql) == ["mine"]


def test_when_nobody_can_know_the_caller_is_told_so(
    postgresql: Platform, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "UNKNOWN_S", 0.5)
    calls: list[str] = []
    with behind_a_proxy(database_url, tmp_path) as (platform, proxy):
        platform.writer.do_blocking(counted(calls), "first")
        proxy.cut = "gone"
        with pytest.raises(Unavailable, match="went away during COMMIT") as told:
            platform.writer.do_blocking(counted(calls), "second")
        assert "Idempotency-Key" in told.value.hint
        proxy.closed = False
        assert platform.writer.do_blocking(counted(calls), "third") == "third"
    assert calls == ["first", "second", "third"]
    assert [key for key in keys(postgresql) if key != "second"] == ["first", "third"]


def test_a_replica_that_stops_in_a_transaction_gives_its_locks_back(
    postgresql: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was sent SIGSTOP: another replica must get at the rows within seconds."""
    with postgresql.db.write_engine.connect() as stopped:
        stopped.execute(work.work.insert().values(room=ROOM, key="contested", due_ms=0))
        began = time.monotonic()
        with postgresql.db.write_engine.begin() as other:
            other.execute(work.work.insert().values(room=ROOM, key="contested", due_ms=1))
        assert time.monotonic() - began < 8
        with pytest.raises(sa.exc.DBAPIError):
            stopped.commit()
    assert keys(postgresql) == ["contested"]


def test_markers_of_the_past_are_swept_by_the_databases_clock(postgresql: Platform, clock: FakeClock) -> None:
    clock.ms += 365 * 86_400_000  # this replica's clock is a year ahead
    marker = writer.commit_marker
    with postgresql.db.write_engine.begin() as conn:
        conn.execute(marker.insert(), [{"id": "old", "at_ms": 1}])
    postgresql.writer.do_blocking(put, "a")
    postgresql.writer.do_blocking(put, "b")
    with postgresql.db.reading() as conn:
        ids = set(conn.scalars(sa.select(marker.c.id)))
    assert "old" not in ids and len(ids) == 2


def test_every_table_is_made_by_the_migration_too(database_url: str, tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415 - heavy, and for this test alone
    from alembic.migration import MigrationContext  # noqa: PLC0415

    from yunhe.hub.platform import migrate  # noqa: PLC0415

    opened = open_platform(HubSettings(database_url=database_url, data_dir=tmp_path), FakeClock(), no_crash)
    try:
        migrate.upgrade(opened.db)
        migrate.upgrade(opened.db)
        with opened.db.write_engine.connect() as conn:
            assert compare_metadata(MigrationContext.configure(conn), metadata) == []
    finally:
        opened.readers.shutdown()
        opened.db.close()
