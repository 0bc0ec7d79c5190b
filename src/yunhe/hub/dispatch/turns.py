"""Whose turn it is to measure, or to show a rate; and what comes of an answer.

One site at a time: first those that wait for their first certificate, then rates that were claimed and not shown, then
sites whose last test is long ago.  The later two only while a whole unit is free there.

A challenge is 256 random bits of the hub, used once, and bound by the key of the chain to the site and the pool.  Its
work is sized by the claim, and doubled with every try.  The time counts from the transaction that hands it out to the
one that takes the answer, by the hub's clock.  A card's library takes up to minutes to start: its site gets ready
first, on a challenge that counts nothing, and has the one that counts, of new random bits, when it says that it is.
"""

import base64
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from yunhe.core import chain
from yunhe.core.demand import Precision
from yunhe.core.supply import SiteState
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.catalogue.records import PoolRecord, SiteContact
from yunhe.hub.dispatch import claims, store
from yunhe.hub.dispatch.claims import Claim, Verdict
from yunhe.hub.orders import outbox
from yunhe.hub.platform.db import insert_ignore
from yunhe.hub.platform.settings import HubSettings
from yunhe.hub.platform.writer import Tx
from yunhe.wire.link import CertifyNow, Proof, ProveNow

log = logging.getLogger(__name__)

