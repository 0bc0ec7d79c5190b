"""Load from a process of its own: `python -m benchmarks.generator` reads one job as JSON on stdin, prints the result.

The hub under load gets its core to itself as far as the machine allows; requests are made before the clock runs.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import uvloop

from benchmarks import orders
from benchmarks.fake_agents import Agent, Executor
from benchmarks.http_client import Connection, request

CREATED = 201
OPEN_AT_ONCE = 1_000  # settled: orders submitted and not yet ended, so that queues stay short
REPORT_S = 5.0
DRAIN_S = 15.0

Job = dict[str, object]


@dataclass
class Tally:
    """What the submitters did."""

    accepted: int = 0
    refused: int = 0
    first_refusal: str = ""
    spent_ms: list[float] = field(default_factory=list)


async def submitter(
    host: str, port: int, headers: dict[str, str], tally: Tally, turn: Callable[[], Awaitable[bool]]
) -> None:
    """POST orders over one connection, each with an Idempotency-Key as the SDK sends it, while `turn` says so."""
    connection = await Connection.connect(host, port)
    shapes, me, n = orders.bodies(), f"{id(connection):x}-{time.time_ns():x}", 0
    try:
        while await turn():
            n += 1
            message = request(
                "POST", "/v1/orders", {**headers, "Idempotency-Key": f"{me}-{n}"}, shapes[n % len(shapes)]
            )
            before = time.perf_counter()
            status, body = await connection.send(message)
            tally.spent_ms.append((time.perf_counter() - before) * 1000)
            if status == CREATED:
                tally.accepted += 1
            else:
                tally.refused += 1
                tally.first_refusal = tally.first_refusal or f"{status} {body[:300]!r}"
    finally:
        connection.close()


async def submit(job: Job) -> dict[str, object]:
    """`connections` submitters for `seconds` after a warm-up of `warm_s`."""
    host, port, key = str(job["host"]), int(str(job["port"])), str(job["key"])
    seconds, warm_s = float(str(job["seconds"])), float(str(job["warm_s"]))
    headers = {"Authorization": f"Bearer {key}"}
    tally = Tally()
    started = time.monotonic()

    async def turn() -> bool:
        return time.monotonic() < started + warm_s + seconds

    tasks = [
        asyncio.create_task(submitter(host, port, headers, tally, turn)) for _ in range(int(str(job["connections"])))
    ]
    await asyncio.sleep(warm_s)
    before, since = tally.accepted, time.monotonic()
    tally.spent_ms.clear()
    await asyncio.sleep(max(0.0, started + warm_s + seconds - time.monotonic()))
    accepted, measured_s = tally.accepted - before, time.monotonic() - since
    spent = sorted(tally.spent_ms)
    await asyncio.gather(*tasks)
    return {
        "per_s": accepted / measured_s,
        "p50_ms": _percentile(spent, 50),
        "p99_ms": _percentile(spent, 99),
        "refused": tally.refused,
        "first_refusal": tally.first_refusal,
        "cpu_s": time.process_time(),
    }


async def settle(job: Job) -> dict[str, object]:
    """Submitters and agents together: at most OPEN_AT_ONCE orders are under way. Says how it goes on stderr."""
    host, port, key = str(job["host"]), int(str(job["port"])), str(job["key"])
    until = time.monotonic() + float(str(job["seconds"]))
    headers = {"Authorization": f"Bearer {key}"}
    tally, executor = Tally(), Executor()
    agents = [Agent.from_job(item, host, port) for item in job["agents"]]  # type: ignore[attr-defined]
    room = asyncio.Condition()

    async def turn() -> bool:
        async with room:
            while tally.accepted - executor.ended >= OPEN_AT_ONCE and time.monotonic() < until:
                with suppress(TimeoutError):
                    await asyncio.wait_for(room.wait(), 0.2)
        return time.monotonic() < until

    async def ended() -> None:
        async with room:
            room.notify_all()

    polling = [asyncio.create_task(agent.run(executor, ended)) for agent in agents]
    posting = [
        asyncio.create_task(submitter(host, port, headers, tally, turn)) for _ in range(int(str(job["connections"])))
    ]
    while time.monotonic() < until:
        await asyncio.wait(posting, timeout=min(REPORT_S, max(0.01, until - time.monotonic())))
        print(f"{tally.accepted} submitted, {executor.ended} ended", file=sys.stderr, flush=True)
    await asyncio.gather(*posting)
    drained = time.monotonic() + DRAIN_S
    while executor.ended < tally.accepted and time.monotonic() < drained:
        await asyncio.sleep(0.05)
    broken = [task for task in polling if task.done()]
    for task in polling:
        task.cancel()
    await asyncio.gather(*polling, return_exceptions=True)
    for task in broken:
        task.result()
    return {
        "accepted": tally.accepted,
        "ended": executor.ended,
        "refused": tally.refused,
        "first_refusal": tally.first_refusal,
        "cpu_s": time.process_time(),
    }


async def hold(job: Job) -> dict[str, object]:
    """Agents that say hello, show a certificate and then hold their long polls for `seconds`."""
    host, port = str(job["host"]), int(str(job["port"]))
    executor = Executor()
    agents = [Agent.from_job(item, host, port) for item in job["agents"]]  # type: ignore[attr-defined]
    started = asyncio.Semaphore(20)  # as a network that comes back: many at once, not all in one instant

    async def join(agent: Agent) -> None:
        async with started:
            await agent.begin()

    await asyncio.gather(*(join(agent) for agent in agents))
    print(f"{len(agents)} agents are connected", file=sys.stderr, flush=True)

    async def ignore() -> None:
        return None

    polling = [asyncio.create_task(agent.run(executor, ignore)) for agent in agents]
    done, _ = await asyncio.wait(polling, timeout=float(str(job["seconds"])), return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
    for task in polling:
        task.cancel()
    await asyncio.gather(*polling, return_exceptions=True)
    return {"polls": sum(agent.poll_no for agent in agents), "cpu_s": time.process_time()}


def _percentile(ordered: list[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0


KINDS = {"submit": submit, "settle": settle, "hold": hold}


# --- from the benchmark's side ------------------------------------------------------------------------------------


class Generator:
    """A running load process. `line` gives its next line of progress, `result` waits for its end."""

    def __init__(self, kind: str, job: Job) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.generator", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job))
        self._process.stdin.close()

    def line(self) -> str:
        """Empty at its end."""
        assert self._process.stderr is not None
        return self._process.stderr.readline().rstrip()

    def result(self, timeout_s: float) -> dict[str, object]:
        assert self._process.stdout is not None and self._process.stderr is not None
        errors = self._process.stderr.read()
        text = self._process.stdout.read()
        if self._process.wait(timeout_s) != 0:
            raise RuntimeError(f"the load process failed: {errors[-1500:]}")
        found: dict[str, object] = json.loads(text)
        return found

    def __enter__(self) -> "Generator":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


if __name__ == "__main__":
    print(json.dumps(uvloop.run(KINDS[sys.argv[1]](json.loads(sys.stdin.read())))))
