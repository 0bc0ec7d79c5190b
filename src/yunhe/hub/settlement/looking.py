"""POST /v1/orders:look: what became of many orders, with what they used, in one call."""

from collections.abc import Mapping
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends

from yunhe.core.usage import Prefix
from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.metering import service as metering
from yunhe.hub.orders import following, looking
from yunhe.hub.orders.following import Follower
from yunhe.hub.orders.looking import Looked
from yunhe.hub.platform.context import Platform
from yunhe.wire.api import AttemptView, LookList, LookRequest, LookView


def router(platform: Platform, accounts: Accounts) -> APIRouter:
    api = APIRouter(tags=["orders"])
    Customer = Annotated[Principal, Depends(accounts.require("customer"))]

    @api.post("/v1/orders:look")
    async def look(wanted: LookRequest, who: Customer) -> LookList:
        """Own orders by their Idempotency-Keys; a key that made none is left out. Of an array the first task."""
        if wanted.follow is not None:
            me = Follower(who.organisation, wanted.follow.tag, wanted.follow.silence_ms)
            await platform.write(following.note, me)
        return await platform.read(lambda conn: _look(conn, who.organisation, wanted))

    return api


def _look(conn: sa.Connection, org: str, wanted: LookRequest) -> LookList:
    found = looking.by_keys(conn, org, wanted.keys)
    used = metering.prefixes(conn, [(item.task.lease_id, epoch) for item in found for epoch in item.placements])
    return LookList(orders=tuple(_view(item, used) for item in found))


def _view(item: Looked, used: Mapping[tuple[str, int], Prefix]) -> LookView:
    return LookView(
        key=item.key,
        order=item.order,
        task=item.task,
        attempts=tuple(_attempt(item, epoch, used[item.task.lease_id, epoch]) for epoch in sorted(item.placements)),
    )


def _attempt(item: Looked, epoch: int, prefix: Prefix) -> AttemptView:
    totals = prefix.totals
    return AttemptView(
        epoch=epoch,
        started=epoch in item.started,
        end_reason=item.placements[epoch].end_reason,
        wall_ms=totals.wall_ms,
        cpu_ms=totals.cpu_ms,
        peak_memory_bytes=totals.peak_memory_bytes,
        sampled=totals.sampled,
    )
