"""What is found on this machine, and what is claimed of it."""

import os

import pytest

from yunhe.core.demand import Precision
from yunhe.core.errors import InvalidInput
from yunhe.site import certify, discover
from yunhe.site.settings import DriverSettings


@pytest.mark.parametrize(
    ("model", "chip"),
    [
        ("AMD EPYC 9654 96-Core Processor", "epyc-9654"),
        ("AMD EPYC 9654P 96-Core Processor", None),
        ("AMD EPYC", None),
        ("Intel(R) Xeon(R) Platinum 8480+", "xeon-8480p"),
        ("Intel(R) Xeon(R) Platinum 8480C", None),
        ("HiSilicon Kunpeng 920", "kunpeng-920"),
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", None),
        ("", None),
    ],
)
def test_only_the_exact_model_is_taken_from_the_catalogue(model: str, chip: str | None) -> None:
    found = discover.catalogued(model)
    assert (found.id if found else None) == chip


def test_a_known_chip_brings_its_figures_with_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discover.host, "cpu_model", lambda: "AMD EPYC 9654 96-Core Processor")
    pool = discover.cpu_pool(DriverSettings(), discover.Share(2_000, 1 << 30))
    assert pool.chip == "epyc-9654"
    assert pool.watts_per_unit == 8 and "360 W / 96 cores" in pool.watts_source
    rates = {rate.precision: rate.nominal_flops for rate in pool.rates}
    assert rates[Precision.FP64] == 3_690_000_000_000 // 96


def test_an_unknown_chip_says_what_is_assumed() -> None:
    pool = discover.cpu_pool(DriverSettings(), discover.Share(1_500, 1 << 30))
    assert pool.capacity_milli == 1_500 and pool.chip_name
    assert pool.chip != "unknown" or pool.watts_source.startswith("assumed")
    stated = discover.cpu_pool(DriverSettings(watts_per_core=5), discover.Share(1_500, 1 << 30))
    assert (stated.watts_per_unit, stated.watts_source) == (5, "stated by the site")


def test_a_share_is_never_more_than_the_machine() -> None:
    whole = discover.share(DriverSettings())
    assert 0 < whole.milli <= (os.cpu_count() or 1) * 1000
    assert 0 < whole.memory_bytes <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    part = DriverSettings(cores_milli=250, memory_bytes=1 << 20)
    assert discover.share(part) == discover.Share(250, 1 << 20)
    for too_much in (DriverSettings(cores_milli=whole.milli + 1), DriverSettings(memory_bytes=whole.memory_bytes + 1)):
        with pytest.raises(InvalidInput, match="usable here"):
            discover.share(too_much)


def test_fewer_cores_are_usable_under_an_affinity() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert discover.usable_milli() <= 1_000
    finally:
        os.sched_setaffinity(0, before)


def test_medians_and_spread_of_a_benchmark() -> None:
    pool = discover.cpu_pool(DriverSettings(), discover.Share(1_000, 1 << 30))
    samples = {
        "gemm_fp64": [10.0, 30.0, 20.0],
        "gemm_fp32": [40.0],
        "memory_bandwidth": [5.0],
        "disk_write": [1.0, 3.0],
    }
    measured = certify.with_results(pool, samples)
    assert {rate.precision: rate.measured_flops for rate in measured.rates} == {"fp64": 20, "fp32": 40}
    gemm = measured.benchmarks[0]
    assert (gemm.name, gemm.value, gemm.repeats, gemm.spread_percent) == ("gemm_fp64", 20.0, 3, 100.0)
