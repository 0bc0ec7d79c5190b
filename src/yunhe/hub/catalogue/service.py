"""Sites and pools: their states, their certified capacity and who may take of it.

A pool's row is the guard of its capacity: `used <= certified - foreign` for units and memory, changed by conditional
updates in sorted order.  A certificate may shrink a pool under what is used; then nothing is free until leases end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, select

from yunhe.core.demand import Ability
from yunhe.core.errors import Conflict, InvalidInput, NotFound, YunheError
from yunhe.core.hours import HOUR_MS
from yunhe.core.supply import Free, Pool, PoolKind, Rate, Site, SiteState, Supply, at_hour
from yunhe.facts.load import place_coordinates
from yunhe.hub.accounts import audit
from yunhe.hub.catalogue import store, tariffs, texts
from yunhe.hub.catalogue.changes import SiteChange, audited
from yunhe.hub.catalogue.enrolment import create_token, enrol, terms_changes
from yunhe.hub.catalogue.records import PoolRecord, SiteContact, SiteFilter, SiteRecord
from yunhe.hub.platform.writer import Tx
from yunhe.wire.api import SiteTerms
from yunhe.wire.link import Certificate, PoolDigest, PoolReport

__all__ = [
    "PoolRecord",
    "SiteChange",
    "SiteRecord",
    "SiteTerms",
    "approve",
    "believe",
    "certify",
    "contacts",
    "create_token",
    "enrol",
    "find_sites",
    "leave",
    "list_pools",
    "list_sites",
    "pause",
    "public_key",
    "pools_by_id",
    "release",
    "release_many",
    "reserve",
    "reserve_many",
    "resume",
    "retest_at",
    "set_terms",
    "states",
    "site",
    "supply",
    "touch",
    "touch_many",
]

NOTE_CHARS = 500
KEPT_VALUES = 65_536  # more than a nation has sites or pools: a cache that is too small for all of them keeps none
SUPPLY_TOPIC = "supply"  # notified when more may fit than before


_CONTACTS = select(*(store.site.c[name] for name in SiteContact._fields)).order_by(store.site.c.id)

# --- reading ------------------------------------------------------------------------------------------------------


def site(conn: Connection, site_id: str) -> SiteRecord:
    """Raises NotFound."""
    found = store.find_site(conn, site_id)
    if found is None:
        raise NotFound(f"site {site_id} is not known")
    return found


def public_key(conn: Connection, site_id: str) -> str:
    """The site's Ed25519 key, base64url. Raises NotFound."""
    return site(conn, site_id).public_key


def states(conn: Connection, site_ids: Sequence[str]) -> dict[str, SiteState]:
    """By id; a site that is not known is absent."""
    return store.states(conn, site_ids)


def list_sites(conn: Connection) -> list[SiteRecord]:
    """Every site, whatever its state, sorted by id."""
    return store.list_sites(conn, SiteFilter())


def contacts(conn: Connection) -> list[SiteContact]:
    """Every site, sorted by id, with little: for whoever looks all the time."""
    return [SiteContact(*columns) for columns in conn.execute(_CONTACTS).cursor.fetchall()]


def find_sites(conn: Connection, wanted: SiteFilter) -> tuple[list[SiteRecord], list[PoolRecord]]:
    """One page of sites, sorted by id, with their certified pools."""
    found = store.list_sites(conn, wanted)
    return found, store.list_pools(conn, [at.id for at in found])


def list_pools(conn: Connection, site_id: str | None = None) -> list[PoolRecord]:
    """Certified pools, sorted by id."""
    return store.list_pools(conn, None if site_id is None else [site_id])


def pools_by_id(conn: Connection, pool_ids: Sequence[str]) -> dict[str, PoolRecord]:
    """Also pools that are certified no more: leases and charges still name them."""
    return store.find_pools(conn, pool_ids)


