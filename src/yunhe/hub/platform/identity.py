"""The hub's own id: drawn once, with its tables. Orders that come back to it are known by it."""

import sqlalchemy as sa

from yunhe.hub.platform.db import metadata

# One row, written by the migration. A hub that is restored from a backup is the same hub.
hub = sa.Table(
    "hub",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True),
    sa.Column("id", sa.Text, nullable=False),
)


def hub_id(conn: sa.Connection) -> str:
    """`hub_` and 16 hexadecimal digits, the same for all replicas."""
    return str(conn.execute(sa.select(hub.c.id)).scalar_one())
