"""Instructions for sites, numbered per site in the transaction of their cause."""

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa
from pydantic import TypeAdapter

from yunhe.hub.orders import store
from yunhe.hub.platform import bulk
from yunhe.hub.platform.db import insert_ignore
from yunhe.hub.platform.writer import Tx
from yunhe.wire.link import SiteInstruction

MAX_ANSWER_CHARS = 4 * 1024 * 1024
OUTBOX = "outbox"  # topic: some site has a new instruction

_instruction: TypeAdapter[SiteInstruction] = TypeAdapter(SiteInstruction)


_STEP = (
    sa.update(store.outbox_head)
    .where(store.outbox_head.c.site_id == sa.bindparam("site"))
    .values(seq=store.outbox_head.c.seq + sa.bindparam("count", type_=sa.BigInteger))
    .returning(store.outbox_head.c.seq)
)


_HEADS = sa.select(store.outbox_head.c.site_id, store.outbox_head.c.seq).where(bulk.any_of(store.outbox_head.c.site_id))


_SEQ = {"seq"}


def append(tx: Tx, site_id: str, instructions: Sequence[SiteInstruction]) -> None:
    """Number and store them in order; their own `seq` is replaced."""
    bulk.write(tx.conn, adding(tx, {site_id: instructions}))


def adding(tx: Tx, instructions: Mapping[str, Sequence[SiteInstruction]]) -> bulk.Insert:
    """Number each site's instructions; `bulk.write` stores them, with other changes, in the same transaction."""
    rows = [
        {"site_id": site_id, "seq": seq, "body": _numbered(item, seq)}
        for site_id, items in sorted(instructions.items())
        if items
        for seq, item in enumerate(items, _first(tx, site_id, len(items)))
    ]
    if rows:
        tx.notify(OUTBOX)
    return bulk.Insert(store.instruction, rows)


def _numbered(item: SiteInstruction, seq: int) -> str:
    """As JSON; a copy of the message with its number would cost more than all else that is done for it."""
    return f'{{"seq":{seq},{item.model_dump_json(exclude=_SEQ)[1:]}'


def _first(tx: Tx, site_id: str, count: int) -> int:
    """The first of the site's next `count` numbers, which are taken."""
    values = {"site": site_id, "count": count}
    last = tx.conn.scalar(_STEP, values)
    if last is None:  # the site's first
        insert_ignore(store.outbox_head).execute(tx.conn, [{"site_id": site_id, "seq": 0}])
        last = tx.conn.execute(_STEP, values).scalar_one()
    return int(last) - count + 1


def after(conn: sa.Connection, site_id: str, seq: int, limit: int | None) -> tuple[SiteInstruction, ...]:
    """Instructions numbered above `seq`, in order; `limit` None: all."""
    rows = conn.execute(
        sa.select(store.instruction.c.body)
        .where(store.instruction.c.site_id == site_id, store.instruction.c.seq > seq)
        .order_by(store.instruction.c.seq)
        .limit(limit)
    )
    return tuple(_instruction.validate_json(row.body) for row in rows)


def texts_after(conn: sa.Connection, applied: Mapping[str, int], limit: int) -> dict[str, tuple[str, ...]]:
    """For each site and the last number that it holds: its later instructions as JSON, in order, at most `limit`."""
    newest = heads(conn, list(applied))
    instruction = store.instruction.c
    found: dict[str, tuple[str, ...]] = {}
    for site_id, seq in applied.items():
        if newest.get(site_id, 0) > seq:
            later = sa.select(instruction.body).where(instruction.site_id == site_id, instruction.seq > seq)
            found[site_id] = _cut(conn.scalars(later.order_by(instruction.seq).limit(limit)))
    return found


def _cut(texts: Iterable[str]) -> tuple[str, ...]:
    """As many as an answer may hold, one at least; the rest comes with the next poll."""
    kept: list[str] = []
    size = 0
    for text in texts:
        size += len(text)
        if kept and size > MAX_ANSWER_CHARS:
            break
        kept.append(text)
    return tuple(kept)


def heads(conn: sa.Connection, site_ids: Sequence[str]) -> dict[str, int]:
    """The number of the last instruction of each site; a site without any is absent."""
    return {row.site_id: row.seq for row in conn.execute(_HEADS, {"ids": list(site_ids)})}


def prune(tx: Tx, applied: Mapping[str, int]) -> None:
    """Forget what sites hold durably themselves."""
    for site_id, seq in sorted(applied.items()):
        tx.conn.execute(
            sa.delete(store.instruction).where(store.instruction.c.site_id == site_id, store.instruction.c.seq <= seq)
        )
