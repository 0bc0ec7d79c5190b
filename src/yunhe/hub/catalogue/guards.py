"""The pools' guards, locked: for whoever promises their units for later and must not do so twice."""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, false, or_, select

from yunhe.core.supply import SiteState
from yunhe.hub.catalogue import store
from yunhe.hub.platform import bulk
from yunhe.hub.platform.writer import Tx

_pool = store.pool.c
_LOCKED = (
    select(
        _pool.id,
        _pool.capacity_milli - _pool.foreign_milli - _pool.used_milli,
        _pool.memory_bytes - _pool.foreign_memory - _pool.used_memory,
    )
    .where(bulk.any_of(_pool.id), _pool.retired.is_(false()))
    .order_by(_pool.id)
    .with_for_update()
)


_GONE = (
    select(_pool.id)
    .join(store.site, store.site.c.id == _pool.site_id)
    .where(bulk.any_of(_pool.id), or_(_pool.retired, store.site.c.state == SiteState.LEFT.value))
)


class Left(NamedTuple):
    """What of a pool is not in use; negative where more is than there is."""

    milli: int
    memory_bytes: int


def lock(tx: Tx, pool_ids: Iterable[str]) -> dict[str, Left]:
    """The certified ones of these pools, locked in sorted order until the transaction ends."""
    ids = sorted(set(pool_ids))
    rows = tx.conn.execute(_LOCKED, {"ids": ids}).all() if ids else ()
    return {pool_id: Left(*left) for pool_id, *left in rows}


def gone(conn: Connection, pool_ids: Iterable[str]) -> set[str]:
    """Those of the pools that are certified no more, or whose site has left."""
    ids = sorted(set(pool_ids))
    return set(conn.scalars(_GONE, {"ids": ids})) if ids else set()
