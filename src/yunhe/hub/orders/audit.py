"""GET /v1/events/latest: the log of facts from its end backwards, page by page."""

import re
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query

from yunhe.core.errors import InvalidInput
from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.orders import store
from yunhe.hub.orders.feed import Cursor
from yunhe.hub.platform.context import Platform
from yunhe.wire.api import EventPage, EventView

_CURSOR = re.compile(r"(\d{1,18})-(\d{1,18})", re.ASCII)
_fact, _lease = store.fact.c, store.lease.c


def router(platform: Platform, accounts: Accounts) -> APIRouter:
    api = APIRouter(tags=["orders"])
    Operator = Annotated[Principal, Depends(accounts.require("operator"))]

    @api.get("/v1/events/latest")
    async def latest(
        who: Operator,
        cursor: Annotated[str | None, Query(max_length=40)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> EventPage:
        """What happened to anybody's orders, newest first; for operators and auditors."""
        before = None if cursor is None else _read(cursor)
        rows = await platform.read(lambda conn: _rows(conn, before, limit + 1))
        shown = rows[:limit]
        return EventPage(events=tuple(shown), next_cursor=shown[-1].id if len(rows) > limit else None)

    return api


def _read(cursor: str) -> Cursor:
    """Raises InvalidInput for what is no event's id."""
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidInput("is no cursor of this list", field="cursor", hint="leave it out to begin again")
    return Cursor(int(found[1]), int(found[2]))


def _rows(conn: sa.Connection, before: Cursor | None, limit: int) -> list[EventView]:
    query = (
        sa.select(store.fact, _lease.site_id)
        .outerjoin(store.lease, sa.and_(_lease.lease_id == _fact.lease_id, _lease.epoch == _fact.epoch))
        .order_by(_fact.xact.desc(), _fact.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(sa.tuple_(_fact.xact, _fact.id) < sa.tuple_(*before))
    return [
        EventView(
            id=str(Cursor(row.xact, row.id)),
            at_utc_ms=row.at_ms,
            order_id=row.order_id,
            lease_id=row.lease_id,
            epoch=row.epoch,
            kind=row.kind,
            detail=row.detail,
            site_id=row.site_id,
        )
        for row in conn.execute(query)
    ]
