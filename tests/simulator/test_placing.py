"""The two ways to a decision: what is decided at once is what a round of the order alone decides."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from tests.simulator.scenes import scenario
from yunhe.core.placement.passing import passes
from yunhe.core.policy import Policy
from yunhe.core.supply import SiteState
from yunhe.simulator.build import Network, build
from yunhe.simulator.order import Order, Terms
from yunhe.simulator.placing import AtOnce, Rounds, whole
from yunhe.simulator.work import Stream

NOW_MS = 1_767_542_400_000


@pytest.fixture
def network() -> Network:
    return build(scenario())


def orders(network: Network, count: int) -> list[Order]:
    jobs = islice(Stream(scenario(), network, 0, Path()).open(0), count)
    return [Order(i, job, 0, NOW_MS + i, Terms(0, 0, 10_000, "fp16")) for i, (_, job) in enumerate(jobs, 1)]


def placers(network: Network) -> tuple[Rounds, AtOnce]:
    parts = whole(network.supply), network.customers, network.policy, 7, 1_000
    return Rounds(*parts), AtOnce(*parts)


def test_at_once_is_as_a_round_of_the_order_alone(network: Network) -> None:
    rounds, at_once = placers(network)
    placed = []
    for order in orders(network, 60):
        rounds.add(order, NOW_MS)
        alone, now = list(rounds.decide(NOW_MS)), list(at_once.add(order, NOW_MS))
        assert alone == now
        if not alone:
            rounds._waiting.clear()
            at_once._waiting.clear()
        placed += [(order, item) for item in now]
        if len(placed) > 8:  # units become free in another order than they were taken
            old, item = placed.pop(len(placed) // 2)
            for placer in (rounds, at_once):
                placer.release(item.pool, item.milli, item.memory_bytes, old.customer)
    assert len(placed) > 5


def test_a_site_that_is_away_takes_nothing_until_it_is_back(network: Network) -> None:
    """Also while units are given back there, in a round, and when prices change meanwhile."""
    _, placer = placers(network)
    waiting = orders(network, 6)
    first = placer.add(waiting[0], NOW_MS)[0]
    sites = network.supply.sites
    home = network.supply.pools[first.pool].site_id
    away = tuple(replace(site, connected=False) if site.id == home else site for site in sites)
    placer.change_sites(away)
    placer.release(first.pool, first.milli, first.memory_bytes, waiting[0].customer)
    elsewhere = [item.pool for order in waiting[1:3] for item in placer.add(order, NOW_MS)]
    dearer = tuple(replace(site, power_price_microcny_per_kwh=10**6) for site in away)
    placer.change_sites(dearer)
    elsewhere += [item.pool for item in placer.add(waiting[3], NOW_MS)]
    placer._waiting[waiting[4].number] = waiting[4]
    elsewhere += [item.pool for item in placer.decide(NOW_MS)]
    assert len(elsewhere) >= 3 and first.pool not in elsewhere
    placer.change_sites(tuple(replace(site, connected=True, state=SiteState.ACTIVE) for site in dearer))
    assert placer._engine is not None and placer._engine.free[first.pool] == network.supply.free[first.pool].milli


def test_who_waits_holds_up_nobody_until_what_is_free_is_kept_for_it() -> None:
    policy = Policy(reserve_after_ms=1_000)
    assert passes(policy, None, 5_000)
    assert passes(policy, 4_001, 5_000)
    assert not passes(policy, 4_000, 5_000)
    assert not passes(replace(policy, backfill=False), 4_999, 5_000)
