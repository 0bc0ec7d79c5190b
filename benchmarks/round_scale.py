"""One round over 100 sites (200 pools), 10,000 open orders of 20 shapes and 50 accounts: p50 and p99 in ms.

Two networks by seed: `roomy`, where everything fits and the round ends at its cap of 5,000 tasks, and `full`, where
3 % of the units are free and most orders wait.  `round_100_sites_p99` is the worse of the two p99, wall time; the CPU
time beside it tells the round from its neighbours on a shared machine.  A third figure, `distinct`, gives every order
a deadline of its own (10,000 shapes, 1,000 of them `work`): it is shown, and not part of the budget.

    python benchmarks/round_scale.py [seed]

Expected: 2 ms for the constraints (4,000 pairs, 21 vector operations), 1 us for each of 5,000 tasks that are given, 2
ms of sorting: 9 ms roomy, 5 ms full.  Found on 2 shared cores of an EPYC: the first version took 35 and 17 ms, 10 ms
of it for breaking ties of arrival by id over rows that were in order, 14 ms for walking orders of classes that had
run out.  Now 8 ms and 5 ms of CPU time when the machine is quiet, of them 1.7 ms for the constraints, 4.5 and 2.5 ms
for the assignment and 1.1 ms for making the tuples of the plan.  Beside others, at a load of 10 on the 2 cores, 12
and 8 ms of CPU time, and 46 and 31 ms of wall time (p50; p99 123 and 65 ms, over the budget of 50).  Collections that
walked all waiting snapshots gave the highest peaks (12 ms), hence `gc.freeze`.  `distinct` took 770 ms before shapes
were grouped by class; what is left is nearly all for `work`, whose sizes follow the deadline.
"""

import gc
import sys
import time
from dataclasses import dataclass, replace

import numpy as np

from yunhe.core.demand import (
    Compute,
    LatencyBound,
    LatencyKind,
    Precision,
    Preference,
    Requirement,
    Shape,
    Terms,
    Work,
)
from yunhe.core.policy import Policy
from yunhe.core.round import AccountShare, Plan, Queue, Snapshot, plan_round
from yunhe.core.supply import Free, Pool, PoolKind, Rate, Site, SiteState, Supply

SITES = 100
ORDERS = 10_000
ACCOUNTS = 50
ROUNDS = 200
BUDGET_MS = 50.0
GOAL_MS = 10.0
NOW_MS = 1_790_000_000_000
PLACES = {"shanghai": (31.23, 121.47), "beijing": (39.90, 116.40), "guangzhou": (23.13, 113.26)}
REGIONS = ("Hebei", "Inner Mongolia", "Guizhou", "Gansu", "Ningxia", "Shanghai", "Guangdong", "Sichuan")
CHIPS = (("a", 312), ("b", 376), ("c", 989))  # name, nominal TFLOP/s at BF16
GIB = 2**30


def supply(draw: np.random.Generator, free_share: float) -> Supply:
    """One CPU pool and one accelerator pool at each site; `free_share` of each is free."""
    sites, pools = [], []
    for i in range(SITES):
        sites.append(
            Site(
                id=f"site-{i:03d}",
                name=f"Site {i}",
                provider=f"provider-{i % 20}",
                region=REGIONS[i % len(REGIONS)],
                cluster=None,
                lat=float(draw.uniform(22, 45)),
                lon=float(draw.uniform(88, 125)),
                pue_milli=int(draw.integers(1100, 1500)),
                carbon_g_per_kwh=int(draw.integers(200, 800)),
                power_price_microcny_per_kwh=int(draw.integers(300_000, 800_000)),
                tier=int(draw.integers(0, 4)),
                bandwidth_bps=int(draw.choice([1, 10, 100])) * 10**9,
                state=SiteState.ACTIVE,
                connected=bool(draw.random() > 0.02),
            )
        )
        cores = int(draw.integers(1_000, 4_000))
        pools.append(_cpu_pool(i, cores, draw))
        pools.append(_card_pool(i, int(draw.integers(16, 128)) * 8, draw))
    free = tuple(Free(int(p.capacity_milli * free_share), int(p.memory_bytes * free_share)) for p in pools)
    return Supply(tuple(sites), tuple(pools), free, PLACES)


