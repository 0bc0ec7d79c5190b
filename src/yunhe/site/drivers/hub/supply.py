"""What of the lower hub's pools is offered upward. Pure: the lower hub's own figures in, pool reports out."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain

from yunhe.core.demand import Ability, Precision
from yunhe.core.errors import Refused, TooLarge
from yunhe.core.rounding import ceil_div
from yunhe.core.supply import SiteState
from yunhe.site.settings import LowerHubSettings
from yunhe.wire.api import PoolView, SiteView
from yunhe.wire.link import BenchmarkResult, Missing, PoolDigest, PoolReport, RateReport, StackReport
from yunhe.wire.origin import MAX_HUBS

MAX_POOLS = 64  # of a certificate
MAX_NAME = 24
DIGITS = 8
SHARED = (SiteState.ACTIVE.value, SiteState.PAUSED.value)
_PLAIN = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Ends:
    """The hubs at both ends of this site, by id."""

    upper: str
    lower: str


@dataclass(frozen=True, slots=True)
class Member:
    """A pool of the lower hub and its site there."""

    pool: PoolView
    site: SiteView

    @property
    def open(self) -> bool:
        """Whether the lower hub places work there now."""
        site = self.site
        return (
            bool(self.pool.trust_milli) and site.state == SiteState.ACTIVE.value and site.connected and site.accepting
        )


@dataclass(frozen=True, slots=True)
class Offered:
    """A pool as it is offered upward, and the pools below that it stands for. Its rates are those measured below."""

    report: PoolReport
    members: tuple[Member, ...]

    @property
    def largest_milli(self) -> int:
        """What one order can have at most: it is never split over pools."""
        return max(member.pool.capacity_milli for member in self.members)


def check_ends(ends: Ends) -> None:
    """Raises Refused when this site would join a hub to itself."""
    if ends.upper == ends.lower:
        raise Refused(f"the hub above and the hub below are the same one, {ends.lower}", field="hub.url")


def offered(sites: Sequence[SiteView], ends: Ends, settings: LowerHubSettings) -> tuple[Offered, ...]:
    """The pools that this site offers, sorted by name.

    What comes from the hub above is never offered back to it, and nothing that is too many hubs away. Raises Refused
    for a circle, and when nothing is left; TooLarge for more pools than a certificate holds.
    """
    check_ends(ends)
    wanted = [Member(pool, site) for site in sites for pool in site.pools if _chosen(pool, site, settings)]
    kept = [member for member in wanted if ends.upper not in member.pool.hubs and ends.lower not in member.pool.hubs]
    near = [member for member in kept if len(member.pool.hubs) + 2 <= MAX_HUBS]
    if wanted and not kept:
        raise Refused("every pool that would be offered comes from the hub above itself", field="hub.pools")
    if kept and not near:
        raise Refused(f"every pool that would be offered is more than {MAX_HUBS} hubs away", field="hub.pools")
    if not near:
        raise Refused("the lower hub has no certified pool within the limits of this site", field="hub.pools")
    groups = _aggregated(near, settings) if settings.aggregate else {_name(m.pool.id, settings): [m] for m in near}
    found = [_offer(name, members, ends, settings) for name, members in groups.items()]
    left = sorted((one for one in found if one.report.capacity_milli), key=lambda one: one.report.name)
    if len(left) > MAX_POOLS:
        raise TooLarge(
            f"{len(left)} pools would be offered, more than {MAX_POOLS}",
            field="hub.pools",
            hint="offer equal ones as one (aggregate), or choose some",
        )
    return tuple(left)


def _chosen(pool: PoolView, site: SiteView, settings: LowerHubSettings) -> bool:
    return (
        site.state in SHARED
        and pool.capacity_milli > 0
        and _allowed(site.id, settings.sites)
        and _allowed(pool.id, settings.pools)
        and _allowed(site.region, settings.regions)
    )


def _allowed(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


# --- names --------------------------------------------------------------------------------------------------------


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _name(pool_id: str, settings: LowerHubSettings) -> str:
    """Always the same for a pool: `site--pool` where that is short enough, else its head and a digest of the id."""
    # A site's id has no double hyphen, so short names of two pools are never equal.
    return f"pool-{_digest(pool_id)}" if settings.anonymous else _short(pool_id.replace(":", "--"), pool_id)


def _short(text: str, whole: str) -> str:
    if len(text) <= MAX_NAME and _PLAIN.fullmatch(text):
        return text
    head = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[: MAX_NAME - DIGITS - 1].strip("-")
    return f"{head or 'pool'}-{_digest(whole)}"


def _aggregated(members: Sequence[Member], settings: LowerHubSettings) -> dict[str, list[Member]]:
    """Equal pools under one name. Chips that are not in the catalogue are equal when the hardware calls itself so."""
    groups: dict[tuple[str, ...], list[Member]] = defaultdict(list)
    for member in members:
        pool = member.pool
        model = "" if pool.chip == "unknown" else pool.chip
        own = pool.chip_name if not model else ""
        groups[pool.unit, pool.stack, model, str(pool.card_memory_bytes), own].append(member)
    texts = {key: "-".join(part for part in (key[1], key[2]) if part) for key in groups}
    twice = {text for text in texts.values() if list(texts.values()).count(text) > 1}
    return {
        _short(f"{text}-{_digest('/'.join(key))}" if text in twice else text, "/".join(key)): groups[key]
        for key, text in texts.items()
    }


# --- figures ------------------------------------------------------------------------------------------------------


def _offer(name: str, members: list[Member], ends: Ends, settings: LowerHubSettings) -> Offered:
    pools = [member.pool for member in members]
    first = pools[0]
    step = 1 if first.unit == "core" else 1_000
    shares = [pool.capacity_milli * settings.share_percent // 100 // step * step for pool in pools]
    dearest = max(pool.price_microcny_per_unit_hour for pool in pools)
    report = PoolReport(
        name=name,
        kind_of_unit="core" if first.unit == "core" else "card",
        chip=first.chip,
        chip_name=first.chip_name,
        stack=first.stack,
        capacity_milli=sum(shares),
        memory_bytes=sum(pool.memory_bytes * settings.share_percent // 100 for pool in pools),
        card_memory_bytes=first.card_memory_bytes,
        max_slot_milli=max(min(pool.max_slot_milli, share) for pool, share in zip(pools, shares, strict=True)),
        watts_per_unit=max(pool.watts_per_unit for pool in pools),
        watts_source=first.watts_source,
        rates=_rates(pools),
        benchmarks=_benchmarks(first) if len(pools) == 1 else (),
        abilities=tuple(a for a in _passed_down(settings) if all(a in pool.abilities for pool in pools)),
        stack_check=_stack_check(pools),
        hubs=tuple(dict.fromkeys((ends.lower, *chain.from_iterable(pool.hubs for pool in pools)))),
        asking_microcny_per_unit_hour=max(1, ceil_div(dearest * (10_000 + settings.margin_bps), 10_000)),
        tested_utc_ms=min(pool.tested_utc_ms for pool in pools),
    )
    return Offered(report, tuple(members))


def _passed_down(settings: LowerHubSettings) -> tuple[Ability, ...]:
    """What jobs may need of the pools below. Checkpoints stay below: an attempt above is one run, see `states`."""
    secrets = (Ability.SECRETS,) if settings.deliver_secrets else ()
    return (Ability.NETWORK, Ability.DATA, *secrets)


def _rates(pools: Sequence[PoolView]) -> tuple[RateReport, ...]:
    """Of several pools the slowest, at the precisions that all of them have: an order may come to any of them."""
    found = []
    for rate in pools[0].rates:
        same = [other for pool in pools for other in pool.rates if other.precision == rate.precision]
        if len(same) < len(pools):
            continue
        nominal = [other.nominal_flops for other in same if other.nominal_flops is not None]
        # No more than the lower hub itself believes: the hub above has no way to test what lies behind another hub.
        measured = [
            other.measured_flops * pool.trust_milli // 1_000
            for pool in pools
            for other in pool.rates
            if other.precision == rate.precision and other.measured_flops is not None
        ]
        found.append(
            RateReport(
                precision=Precision(rate.precision),
                nominal_flops=min(nominal) if len(nominal) == len(same) else None,
                measured_flops=min(measured) if len(measured) == len(same) else None,
            )
        )
    return tuple(found)


def _benchmarks(pool: PoolView) -> tuple[BenchmarkResult, ...]:
    return tuple(BenchmarkResult.model_validate(result.model_dump()) for result in pool.benchmarks)


def _stack_check(pools: Sequence[PoolView]) -> StackReport | None:
    """What ran in all of them; None where one was not tried."""
    checks = [pool.stack_check for pool in pools if pool.stack_check is not None]
    if len(checks) < len(pools):
        return None
    first = checks[0]
    if len(checks) == 1:
        missing = tuple(Missing(operator=name, reason=reason) for name, reason in first.missing.items())
        return StackReport(versions=first.versions, operators=first.operators, missing=missing)
    ready = set(first.operators).intersection(*(check.operators for check in checks))
    return StackReport(operators=tuple(name for name in first.operators if name in ready))


def nominal(report: PoolReport) -> PoolReport:
    """The pool as it is called, without what was measured."""
    rates = tuple(rate.model_copy(update={"measured_flops": None}) for rate in report.rates)
    return report.model_copy(update={"rates": rates, "benchmarks": (), "tested_utc_ms": 0})


def foreign(
    certified: Sequence[Offered], now: Sequence[SiteView], ours: Mapping[str, tuple[int, int]], max_run_ms: int | None
) -> tuple[PoolDigest, ...]:
    """Of each offered pool what others use: its size less what is free below less what this site's leases have there.

    `ours`: (units in 1/1000, bytes) by name of the offered pool. A site below that takes no work has nothing free.
    """
    current = {pool.id: Member(pool, site) for site in now for pool in site.pools}
    digests = []
    for one in certified:
        members = [current[m.pool.id] for m in one.members if m.pool.id in current]
        free = sum(m.pool.free_milli for m in members if m.open)
        free_memory = sum(m.pool.free_memory_bytes for m in members if m.open)
        milli, memory = ours.get(one.report.name, (0, 0))
        digests.append(
            PoolDigest(
                name=one.report.name,
                foreign_milli=max(0, one.report.capacity_milli - free - milli),
                foreign_memory_bytes=max(0, one.report.memory_bytes - free_memory - memory),
                longest_ms=_longest_ms([m.pool for m in members if m.open], max_run_ms),
                busy_milli=_known_sum([m.pool.busy_milli for m in members]),
                powered_milli=_known_sum([m.pool.powered_milli for m in members]),
            )
        )
    return tuple(digests)


def _longest_ms(pools: Sequence[PoolView], max_run_ms: int | None) -> int | None:
    """The longest run that one of them takes now and that this site passes down; None: any."""
    limits = [pool.longest_ms for pool in pools]
    known = [limit for limit in limits if limit is not None]
    below = max(known) if known and len(known) == len(limits) else None
    return min((limit for limit in (below, max_run_ms) if limit is not None), default=None)


def _known_sum(figures: Sequence[int | None]) -> int | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if len(known) == len(figures) else None


def tier(found: Sequence[Offered], settings: LowerHubSettings) -> int:
    """The lowest of the sites that may get the work."""
    return min([settings.max_tier, *(member.site.tier for one in found for member in one.members)])
