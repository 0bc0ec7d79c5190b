"""Rate what an ended attempt used and post it; give back the rest of the hold when the order has ended.

Work rows come from the orders room (an attempt or an order ended) and from metering (usage came after the end).
    1. attempts: usage prefix and terms -> charge row and capture
    2. orders whose last attempt is settled -> release, settled
Both are idempotent: a charge is unique by (lease, epoch), a posting set by its ref.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from yunhe.core.errors import YunheError
from yunhe.core.lease import captured, rating_inputs
from yunhe.core.lifecycle import ORDER_ENDED, OrderState
from yunhe.core.posting import PostingSet
from yunhe.core.tariff import Charge, RatingInputs, rate
from yunhe.core.usage import NOTHING_USED, Prefix, Totals, bounded
from yunhe.hub.ledger import service as ledger
from yunhe.hub.ledger.service import Capture, Release
from yunhe.hub.metering import service as metering
from yunhe.hub.orders import settled, views
from yunhe.hub.orders.model import SETTLEMENT, Lease, order_of
from yunhe.hub.orders.tasks import lock_orders
from yunhe.hub.platform import bulk, work
from yunhe.hub.platform.writer import Tx
from yunhe.hub.settlement import store

log = logging.getLogger(__name__)

END = "end"

_charge = store.charge.c
_CHARGED = sa.select(_charge.lease_id, _charge.epoch).where(bulk.any_of(_charge.lease_id))
_PAID = (
    sa.select(
        _charge.lease_id,
        sa.func.sum(store.TOTAL),
    )
    .where(bulk.any_of(_charge.lease_id))
    .group_by(_charge.lease_id)
)


@dataclass(frozen=True, slots=True)
class _Rated:
    lease: Lease
    inputs: RatingInputs
    charge: Charge
    reported: Totals  # `inputs` has what counts of it

    @property
    def disputed(self) -> bool:
        return self.inputs.disputed or self.reported.wall_ms > self.inputs.wall_ms


def consume(tx: Tx, keys: Sequence[str]) -> None:
    """Consumer of the room's work rows; keys are `lease:epoch` or `order:end`."""
    # One replica at a time per order: of two that each settle one of its last attempts, the later has to see that no
    # other is left.
    orders = lock_orders(tx, (order_of(key.partition(":")[0]) for key in keys))
    attempts = [_attempt(key) for key in keys if not key.endswith(f":{END}")]
    closed = {order_id for order_id, row in orders.items() if row.settled}
    rated = _rated(tx, [key for key in attempts if key is not None], closed)
    over = _over(tx, orders)
    _book(tx, rated, over)
    charged: dict[str, int] = defaultdict(int)
    for item in rated:
        charged[item.lease.order_id] += item.charge.price.total
    bulk.write(
        tx.conn,
        bulk.Insert(store.charge, [_row(tx, item) for item in rated], ignore=True),
        *settled.recording(tx, orders, charged, over),
    )


def _attempt(key: str) -> tuple[str, int] | None:
    lease_id, _, epoch = key.rpartition(":")
    return (lease_id, int(epoch)) if epoch.isdigit() else None


def _rated(tx: Tx, keys: Sequence[tuple[str, int]], closed: set[str]) -> list[_Rated]:
    """Attempts that are not charged yet. `closed`: orders that are settled already, whose hold is gone."""
    done = _charged(tx.conn, keys)
    todo = [key for key in keys if key not in done]
    leases = views.leases(tx.conn, todo)
    used = metering.prefixes(tx.conn, todo)
    kept = metering.kept(tx.conn, {key: lease.kept_ms for key, lease in leases.items() if lease.kept_ms})
    paid = _paid(tx.conn, sorted({lease_id for lease_id, _ in todo}))
    rated = []
    for key, lease in sorted(leases.items()):
        if used[key].last is None:  # an attempt that never started has no usage and no charge
            continue
        left = 0 if lease.order_id in closed else lease.terms.task_hold_microcny - paid[lease.lease_id]
        item = _rate(lease, used[key], kept.get(key, NOTHING_USED), left, lease.order_id in closed)
        paid[lease.lease_id] += item.charge.price.total
        rated.append(item)
    return rated


def _paid(conn: sa.Connection, lease_ids: Sequence[str]) -> dict[str, int]:
    """What all attempts of each task were charged so far, micro-CNY."""
    paid: dict[str, int] = defaultdict(int)
    if lease_ids:
        paid.update({lease_id: int(total) for lease_id, total in conn.execute(_PAID, {"ids": lease_ids})})
    return paid


def _over(tx: Tx, orders: Mapping[str, sa.Row[Any]]) -> list[str]:
    """Orders that have ended and have no attempt left to settle."""
    ended = sorted(i for i, row in orders.items() if OrderState(row.state) in ORDER_ENDED and not row.settled)
    busy = work.left(tx.conn, SETTLEMENT, [f"{order_id}." for order_id in ended]) if ended else set()
    return [order_id for order_id in ended if f"{order_id}." not in busy]


