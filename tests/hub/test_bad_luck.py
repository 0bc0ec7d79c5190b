"""What the fault runs found, each as small as it can be told."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.fakes.agent import order_json, ran
from tests.hub.running import RunningHub, running_hub
from yunhe.core.errors import StaleMessage
from yunhe.hub.dispatch import sync, watch
from yunhe.hub.dispatch.blobs import Blobs
from yunhe.hub.platform.db import Database
from yunhe.hub.platform.writer import Tx
from yunhe.wire.link import Hello

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> Iterator[RunningHub]:
    with running_hub(database_url, tmp_path / "hub", poll_hold_ms=2_000) as running:
        yield running


def test_a_replica_that_stood_still_gives_no_speaking_site_up(hub: RunningHub, database_url: str) -> None:
    """It looked at the contacts, was stopped for a minute, and goes on with what it saw."""
    site = hub.site()
    customer = hub.customer()
    order = customer.post("/v1/orders", content=order_json(), headers=JSON).json()
    site.wait_starts()
    database = Database(database_url, 1)
    try:

        def contact() -> int:
            with database.reading() as conn:
                return int(conn.execute(sa.text("SELECT last_contact_ms FROM site")).scalar_one())

        def give_up(seen_ms: int) -> str:
            with database.write_engine.begin() as conn:
                watch._lost(Tx(conn, seen_ms + 60_000), [{site.site_id: seen_ms}])
            return str(customer.get(f"/v1/orders/{order['id']}").json()["task_list"][0]["state"])

        seen_ms = contact()
        time.sleep(0.01)
        site.poll()
        assert contact() > seen_ms
        assert give_up(seen_ms) == "leased"
        assert give_up(contact()) == "pending"
    finally:
        database.close()


def test_a_late_start_has_its_whole_run_limit(hub: RunningHub, database_url: str) -> None:
    """The site was cut off, or had a queue: a run is overdue by its time since the start, not since the placement."""
    site = hub.site()
    customer = hub.customer()
    customer.post("/v1/orders", content=order_json(), headers=JSON).raise_for_status()
    [start] = site.wait_starts()
    database = Database(database_url, 1)
    try:

        def overdue_in_ms(column: str) -> int:
            with database.reading() as conn:
                return int(conn.execute(sa.text(f"SELECT overdue_ms - {column} FROM task")).scalar_one())

        assert overdue_in_ms("placed_ms") == 6 * 3_600_000  # `queue_limit_ms`: it has not started
        with database.write_engine.begin() as conn:
            conn.execute(sa.text("UPDATE task SET placed_ms = placed_ms - 50000, overdue_ms = overdue_ms - 50000"))
        site.poll(ran(start)[:1])
        assert overdue_in_ms("started_ms") == 120_000  # its run limit and `overdue_grace_ms`
    finally:
        database.close()


def test_the_same_hello_is_the_same_epoch(tx: Tx) -> None:
    """A doubled or late hello must not send the agent away that it came from; another process' hello does."""
    hello = Hello(site_id="north", previous_epoch=0, nonce="aa")
    assert sync.greet(tx, [hello, hello]) == [(1, 0), (1, 0)]
    assert sync.greet(tx, [hello.model_copy(update={"nonce": "bb"})]) == [(2, 0)]
    stale = sync.greet(tx, [Hello(site_id="north", previous_epoch=2, nonce="cc")])
    assert isinstance(stale[0], StaleMessage)


def test_the_late_hello_of_a_killed_process_displaces_nobody(tx: Tx) -> None:
    gone = Hello(site_id="north", previous_epoch=0, nonce="aa", start_no=1)
    assert sync.greet(tx, [gone.model_copy(update={"nonce": "bb", "start_no": 2})]) == [(1, 0)]
    [late] = sync.greet(tx, [gone])
    assert isinstance(late, StaleMessage) and late.field == "start_no"
    assert sync.check_epoch(tx.conn, "north", 1) is None


def test_chunks_that_come_twice_at_once_are_stored_once(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    for round_no in range(50):
        lease, both = f"ord_{round_no:04x}.0", threading.Barrier(2)

        def put(lease: str = lease, both: threading.Barrier = both) -> None:
            both.wait()
            blobs.append_log(lease, 1, 0, b"one line\n", 1_000)

        threads = [threading.Thread(target=put) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert blobs.read_log(lease, 1, 0) == b"one line\n"
