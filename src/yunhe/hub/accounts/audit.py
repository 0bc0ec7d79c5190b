"""What people changed: who, when, what, and how it was before and after. Append-only; no secret is ever in it."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query

from yunhe.core.errors import InvalidInput
from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.db import metadata
from yunhe.hub.platform.writer import Tx
from yunhe.wire.api import AuditPage, AuditView

Values = Mapping[str, str | int | bool | None]

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("organisation", sa.Text, nullable=False),  # of the caller
    sa.Column("member", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),  # "site.pause"
    sa.Column("subject", sa.Text, nullable=False),  # the id of what was changed
    sa.Column("before", sa.Text, nullable=False),  # JSON of the values that changed
    sa.Column("after", sa.Text, nullable=False),
    sa.Index("ix_audit_subject", "subject", "id"),
)


def record(tx: Tx, who: Principal, action: str, subject: str, before: Values, after: Values) -> None:
    """In the transaction that makes the change. Only values that differ are kept; the caller names no secret."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    tx.conn.execute(
        audit.insert().values(
            at_ms=tx.now_ms,
            organisation=who.organisation,
            member=who.member,
            role=who.role,
            key_id=who.key_id,
            action=action,
            subject=subject,
            before=_text({name: before[name] for name in names if name in before}),
            after=_text({name: after[name] for name in names if name in after}),
        )
    )


def _text(values: Values) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def latest(conn: sa.Connection, before: int | None, subject: str | None, limit: int) -> Sequence[sa.Row[Any]]:
    """Newest first."""
    query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.id < before)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    return conn.execute(query).all()


def router(platform: Platform, accounts: Accounts) -> APIRouter:
    api = APIRouter(tags=["accounts"])
    Operator = Annotated[Principal, Depends(accounts.require("operator"))]

    @api.get("/v1/audit")
    async def trail(
        who: Operator,
        subject: Annotated[str | None, Query(max_length=80)] = None,
        cursor: Annotated[str | None, Query(max_length=20)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> AuditPage:
        """What people changed, newest first: everything, or one site, organisation or key; for operators and
        auditors."""
        if cursor is not None and not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):
            raise InvalidInput("is no cursor of this list", field="cursor", hint="leave it out to begin again")
        before = None if cursor is None else int(cursor)
        rows = await platform.read(lambda conn: latest(conn, before, subject, limit + 1))
        shown = rows[:limit]
        following = str(shown[-1].id) if len(rows) > limit else None
        return AuditPage(entries=tuple(_view(row) for row in shown), next_cursor=following)

    return api


def _view(row: sa.Row[Any]) -> AuditView:
    return AuditView(
        id=row.id,
        at_utc_ms=row.at_ms,
        organisation=row.organisation,
        member=row.member,
        role=row.role,
        key_id=row.key_id,
        action=row.action,
        subject=row.subject,
        before=json.loads(row.before),
        after=json.loads(row.after),
    )