def supply(conn: Connection, now_ms: int, connected_within_ms: int) -> Supply:
    """The whole network as a round sees it; the site's own pause looks like the operator's."""
    sites: list[Site] = []
    prices: dict[str, tuple[int, int]] = {}
    asking: set[str] = set()
    hour = now_ms // HOUR_MS
    for contact_ms, accepting, accept_asking, core_hour, card_hour, tariff, *columns in store.supply_sites(conn):
        connected = contact_ms is not None and now_ms - contact_ms <= connected_within_ms
        at = _supply_site(connected, accepting, hour if tariff != "{}" else None, tariff, *columns)
        sites.append(at)
        prices[at.id] = (core_hour, card_hour)
        if accept_asking:
            asking.add(at.id)
    pools: list[Pool] = []
    free: list[Free] = []
    for taken_milli, taken_memory, asked, *columns in store.supply_pools(conn):
        price = prices.get(columns[1])
        if price is None:  # a site that rounds do not see
            continue
        if asked is not None and columns[1] in asking:
            price = (asked, asked)
        pool = _supply_pool(*price, *columns)
        pools.append(pool)
        free.append(Free(max(0, pool.capacity_milli - taken_milli), max(0, pool.memory_bytes - taken_memory)))
    return Supply(tuple(sites), tuple(pools), tuple(free), place_coordinates())


# Equal rows are equal values: a round reads the same ones again and again, so they are made once.
@lru_cache(maxsize=KEPT_VALUES)
def _supply_site(connected: bool, accepting: bool, hour: int | None, tariff: str, *columns: Any) -> Site:
    """At the price and the factor of the hour; None: they are the same in every hour."""
    *physical, state = columns
    shown = SiteState(state)
    if shown is SiteState.ACTIVE and not accepting:
        shown = SiteState.PAUSED
    values: tuple[Any, ...] = (*physical, shown, connected)
    made = Site(*values)
    if hour is None:
        return made
    hours = tariffs.from_text(tariff).hours(made.power_price_microcny_per_kwh, made.carbon_g_per_kwh)
    return at_hour(replace(made, hours=hours), hour)


@lru_cache(maxsize=KEPT_VALUES)
def _supply_pool(core_hour: int, card_hour: int, *columns: Any) -> Pool:
    pool_id, site_id, kind_name, *sizes, rates, watts, trust_milli, operators, abilities, longest_ms = columns
    kind = PoolKind(kind_name)
    price = core_hour if kind is PoolKind.CPU else card_hour
    rated = texts.parse_rates(rates), price, watts, trust_milli, texts.names_set(operators)
    able = frozenset(Ability(name) for name in texts.names(abilities))
    values: tuple[Any, ...] = (pool_id, site_id, kind, *sizes, *rated, able, longest_ms)
    return Pool(*values)


def unit_price(at: SiteRecord, pool: PoolRecord) -> int:
    """Micro-CNY per core hour or card hour."""
    if at.accept_asking and pool.asking_microcny is not None:
        return pool.asking_microcny
    return at.price_core_hour if pool.kind is PoolKind.CPU else at.price_card_hour


# --- the states of a site -----------------------------------------------------------------------------------------


def _locked(tx: Tx, site_id: str) -> SiteRecord:
    found = store.find_site(tx.conn, site_id, lock=True)
    if found is None:
        raise NotFound(f"site {site_id} is not known")
    if found.state is SiteState.LEFT:
        raise Conflict(f"site {site_id} has left", hint="enrol it again with a new token and a new key")
    return found


def _ready(at: SiteRecord) -> SiteState:
    """The state of a site that may work: active once it is certified."""
    return SiteState.APPROVED if at.certified_ms is None else SiteState.ACTIVE


def approve(tx: Tx, site_id: str, terms: SiteTerms) -> SiteRecord:
    """Let a pending site connect; a site that is approved already only gets the terms.

    Raises NotFound, Conflict for a site that left, InvalidInput for terms that are no amount of money.
    """
    at = _locked(tx, site_id)
    changes = terms_changes(at, terms)
    if at.state is SiteState.PENDING:
        changes["state"] = _ready(at).value
    return _changed(tx, at, changes)


def set_terms(tx: Tx, site_id: str, terms: SiteTerms) -> SiteRecord:
    """New prices, for what is ordered from now on. Raises as `approve`."""
    at = _locked(tx, site_id)
    return _changed(tx, at, terms_changes(at, terms))


