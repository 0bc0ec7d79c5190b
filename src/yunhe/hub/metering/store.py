"""Tables of the metering room. `usage` is append-only; nothing in it is ever changed."""

import sqlalchemy as sa

from yunhe.hub.platform.db import metadata

usage = sa.Table(
    "usage",
    metadata,
    sa.Column("lease_id", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True),
    sa.Column("site_id", sa.Text, nullable=False),
    sa.Column("from_ms", sa.BigInteger, nullable=False),
    sa.Column("to_ms", sa.BigInteger, nullable=False),
    sa.Column("wall_ms", sa.BigInteger, nullable=False),
    sa.Column("cpu_ms", sa.BigInteger, nullable=False),
    sa.Column("peak_memory_bytes", sa.BigInteger, nullable=False),
    sa.Column("sampled", sa.Boolean, nullable=False),
    sa.Column("final", sa.Boolean, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False),  # "agent epoch/poll": the signed batch that said so
    sa.Column("at_ms", sa.BigInteger, nullable=False),
)

# What was refused or doubled, counted; the reasons of the last refusals are in the log.
counter = sa.Table(
    "metering_counter",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("n", sa.BigInteger, nullable=False),
)
