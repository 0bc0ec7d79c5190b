"""Every constraint by its name: one network that fits, one change, one reason; and what people read."""

from dataclasses import replace
from typing import Any

import pytest

from tests.core.placement_network import (
    GFLOPS,
    GIB,
    HOUR,
    NOW,
    POLICY,
    TFLOPS,
    Compute,
    LatencyBound,
    LatencyKind,
    Precision,
    Work,
    a_pool,
    a_shape,
    a_site,
    a_supply,
    cards,
)
from yunhe.core.demand import Ability
from yunhe.core.placement.feasible import CODES
from yunhe.core.round import Reason, explain, quote
from yunhe.core.supply import Free, Pool, Rate, Site, SiteState

ROOT_OF_COST = 100_000 + 7_500  # one core hour: 0.1 CNY and 12.5 Wh at 0.6 CNY/kWh, in micro-CNY


def why(site: Site, pool: Pool, free: Free | None = None, **need: Any) -> tuple[Reason, ...]:
    supply = a_supply(site, pool, free={pool.id: free} if free else None)
    (entry,) = explain(a_shape(**need), supply, POLICY, NOW)
    assert (entry.site_id, entry.pool_id) == (site.id, pool.id)
    return entry.reasons


def far(limit_us: int, kind: LatencyKind = LatencyKind.RTT, place: str = "shanghai") -> LatencyBound:
    return LatencyBound(place, limit_us, kind)


# (code, need, have) for: what is changed of the site, the pool, and what is asked
CASES: list[tuple[str, str, str, dict[str, Any], Pool, dict[str, Any]]] = [
    ("site", "an active site", "left", {"state": SiteState.LEFT}, a_pool(), {}),
    ("site", "an active site", "paused", {"state": SiteState.PAUSED}, a_pool(), {}),
    ("site", "an active site", "approved", {"state": SiteState.APPROVED}, a_pool(), {}),
    ("site", "an active site", "disconnected", {"connected": False}, a_pool(), {}),
    ("sites", "one of the sites s2, s3", "s1", {}, a_pool(), {"sites": frozenset({"s3", "s2"})}),
    ("pools", "one of the pools s1:other", "s1:cpu", {}, a_pool(), {"pools": frozenset({"s1:other"})}),
    ("stack", "a command for the cpu stack", "commands for cann", {}, a_pool(), {"stacks": frozenset({"cann"})}),
    ("duration", "a run of 1h", "lent for 59m at most now", {}, a_pool(longest_ms=HOUR - 60_000), {}),
    ("trust", "rates that a test has shown", "claims that a test has refuted", {}, a_pool(trust_milli=0), {}),
    (
        "operators",
        "the operators conv2d, gemm on cpu",
        "missing conv2d",
        {},
        a_pool(operators=frozenset({"gemm", "softmax"})),
        {"operators": frozenset({"gemm", "conv2d"})},
    ),
    (
        "operators",
        "the operators gemm on cpu",
        "no check of its software stack",
        {},
        a_pool(),
        {"operators": frozenset({"gemm"})},
    ),
    (
        "abilities",
        "an engine that gives jobs data, secrets",
        "one without secrets",
        {},
        a_pool(abilities=frozenset({Ability.DATA})),
        {"abilities": frozenset({Ability.SECRETS, Ability.DATA})},
    ),
    ("cores", "cores", "cards only", {}, cards(), {"cores_milli": 1_000}),
    ("cores", "cores", "cards only", {}, cards(), {}),
    ("cores", "9 cores", "8 cores in the pool", {}, a_pool(), {"cores_milli": 9_000}),
    ("cards", "cards", "cores only", {}, a_pool(), {"cards": 1}),
    ("cards", "33 cards", "32 cards in the pool", {}, cards(), {"cards": 33}),
    ("chip", "h100", "a100", {}, cards(), {"cards": 1, "chip": "h100"}),
    (
        "compute",
        "1PFLOPS@fp16",
        "no rate known at fp16",
        {},
        a_pool(),
        {"compute": Compute(1_000 * TFLOPS, Precision.FP16)},
    ),
    (
        "compute",
        "81GFLOPS@fp64",
        "80GFLOPS@fp64 in the whole pool",
        {},
        a_pool(),
        {"compute": Compute(81 * GFLOPS, Precision.FP64)},
    ),
    (
        "compute",
        "1PFLOP@fp64 in 1h",
        "80GFLOPS@fp64 in the whole pool",
        {},
        a_pool(),
        {"work": Work(10**15, Precision.FP64), "deadline_ms": NOW + 2 * HOUR},
    ),
    ("slot", "5 cores in one slot", "4 cores at most", {}, a_pool(max_slot_milli=4_000), {"cores_milli": 5_000}),
    (
        "gang",
        "3 slots of 3 cores together",
        "8 cores, 4 cores to a host",
        {},
        a_pool(max_slot_milli=4_000),
        {"cores_milli": 3_000, "slots": 3},
    ),
    ("memory", "33GiB in one slot", "32GiB to a host", {}, a_pool(), {"memory_bytes": 33 * GIB}),
    ("memory", "34GiB", "32GiB in the pool", {}, a_pool(), {"memory_bytes": 17 * GIB, "slots": 2}),
    ("card_memory", "96GiB per card", "80GiB", {}, cards(), {"cards": 1, "card_memory_bytes": 96 * GIB}),
    ("latency", "<= 14ms round trip to shanghai", "14.64ms", {}, a_pool(), {"latency": (far(14_000),)}),
    (
        "latency",
        "<= 7ms one way to shanghai",
        "7.32ms",
        {},
        a_pool(),
        {"latency": (far(7_000, LatencyKind.ONE_WAY), far(15_000))},
    ),
    (
        "latency",
        "<= 100ms round trip to atlantis",
        "unknown",
        {},
        a_pool(),
        {"latency": (far(10**5, place="atlantis"),)},
    ),
    ("bandwidth", ">= 20Gbps", "10Gbps", {}, a_pool(), {"bandwidth_bps": 20 * 10**9}),
    (
        "bandwidth",
        "a network for the input data",
        "0bps",
        {"bandwidth_bps": 0},
        a_pool(),
        {"data_at": "shanghai", "data_bytes": 1},
    ),
    ("residency", "in guizhou, hebei", "beijing", {}, a_pool(), {"residency": frozenset({"hebei", "guizhou"})}),
    ("tier", "security tier >= 2", "1", {}, a_pool(), {"tier": 2}),
    ("carbon", "<= 499g/kWh", "500g/kWh", {}, a_pool(), {"max_carbon_g_per_kwh": 499}),
    ("deadline", "to end within 59m59s", "1h of run time", {}, a_pool(), {"deadline_ms": NOW + HOUR - 1_000}),
    (
        "deadline",
        "to end before the deadline, which has passed",
        "1h of run time",
        {},
        a_pool(),
        {"deadline_ms": NOW},
    ),
    (
        "deadline",
        "to end within 1h",
        "2h13m20s for the input data alone",
        {},
        a_pool(),
        {"data_at": "shanghai", "data_bytes": 10**13},
    ),
    (
        "budget",
        "<= 0.107499CNY",
        "0.1075CNY",
        {},
        a_pool(),
        {"cores_milli": 1_000, "budget_microcny": ROOT_OF_COST - 1},
    ),
]