def _cpu_pool(site: int, cores: int, draw: np.random.Generator) -> Pool:
    fp64 = int(draw.integers(20, 60)) * 10**9
    return Pool(
        id=f"site-{site:03d}:cpu",
        site_id=f"site-{site:03d}",
        kind=PoolKind.CPU,
        chip="x86",
        stack="cpu",
        capacity_milli=cores * 1000,
        memory_bytes=cores * 4 * GIB,
        card_memory_bytes=0,
        max_slot_milli=64_000,
        rates=(Rate(Precision.FP64, fp64 * 2, fp64), Rate(Precision.FP32, fp64 * 4, None)),
        price_microcny_per_unit_hour=int(draw.integers(50_000, 200_000)),
        watts_per_unit=5,
    )


def _card_pool(site: int, cards: int, draw: np.random.Generator) -> Pool:
    chip, tflops = CHIPS[site % len(CHIPS)]
    return Pool(
        id=f"site-{site:03d}:{chip}",
        site_id=f"site-{site:03d}",
        kind=PoolKind.ACCELERATOR,
        chip=chip,
        stack="cuda" if chip != "b" else "cann",
        capacity_milli=cards * 1000,
        memory_bytes=cards * 128 * GIB,
        card_memory_bytes=80 * GIB if chip == "c" else 64 * GIB,
        max_slot_milli=8_000,
        rates=(Rate(Precision.BF16, tflops * 10**12, int(tflops * draw.uniform(0.5, 0.8) * 10**12)),),
        price_microcny_per_unit_hour=int(draw.integers(5_000_000, 20_000_000)),
        watts_per_unit=600,
    )


def shapes() -> tuple[Shape, ...]:
    """20 shapes: every kind of constraint, all preferences."""
    hour = 3_600_000
    both = frozenset({"cuda", "cann"})
    near = (LatencyBound("shanghai", 20_000, LatencyKind.RTT),)
    two = (*near, LatencyBound("beijing", 15_000, LatencyKind.ONE_WAY))
    bf16, fp64 = Precision.BF16, Precision.FP64
    needs = (
        Requirement(cores_milli=1_000),
        Requirement(cores_milli=500, memory_bytes=GIB),
        Requirement(cores_milli=4_000, memory_bytes=16 * GIB),
        Requirement(cores_milli=16_000, latency=near),
        Requirement(cores_milli=8_000, slots=4, bandwidth_bps=10**10),
        Requirement(cores_milli=2_000, residency=frozenset({"Guizhou", "Gansu"})),
        Requirement(cores_milli=2_000, tier=2, max_carbon_g_per_kwh=500),
        Requirement(compute=Compute(10**12, fp64)),
        Requirement(compute=Compute(10**11, Precision.FP32), latency=two),
        Requirement(work=Work(10**16, fp64)),
        Requirement(cards=1, stacks=both),
        Requirement(cards=1, chip="a", stacks=both),
        Requirement(cards=8, stacks=both, card_memory_bytes=64 * GIB),
        Requirement(cards=8, slots=4, chip="c", stacks=both),
        Requirement(compute=Compute(10**15, bf16), stacks=both),
        Requirement(compute=Compute(20 * 10**15, bf16), stacks=both, tier=1),
        Requirement(work=Work(10**19, bf16), stacks=both, data_at="shanghai", data_bytes=10**11),
        Requirement(cards=2, stacks=frozenset({"cann"}), latency=near),
        Requirement(compute=Compute(10**18, bf16), stacks=both),  # nobody has it
        Requirement(cores_milli=1_000, sites=frozenset({"site-001", "site-002"})),
    )
    preferences = tuple(Preference)
    found = []
    for i, need in enumerate(needs):
        budget = 500_000_000 if i % 5 == 0 else None
        deadline = NOW_MS + 6 * hour if need.work is not None else None
        found.append(Shape(need, Terms((1 + i % 3) * hour, deadline, budget, preferences[i % 3])))
    return tuple(found)


