"""How much of a pool a task takes, from each way of stating its size."""

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
    Precision,
    Work,
    a_pool,
    a_shape,
    a_site,
    a_supply,
    cards,
)
from yunhe.core.demand import Requirement
from yunhe.core.placement.board import Board
from yunhe.core.placement.sizing import Sizes, sizes, slots_of, trusted_rate
from yunhe.core.policy import Policy
from yunhe.core.supply import Pool, Rate


def sized(pool: Pool, **asked: Any) -> dict[str, int]:
    board = Board(a_supply(a_site(), pool), POLICY)
    found = sizes(a_shape(**asked), board, board.all, NOW)
    return {name: int(getattr(found, name)[0]) for name in Sizes._fields}


def test_trusted_rate_is_measured_then_derated_nominal_then_unknown() -> None:
    pool = a_pool(rates=(Rate(Precision.FP64, 20, 10), Rate(Precision.FP32, 101, None), Rate(Precision.BF16, 1, None)))
    assert trusted_rate(pool, Precision.FP64, POLICY) == 10
    assert trusted_rate(pool, Precision.FP32, POLICY) == 60  # rounded down
    assert trusted_rate(pool, Precision.FP32, Policy(nominal_derate_percent=100)) == 101
    assert trusted_rate(pool, Precision.BF16, POLICY) is None  # 0.6 FLOP/s is no rate
    assert trusted_rate(pool, Precision.INT8, POLICY) is None


@pytest.mark.parametrize(
    ("pool", "asked", "slots", "slot_milli"),
    [
        (a_pool(), {"cores_milli": 250}, 1, 250),
        (a_pool(), {"cores_milli": 250, "slots": 3}, 3, 250),
        (a_pool(), {}, 1, 1_000),
        (a_pool(max_slot_milli=700), {}, 1, 700),
        (cards(), {"chip": "a100"}, 1, 1_000),
        (cards(), {"cards": 2, "slots": 3}, 3, 2_000),
        # 10 GFLOPS a core: thousandths of a core, rounded up, at least one
        (a_pool(), {"compute": Compute(25 * GFLOPS, Precision.FP64)}, 1, 2_500),
        (a_pool(), {"compute": Compute(25 * GFLOPS + 1, Precision.FP64)}, 1, 2_501),
        (a_pool(), {"compute": Compute(1, Precision.FP64)}, 1, 1),
        (a_pool(), {"compute": Compute(25 * GFLOPS, Precision.FP64), "slots": 3}, 3, 834),
        # 200 TFLOPS a card: whole cards, over the fewest hosts of 8, equal slots
        (cards(), {"compute": Compute(1, Precision.BF16)}, 1, 1_000),
        (cards(), {"compute": Compute(1_600 * TFLOPS, Precision.BF16)}, 1, 8_000),
        (cards(), {"compute": Compute(1_601 * TFLOPS, Precision.BF16)}, 2, 5_000),
        (cards(), {"compute": Compute(1_600 * TFLOPS, Precision.BF16), "slots": 3}, 3, 3_000),
    ],
)
def test_units_of_a_task(pool: Pool, asked: dict[str, Any], slots: int, slot_milli: int) -> None:
    found = sized(pool, **asked)
    assert (found["slots"], found["slot_milli"], found["milli"]) == (slots, slot_milli, slots * slot_milli)
    assert found["run_ms"] == HOUR
    # A site gets the same slots back from the units alone.
    need: Requirement = a_shape(**asked).requirement
    assert slots_of(need, pool, found["milli"]) == (slots, slot_milli)


def test_work_takes_what_finishes_before_the_deadline() -> None:
    half_hour_on_two_cores = Work(2 * 10 * GFLOPS * 1_800, Precision.FP64)
    found = sized(a_pool(), work=half_hour_on_two_cores, deadline_ms=NOW + HOUR // 2)
    assert (found["milli"], found["run_ms"]) == (2_000, HOUR // 2)
    relaxed = sized(a_pool(), work=half_hour_on_two_cores, deadline_ms=NOW + 10 * HOUR)
    assert (relaxed["milli"], relaxed["run_ms"]) == (1_000, HOUR)  # the run limit of an hour binds
    assert sized(a_pool(), work=half_hour_on_two_cores)["milli"] == 1_000
    late = sized(a_pool(), work=half_hour_on_two_cores, deadline_ms=NOW - 1)
    assert late["milli"] > a_pool().capacity_milli


def test_work_on_cards_takes_whole_cards_and_runs_shorter_for_it() -> None:
    found = sized(cards(), work=Work(300 * TFLOPS * 3_600, Precision.BF16))
    assert (found["milli"], found["run_ms"]) == (2_000, HOUR * 3 // 4)


def test_input_data_come_first() -> None:
    ten_minutes = 10**10 // 8 * 600  # bytes over 10 Gbit/s
    work = Work(10 * GFLOPS * 1_500, Precision.FP64)
    found = sized(a_pool(), work=work, deadline_ms=NOW + HOUR // 2, data_at="shanghai", data_bytes=ten_minutes)
    assert (found["transfer_ms"], found["run_ms"]) == (600_000, HOUR // 2)
    assert found["milli"] == 1_250  # 1,500 core seconds in 20 minutes
    assert sized(a_pool(), data_at="s1", data_bytes=ten_minutes)["transfer_ms"] == 0  # they lie there
    assert sized(a_pool(), data_bytes=ten_minutes)["transfer_ms"] == 0  # nowhere to bring them from


def test_memory_is_per_slot_or_the_share_of_the_pool() -> None:
    stated = sized(a_pool(), cores_milli=1_000, slots=3, memory_bytes=GIB)
    assert (stated["slot_memory"], stated["memory"]) == (GIB, 3 * GIB)
    share = sized(a_pool(), cores_milli=2_000, slots=2)
    per_milli = 32 * GIB // 8_000
    assert (share["slot_memory"], share["memory"]) == (2_000 * per_milli, 4_000 * per_milli)
    assert sized(a_pool(), cores_milli=8_000)["memory"] <= 32 * GIB


def test_several_hosts_take_memory_each() -> None:
    found = sized(cards(), compute=Compute(3_000 * TFLOPS, Precision.BF16), memory_bytes=100 * GIB)
    assert (found["slots"], found["memory"]) == (2, 200 * GIB)
