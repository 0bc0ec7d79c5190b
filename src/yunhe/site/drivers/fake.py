"""An engine that starts nothing: leases end after a stated time. For throughput benchmarks and for tests.

The command is read as a script: `exit N`, `say TEXT`, `run MS`, `write PATH TEXT`, `fail TEXT` (the engine refuses
the job).  Anything else is taken as a program that says nothing and exits 0 after `run_ms`.
"""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from yunhe.core.demand import Precision
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Isolation, Job, LeaseKey, Output, Phase, SpawnFailed, Status
from yunhe.wire.link import PoolDigest, PoolReport, RateReport, UsageTotals

CORE_FLOPS = 50_000_000_000
BATCH_MS = 2  # ends within so long of each other are announced together


@dataclass(slots=True)
class _Run:
    started: float  # monotonic s
    utc_ms: int
    ends: float
    exit_code: int = 0
    log: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)
    reason: EndReason = EndReason.EXITED


class FakeDriver:
    """`cores_milli` and `memory_bytes` are what it says it has."""

    def __init__(self, pool: str, cores_milli: int, memory_bytes: int, run_ms: int) -> None:
        self._pool = pool
        self._milli = cores_milli
        self._memory = memory_bytes
        self._run_s = run_ms / 1000
        self._runs: dict[LeaseKey, _Run] = {}
        self._news: set[LeaseKey] = set()
        self._bell = asyncio.Event()

    async def open(self) -> Isolation:
        return Isolation(0, "no jobs are started")

    async def close(self) -> None:
        return

    async def discover(self) -> tuple[PoolReport, ...]:
        rates = tuple(RateReport(precision=p, nominal_flops=CORE_FLOPS) for p in (Precision.FP64, Precision.FP32))
        pool = PoolReport(
            name=self._pool,
            kind_of_unit="core",
            chip="unknown",
            chip_name="no hardware",
            stack="cpu",
            capacity_milli=self._milli,
            memory_bytes=self._memory,
            max_slot_milli=self._milli,
            watts_per_unit=8,
            rates=rates,
        )
        return (pool,)

    async def foreign(self) -> tuple[PoolDigest, ...]:
        return tuple(PoolDigest(name=pool.name) for pool in await self.discover())

    async def certify(self) -> tuple[PoolReport, ...]:
        """Its invented rates count as measured, so that placement treats it like a real site."""
        pools = await self.discover()
        return tuple(
            pool.model_copy(
                update={
                    "rates": tuple(
                        rate.model_copy(update={"measured_flops": rate.nominal_flops}) for rate in pool.rates
                    )
                }
            )
            for pool in pools
        )

    async def submit(self, job: Job) -> None:
        if job.key in self._runs:
            return
        now = time.monotonic()
        run = _Run(now, time.time_ns() // 1_000_000, now + self._run_s)
        words = deque(job.lease.command)
        while words:
            self._read(run, words)
        limit = now + job.lease.run_limit_ms / 1000
        if run.ends > limit:
            run.ends, run.reason, run.exit_code = limit, EndReason.TIME_LIMIT, 137
        self._runs[job.key] = run
        self._announce(job.key)
        if run.ends > now:
            asyncio.get_running_loop().call_later(run.ends - now, self._announce, job.key)

    def _read(self, run: _Run, words: deque[str]) -> None:
        match words.popleft():
            case "exit":
                run.exit_code = int(words.popleft())
            case "say":
                run.log += words.popleft().encode() + b"\n"
            case "run":
                run.ends = run.started + int(words.popleft()) / 1000
            case "write":
                path = words.popleft()
                run.files[path] = words.popleft().encode()
            case "fail":
                raise SpawnFailed(words.popleft())
            case _:
                words.clear()

    def _announce(self, key: LeaseKey) -> None:
        self._news.add(key)
        self._bell.set()

    async def observe(self, keys: Sequence[LeaseKey]) -> dict[LeaseKey, Status]:
        return {key: self._status(self._runs.get(key)) for key in keys}

    def _status(self, run: _Run | None) -> Status:
        if run is None:
            return Status(Phase.ABSENT)
        now = time.monotonic()
        wall_ms = int((min(now, run.ends) - run.started) * 1000)
        totals = UsageTotals(wall_ms=wall_ms, cpu_ms=wall_ms, peak_memory_bytes=1 << 20)
        if now < run.ends:
            return Status(Phase.STARTED, started=True, started_utc_ms=run.utc_ms, totals=totals)
        return Status(
            Phase.ENDED,
            started=True,
            started_utc_ms=run.utc_ms,
            totals=totals,
            reason=run.reason,
            exit_code=run.exit_code,
        )

    async def changed(self, timeout_ms: int) -> frozenset[LeaseKey]:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._bell.wait()
        except TimeoutError:
            return frozenset()
        await asyncio.sleep(BATCH_MS / 1000)
        self._bell.clear()
        news, self._news = frozenset(self._news), set()
        return news

    async def cancel(self, key: LeaseKey, reason: EndReason) -> None:
        run = self._runs.get(key)
        now = time.monotonic()
        if run and now < run.ends:
            run.ends, run.reason, run.exit_code = now, reason, 143
            self._announce(key)

    async def logs(self, key: LeaseKey, offset: int, limit: int) -> bytes:
        run = self._runs.get(key)
        return run.log[offset : offset + limit] if run else b""

    async def outputs(self, key: LeaseKey, wanted: Sequence[str], cap_bytes: int) -> tuple[Output, ...]:
        files = self._runs[key].files
        found = []
        for path in wanted:
            data = files.get(path)
            if data is None:
                found.append(Output(path, missing="not there"))
            elif len(data) > cap_bytes:
                found.append(Output(path, missing="over the output cap"))
            else:
                cap_bytes -= len(data)
                found.append(Output(path, len(data), hashlib.sha256(data).hexdigest()))
        return tuple(found)

    async def read_output(self, key: LeaseKey, path: str, offset: int, limit: int) -> bytes:
        return self._runs[key].files[path][offset : offset + limit]

    async def known(self) -> frozenset[LeaseKey]:
        return frozenset(self._runs)

    async def forget(self, key: LeaseKey) -> None:
        self._runs.pop(key, None)
