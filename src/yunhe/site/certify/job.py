"""Certification runs as jobs of the site's own engine: same sandbox, same limits as a customer's."""

import asyncio
import itertools
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from yunhe import core
from yunhe.core.errors import Unavailable, YunheError
from yunhe.core.lifecycle import EndReason
from yunhe.site.certify.results import stack_report, with_results
from yunhe.site.drivers.contract import Driver, Job, Phase, SpawnFailed, Status, Told
from yunhe.site.supervisor.records import boottime_ms
from yunhe.wire.link import PoolReport, Proof, ProveNow, StartLease

log = logging.getLogger(__name__)

PROGRAMS = Path(__file__).parent / "programs"
CHAIN = Path(core.__file__).with_name("chain.py")  # read, not imported: the agent has no use for numpy
LEASE_ID = "certify"
LIMIT_MS = 60_000
CARD_LIMIT_MS = 300_000  # PyTorch alone takes many seconds to start on a card
MEMORY_BYTES = 512 * 1024 * 1024
CARD_MEMORY_BYTES = 16 * 1024 * 1024 * 1024
OUTPUT_BYTES = 2 * 1024 * 1024
LOOK_S = 0.02
READY = b"ready\n"  # what the program says, and the file in which it then finds the key that counts
REVEALED = "revealed"
GANG = 4  # processes of the all-reduce, at most

_epochs = itertools.count()
Ready = Callable[[], Awaitable[ProveNow]]
Beside = Callable[[Job], Awaitable[None]]


