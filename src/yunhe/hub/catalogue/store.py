"""The tables of the catalogue room and the statements on them. Only this room imports this module."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    Row,
    Table,
    Text,
    and_,
    bindparam,
    case,
    false,
    or_,
    select,
    true,
    update,
)

from yunhe.core.supply import Pool, PoolKind, Site, SiteState
from yunhe.hub.catalogue import tariffs
from yunhe.hub.catalogue.records import LISTED, PoolRecord, SiteFilter, SiteRecord
from yunhe.hub.catalogue.texts import names, names_text, parse_rates, results, results_text, stack_check, stack_text
from yunhe.hub.platform import bulk
from yunhe.hub.platform.db import insert_ignore, metadata
from yunhe.wire.link import PoolDigest

enrolment_token = Table(
    "enrolment_token",
    metadata,
    Column("sha256", Text, primary_key=True),  # of the token; the token itself is kept nowhere
    Column("provider", Text, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("used_by", Text),  # site id
)
site = Table(
    "site",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("cluster", Text),
    Column("lat", Double, nullable=False),
    Column("lon", Double, nullable=False),
    Column("pue_milli", Integer, nullable=False),
    Column("carbon_g_per_kwh", Integer, nullable=False),
    Column("power_price_microcny_per_kwh", BigInteger, nullable=False),
    Column("price_core_hour", BigInteger, nullable=False),
    Column("price_card_hour", BigInteger, nullable=False),
    Column("assumed", Text, nullable=False),  # JSON list
    Column("tier", Integer, nullable=False),
    Column("isolation", Text, nullable=False),
    Column("software", Text, nullable=False),
    Column("bandwidth_bps", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("accepting", Boolean, nullable=False),
    Column("accept_asking", Boolean, nullable=False, server_default=false()),
    Column("public_key", Text, nullable=False, unique=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("last_contact_ms", BigInteger),
    Column("certified_ms", BigInteger),
    Column("retest_ms", BigInteger),  # when it is to be measured again
    Column("network", Text, nullable=False, server_default="[]"),  # JSON list of wire.link.BenchmarkResult
    Column("tariff", Text, nullable=False, server_default="{}"),  # JSON of tariffs.Tariff
)
pool = Table(
    "pool",
    metadata,
    Column("id", Text, primary_key=True),
    Column("site_id", Text, ForeignKey("site.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("chip", Text, nullable=False),
    Column("chip_name", Text, nullable=False),
    Column("stack", Text, nullable=False),
    Column("capacity_milli", BigInteger, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("card_memory_bytes", BigInteger, nullable=False),
    Column("max_slot_milli", BigInteger, nullable=False),
    Column("rates", Text, nullable=False),  # JSON list of [precision, nominal, measured]
    Column("benchmarks", Text, nullable=False),  # JSON list of wire.link.BenchmarkResult
    Column("watts_per_unit", Integer, nullable=False),
    Column("watts_source", Text, nullable=False),
    Column("hubs", Text, nullable=False, server_default="[]"),  # JSON list of hub ids
    Column("asking_microcny", BigInteger),  # per unit hour
    Column("tested_ms", BigInteger, nullable=False, server_default="0"),
    Column("operators", Text, nullable=False, server_default="[]"),  # JSON list, of stack_check
    Column("abilities", Text, nullable=False, server_default="[]"),  # JSON list of core.demand.Ability
    Column("stack_check", Text, nullable=False, server_default="null"),  # wire.link.StackReport
    # How far the rates are believed, and what speaks against them; set by the room that judges them.
    Column("trust_milli", Integer, nullable=False, server_default="1000"),
    Column("trust_note", Text, nullable=False, server_default=""),
    # The guard of the pool's capacity.
    Column("used_milli", BigInteger, nullable=False),
    Column("used_memory", BigInteger, nullable=False),
    Column("foreign_milli", BigInteger, nullable=False),
    Column("foreign_memory", BigInteger, nullable=False),
    Column("longest_ms", BigInteger),  # the longest run that the site takes now
    # Shown only.
    Column("busy_milli", BigInteger),
    Column("powered_milli", BigInteger),
    Column("retired", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    Index("ix_pool_site_id", "site_id"),
)
_STATES = select(site.c.id, site.c.state).where(bulk.any_of(site.c.id))
FRESH_GUARD = {"used_milli": 0, "used_memory": 0, "foreign_milli": 0, "foreign_memory": 0}


# --- tokens -------------------------------------------------------------------------------------------------------


def add_token(conn: Connection, sha256: str, provider: str, expires_ms: int) -> None:
    conn.execute(enrolment_token.insert(), [{"sha256": sha256, "provider": provider, "expires_ms": expires_ms}])


def lock_token(conn: Connection, sha256: str) -> tuple[str, int, str | None] | None:
    """(provider, expires_ms, used_by), locked until the end of the transaction."""
    query = select(enrolment_token).where(enrolment_token.c.sha256 == sha256).with_for_update()
    row = conn.execute(query).one_or_none()
    return None if row is None else (row.provider, row.expires_ms, row.used_by)


def use_token(conn: Connection, sha256: str, site_id: str) -> bool:
    """False when somebody has used it already."""
    table = enrolment_token.c
    statement = update(enrolment_token).where(table.sha256 == sha256, table.used_by.is_(None)).values(used_by=site_id)
    return conn.execute(statement).rowcount == 1


# --- sites --------------------------------------------------------------------------------------------------------


def add_site(conn: Connection, record: SiteRecord) -> bool:
    """False when the id or the key is taken."""
    values = {column.name: getattr(record, column.name) for column in site.c}
    values |= {"assumed": names_text(record.assumed), "state": record.state.value, "network": "[]"}
    values["tariff"] = tariffs.to_text(record.tariff)
    return bool(insert_ignore(site).execute(conn, [values]) == 1)


def find_site(conn: Connection, site_id: str, *, lock: bool = False) -> SiteRecord | None:
    query = select(site).where(site.c.id == site_id)
    row = conn.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else _site(row)


def states(conn: Connection, site_ids: Sequence[str]) -> dict[str, SiteState]:
    return {site_id: SiteState(state) for site_id, state in conn.execute(_STATES, {"ids": list(site_ids)})}


def find_site_by_key(conn: Connection, public_key: str) -> SiteRecord | None:
    row = conn.execute(select(site).where(site.c.public_key == public_key)).one_or_none()
    return None if row is None else _site(row)


def list_sites(conn: Connection, wanted: SiteFilter) -> list[SiteRecord]:
    """Sorted by id."""
    query = select(site).where(site.c.id > wanted.after).order_by(site.c.id).limit(wanted.limit)
    if wanted.provider is not None:
        query = query.where(site.c.provider == wanted.provider)
    if wanted.state is not None:
        query = query.where(site.c.state == wanted.state.value)
    if wanted.seen_by is not None:
        listed = site.c.state.in_([state.value for state in LISTED])
        query = query.where(or_(listed, site.c.provider == wanted.seen_by))
    return [_site(row) for row in conn.execute(query)]


def change_site(conn: Connection, site_id: str, values: Mapping[str, object]) -> None:
    conn.execute(update(site).where(site.c.id == site_id).values(dict(values)))


def lock_contacts(conn: Connection, site_ids: Sequence[str]) -> dict[str, int | None]:
    """Last contact by site, UTC ms; the rows stay locked until the end of the transaction, taken in order of id."""
    query = select(site.c.id, site.c.last_contact_ms).where(site.c.id.in_(site_ids)).order_by(site.c.id)
    return {row.id: row.last_contact_ms for row in conn.execute(query.with_for_update())}


def touch_site(conn: Connection, site_id: str, now_ms: int, accepting: bool) -> bool:
    """Note a contact; True when `accepting` changed by it."""
    same = update(site).where(site.c.id == site_id, site.c.accepting.is_(accepting)).values(last_contact_ms=now_ms)
    if conn.execute(same).rowcount:
        return False
    other = update(site).where(site.c.id == site_id).values(last_contact_ms=now_ms, accepting=accepting)
    return conn.execute(other).rowcount == 1


def touch_sites(conn: Connection, now_ms: int, accepting: Mapping[str, bool]) -> bool:
    """Note contacts of sites whose `accepting` is as stated; True when that was all of them."""
    rows = [{"id": i, "accepting": value, "last_contact_ms": now_ms} for i, value in sorted(accepting.items())]
    return bulk.update(conn, site, ("id", "accepting"), rows) == len(rows)


def _site(row: Row[Any]) -> SiteRecord:
    values = dict(row._mapping)
    values["assumed"] = names(values["assumed"])
    values["state"] = SiteState(values["state"])
    values |= {"network": results(values["network"]), "tariff": tariffs.from_text(values["tariff"])}
    return SiteRecord(**values)


# --- pools --------------------------------------------------------------------------------------------------------


def put_pool(conn: Connection, record: PoolRecord) -> None:
    """Insert, or replace the certified part; what is in use stays."""
    certified = {
        "site_id": record.site_id,
        "name": record.name,
        "kind": record.kind.value,
        "chip": record.chip,
        "chip_name": record.chip_name,
        "stack": record.stack,
        "capacity_milli": record.capacity_milli,
        "memory_bytes": record.memory_bytes,
        "card_memory_bytes": record.card_memory_bytes,
        "max_slot_milli": record.max_slot_milli,
        "rates": json.dumps([[r.precision.value, r.nominal_flops, r.measured_flops] for r in record.rates]),
        "benchmarks": results_text(record.benchmarks),
        "watts_per_unit": record.watts_per_unit,
        "watts_source": record.watts_source,
        "hubs": names_text(record.hubs),
        "asking_microcny": record.asking_microcny,
        "tested_ms": record.tested_ms,
        "operators": names_text(record.stack_check.operators if record.stack_check else ()),
        "abilities": names_text(record.abilities),
        "stack_check": stack_text(record.stack_check),
        "retired": False,
    }
    insert_ignore(pool).execute(conn, [{"id": record.id, "version": 0, **FRESH_GUARD, **certified}])
    conn.execute(update(pool).where(pool.c.id == record.id).values(version=pool.c.version + 1, **certified))


def change_pool(conn: Connection, pool_id: str, values: Mapping[str, object]) -> None:
    conn.execute(update(pool).where(pool.c.id == pool_id).values(dict(values)))


def retire_pools(conn: Connection, site_id: str, kept: Sequence[str]) -> None:
    """Pools that are not in `kept` have no capacity any more; their leases run on."""
    gone = and_(pool.c.site_id == site_id, pool.c.id.not_in(kept), pool.c.retired.is_(false()))
    conn.execute(
        update(pool).where(gone).values(retired=True, capacity_milli=0, memory_bytes=0, version=pool.c.version + 1)
    )


def list_pools(conn: Connection, sites: Sequence[str] | None = None, *, retired: bool = False) -> list[PoolRecord]:
    """Sorted by id. None: of all sites."""
    query = select(pool).order_by(pool.c.id)
    if sites is not None:
        query = query.where(pool.c.site_id.in_(sites))
    if not retired:
        query = query.where(pool.c.retired.is_(false()))
    return [_pool(row) for row in conn.execute(query)]


def find_pools(conn: Connection, pool_ids: Sequence[str]) -> dict[str, PoolRecord]:
    return {row.id: _pool(row) for row in conn.execute(select(pool).where(pool.c.id.in_(pool_ids)))}


# A round reads these two with every snapshot, so they are made once and their rows are taken as plain tuples.
_SEEN_BY_ROUNDS = and_(site.c.state != SiteState.PENDING.value, site.c.state != SiteState.LEFT.value)
_SUPPLY_SITES = (
    select(
        site.c.last_contact_ms,
        site.c.accepting,
        site.c.accept_asking,
        site.c.price_core_hour,
        site.c.price_card_hour,
        site.c.tariff,
        *(site.c[field.name] for field in fields(Site) if field.name not in ("connected", "hours")),
    )
    .where(_SEEN_BY_ROUNDS)
    .order_by(site.c.id)
)
_SUPPLY_POOLS = (
    select(
        pool.c.used_milli + pool.c.foreign_milli,
        pool.c.used_memory + pool.c.foreign_memory,
        pool.c.asking_microcny,
        *(pool.c[field.name] for field in fields(Pool) if field.name != "price_microcny_per_unit_hour"),
    )
    .where(pool.c.retired.is_(false()))
    .order_by(pool.c.id)
)


def supply_sites(conn: Connection) -> Sequence[tuple[Any, ...]]:
    """(last contact ms, accepting, accept asking, core hour price, card hour price, tariff, *fields of
    core.supply.Site but `connected` and `hours`)."""
    rows: Sequence[Any] = conn.execute(_SUPPLY_SITES).all()
    return rows


def supply_pools(conn: Connection) -> Sequence[tuple[Any, ...]]:
    """(taken 1/1000 units, taken bytes, asking price, *fields of core.supply.Pool but its price)."""
    rows: Sequence[Any] = conn.execute(_SUPPLY_POOLS).all()
    return rows


def _pool(row: Row[Any]) -> PoolRecord:
    values = dict(row._mapping)
    values["kind"] = PoolKind(values["kind"])
    values["rates"] = parse_rates(values["rates"])
    values["hubs"] = names(values["hubs"])
    values["abilities"] = names(values["abilities"])
    values["benchmarks"] = results(values["benchmarks"])
    values["stack_check"] = stack_check(values["stack_check"])
    del values["operators"]
    return PoolRecord(**values)


# --- the guard ----------------------------------------------------------------------------------------------------


# Run with every round and every report, so they are made once.
_MILLI, _MEMORY = bindparam("milli", type_=BigInteger), bindparam("memory", type_=BigInteger)
_RESERVE = (
    update(pool)
    .where(
        pool.c.id == bindparam("pool_id"),
        pool.c.retired.is_(false()),
        pool.c.used_milli + _MILLI <= pool.c.capacity_milli - pool.c.foreign_milli,
        pool.c.used_memory + _MEMORY <= pool.c.memory_bytes - pool.c.foreign_memory,
        pool.c.site_id.in_(
            select(site.c.id).where(site.c.state == SiteState.ACTIVE.value, site.c.accepting.is_(true()))
        ),
    )
    .values(used_milli=pool.c.used_milli + _MILLI, used_memory=pool.c.used_memory + _MEMORY)
)
_RELEASE = (
    update(pool)
    .where(pool.c.id == bindparam("pool_id"))
    .values(
        used_milli=case((pool.c.used_milli > _MILLI, pool.c.used_milli - _MILLI), else_=0),
        used_memory=case((pool.c.used_memory > _MEMORY, pool.c.used_memory - _MEMORY), else_=0),
    )
)


def reserve(conn: Connection, pool_id: str, milli: int, memory: int) -> bool:
    """Conditional update; False when it does not fit, or the site takes no leases now."""
    return conn.execute(_RESERVE, {"pool_id": pool_id, "milli": milli, "memory": memory}).rowcount == 1


def release(conn: Connection, pool_id: str, milli: int, memory: int) -> None:
    """Never under zero."""
    conn.execute(_RELEASE, {"pool_id": pool_id, "milli": milli, "memory": memory})


def set_foreign(conn: Connection, site_id: str, digest: PoolDigest) -> bool:
    """True when it changed."""
    columns = pool.c
    differs = or_(
        columns.foreign_milli != digest.foreign_milli,
        columns.foreign_memory != digest.foreign_memory_bytes,
        columns.longest_ms.is_distinct_from(digest.longest_ms),
    )
    statement = (
        update(pool)
        .where(columns.id == f"{site_id}:{digest.name}", differs)
        .values(
            foreign_milli=digest.foreign_milli,
            foreign_memory=digest.foreign_memory_bytes,
            longest_ms=digest.longest_ms,
        )
    )
    return conn.execute(statement).rowcount == 1


def set_work(conn: Connection, site_id: str, digest: PoolDigest) -> None:
    """What works and what is on: shown only, so nobody needs to hear of a change."""
    said = {"busy_milli": digest.busy_milli, "powered_milli": digest.powered_milli}
    differs = or_(*(pool.c[name].is_distinct_from(value) for name, value in said.items()))
    conn.execute(update(pool).where(pool.c.id == f"{site_id}:{digest.name}", differs).values(said))


# The network's sums, a row a minute; rates in GFLOP/s.
network_sample = Table(
    "network_sample",
    metadata,
    Column("at_utc_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("sites", Integer, nullable=False),
    Column("connected", Integer, nullable=False),
    Column("general_gflops", BigInteger, nullable=False),
    Column("general_used_gflops", BigInteger, nullable=False),
    Column("intelligent_gflops", BigInteger, nullable=False),
    Column("intelligent_used_gflops", BigInteger, nullable=False),
)
