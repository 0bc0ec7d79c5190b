"""Orders that another hub passes down, seen from the hub that takes them."""

import secrets

import httpx
import pytest

from tests.fakes.agent import FakeAgent, cpu_pool, order_json, ran
from tests.hub.running import RunningHub
from tests.replicas.network import until

JSON = {"Content-Type": "application/json"}
UP = "hub_0000000000000001"


def origin(lease_id: str = "ord_1.7", index: int = 7) -> dict[str, object]:
    return {"hubs": [UP], "lease_id": lease_id, "index": index, "tenant": "ab12"}


def name(text: str) -> str:
    return f"{text}-{secrets.token_hex(4)}"


def submit(client: httpx.Client, key: str, **changes: object) -> httpx.Response:
    return client.post("/v1/orders", content=order_json(**changes), headers={**JSON, "Idempotency-Key": key})


def look(client: httpx.Client, *keys: str, **follow: object) -> list[dict[str, object]]:
    body = {"keys": keys, **({"follow": follow} if follow else {})}
    found: list[dict[str, object]] = client.post("/v1/orders:look", json=body).raise_for_status().json()["orders"]
    return found


def test_the_way_of_an_order_goes_along(shared_hub: RunningHub) -> None:
    site, customer = shared_hub.site(name("north")), shared_hub.customer(name("node"))
    made = submit(customer, "a:1", origin=origin(), requirement={"cores": 0.5, "sites": [site.site_id]})
    assert made.status_code == 201, made.text
    order_id = made.json()["id"]
    [start] = site.wait_starts()
    assert start.origin is not None and start.origin.hubs == (UP,)
    assert start.env["YUNHE_TASK_INDEX"] == "7" and start.tenant.endswith("/ab12")
    assert 0 < start.earns_microcny < made.json()["hold_microcny"]
    assert customer.get(f"/v1/orders/{order_id}").json()["spec"]["origin"] == origin()
    # Where it comes from is a part of what was said under the key.
    again = {"requirement": {"cores": 0.5, "sites": [site.site_id]}}
    assert submit(customer, "a:1", origin=origin(), **again).json()["id"] == order_id
    assert submit(customer, "a:1", origin=origin("ord_2.7"), **again).json()["code"] == "idempotency_conflict"
    site.poll(ran(start))


def test_a_look_tells_what_became_of_own_orders(shared_hub: RunningHub) -> None:
    site = shared_hub.site(name("north"))
    mine, other = shared_hub.customer(name("node")), shared_hub.customer(name("other"))
    here = {"requirement": {"cores": 0.5, "sites": [site.site_id]}}
    order_id = submit(mine, "a:1", **here).json()["id"]
    submit(other, "a:2", requirement={"cores": 0.5, "sites": ["nowhere"]})
    [start] = site.wait_starts()
    [seen] = look(mine, "a:1", "a:2", "a:3", "a:1")
    assert seen["order"]["id"] == order_id and seen["task"]["state"] in ("leased", "running")  # type: ignore[index]
    assert [(a["epoch"], a["started"], a["wall_ms"]) for a in seen["attempts"]] == [(1, False, 0)]  # type: ignore[attr-defined]
    site.poll(ran(start, wall_ms=1_500, exit_code=3))
    [seen] = look(mine, "a:1")
    ends = [(a["started"], a["end_reason"], a["wall_ms"]) for a in seen["attempts"]]  # type: ignore[attr-defined]
    assert ends == [(True, "exited", 1_500)]
    assert seen["task"]["exit_code"] == 3  # type: ignore[index]
    assert look(mine) == []


def test_orders_of_a_silent_follower_are_cancelled(shared_hub: RunningHub) -> None:
    site, customer = shared_hub.site(name("north")), shared_hub.customer(name("node"))
    here = {"requirement": {"cores": 0.2, "sites": [site.site_id]}}
    followed = submit(customer, "mine:1", **here).json()["id"]
    alone = submit(customer, "other:1", **here).json()["id"]
    look(customer, "mine:1", tag="mine", silence_ms=1_000)

    def state(order_id: str) -> str:
        return str(customer.get(f"/v1/orders/{order_id}").json()["task_list"][0]["state"])

    def asked() -> bool:
        return any(f["kind"] == "cancel_requested" for f in customer.get(f"/v1/orders/{followed}").json()["facts"])

    until("the follower's order is cancelled", lambda: asked() or state(followed) in ("withdrawn", "cancelled"), 10)
    assert state(alone) in ("pending", "leased")
    # One that looks again keeps what it orders from then on.
    look(customer, tag="mine", silence_ms=60_000)
    late = submit(customer, "mine:2", **here).json()["id"]
    assert state(late) in ("pending", "leased")


@pytest.fixture
def lender(shared_hub: RunningHub) -> FakeAgent:
    """A site that asks twice the usual price."""
    pool = cpu_pool().model_copy(update={"asking_microcny_per_unit_hour": 987_654, "hubs": (UP,)})
    return shared_hub.site(name("node"), pools=(pool,))


def test_a_site_is_sold_at_what_it_asks_only_by_the_operators_word(shared_hub: RunningHub, lender: FakeAgent) -> None:
    customer = shared_hub.customer(name("lab"))
    path = f"/v1/sites/{lender.site_id}"

    def prices() -> tuple[int, int]:
        [pool] = customer.get(path).json()["pools"]
        assert pool["asking_microcny_per_unit_hour"] == 987_654 and pool["hubs"] == [UP]
        wanted = {"run": {"command": ["true"]}, "duration": "1h", "requirement": {"pools": [pool["id"]]}}
        offers: list[dict[str, dict[str, int]]] = []

        def offered() -> bool:  # quotes look at a supply that is a moment old
            offers[:] = customer.post("/v1/quotes", json=wanted).json()["offers"]
            return bool(offers)

        until("the pool is quoted", offered, 10)
        [offer] = offers
        return pool["price_microcny_per_unit_hour"], offer["price"]["compute_microcny"]

    usual = prices()
    assert usual[0] == usual[1] != 987_654
    shared_hub.operator.put(f"{path}/terms", json={"accept_asking": True}).raise_for_status()
    until("the new price is quoted", lambda: prices() == (987_654, 987_654), 5)
    shared_hub.operator.put(f"{path}/terms", json={"accept_asking": False}).raise_for_status()
    until("the old price is quoted", lambda: prices() == usual, 5)