async def certify(driver: Driver, pool: PoolReport) -> PoolReport:
    """The pool with measured rates of one whole unit, and what of its software stack is ready.

    A unit is one core with one thread, or one card, in a lease of that size; a pool of less than a core is measured by
    CPU time in a lease of its whole share.  Raises Unavailable when the benchmark did not end well; a stack check or
    an all-reduce that fails only leaves its figures out.
    """
    milli = min(1000, pool.capacity_milli)
    precisions = [rate.precision.value for rate in pool.rates]
    bench = await _run(driver, pool, ("bench.py", str(milli), pool.stack, *precisions), milli)
    measured = with_results(pool, bench["samples"], bench["reasons"])
    stack = await _tried(driver, pool, ("stack.py", pool.stack), milli)
    if stack is not None:
        try:
            measured = measured.model_copy(update={"stack_check": stack_report(stack, bench["versions"])})
        except ValidationError as error:
            log.warning("the stack check of pool %s said nothing of use: %s", pool.name, error)
    size = min(GANG, pool.max_slot_milli // 1000)
    if size >= 2:
        gang = await _tried(driver, pool, ("gang.py", pool.stack, str(size)), size * 1000)
        if gang is not None:
            gathered = with_results(measured.model_copy(update={"rates": ()}), gang["samples"])
            measured = measured.model_copy(update={"benchmarks": gathered.benchmarks})
            measured = _with_version(measured, "allreduce by", f"{gang['means']}, {size} processes of one host")
    return measured


def _with_version(pool: PoolReport, name: str, text: str) -> PoolReport:
    if pool.stack_check is None:
        return pool
    versions = {**pool.stack_check.versions, name: text}
    return pool.model_copy(update={"stack_check": pool.stack_check.model_copy(update={"versions": versions})})


async def prove(driver: Driver, site_id: str, asked: ProveNow, ready: Ready | None = None) -> Proof:
    """The answer to a challenge, or why there is none. `ready` says that all is and gives the challenge that counts."""
    counts = asked
    held = ready is not None and isinstance(driver, Told)
    try:
        if ready is not None and not held:  # its job can be told nothing: then its start is a part of the time
            asked = counts = await ready()
        pool = next((pool for pool in await driver.discover() if pool.name == asked.pool), None)
        if pool is None:
            raise Unavailable(f"there is no pool {asked.pool!r}")
        work = (asked.precision.value, str(asked.n), str(asked.width), str(asked.steps))
        words = ("show.py", _chain_key(asked, site_id), pool.stack, *work)

        async def tell(job: Job) -> None:
            nonlocal counts
            assert ready is not None and isinstance(driver, Told)
            await _said_ready(driver, job)
            counts = await ready()
            await driver.tell(job.key, REVEALED, _chain_key(counts, site_id))

        milli = min(1000, pool.capacity_milli)
        if held:
            found = await _run(driver, pool, (*words, REVEALED), milli, tell)
        else:
            found = await _run(driver, pool, words, milli)
        return Proof(seq=0, challenge=counts.challenge, digests=found["digests"], columns=found["columns"])
    except (YunheError, OSError, ValidationError, KeyError, TimeoutError) as error:
        text = str(error) or "the hub did not say what counts"
        return Proof(seq=0, challenge=counts.challenge, error=text.replace("\0", "")[:300])


def _chain_key(asked: ProveNow, site_id: str) -> str:
    return f"{asked.challenge}/{site_id}/{asked.pool}"


async def _said_ready(driver: Driver, job: Job) -> None:
    """Until the program is ready, or over: then its end says why."""
    while READY not in await driver.logs(job.key, 0, OUTPUT_BYTES):
        if (await driver.observe([job.key]))[job.key].phase in (Phase.ENDED, Phase.ABSENT):
            raise Unavailable(f"it did not get ready: {(await driver.logs(job.key, 0, 300)).decode(errors='replace')}")
        await asyncio.sleep(LOOK_S)


async def _tried(driver: Driver, pool: PoolReport, words: Sequence[str], milli: int) -> dict[str, Any] | None:
    try:
        return await _run(driver, pool, words, milli)
    except Unavailable as error:
        log.warning("%s on pool %s: %s", words[0], pool.name, error)
        return None


async def _run(
    driver: Driver,
    pool: PoolReport,
    words: Sequence[str],
    milli: int,
    beside: Callable[[Job], Awaitable[None]] | None = None,
) -> dict[str, Any]:
    """What a program printed, run in a lease of `milli` on one host. Raises Unavailable when it did not end well.
    `beside`: what is to be done while it runs."""
    card = pool.kind_of_unit == "card"
    limit_ms = CARD_LIMIT_MS if card else LIMIT_MS
    lease = StartLease(
        seq=0,
        lease_id=LEASE_ID,
        epoch=boottime_ms() + next(_epochs),
        pool=pool.name,
        slots=1,
        slot_milli=milli,
        slot_memory_bytes=min(CARD_MEMORY_BYTES if card else MEMORY_BYTES, pool.memory_bytes),
        run_limit_ms=limit_ms,
        disconnect_limit_ms=limit_ms,
        # Of jobs that run at other sites, which have their own.
        command=(getattr(driver, "python", sys.executable), *words),
    )
    job = Job(lease, boottime_ms(), _files(words[0]))
    try:
        await driver.submit(job)
        if beside is not None:
            async with asyncio.timeout(limit_ms / 1000):
                await beside(job)
        end = await _ended(driver, job, limit_ms)
        text = (await driver.logs(job.key, 0, OUTPUT_BYTES)).decode(errors="replace")
    except SpawnFailed as error:
        raise Unavailable(f"the engine does not take it: {error}") from error
    finally:
        try:
            await driver.cancel(job.key, EndReason.CANCELLED)
            await _ended(driver, job, limit_ms)
        finally:
            await driver.forget(job.key)
    if end.exit_code != 0:
        raise Unavailable(f"the benchmark ended with {end.reason} {end.exit_code}: {text[-300:]}")
    try:
        found = json.loads(text[text.index("{") :].splitlines()[-1] if "{" in text else text)
    except ValueError as error:
        raise Unavailable(f"the benchmark printed {text[-100:]!r}") from error
    if not isinstance(found, dict):
        raise Unavailable(f"the benchmark printed {text[-100:]!r}")
    return found


def _files(program: str) -> dict[str, str]:
    """The program, and what lies beside it."""
    files = {name: (PROGRAMS / name).read_text(encoding="utf-8") for name in (program, "device.py")}
    if program == "show.py":
        files["chain.py"] = CHAIN.read_text(encoding="utf-8")
    return files


async def _ended(driver: Driver, job: Job, limit_ms: int) -> Status:
    until = time.monotonic() + limit_ms / 1000
    while time.monotonic() < until:
        status = (await driver.observe([job.key]))[job.key]
        if status.phase in (Phase.ENDED, Phase.ABSENT):
            return status
        await asyncio.sleep(LOOK_S)
    raise Unavailable("the benchmark does not end")
