"""GET what ran at a site and what it earned: for the site's provider. No customer is named."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path, Query

from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.platform.context import Platform
from yunhe.hub.settlement import service, store
from yunhe.hub.settlement.routes import month_bounds, price_of
from yunhe.wire.api import RevenueView, SiteChargePage, SiteChargeView, SiteRevenue

DAY_MS = 86_400_000
_charge = store.charge.c


def router(platform: Platform, accounts: Accounts) -> APIRouter:
    api = APIRouter(prefix="/v1/sites/{site_id}", tags=["money"])
    Provider = Annotated[Principal, Depends(accounts.require("provider"))]

    @api.get("/charges")
    async def charges(
        site_id: str,
        who: Provider,
        disputed: bool = False,
        cursor: Annotated[str | None, Query(max_length=80)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> SiteChargePage:
        """Newest first; with `disputed` only those."""

        def read(conn: sa.Connection) -> SiteChargePage:
            _check(conn, who, site_id)
            following, rows = service.charges_of_site(conn, site_id, disputed, cursor, limit)
            return SiteChargePage(charges=tuple(_view(row) for row in rows), next_cursor=following)

        return await platform.read(read)

    @api.get("/revenue/{month}")
    async def revenue(site_id: str, month: Annotated[str, Path(max_length=7)], who: Provider) -> SiteRevenue:
        """Sums of each day of a month (UTC, "2026-11")."""
        from_ms, to_ms = month_bounds(month)

        def read(conn: sa.Connection) -> SiteRevenue:
            _check(conn, who, site_id)
            return SiteRevenue(site_id=site_id, month=month, days=_days(conn, site_id, from_ms, to_ms))

        return await platform.read(read)

    return api


def _check(conn: sa.Connection, who: Principal, site_id: str) -> None:
    """Raises NotFound for a site that is not there or another provider's."""
    who.check_sees(catalogue.site(conn, site_id).provider, f"site {site_id}")


def _view(row: sa.Row[Any]) -> SiteChargeView:
    inputs, price = json.loads(row.inputs), price_of(row)
    return SiteChargeView(
        at_utc_ms=row.at_ms,
        lease_id=row.lease_id,
        epoch=row.epoch,
        site_id=row.site_id,
        units_milli=inputs["milli"],
        wall_ms=inputs["wall_ms"],
        price=price,
        operator_fee_microcny=row.fee_microcny,
        earned_microcny=price.total_microcny - row.fee_microcny,
        energy_mwh=row.energy_mwh,
        disputed=row.disputed,
    )


def _days(conn: sa.Connection, site_id: str, from_ms: int, to_ms: int) -> tuple[RevenueView, ...]:
    day = (_charge.at_ms // DAY_MS).label("day")
    query = (
        sa.select(
            day,
            sa.func.count().label("charges"),
            sa.func.sum(sa.case((_charge.disputed, 1), else_=0)).label("disputed"),
            sa.func.sum(store.TOTAL).label("total"),
            sa.func.sum(_charge.fee_microcny).label("fee"),
            sa.func.sum(_charge.energy_mwh).label("energy"),
        )
        .where(_charge.site_id == site_id, _charge.at_ms >= from_ms, _charge.at_ms < to_ms)
        .group_by(day)
        .order_by(day)
    )
    return tuple(
        RevenueView(
            day=f"{datetime.fromtimestamp(row.day * DAY_MS / 1000, UTC):%Y-%m-%d}",
            charges=row.charges,
            disputed=int(row.disputed),
            charged_microcny=int(row.total),
            operator_fee_microcny=int(row.fee),
            earned_microcny=int(row.total) - int(row.fee),
            energy_mwh=int(row.energy),
        )
        for row in conn.execute(query)
    )
