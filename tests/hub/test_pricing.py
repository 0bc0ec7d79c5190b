"""Prices at the ends of what can be stated: refused with a way out, before any sum leaves 64 bits."""

import pytest

from tests.hub.conftest import FakeClock
from tests.hub.world import World
from yunhe.core.errors import InvalidInput, OverBudget, TooLarge
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.platform.context import Platform
from yunhe.wire.api import SiteTerms


@pytest.fixture
def world(platform: Platform, clock: FakeClock) -> World:
    made = World(platform, clock)
    made.organisation("lab")
    return made


def test_an_order_that_may_cost_more_than_any_amount(world: World) -> None:
    site = world.site("north")
    dear = SiteTerms(price_per_core_hour="10000CNY", power_price_per_kwh="10000CNY")
    world.do(lambda tx: catalogue.set_terms(tx, site.id, dear))
    world.clock.ms += 1_000
    site.poll()
    huge = {"requirement": {"cores": 4, "memory": "64MiB"}, "duration": "30d", "array": 10_000, "retries": 10}
    with pytest.raises(TooLarge, match="more than 1000000000.00CNY") as refused:
        world.submit("lab", **huge, budget=None)
    assert refused.value.field == "duration" and "state a budget" in refused.value.hint
    with pytest.raises(OverBudget):
        world.submit("lab", **huge, budget="10CNY")


@pytest.mark.parametrize("name", ["price_per_core_hour", "price_per_card_hour", "power_price_per_kwh"])
def test_a_rate_has_a_bound_of_its_own(world: World, name: str) -> None:
    site = world.site("north")
    with pytest.raises(InvalidInput, match="10000CNY") as refused:
        world.do(lambda tx: catalogue.set_terms(tx, site.id, SiteTerms.model_validate({name: "10000.01CNY"})))
    assert refused.value.field == name
