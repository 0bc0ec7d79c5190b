"""A national instance: sites, pools and open orders of the size that the network is meant for.

Taken from public facts (`yunhe.facts`): places, chips with their rates and watts, carbon factors.  Assumed, since
nobody publishes them: sizes of pools (log-normal, median 64 cards, the largest four at 18,000 to 20,480 cards), what
is free of them (a third is all but full, the rest is 30 to 100 % free), prices (10 CNY an hour for a card of 312
TFLOP/s, with the 0.8th power of its rate and up to 40 % either way), PUE, tiers, the links (great circles between the
nearest cities, an access line for every site), and what orders ask for (forms with a Zipf weight; each order has a
deadline and a budget of its own).  One order is a gang of 20,000 cards, and the largest pool is idle, so that it can
start.  Power costs 1.6 times the base price in the regions where the hour is a peak, and
0.5 times where it is a valley.  Seeded; nothing is fitted to a result.
"""

from dataclasses import dataclass, replace
from typing import Any

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
from yunhe.core.lines import one_way_us
from yunhe.core.round import AccountShare, Queue, Snapshot
from yunhe.core.supply import Free, Link, Pool, PoolKind, Rate, Site, SiteState, Supply
from yunhe.facts.load import Chip, Place, carbon_factors, chips, place_coordinates, places

NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
GIB = 2**30
TERA = 10**12
CHIPS = 40
ACCOUNTS = 500
FORMS_PER_ORDER = 0.06
LARGEST_CARDS = (20_480, 18_000, 18_000, 18_000)
LARGEST_GANG_HOSTS = 2_500  # of 8 cards
_HALF = (Precision.BF16, Precision.FP16)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    sites: int = 7_000
    pools: int = 20_000
    orders: int = 10_000


def nation(seed: int, scale: Scale = Scale(), load: float = 1.0) -> Snapshot:
    """One snapshot; `load` multiplies the cards that gangs ask for."""
    draw = np.random.default_rng(seed)
    supply = a_supply(draw, scale)
    asked, queue = _orders(draw, scale.orders, supply, load)
    accounts = tuple(
        AccountShare(
            f"org-{i:04d}",
            int(draw.integers(1, 6)),
            int(draw.integers(0, 500_000)),
            int(draw.choice([600_000, 4_000_000, 40_000_000])) if i % 10 == 0 else None,
        )
        for i in range(ACCOUNTS)
    )
    return Snapshot(supply, asked, accounts, queue)


# --- supply ---------------------------------------------------------------------------------------------------------


