"""What sites say that their pools do, and how far the hub believes it.

A certificate is a claim.  The hub compares it with the catalogue's peak and with the test before, and then has every
rate that it can check shown (`turns`): it alone counts the time.

| state | how a claim gets there | what the rate counts |
|---|---|---|
| claimed | nobody can show it: no chain at this precision | 1000 |
| unproven | fresh | `certify_unproven_milli` |
| proven | the work came back right and in time | 1000 |
| slower | right, and too late at every try | what the hub saw / what is claimed |
| silent | no answer to any try; behind another hub it stays unproven | `certify_silent_milli` |
| refuted | above the catalogue's peak, or the answer was wrong | 0: the pool takes no work |

A pool is believed as its least believed rate, times the drop since the last test.

A refuted rate stays refuted until it is shown: neither silence, nor a certificate without it, nor a pool of another
name mends it. Where it is claimed no more, it is remembered of the site, and every new pool begins there; a pool of the
same chip that shows its rate ends that.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import sqlalchemy as sa

from yunhe.core import chain
from yunhe.core.demand import Precision
from yunhe.core.supply import PoolKind, Rate
from yunhe.core.units import format_flops
from yunhe.facts.load import chips
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.catalogue.records import PoolRecord
from yunhe.hub.dispatch import store
from yunhe.hub.platform.db import insert_ignore
from yunhe.hub.platform.settings import HubSettings
from yunhe.hub.platform.writer import Tx

log = logging.getLogger(__name__)
FULL = 1000
GROWTH_PERCENT = 110  # a claim that grew by less than this needs no new proof before it counts as the one before


class ClaimState(StrEnum):
    CLAIMED = "claimed"
    UNPROVEN = "unproven"
    PROVEN = "proven"
    SLOWER = "slower"
    SILENT = "silent"
    REFUTED = "refuted"


@dataclass(frozen=True, slots=True)
class Claim:
    """One rate of one unit of a pool. Times in ms UTC."""

    pool_id: str
    precision: str
    site_id: str
    claimed_flops: int
    state: ClaimState
    seen_flops: int = 0
    drop_milli: int = FULL
    tries: int = 0
    due_ms: int | None = None
    at_ms: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one answer to a challenge. `wrong`: why the answer is not the right one; `failed`: why there is none."""

    pool_id: str
    precision: str
    seen_flops: int = 0
    wrong: str = ""
    failed: str = ""


# --- the rules ----------------------------------------------------------------------------------------------------


