"""Rate what an ended attempt used and post it; give back the rest of the hold when the order has ended.

Work rows come from the orders room (an attempt or an order ended) and from metering (usage came after the end).
    1. attempts: usage prefix and terms -> charge row and capture
    2. orders whose last attempt is settled -> release, settled
Both are idempotent: a charge is unique by (lease, epoch), a posting set by its ref.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from yunhe.core import posting
from yunhe.core.errors import YunheError
from yunhe.core.lifecycle import ORDER_ENDED, OrderState
from yunhe.core.tariff import Charge, RatingInputs, rate
from yunhe.core.usage import Prefix
from yunhe.hub.ledger import service as ledger
from yunhe.hub.ledger.service import Capture, Release
from yunhe.hub.metering import service as metering
from yunhe.hub.orders import settled, views
from yunhe.hub.orders.model import SETTLEMENT, Lease, order_of
from yunhe.hub.orders.tasks import chunks, lock_orders
from yunhe.hub.platform import bulk, work
from yunhe.hub.platform.writer import Tx
from yunhe.hub.settlement import store

log = logging.getLogger(__name__)

END = "end"


@dataclass(frozen=True, slots=True)
class _Rated:
    lease: Lease
    inputs: RatingInputs
    charge: Charge


def consume(tx: Tx, keys: Sequence[str]) -> None:
    """Consumer of the room's work rows; keys are `lease:epoch` or `order:end`."""
    # One replica at a time per order: of two that each settle one of its last attempts, the later has to see that no
    # other is left.
    orders = lock_orders(tx, (order_of(key.partition(":")[0]) for key in keys))
    attempts = [_attempt(key) for key in keys if not key.endswith(f":{END}")]
    closed = {order_id for order_id, row in orders.items() if row.settled}
    _settle_attempts(tx, [key for key in attempts if key is not None], closed)
    _settle_orders(tx, sorted({order_of(key.partition(":")[0]) for key in keys}))


def _attempt(key: str) -> tuple[str, int] | None:
    lease_id, _, epoch = key.rpartition(":")
    return (lease_id, int(epoch)) if epoch.isdigit() else None


def _settle_attempts(tx: Tx, keys: Sequence[tuple[str, int]], closed: set[str]) -> None:
    """`closed`: orders that are settled already, whose hold is gone."""
    done = _charged(tx.conn, keys)
    todo = [key for key in keys if key not in done]
    leases = views.leases(tx.conn, todo)
    used = metering.prefixes(tx.conn, todo)
    # An attempt that never started has no usage and no charge.
    rated = [
        _rate(lease, used[key], lease.order_id in closed)
        for key, lease in sorted(leases.items())
        if used[key].last is not None
    ]
    if not rated:
        return
    bulk.insert(tx.conn, store.charge, [_row(tx, item) for item in rated], ignore=True)
    captures = [Capture(item.lease.order_id, _postings(tx, item)) for item in rated if item.charge.price.total]
    for outcome in ledger.capture(tx, captures):
        if isinstance(outcome, YunheError):
            # Holds are sized so that this cannot be; never charge what was not reserved.
            raise RuntimeError(f"a charge could not be booked: {outcome}")
    amounts: dict[str, int] = defaultdict(int)
    for item in rated:
        amounts[item.lease.order_id] += item.charge.price.total
    settled.add_charges(tx, amounts)


def _rate(lease: Lease, prefix: Prefix, closed: bool) -> _Rated:
    """Usage that comes when its order is settled is told as disputed and costs nothing: its hold was given back."""
    terms, used = lease.terms, prefix.totals
    inputs = RatingInputs(
        milli=terms.milli,
        wall_ms=used.wall_ms,
        cpu_ms=used.cpu_ms,
        price_microcny_per_unit_hour=terms.price_microcny_per_unit_hour,
        power_price_microcny_per_kwh=terms.power_price_microcny_per_kwh,
        transfer_microcny_per_gib=terms.transfer_microcny_per_gib,
        data_bytes=terms.data_bytes,
        pue_milli=terms.pue_milli,
        watts_per_unit=terms.watts_per_unit,
        carbon_g_per_kwh=terms.carbon_g_per_kwh,
        fee_bps=terms.operator_fee_bps,
        hold_microcny=0 if closed else terms.hold_microcny,
        disputed=closed or metering.is_disputed(lease.end_reason),
    )
    return _Rated(lease, inputs, rate(inputs))


def _postings(tx: Tx, item: _Rated) -> posting.PostingSet:
    """Exactly the charge leaves the hold; the rest goes back when the order has ended."""
    return posting.capture(
        f"charge:{item.lease.lease_id}:{item.lease.epoch}",
        tx.now_ms,
        item.lease.org,
        item.lease.terms.provider,
        hold_microcny=item.charge.price.total,
        provider_microcny=item.charge.provider_amount,
        fee_microcny=item.charge.fee,
    )


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
        "disputed": item.inputs.disputed,
        "inputs": json.dumps({**asdict(item.inputs), "measured_flops": lease.terms.measured_flops}),
    }


def _charged(conn: sa.Connection, keys: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    for ids in chunks(sorted({lease_id for lease_id, _ in keys})):
        rows = conn.execute(
            sa.select(store.charge.c.lease_id, store.charge.c.epoch).where(store.charge.c.lease_id.in_(ids))
        )
        found.update((row.lease_id, row.epoch) for row in rows)
    return found


def _settle_orders(tx: Tx, order_ids: Sequence[str]) -> None:
    """Orders that have ended and have no attempt left to settle: the rest of the hold goes back."""
    known = views.keys(tx.conn, order_ids)
    ended = [i for i, key in known.items() if OrderState(key.state) in ORDER_ENDED and not key.settled]
    busy = work.left(tx.conn, SETTLEMENT, [f"{order_id}." for order_id in ended])
    over = [order_id for order_id in sorted(ended) if f"{order_id}." not in busy]
    for outcome in ledger.release(tx, [Release(i, f"release:{i}", tx.now_ms) for i in over]):
        if isinstance(outcome, YunheError):
            raise RuntimeError(f"a hold could not be released: {outcome}")
    settled.mark_settled(tx, over)


# --- reading ------------------------------------------------------------------------------------------------------


def charges_of_order(conn: sa.Connection, order_id: str) -> list[sa.Row[Any]]:
    statement = sa.select(store.charge).where(store.charge.c.order_id == order_id)
    return list(conn.execute(statement.order_by(store.charge.c.lease_id, store.charge.c.epoch)))


def charges_of_org(conn: sa.Connection, org: str, from_ms: int, to_ms: int, limit: int) -> list[sa.Row[Any]]:
    """Charges booked in [from_ms, to_ms), in order."""
    charge = store.charge
    statement = sa.select(charge).where(charge.c.org == org, charge.c.at_ms >= from_ms, charge.c.at_ms < to_ms)
    return list(conn.execute(statement.order_by(charge.c.at_ms, charge.c.lease_id, charge.c.epoch).limit(limit)))


def disputed_count(conn: sa.Connection) -> int:
    return conn.scalar(sa.select(sa.func.count()).where(store.charge.c.disputed.is_(True))) or 0