def a_supply(draw: np.random.Generator, scale: Scale) -> Supply:
    near = places()
    weight = draw.dirichlet(np.full(len(near), 1.5))
    at = draw.choice(len(near), scale.sites, p=weight)
    carbon = {row.name_en: row.mg_per_kwh // 1000 for row in carbon_factors()}
    hour = dict(zip({p.region: 0 for p in near}, draw.choice([0.5, 1.0, 1.6], 64).tolist(), strict=False))
    sites = tuple(_site(i, near[p], carbon, hour, draw) for i, p in enumerate(at.tolist()))
    kinds = [chip for chip in chips() if chip.flops][-CHIPS:]
    # Every site has a pool; the rest fall on sites at random.
    where = np.concatenate([np.arange(scale.sites), draw.integers(0, scale.sites, scale.pools - scale.sites)])
    of = _kinds(draw, kinds, scale.pools)
    pools = [_pool(i, sites[s], kinds[of[i]], draw) for i, s in enumerate(where.tolist())]
    cards = [i for i, pool in enumerate(pools) if pool.kind is PoolKind.ACCELERATOR]
    largest = draw.choice(cards, len(LARGEST_CARDS), replace=False).tolist()
    for i, size in zip(largest, LARGEST_CARDS, strict=True):
        pools[i] = replace(pools[i], capacity_milli=size * 1000, memory_bytes=size * 128 * GIB, max_slot_milli=8_000)
    full = draw.random(len(pools)) < 0.35
    share = np.where(full, draw.uniform(0, 0.05, len(pools)), draw.uniform(0.3, 1, len(pools)))
    share[largest[0]] = 1.0
    pools[largest[0]] = replace(pools[largest[0]], trust_milli=1000)
    sites = tuple(replace(s, connected=True) if s.id == pools[largest[0]].site_id else s for s in sites)
    free = tuple(_free(pool, part) for pool, part in zip(pools, share.tolist(), strict=True))
    return Supply(sites, tuple(pools), free, dict(place_coordinates()), links=_links(sites, near, draw))


def _links(sites: tuple[Site, ...], near: tuple[Place, ...], draw: np.random.Generator) -> tuple[Link, ...]:
    """Every site to its place, one in five to another site there, and every place to its four nearest."""
    found = [Link(s.id, str(s.cluster), int(draw.integers(100, 1_500)), s.bandwidth_bps) for s in sites]
    by_place: dict[str, list[Site]] = {}
    for site in sites:
        by_place.setdefault(str(site.cluster), []).append(site)
    for some in by_place.values():
        found += [
            Link(a.id, b.id, int(draw.integers(50, 800)), 10**10) for a, b in zip(some[::5], some[1::5], strict=False)
        ]
    for place in near:
        by_distance = sorted(
            (one_way_us(place.lat, place.lon, p.lat, p.lon, 130), p.id) for p in near if p is not place
        )
        found += [Link(place.id, other, us, 4 * 10**11) for us, other in by_distance[:4]]
    return tuple(found)


def _kinds(draw: np.random.Generator, kinds: list[Chip], count: int) -> list[int]:
    weight = np.array([8.0 if chip.kind == "cpu" else 1.0 for chip in kinds]) * draw.dirichlet(np.ones(len(kinds)))
    return draw.choice(len(kinds), count, p=(weight + 0.002) / (weight + 0.002).sum()).tolist()  # type: ignore[no-any-return]


def _free(pool: Pool, share: float) -> Free:
    milli = int(pool.capacity_milli * share) // 1000 * 1000
    return Free(milli, pool.memory_bytes // pool.capacity_milli * milli)


def _site(i: int, place: Place, carbon: dict[str, int], hour: dict[str, float], draw: np.random.Generator) -> Site:
    base = float(draw.uniform(350_000, 700_000))
    return Site(
        id=f"site-{i:04d}",
        name=f"{place.name_en} {i}",
        provider=f"provider-{int(draw.integers(0, 400)):03d}",
        region=place.region,
        cluster=place.id,
        lat=place.lat + float(draw.normal(0, 0.5)),
        lon=place.lon + float(draw.normal(0, 0.5)),
        pue_milli=int(draw.integers(1100, 1600)),
        carbon_g_per_kwh=carbon.get(place.region, 537),
        power_price_microcny_per_kwh=int(base * hour[place.region]),
        tier=int(draw.choice([0, 1, 2, 3, 4], p=[0.1, 0.3, 0.3, 0.2, 0.1])),
        bandwidth_bps=int(draw.choice([1, 10, 100, 400])) * 10**9,
        state=SiteState.ACTIVE,
        connected=bool(draw.random() > 0.01),
    )


def _pool(i: int, site: Site, chip: Chip, draw: np.random.Generator) -> Pool:
    is_cpu = chip.kind == "cpu"
    units = int(np.clip(draw.lognormal(np.log(512 if is_cpu else 64), 1.4 if is_cpu else 1.6), 4, 16_000))
    units = max(8, units // 8 * 8)
    cores = chip.cores or 1
    rates = tuple(_rate(p, flops // (cores if is_cpu else 1), draw) for p, flops in chip.flops)
    half = max([flops for p, flops in chip.flops if p in _HALF], default=30 * TERA)
    price = 100_000 if is_cpu else 10_000_000 * (half / (312 * TERA)) ** 0.8
    return Pool(
        id=f"{site.id}:{i:05d}",
        site_id=site.id,
        kind=PoolKind.CPU if is_cpu else PoolKind.ACCELERATOR,
        chip=chip.id,
        stack=chip.stack,
        capacity_milli=units * 1000,
        memory_bytes=units * (4 if is_cpu else 128) * GIB,
        card_memory_bytes=chip.memory_bytes or 0,
        max_slot_milli=cores * 1000 if is_cpu else 8_000,
        rates=rates,
        price_microcny_per_unit_hour=int(price * draw.uniform(0.6, 1.4)),
        watts_per_unit=(chip.watts or 400) // (cores if is_cpu else 1) or 1,
        trust_milli=int(draw.choice([0, 900, 1000], p=[0.005, 0.095, 0.9])),
    )


def _rate(precision: Precision, flops: int, draw: np.random.Generator) -> Rate:
    measured = int(flops * draw.uniform(0.5, 0.8)) if draw.random() < 0.7 else None
    return Rate(precision, flops, measured)


# --- orders ---------------------------------------------------------------------------------------------------------


def _orders(draw: np.random.Generator, count: int, supply: Supply, load: float) -> tuple[tuple[Shape, ...], Queue]:
    forms = [_form(draw, supply, load) for _ in range(max(20, int(count * FORMS_PER_ORDER)))]
    weight = 1 / np.arange(1, len(forms) + 1) ** 0.8
    of = draw.choice(len(forms), count, p=weight / weight.sum()).tolist()
    array = np.where(draw.random(count) < 0.05, draw.integers(2, 200, count), 1)
    array[[forms[f][1] >= 512 for f in of]] = 1
    asked: dict[Shape, int] = {}
    shape = []
    forms.append(_largest_gang(supply))
    of[-1], array[-1] = len(forms) - 1, 1
    for f, tasks in zip(of, array.tolist(), strict=True):
        need, cards = forms[f][:2]
        own = _terms(draw, forms[f][2], cards, int(tasks), need.work is not None)
        terms = own if f < len(forms) - 1 else forms[f][2]
        shape.append(asked.setdefault(Shape(need, terms), len(asked)))
    priority = draw.choice([0, 5, 9], count, p=[0.8, 0.15, 0.05]).astype(np.int16)
    submitted = NOW_MS - draw.integers(0, 8_000, count) * 1000
    account = np.minimum(draw.zipf(1.3, count) - 1, ACCOUNTS - 1).astype(np.int32)
    priority[-1], submitted[-1], account[-1] = 9, NOW_MS - 7_200_000, ACCOUNTS - 1  # an account without a quota
    rows = np.lexsort((submitted, -priority))
    queue = Queue(
        ids=tuple(f"order-{i:06d}" for i in range(count)),
        shape=np.array(shape, dtype=np.int32)[rows],
        account=account[rows],
        priority=priority[rows],
        submitted_ms=submitted[rows],
        tasks=array.astype(np.int32)[rows],
        version=np.ones(count, dtype=np.int64),
    )
    return tuple(asked), queue


def _largest_gang(supply: Supply) -> tuple[Requirement, float, Terms]:
    """Training on the largest pool, with its data a metro away."""
    pool = max(supply.pools, key=lambda pool: (pool.kind is PoolKind.ACCELERATOR, pool.capacity_milli))
    where = next(site.cluster for site in supply.sites if site.id == pool.site_id)
    need = Requirement(
        cards=8, slots=LARGEST_GANG_HOSTS, stacks=frozenset({pool.stack}), data_at=where, data_bytes=10**14
    )
    return need, LARGEST_GANG_HOSTS * 8, Terms(run_limit_ms=72 * HOUR_MS)


def _terms(draw: np.random.Generator, form: Terms, cards: float, tasks: int, is_work: bool) -> Terms:
    """Own deadlines and budgets. A budget is a multiple of what the task costs at the base price."""
    deadline = budget = None
    if is_work or draw.random() < 0.2:
        deadline = NOW_MS + int(form.run_limit_ms * draw.uniform(1.0, 6.0))
    if draw.random() < 0.6:
        hours = form.run_limit_ms / HOUR_MS
        budget = int(cards * hours * tasks * 12_000_000 * draw.choice([0.6, 1.0, 2.0, 5.0]) * draw.uniform(0.9, 1.1))
    return replace(form, deadline_ms=deadline, budget_microcny=budget, array=tasks)


def _form(draw: np.random.Generator, supply: Supply, load: float) -> tuple[Requirement, float, Terms]:
    """What orders of one kind ask for, roughly how many cards a task takes, and their terms."""
    terms = Terms(
        run_limit_ms=int(draw.choice([1, 4, 12, 24, 72])) * HOUR_MS,
        preference=list(Preference)[int(draw.choice(3, p=[0.7, 0.2, 0.1]))],
    )
    need, cards = _size(draw, terms, load)
    return replace(need, **_where(draw, supply)), cards, terms


_CUDA, _CANN = frozenset({"cuda"}), frozenset({"cann"})
_SEVERAL = frozenset({"cuda", "cann", "dtk", "maca", "corex", "neuware", "musa"})


def _size(draw: np.random.Generator, terms: Terms, load: float) -> tuple[Requirement, float]:
    stacks = [_CUDA, _CANN, _SEVERAL, _CUDA | _CANN][int(draw.choice(4, p=[0.4, 0.2, 0.25, 0.15]))]
    precision = _HALF[int(draw.integers(0, 2))]
    hours = terms.run_limit_ms / HOUR_MS
    kind = draw.random()
    if kind < 0.25:
        cores = int(draw.choice([1, 4, 16, 48]))
        memory = int(draw.choice([0, 2, 8])) * GIB * cores
        return Requirement(
            cores_milli=cores * 1000, memory_bytes=memory, slots=int(draw.choice([1, 1, 1, 8]))
        ), cores / 50
    if kind < 0.55:
        cards = int(draw.choice([1, 2, 4, 8]))
        memory = int(draw.choice([0, 24, 60])) * GIB
        return Requirement(cards=cards, stacks=stacks, card_memory_bytes=memory), cards
    if kind < 0.75:
        hosts = int(np.clip(draw.pareto(0.9) * 2 * load + 2, 2, 2_500))
        named = str(draw.choice(["a100-sxm-80g", "ascend-910b3", "h800-sxm", "hygon-k100ai"]))
        if draw.random() < 0.3 and hosts < 64:
            return Requirement(cards=8, slots=hosts, chip=named, stacks=_SEVERAL), hosts * 8
        return Requirement(cards=8, slots=hosts, stacks=stacks), hosts * 8
    units = float(draw.choice([1, 4, 16, 64]))
    if kind < 0.92:
        return Requirement(compute=Compute(int(units * 200 * TERA), precision), stacks=stacks), units
    flop = int(units * 200 * TERA * hours * 3600)
    return Requirement(work=Work(flop, precision), stacks=stacks), units


def _where(draw: np.random.Generator, supply: Supply) -> dict[str, Any]:
    """Limits on the place, each with a probability of its own."""
    names = sorted(supply.places)
    regions = sorted({site.region for site in supply.sites})
    found: dict[str, Any] = {}
    if draw.random() < 0.3:
        kind = LatencyKind.RTT if draw.random() < 0.8 else LatencyKind.ONE_WAY
        found["latency"] = (LatencyBound(str(draw.choice(names)), int(draw.choice([5, 10, 20, 50])) * 1000, kind),)
    if draw.random() < 0.12:
        found["residency"] = frozenset(draw.choice(regions, int(draw.integers(1, 6)), replace=False).tolist())
    if draw.random() < 0.3:
        found["tier"] = int(draw.integers(1, 4))
    if draw.random() < 0.1:
        found["max_carbon_g_per_kwh"] = int(draw.choice([300, 500, 600]))
    if draw.random() < 0.1:
        found["bandwidth_bps"] = int(draw.choice([1, 10, 100])) * 10**9
    if draw.random() < 0.15:
        found["data_at"], found["data_bytes"] = str(draw.choice(names)), int(draw.choice([10, 100, 1000])) * 10**10
    return found