@pytest.mark.parametrize(("code", "need", "have", "site", "pool", "asked"), CASES)
def test_one_failed_constraint_is_one_reason(
    code: str, need: str, have: str, site: dict[str, Any], pool: Pool, asked: dict[str, Any]
) -> None:
    lasting = (code != "site" or have == "left") and code not in ("trust", "duration")
    assert why(a_site(**site), pool, **asked) == (Reason(code, need, have, lasting),)


def test_busy_is_told_apart_from_too_small() -> None:
    asked = {"cores_milli": 4_000, "memory_bytes": 16 * GIB}
    assert why(a_site(), a_pool(), **asked) == ()
    units = why(a_site(), a_pool(), Free(3_500, 32 * GIB), **asked)
    assert units == (Reason("busy", "4 cores", "3.5 cores free now", lasting=False),)
    memory = why(a_site(), a_pool(), Free(8_000, 15 * GIB), **asked)
    assert memory == (Reason("busy", "16GiB", "15GiB free now", lasting=False),)
    both = why(a_site(), a_pool(), Free(0, 0), **asked)
    assert both == (Reason("busy", "4 cores and 16GiB", "0 cores and 0B free now", lasting=False),)
    # What can never fit is not called busy besides.
    assert [r.code for r in why(a_site(), a_pool(), Free(0, 0), cores_milli=9_000)] == ["cores"]


def test_every_code_of_the_table_has_its_case() -> None:
    assert {case[0] for case in CASES} | {
        "busy",
        "booked_out",
        "before_booking",
    } == CODES  # the last two: test_bookings


