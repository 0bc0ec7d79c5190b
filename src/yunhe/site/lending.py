"""What the site lends now, and which leases go when its own users need the units. Pure.

    room of a pool = certified - what is not lent (share, hours) or what others hold, whichever is more

The hub is told the same by `PoolDigest`, so it places nothing beyond it; what was placed before and does not fit any
more is given back, the least work lost first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from yunhe.core.reclaim import choose
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.settings.lending import LendSettings
from yunhe.wire.link import PoolDigest, PoolReport

CARD_MILLI = 1_000


@dataclass(frozen=True, slots=True)
class Lent:
    """A lease that runs here or is about to. `at_risk_ms`: what it ran since its start or its newest checkpoint."""

    key: LeaseKey
    pool: str
    milli: int
    memory_bytes: int
    at_risk_ms: int = 0


def digests(
    policy: LendSettings, certified: Mapping[str, PoolReport], foreign: Iterable[PoolDigest], now_ms: int
) -> tuple[PoolDigest, ...]:
    """What the hub may not use of each pool. `now_ms`: UTC."""
    is_open = policy.open_at(now_ms)
    return tuple(_digest(policy, certified[pool.name], pool, is_open) for pool in foreign if pool.name in certified)


def _digest(policy: LendSettings, certified: PoolReport, foreign: PoolDigest, is_open: bool) -> PoolDigest:
    percent = policy.share_of(foreign.name) if is_open else 0
    lent = certified.capacity_milli * percent // 100
    if certified.kind_of_unit == "card":
        lent -= lent % CARD_MILLI  # a part of a card is lent to nobody
    memory = certified.memory_bytes * percent // 100
    return foreign.model_copy(
        update={
            "foreign_milli": max(foreign.foreign_milli, certified.capacity_milli - lent),
            "foreign_memory_bytes": max(foreign.foreign_memory_bytes, certified.memory_bytes - memory),
            "longest_ms": _least(policy.longest_ms, foreign.longest_ms),
        }
    )


def _least(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return min(known, default=None)


def to_give_back(
    certified: Mapping[str, PoolReport], not_lent: Iterable[PoolDigest], leases: Sequence[Lent]
) -> tuple[Lent, ...]:
    """The leases that have to go so that the others fit into their pools; sorted by key.

    Never more than others hold or is not lent: a pool that was certified smaller drives nobody out.
    """
    gone: list[Lent] = []
    for digest in not_lent:
        pool = certified[digest.name]
        mine = [lease for lease in leases if lease.pool == digest.name]
        units = sum(lease.milli for lease in mine) - max(0, pool.capacity_milli - digest.foreign_milli)
        memory = sum(lease.memory_bytes for lease in mine) - max(0, pool.memory_bytes - digest.foreign_memory_bytes)
        gone += choose(mine, min(units, digest.foreign_milli), min(memory, digest.foreign_memory_bytes))
    return tuple(sorted(gone, key=lambda lease: lease.key))
