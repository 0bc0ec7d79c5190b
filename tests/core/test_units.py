"""Quantities: exact values, what is refused and how it is said, and that formatted text parses back."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yunhe.core import units
from yunhe.core.demand import Compute, LatencyBound, LatencyKind, Precision, Work
from yunhe.core.errors import InvalidInput

GOOD: list[tuple[Callable[[str], object], str, object]] = [
    (units.parse_compute, "20PFLOPS@bf16", Compute(20 * 10**15, Precision.BF16)),
    (units.parse_compute, " 0.05 TFLOPS @ FP64 ", Compute(5 * 10**10, Precision.FP64)),
    (units.parse_compute, "8TOPS@int8", Compute(8 * 10**12, Precision.INT8)),
    (units.parse_compute, "1.5GFLOP/s@fp32", Compute(15 * 10**8, Precision.FP32)),
    (units.parse_work, "3EFLOP@bf16", Work(3 * 10**18, Precision.BF16)),
    (units.parse_work, "2TOP@int8", Work(2 * 10**12, Precision.INT8)),
    (units.parse_bytes, "64GiB", 64 * 2**30),
    (units.parse_bytes, "64GB", 64 * 10**9),
    (units.parse_bytes, "0.1GiB", 107_374_183),
    (units.parse_bytes, "1B", 1),
    (units.parse_bandwidth, "10Gbps", 10**10),
    (units.parse_bandwidth, "2.5Mbit/s", 2_500_000),
    (units.parse_duration, "20ms", 20),
    (units.parse_duration, "6h", 21_600_000),
    (units.parse_duration, "1h30m", 5_400_000),
    (units.parse_duration, "1d 2h 3m 4s 5ms", 93_784_005),
    (units.parse_duration, "1.5h", 5_400_000),
    (units.parse_duration_us, "20ms", 20_000),
    (units.parse_duration_us, "500us", 500),
    (units.parse_latency, "20ms:shanghai", LatencyBound("shanghai", 20_000, LatencyKind.RTT)),
    (units.parse_latency, "9ms:Shanghai:one-way", LatencyBound("shanghai", 9_000, LatencyKind.ONE_WAY)),
    (units.parse_money, "3.50CNY", 3_500_000),
    (units.parse_money, "0.000001CNY", 1),
    (units.parse_money, "0CNY", 0),
    (units.parse_carbon, "400g/kWh", 400),
    (units.parse_carbon, "0.4kg/kWh", 400),
]


@pytest.mark.parametrize(("parse", "text", "value"), GOOD, ids=[text for _, text, _ in GOOD])
def test_exact_values(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


BAD: list[tuple[Callable[[str], object], str, str]] = [
    (units.parse_compute, "20PFLOPS", "compute needs a precision: write 20PFLOPS@bf16"),
    (units.parse_compute, "20PFLOPS@bf17", "did you mean 'bf16'?"),
    (units.parse_compute, "20P@bf16", "did you mean 'PFLOPS'?"),
    (units.parse_compute, "20PFLOP@bf16", "an amount of work, not a rate"),
    (units.parse_compute, "20pflops@bf16", "did you mean 'PFLOPS'?"),
    (units.parse_compute, "8TOPS@bf16", "OP counts int8 operations"),
    (units.parse_compute, "0PFLOPS@bf16", "more than zero"),
    (units.parse_compute, "1001EFLOPS@bf16", "maximum of 1ZFLOPS"),
    (units.parse_compute, "1e15FLOPS@bf16", "exponent"),
    (units.parse_compute, "NaN", "not a finite number"),
    (units.parse_compute, "inf PFLOPS@bf16", "not a finite number"),
    (units.parse_work, "3EFLOPS@bf16", "is a rate, not an amount"),
    (units.parse_bytes, "64", "has no unit"),
    (units.parse_bytes, "64Gi", "did you mean 'GiB'?"),
    (units.parse_bytes, "64Gb", "is bits"),
    (units.parse_bytes, "-1GiB", "negative"),
    (units.parse_bytes, "nan", "not a finite number"),
    (units.parse_bytes, "-.inf", "not a finite number"),
    (units.parse_bytes, "1,000MiB", "leave out separators"),
    (units.parse_bytes, "1_000MiB", "leave out separators"),
    (units.parse_bytes, "0GiB", "more than zero"),
    (units.parse_bytes, "2EiB", "maximum of 1EiB"),
    (units.parse_bytes, "９GiB", "does not begin with a plain number"),
    (units.parse_bytes, "9" * 5000 + "GiB", "unknown unit"),
    (units.parse_bytes, "", "is empty"),
    (units.parse_bandwidth, "10GB/s", "multiply by 8"),
    (units.parse_bandwidth, "2000Tbps", "maximum of 1Pbps"),
    (units.parse_duration, "10min", "did you mean 'm'?"),
    (units.parse_duration, "30m1h", "out of order or twice"),
    (units.parse_duration, "1h2h", "out of order or twice"),
    (units.parse_duration, "1h-5m", "negative"),
    (units.parse_duration, "367d", "maximum of 366d"),
    (units.parse_duration, "5", "has no unit"),
    (units.parse_duration, "0s", "more than zero"),
    (units.parse_latency, "20ms", "does not name a place"),
    (units.parse_latency, "20ms:", "does not name a place"),
    (units.parse_latency, "20ms:shanghai:both", "rtt or one-way"),
    (units.parse_latency, "20s:shanghai", "maximum of 10s"),
    (units.parse_money, "3.5", "has no unit"),
    (units.parse_money, "3.5RMB", "did you mean 'CNY'?"),
    (units.parse_money, "¥3.5", "behind the number"),
    (units.parse_money, "0.0000001CNY", "more than 6 decimals"),
    (units.parse_money, "-3CNY", "negative"),
    (units.parse_money, "1000000001CNY", "maximum"),
    (units.parse_carbon, "400", "has no unit"),
    (units.parse_carbon, "9kg/kWh", "maximum of 5000g/kWh"),
]


@pytest.mark.parametrize(("parse", "text", "said"), BAD, ids=[text[:20] for _, text, _ in BAD])
def test_refused_with_the_field_and_a_way_out(parse: Callable[..., object], text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text, "requirement.x")
    assert said in str(caught.value)
    assert caught.value.field == "requirement.x"
    assert caught.value.hint
    assert len(str(caught.value)) < 300


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused_and_nothing_else(text: str) -> None:
    for parse in {parse for parse, _, _ in GOOD}:
        try:
            parse(text)
        except InvalidInput:
            continue


PRECISIONS = st.sampled_from(list(Precision))


@given(st.integers(1, units.MAX_FLOPS), PRECISIONS)
def test_compute_round_trip(flops: int, precision: Precision) -> None:
    compute = Compute(flops, precision)
    assert units.parse_compute(units.format_compute(compute)) == compute


@given(st.integers(1, units.MAX_FLOP), PRECISIONS)
def test_work_round_trip(flop: int, precision: Precision) -> None:
    work = Work(flop, precision)
    assert units.parse_work(units.format_work(work)) == work


@given(st.integers(0, units.MAX_BYTES))
def test_bytes_round_trip(count: int) -> None:
    assert units.parse_bytes(units.format_bytes(count), zero_ok=True) == count


@given(st.integers(1, units.MAX_BANDWIDTH_BPS))
def test_bandwidth_round_trip(bps: int) -> None:
    assert units.parse_bandwidth(units.format_bandwidth(bps)) == bps


@given(st.integers(1, units.MAX_DURATION_MS))
def test_duration_round_trip(ms: int) -> None:
    assert units.parse_duration(units.format_duration(ms)) == ms


@given(st.integers(1, units.MAX_LATENCY_US), st.sampled_from(list(LatencyKind)))
def test_latency_round_trip(us: int, kind: LatencyKind) -> None:
    text = f"{units.format_latency(us)}:shanghai:{kind.value}"
    assert units.parse_latency(text) == LatencyBound("shanghai", us, kind)


@given(st.integers(0, units.MAX_MONEY_MICROCNY))
def test_money_round_trip(microcny: int) -> None:
    assert units.parse_money(units.format_money(microcny)) == microcny


@given(st.integers(0, units.MAX_CARBON_G_PER_KWH))
def test_carbon_round_trip(g_per_kwh: int) -> None:
    assert units.parse_carbon(units.format_carbon(g_per_kwh)) == g_per_kwh


def test_text_for_people() -> None:
    assert units.format_money(-1_500_000) == "-1.50CNY"
    assert units.format_money(1) == "0.000001CNY"
    assert units.format_bytes(1_610_612_736) == "1.5GiB"
    assert units.format_bytes(10**9, digits=1) == "953.7MiB"
    assert units.format_flops(48_123_456_789, Precision.FP64, digits=1) == "48.1GFLOPS@fp64"
    assert units.format_duration(0) == "0s"
    assert units.format_energy(1_234_567) == "1.23kWh"
    assert units.format_carbon_mass(999) == "999mg"
    assert units.format_milli(1_500) == "1.5"
    assert units.format_milli(-250) == "-0.25"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"),
        (217, "217 ms"),
        (1_053, "1.05 s"),
        (4_000, "4.0 s"),
        (9_994, "9.99 s"),
        (9_995, "10.0 s"),
        (59_949, "59.9 s"),
        (59_950, "1m"),
        (3_910_400, "1h5m10s"),
    ],
)
def test_lengths_of_time_are_rounded_as_one_reads_them(ms: int, text: str) -> None:
    assert units.format_span(ms) == text