def _book(tx: Tx, rated: Sequence[_Rated], over: Sequence[str]) -> None:
    """Charges leave their holds; what is left of the holds of orders that are over goes back."""
    captures = [Capture(item.lease.order_id, _postings(tx, item)) for item in rated if item.charge.price.total]
    releases = [Release(order_id, f"release:{order_id}", tx.now_ms) for order_id in over]
    captured, released = ledger.settle(tx, captures, releases)
    for outcome in (*captured, *released):
        if isinstance(outcome, YunheError):
            # Holds are sized so that this cannot be; never charge what was not reserved.
            raise RuntimeError(f"a settlement could not be booked: {outcome}")


def _rate(lease: Lease, prefix: Prefix, kept: Totals, left: int, closed: bool) -> _Rated:
    """`left`: of the task's part of the hold, micro-CNY; attempts before this one may have been preempted and paid.

    Usage that comes when its order is settled is told as disputed and costs nothing: its hold was given back. Neither
    does what the site says beyond the time that passed here: the charge is of the rest, and told as disputed.
    """
    disputed = closed or metering.is_disputed(lease.end_reason)
    counted = bounded(prefix.totals, lease.terms.milli, metering.most_ms(lease))
    inputs = rating_inputs(lease.terms, counted, left, disputed=disputed, kept=kept)
    return _Rated(lease, inputs, rate(inputs), prefix.totals)


def _postings(tx: Tx, item: _Rated) -> PostingSet:
    lease = item.lease
    ref = f"charge:{lease.lease_id}:{lease.epoch}"
    return captured(ref, tx.now_ms, lease.org, lease.terms.provider, item.charge)


def _row(tx: Tx, item: _Rated) -> dict[str, object]:
    lease, charge = item.lease, item.charge
    return {
        "lease_id": lease.lease_id,
        "epoch": lease.epoch,
        "order_id": lease.order_id,
        "org": lease.org,
        "site_id": lease.site_id,
        "at_ms": tx.now_ms,
        "compute_microcny": charge.price.compute,
        "energy_microcny": charge.price.energy,
        "transfer_microcny": charge.price.transfer,
        "line_microcny": charge.price.line,
        "fee_microcny": charge.fee,
        "energy_mwh": charge.energy_mwh,
        "carbon_mg": charge.carbon_mg,
        "disputed": item.disputed,
        "inputs": _inputs(item),
    }


def _inputs(item: _Rated) -> str:
    """All that the charge was computed from, what the site reported, and the rates that the compute delivered follows
    from."""
    reported = {"reported_wall_ms": item.reported.wall_ms, "reported_cpu_ms": item.reported.cpu_ms}
    more = {**reported, "measured_flops": item.lease.terms.measured_flops}
    return f"{orjson.dumps(item.inputs).decode()[:-1]},{orjson.dumps(more).decode()[1:]}"


def _charged(conn: sa.Connection, keys: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
    ids = sorted({lease_id for lease_id, _ in keys})
    return {(lease_id, epoch) for lease_id, epoch in conn.execute(_CHARGED, {"ids": ids}).all()} if ids else set()


# --- reading ------------------------------------------------------------------------------------------------------


def charges_of_order(conn: sa.Connection, order_id: str) -> list[sa.Row[Any]]:
    statement = sa.select(store.charge).where(store.charge.c.order_id == order_id)
    return list(conn.execute(statement.order_by(store.charge.c.lease_id, store.charge.c.epoch)))


def charges_of_org(
    conn: sa.Connection, org: str, span_ms: tuple[int, int], cursor: str | None, limit: int
) -> tuple[str | None, list[sa.Row[Any]]]:
    """Charges booked in [from, to), in order: the cursor of the next page, and this one."""
    from_ms, to_ms = span_ms
    query = sa.select(store.charge).where(_charge.org == org, _charge.at_ms >= from_ms, _charge.at_ms < to_ms)
    if cursor is not None:
        query = query.where(store.KEY > store.read_cursor(cursor))
    rows = list(conn.execute(query.order_by(_charge.at_ms, _charge.lease_id, _charge.epoch).limit(limit + 1)))
    return store.cursor_of(rows, limit), rows[:limit]


def charges_of_site(
    conn: sa.Connection, site_id: str, disputed: bool, cursor: str | None, limit: int
) -> tuple[str | None, list[sa.Row[Any]]]:
    """Charges of a site, newest first: the cursor of the next page, and this one. `disputed`: only those."""
    query = sa.select(store.charge).where(_charge.site_id == site_id)
    if disputed:
        query = query.where(_charge.disputed.is_(True))
    if cursor is not None:
        query = query.where(store.KEY < store.read_cursor(cursor))
    newest = (_charge.at_ms.desc(), _charge.lease_id.desc(), _charge.epoch.desc())
    rows = list(conn.execute(query.order_by(*newest).limit(limit + 1)))
    return store.cursor_of(rows, limit), rows[:limit]


def sum_of_org(conn: sa.Connection, org: str, from_ms: int, to_ms: int) -> tuple[int, int]:
    """How many charges were booked in [from_ms, to_ms), and their sum, micro-CNY."""
    query = sa.select(sa.func.count(), sa.func.sum(store.TOTAL))
    found = conn.execute(query.where(_charge.org == org, _charge.at_ms >= from_ms, _charge.at_ms < to_ms)).one()
    return int(found[0]), int(found[1] or 0)


def disputed_count(conn: sa.Connection) -> int:
    return conn.scalar(sa.select(sa.func.count()).where(store.charge.c.disputed.is_(True))) or 0
