"""Many orders looked at in one call, by the keys that they were submitted under."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from yunhe.hub.orders import store, views
from yunhe.hub.orders.model import Placement, order_of
from yunhe.hub.orders.tasks import chunks
from yunhe.wire.api import OrderView, TaskView


@dataclass(frozen=True, slots=True)
class Looked:
    """One order: its first task, every place that this was given, and in which epochs it began."""

    key: str
    order: OrderView
    task: TaskView
    placements: Mapping[int, Placement]
    started: frozenset[int]


def by_keys(conn: sa.Connection, org: str, keys: Sequence[str]) -> list[Looked]:
    """In the order of the keys; those that made no order of this organisation are left out."""
    ids = _ids(conn, org, keys)
    shown = {view.id: view for view in views.order_views(conn, list(ids.values()))}
    firsts = [f"{order_id}.0" for order_id in shown]
    tasks = {task.lease_id: task for task in views.task_views(conn, firsts)}
    placements: dict[str, dict[int, Placement]] = {lease_id: {} for lease_id in firsts}
    for (lease_id, epoch), place in views.placements(conn, firsts).items():
        placements[lease_id][epoch] = place
    began = _began(conn, firsts)
    return [
        Looked(key, shown[order_id], tasks[first], placements[first], frozenset(began.get(first, ())))
        for key in dict.fromkeys(keys)
        if (order_id := ids.get(key)) is not None
        for first in [f"{order_id}.0"]
    ]


def _ids(conn: sa.Connection, org: str, keys: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in chunks(sorted(set(keys))):
        query = sa.select(store.order.c.idem_key, store.order.c.id)
        rows = conn.execute(query.where(store.order.c.org == org, store.order.c.idem_key.in_(part)))
        found.update((row.idem_key, row.id) for row in rows)
    return found


def _began(conn: sa.Connection, lease_ids: Sequence[str]) -> dict[str, set[int]]:
    """Epochs of which a start was reported."""
    found: dict[str, set[int]] = {}
    for part in chunks(lease_ids):
        query = sa.select(store.fact.c.lease_id, store.fact.c.epoch).where(
            store.fact.c.order_id.in_([order_of(lease_id) for lease_id in part]),
            store.fact.c.lease_id.in_(part),
            store.fact.c.kind == "started",
        )
        for row in conn.execute(query):
            found.setdefault(row.lease_id, set()).add(row.epoch)
    return found
