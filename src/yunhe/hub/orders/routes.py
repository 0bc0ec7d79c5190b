"""GET /v1/orders, one order, its end, and cancelling it."""

import time
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query

from yunhe.core.errors import InvalidInput
from yunhe.core.lifecycle import OrderState
from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.orders import events, views
from yunhe.hub.platform.context import Platform
from yunhe.wire.api import OrderDetail, OrderPage, OrderView
from yunhe.wire.message import NO_NUL

MAX_WAIT_MS = 60_000
RECHECK_S = 5.0  # a hint may be lost


def router(platform: Platform, accounts: Accounts) -> APIRouter:
    api = APIRouter(tags=["orders"])
    Customer = Annotated[Principal, Depends(accounts.require("customer"))]

    @api.get("/v1/orders")
    async def list_orders(
        who: Customer,
        state: Annotated[list[str] | None, Query(max_length=10)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str | None, Query(max_length=80)] = None,
        text: Annotated[str, Query(max_length=80, pattern=NO_NUL)] = "",
    ) -> OrderPage:
        """Newest first. `text` is looked for in names, and at the begin of ids."""
        unknown = [s for s in state or () if s not in list(OrderState)]
        if unknown:
            raise InvalidInput(
                f"there is no state {unknown[0]!r}", field="state", hint="one of " + ", ".join(OrderState)
            )
        org = None if who.sees_all else who.organisation
        return await platform.read(lambda conn: views.page(conn, org, state or [], limit, cursor, text))

    @api.get("/v1/orders/{order_id}")
    async def show_order(order_id: str, who: Customer) -> OrderDetail:
        def read(conn: sa.Connection) -> OrderDetail:
            views.check_sees(conn, who, order_id)
            return views.detail(conn, order_id)

        return await platform.read(read)

    @api.get("/v1/orders/{order_id}/wait")
    async def wait_order(
        order_id: str, who: Customer, timeout_ms: Annotated[int, Query(ge=0, le=MAX_WAIT_MS)] = 30_000
    ) -> OrderView:
        """The order when it has ended and is settled, or as it is after the time-out."""
        await platform.read(lambda conn: views.check_sees(conn, who, order_id))
        until = time.monotonic() + timeout_ms / 1000
        with platform.signals.waiting(f"order:{order_id}") as waiter:
            while True:
                waiter.rearm()
                over = await platform.read(lambda conn: views.is_over(conn, order_id))
                left = until - time.monotonic()
                if over or left <= 0 or platform.signals.closing:
                    return (await platform.read(lambda conn: views.order_views(conn, [order_id])))[0]
                await waiter.wait(min(left, RECHECK_S))

    @api.post("/v1/orders/{order_id}/cancel")
    async def cancel_order(order_id: str, who: Customer) -> OrderView:
        order = await platform.read(lambda conn: views.check_sees(conn, who, order_id))
        who.check_owns(order.org, f"order {order_id}")
        await platform.write(events.cancel_orders, order_id)
        return (await platform.read(lambda conn: views.order_views(conn, [order_id])))[0]

    return api