LOOKED_AT = 20  # claims and sites that may get the next turn
MOST_DUE = 10_000  # claims among which they are looked for: those of silent and of full sites keep no other waiting
SPARE_MS = 10_000  # for an answer beyond the time of its work
CARD_WIDTH = 16_384  # a card needs wide matrices to be busy
MOST_STEPS = 65_536
PROVES = frozenset({SiteState.ACTIVE, SiteState.PAUSED})


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who may get the turn, best first; see `candidates`."""

    first: tuple[str, ...]  # sites without a certificate
    due: tuple[Claim, ...]
    again: tuple[str, ...]  # sites whose test is old

    def __bool__(self) -> bool:
        return bool(self.first or self.due or self.again)


def candidates(conn: sa.Connection, sites: Sequence[SiteContact], now_ms: int, settings: HubSettings) -> Waiting:
    """Of the sites that were heard of lately; nobody while somebody has the turn."""
    first = tuple(s.id for s in sites if s.state == SiteState.APPROVED.value and s.certified_ms is None)
    turn = conn.execute(sa.select(store.certify_turn)).first()
    if turn is not None and not _over(conn, turn, now_ms, settings):
        return Waiting((), (), ())
    near = [s for s in sites if s.state in PROVES and s.connected(now_ms, settings.silent_after_ms)]
    old = [s.id for s in near if s.retest_ms is not None and s.retest_ms <= now_ms]
    due = claims.due(conn, now_ms, MOST_DUE)
    if not old and not due:
        return Waiting(first, (), ())
    full = {pool.site_id for pool in catalogue.list_pools(conn) if not _has_room(pool)}
    fit = {site.id for site in near} - full
    fitting = [claim for claim in due if claim.site_id in fit][:LOOKED_AT]
    return Waiting(first, tuple(fitting), tuple([site_id for site_id in old if site_id in fit][:LOOKED_AT]))


def _over(conn: sa.Connection, turn: sa.Row[Any], now_ms: int, settings: HubSettings) -> bool:
    """Whether the time of a turn has run out. A rate is shown in twice the time of its work, or not at all."""
    limit_ms = settings.certify_ready_ms if turn.held else settings.certify_turn_ms
    if turn.challenge and not turn.held:
        tries = [c.tries for c in claims.of_site(conn, turn.site_id) if c.precision == turn.precision]
        limit_ms = min(limit_ms, 2 * settings.certify_prove_ms * 2 ** max(tries, default=0) + SPARE_MS)
    return bool(now_ms - turn.since_ms >= limit_ms)


def give(tx: Tx, waiting: Waiting, settings: HubSettings) -> None:
    """Hand the turn to the next one, unless somebody has it."""
    turn = tx.conn.execute(sa.select(store.certify_turn)).first()
    if turn is not None:
        if not _over(tx.conn, turn, tx.now_ms, settings):
            return
        same = sa.and_(store.certify_turn.c.site_id == turn.site_id, store.certify_turn.c.since_ms == turn.since_ms)
        if not tx.conn.execute(sa.delete(store.certify_turn).where(same)).rowcount:
            return  # another replica was faster
        if turn.challenge:
            verdict = Verdict(f"{turn.site_id}:{turn.pool}", turn.precision, failed="no answer in time")
            claims.settle(tx, verdict, settings)
    last = turn.site_id if turn is not None else ""
    first = [site_id for site_id in waiting.first if _has_link(tx.conn, site_id)]
    first = [site_id for site_id in first if site_id > last] or first
    # A site that did not measure in its turn is behind the others, or they would wait for it for ever.
    late = turn is not None and not turn.challenge
    if first and not (late and (waiting.due or waiting.again)):
        _measure(tx, first[0])
        return
    for claim in waiting.due:
        if _fits(tx.conn, claim.site_id) and _prove(tx, claim, settings):
            return
    for site_id in waiting.again:
        if _fits(tx.conn, site_id):
            catalogue.retest_at(tx, site_id, tx.now_ms + settings.certify_retry_ms)  # where no certificate comes
            _measure(tx, site_id)
            return


def _measure(tx: Tx, site_id: str) -> None:
    _take(tx, {"site_id": site_id}, CertifyNow(seq=0))


def _take(tx: Tx, values: dict[str, object], instruction: CertifyNow | ProveNow) -> None:
    """Note the turn and tell the site; nothing where another replica was faster."""
    row = {"challenge": "", "held": False, "pool": "", "precision": "", "n": 0, "width": 0, "steps": 0, **values}
    if insert_ignore(store.certify_turn).execute(tx.conn, [{"id": 1, "since_ms": tx.now_ms, **row}]):
        outbox.append(tx, str(values["site_id"]), [instruction])


def _prove(tx: Tx, claim: Claim, settings: HubSettings) -> bool:
    """False for a claim that is no longer there as it was read."""
    now = [item for item in claims.of_site(tx.conn, claim.site_id) if item == claim]
    pool = catalogue.pools_by_id(tx.conn, [claim.pool_id]).get(claim.pool_id)
    if not now or pool is None or pool.retired:
        return False
    card = pool.kind == "accelerator"
    width = CARD_WIDTH if card else chain.WIDTH
    flop = claim.claimed_flops * _share(pool) // 1000 * settings.certify_prove_ms * 2**claim.tries // 1000
    steps = min(MOST_STEPS, max(1, flop // (2 * chain.N * chain.N * width)))
    challenge = secrets.token_hex(32)
    held = card and not pool.hubs  # an order at another hub has no way to wait
    work = {"held": held, "pool": pool.name, "precision": claim.precision}
    work |= {"n": chain.N, "width": width, "steps": steps}
    instruction = ProveNow(
        seq=0,
        challenge=challenge,
        pool=pool.name,
        precision=Precision(claim.precision),
        n=chain.N,
        width=width,
        steps=steps,
        hold=held,
    )
    _take(tx, {"site_id": claim.site_id, "challenge": challenge, **work}, instruction)
    return True


def _share(pool: PoolRecord) -> int:
    """Thousandths of a unit that a test gets: claims are of a whole one, and a pool may have less."""
    return max(1, min(1000, pool.capacity_milli))


def _fits(conn: sa.Connection, site_id: str) -> bool:
    """A whole unit, or all of a smaller pool, is free in every pool of the site: a test disturbs nobody."""
    if not _has_link(conn, site_id):
        return False
    return all(_has_room(pool) for pool in catalogue.list_pools(conn, site_id))


def _has_room(pool: PoolRecord) -> bool:
    return pool.free_milli >= min(1000, pool.capacity_milli)


def _has_link(conn: sa.Connection, site_id: str) -> bool:
    link = store.site_link
    return conn.execute(sa.select(link.c.site_id).where(link.c.site_id == site_id)).first() is not None


# --- answers ------------------------------------------------------------------------------------------------------


def measured(tx: Tx, site_id: str, settings: HubSettings) -> None:
    """The site's certificate was stored."""
    claims.take(tx, site_id, settings)
    turn = store.certify_turn.c
    tx.conn.execute(sa.delete(store.certify_turn).where(turn.site_id == site_id, turn.challenge == ""))
    tx.notify("certify")


