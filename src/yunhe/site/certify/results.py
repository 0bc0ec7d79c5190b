"""What the benchmark printed, as a certified pool."""

import statistics
from collections.abc import Mapping, Sequence

from yunhe.wire.link import BenchmarkResult, Missing, PoolReport, RateReport, StackReport

UNITS = {"memory_bandwidth": "B/s", "disk_write": "B/s", "allreduce": "B/s", "rate_hub": "B/s"}
OPERATIONS = {"gemm_int8": "OP/s"}


def result(name: str, runs: Sequence[float], unit: str) -> BenchmarkResult:
    """The median of the runs, and how far they lie apart."""
    median = statistics.median(runs)
    spread = (max(runs) - min(runs)) / median * 100 if median else 0.0
    return BenchmarkResult(name=name, value=median, unit=unit, repeats=len(runs), spread_percent=round(spread, 1))


def with_results(
    pool: PoolReport, samples: Mapping[str, Sequence[float]], reasons: Mapping[str, str] | None = None
) -> PoolReport:
    """Medians become the measured rates; every benchmark keeps its repeats and spread; what was not measured, why."""
    results = [result(name, runs, UNITS.get(name) or OPERATIONS.get(name, "FLOP/s")) for name, runs in samples.items()]
    medians = {found.name: int(found.value) for found in results}
    rates = tuple(
        RateReport(
            precision=rate.precision,
            nominal_flops=rate.nominal_flops,
            measured_flops=medians.get(f"gemm_{rate.precision.value}"),
            not_measured=(reasons or {}).get(rate.precision.value, "")[:200].replace("\0", ""),
        )
        for rate in pool.rates
    )
    return pool.model_copy(update={"rates": rates, "benchmarks": (*pool.benchmarks, *results)})


def stack_report(found: Mapping[str, object], versions: Mapping[str, str]) -> StackReport:
    """Of what the stack check printed, with the versions of the benchmark."""
    return StackReport.model_validate(
        {
            "versions": {**versions, **_texts(found.get("versions"))},
            "operators": found.get("operators", ()),
            "missing": [
                Missing(operator=name, reason=said[:200].replace("\0", ""))
                for name, said in _texts(found.get("missing")).items()
            ],
        }
    )


def _texts(value: object) -> dict[str, str]:
    return {str(k): str(v)[:200] for k, v in value.items()} if isinstance(value, dict) else {}
