"""Modelled sites: how long a job runs where, when its cards fail, when a centre falls silent, what an hour costs.

Draws are a function of (seed, what, which) alone, so that they do not depend on the order of events.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from yunhe.core.demand import Precision
from yunhe.core.hours import FLAT
from yunhe.core.lifecycle import EndReason
from yunhe.core.placement.sizing import trusted_rate
from yunhe.core.supply import Site, at_hour
from yunhe.simulator.build import Network
from yunhe.simulator.parts import HOURS
from yunhe.simulator.scenario import Scenario
from yunhe.simulator.work import HOUR_MS, UTC_TO_LOCAL_HOURS, Incoming

_MASK = (1 << 64) - 1
CARD, OUTAGE = 1, 2  # kinds of draws
LEAST_WALL_MS = 1


def draw(seed: int, kind: int, which: int, again: int) -> float:
    """A number in (0, 1], by SplitMix64 (Steele, Lea and Flood 2014) over the four values."""
    state = seed & _MASK
    for value in (kind, which, again):
        state = (state ^ value) & _MASK
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return ((state >> 11) + 1) / (1 << 53)


class Run(NamedTuple):
    """How an attempt will end if nothing happens to its site. `wall_ms` with the transfer of its data."""

    wall_ms: int
    reason: EndReason
    exit_code: int | None


class Sites:
    """All modelled sites of a scenario. Keeps nothing that changes but the transfers under way."""

    def __init__(self, scenario: Scenario, network: Network) -> None:
        self._scenario = scenario
        self._network = network
        supply, policy = network.supply, network.policy
        index = {site.id: i for i, site in enumerate(supply.sites)}
        self.site_of = [index[pool.site_id] for pool in supply.pools]
        self._rates: dict[Precision, list[int | None]] = {
            precision: [trusted_rate(pool, precision, policy) for pool in supply.pools]
            for precision in {workload.precision for workload in scenario.workloads}
            | {w.tokens.per_token.precision for w in scenario.workloads if w.tokens}
        }
        self._precision = [w.tokens.per_token.precision if w.tokens else w.precision for w in scenario.workloads]
        self._until_ms: list[list[int]] = [[] for _ in supply.sites]  # ends of the transfers under way

    def run(self, job: Incoming, number: int, epoch: int, pool: int, milli: int, now_ms: int) -> Run:
        """What an attempt that starts now comes to."""
        rate = self._rates[self._precision[job.workload]][pool]
        if rate is None:
            run_ms = job.reference_ms  # nothing is known of the chip at this precision
        else:
            run_ms = max(LEAST_WALL_MS, round(job.flop * 1_000_000 / (rate * milli)))
        if job.slow:
            run_ms = round(run_ms * self._scenario.sites.straggler_factor)
        wall_ms = run_ms + self._transfer_ms(job, pool, now_ms)
        limit_ms = job.shape.terms.run_limit_ms
        found = Run(wall_ms, EndReason.EXITED, 1 if job.fails else 0)
        if wall_ms > limit_ms:
            found = Run(limit_ms, EndReason.TIME_LIMIT, None)
        every_ms = self._network.centres[self.site_of[pool]].card_failures_every_ms
        if every_ms is not None:
            # The first failure of any of its cards: exponential, of a hazard that grows with their number.
            chance = draw(self._scenario.seed, CARD, number, epoch)
            fails_ms = int(-math.log(chance) * every_ms * 1000 / milli)
            if fails_ms < found.wall_ms:
                found = Run(max(LEAST_WALL_MS, fails_ms), EndReason.SUPERVISOR_LOST, None)
        return found

    def _transfer_ms(self, job: Incoming, pool: int, now_ms: int) -> int:
        """Input data come over what others leave of the centre's network, divided among its transfers."""
        need, index = job.shape.requirement, self.site_of[pool]
        centre = self._network.centres[index]
        if need.data_at is None or not need.data_bytes or need.data_at in (centre.site.id, centre.site.cluster):
            return 0
        under_way = self._until_ms[index] = [until for until in self._until_ms[index] if until > now_ms]
        load = centre.load_by_hour[hour_of_day(now_ms)] if centre.load_by_hour else 0.0
        bps = centre.site.bandwidth_bps * (1 - load) / (len(under_way) + 1)
        transfer_ms = math.ceil(need.data_bytes * 8000 / max(bps, 1.0))
        under_way.append(now_ms + transfer_ms)
        return transfer_ms

    def outage(self, site: int, again: int) -> tuple[int, int] | None:
        """(ms of service before it, ms of it) of the outage number `again` of a centre."""
        outages = self._network.centres[site].outages
        if outages is None:
            return None
        seed = self._scenario.seed
        before = -math.log(draw(seed, OUTAGE, site, 2 * again)) * outages.every
        length = -math.log(draw(seed, OUTAGE, site, 2 * again + 1)) * outages.last
        return max(1, int(before)), max(1, int(length))

    def by_the_hour(self) -> bool:
        """Whether any price or factor changes with the hour."""
        return any(centre.site.hours != FLAT for centre in self._network.centres)

    def at_hour(self, sites: Sequence[Site], now_ms: int) -> tuple[Site, ...]:
        """`sites` at the prices and factors of the hour."""
        return tuple([at_hour(site, now_ms // HOUR_MS) for site in sites])


def hour_of_day(now_ms: int) -> int:
    """Local, as the tables of a scenario are."""
    return (now_ms // HOUR_MS + UTC_TO_LOCAL_HOURS) % HOURS
