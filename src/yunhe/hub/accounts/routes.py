"""Organisations, keys, and who am I."""

from typing import Annotated

from fastapi import APIRouter, Depends, status

from yunhe.core import units
from yunhe.hub.accounts import administration, service
from yunhe.hub.accounts.service import Accounts, NewKey, Organisation, Principal
from yunhe.hub.platform.context import Platform
from yunhe.wire.api import (
    KeyCreated,
    KeyList,
    KeyRequest,
    KeyView,
    OrganisationChange,
    OrganisationList,
    OrganisationRequest,
    OrganisationView,
    WhoAmI,
)


def router(platform: Platform, accounts: Accounts) -> APIRouter:
    """Paths under /v1 of this room."""
    routes = APIRouter(prefix="/v1", tags=["accounts"])
    Anyone = Annotated[Principal, Depends(accounts.require("customer", "provider"))]
    Operator = Annotated[Principal, Depends(accounts.require("operator"))]

    @routes.post("/organisations", status_code=status.HTTP_201_CREATED)
    async def create_organisation(body: OrganisationRequest, principal: Operator) -> OrganisationView:
        wanted = Organisation(
            id=body.id,
            name=body.name,
            credit_limit_microcny=units.parse_money(body.credit_limit, "credit_limit"),
            quota_milli=None if body.quota_cores is None else round(body.quota_cores * 1000),
            weight=body.weight,
        )
        return organisation_view(await platform.write(administration.create_organisations, (principal, wanted)))

    @routes.patch("/organisations/{organisation_id}")
    async def change_organisation(
        organisation_id: str, body: OrganisationChange, principal: Operator
    ) -> OrganisationView:
        """Name, credit limit, quota, weight. With a quota below what is used nothing new is placed, and what runs goes
        on."""
        change = administration.Change(principal, organisation_id, administration.values_of(body))
        return organisation_view(await platform.write(administration.change_organisations, change))

    @routes.get("/organisations")
    async def list_organisations(principal: Anyone) -> OrganisationList:
        """All of them for an operator or auditor, otherwise one's own."""
        only = None if principal.sees_all else principal.organisation
        found = await platform.read(lambda conn: service.organisations(conn, only))
        return OrganisationList(organisations=tuple(organisation_view(item) for item in found))

    @routes.post("/keys", status_code=status.HTTP_201_CREATED)
    async def create_key(body: KeyRequest, principal: Operator) -> KeyCreated:
        wanted = NewKey(body.organisation, body.member, body.role)
        made = await platform.write(administration.create_keys, (principal, wanted))
        return KeyCreated(id=made.id, key=made.secret, role=made.role, organisation=made.organisation)

    @routes.get("/keys")
    async def list_keys(principal: Anyone) -> KeyList:
        only = None if principal.sees_all else principal.organisation
        now_ms = platform.clock.now_ms()
        found = await platform.read(lambda conn: service.keys(conn, now_ms, only))
        return KeyList(keys=tuple(key_view(key) for key in found))

    @routes.delete("/keys/{key_id}")
    async def revoke_key(key_id: str, principal: Anyone) -> KeyView:
        """Works at once here, and within 2 s at other replicas of the hub."""
        revoked = await platform.write(administration.revoke_keys, (principal, key_id))
        accounts.forget(key_id)
        return key_view(revoked)

    @routes.get("/whoami")
    async def whoami(principal: Anyone) -> WhoAmI:
        return WhoAmI(organisation=principal.organisation, member=principal.member, role=principal.role)

    return routes


def organisation_view(item: Organisation) -> OrganisationView:
    return OrganisationView(
        id=item.id,
        name=item.name,
        credit_limit_microcny=item.credit_limit_microcny,
        quota_milli=item.quota_milli,
        weight=item.weight,
        used_milli=item.used_milli,
    )


def key_view(key: service.Key) -> KeyView:
    return KeyView(
        id=key.id,
        organisation=key.organisation,
        member=key.member,
        role=key.role,
        created_utc_ms=key.created_ms,
        revoked_utc_ms=key.revoked_ms,
        expires_utc_ms=key.expires_ms,
    )