def test_all_failed_constraints_are_told_in_reading_order() -> None:
    asked = {"cores_milli": 99_000, "tier": 3, "latency": (far(1_000),), "stacks": frozenset({"cuda"})}
    assert [r.code for r in why(a_site(), a_pool(), **asked)] == ["stack", "cores", "latency", "tier"]


def test_bounds_are_inclusive() -> None:
    asked = {
        "cores_milli": 8_000,
        "memory_bytes": 32 * GIB,
        "latency": (far(2 * 7321), far(7321, LatencyKind.ONE_WAY)),
        "bandwidth_bps": 10**10,
        "tier": 1,
        "max_carbon_g_per_kwh": 500,
        "deadline_ms": NOW + HOUR,
        "budget_microcny": 8 * ROOT_OF_COST,
    }
    assert why(a_site(), a_pool(), **asked) == ()


def test_data_that_take_the_whole_run_limit_leave_no_time_to_run() -> None:
    an_hour_of_data = 10**10 // 8 * 3_600
    asked = {"data_at": "shanghai", "data_bytes": an_hour_of_data}
    assert [r.code for r in why(a_site(), a_pool(), **asked)] == ["deadline"]
    assert why(a_site(), a_pool(), run_limit_ms=HOUR + 1, **asked) == ()


def test_every_latency_bound_counts() -> None:
    both = (far(20_000), far(5_000, place="chengdu"))
    (reason,) = why(a_site(), a_pool(), latency=both)
    assert reason.need == "<= 5ms round trip to chengdu"
    (reason,) = why(a_site(), a_pool(), latency=(far(1_000), far(5_000, place="chengdu")))
    assert reason.need == "<= 1ms round trip to shanghai; <= 5ms round trip to chengdu"


def test_measured_latency_decides() -> None:
    shape = a_shape(latency=(far(14_000),))
    measured = replace(a_supply(a_site(), a_pool()), measured_latency_us={("s1", "shanghai"): 6_000})
    assert explain(shape, measured, POLICY, NOW)[0].reasons == ()


def test_a_nominal_rate_counts_derated() -> None:
    # 100 GFLOPS@fp32 nominal, 60 % of it trusted: 480 in the pool.
    assert why(a_site(), a_pool(), compute=Compute(480 * GFLOPS, Precision.FP32)) == ()
    (reason,) = why(a_site(), a_pool(), compute=Compute(481 * GFLOPS, Precision.FP32))
    assert (reason.code, reason.have) == ("compute", "480GFLOPS@fp32 in the whole pool")
    unknown = a_pool(rates=(Rate(Precision.FP32, None, None),))
    (reason,) = why(a_site(), unknown, compute=Compute(1, Precision.FP32))
    assert reason.have == "no rate known at fp32"


def test_budgets_are_kept_to_the_micro_cny_over_arrays() -> None:
    exact = {"cores_milli": 1_000, "array": 7}
    assert why(a_site(), a_pool(), budget_microcny=7 * ROOT_OF_COST, **exact) == ()
    assert [r.code for r in why(a_site(), a_pool(), budget_microcny=7 * ROOT_OF_COST - 1, **exact)] == ["budget"]
    assert [r.code for r in why(a_site(), a_pool(), budget_microcny=0, **exact)] == ["budget"]


def test_a_site_without_pools_says_so() -> None:
    supply = a_supply(a_site(), a_site("s2"), a_site("s3", state=SiteState.PENDING), a_pool())
    entries = explain(a_shape(), supply, POLICY, NOW)
    assert [(e.site_id, e.pool_id) for e in entries] == [("s1", "s1:cpu"), ("s2", None), ("s3", None)]
    assert entries[1].reasons == (Reason("site", "a certified pool", "none", lasting=False),)
    assert entries[2].reasons == (Reason("site", "a certified pool", "none, the site is pending", lasting=False),)
    assert quote(a_shape(), supply, POLICY, NOW).refused == entries[1:]


def test_an_empty_network_has_no_offers_and_no_reasons() -> None:
    found = quote(a_shape(), a_supply(), POLICY, NOW)
    assert (found.offers, found.refused) == ((), ())


def test_absurd_sizes_are_refused_by_reasons_not_by_overflow() -> None:
    asked = {"cores_milli": 10**15, "slots": 20_000, "memory_bytes": 2**60}
    codes = [r.code for r in why(a_site(), a_pool(), **asked)]
    assert codes == ["slot", "memory"]
    assert [r.code for r in why(a_site(), cards(), compute=Compute(10**21, Precision.BF16))] == ["compute"]
    assert [r.code for r in why(a_site(), cards(), work=Work(10**30, Precision.BF16))] == ["compute"]
