"""Calls about signing in through providers."""

import hashlib
from collections.abc import Iterator

from yunhe.sdk.checked import checked
from yunhe.sdk.transport import Transport, escaped
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


class SignInCalls:
    _transport: Transport

    def sign_in_providers(self) -> tuple[SignInProvider, ...]:
        return self._transport.get(SignInProviders, "/v1/sign-in").providers

    def begin_sign_in(self, provider: str, browser: str, port: int | None = None) -> SignInBegun:
        """Where to send the browser. `browser`: a random secret that stays here until the end: its SHA-256 is sent.
        `port`: of the loopback, where this process waits for the answer; the hub's console does without."""
        shown = hashlib.sha256(browser.encode()).hexdigest()
        body = checked(SignInRequest, {"browser_sha256": shown, "port": port})
        return self._transport.post(SignInBegun, f"/v1/sign-in/{escaped(provider)}", body, again=True)

    def finish_sign_in(
        self, provider: str, browser: str, state: str, code: str, issuer: str | None = None
    ) -> SessionCreated:
        """A session for what the browser came back with; its key is used as an API key. Works once."""
        body = checked(SignInAnswer, {"state": state, "code": code, "browser": browser, "issuer": issuer})
        return self._transport.post(SessionCreated, f"/v1/sign-in/{escaped(provider)}/session", body)

    def sign_out(self) -> SignedOut:
        """Ends the session that this client calls with. Raises Conflict for an API key."""
        return self._transport.post(SignedOut, "/v1/sign-out", again=True)

    def link_identity(self, provider: str, subject: str, organisation: str, member: str, role: str) -> IdentityView:
        """Say for whom a person acts who signs in through a provider. For operators."""
        values = {
            "provider": provider,
            "subject": subject,
            "organisation": organisation,
            "member": member,
            "role": role,
        }
        return self._transport.post(IdentityView, "/v1/identities", checked(LinkRequest, values), again=True)

    def identities(self, limit: int | None = None) -> Iterator[IdentityView]:
        """Who is linked or was let in, page by page. For operators and auditors."""
        return self._transport.rows(IdentityPage, lambda page: page.identities, "/v1/identities", {}, limit)

    def unlink_identity(self, identity_id: str) -> IdentityView:
        """Their sessions end. For operators."""
        response = self._transport.change("DELETE", f"/v1/identities/{escaped(identity_id)}", again=True)
        return self._transport.read(IdentityView, response)
