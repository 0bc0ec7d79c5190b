"""The largest gangs that are known of: placed whole, in one pool, or not at all."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.national import LARGEST_CARDS, NOW_MS, Scale, a_supply
from tests.core.placement_network import HOUR
from yunhe.core.demand import Requirement, Shape, Terms
from yunhe.core.placement.online import Online
from yunhe.core.policy import Policy
from yunhe.core.round import AccountShare, Plan, Queue, Snapshot, explain, plan_round
from yunhe.core.supply import Free, Supply

CARDS = 20_000
STACKS = frozenset({"cuda", "cann", "dtk", "maca", "corex", "neuware", "musa"})
GANG = Shape(Requirement(cards=8, slots=CARDS // 8, stacks=STACKS), Terms(run_limit_ms=HOUR))
SINGLE = Shape(Requirement(cards=1, stacks=STACKS), Terms(run_limit_ms=HOUR))


def a_nation(*, taken_milli: int = 0) -> tuple[Supply, int]:
    """300 sites with the four largest pools, and which pool is the largest; all is free but for `taken_milli` of it."""
    supply = a_supply(np.random.default_rng(4), Scale(sites=300, pools=900))
    largest = max(range(len(supply.pools)), key=lambda i: supply.pools[i].capacity_milli)
    pool = supply.pools[largest]
    assert pool.capacity_milli == LARGEST_CARDS[0] * 1000
    free = [Free(each.capacity_milli, each.memory_bytes) for each in supply.pools]
    free[largest] = Free(pool.capacity_milli - taken_milli, pool.memory_bytes)
    pools = list(supply.pools)
    pools[largest] = replace(pool, stack="cuda", trust_milli=1000)
    sites = tuple(replace(site, connected=True) for site in supply.sites)
    return replace(supply, pools=tuple(pools), sites=sites, free=tuple(free)), largest


def a_round(supply: Supply, policy: Policy, waited_ms: int = 1_000) -> Plan:
    """One gang, and 500 orders of a card that came after it."""
    count = 501
    queue = Queue(
        ids=tuple(f"o{i:03d}" for i in range(count)),
        shape=np.array([0] + [1] * 500, dtype=np.int32),
        account=np.array([0] + [1] * 500, dtype=np.int32),
        priority=np.zeros(count, dtype=np.int16),
        submitted_ms=np.array([NOW_MS - waited_ms] + [NOW_MS] * 500, dtype=np.int64),
        tasks=np.ones(count, dtype=np.int32),
        version=np.zeros(count, dtype=np.int64),
    )
    accounts = AccountShare("gang", 1, 0, None), AccountShare("singles", 1, 0, None)
    return plan_round(Snapshot(supply, (GANG, SINGLE), accounts, queue), policy, NOW_MS, 0)


@pytest.mark.parametrize("together", [False, True])
def test_a_gang_of_20000_cards_goes_whole_into_one_pool(together: bool) -> None:
    supply, largest = a_nation()
    plan = a_round(supply, Policy(improve_from_pairs=0 if together else 10**9))
    (gang,) = [a for a in plan.assignments if a.order_id == "o000"]
    assert (gang.pool_id, gang.tasks, gang.milli) == (supply.pools[largest].id, 1, CARDS * 1000)
    assert len(plan.assignments) == 501
    online = Online(supply, Policy())
    (taken,) = online.decide(GANG, NOW_MS)
    assert (taken.pool, taken.milli) == (largest, CARDS * 1000)


def test_it_waits_rather_than_being_split_and_says_why() -> None:
    """The four largest pools have 73,000 free cards together, but none has as many as it takes."""
    supply, largest = a_nation(taken_milli=1_000_000)
    plan = a_round(supply, Policy())
    assert "o000" not in {a.order_id for a in plan.assignments}
    assert plan.waiting == 1
    (entry,) = [e for e in explain(GANG, supply, Policy(), NOW_MS) if e.pool_id == supply.pools[largest].id]
    assert [reason.code for reason in entry.reasons] == ["busy"]
    assert Online(supply, Policy()).decide(GANG, NOW_MS) == ()


def test_a_gang_that_waited_long_has_its_pool_kept_for_it() -> None:
    """Backfill goes around it: what is free in its pool goes to nobody else, and all others find a place."""
    supply, largest = a_nation(taken_milli=1_000_000)
    policy = Policy()
    plan = a_round(supply, policy, waited_ms=policy.reserve_after_ms)
    assert supply.pools[largest].id not in {a.pool_id for a in plan.assignments}
    assert len(plan.assignments) == 500
