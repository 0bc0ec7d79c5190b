"""Two hub processes on one PostgreSQL: they share the work, and nothing is lost or done twice when one of them dies."""

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes.agent import order_json
from tests.faults.postgresql import Cluster, programs
from tests.hub.conftest import TEST_DATABASE, fresh_database
from tests.replicas.network import JSON, Network, Replica, insist, network, until

pytestmark = pytest.mark.skipif(
    TEST_DATABASE not in os.environ,
    reason=f"{TEST_DATABASE} is not set: run this by tools/with-postgresql.sh, replicas share a PostgreSQL",
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("replicas")
    with fresh_database("postgresql", folder) as url, network(url, folder) as both:
        both.site("north", both.replicas[1].url, both.replicas[0].url)
        yield both


def submit(client: httpx.Client, count: int, **changes: object) -> list[str]:
    made = [client.post("/v1/orders", content=order_json(**changes), headers=JSON) for _ in range(count)]
    assert {answer.status_code for answer in made} == {201}, [answer.text for answer in made]
    return [str(answer.json()["id"]) for answer in made]


def test_what_one_replica_accepts_a_site_of_the_other_runs(pair: Network) -> None:
    key = pair.customer("one")
    first, second = (pair.client(replica, key) for replica in pair.replicas)
    began = time.monotonic()
    orders = submit(first, 3) + submit(second, 3) + submit(first, 1, array=12, budget="20CNY")
    pair.check(second, orders)
    assert time.monotonic() - began < 15
    assert sum(pair.leading(replica) for replica in pair.replicas) == 1


def test_one_key_at_both_replicas_at_once_is_one_order(pair: Network) -> None:
    key = pair.customer("same")
    made: list[list[str]] = [[], []]

    def ask(side: int) -> None:
        client = pair.client(pair.replicas[side], key)
        made[side] = [insist(client, f"key {n}".replace(" ", "-")) for n in range(25)]

    threads = [threading.Thread(target=ask, args=(side,)) for side in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert made[0] == made[1] and len(set(made[0])) == 25
    pair.check(pair.client(pair.replicas[0], key), made[0])


def test_when_the_leader_is_killed_the_other_goes_on_within_ten_seconds(pair: Network) -> None:
    key = pair.customer("killed")
    leader = pair.leader()
    heir = pair.other(leader)
    orders = submit(pair.client(heir, key), 3)
    leader.kill()
    took = until("the other leads", lambda: pair.leading(heir), 10)
    client = pair.client(heir, key)
    orders += submit(client, 5)
    pair.check(client, orders)
    assert took < 10
    leader.start()
    leader.wait()
    pair.check(pair.client(leader, key), submit(pair.client(leader, key), 2))


def test_two_leaders_at_once_do_no_harm(pair: Network) -> None:
    key = pair.customer("stopped")
    for _ in range(2):
        leader = pair.leader()
        heir = pair.other(leader)
        burst = [threading.Thread(target=_burst, args=(pair, leader, key)) for _ in range(3)]
        for thread in burst:
            thread.start()
        time.sleep(0.15)
        leader.send(signal.SIGSTOP)  # in the middle of whatever it does
        until("the other leads", lambda heir=heir: pair.leading(heir), 20)  # type: ignore[misc]
        orders = submit(pair.client(heir, key), 6)
        leader.send(signal.SIGCONT)
        orders += submit(pair.client(heir, key), 6) + submit(pair.client(leader, key), 6)
        for thread in burst:
            thread.join(40)
        everything = pair.client(heir, key).get("/v1/orders", params={"limit": 1000}).json()["orders"]
        pair.check(pair.client(heir, key), sorted({*orders, *(order["id"] for order in everything)}))


def _burst(pair: Network, replica: Replica, key: str) -> None:
    client = pair.client(replica, key)
    for n in range(8):
        insist(client, f"{threading.get_ident()}-{n}-{time.monotonic_ns()}")


def test_a_replica_with_a_wrong_clock_harms_nobody(tmp_path: Path) -> None:
    with fresh_database("postgresql", tmp_path) as url, network(url, tmp_path, 3_600, -3_600) as both:
        site = both.site("north", both.replicas[1].url, both.replicas[0].url)
        key = both.customer("lab")
        site.pausing = True
        orders = submit(both.client(both.replicas[0], key), 1, deadline="20m")
        orders += submit(both.client(both.replicas[1], key), 1, deadline="20m")
        until("both are placed", lambda: len(site.starts) == 2, 10)
        both.leader().kill()
        rest = both.replicas[0] if both.replicas[0].process.poll() is None else both.replicas[1]  # type: ignore[union-attr]
        until("the other leads", lambda: both.leading(rest), 10)
        time.sleep(1.5)  # several looks at what is silent, overdue or late
        client = both.client(rest, key)
        assert site.cancels == []
        assert {order["state"] for order in client.get("/v1/orders").json()["orders"]} == {"running"}
        [shown] = client.get("/v1/sites").json()["sites"]
        assert shown["connected"]
        age_s = abs(shown["last_contact_utc_ms"] / 1000 - time.time())
        assert age_s < 60
        site.pausing = False
        both.check(client, orders)


def test_a_database_that_dies_in_the_middle_of_submits_loses_and_doubles_nothing(tmp_path: Path) -> None:
    if programs() is None:
        pytest.skip("PostgreSQL's programs are not installed: sudo apt-get install postgresql-15")
    folder = Path(tempfile.mkdtemp(prefix="yunhe-replicas-"))
    folder.chmod(0o755)
    server = Cluster(folder / "cluster")
    try:
        _start(server)
        with network(server.url, tmp_path) as both:
            both.site("north", both.replicas[0].url, both.replicas[1].url)
            key = both.customer("lab")
            made: dict[str, str] = {}
            threads = [threading.Thread(target=_insist_on_many, args=(both, side, key, made)) for side in range(6)]
            for thread in threads:
                thread.start()
            for _ in range(2):
                time.sleep(0.7)
                server.kill()
                time.sleep(0.3)
                _start(server)
            for thread in threads:
                thread.join(60)
            assert len(made) == 6 * 25
            client = both.client(both.replicas[1], key)
            until("both are ready", lambda: all(r.ready() for r in both.replicas), 20)
            page = client.get("/v1/orders", params={"limit": 1000}).json()["orders"]
            assert sorted(order["id"] for order in page) == sorted(set(made.values()))
            again = {k: insist(client, k) for k in sorted(made)[::10]}
            assert again == {k: made[k] for k in again}
            both.check(client, sorted(made.values())[::10])
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _start(server: Cluster) -> None:
    import asyncio  # noqa: PLC0415 - the server's own interface is asynchronous; here nothing else is

    asyncio.run(server.start())


def _insist_on_many(both: Network, side: int, key: str, made: dict[str, str]) -> None:
    client = both.client(both.replicas[side % 2], key)
    for n in range(25):
        made[f"k-{side}-{n}"] = insist(client, f"k-{side}-{n}")
        time.sleep(0.04)
