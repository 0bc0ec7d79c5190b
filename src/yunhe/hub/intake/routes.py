"""POST /v1/quotes, /v1/orders, /v1/orders:batch, and why an order is where it is."""

from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Header, Request, Response

from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.intake.explaining import Explainer, quote_view, why
from yunhe.hub.intake.placed import Recall
from yunhe.hub.intake.pricing import canonical
from yunhe.hub.intake.submitting import MAX_KEY, Submitting
from yunhe.hub.orders import views
from yunhe.hub.orders.shapes import Shapes
from yunhe.wire.api import BatchAccepted, OrderBatch, OrderSpec, OrderView, QuoteView, WhyView

IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=MAX_KEY, pattern=r"^[\x21-\x7e]+$")]


def router(submitting: Submitting, accounts: Accounts, shapes: Shapes, recall: Recall) -> APIRouter:
    api = APIRouter(tags=["orders"])
    platform, pricer = submitting.platform, submitting.pricer
    explainer = Explainer(pricer, shapes, platform.settings.policy, recall)
    Customer = Annotated[Principal, Depends(accounts.require("customer"))]

    @api.post("/v1/quotes")
    async def quote(spec: OrderSpec, who: Customer) -> QuoteView:
        """Ranked offers, and for each pool that does not fit the constraints that fail. Nothing is reserved."""
        return await platform.read(lambda conn: quote_view(*pricer.quote(conn, spec), spec))

    # The two calls below have an express way (`submitting.express`); what is unusual comes here.
    @api.post("/v1/orders", status_code=201)
    async def submit(
        spec: OrderSpec, who: Customer, response: Response, idempotency_key: IdempotencyKey = None
    ) -> OrderView:
        view, fresh = await submitting.one(who, (spec, canonical(spec)), idempotency_key)
        if not fresh:
            response.status_code = 200
        return view

    @api.post("/v1/orders:batch", status_code=201)
    async def submit_batch(
        batch: OrderBatch, who: Customer, request: Request, idempotency_key: IdempotencyKey = None
    ) -> BatchAccepted:
        """Many orders in one transaction: all are accepted or none."""
        read = [(spec, canonical(spec)) for spec in batch.orders]
        return await submitting.batch(who, read, idempotency_key, await request.body())

    @api.get("/v1/orders/{order_id}/why")
    async def why_order(order_id: str, who: Customer) -> WhyView:
        def read(conn: sa.Connection) -> WhyView:
            views.check_sees(conn, who, order_id)
            return why(conn, order_id, explainer, platform.clock.now_ms())

        return await platform.read(read)

    return api
