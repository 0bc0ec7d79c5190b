"""Accept cumulative usage once. Late, doubled and missing intervals are detected, never guessed."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from yunhe.core import usage as rules
from yunhe.core.lifecycle import DISPUTED, EndReason
from yunhe.core.usage import Interval, Prefix, Totals
from yunhe.hub.metering import store
from yunhe.hub.orders import views
from yunhe.hub.orders.model import SETTLEMENT, Lease, Placement, attempt_key
from yunhe.hub.platform import bulk, work
from yunhe.hub.platform.db import insert_ignore
from yunhe.hub.platform.writer import Tx
from yunhe.wire.api import UsageView
from yunhe.wire.link import UsageReport

log = logging.getLogger(__name__)

Key = tuple[str, int]

_usage = store.usage.c
_RECORDS = sa.select(
    _usage.lease_id,
    _usage.epoch,
    _usage.n,
    _usage.from_ms,
    _usage.to_ms,
    _usage.wall_ms,
    _usage.cpu_ms,
    _usage.peak_memory_bytes,
    _usage.sampled,
    _usage.final,
).where(bulk.any_of(_usage.lease_id))


def accept(tx: Tx, records: Sequence[tuple[str, UsageReport, str]], placed: Mapping[Key, Placement]) -> None:
    """Store what is new and sound of (site id, record, evidence: the name of the signed batch).

    `placed` tells where the records' leases were placed: what a site says of others' is counted as refused.
    """
    if not records:
        return
    own = {
        (report.lease_id, report.epoch)
        for site_id, report, _ in records
        if (place := placed.get((report.lease_id, report.epoch))) is not None and place.site_id == site_id
    }
    # Only what stands beside the new records: a long job's hundred thousand others need not be read again.
    beside = {n for _, report, _ in records for n in (report.n - 1, report.n)}
    stored = _stored(tx.conn, {lease_id for lease_id, _ in own}, beside)
    counts: dict[str, int] = defaultdict(int)
    rows: list[dict[str, object]] = []
    touched: set[Key] = set()
    for site_id, report, evidence in records:
        key = (report.lease_id, report.epoch)
        if key not in own or placed[key].site_id != site_id:
            counts["foreign"] += 1
            continue
        known = stored[key]
        interval = _interval(report)
        before = Prefix(known.get(report.n) or known.get(report.n - 1))
        verdict = rules.accept(before, interval, known.get(report.n))
        counts[type(verdict).__name__.lower()] += 1
        if isinstance(verdict, rules.Conflict):
            log.warning("usage of %s epoch %d refused: %s", report.lease_id, report.epoch, verdict.reason)
        elif isinstance(verdict, rules.Accepted | rules.Gap):
            known[report.n] = interval
            rows.append(_row(tx, site_id, report, evidence))
            touched.add(key)
    bulk.insert(tx.conn, store.usage, rows)
    _count(tx, {name: n for name, n in counts.items() if name != "accepted"})
    # Usage of an epoch that has ended already at the hub (fenced, lost): settlement looks at it again.
    late = [key for key in touched if placed[key].end_reason is not None]
    if late:
        work.put(tx, SETTLEMENT, [attempt_key(lease_id, epoch) for lease_id, epoch in sorted(late)], tx.now_ms)


def _stored(
    conn: sa.Connection, lease_ids: Iterable[str], only: set[int] | None = None
) -> dict[Key, dict[int, Interval]]:
    """Records by lease epoch and number; `only` those numbers."""
    found: dict[Key, dict[int, Interval]] = defaultdict(dict)
    ids = sorted(lease_ids)
    if not ids:
        return found
    statement = _RECORDS if only is None else _RECORDS.where(_usage.n.in_(sorted(only)))
    rows = conn.execute(statement, {"ids": ids}).all()
    for lease_id, epoch, n, from_ms, to_ms, wall_ms, cpu_ms, peak, sampled, final in rows:
        found[lease_id, epoch][n] = Interval(n, from_ms, to_ms, Totals(wall_ms, cpu_ms, peak, sampled), final)
    return found


def _interval(report: UsageReport) -> Interval:
    t = report.totals
    totals = Totals(t.wall_ms, t.cpu_ms, t.peak_memory_bytes, t.sampled)
    return Interval(report.n, report.from_ms, report.to_ms, totals, report.final)


def _prefix(intervals: Iterable[Interval]) -> Prefix:
    prefix, _ = rules.extend(Prefix(), intervals)
    return prefix


def _row(tx: Tx, site_id: str, report: UsageReport, evidence: str) -> dict[str, object]:
    return {
        "lease_id": report.lease_id,
        "epoch": report.epoch,
        "n": report.n,
        "site_id": site_id,
        "from_ms": report.from_ms,
        "to_ms": report.to_ms,
        "wall_ms": report.totals.wall_ms,
        "cpu_ms": report.totals.cpu_ms,
        "peak_memory_bytes": report.totals.peak_memory_bytes,
        "sampled": report.totals.sampled,
        "final": report.final,
        "evidence": evidence,
        "at_ms": tx.now_ms,
    }


def _count(tx: Tx, counts: dict[str, int]) -> None:
    counter = store.counter
    for name, n in sorted(counts.items()):
        insert_ignore(counter).execute(tx.conn, [{"name": name, "n": 0}])
        tx.conn.execute(sa.update(counter).where(counter.c.name == name).values(n=counter.c.n + n))


# --- what others read ---------------------------------------------------------------------------------------------


def prefixes(conn: sa.Connection, keys: Sequence[Key]) -> dict[Key, Prefix]:
    """The contiguous prefix of each (lease id, epoch); an empty prefix where nothing was reported."""
    stored = _stored(conn, {lease_id for lease_id, _ in keys})
    return {key: _prefix(stored[key].values()) for key in keys}


def kept(conn: sa.Connection, kept_ms: Mapping[Key, int]) -> dict[Key, Totals]:
    """What each (lease id, epoch) had used by its newest checkpoint, given in ms since its start."""
    stored = _stored(conn, {lease_id for lease_id, _ in kept_ms})
    found = {}
    for key, at_ms in kept_ms.items():
        _, counted = rules.extend(Prefix(), stored[key].values())
        found[key] = rules.up_to(counted, at_ms)
    return found


def of_order(conn: sa.Connection, order_id: str) -> tuple[UsageView, ...]:
    """All records of an order's leases; `disputed` when the attempt ended by the site's doing, up to what was kept."""
    rows = conn.execute(
        sa.select(store.usage)
        .where(store.usage.c.lease_id >= order_id + ".", store.usage.c.lease_id < order_id + "/")
        .order_by(store.usage.c.lease_id, store.usage.c.epoch, store.usage.c.n)
    ).all()
    leases = views.leases(conn, [(row.lease_id, row.epoch) for row in rows])
    return tuple(
        UsageView(
            lease_id=row.lease_id,
            epoch=row.epoch,
            n=row.n,
            from_ms=row.from_ms,
            to_ms=row.to_ms,
            wall_ms=row.wall_ms,
            cpu_ms=row.cpu_ms,
            peak_memory_bytes=row.peak_memory_bytes,
            sampled=row.sampled,
            final=row.final,
            disputed=_disputed(leases[row.lease_id, row.epoch], row.to_ms),
            evidence=f"{row.site_id}/{row.evidence}",
        )
        for row in rows
    )


def _disputed(lease: Lease, to_ms: int) -> bool:
    if lease.ended_ms is not None and to_ms > most_ms(lease):
        return True
    return is_disputed(lease.end_reason) and to_ms > lease.kept_ms


def most_ms(lease: Lease) -> int:
    """The most that an ended attempt can have run, by the hub's clock."""
    assert lease.ended_ms is not None
    return rules.most_wall_ms(lease.placed_ms, lease.ended_ms)


def is_disputed(end_reason: str | None) -> bool:
    """The attempt ended by the site's doing or was fenced: recorded, and only what was kept of it is charged."""
    return end_reason is not None and EndReason(end_reason) in DISPUTED


@dataclass(frozen=True, slots=True)
class Totalled:
    records: int
    gaps: int  # records that are known to be missing
    duplicates: int
    refused: int


def totals(conn: sa.Connection) -> Totalled:
    """Over everything. A gap is a number below the highest of its lease epoch that never came."""
    per_lease = (
        sa.select(sa.func.count().label("n"), sa.func.max(store.usage.c.n).label("last"))
        .group_by(store.usage.c.lease_id, store.usage.c.epoch)
        .subquery()
    )
    row = conn.execute(
        sa.select(
            sa.func.coalesce(sa.func.sum(per_lease.c.n), 0),
            sa.func.coalesce(sa.func.sum(per_lease.c.last + 1 - per_lease.c.n), 0),
        )
    ).one()
    counts: dict[str, int] = {r.name: r.n for r in conn.execute(sa.select(store.counter))}
    refused = counts.get("conflict", 0) + counts.get("foreign", 0)
    return Totalled(int(row[0]), int(row[1]), counts.get("duplicate", 0), refused)