def answered(tx: Tx, site_id: str, proof: Proof) -> None:
    """Keep the answer to the open challenge for the check; any other answer is not even looked at."""
    turn = tx.conn.execute(sa.select(store.certify_turn)).first()
    if turn is None or turn.challenge != proof.challenge or turn.site_id != site_id:
        log.warning("site %s answers a challenge that is not open for it: %s", site_id, proof.challenge[:8])
        return
    if turn.held and not proof.error:
        _reveal(tx, turn, proof)
        return
    kept = {name: getattr(turn, name) for name in ("challenge", "site_id", "pool", "precision", "n", "width", "steps")}
    body = proof.model_dump_json(exclude={"seq"})
    elapsed_ms = tx.now_ms - turn.since_ms
    insert_ignore(store.proof).execute(tx.conn, [{**kept, "elapsed_ms": elapsed_ms, "body": body}])
    tx.conn.execute(sa.delete(store.certify_turn))
    tx.notify("certify")


def _reveal(tx: Tx, turn: sa.Row[Any], proof: Proof) -> None:
    """The site is ready: here is what counts, from now on."""
    if not proof.ready:
        log.warning("site %s answers what counts nothing", turn.site_id)
        return
    challenge = secrets.token_hex(32)
    table = store.certify_turn
    of_it = sa.and_(table.c.challenge == turn.challenge, table.c.held.is_(True))
    values = {"challenge": challenge, "held": False, "since_ms": tx.now_ms}
    if tx.conn.execute(sa.update(table).where(of_it).values(values)).rowcount:
        work = {name: getattr(turn, name) for name in ("pool", "n", "width", "steps")}
        precision = Precision(turn.precision)
        again = ProveNow(seq=0, challenge=challenge, precision=precision, after=proof.challenge, **work)
        outbox.append(tx, turn.site_id, [again])


def unchecked(conn: sa.Connection) -> Sequence[sa.Row[Any]]:
    """Answers that wait for their check."""
    return conn.execute(sa.select(store.proof).limit(LOOKED_AT)).all()


def check(row: sa.Row[Any], settings: HubSettings) -> Verdict:
    """What an answer shows. Takes up to seconds of computing: not for the loop, nor for a transaction."""
    about = f"{row.site_id}:{row.pool}", row.precision
    proof = Proof.model_validate_json('{"seq":0,' + row.body[1:])
    if proof.error:
        return Verdict(*about, failed=proof.error)
    challenge = chain.Challenge(
        chain_key(row.challenge, row.site_id, row.pool), row.precision, row.n, row.width, row.steps
    )
    try:
        answer = chain.Answer(base64.b64decode(proof.digests, validate=True), base64.b64decode(proof.columns))
    except ValueError:
        return Verdict(*about, wrong="an answer that is not base64")
    wrong = chain.check(challenge, answer, secrets.token_bytes(32))
    seen = 0 if wrong else claims.seen_flops(challenge, row.elapsed_ms, settings)
    return Verdict(*about, seen_flops=seen, wrong=wrong)


def chain_key(challenge: str, site_id: str, pool: str) -> bytes:
    """The chain's key: an answer is of one site and one pool, whoever else was given the same challenge."""
    return f"{challenge}/{site_id}/{pool}".encode()


def conclude(tx: Tx, challenge: str, verdict: Verdict, settings: HubSettings) -> None:
    """The verdict takes effect, once."""
    gone = tx.conn.execute(sa.delete(store.proof).where(store.proof.c.challenge == challenge))
    if gone.rowcount:
        pool = catalogue.pools_by_id(tx.conn, [verdict.pool_id]).get(verdict.pool_id)
        of_whole = verdict.seen_flops * 1000 // _share(pool) if pool else 0
        claims.settle(tx, replace(verdict, seen_flops=of_whole), settings)
        tx.notify("certify")
