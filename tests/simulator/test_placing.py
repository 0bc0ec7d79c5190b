"""The two ways to a decision: what is decided at once is what a round of the order alone decides."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, sampled_from

from tests.simulator.scenes import scenario
from yunhe.core.demand import Compute, Precision, Shape
from yunhe.core.placement.board import Board
from yunhe.core.placement.dearest import dearest_hold
from yunhe.core.placement.passing import passes
from yunhe.core.policy import Policy
from yunhe.core.round import AccountShare, Queue, Snapshot
from yunhe.core.supply import SiteState, Supply
from yunhe.simulator.build import Network, build
from yunhe.simulator.islands import whole
from yunhe.simulator.order import Order, Terms
from yunhe.simulator.placer import Placement
from yunhe.simulator.placing import AtOnce, Rounds, decided
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


def one_order(supply: Supply, shape: Shape) -> Snapshot:
    one = np.ones(1, dtype=np.int64)
    queue = Queue(("o",), 0 * one, 0 * one, 0 * one, NOW_MS * one, one, one)
    return Snapshot(supply, (shape,), (AccountShare("all", 1, 0, None),), queue)


WITH_DATA = ("    ask: compute", "    ask: compute\n    data: {share: 60%, size: 50GiB}")


def test_data_that_come_in_time_everywhere_decide_nothing() -> None:
    """Their orders go where the round of the order as it stands sends them, and their hold is the same; where compute
    costs nearly the same everywhere, so that the least difference shows."""
    found = scenario(WITH_DATA, ("price: 8CNY/h", "price: 5CNY/h"), ("price: 4CNY/h", "price: 2CNY/h"))
    network = build(found)
    jobs = [job for _, job in islice(Stream(found, network, 0, Path()).open(0), 60)]
    _, placer = placers(network)
    placed = 0
    for i, job in enumerate(jobs, 1):
        order = Order(i, job, 0, NOW_MS + i, Terms(0, 0, 10_000, "fp16"))
        assert placer.hold(job.shape, NOW_MS) == dearest_hold(job.shape, Board(network.supply, network.policy), NOW_MS)
        free = replace(network.supply, free=placer._free())
        plan = decided(one_order(free, job.shape), network.policy, NOW_MS, 7)
        now = list(placer.add(order, NOW_MS))
        assert [network.supply.pools[item.pool].id for item in now] == [given.pool_id for given in plan.assignments]
        placed += len(now)
        placer._waiting.clear()
    assert placed > 10 and sum(job.shape.requirement.data_bytes > 0 for job in jobs) > 20
    assert not any(shape.requirement.data_bytes for _, shape in placer._without_data.values())


@pytest.mark.parametrize(
    "change",
    [
        ("    power_price: 0.40CNY/kWh", "    bandwidth: 10Mbps"),  # 12 h for 50 GiB: too late for the shorter runs
        ("operator_fee: 5%", "operator_fee: 5%, transfer_price: 0.5CNY/GiB"),
        ("    ask: compute", "    ask: work"),
        ("    ask: compute", "    ask: compute\n    preference: speed"),
    ],
)
def test_data_that_decide_something_are_asked_about(change: tuple[str, str]) -> None:
    found = scenario(WITH_DATA, change)
    network = build(found)
    _, placer = placers(network)
    jobs = (job for _, job in islice(Stream(found, network, 0, Path()).open(0), 60))
    shapes = [job.shape for job in jobs if job.shape.requirement.data_bytes]
    short = [shape for shape in shapes if shape.terms.run_limit_ms <= 6 * 3_600_000]
    assert short and all(placer._asked(shape) is not None and placer._asked(shape) == shape for shape in short)


POLICIES = (Policy(), Policy(reserve_after_ms=20), Policy(backfill=False), Policy(max_assignments=2))


@given(seed=integers(0, 10_000), policy=sampled_from(POLICIES))
@settings(max_examples=40, deadline=None)
def test_a_line_of_one_customer_is_decided_as_if_all_were_looked_at(seed: int, policy: Policy) -> None:
    """Also with rows that outlive their round, with priorities, and with orders that come back."""
    draw = Random(seed)
    network = replace(build(scenario()), policy=policy)
    every, few = placers(network)
    jobs = [job._replace(customer=0) for _, job in islice(Stream(scenario(), network, 0, Path()).open(0), 100)]
    large = replace(jobs[0].shape.requirement, compute=Compute(10**21, Precision.FP16))
    jobs[0] = jobs[0]._replace(shape=replace(jobs[0].shape, requirement=large))  # waits for ever, and nobody passes
    running: list[tuple[Order, Placement]] = []
    known: dict[int, Order] = {}
    placed = 0
    for i, job in enumerate(jobs):
        now_ms = NOW_MS + i
        came_ms = now_ms if i else NOW_MS - 2 * policy.reserve_after_ms
        order = Order(i, job, 0, came_ms, Terms(draw.choice((0, 0, 0, 1)), 0, 10_000, "fp16"))
        known[i] = order
        back = [running.pop(draw.randrange(len(running))) for _ in range(draw.choice((0, 0, 1, 2))) if running]
        for placer in (every, few):
            for old, item in back:
                placer.release(item.pool, item.milli, item.memory_bytes, old.customer)
            for new in (order, *(old for old, _ in back[:1])):
                assert not placer.add(new, now_ms)
        if draw.random() < 0.6:
            of_all, of_few = every.decide(now_ms), few.decide(now_ms)
            assert list(of_all) == list(of_few)
            placed += len(of_all)
            running += [(known[item.number], item) for item in of_all]
    assert placed > 10


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
