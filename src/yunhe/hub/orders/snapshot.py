"""The snapshot that a round decides on: open orders as columns over the supply."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from yunhe.core.demand import Shape
from yunhe.core.lifecycle import TaskState
from yunhe.core.placement.calendar import is_booking
from yunhe.core.round import AccountShare, Queue, Snapshot
from yunhe.core.supply import Supply
from yunhe.hub.orders import calendar, rooms, store
from yunhe.hub.orders.shapes import Loaded, ShapeKey, Shapes, key_of
from yunhe.hub.platform.settings import HubSettings


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """What committing a plan needs to know of an order besides its row."""

    loaded: Loaded
    shape: Shape


@dataclass(frozen=True, slots=True)
class View:
    """A snapshot and, by order id, what it was made from."""

    snapshot: Snapshot
    open_orders: dict[str, OpenOrder]


def waiting(conn: sa.Connection, now_ms: int) -> bool:
    """Whether any order has a task that may be placed now: without one, a round need not look at the supply."""
    return conn.execute(sa.select(store.order.c.id).where(_waiting(now_ms)).limit(1)).first() is not None


def take(
    conn: sa.Connection,
    supply: Supply,
    accounts: tuple[AccountShare, ...],
    shapes: Shapes,
    settings: HubSettings,
    now_ms: int,
) -> View:
    """Open orders of every organisation in turn, each by priority and age; as many as a round looks at in all.

    In turn, because a thousand orders of one that cannot be placed must not keep the others from being looked at.
    """
    rows = conn.execute(_open_orders(now_ms, settings.round_orders)).all()
    loaded = shapes.load(conn, {row.spec_hash: row.submitted_ms for row in rows})
    account_index = {account.id: index for index, account in enumerate(accounts)}
    known = [row for row in rows if row.ready and row.org in account_index and row.spec_hash in loaded]
    shape_index: dict[Shape, int] = {}
    by_key: dict[ShapeKey, int] = {}
    columns = np.empty(len(known), np.int32)
    open_orders: dict[str, OpenOrder] = {}
    for i, row in enumerate(known):
        key = key_of(row)
        shape = shapes.of_order(row, loaded[row.spec_hash])
        # Hashing a shape is slow; its key is not.
        if key not in by_key:
            by_key[key] = shape_index.setdefault(shape, len(shape_index))
        columns[i] = by_key[key]
        open_orders[row.id] = OpenOrder(loaded[row.spec_hash], shape)
    queue = Queue(
        ids=tuple(row.id for row in known),
        shape=columns,
        account=np.fromiter((account_index[row.org] for row in known), np.int32, len(known)),
        priority=np.fromiter((row.priority for row in known), np.int16, len(known)),
        submitted_ms=np.fromiter((row.submitted_ms for row in known), np.int64, len(known)),
        tasks=np.fromiter((row.ready for row in known), np.int32, len(known)),
        version=np.fromiter((row.version for row in known), np.int64, len(known)),
    )
    to_book = any(is_booking(shape, now_ms) for shape in shape_index)
    supply = calendar.with_bookings(conn, supply, settings.policy, now_ms, to_book=to_book)
    seen = Snapshot(supply, tuple(shape_index), accounts, queue, rooms.held(conn, now_ms), rooms.of_rows(known))
    return View(seen, open_orders)


def _ready(now_ms: int) -> sa.ColumnElement[int]:
    """Tasks that may be placed now: of an array some may be too early after a fault, which holds up no others."""
    order, task = store.order.c, store.task.c
    early = sa.select(sa.func.count()).where(
        task.order_id == order.id, task.state == TaskState.PENDING.value, task.not_before_ms <= now_ms
    )
    return sa.case((order.all_from_ms <= now_ms, order.pending), else_=early.scalar_subquery()).label("ready")


def _waiting(now_ms: int) -> sa.ColumnElement[bool]:
    return sa.and_(store.order.c.pending > 0, store.order.c.not_before_ms <= now_ms)


def _open_orders(now_ms: int, limit: int) -> sa.Select[Any]:
    order = store.order
    by_age = (order.c.priority.desc(), order.c.submitted_ms, order.c.id)
    turn = sa.func.row_number().over(partition_by=order.c.org, order_by=by_age).label("turn")
    ranked = sa.select(order.c.id, turn).where(_waiting(now_ms)).subquery()
    first = sa.select(ranked.c.id).order_by(ranked.c.turn, ranked.c.id).limit(limit).subquery()
    columns = (
        order.c.id,
        order.c.org,
        order.c.spec_hash,
        order.c.priority,
        order.c.submitted_ms,
        order.c.deadline_ms,
        order.c.start_ms,
        order.c.hold_microcny,
        _ready(now_ms),
        order.c.version,
        order.c.room_pool,
        order.c.room_tasks,
    )
    return sa.select(*columns).join(first, first.c.id == order.c.id).order_by(*by_age)