def snapshot(seed: int, free_share: float) -> Snapshot:
    draw = np.random.default_rng(seed)
    asked = shapes()
    accounts = tuple(
        AccountShare(f"org-{i:02d}", int(draw.integers(1, 5)), int(draw.integers(0, 500_000)), _quota(i))
        for i in range(ACCOUNTS)
    )
    tasks = np.where(draw.random(ORDERS) < 0.02, draw.integers(2, 20, ORDERS), 1).astype(np.int32)
    priority = draw.choice([0, 5, 9], ORDERS, p=[0.8, 0.15, 0.05]).astype(np.int16)
    submitted_ms = NOW_MS - draw.integers(0, 8_000, ORDERS) * 1000
    ids = np.array([f"order-{i:06d}" for i in range(ORDERS)])
    rows = np.lexsort((ids, submitted_ms, -priority))  # as the hub reads them
    queue = Queue(
        ids=tuple(ids[rows].tolist()),
        shape=draw.integers(0, len(asked), ORDERS).astype(np.int32),
        account=draw.integers(0, ACCOUNTS, ORDERS).astype(np.int32),
        priority=priority[rows],
        submitted_ms=submitted_ms[rows],
        tasks=tasks,
        version=np.ones(ORDERS, dtype=np.int64),
    )
    return Snapshot(supply(draw, free_share), asked, accounts, queue)


def _quota(account: int) -> int | None:
    return 600_000 if account % 10 == 0 else None


def with_own_deadlines(given: Snapshot) -> Snapshot:
    """Every order becomes a shape of its own."""
    own = []
    for i, s in enumerate(given.queue.shape.tolist()):
        shape = given.shapes[s]
        terms = replace(shape.terms, deadline_ms=NOW_MS + 21_600_000 + i)
        own.append(Shape(shape.requirement, terms))
    queue = replace(given.queue, shape=np.arange(len(own), dtype=np.int32))
    return replace(given, shapes=tuple(own), queue=queue)


@dataclass(frozen=True, slots=True)
class Measured:
    """ms over many rounds, and the last plan."""

    p50: float
    p99: float
    cpu_p50: float
    plan: Plan


def measure(given: list[Snapshot], rounds: int) -> Measured:
    """Time `rounds` rounds that go through `given` in turn."""
    policy, spent, cpu = Policy(), [], []
    gc.collect()
    gc.freeze()  # the snapshots that wait their turn here are not a round's to walk in every collection
    plan = plan_round(given[0], policy, NOW_MS, 0)
    for i in range(rounds):
        before, cpu_before = time.perf_counter(), time.process_time()
        plan = plan_round(given[i % len(given)], policy, NOW_MS, i)
        cpu.append((time.process_time() - cpu_before) * 1000)
        spent.append((time.perf_counter() - before) * 1000)
    gc.unfreeze()
    p50, p99 = np.percentile(spent, [50, 99]).tolist()
    return Measured(p50, p99, float(np.percentile(cpu, 50)), plan)


def run(seed: int = 1) -> dict[str, str | float]:
    """The figure of the benchmark table, with its parts."""
    found: dict[str, str | float] = {"id": "round_100_sites_p99", "unit": "ms", "better": "lower"}
    worst = 0.0
    for name, share in (("roomy", 1.0), ("full", 0.03)):
        got = measure([snapshot(seed + i, share) for i in range(4)], ROUNDS)
        found |= {f"{name}_p50": round(got.p50, 2), f"{name}_p99": round(got.p99, 2)}
        found |= {f"{name}_cpu_p50": round(got.cpu_p50, 2)}
        found[f"{name}_assigned"] = float(sum(a.tasks for a in got.plan.assignments))
        worst = max(worst, got.p99)
    found["distinct_p50"] = round(measure([with_own_deadlines(snapshot(seed, 1.0))], 3).p50, 2)
    return found | {"value": round(worst, 2), "budget": BUDGET_MS, "goal": GOAL_MS}


if __name__ == "__main__":
    for key, value in run(int(sys.argv[1]) if len(sys.argv) > 1 else 1).items():
        print(f"{key:20} {value}")