def pause(tx: Tx, site_id: str) -> SiteRecord:
    """No new leases; running ones go on. Raises NotFound, Conflict for a site that is pending or left."""
    at = _locked(tx, site_id)
    if at.state is SiteState.PENDING:
        raise Conflict(f"site {site_id} is not approved yet")
    return _changed(tx, at, {"state": SiteState.PAUSED.value})


def resume(tx: Tx, site_id: str) -> SiteRecord:
    """Undo a pause. Raises NotFound, Conflict for a site that is pending or left."""
    at = _locked(tx, site_id)
    if at.state is SiteState.PENDING:
        raise Conflict(f"site {site_id} is not approved yet")
    return _changed(tx, at, {"state": _ready(at).value})


def leave(tx: Tx, site_id: str) -> SiteRecord:
    """The site takes no part any more; leases that run there are reported and paid to their end."""
    found = store.find_site(tx.conn, site_id, lock=True)
    if found is None:
        raise NotFound(f"site {site_id} is not known")
    return _changed(tx, found, {"state": SiteState.LEFT.value})


def _changed(tx: Tx, at: SiteRecord, changes: Mapping[str, object]) -> SiteRecord:
    if changes:
        store.change_site(tx.conn, at.id, changes)
        tx.notify(SUPPLY_TOPIC)
    return site(tx.conn, at.id)


def change_sites(tx: Tx, wanted: Sequence[SiteChange]) -> list[SiteRecord | YunheError]:
    """Write handler of the seven changes. NotFound for another provider's site. A refusal writes nothing."""
    results: list[SiteRecord | YunheError] = []
    for item in wanted:
        try:
            before = site(tx.conn, item.site_id)
            item.principal.check_owns(before.provider, f"site {item.site_id}")
            after = _apply(tx, item)
            audit.record(tx, item.principal, f"site.{item.action}", item.site_id, audited(before), audited(after))
            results.append(after)
        except YunheError as refusal:
            results.append(refusal)
    return results


def _apply(tx: Tx, item: SiteChange) -> SiteRecord:
    match item.action:
        case "approve":
            return approve(tx, item.site_id, item.terms)
        case "terms":
            return set_terms(tx, item.site_id, item.terms)
        case "tariff":
            at = _locked(tx, item.site_id)
            said = tariffs.changed(at.tariff, item.tariff, item.principal, tx.now_ms)
            return _changed(tx, at, {"tariff": tariffs.to_text(said)})
        case "pause":
            return pause(tx, item.site_id)
        case "resume":
            return resume(tx, item.site_id)
        case "certify":
            return _changed(tx, _locked(tx, item.site_id), {"retest_ms": tx.now_ms})
        case "leave":
            return leave(tx, item.site_id)
    raise InvalidInput(f"a site cannot {item.action}", field="action")


# --- certificates and contact -------------------------------------------------------------------------------------


def certify(tx: Tx, site_id: str, certificate: Certificate) -> None:
    """Replace the site's pools by what was measured; an approved site becomes active by its first certificate.

    Raises NotFound, Conflict for a site that left, InvalidInput for a pool that is named twice.
    """
    at = _locked(tx, site_id)
    names = [report.name for report in certificate.pools]
    if len(set(names)) != len(names):
        raise InvalidInput("a pool is named twice", field="pools")
    records = sorted((_pool(site_id, report) for report in certificate.pools), key=lambda record: record.id)
    for record in records:
        store.put_pool(tx.conn, record)
    store.retire_pools(tx.conn, site_id, [record.id for record in records])
    certified = replace(at, certified_ms=tx.now_ms)
    state = _ready(certified) if at.state is SiteState.APPROVED else at.state
    store.change_site(
        tx.conn,
        site_id,
        {
            "tier": certificate.tier,
            "isolation": certificate.isolation,
            "software": certificate.software,
            "certified_ms": tx.now_ms,
            "network": texts.results_text(certificate.network),
            "state": state.value,
        },
    )
    tx.notify(SUPPLY_TOPIC)


