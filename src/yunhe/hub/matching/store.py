"""Tables of the matching room: the newest rounds as they were decided, for people who look. Nothing stands on them."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from yunhe.hub.platform.db import insert_ignore, metadata

decided = sa.Table(
    "round",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),  # the time that it was decided for
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("orders", sa.Integer, nullable=False),  # that it looked at
    sa.Column("assigned", sa.Integer, nullable=False),  # tasks
    sa.Column("placed", sa.Integer, nullable=False),  # tasks, when its plan was committed
    sa.Column("waiting", sa.Integer, nullable=False),
    sa.Column("unplaceable", sa.Integer, nullable=False),
    sa.Column("took_ms", sa.Double, nullable=False),
    sa.Column("cost", sa.Double),  # of a large round: see core.round.Bound
    sa.Column("least", sa.Double),
    sa.Column("supply", sa.Text, nullable=False),  # `round_supply.hash`
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # wire.rounds.rest_part, zlib
    sa.Index("ix_round_at_ms", "at_ms"),
)

# Sites and pools, which stay from round to round.
round_supply = sa.Table(
    "round_supply",
    metadata,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # wire.rounds.supply_part, zlib
)

_HEAD = tuple(column for column in decided.c if column.name not in ("body", "bytes"))


def add(conn: sa.Connection, supplies: dict[str, bytes], rounds: Sequence[dict[str, object]]) -> None:
    """`supplies`: by hash, those of the rounds; they are written where they are not there."""
    there = set(conn.scalars(sa.select(round_supply.c.hash).where(round_supply.c.hash.in_(sorted(supplies)))))
    rows = [{"hash": n, "bytes": len(body), "body": body} for n, body in supplies.items() if n not in there]
    if rows:
        insert_ignore(round_supply).execute(conn, rows)
    if rounds:
        conn.execute(decided.insert(), list(rounds))


def trim(conn: sa.Connection, most: int, most_bytes: int) -> None:
    """Forget the oldest rounds but the newest `most`, fewer where those are more than `most_bytes`."""
    sizes = conn.execute(sa.select(decided.c.id, decided.c.bytes, decided.c.supply).order_by(decided.c.id.desc()))
    supplies = {row.hash: row.bytes for row in conn.execute(sa.select(round_supply.c.hash, round_supply.c.bytes))}
    total, last, kept = 0, None, set()
    for count, (number, size, supply) in enumerate(sizes, 1):
        total += size + (0 if supply in kept else supplies.get(supply, 0))
        if count > most or (total > most_bytes and count > 1):
            break
        kept.add(supply)
        last = number
    if last is not None:
        conn.execute(decided.delete().where(decided.c.id < last))
    gone = sorted(set(supplies) - kept)
    if gone:
        conn.execute(round_supply.delete().where(round_supply.c.hash.in_(gone)))


def page(conn: sa.Connection, before: int | None, limit: int) -> Sequence[sa.Row[Any]]:
    """Newest first, without their bodies."""
    query = sa.select(*_HEAD).order_by(decided.c.id.desc()).limit(limit)
    return conn.execute(query if before is None else query.where(decided.c.id < before)).all()


def find(conn: sa.Connection, number: int) -> sa.Row[Any] | None:
    return conn.execute(sa.select(decided).where(decided.c.id == number)).one_or_none()


def at(conn: sa.Connection, placed_ms: int, limit: int) -> Sequence[int]:
    """Rounds that may have placed a lease at `placed_ms`, likeliest first."""
    query = sa.select(decided.c.id).where(decided.c.at_ms <= placed_ms, decided.c.assigned > 0)
    return list(conn.scalars(query.order_by(decided.c.at_ms.desc(), decided.c.id.desc()).limit(limit)))


def supply(conn: sa.Connection, name: str) -> bytes | None:
    found = conn.scalar(sa.select(round_supply.c.body).where(round_supply.c.hash == name))
    return None if found is None else bytes(found)
