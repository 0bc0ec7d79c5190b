"""The security tier that a site states, from its certificate to where an order goes."""

import httpx
import pytest

from tests.fakes.agent import FakeAgent, order_json, ran
from tests.hub.running import RunningHub
from tests.site.conftest import wait_for

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def customer(shared_hub: RunningHub) -> httpx.Client:
    return shared_hub.customer("tiers")


@pytest.fixture(scope="module")
def sites(shared_hub: RunningHub) -> dict[int, FakeAgent]:
    return {tier: shared_hub.site(f"tier-{tier}", tier=tier) for tier in (0, 1, 2)}


def order(customer: httpx.Client, tier: int, site: str | None = None, **run: object) -> dict[str, object]:
    requirement = {"cores": 0.5, "memory": "64MiB", "tier": tier, **({"sites": [site]} if site else {})}
    body = order_json(requirement=requirement, run={"command": ["true"], **run})
    answer = customer.post("/v1/orders", content=body, headers=JSON)
    answer.raise_for_status()
    made: dict[str, object] = answer.json()
    return made


def test_sites_show_the_tier_that_they_state(shared_hub: RunningHub, sites: dict[int, FakeAgent]) -> None:
    shown = {view["id"]: view["tier"] for view in shared_hub.operator.get("/v1/sites").json()["sites"]}
    assert {site.site_id: tier for tier, site in sites.items()}.items() <= shown.items()


@pytest.mark.parametrize("wanted", [1, 2])
def test_an_order_goes_only_where_its_tier_is_given(
    customer: httpx.Client, sites: dict[int, FakeAgent], wanted: int
) -> None:
    names = {site.site_id: tier for tier, site in sites.items()}
    quote = customer.post("/v1/quotes", content=order_json(requirement={"cores": 0.5, "tier": wanted}), headers=JSON)
    offered = {names[offer["site_id"]] for offer in quote.json()["offers"]}
    assert offered == {tier for tier in sites if tier >= wanted}
    made = order(customer, wanted)
    placed = wait_for(lambda: customer.get(f"/v1/orders/{made['id']}").json()["task_list"][0]["site_id"])
    assert names[placed] >= wanted
    [start] = sites[names[placed]].wait_starts()
    sites[names[placed]].poll(ran(start))


def test_a_tier_that_nobody_gives_is_said_so(customer: httpx.Client, sites: dict[int, FakeAgent]) -> None:
    made = order(customer, 3)
    why = customer.get(f"/v1/orders/{made['id']}/why").json()
    mine = [site for site in why["sites"] if site["site_id"] in {agent.site_id for agent in sites.values()}]
    assert len(mine) == len(sites)
    assert all("tier" in {reason["code"] for reason in site["reasons"]} for site in mine)
    customer.post(f"/v1/orders/{made['id']}/cancel").raise_for_status()


def test_a_site_that_loses_its_tier_gets_no_such_order(shared_hub: RunningHub, customer: httpx.Client) -> None:
    """After its next certificate: the sandbox was removed, say."""
    site = shared_hub.site("falling", tier=2)
    made = order(customer, 2, site.site_id)
    [start] = site.wait_starts()
    site.tier = 0
    site.poll([site.certificate()])
    shown = shared_hub.operator.get("/v1/sites").json()["sites"]
    assert [view["tier"] for view in shown if view["id"] == site.site_id] == [0]
    waiting = order(customer, 2, site.site_id)
    assert customer.get(f"/v1/orders/{waiting['id']}").json()["state"] == "open"
    # What runs there already goes on.
    site.poll(ran(start))
    ended = customer.get(f"/v1/orders/{made['id']}/wait", params={"timeout_ms": 5_000}).json()
    assert ended["state"] == "succeeded"
    site.tier = 2
    site.poll([site.certificate()])
    [late] = site.wait_starts()
    assert late.lease_id == f"{waiting['id']}.0"
    site.poll(ran(late))


def test_asking_for_the_network_lowers_no_tier_but_is_told_to_the_site(
    customer: httpx.Client, sites: dict[int, FakeAgent]
) -> None:
    for asked in (False, True):
        order(customer, 2, sites[2].site_id, network=asked)
        [start] = sites[2].wait_starts()
        assert start.network is asked
        sites[2].poll(ran(start))