def weigh(claim: Claim, settings: HubSettings) -> int:
    """What a claim counts, in thousandths."""
    match claim.state:
        case ClaimState.UNPROVEN:
            counts = settings.certify_unproven_milli
        case ClaimState.SILENT:
            counts = settings.certify_silent_milli
        case ClaimState.SLOWER:
            counts = min(FULL, claim.seen_flops * FULL // max(1, claim.claimed_flops))
        case ClaimState.REFUTED:
            counts = 0
        case _:
            counts = FULL
    return counts * claim.drop_milli // FULL


def peak_flops(pool: PoolRecord, precision: Precision, settings: HubSettings) -> int | None:
    """The most that one unit of the pool can do by the catalogue's word on its chip; None: nobody knows."""
    chip = next((item for item in chips() if item.id == pool.chip), None)
    rate = chip.rate(precision) if chip else None
    if chip is None or rate is None:
        return None
    if pool.kind is PoolKind.ACCELERATOR:
        return rate * settings.certify_card_over_nominal_percent // 100
    return rate // chip.cores * settings.certify_core_over_nominal_percent // 100 if chip.cores else None


def fresh(pool: PoolRecord, rate: Rate, before: Claim | None, settings: HubSettings, now_ms: int) -> Claim:
    """The claim that a new certificate makes with `rate`, after the one of the certificate before."""
    claimed = rate.measured_flops or 0
    claim = Claim(pool.id, rate.precision.value, pool.site_id, claimed, ClaimState.CLAIMED, at_ms=now_ms)
    peak = peak_flops(pool, rate.precision, settings)
    if peak is not None and claimed > peak:
        most = format_flops(peak, rate.precision, 2)
        said = format_flops(claimed, rate.precision, 2)
        return replace(claim, state=ClaimState.REFUTED, note=f"claims {said}, {pool.chip} does at most {most}")
    if before and claimed * 100 < before.claimed_flops * settings.certify_drop_percent:
        drop = claimed * FULL // before.claimed_flops
        note = f"{rate.precision.value} fell to {drop // 10}% of the last test"
        claim = replace(claim, drop_milli=drop, note=note)
    if not settings.certify_prove_ms or rate.precision.value not in chain.MODULI:
        return claim
    state = before.state if before else ClaimState.UNPROVEN
    grown = (
        before is None or claimed * 100 > before.claimed_flops * GROWTH_PERCENT or not _shown(before, claimed, settings)
    )
    if state is ClaimState.CLAIMED or (grown and state is ClaimState.PROVEN):
        state = ClaimState.UNPROVEN
    if before:
        # An answer that is due is due still: a new certificate is no new start.
        tries = before.tries if before.due_ms is not None else 0
        claim = replace(claim, seen_flops=before.seen_flops, tries=tries)
    return replace(claim, state=state, due_ms=now_ms)


def _shown(before: Claim, claimed: int, settings: HubSettings) -> bool:
    """Whether what the hub saw last still bears the claim, which may have grown in many small steps."""
    return claimed * 10_000 <= before.seen_flops * settings.certify_slack_percent * GROWTH_PERCENT


def judged(claim: Claim, verdict: Verdict, settings: HubSettings, now_ms: int) -> Claim:
    """The claim after an answer, or after none (`verdict.failed`)."""
    seen = max(claim.seen_flops, verdict.seen_flops) if claim.tries else verdict.seen_flops
    tries = claim.tries + 1
    claim = replace(claim, seen_flops=seen, tries=tries, due_ms=None, at_ms=now_ms)
    if verdict.wrong:
        return replace(claim, state=ClaimState.REFUTED, note=f"{claim.precision}: {verdict.wrong}")
    if seen * settings.certify_slack_percent >= claim.claimed_flops * 100:
        return replace(claim, state=ClaimState.PROVEN, note="" if claim.drop_milli == FULL else claim.note)
    if tries < settings.certify_tries:
        return replace(claim, due_ms=now_ms)
    if not seen and claim.state is ClaimState.REFUTED:
        return claim
    if not seen:
        return replace(claim, state=ClaimState.SILENT, note=f"{claim.precision} not shown: {verdict.failed}")
    precision = Precision(claim.precision)
    said, saw = format_flops(claim.claimed_flops, precision, 2), format_flops(seen, precision, 2)
    return replace(claim, state=ClaimState.SLOWER, note=f"claims {said}, the hub saw {saw}")


def seen_flops(challenge: chain.Challenge, elapsed_ms: int, settings: HubSettings) -> int:
    """A bound of the rate from below, by the hub's own clock: what was done in the time less the allowance."""
    done = challenge.flop * chain.BESIDE_PERCENT[challenge.precision] // 100
    return done * 1000 // max(1, elapsed_ms - settings.certify_allowance_ms)


# --- the rows -----------------------------------------------------------------------------------------------------


def take(tx: Tx, site_id: str, settings: HubSettings) -> None:
    """The site's certificate was stored: its rates are claims now."""
    before = {(claim.pool_id, claim.precision): claim for claim in of_site(tx.conn, site_id)}
    tx.conn.execute(sa.delete(store.rate_claim).where(store.rate_claim.c.site_id == site_id))
    rates = _claimed(tx.conn, site_id)
    marks = _marks(claim for key, claim in before.items() if key not in rates)
    claims = [*marks.values()]
    for key, (pool, rate) in rates.items():
        earlier = before.get(key) or _under_mark(marks.get(key[1]), rate)
        claims.append(fresh(pool, rate, earlier, settings, tx.now_ms))
    if claims:
        insert_ignore(store.rate_claim).execute(tx.conn, [_row(claim) for claim in claims])
    weigh_pools(tx, site_id, settings)


def _claimed(conn: sa.Connection, site_id: str) -> dict[tuple[str, str], tuple[PoolRecord, Rate]]:
    """The rates of the site's certificate, by pool and precision."""
    pools = catalogue.list_pools(conn, site_id)
    return {(p.id, rate.precision.value): (p, rate) for p in pools for rate in p.rates if rate.measured_flops}


def _marks(gone: Iterable[Claim]) -> dict[str, Claim]:
    """Of the claims that the site makes no more the refuted ones: of each precision the first of all."""
    refuted = [claim for claim in gone if claim.state is ClaimState.REFUTED]
    by_age = sorted(refuted, key=lambda claim: (claim.at_ms, claim.pool_id), reverse=True)
    return {claim.precision: replace(claim, due_ms=None, tries=0) for claim in by_age}


def _under_mark(mark: Claim | None, rate: Rate) -> Claim | None:
    """What a new claim comes after: no rate that it could have fallen from, and a state that it has to get out of."""
    return mark and replace(mark, claimed_flops=rate.measured_flops or 0, seen_flops=0)


def _forget_mark(tx: Tx, shown: Claim) -> None:
    """A refuted claim that the site makes no more is mended, where it was of the chip whose rate was shown."""
    current = _claimed(tx.conn, shown.site_id)
    mine = [claim for claim in of_site(tx.conn, shown.site_id) if claim.precision == shown.precision]
    pools = catalogue.pools_by_id(tx.conn, [claim.pool_id for claim in mine])
    table = store.rate_claim.c
    for claim in mine:
        if (claim.pool_id, claim.precision) not in current and pools[claim.pool_id].chip == pools[shown.pool_id].chip:
            of_it = table.pool_id == claim.pool_id, table.precision == claim.precision
            tx.conn.execute(sa.delete(store.rate_claim).where(*of_it))


def settle(tx: Tx, verdict: Verdict, settings: HubSettings) -> None:
    """A verdict on the claim as it is now; of a claim that is gone, or that nothing is due of, nothing comes."""
    table = store.rate_claim.c
    of_it = sa.and_(table.pool_id == verdict.pool_id, table.precision == verdict.precision)
    row = tx.conn.execute(sa.select(store.rate_claim).where(of_it).with_for_update()).first()
    if row is None or row.due_ms is None:
        return
    claim = judged(_claim(row), verdict, settings, tx.now_ms)
    pool = catalogue.pools_by_id(tx.conn, [verdict.pool_id]).get(verdict.pool_id)
    if claim.state is ClaimState.SILENT and pool is not None and pool.hubs:
        # Its engine may be one where the test cannot run: as much as was known before.
        claim = replace(claim, state=ClaimState.UNPROVEN)
    tx.conn.execute(sa.update(store.rate_claim).where(of_it).values(_row(claim)))
    if claim.state is ClaimState.PROVEN:
        _forget_mark(tx, claim)
    if claim.due_ms is None:
        weigh_pools(tx, claim.site_id, settings)


def weigh_pools(tx: Tx, site_id: str, settings: HubSettings) -> None:
    """Tell the catalogue how far each pool of the site is believed, and when the site is to be tested again."""
    current = _claimed(tx.conn, site_id)
    claims = [claim for claim in of_site(tx.conn, site_id) if (claim.pool_id, claim.precision) in current]
    least = FULL
    for pool in catalogue.list_pools(tx.conn, site_id):
        mine = [claim for claim in claims if claim.pool_id == pool.id]
        trust = min((weigh(claim, settings) for claim in mine), default=FULL)
        note = "; ".join(_said(claim) for claim in mine if weigh(claim, settings) < FULL)
        least = min(least, trust)
        if (trust, note) != (pool.trust_milli, pool.trust_note):
            log.log(
                logging.WARNING if trust < pool.trust_milli else logging.INFO,
                "pool %s is believed to %d/1000: %s",
                pool.id,
                trust,
                note or "shown",
            )
            catalogue.believe(tx, pool.id, trust, note)
    wait = _interval_ms(site_id, settings) if least == FULL else settings.certify_retry_ms
    catalogue.retest_at(tx, site_id, tx.now_ms + wait)


def of_site(conn: sa.Connection, site_id: str) -> list[Claim]:
    """Sorted by pool and precision."""
    table = store.rate_claim
    query = sa.select(table).where(table.c.site_id == site_id).order_by(table.c.pool_id, table.c.precision)
    return [_claim(row) for row in conn.execute(query)]


def due(conn: sa.Connection, now_ms: int, limit: int) -> list[Claim]:
    """Claims that are to be shown, the oldest first."""
    table = store.rate_claim
    query = sa.select(table).where(table.c.due_ms <= now_ms)
    return [_claim(row) for row in conn.execute(query.order_by(table.c.due_ms, table.c.pool_id).limit(limit))]


def _said(claim: Claim) -> str:
    again = ", after one that was refuted" if claim.state is ClaimState.REFUTED else ""
    return claim.note or f"{claim.precision} is claimed and not shown yet{again}"


def _interval_ms(site_id: str, settings: HubSettings) -> int:
    """A fifth earlier or later, so that sites that joined together are not tested together for ever."""
    part = sum(site_id.encode()) * 7919 % 401 - 200  # -200 .. 200 thousandths
    return settings.certify_interval_ms * (1000 + part) // 1000


def _claim(row: sa.Row[tuple[object, ...]]) -> Claim:
    values = dict(row._mapping)
    return Claim(**{**values, "state": ClaimState(values["state"])})


def _row(claim: Claim) -> dict[str, object]:
    names: Sequence[str] = store.rate_claim.c.keys()
    return {**{name: getattr(claim, name) for name in names}, "state": claim.state.value}
