"""Data on its way in and out, as sites tell it: shown beside a task's state, which it does not change."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from yunhe.core.lifecycle import PLACED
from yunhe.core.units import format_bytes
from yunhe.hub.catalogue.records import LineLoad
from yunhe.hub.orders import store, tasks
from yunhe.hub.orders.model import order_of
from yunhe.hub.platform import bulk
from yunhe.hub.platform.settings import HubSettings
from yunhe.hub.platform.writer import Tx
from yunhe.wire.api import StagingView
from yunhe.wire.link import LeaseMoved, LeaseStaging

# A site that moves outputs says so about once a minute; until then the attempt is not overdue.
PATIENCE_MS = 15 * 60_000
MAX_PROBLEMS = 3  # in one fact
FRESH_MS = 150_000  # what moves is told about once a minute at least

DELIVERED, UNDELIVERED = "delivered", "undelivered"


def note(tx: Tx, reports: Sequence[LeaseStaging | LeaseMoved], touched: Iterable[str], settings: HubSettings) -> None:
    """Keep what sites say of leases that they hold. `touched`: leases of other reports of this transaction, whose
    orders are locked here too, all in one order. An older epoch changes nothing; a repeat changes nothing.

    By the hub's clock, and however often a site says that data moves: its inputs are there `staging_limit_ms` after the
    first word of them, then it may queue for `queue_limit_ms`; outputs may come `staging_limit_ms` after the run limit.
    """
    if not reports:
        return
    tasks.lock_orders(tx, (order_of(lease_id) for lease_id in {*touched, *(r.lease_id for r in reports)}))
    rows = tasks.load(tx, (report.lease_id for report in reports))
    problems = {lease_id: _problem(row.staging) for lease_id, row in rows.items()}
    facts: list[dict[str, object]] = []
    for report in reports:
        row = rows.get(report.lease_id)
        if row is None or row.epoch != report.epoch or row.state not in PLACED:
            continue
        if isinstance(report, LeaseStaging):
            if report.problem and report.problem != problems[report.lease_id]:
                facts.append(_fact(tx, report, "transfer_problem", report.problem))
            problems[report.lease_id] = report.problem
            moving = {"moving_ms": tx.now_ms, "moving_bps": _bps(tx, row, report)}
            _update(
                tx, report, staging=_view(report).model_dump_json(), **moving, **_patience(tx, row, report, settings)
            )
        elif report.phase == "in":
            facts.append(_fact(tx, report, "fetched", _list(report)))
            _update(tx, report, moving_ms=None)
            if not row.started and not row.stopping:
                last_ms = row.placed_ms + settings.staging_limit_ms + settings.queue_limit_ms
                _update(tx, report, overdue_ms=last_ms)
        else:
            state = UNDELIVERED if any(file.problem for file in report.files) else DELIVERED
            facts.append(_fact(tx, report, state, _problems(report) or _list(report)))
            _update(tx, report, delivery=state, moving_ms=None)
        tx.notify(f"order:{row.order_id}")
    bulk.write(tx.conn, bulk.Insert(store.fact, facts))
    if facts:
        tx.notify(tasks.FACTS)


def _update(tx: Tx, report: LeaseStaging | LeaseMoved, **values: object) -> None:
    tx.conn.execute(sa.update(store.task).where(store.task.c.lease_id == report.lease_id).values(**values))


def _patience(tx: Tx, row: sa.Row[Any], report: LeaseStaging, settings: HubSettings) -> dict[str, int]:
    if row.stopping:
        return {}
    if row.started:
        last_ms = row.started_ms + row.limit_ms + settings.staging_limit_ms
        return {"overdue_ms": max(row.overdue_ms, min(tx.now_ms + PATIENCE_MS, last_ms))}
    return {} if row.staging else {"overdue_ms": tx.now_ms + settings.staging_limit_ms}


def _bps(tx: Tx, row: sa.Row[Any], report: LeaseStaging) -> int:
    """Bits a second since the word before, of the same phase; 0 for the first, or when nothing came."""
    before = StagingView.model_validate_json(row.staging) if row.staging else None
    if before is None or before.phase != report.phase or row.moving_ms is None or tx.now_ms <= row.moving_ms:
        return 0
    span_ms: int = tx.now_ms - row.moving_ms
    return max(0, report.done_bytes - before.done_bytes) * 8_000 // span_ms


_MOVING = sa.select(store.task.c.site_id, store.task.c.staging, store.task.c.moving_bps).where(
    store.task.c.moving_ms >= sa.bindparam("since_ms"), store.task.c.state.in_([state.value for state in PLACED])
)


def loads(conn: sa.Connection, now_ms: int) -> dict[str, LineLoad]:
    """By site: what moves now. A site that said nothing for `FRESH_MS` moves nothing that is known."""
    found: dict[str, LineLoad] = {}
    for site_id, staging, bps in conn.execute(_MOVING, {"since_ms": now_ms - FRESH_MS}):
        view = StagingView.model_validate_json(staging)
        left_bytes = max(0, (view.total_bytes or view.done_bytes) - view.done_bytes)
        have = found.get(site_id, LineLoad(0, 0, 0))
        found[site_id] = LineLoad(have.transfers + 1, have.left_bytes + left_bytes, have.bps + bps)
    return found


def _view(report: LeaseStaging) -> StagingView:
    return StagingView(
        phase=report.phase, done_bytes=report.done_bytes, total_bytes=report.total_bytes, problem=report.problem
    )


def _problem(staging: str) -> str:
    return StagingView.model_validate_json(staging).problem if staging else ""


def _list(report: LeaseMoved) -> str:
    return "; ".join(f"{file.path} {format_bytes(file.size_bytes, 1)} sha256 {file.sha256}" for file in report.files)


def _problems(report: LeaseMoved) -> str:
    found = [file.problem for file in report.files if file.problem]
    more = [f"and {len(found) - MAX_PROBLEMS} more"] if len(found) > MAX_PROBLEMS else []
    return "; ".join([*found[:MAX_PROBLEMS], *more])


def _fact(tx: Tx, report: LeaseStaging | LeaseMoved, kind: str, detail: str) -> dict[str, object]:
    return {
        "order_id": order_of(report.lease_id),
        "lease_id": report.lease_id,
        "epoch": report.epoch,
        "at_ms": tx.now_ms,
        "kind": kind,
        "detail": detail,
    }