def _pool(site_id: str, report: PoolReport) -> PoolRecord:
    return PoolRecord(
        id=f"{site_id}:{report.name}",
        site_id=site_id,
        name=report.name,
        kind=PoolKind.CPU if report.kind_of_unit == "core" else PoolKind.ACCELERATOR,
        chip=report.chip,
        chip_name=report.chip_name,
        stack=report.stack,
        capacity_milli=report.capacity_milli,
        memory_bytes=report.memory_bytes,
        card_memory_bytes=report.card_memory_bytes,
        max_slot_milli=report.max_slot_milli,
        rates=tuple(Rate(r.precision, r.nominal_flops, r.measured_flops) for r in report.rates),
        benchmarks=report.benchmarks,
        watts_per_unit=report.watts_per_unit,
        watts_source=report.watts_source,
        abilities=tuple(sorted(report.abilities)),
        stack_check=report.stack_check,
        hubs=report.hubs,
        asking_microcny=report.asking_microcny_per_unit_hour,
        tested_ms=report.tested_utc_ms,
    )


def believe(tx: Tx, pool_id: str, trust_milli: int, note: str) -> None:
    """How far placement counts on the pool's rates from now on, in thousandths, and why not wholly."""
    store.change_pool(tx.conn, pool_id, {"trust_milli": trust_milli, "trust_note": note[:NOTE_CHARS]})
    tx.notify(SUPPLY_TOPIC)


def retest_at(tx: Tx, site_id: str, at_ms: int) -> None:
    """When the site is to be measured again, UTC ms."""
    store.change_site(tx.conn, site_id, {"retest_ms": at_ms})


def touch(tx: Tx, site_id: str, now_ms: int, accepting: bool, pools: Sequence[PoolDigest]) -> bool:
    """Note a contact of the site and what others use there. True when anything but the time changed."""
    changed = store.touch_site(tx.conn, site_id, now_ms, accepting)
    for digest in sorted(pools, key=lambda item: item.name):
        changed = store.set_foreign(tx.conn, site_id, digest) or changed
        store.set_work(tx.conn, site_id, digest)
    if changed:
        tx.notify(SUPPLY_TOPIC)
    return changed


def unheard_since(tx: Tx, contacts: Mapping[str, int | None]) -> set[str]:
    """The sites whose last contact is still the given one; they make no other until this transaction ends."""
    found = store.lock_contacts(tx.conn, sorted(contacts))
    return {site_id for site_id, contact_ms in found.items() if contact_ms == contacts[site_id]}


def touch_many(tx: Tx, contacts: Mapping[str, tuple[bool, Sequence[PoolDigest]]]) -> bool:
    """`touch` for many sites at once: (accepting, what others use) by site id."""
    same = store.touch_sites(tx.conn, tx.now_ms, {site_id: accepting for site_id, (accepting, _) in contacts.items()})
    changed = False
    for site_id, (accepting, pools) in sorted(contacts.items()):
        if not same or pools:
            changed = touch(tx, site_id, tx.now_ms, accepting, pools) or changed
    return changed


# --- capacity -----------------------------------------------------------------------------------------------------


def reserve(tx: Tx, pool_id: str, milli: int, memory_bytes: int) -> bool:
    """Take units (1/1000) and bytes of a pool; False, and nothing taken, when they are not free."""
    return store.reserve(tx.conn, pool_id, milli, memory_bytes)


def reserve_many(tx: Tx, wanted: Mapping[str, tuple[int, int]]) -> set[str]:
    """Take (1/1000 units, bytes) of each pool, in sorted order; returns the pools that refused and gave nothing."""
    return {pool_id for pool_id, (milli, memory) in sorted(wanted.items()) if not reserve(tx, pool_id, milli, memory)}


def release(tx: Tx, pool_id: str, milli: int, memory_bytes: int) -> None:
    """Give units (1/1000) and bytes back."""
    store.release(tx.conn, pool_id, milli, memory_bytes)


def release_many(tx: Tx, given: Mapping[str, tuple[int, int]]) -> None:
    """Give (1/1000 units, bytes) back to each pool, in sorted order."""
    for pool_id, (milli, memory) in sorted(given.items()):
        store.release(tx.conn, pool_id, milli, memory)
