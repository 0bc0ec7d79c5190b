"""Who else looks at pages: providers, auditors, a site that wants in."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from playwright.sync_api import Page

from tests.fakes.agent import FakeAgent
from yunhe.apps.embedded import Network
from yunhe.core.errors import Conflict
from yunhe.sdk.client import Client
from yunhe.wire.api import OrderSpec, OrganisationRequest


def key_of(operator: Client, organisation: str, role: str) -> str:
    """A new key; the organisation is made when it is not there."""
    try:
        operator.create_organisation(OrganisationRequest(id=organisation, name=organisation))
    except Conflict:
        pass
    return operator.create_key(organisation, "tester", role).key


@contextmanager
def newcomer(network: Network, operator: Client, provider: str, name: str) -> Iterator[str]:
    """A site that has joined and waits for approval: its id. It leaves at the end."""
    key_of(operator, provider, "provider")
    with httpx.Client(base_url=network.url) as client:
        agent = FakeAgent(client)
        agent.enrol(operator.enrolment_token(provider).token, name)
        try:
            yield agent.site_id
        finally:
            operator.leave(agent.site_id)


def ran_at(customer: Client, site_id: str, name: str) -> str:
    """The id of an order that ran there to its end and is settled."""
    requirement = {"cores": 0.1, "sites": (site_id,)}
    spec = OrderSpec.model_validate(
        {"name": name, "run": {"command": ("true",)}, "requirement": requirement, "duration": "2m"}
    )
    order = customer.submit(spec)
    assert customer.wait(order.id).settled
    return order.id


def fits(page: Page) -> bool:
    """Whether nothing is wider than the window."""
    return bool(page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth"))
