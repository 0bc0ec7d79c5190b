"""A small network, a queue and short names for the tests of placement."""

from dataclasses import replace
from typing import Any

import numpy as np

from yunhe.core.demand import Compute, LatencyBound, LatencyKind, Precision, Preference, Requirement, Shape, Terms, Work
from yunhe.core.policy import Policy
from yunhe.core.round import AccountShare, Queue, Snapshot
from yunhe.core.supply import Free, Pool, PoolKind, Rate, Site, SiteState, Supply

GIB = 2**30
HOUR = 3_600_000
NOW = 1_790_000_000_000
GFLOPS = 10**9
TFLOPS = 10**12
POLICY = Policy()
PLACES = {"shanghai": (31.23, 121.47), "beijing": (39.90, 116.40), "chengdu": (30.57, 104.07)}


def a_site(id: str = "s1", **changes: Any) -> Site:
    """An active site in Beijing."""
    site = Site(
        id=id,
        name=id,
        provider="provider",
        region="beijing",
        cluster=None,
        lat=39.90,
        lon=116.40,
        pue_milli=1_250,
        carbon_g_per_kwh=500,
        power_price_microcny_per_kwh=600_000,
        tier=1,
        bandwidth_bps=10**10,
        state=SiteState.ACTIVE,
    )
    return replace(site, **changes)


def a_pool(id: str = "s1:cpu", **changes: Any) -> Pool:
    """8 cores with 32 GiB in one host; measured 10 GFLOPS@fp64, nominal 100 GFLOPS@fp32."""
    pool = Pool(
        id=id,
        site_id=id.split(":")[0],
        kind=PoolKind.CPU,
        chip="x86",
        stack="cpu",
        capacity_milli=8_000,
        memory_bytes=32 * GIB,
        card_memory_bytes=0,
        max_slot_milli=8_000,
        rates=(
            Rate(Precision.FP64, 20 * GFLOPS, 10 * GFLOPS),
            Rate(Precision.FP32, 100 * GFLOPS, None),
        ),
        price_microcny_per_unit_hour=100_000,
        watts_per_unit=10,
    )
    return replace(pool, **changes)


def cards(id: str = "s1:gpu", **changes: Any) -> Pool:
    """4 hosts of 8 cards; measured 200 TFLOPS@bf16 a card."""
    pool = replace(
        a_pool(id),
        kind=PoolKind.ACCELERATOR,
        chip="a100",
        stack="cuda",
        capacity_milli=32_000,
        memory_bytes=4 * 512 * GIB,
        card_memory_bytes=80 * GIB,
        max_slot_milli=8_000,
        rates=(Rate(Precision.BF16, 312 * TFLOPS, 200 * TFLOPS),),
        price_microcny_per_unit_hour=10_000_000,
        watts_per_unit=400,
    )
    return replace(pool, **changes)


def a_supply(*parts: Site | Pool, free: dict[str, Free] | None = None) -> Supply:
    """Sites and pools; every pool is free as a whole unless `free` says otherwise."""
    sites = tuple(part for part in parts if isinstance(part, Site))
    pools = tuple(part for part in parts if isinstance(part, Pool))
    whole = tuple((free or {}).get(p.id, Free(p.capacity_milli, p.memory_bytes)) for p in pools)
    return Supply(sites, pools, whole, PLACES)


def a_shape(run_limit_ms: int = HOUR, **parts: Any) -> Shape:
    """A shape by the fields of Requirement and Terms; one core for an hour if nothing is said."""
    terms_fields = {"deadline_ms", "budget_microcny", "preference", "array", "start_ms", "patience_ms"}
    terms = Terms(run_limit_ms, **{k: v for k, v in parts.items() if k in terms_fields})
    need = {k: v for k, v in parts.items() if k not in terms_fields}
    if "stacks" not in need:
        need["stacks"] = frozenset({"cpu", "cuda"})
    return Shape(Requirement(**need), terms)


def an_account(id: str = "org", weight: int = 1, used: int = 0, quota: int | None = None) -> AccountShare:
    return AccountShare(id, weight, used, quota)


def a_queue(*orders: dict[str, int]) -> Queue:
    """Orders as dicts of shape, account, priority, age_ms and tasks, all 0 (tasks: 1) if not said."""
    return Queue(
        ids=tuple(f"o{i:03d}" for i in range(len(orders))),
        shape=np.array([o.get("shape", 0) for o in orders], dtype=np.int32),
        account=np.array([o.get("account", 0) for o in orders], dtype=np.int32),
        priority=np.array([o.get("priority", 0) for o in orders], dtype=np.int16),
        submitted_ms=np.array([NOW - o.get("age_ms", 0) for o in orders], dtype=np.int64),
        tasks=np.array([o.get("tasks", 1) for o in orders], dtype=np.int32),
        version=np.array([i + 1 for i in range(len(orders))], dtype=np.int64),
    )


def a_snapshot(
    supply: Supply,
    shapes: tuple[Shape, ...],
    *orders: dict[str, int],
    accounts: tuple[AccountShare, ...] = (AccountShare("org", 1, 0, None),),
) -> Snapshot:
    return Snapshot(supply, shapes, accounts, a_queue(*orders))


__all__ = [
    "GFLOPS",
    "GIB",
    "HOUR",
    "NOW",
    "PLACES",
    "POLICY",
    "TFLOPS",
    "Compute",
    "LatencyBound",
    "LatencyKind",
    "Precision",
    "Preference",
    "Work",
    "a_pool",
    "a_queue",
    "a_shape",
    "a_site",
    "a_snapshot",
    "a_supply",
    "an_account",
    "cards",
]
