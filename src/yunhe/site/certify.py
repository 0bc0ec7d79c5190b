"""Certification: what one core of the pool really does, measured under the limits of a lease."""

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path

from yunhe.core.demand import Precision
from yunhe.core.errors import Unavailable
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Driver, Job, Phase, Status
from yunhe.site.supervisor.records import boottime_ms
from yunhe.wire.link import BenchmarkResult, PoolReport, RateReport, StartLease

PROGRAM = Path(__file__).with_name("bench_program.py")
LEASE_ID = "certify"
LIMIT_MS = 60_000
MEMORY_BYTES = 512 * 1024 * 1024
UNITS = {"gemm_fp64": "FLOP/s", "gemm_fp32": "FLOP/s", "memory_bandwidth": "B/s", "disk_write": "B/s"}
RATES = {Precision.FP64: "gemm_fp64", Precision.FP32: "gemm_fp32"}


async def certify(driver: Driver, pool: PoolReport) -> PoolReport:
    """The pool with measured rates of one whole core: one thread, in a lease of at most one core of this pool.

    A pool of less than a core is measured by CPU time in a lease of its whole share (see `bench_program`).
    Raises Unavailable when the benchmark did not end well.
    """
    milli = min(1000, pool.capacity_milli)
    lease = StartLease(
        seq=0,
        lease_id=LEASE_ID,
        epoch=boottime_ms(),
        pool=pool.name,
        slots=1,
        slot_milli=milli,
        slot_memory_bytes=min(MEMORY_BYTES, pool.memory_bytes),
        run_limit_ms=LIMIT_MS,
        disconnect_limit_ms=LIMIT_MS,
        command=(sys.executable, PROGRAM.name, str(milli)),
    )
    job = Job(lease, boottime_ms(), {PROGRAM.name: PROGRAM.read_text(encoding="utf-8")})
    try:
        await driver.submit(job)
        end = await _ended(driver, job)
        text = (await driver.logs(job.key, 0, 1 << 20)).decode(errors="replace")
    finally:
        await driver.cancel(job.key, EndReason.CANCELLED)
        await _ended(driver, job)
        await driver.forget(job.key)
    if end.exit_code != 0:
        raise Unavailable(f"the benchmark ended with {end.reason} {end.exit_code}: {text[-300:]}")
    return with_results(pool, json.loads(text))


async def _ended(driver: Driver, job: Job) -> Status:
    until = time.monotonic() + LIMIT_MS / 1000
    while time.monotonic() < until:
        status = (await driver.observe([job.key]))[job.key]
        if status.phase in (Phase.ENDED, Phase.ABSENT):
            return status
        await asyncio.sleep(0.02)
    raise Unavailable("the benchmark does not end")


def with_results(pool: PoolReport, samples: dict[str, list[float]]) -> PoolReport:
    """Medians become the measured rates; every benchmark keeps its repeats and spread."""
    results = []
    for name, unit in UNITS.items():
        runs = samples[name]
        median = statistics.median(runs)
        spread = (max(runs) - min(runs)) / median * 100
        results.append(
            BenchmarkResult(name=name, value=median, unit=unit, repeats=len(runs), spread_percent=round(spread, 1))
        )
    medians = {result.name: int(result.value) for result in results}
    rates = tuple(
        RateReport(
            precision=rate.precision,
            nominal_flops=rate.nominal_flops,
            measured_flops=medians.get(RATES.get(rate.precision, "")),
        )
        for rate in pool.rates
    )
    return pool.model_copy(update={"rates": rates, "benchmarks": tuple(results)})
