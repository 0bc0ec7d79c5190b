"""Sites, pools, enrolment, and the public facts."""

from collections import defaultdict
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, status
from sqlalchemy import Connection

from yunhe.core.errors import NotFound
from yunhe.core.supply import SiteState
from yunhe.facts import load
from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.catalogue import enrolment, service, views
from yunhe.hub.catalogue.records import LISTED, PoolRecord, SiteFilter, SiteRecord
from yunhe.hub.catalogue.service import SiteChange
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.throttle import Throttle
from yunhe.wire.api import (
    EnrolmentToken,
    EnrolmentTokenRequest,
    FactTable,
    PoolList,
    SiteList,
    SiteTariff,
    SiteTerms,
    SiteView,
)
from yunhe.wire.link import Enrol, Enrolled
from yunhe.wire.message import NO_NUL

# Enrolling is open to callers without a key, so guesses at tokens are slowed down. A token has 256 random bits.
ENROL_CALLS = 30  # of one address in a minute
MAX_SITES = 1_000  # of one page


def router(platform: Platform, accounts: Accounts) -> APIRouter:
    """Paths under /v1 of this room."""
    routes = APIRouter(prefix="/v1")
    routes.include_router(_sites(platform, accounts))
    routes.include_router(_changes(platform, accounts))
    routes.include_router(_enrolment(platform, accounts))
    routes.include_router(_facts())
    return routes


# --- reading ------------------------------------------------------------------------------------------------------


def _sites(platform: Platform, accounts: Accounts) -> APIRouter:
    routes = APIRouter(tags=["catalogue"])
    Anyone = Annotated[Principal, Depends(accounts.require("customer", "provider"))]

    @routes.get("/sites")
    async def list_sites(
        principal: Anyone,
        provider: Annotated[str | None, Query(max_length=80, pattern=NO_NUL)] = None,
        state: SiteState | None = None,
        cursor: Annotated[str, Query(max_length=80, pattern=NO_NUL)] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_SITES)] = MAX_SITES,
    ) -> SiteList:
        """By id: all that one may know of, or those of one provider or in one state."""
        seen_by = None if principal.sees_all else principal.organisation
        wanted = SiteFilter(provider, state, seen_by, cursor, limit + 1)
        found, pools = await platform.read(lambda conn: service.find_sites(conn, wanted))
        shown = found[:limit]
        by_site = defaultdict(list)
        for pool in pools:
            by_site[pool.site_id].append(pool)
        following = shown[-1].id if len(found) > limit else None
        return SiteList(sites=tuple(_view(platform, site, by_site[site.id]) for site in shown), next_cursor=following)

    @routes.get("/sites/{site_id}")
    async def show_site(site_id: str, principal: Anyone) -> SiteView:
        def read(conn: Connection) -> tuple[SiteRecord, list[PoolRecord]]:
            return service.site(conn, site_id), service.list_pools(conn, site_id)

        site, pools = await platform.read(read)
        if not visible(site, principal):
            raise NotFound(f"site {site_id} is not known")
        return _view(platform, site, pools)

    @routes.get("/pools")
    async def list_pools(principal: Anyone) -> PoolList:
        sites, pools = await platform.read(_everything)
        by_id = {site.id: site for site in sites if visible(site, principal)}
        now_ms = platform.clock.now_ms()
        hours = {site_id: views.hours_view(site, now_ms) for site_id, site in by_id.items()}
        of = ((pool, pool.site_id) for pool in pools if pool.site_id in by_id)
        return PoolList(pools=tuple(views.pool_view(pool, by_id[site_id], hours[site_id]) for pool, site_id in of))

    return routes


def _everything(conn: Connection) -> tuple[list[SiteRecord], list[PoolRecord]]:
    return service.list_sites(conn), service.list_pools(conn)


def visible(site: SiteRecord, principal: Principal) -> bool:
    """Whether the caller may know of the site."""
    return site.state in LISTED or principal.sees(site.provider)


