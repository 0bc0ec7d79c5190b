"""What a provider sees of its sites: what ran, what it earned, what is disputed; and no customer's name."""

import dataclasses
from datetime import UTC, datetime

import httpx
import pytest

from tests.fakes.agent import FakeAgent, order_json, ran
from tests.hub.running import RunningHub
from yunhe.core.errors import Forbidden, InvalidInput, NotFound
from yunhe.core.policy import Policy
from yunhe.sdk.client import Client
from yunhe.wire.api import SiteView

MONTH = f"{datetime.now(UTC):%Y-%m}"


def client_of(hub: RunningHub, organisation: str, role: str) -> Client:
    made = hub.operator.post("/v1/keys", json={"organisation": organisation, "member": "tester", "role": role})
    return Client(hub.url, made.raise_for_status().json()["key"])


def run_orders(customer: httpx.Client, site: FakeAgent, count: int) -> int:
    """Orders that run to their end, one by one; what they cost together, micro-CNY."""
    paid = 0
    for _ in range(count):
        asked = {"cores": 0.5, "memory": "64MiB", "sites": [site.site_id]}
        headers = {"Content-Type": "application/json"}
        made = customer.post("/v1/orders", content=order_json(requirement=asked), headers=headers)
        [start] = site.wait_starts()
        site.poll(ran(start, wall_ms=4_000))
        done = customer.get(f"/v1/orders/{made.raise_for_status().json()['id']}/wait", params={"timeout_ms": 10_000})
        paid += done.json()["charged_microcny"]
    return paid


def test_a_provider_sees_what_ran_and_what_it_earned(shared_hub: RunningHub) -> None:
    site = shared_hub.site("earning-north", "earning-co")
    paid = run_orders(shared_hub.customer("earning-lab"), site, 3)
    with client_of(shared_hub, "earning-co", "provider") as provider:
        first = provider.charges(site.site_id, limit=2)
        assert len(first.charges) == 2 and first.next_cursor is not None
        rest = provider.charges(site.site_id, limit=2, cursor=first.next_cursor)
        assert len(rest.charges) == 1 and rest.next_cursor is None
        found = (*first.charges, *rest.charges)
        assert len({charge.lease_id for charge in found}) == 3
        assert [charge.at_utc_ms for charge in found] == sorted((c.at_utc_ms for c in found), reverse=True)
        assert sum(charge.price.total_microcny for charge in found) == paid > 0
        assert all(c.earned_microcny == c.price.total_microcny - c.operator_fee_microcny for c in found)
        assert "earning-lab" not in first.model_dump_json()
        assert provider.charges(site.site_id, disputed=True).charges == ()
        [day] = provider.revenue(site.site_id, MONTH).days
        assert (day.charges, day.disputed, day.charged_microcny) == (3, 0, paid)
        assert day.earned_microcny == provider.balance().earned_microcny
        assert provider.revenue(site.site_id, "2020-01").days == ()


def test_an_invoice_page_by_page(shared_hub: RunningHub) -> None:
    site = shared_hub.site("invoiced-site", "invoiced-co")
    paid = run_orders(shared_hub.customer("invoiced-lab"), site, 3)
    with client_of(shared_hub, "invoiced-lab", "customer") as customer:
        whole = customer.invoice(MONTH)
        assert (whole.line_count, whole.total_microcny, whole.next_cursor) == (3, paid, None)
        first = customer.invoice_page(MONTH, limit=2)
        assert (first.line_count, first.total_microcny) == (3, paid)
        rest = customer.invoice_page(MONTH, limit=2, cursor=first.next_cursor)
        assert first.lines + rest.lines == whole.lines
        assert rest.next_cursor is None
        with pytest.raises(InvalidInput, match="cursor"):
            customer.invoice_page(MONTH, cursor="9")


def test_earnings_are_the_providers_alone(shared_hub: RunningHub) -> None:
    site = shared_hub.site("earning-south", "earning-south-co")
    shared_hub.operator.post("/v1/organisations", json={"id": "earning-other", "name": "other"})
    with client_of(shared_hub, "earning-other", "provider") as other:
        for call in (lambda: other.charges(site.site_id), lambda: other.revenue(site.site_id, MONTH)):
            with pytest.raises(NotFound):
                call()
        with pytest.raises(Forbidden):
            other.round()
    with client_of(shared_hub, "earning-other", "customer") as customer, pytest.raises(Forbidden):
        customer.charges(site.site_id)
    with client_of(shared_hub, "earning-other", "auditor") as auditor:
        assert auditor.charges(site.site_id).charges == ()
        with pytest.raises(InvalidInput, match="cursor"):
            auditor.charges(site.site_id, cursor="1.x")
        with pytest.raises(InvalidInput, match="month"):
            auditor.revenue(site.site_id, "2026-13")


def test_what_rounds_go_by(shared_hub: RunningHub) -> None:
    with client_of(shared_hub, "operator", "auditor") as auditor:
        assert auditor.ready().status == "ready"
        shown = auditor.round()
        assert shown.policy == dataclasses.asdict(Policy())
        assert shown.leading and shown.rounds >= 0


def test_sites_page_by_page_of_one_provider_in_one_state(shared_hub: RunningHub) -> None:
    for name in ("paged-a", "paged-b", "paged-c"):
        shared_hub.site(name, "paged-co")
    token = shared_hub.operator.post("/v1/enrolment-tokens", json={"provider": "paged-co"}).json()["token"]
    with shared_hub.client() as stranger:
        FakeAgent(stranger).enrol(token, "paged-new")
    with client_of(shared_hub, "operator", "operator") as operator:
        assert ids(operator.sites("paged-co")) == ["paged-a", "paged-b", "paged-c", "paged-new"]
        first = operator.sites_page("paged-co", limit=3)
        assert first.next_cursor == "paged-c"
        assert all(site.pools for site in first.sites)
        assert ids(operator.sites_page("paged-co", limit=3, cursor=first.next_cursor).sites) == ["paged-new"]
        assert ids(operator.sites_page("paged-co", "pending").sites) == ["paged-new"]
        with pytest.raises(InvalidInput):
            operator.sites_page(state="asleep")
    shared_hub.operator.post("/v1/organisations", json={"id": "paged-lab", "name": "lab"})
    with client_of(shared_hub, "paged-lab", "customer") as customer:
        assert "paged-new" not in ids(customer.sites())
        assert ids(customer.sites("paged-co")) == ["paged-a", "paged-b", "paged-c"]


def ids(sites: tuple[SiteView, ...]) -> list[str]:
    return [site.id for site in sites]
