"""Sign-in through providers: by people without a key; and whom the operator linked."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, status

from yunhe.hub.accounts import identities
from yunhe.hub.accounts.identities import Identity, Link
from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.accounts.sign_in import Came, SignIn
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.throttle import Throttle
from yunhe.wire.api import (
    IdentityPage,
    IdentityView,
    LinkRequest,
    SessionCreated,
    SignedOut,
    SignInAnswer,
    SignInBegun,
    SignInProvider,
    SignInProviders,
    SignInRequest,
)

PAGE = 100
Limit = Annotated[int, Query(ge=1, le=1000)]


def router(platform: Platform, accounts: Accounts, sign_in: SignIn) -> APIRouter:
    routes = APIRouter(prefix="/v1")
    _people(routes, platform, accounts, sign_in)
    _operators(routes, platform, accounts, sign_in)
    return routes


def _people(routes: APIRouter, platform: Platform, accounts: Accounts, sign_in: SignIn) -> None:
    throttle = Throttle(platform.settings.sign_in.begun_per_minute, "too many sign-ins are begun from this address")

    @routes.get("/sign-in", tags=["facts"])
    async def providers() -> SignInProviders:
        """Through whom one can sign in; without a key."""
        found = tuple(SignInProvider(id=p.id, name=p.name, issuer=p.issuer) for p in sign_in.providers())
        return SignInProviders(providers=found)

    @routes.post("/sign-in/{provider}", tags=["facts"])
    async def begin(provider: str, body: SignInRequest, request: Request) -> SignInBegun:
        """Begin: where to send the browser; without a key."""
        throttle.check(request.client.host if request.client else "", platform.clock.now_ms())
        begun = await sign_in.begin(provider, body.browser_sha256, body.port)
        return SignInBegun(url=begun.url, expires_utc_ms=begun.expires_ms)

    @routes.post("/sign-in/{provider}/session", status_code=status.HTTP_201_CREATED, tags=["facts"])
    async def finish(provider: str, body: SignInAnswer) -> SessionCreated:
        """End it: a session for what the browser came back with, once; without a key."""
        made = await sign_in.finish(provider, Came(body.state, body.code, body.browser, body.issuer))
        return SessionCreated(
            id=made.id,
            key=made.secret,
            organisation=made.organisation,
            member=made.member,
            role=made.role,
            expires_utc_ms=made.expires_ms or 0,
        )

    @routes.post("/sign-out", tags=["accounts"])
    async def sign_out(principal: Annotated[Principal, Depends(accounts.anybody)]) -> SignedOut:
        """End the session by which this is asked."""
        await platform.write(identities.sign_out, principal)
        accounts.forget(principal.key_id)
        return SignedOut(signed_out=True)


def _operators(routes: APIRouter, platform: Platform, accounts: Accounts, sign_in: SignIn) -> None:
    Operator = Annotated[Principal, Depends(accounts.require("operator"))]

    @routes.post("/identities", tags=["accounts"], status_code=status.HTTP_201_CREATED)
    async def link(body: LinkRequest, principal: Operator) -> IdentityView:
        """Say for whom a person acts who signs in through a provider."""
        issuer = sign_in.provider(body.provider).issuer
        wanted = Link(issuer, body.subject, body.organisation, body.member, body.role, principal)
        return _identity(await platform.write(identities.link, wanted))

    @routes.get("/identities", tags=["accounts"])
    async def list_identities(
        principal: Operator, cursor: Annotated[str, Query(max_length=40)] = "", limit: Limit = PAGE
    ) -> IdentityPage:
        """Who is linked, or was let in; for operators and auditors."""
        found = await platform.read(lambda conn: identities.identities(conn, cursor, limit + 1))
        shown = found[:limit]
        following = shown[-1].id if len(found) > limit else None
        return IdentityPage(identities=tuple(_identity(item) for item in shown), next_cursor=following)

    @routes.delete("/identities/{identity_id}", tags=["accounts"])
    async def unlink(identity_id: str, principal: Operator) -> IdentityView:
        """Their sessions end within 2 s."""
        return _identity(await platform.write(identities.unlink, (principal, identity_id)))


def _identity(item: Identity) -> IdentityView:
    return IdentityView(
        id=item.id,
        issuer=item.issuer,
        subject=item.subject,
        organisation=item.organisation,
        member=item.member,
        role=item.role,
        source=item.source,
        since_utc_ms=item.since_ms,
        seen_utc_ms=item.seen_ms,
    )
