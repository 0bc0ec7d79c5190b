"""Who may have an order's secrets: the site that holds a lease of it, before the job has started, and nobody after."""

from collections.abc import Iterable

import sqlalchemy as sa

from yunhe.core.errors import NotFound
from yunhe.core.lifecycle import PLACED
from yunhe.hub.orders import store
from yunhe.hub.platform.writer import Tx

_task = store.task.c


def for_lease(conn: sa.Connection, site_id: str, lease_id: str, epoch: int) -> tuple[str, str]:
    """(order id, sealed) for the holder of a lease that is to start. Raises NotFound for everybody else."""
    row = conn.execute(
        sa.select(store.secret.c.order_id, store.secret.c.sealed)
        .join(store.task, _task.order_id == store.secret.c.order_id)
        .where(
            _task.lease_id == lease_id,
            _task.epoch == epoch,
            _task.site_id == site_id,
            _task.state.in_([state.value for state in PLACED]),
            _task.started.is_(False),
            _task.cancel_requested.is_(False),
        )
    ).first()
    if row is None:
        raise NotFound(f"site {site_id} holds no lease {lease_id} epoch {epoch} that is to start with secrets")
    return row.order_id, row.sealed


def forget(tx: Tx, order_ids: Iterable[str]) -> None:
    """The orders have ended."""
    ids = sorted(order_ids)
    if ids:
        tx.conn.execute(sa.delete(store.secret).where(store.secret.c.order_id.in_(ids)))
