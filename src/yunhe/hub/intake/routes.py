"""POST /v1/quotes, /v1/orders, /v1/orders:batch, and why an order is where it is."""

import hashlib
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Header, Request, Response

from yunhe.core.lifecycle import OrderState
from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.intake import service
from yunhe.hub.intake.explaining import quote_view, why
from yunhe.hub.intake.pricing import Pricer, canonical
from yunhe.hub.intake.service import Accepted, Submission
from yunhe.hub.orders import views
from yunhe.hub.orders.model import NewOrder
from yunhe.hub.orders.shapes import Shapes
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.disk import DiskGuard
from yunhe.wire.api import BatchAccepted, OrderBatch, OrderSpec, OrderView, QuoteView, WhyView

IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=100, pattern=r"^[\x21-\x7e]+$")]


def router(platform: Platform, accounts: Accounts, pricer: Pricer, shapes: Shapes, disk: DiskGuard) -> APIRouter:
    api = APIRouter(tags=["orders"])
    Customer = Annotated[Principal, Depends(accounts.require("customer"))]

    async def prepare(who: Principal, spec: OrderSpec, idem: tuple[str, str] | None) -> NewOrder:
        text = canonical(spec)
        priced = pricer.known(text.hash)
        if priced is None:
            priced = await platform.read(lambda conn: pricer.price(conn, spec, text.hash))
        return service.new_order(who, spec, text, priced, platform.clock.now_ms(), idem)

    @api.post("/v1/quotes")
    async def quote(spec: OrderSpec, who: Customer) -> QuoteView:
        """Ranked offers, and for each pool that does not fit the constraints that fail. Nothing is reserved."""
        return await platform.read(lambda conn: quote_view(*pricer.quote(conn, spec), spec))

    @api.post("/v1/orders", status_code=201)
    async def submit(
        spec: OrderSpec, who: Customer, response: Response, idempotency_key: IdempotencyKey = None
    ) -> OrderView:
        disk.check()
        idem = (idempotency_key, canonical(spec).body_sha) if idempotency_key else None
        order = await prepare(who, spec, idem)
        accepted = await platform.write(service.accept, Submission((order,)))
        if not accepted.fresh:
            response.status_code = 200
            return (await platform.read(lambda conn: views.order_views(conn, accepted.ids)))[0]
        return _fresh_view(order)

    @api.post("/v1/orders:batch", status_code=201)
    async def submit_batch(
        batch: OrderBatch, who: Customer, request: Request, idempotency_key: IdempotencyKey = None
    ) -> BatchAccepted:
        """Many orders in one transaction: all are accepted or none."""
        disk.check()
        sha = hashlib.sha256(await request.body()).hexdigest() if idempotency_key else ""
        orders = []
        for index, spec in enumerate(batch.orders):
            idem = (f"{idempotency_key}#{index}", sha) if idempotency_key else None
            orders.append(await prepare(who, spec, idem))
        accepted: Accepted = await platform.write(service.accept, Submission(tuple(orders)))
        return BatchAccepted(ids=accepted.ids)

    @api.get("/v1/orders/{order_id}/why")
    async def why_order(order_id: str, who: Customer) -> WhyView:
        def read(conn: sa.Connection) -> WhyView:
            views.check_sees(conn, who, order_id)
            return why(conn, order_id, pricer, shapes, platform.settings.policy, platform.clock.now_ms())

        return await platform.read(read)

    return api


def _fresh_view(order: NewOrder) -> OrderView:
    """What was just written, without asking the database for it."""
    return OrderView(
        id=order.id,
        name=order.spec.name,
        account=order.org,
        state=OrderState.OPEN,
        submitted_utc_ms=order.submitted_ms,
        ended_utc_ms=None,
        array=order.spec.array,
        tasks={"pending": order.spec.array},
        hold_microcny=order.hold_microcny,
        charged_microcny=0,
        settled=False,
    )
