"""GET usage and charges of an order, invoices, and the hub's own figures."""

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path, Query

from yunhe.core.errors import Forbidden, InvalidInput
from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.ledger import service as ledger
from yunhe.hub.metering import service as metering
from yunhe.hub.orders import views
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.leader import Leader
from yunhe.hub.settlement import service
from yunhe.wire.api import ChargeView, HubStats, InvoiceLine, InvoiceView, PriceView, UsageList

MAX_INVOICE_LINES = 100_000


def router(platform: Platform, accounts: Accounts, lead: Leader) -> APIRouter:
    api = APIRouter(tags=["money"])
    Customer = Annotated[Principal, Depends(accounts.require("customer"))]
    Anyone = Annotated[Principal, Depends(accounts.require("customer", "provider"))]

    @api.get("/v1/orders/{order_id}/usage")
    async def usage(order_id: str, who: Customer) -> UsageList:
        """Signed usage records, and the charges with every input they were computed from."""

        def read(conn: sa.Connection) -> UsageList:
            views.check_sees(conn, who, order_id)
            charges = tuple(_charge_view(row) for row in service.charges_of_order(conn, order_id))
            return UsageList(usage=metering.of_order(conn, order_id), charges=charges)

        return await platform.read(read)

    @api.get("/v1/invoices/{month}")
    async def invoice(
        month: Annotated[str, Path(max_length=7)],
        who: Customer,
        organisation: Annotated[str | None, Query(max_length=80)] = None,
        cursor: Annotated[str | None, Query(max_length=80)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_INVOICE_LINES)] = MAX_INVOICE_LINES,
    ) -> InvoiceView:
        """What was charged in a month (UTC, "2026-11"). Usage that arrives late is billed in the month it is booked."""
        from_ms, to_ms = month_bounds(month)
        org = organisation or who.organisation
        if not who.sees(org):
            raise Forbidden("this is another organisation's invoice")

        def read(conn: sa.Connection) -> InvoiceView:
            following, rows = service.charges_of_org(conn, org, (from_ms, to_ms), cursor, limit)
            count, total = service.sum_of_org(conn, org, from_ms, to_ms)
            names = {view.id: view.name for view in views.order_views(conn, sorted({r.order_id for r in rows}))}
            lines = tuple(
                InvoiceLine(
                    order_id=row.order_id,
                    order_name=names.get(row.order_id, ""),
                    lease_id=row.lease_id,
                    epoch=row.epoch,
                    site_id=row.site_id,
                    price=price_of(row),
                )
                for row in rows
            )
            return InvoiceView(
                account=org, month=month, lines=lines, total_microcny=total, line_count=count, next_cursor=following
            )

        return await platform.read(read)

    @api.get("/v1/stats")
    async def stats(who: Anyone) -> HubStats:
        def read(conn: sa.Connection) -> HubStats:
            used = metering.totals(conn)
            return HubStats(
                orders=views.count_by_state(conn),
                usage_records=used.records,
                usage_gaps=used.gaps,
                usage_duplicates=used.duplicates,
                disputed=service.disputed_count(conn),
                postings=ledger.posting_count(conn),
                leader=lead.leading,
            )

        if not who.sees_all:
            raise Forbidden("the hub's figures are for operators and auditors")
        return await platform.read(read)

    return api


def month_bounds(month: str) -> tuple[int, int]:
    """[from, to) of a month in UTC ms. Raises InvalidInput for what is none."""
    match = re.fullmatch(r"(2\d{3})-(0[1-9]|1[0-2])", month)
    if match is None:
        raise InvalidInput(f"{month!r} is not a month", field="month", hint="for example 2026-11")
    year, number = int(match[1]), int(match[2])
    start = datetime(year, number, 1, tzinfo=UTC)
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return int(start.timestamp() * 1000), int(end.timestamp() * 1000)


def price_of(row: sa.Row[Any]) -> PriceView:
    parts = (row.compute_microcny, row.energy_microcny, row.transfer_microcny, row.line_microcny)
    return PriceView(
        compute_microcny=parts[0],
        energy_microcny=parts[1],
        transfer_microcny=parts[2],
        line_microcny=parts[3],
        total_microcny=sum(parts),
    )


def _charge_view(row: sa.Row[Any]) -> ChargeView:
    inputs = json.loads(row.inputs)
    delivered = {
        precision: flops * inputs["milli"] * inputs["wall_ms"] // 1_000_000
        for precision, flops in inputs["measured_flops"].items()
    }
    return ChargeView(
        lease_id=row.lease_id,
        epoch=row.epoch,
        site_id=row.site_id,
        price=price_of(row),
        operator_fee_microcny=row.fee_microcny,
        disputed=row.disputed,
        energy_mwh=row.energy_mwh,
        carbon_mg=row.carbon_mg,
        compute_delivered=delivered,
        inputs=inputs,
    )
