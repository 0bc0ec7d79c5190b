"""The work of a scenario: jobs of its sources, dealt out to customers, as orders in the order of their arrival.

What is random about a job (whose it is, whether it must be near, ...) is drawn by (seed, workload, block of jobs)
alone, so that the same job is the same whatever happens around it, and a stream can begin anywhere.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from yunhe.core.demand import Compute, LatencyBound, LatencyKind, Requirement, Shape, Terms, Work
from yunhe.core.errors import InvalidInput
from yunhe.core.placement.sizing import trusted_rate
from yunhe.core.supply import STACKS, PoolKind
from yunhe.simulator.build import BPS, Network, chip_of
from yunhe.simulator.parts import WorkloadSpec
from yunhe.simulator.scenario import Scenario
from yunhe.simulator.workloads.fitted import WEEK_HOURS, generate, shipped
from yunhe.simulator.workloads.raw import RawJob, in_order, sorted_jobs
from yunhe.simulator.workloads.traces import read_trace

BLOCK = 1024
SLOT_CARDS = 8
HOUR_MS = 3_600_000
EPOCH_HOUR = 72  # of the week (0: Monday 0 h) at which 1970 began, a Thursday; in UTC
UTC_TO_LOCAL_HOURS = 8  # hours of the day are those of Beijing
WHO, NEAR, DATA, STAY, SLOW, FAIL = range(6)
DRAWS = 6
_ACCELERATORS = frozenset(STACKS - {"cpu"})


class Incoming(NamedTuple):
    """An order as it comes in. `reference_ms`: its run on as many cards as its source had."""

    workload: int
    serial: int
    customer: int
    shape: Shape
    cards: int
    reference_ms: int
    flop: int  # what it computes in all, at its workload's precision
    slow: bool  # a straggler wherever it runs
    fails: bool  # exits with a code that is not 0


@dataclass(frozen=True, slots=True)
class Reference:
    """How fast the cards of a workload's source were, in FLOP/s of one card that placement would count on."""

    flops: int
    slowest: float  # a run on the slowest card of the network over one on the reference card, at least 1


