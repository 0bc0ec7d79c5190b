"""The whole way of a booking: a real hub in a process of its own, which is killed while it stands."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.agent import FakeAgent, order_json, ran
from tests.hub.running import free_port
from tests.replicas.network import Replica
from tests.site.conftest import wait_for
from yunhe.apps.hub import OPERATOR_KEY_FILE
from yunhe.hub.platform.settings import HubSettings

JSON = {"Content-Type": "application/json"}
AHEAD_S = 6
WHOLE = {"requirement": {"cores": 4, "memory": "64MiB"}, "duration": "30s"}


@pytest.fixture
def replica(database_url: str, tmp_path: Path) -> Any:
    settings = HubSettings(
        database_url=database_url, data_dir=tmp_path, port=free_port(), poll_hold_ms=2_000, certify_prove_ms=0
    )
    hub = Replica(settings)
    hub.start()
    hub.wait()
    yield hub
    hub.kill()


def client(replica: Replica, key: str | None = None) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=replica.url, headers=headers, timeout=30)


def joined(replica: Replica, operator: httpx.Client) -> FakeAgent:
    operator.post("/v1/organisations", json={"id": "centre", "name": "centre"}).raise_for_status()
    token = operator.post("/v1/enrolment-tokens", json={"provider": "centre"}).json()["token"]
    site = FakeAgent(client(replica))
    site.enrol(token, "north")
    operator.post(f"/v1/sites/{site.site_id}/approve", json={}).raise_for_status()
    site.become_active()
    return site


def customer_of(replica: Replica, operator: httpx.Client) -> httpx.Client:
    operator.post("/v1/organisations", json={"id": "lab", "name": "lab"}).raise_for_status()
    deposit = {"organisation": "lab", "amount": "100CNY", "reference": "first"}
    operator.post("/v1/deposits", json=deposit).raise_for_status()
    made = operator.post("/v1/keys", json={"organisation": "lab", "member": "tester", "role": "customer"})
    return client(replica, made.json()["key"])


def submit(customer: httpx.Client, **changes: object) -> str:
    made = customer.post("/v1/orders", content=order_json(**{**WHOLE, **changes}), headers=JSON)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def task_of(customer: httpx.Client, order: str) -> dict[str, Any]:
    return dict(customer.get(f"/v1/orders/{order}").json()["task_list"][0])


def test_a_booking_outlives_its_hub(replica: Replica, tmp_path: Path) -> None:
    with client(replica, (tmp_path / OPERATOR_KEY_FILE).read_text().strip()) as operator:
        site, customer = joined(replica, operator), customer_of(replica, operator)
    booked = submit(customer, start_at=f"in {AHEAD_S}s")
    wait_for(lambda: task_of(customer, booked)["state"] == "booked", 5)
    start_ms = task_of(customer, booked)["booked_from_utc_ms"]
    withdrawn, long = submit(customer, start_at=f"in {AHEAD_S}s"), submit(customer)
    why = customer.get(f"/v1/orders/{withdrawn}/why").json()
    assert [reason["code"] for reason in why["sites"][0]["reasons"]] == ["booked_out"]
    why = customer.get(f"/v1/orders/{long}/why").json()
    assert [reason["code"] for reason in why["sites"][0]["reasons"]] == ["before_booking"]
    body = json.loads(order_json(**WHOLE, start_at="in 1h"))
    [offer] = customer.post("/v1/quotes", json=body).json()["offers"]
    assert offer["start_utc_ms"] > start_ms

    replica.kill()
    replica.start()
    replica.wait()
    assert customer.post(f"/v1/orders/{withdrawn}/cancel").json()["state"] == "withdrawn"
    starts = site.wait_starts()
    assert [start.lease_id for start in starts] == [f"{booked}.0"]
    assert time.time() * 1000 >= start_ms
    site.poll(ran(starts[0]))
    wait_for(lambda: customer.get(f"/v1/orders/{booked}").json()["settled"], 10)
    kinds = [fact["kind"] for fact in customer.get(f"/v1/orders/{booked}").json()["facts"]]
    assert [kinds.count(kind) for kind in ("booked", "leased", "booking_lost", "succeeded")] == [1, 1, 0, 1]
    [start] = site.wait_starts()
    assert start.lease_id == f"{long}.0"
    assert customer.get(f"/v1/orders/{withdrawn}").json()["charged_microcny"] == 0
    customer.close()
    site.client.close()
