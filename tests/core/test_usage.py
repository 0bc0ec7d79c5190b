"""Usage records: each counts once, in any order of arrival; holes and contradictions are told, never filled."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yunhe.core.usage import (
    Accepted,
    Conflict,
    Duplicate,
    Gap,
    Interval,
    Prefix,
    Totals,
    accept,
    between,
    extend,
    up_to,
)


@st.composite
def histories(draw: st.DrawFn) -> list[Interval]:
    """What an honest site reports for one lease epoch."""
    steps = draw(st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 2**40)), min_size=1))
    records, at, cpu, peak = [], 0, 0, 0
    for n, (ms, cpu_ms, memory) in enumerate(steps):
        start, at, cpu, peak = at, at + ms, cpu + cpu_ms, max(peak, memory)
        records.append(Interval(n, start, at, Totals(at, cpu, peak), final=n == len(steps) - 1))
    return records


def fed(arrivals: list[Interval]) -> tuple[Prefix, int, int]:
    """What a hub does: keep what is accepted or early, count doubles and gaps."""
    known, kept, doubles, gaps = Prefix(), dict[int, Interval](), 0, 0
    for record in arrivals:
        match accept(known, record, kept.get(record.n)):
            case Accepted(prefix):
                kept[record.n] = record
                known, _ = extend(prefix, kept.values())
            case Duplicate():
                doubles += 1
            case Gap():
                gaps += 1
                kept[record.n] = record
            case Conflict(reason):
                pytest.fail(reason)
    return known, doubles, gaps


@given(histories(), st.integers(0, 2**32), st.integers(0, 20))
def test_any_order_with_repeats_ends_at_the_same_totals(history: list[Interval], seed: int, repeats: int) -> None:
    chance = random.Random(seed)
    arrivals = history + chance.choices(history, k=repeats)
    chance.shuffle(arrivals)
    known, doubles, _ = fed(arrivals)
    assert known.last == history[-1]
    assert known.complete
    assert doubles == repeats


@given(histories(), st.data())
def test_a_missing_record_stops_the_count_before_it(history: list[Interval], data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, len(history) - 1))
    known, _, gaps = fed(history[:lost] + history[lost + 1 :])
    assert known.next_n == lost
    assert known.totals == (history[lost - 1].totals if lost else Totals(0, 0, 0))
    assert gaps == len(history) - lost - 1
    assert not known.complete


@given(histories(), st.data())
def test_charges_over_any_split_add_up(history: list[Interval], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(history) - 1))
    middle, end = Prefix(history[cut]), Prefix(history[-1])
    first, second = between(Prefix(), middle), between(middle, end)
    assert first.wall_ms + second.wall_ms == end.totals.wall_ms
    assert first.cpu_ms + second.cpu_ms == end.totals.cpu_ms


FIRST = Interval(0, 0, 1_000, Totals(1_000, 900, 50))
KNOWN = Prefix(FIRST)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (Interval(1, 1_000, 2_000, Totals(2_000, 899, 50)), "lowers cpu_ms"),
        (Interval(1, 1_000, 2_000, Totals(999, 900, 50)), "lowers wall_ms"),
        (Interval(1, 1_000, 2_000, Totals(2_000, 900, 49)), "lowers peak_memory_bytes"),
        (Interval(1, 999, 2_000, Totals(2_000, 900, 50)), "overlaps"),
        (Interval(1, 1_001, 2_000, Totals(2_000, 900, 50)), "leaves a hole"),
        (Interval(1, 1_000, 1_000, Totals(1_000, 900, 50)), "not after its start"),
        (Interval(1, 1_000, 2_000, Totals(2_000, -1, 50)), "negative"),
        (Interval(1, 1_000, 2_000, Totals(2_001, 900, 50)), "2001 ms of wall time"),
        (Interval(0, 0, 1_000, Totals(1_000, 901, 50)), "reported before with other values"),
    ],
)
def test_contradictions_are_told(record: Interval, said: str) -> None:
    verdict = accept(KNOWN, record)
    assert isinstance(verdict, Conflict)
    assert said in verdict.reason


def test_a_gap_names_what_is_missing() -> None:
    assert accept(KNOWN, Interval(4, 4_000, 5_000, Totals(5_000, 900, 50))) == Gap(1, 3)


def test_nothing_comes_after_the_final_record() -> None:
    over = Prefix(Interval(0, 0, 10, Totals(10, 5, 1), final=True))
    verdict = accept(over, Interval(1, 10, 20, Totals(20, 5, 1)))
    assert isinstance(verdict, Conflict)
    assert "after the final one" in verdict.reason


def test_a_final_record_may_be_empty_and_a_job_may_end_at_once() -> None:
    assert isinstance(accept(Prefix(), Interval(0, 0, 0, Totals(0, 0, 0), final=True)), Accepted)


def test_a_record_below_the_prefix_that_nobody_kept_is_not_called_a_double() -> None:
    known = Prefix(Interval(3, 30, 40, Totals(40, 1, 1)))
    verdict = accept(known, Interval(1, 10, 20, Totals(20, 1, 1)))
    assert isinstance(verdict, Conflict)


def test_what_was_used_by_a_moment_is_what_was_measured_by_then() -> None:
    records = [
        Interval(0, 0, 100, Totals(100, 90, 5)),
        Interval(1, 100, 250, Totals(250, 200, 7)),
        Interval(2, 250, 260, Totals(260, 203, 7), final=True),
    ]
    assert up_to(records, 0) == Totals(0, 0, 0)
    assert up_to(records, 99) == Totals(99, 0, 0)
    assert up_to(records, 249) == Totals(249, 90, 5)
    assert up_to(records, 255) == Totals(255, 200, 7)
    assert up_to(records, 10_000) == Totals(260, 203, 7)
    assert up_to([], 50) == Totals(0, 0, 0)
