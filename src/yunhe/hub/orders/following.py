"""Whoever orders for others, as a hub above does, says how long it may be silent: then its orders are cancelled.

The hub above gives up what its site holds when that is silent for too long, and has the work done elsewhere; the orders
here must have ended by then. A follower is a part of an organisation's orders: those whose Idempotency-Key begins with
its tag and a colon.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from yunhe.core.errors import QuotaExceeded, YunheError
from yunhe.core.lifecycle import PLACED, WAITING, CancelRequested
from yunhe.hub.orders import events, store
from yunhe.hub.orders.events import LeaseEvent
from yunhe.hub.platform.db import insert_ignore
from yunhe.hub.platform.writer import Tx

MAX_FOLLOWERS = 64  # of one organisation
MAX_CANCELLED = 500  # by one transaction; the rest half a second later


@dataclass(frozen=True, slots=True)
class Follower:
    """`seen_ms`: its last look, UTC; 0 in what is written, which is by the transaction's own time."""

    org: str
    tag: str
    silence_ms: int
    seen_ms: int = 0

    @property
    def name(self) -> str:
        return f"{self.org}/{self.tag}"


def note(tx: Tx, looks: Sequence[Follower]) -> list[None | YunheError]:
    """Writer handler: it has looked. Raises QuotaExceeded for more than `MAX_FOLLOWERS` of an organisation."""
    answers: dict[str, None | YunheError] = {}
    for item in sorted(looks, key=lambda look: look.name):
        answers[item.name] = _note(tx, item)
    return [answers[item.name] for item in looks]


def _note(tx: Tx, item: Follower) -> YunheError | None:
    follower = store.follower
    values = {"silence_ms": item.silence_ms, "seen_ms": tx.now_ms}
    mine = (follower.c.org == item.org, follower.c.tag == item.tag)
    if tx.conn.execute(sa.update(follower).where(*mine).values(values)).rowcount:
        return None
    count = tx.conn.scalar(sa.select(sa.func.count()).where(follower.c.org == item.org)) or 0
    if count >= MAX_FOLLOWERS:
        return QuotaExceeded(f"at most {MAX_FOLLOWERS} parts of an account's orders are followed", field="follow.tag")
    insert_ignore(follower).execute(tx.conn, [{"org": item.org, "tag": item.tag, **values}])
    return None


def followers(conn: sa.Connection) -> list[Follower]:
    rows = conn.execute(sa.select(store.follower).order_by(store.follower.c.org, store.follower.c.tag))
    return [Follower(row.org, row.tag, row.silence_ms, row.seen_ms) for row in rows]


def waiting(conn: sa.Connection, silent: Sequence[Follower]) -> list[Follower]:
    """Those of them with orders that go on and that nobody has cancelled yet."""
    return [item for item in silent if conn.execute(_alive(item).limit(1)).first() is not None]


def give_up(tx: Tx, batches: Sequence[Sequence[Follower]]) -> list[None]:
    """Writer handler: cancel the orders of followers that have not looked since they were judged."""
    for batch in batches:
        for item in batch:
            mine = (store.follower.c.org == item.org, store.follower.c.tag == item.tag)
            seen_ms = tx.conn.scalar(sa.select(store.follower.c.seen_ms).where(*mine).with_for_update())
            if seen_ms == item.seen_ms:
                leases = tx.conn.scalars(_alive(item).limit(MAX_CANCELLED)).all()
                events.apply(tx, [LeaseEvent(lease_id, CancelRequested()) for lease_id in leases])
    return [None] * len(batches)


def forget(tx: Tx, batches: Sequence[Sequence[Follower]]) -> list[None]:
    """Writer handler: followers that have not looked since and have nothing left to wait for. One that looks again is
    a new one."""
    follower = store.follower
    for batch in batches:
        for item in batch:
            mine = (follower.c.org == item.org, follower.c.tag == item.tag, follower.c.seen_ms == item.seen_ms)
            tx.conn.execute(sa.delete(follower).where(*mine))
    return [None] * len(batches)


def _alive(item: Follower) -> sa.Select[Any]:
    order, task = store.order.c, store.task.c
    return (
        sa.select(task.lease_id)
        .join(store.order, order.id == task.order_id)
        .where(
            order.org == item.org,
            # Not by comparing texts: their order is another one in every database.
            sa.func.substr(order.idem_key, 1, len(item.tag) + 1) == f"{item.tag}:",
            order.ended_ms.is_(None),
            task.state.in_([state.value for state in WAITING | PLACED]),
            task.cancel_requested.is_(False),
        )
        .order_by(task.lease_id)
    )
