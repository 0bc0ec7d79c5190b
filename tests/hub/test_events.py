"""The stream of events: each once and none left out, resumed by id, to each what it may see."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from tests.fakes.agent import FakeAgent, order_json, ran
from tests.hub.conftest import Begin
from tests.hub.running import RunningHub, running_hub
from yunhe.core.errors import InvalidInput, NotFound, RateLimited, Unauthenticated
from yunhe.hub.orders import feed, store, streaming, tasks
from yunhe.hub.platform import bulk
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.writer import Tx
from yunhe.sdk import Client
from yunhe.wire.api import EventView

JSON = {"Content-Type": "application/json"}
WAY = ["submitted", "leased", "started", "succeeded", "settled"]


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> Iterator[RunningHub]:
    with running_hub(database_url, tmp_path / "hub", poll_hold_ms=2_000, event_streams_per_organisation=3) as running:
        yield running


def submit(customer: httpx.Client, **changes: object) -> str:
    answer = customer.post("/v1/orders", content=order_json(**changes), headers=JSON)
    answer.raise_for_status()
    order_id: str = answer.json()["id"]
    return order_id


def run_one(site: FakeAgent) -> None:
    [start] = site.wait_starts()
    site.poll(ran(start))


def key_of(client: httpx.Client) -> str:
    return client.headers["Authorization"].partition(" ")[2]


def events(hub: RunningHub, key: str, count: int, **begin: str | None) -> list[EventView]:
    with Client(hub.url, key, retries=0) as client:
        return list(islice(client.events(**begin, outage=0), count))


def collecting(hub: RunningHub, key: str) -> Callable[[int], list[EventView]]:
    """Begins a stream that is open until the hub ends. Called, it waits for so many events and gives what came."""
    seen: list[EventView] = []
    opened = threading.Event()

    def collect() -> None:
        headers = {"Authorization": f"Bearer {key}"}
        with (
            contextlib.suppress(httpx.HTTPError),  # the hub's end at the end of the test
            httpx.stream("GET", f"{hub.url}/v1/events", headers=headers, timeout=20) as flow,
        ):
            for line in flow.iter_lines():
                opened.set()
                if line.startswith("data: "):
                    seen.append(EventView.model_validate_json(line[6:]))

    def first(count: int) -> list[EventView]:
        until = time.monotonic() + 15
        while len(seen) < count and time.monotonic() < until:
            time.sleep(0.02)
        return list(seen)

    threading.Thread(target=collect, daemon=True).start()
    assert opened.wait(10)
    return first


def test_an_orders_way_and_everything_behind_each_of_its_events(hub: RunningHub) -> None:
    site, customer = hub.site(), hub.customer()
    order_id = submit(customer)
    run_one(site)
    key = key_of(customer)
    way = events(hub, key, 5, after="0-0", order=order_id)
    assert [event.kind for event in way] == WAY
    assert [event.site_id for event in way] == [None, site.site_id, site.site_id, site.site_id, None]
    assert way[1].lease_id == f"{order_id}.0" and way[1].epoch == 1 and way[1].detail == f"{site.site_id}:cpu"
    assert "charged" in way[4].detail
    for n in range(4):
        assert events(hub, key, 4 - n, after=way[n].id, order=order_id) == way[n + 1 :]
        assert events(hub, key, 4 - n, after=way[n].id) == way[n + 1 :]


def test_what_happens_comes_at_once_and_to_each_what_it_may_see(hub: RunningHub) -> None:
    north, south = hub.site("north", "centre"), hub.site("south", "other")
    one, two = hub.customer("lab"), hub.customer("college")
    keys = {"lab": key_of(one), "college": key_of(two), "operator": key_of(hub.operator)}
    for org, role in (("centre", "provider"), ("other", "provider"), ("lab", "auditor")):
        made = hub.operator.post("/v1/keys", json={"organisation": org, "member": "m", "role": role}).json()
        keys[role if role == "auditor" else org] = made["key"]
    opened = {name: collecting(hub, key) for name, key in keys.items()}
    mine = submit(one, requirement={"cores": 0.5, "memory": "64MiB", "sites": [north.site_id]})
    run_one(north)
    theirs = submit(two, requirement={"cores": 0.5, "memory": "64MiB", "sites": [south.site_id]})
    run_one(south)
    both = [(mine, kind) for kind in WAY] + [(theirs, kind) for kind in WAY]
    for name, expected in {
        "lab": both[:5],
        "college": both[5:],
        "centre": both[1:4],
        "other": both[6:9],
        "operator": both,
        "auditor": both,
    }.items():
        seen = opened[name](len(expected))
        assert sorted((event.order_id, event.kind) for event in seen) == sorted(expected), name
    assert "lab" not in "".join(event.model_dump_json() for event in opened["centre"](3))
    with pytest.raises(NotFound):
        events(hub, keys["college"], 1, order=mine)


@pytest.mark.parametrize("given", ["", "1", "1-", "a-b", "-1-2", "1-2-3", "٣-٤", "9223372036854775808-1", "9" * 41])
def test_what_is_no_id_is_refused_by_its_field(shared_hub: RunningHub, given: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        events(shared_hub, key_of(shared_hub.operator), 1, after=given or " ")
    assert refused.value.field == "after" and refused.value.hint or len(given) > 40
    answer = shared_hub.operator.get("/v1/events", headers={b"Last-Event-ID": given.encode()})
    assert answer.status_code == 422 and answer.json()["field"].lower() == "last-event-id"


def test_an_id_of_another_time_is_refused(shared_hub: RunningHub) -> None:
    """As after a restore from an older backup: what came behind it is unknown, and silence would hide that."""
    with pytest.raises(InvalidInput, match="nothing has this id"):
        events(shared_hub, key_of(shared_hub.operator), 1, after=f"{2**62}-1")


def test_a_stream_of_all_begins_no_farther_back_than_the_hub_allows(database_url: str, tmp_path: Path) -> None:
    with running_hub(database_url, tmp_path / "hub", events_back_ms=0) as hub:
        customer = hub.customer()
        order_id = submit(customer)
        with pytest.raises(InvalidInput, match="too far back"):
            events(hub, key_of(customer), 1, after="0-0")
        assert [event.kind for event in events(hub, key_of(customer), 1, after="0-0", order=order_id)] == ["submitted"]


def test_a_revoked_key_ends_its_stream(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "KEY_CHECK_S", 0.2)
    key = key_of(hub.customer())
    [shown] = [k for k in hub.operator.get("/v1/keys").json()["keys"] if k["organisation"] == "lab"]
    with httpx.stream("GET", f"{hub.url}/v1/events", headers={"Authorization": f"Bearer {key}"}, timeout=20) as flow:
        lines = flow.iter_lines()
        assert next(lines) == "retry: 2000"
        hub.operator.delete(f"/v1/keys/{shown['id']}").raise_for_status()
        assert not [line for line in lines if line.startswith("data")]
    with pytest.raises(Unauthenticated):
        events(hub, key, 1)


def test_streams_are_bounded_and_end_when_asked(hub: RunningHub) -> None:
    key = key_of(hub.customer())
    for _ in range(3):
        collecting(hub, key)
    with pytest.raises(RateLimited):
        events(hub, key, 1)
    assert hub.operator.get("/v1/events", params={"timeout_ms": 50}).text.startswith("retry: ")


def test_a_quiet_stream_says_where_to_go_on(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "BEAT_S", 0.1)
    customer, other = hub.customer(), hub.customer("college")
    headers = {"Authorization": customer.headers["Authorization"]}
    with httpx.stream("GET", f"{hub.url}/v1/events", headers=headers, timeout=20) as flow:
        ids = (line[4:] for line in flow.iter_lines() if line.startswith("id: "))
        first = next(ids)
        submit(other)  # nothing to show, but the log goes on
        later = next(found for found in ids if found != first)
    mine = submit(customer)
    assert [event.order_id for event in events(hub, key_of(customer), 1, after=later)] == [mine]


# --- the log --------------------------------------------------------------------------------------------------------


def write(tx: Tx, order_id: str) -> None:
    bulk.write(tx.conn, bulk.Insert(store.fact, [tasks.order_fact(order_id, "submitted", "", 1)]))


@pytest.fixture
def orders(begin: Begin) -> None:
    """What facts belong to."""
    with begin() as tx:
        rows = [
            {"id": name, "org": "lab", "member": "m", "name": "n", "spec_hash": "h", "state": "open", "priority": 0}
            | {"array": 1, "submitted_ms": 1, "hold_microcny": 0, "pending": 1}
            for name in ("first", "second", "third")
        ]
        bulk.write(tx.conn, bulk.Insert(store.order, rows))


def read(platform: Platform, after: feed.Cursor, order_id: str | None = None, limit: int = 100) -> list[feed.Event]:
    return platform.read_blocking(lambda conn: feed.page(conn, after, {}, order_id=order_id, limit=limit))


@pytest.mark.usefixtures("only_postgresql", "orders")
def test_what_is_committed_late_is_not_skipped(platform: Platform, begin: Begin) -> None:
    seen: list[str] = []
    place = feed.START

    def look() -> None:
        nonlocal place
        for event in read(platform, place):
            seen.append(event.view.order_id)
            place = event.cursor

    with begin() as late:
        write(late, "first")  # has the smaller id, and commits after the other
        with begin() as early:
            write(early, "second")
        look()
        assert seen == []  # the second is there, but what may come before it is not
        begun = platform.read_blocking(feed.head)
    look()
    with begin() as last:
        write(last, "third")
    look()
    assert seen == ["first", "second", "third"]
    # A stream that began while they were in flight gets them, too.
    assert [event.view.order_id for event in read(platform, begun)] == ["first", "second", "third"]


@pytest.mark.usefixtures("only_postgresql", "orders")
def test_a_dump_of_another_server_is_noticed(platform: Platform, begin: Begin) -> None:
    with begin() as tx:
        write(tx, "first")
    assert not platform.read_blocking(feed.is_foreign)
    with begin() as tx:
        tx.conn.execute(sa.update(store.fact).values(xact=2**50))
    assert platform.read_blocking(feed.is_foreign) and read(platform, feed.START) == []
    with begin() as tx:
        tx.conn.execute(sa.update(store.fact).values(xact=0))
        write(tx, "second")
    assert not platform.read_blocking(feed.is_foreign)
    assert [event.view.order_id for event in read(platform, feed.START)] == ["first", "second"]


@pytest.mark.usefixtures("orders")
def test_pages_join_without_a_gap(platform: Platform, begin: Begin) -> None:
    for _ in range(3):
        with begin() as tx:
            for name in ("first", "second", "third"):
                write(tx, name)
    whole = read(platform, feed.START)
    paged: list[feed.Event] = []
    while found := read(platform, paged[-1].cursor if paged else feed.START, limit=2):
        paged += found
    assert paged == whole and len({event.cursor for event in whole}) == 9
    assert read(platform, whole[3].cursor, order_id="second") == [e for e in whole[4:] if e.view.order_id == "second"]
