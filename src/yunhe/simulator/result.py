"""What a run came to, as one document: the same for the same scenario and seed, to the last byte."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from yunhe.core.demand import Precision
from yunhe.core.lifecycle import TaskState
from yunhe.core.supply import PoolKind, Supply
from yunhe.simulator.tally import CLASSES, MS_PER_HOUR, Tally
from yunhe.simulator.world import World

FORMAT = 1
QUANTILES = (0.5, 0.9, 0.99)
_DIGITS = 9  # significant, of what is a float

Document = dict[str, Any]  # JSON


def document(world: World) -> Document:
    """Units are in the names; times are ms, money micro-CNY."""
    scenario, tally, book = world.scenario, world.tally, world.book
    now_ms = world.timeline.now_ms
    span_ms = max(1, min(now_ms, scenario.start + scenario.length) - tally.start_ms)
    cards = _card_milli(world.supply)
    busy = sum(float(step.busy_milli_ms.sum()) for step in tally.steps)
    found: Document = {
        "format": FORMAT,
        "scenario": scenario.name,
        "scenario_sha256": scenario.digest(),
        "seed": scenario.seed,
        "network": scenario.network,
        "engine": scenario.engine,
        "start_ms": scenario.start,
        "length_ms": scenario.length,
        "measured_from_ms": tally.start_ms,
        "end_ms": now_ms,
        "centres": len(world.supply.sites),
        "pools": len(world.supply.pools),
        "customers": len(world.network.customers),
        "cards": cards // 1000,
        "fp16_pflops_nominal": _pflops(world.supply),
        "events": world.timeline.events,
        "rounds": sum(placer.rounds for placer in world.placers),
        "orders": _orders(world),
        "utilisation": busy / (cards * span_ms) if cards else 0.0,
        "useful_card_hours": tally.useful_milli_ms / 1000 / MS_PER_HOUR,
        "lost_card_hours": tally.lost_milli_ms / 1000 / MS_PER_HOUR,
        "useful_flop": {name: str(flop) for name, flop in sorted(tally.flop.items())},
        "under_way_flop": _under_way(world),
        "wait_ms": _waits(tally),
        "energy_kwh": sum(step.energy_mwh for step in tally.steps) / 1e6,
        "carbon_kg": sum(step.carbon_g for step in tally.steps) / 1000,
        "power_cny": sum(step.power_cny for step in tally.steps),
        "charged_microcny": tally.charged_microcny,
        "money": {
            "sum_microcny": book.sum(),
            "held_microcny": book.held(),
            "fees_microcny": book.fees(),
            "earned_microcny": book.earned(),
            "spent_microcny": {
                world.network.customers[i].id: amount for i, amount in sorted(tally.spent.items()) if amount
            },
            "posting_sets": {str(kind): number for kind, number in book.sets.items()},
        },
        "hours": _hours(world),
        "sites": _sites(world, span_ms),
        "chips": _chips(world, span_ms),
    }
    rounded: Document = _rounded(found)
    return rounded


def to_bytes(found: Mapping[str, Any]) -> bytes:
    return orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def _orders(world: World) -> Document:
    states = [order.task.state for order in world.orders.values()]
    waiting = sum(state is TaskState.PENDING for state in states)
    counts = {str(name): number for name, number in sorted(world.tally.counts.items())}
    ends = {f"ended_{reason}": number for reason, number in sorted(world.tally.ends.items())}
    return {**counts, **ends, "waiting_at_end": waiting, "placed_at_end": len(states) - waiting}


def _under_way(world: World) -> Document:
    """Done of the work of orders that run at the end, less what was done of those that ran when measuring began."""
    found, before = world.under_way_flop(world.timeline.now_ms), world.tally.under_way_flop
    return {name: str(found.get(name, 0) - before.get(name, 0)) for name in sorted(found.keys() | before.keys())}


def _waits(tally: Tally) -> Document:
    """By size of the job, of those that started."""
    found: Document = {}
    for (_, name), waits in zip(CLASSES, tally.waits, strict=True):
        if waits.number:
            quantiles = {f"p{round(q * 100)}": waits.quantile_ms(q) for q in QUANTILES}
            found[name] = {"jobs": waits.number, "mean": waits.total_ms / waits.number, **quantiles}
            found[name]["most"] = waits.most_ms
    jobs = sum(waits.number for waits in tally.waits)
    found["all"] = {"jobs": jobs, "mean": sum(waits.total_ms for waits in tally.waits) / max(1, jobs)}
    return found


def _hours(world: World) -> Document:
    """One figure per step of time."""
    steps, cards = world.tally.steps, _card_milli(world.supply)
    ends = [step.at_ms for step in steps]
    spans = np.diff([world.tally.start_ms, *ends]).tolist()
    return {
        "end_ms": ends,
        "utilisation": [
            float(step.busy_milli_ms.sum()) / (cards * max(1, span)) if cards else 0.0
            for step, span in zip(steps, spans, strict=True)
        ],
        "open_orders": [step.open_orders for step in steps],
        "fragmented": [step.fragmented for step in steps],
        "energy_kwh": [step.energy_mwh / 1e6 for step in steps],
        "carbon_kg": [step.carbon_g / 1000 for step in steps],
        "power_cny": [step.power_cny for step in steps],
        "charged_cny_per_card_hour": [
            step.charged_microcny / 1e6 / (step.charged_milli_ms / 1000 / MS_PER_HOUR)
            if step.charged_milli_ms
            else None
            for step in steps
        ],
    }


def _sites(world: World, span_ms: int) -> list[Document]:
    """Where each centre stands and how busy its cards were, the mean over the run."""
    sites, pools = world.supply.sites, world.supply.pools
    index = {site.id: i for i, site in enumerate(sites)}
    cards = np.zeros(len(sites))
    for pool in pools:
        if pool.kind is PoolKind.ACCELERATOR:
            cards[index[pool.site_id]] += pool.capacity_milli
    busy = np.zeros(len(sites))
    for step in world.tally.steps:
        busy += step.busy_milli_ms
    return [
        {
            "id": site.id,
            "provider": site.provider,
            "region": site.region,
            "lat": site.lat,
            "lon": site.lon,
            "cards": int(cards[i]) // 1000,
            "utilisation": float(busy[i] / (cards[i] * span_ms)) if cards[i] else 0.0,
        }
        for i, site in enumerate(sites)
    ]


def _chips(world: World, span_ms: int) -> Document:
    tally = world.tally
    total: dict[str, int] = {}
    for pool in world.supply.pools:
        total[pool.chip] = total.get(pool.chip, 0) + pool.capacity_milli
    busy = np.zeros(len(tally.chips))
    for step in tally.steps:
        busy += step.by_chip_milli_ms
    return {
        chip: {"units": total[chip] // 1000, "utilisation": busy[i] / (total[chip] * span_ms)}
        for i, chip in enumerate(tally.chips)
    }


def _card_milli(supply: Supply) -> int:
    return sum(pool.capacity_milli for pool in supply.pools if pool.kind is PoolKind.ACCELERATOR)


def _pflops(supply: Supply) -> float:
    """Nominal FP16 of all cards; chips without a figure count nothing."""
    total = 0
    for pool in supply.pools:
        for rate in pool.rates:
            if rate.precision is Precision.FP16 and rate.nominal_flops:
                total += rate.nominal_flops * pool.capacity_milli // 1000
    return total / 1e15


def _rounded(value: Any) -> Any:
    """Floats to nine digits: sums of a million of them are the same wherever they are made."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    return value