def _view(platform: Platform, site: SiteRecord, pools: list[PoolRecord]) -> SiteView:
    settings, now_ms = platform.settings, platform.clock.now_ms()
    connected = site.connected(now_ms, settings.silent_after_ms)
    return views.site_view(site, pools, connected, settings.policy.route_factor_percent, now_ms)


# --- changing -----------------------------------------------------------------------------------------------------


def _changes(platform: Platform, accounts: Accounts) -> APIRouter:
    routes = APIRouter(prefix="/sites/{site_id}", tags=["catalogue"])
    Operator = Annotated[Principal, Depends(accounts.require("operator"))]
    Provider = Annotated[Principal, Depends(accounts.require("provider"))]

    async def change(wanted: SiteChange) -> SiteView:
        site = await platform.write(service.change_sites, wanted)
        pools = await platform.read(lambda conn: service.list_pools(conn, site.id))
        return _view(platform, site, pools)

    @routes.post("/approve")
    async def approve(site_id: str, principal: Operator, body: SiteTerms | None = None) -> SiteView:
        return await change(SiteChange(principal, site_id, "approve", body or SiteTerms()))

    @routes.put("/terms")
    async def set_terms(site_id: str, principal: Operator, body: SiteTerms) -> SiteView:
        return await change(SiteChange(principal, site_id, "terms", body))

    @routes.put("/tariff")
    async def set_tariff(site_id: str, principal: Provider, body: SiteTariff) -> SiteView:
        """By the operator or the site's provider; for what is placed from now on."""
        return await change(SiteChange(principal, site_id, "tariff", tariff=body))

    @routes.post("/pause")
    async def pause(site_id: str, principal: Provider) -> SiteView:
        return await change(SiteChange(principal, site_id, "pause"))

    @routes.post("/resume")
    async def resume(site_id: str, principal: Provider) -> SiteView:
        return await change(SiteChange(principal, site_id, "resume"))

    @routes.post("/certify")
    async def certify(site_id: str, principal: Operator) -> SiteView:
        """Have the site measured again when its turn comes and it has room."""
        return await change(SiteChange(principal, site_id, "certify"))

    @routes.post("/leave")
    async def leave(site_id: str, principal: Provider) -> SiteView:
        return await change(SiteChange(principal, site_id, "leave"))

    return routes


# --- enrolment ----------------------------------------------------------------------------------------------------


def _enrolment(platform: Platform, accounts: Accounts) -> APIRouter:
    routes = APIRouter(tags=["catalogue"])
    Operator = Annotated[Principal, Depends(accounts.require("operator"))]
    throttle = Throttle(ENROL_CALLS, "too many attempts to enrol")

    @routes.post("/enrolment-tokens", status_code=status.HTTP_201_CREATED)
    async def create_token(body: EnrolmentTokenRequest, principal: Operator) -> EnrolmentToken:
        made = await platform.write(enrolment.issue_tokens, (principal, body.provider))
        return EnrolmentToken(token=made.secret, expires_utc_ms=made.expires_ms)

    @routes.post("/agent/enrol")
    async def enrol(body: Enrol, request: Request) -> Enrolled:
        """Open to callers without a key: the token is the proof."""
        throttle.check(request.client.host if request.client else "", platform.clock.now_ms())
        return await platform.write(enrolment.enrol_many, body)

    return routes


# --- facts --------------------------------------------------------------------------------------------------------


def _facts() -> APIRouter:
    routes = APIRouter(tags=["facts"])

    @routes.get("/chips")
    async def chips() -> FactTable:
        return FactTable(rows=load.table("chips"))

    @routes.get("/clusters")
    async def clusters() -> FactTable:
        return FactTable(rows=load.table("clusters"))

    @routes.get("/factors")
    async def factors() -> FactTable:
        """Emission factors of the grids."""
        return FactTable(rows=load.table("carbon_factors"))

    @routes.get("/places")
    async def places() -> FactTable:
        return FactTable(rows=load.table("places"))

    return routes