class Stream:
    """One workload as a feed of `Incoming`."""

    def __init__(self, scenario: Scenario, network: Network, index: int, folder: Path) -> None:
        self._scenario = scenario
        self._network = network
        self._index = index
        self._spec: WorkloadSpec = scenario.workloads[index]
        self._folder = folder
        self.name = f"workloads[{index}]"
        self.reference = _reference(self._spec, network, self.name)
        self._shapes: dict[tuple[object, ...], Shape] = {}
        self._customers, self._weights = _dealt(self._spec, network)

    def open(self, skip: int) -> Iterator[tuple[int, Incoming]]:
        """Up to the end of the scenario."""
        start_ms, end_ms = self._scenario.start, self._scenario.start + self._scenario.length
        faster = self._spec.faster
        jobs = self._jobs()
        serial = 0
        while block := list(islice(jobs, BLOCK)):
            if serial + len(block) > skip:
                draws = np.random.default_rng((self._scenario.seed, self._index, 1, serial // BLOCK)).random(
                    (BLOCK, DRAWS)
                )
                owners = np.searchsorted(self._weights, draws[:, WHO], side="right").tolist()
                rows = draws.tolist()
                for i in range(max(0, skip - serial), len(block)):
                    at_ms = start_ms + int(block[i].at_ms / faster)
                    if at_ms >= end_ms:
                        return
                    yield at_ms, self._incoming(serial + i, block[i], self._customers[owners[i]], rows[i])
            serial += len(block)

    # --- from the source ------------------------------------------------------------------------------------------

    def _jobs(self) -> Iterator[RawJob]:
        spec = self._spec
        jobs = self._source()
        if spec.tokens is not None:
            jobs = _windows(jobs, spec.tokens.window)
        if spec.times > 1:
            jobs = (job for job in jobs for _ in range(spec.times))
        return islice(jobs, spec.jobs)

    def _source(self) -> Iterator[RawJob]:
        spec = self._spec
        if spec.fitted is not None:
            hour = (self._scenario.start // HOUR_MS + EPOCH_HOUR + UTC_TO_LOCAL_HOURS) % WEEK_HOURS
            # Its own stream of random numbers, beside those of the dealing.
            seed = int(np.random.SeedSequence((self._scenario.seed, self._index, 0)).generate_state(1, np.uint64)[0])
            before = -(-spec.fitted.before // HOUR_MS)
            return generate(shipped(spec.fitted.like), spec.fitted.jobs_per_day, seed, hour, before)
        assert spec.trace is not None
        path = self._folder / spec.trace.path
        jobs: Iterable[RawJob] = read_trace(spec.trace.format, path)
        jobs = sorted_jobs(jobs, self.name) if spec.trace.sort else in_order(jobs, self.name)
        return _from(jobs, spec.trace.skip)

    # --- to orders ------------------------------------------------------------------------------------------------

    def _incoming(self, serial: int, job: RawJob, owner: int, draw: list[float]) -> Incoming:
        spec = self._spec
        near = spec.near is not None and draw[NEAR] * BPS < spec.near.share
        data = spec.data is not None and draw[DATA] * BPS < spec.data.share
        stay = draw[STAY] * BPS < spec.stay_in_region
        slow = draw[SLOW] * BPS < self._scenario.sites.stragglers
        fails = draw[FAIL] * BPS < spec.fails
        limit = self._limit(job)
        key = (
            job.cards if spec.ask != "work" else (job.cards, job.run_ms),
            job.tokens,
            limit,
            (owner if near or data else None, near, data),
            self._network.customers[owner].region if stay else None,
        )
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shape(job, limit, owner, near=near, data=data, stay=stay)
            if spec.ask != "work" and not job.tokens:  # these are as many as there are jobs
                self._shapes[key] = shape
        flop = self.reference.flops * job.cards * job.run_ms // 1000
        if spec.tokens is not None:
            flop = spec.tokens.per_token.flop * job.tokens
        return Incoming(self._index, serial, owner, shape, job.cards, job.run_ms, flop, slow, fails)

    def _limit(self, job: RawJob) -> int:
        spec = self._spec
        if spec.tokens is not None:
            return spec.tokens.window
        slowest = self.reference.slowest if spec.ask == "cards" else 1.0
        wanted = int(job.run_ms * spec.limit_over * slowest) + 1
        index = bisect_left(spec.limits, wanted)
        return spec.limits[index] if index < len(spec.limits) else wanted

    def _shape(self, job: RawJob, limit_ms: int, owner: int, *, near: bool, data: bool, stay: bool) -> Shape:
        spec, customer = self._spec, self._network.customers[owner]
        bounds: tuple[LatencyBound, ...] = ()
        if near and spec.near is not None and customer.place is not None:
            bounds = (LatencyBound(customer.place, spec.near.rtt, LatencyKind.RTT),)
        data_at = self._network.centres[customer.home].site.id if data and customer.home is not None else None
        need = Requirement(
            chip=spec.chip,
            latency=bounds,
            data_at=data_at,
            data_bytes=spec.data.size if spec.data is not None and data_at is not None else 0,
            residency=frozenset({customer.region}) if stay and customer.region else frozenset(),
            max_carbon_g_per_kwh=self._scenario.rules.max_carbon,
            stacks=_ACCELERATORS,
        )
        return Shape(self._sized(need, job), Terms(limit_ms, preference=spec.preference, patience_ms=spec.patience))

    def _sized(self, need: Requirement, job: RawJob) -> Requirement:
        spec, flops = self._spec, self.reference.flops
        if spec.tokens is not None:
            per_token = spec.tokens.per_token
            return replace(need, work=Work(per_token.flop * job.tokens, per_token.precision))
        if spec.ask == "compute":
            return replace(need, compute=Compute(flops * job.cards, spec.precision))
        if spec.ask == "work":
            return replace(need, work=Work(max(1, flops * job.cards * job.run_ms // 1000), spec.precision))
        # A gang of equal slots that fit on hosts of eight cards.
        per_slot = next(n for n in range(min(job.cards, SLOT_CARDS), 0, -1) if job.cards % n == 0)
        return replace(need, cards=per_slot, slots=job.cards // per_slot)


def _reference(spec: WorkloadSpec, network: Network, field: str) -> Reference:
    nominal = chip_of(spec.reference_chip, f"{field}.reference_chip").rate(spec.precision)
    if spec.chip is not None:
        chip_of(spec.chip, f"{field}.chip")
    if nominal is None:
        raise InvalidInput(
            f"{spec.reference_chip} has no figure at {spec.precision}", field=f"{field}.precision", hint="name another"
        )
    flops = nominal * network.policy.nominal_derate_percent // 100
    rates = [
        trusted_rate(pool, spec.precision, network.policy)
        for pool in network.supply.pools
        if pool.kind is PoolKind.ACCELERATOR and spec.chip in (None, pool.chip)
    ]
    slowest = min((rate for rate in rates if rate), default=flops)
    return Reference(flops, max(1.0, flops / slowest))


def _dealt(spec: WorkloadSpec, network: Network) -> tuple[list[int], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Customers that the jobs go to, and the upper end of each one's share in [0, 1)."""
    weights = []
    for i, customer in enumerate(network.customers):
        name = customer.id
        weight = spec.customers.get(name) or spec.customers.get(name.rpartition("-")[0])
        if not spec.customers or weight:
            weights.append((i, weight or 1))
    ends = np.cumsum([weight for _, weight in weights], dtype=np.float64)
    ends /= ends[-1]
    ends[-1] = 1.0
    return [i for i, _ in weights], ends


def _from(jobs: Iterable[RawJob], skip_ms: int) -> Iterator[RawJob]:
    """Those from `skip_ms` behind the first arrival on, by the time since then."""
    zero: int | None = None
    for job in jobs:
        zero = job.at_ms + skip_ms if zero is None else zero
        if job.at_ms >= zero:
            yield job._replace(at_ms=job.at_ms - zero)


def _windows(jobs: Iterable[RawJob], window_ms: int) -> Iterator[RawJob]:
    """The tokens of each window as one job at its end."""
    end_ms, tokens = window_ms, 0
    for job in jobs:
        if job.at_ms >= end_ms:
            if tokens:
                yield RawJob(end_ms, 1, window_ms, tokens)
            end_ms, tokens = (job.at_ms // window_ms + 1) * window_ms, 0
        tokens += job.tokens
    if tokens:
        yield RawJob(end_ms, 1, window_ms, tokens)
