"""Sign-in by OpenID Connect: the authorization code flow with PKCE (RFC 7636), for a console and for command lines.

Who carries it makes a secret, keeps it in the browser (or in its own memory) and shows its SHA-256 at the beginning and
the secret itself at the end: an answer that was begun elsewhere is worth nothing. What is begun is a row that is taken
out by the first answer, so any replica may give the end of what another began.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from yunhe.core.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from yunhe.hub.accounts import id_token, identities, store
from yunhe.hub.accounts.id_token import Expected
from yunhe.hub.accounts.identities import Account, Entry
from yunhe.hub.accounts.provider import Metadata, Provider
from yunhe.hub.accounts.service import NewKey, digest
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.sign_in_settings import ProviderSettings

CALLBACK = "/sign-in/callback/"  # of the console, and the provider's id
LOOPBACK_CALLBACK = "/callback"  # of a command line


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send the browser, and how long what was begun lasts."""

    url: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Came:
    """What came back with the browser. `browser`: the secret whose SHA-256 was shown at the beginning."""

    state: str
    code: str
    browser: str
    issuer: str | None  # RFC 9207

    def __repr__(self) -> str:  # so that no log line ever carries them
        return "Came(...)"


class SignIn:
    """One per process. Raises InvalidInput for settings that cannot work."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._settings = platform.settings.sign_in
        self._providers = {each.id: Provider(each, platform.clock) for each in self._settings.providers}
        for each in self._settings.providers:
            each.client_secret()
            if each.ca_file is not None and not each.ca_file.is_file():
                raise InvalidInput(f"{each.ca_file} is not there", field=f"sign_in.providers.{each.id}.ca_file")

    def providers(self) -> tuple[ProviderSettings, ...]:
        return self._settings.providers

    def provider(self, provider_id: str) -> ProviderSettings:
        """Raises NotFound."""
        return self._provider(provider_id).settings

    async def begin(self, provider_id: str, browser_sha256: str, port: int | None) -> Begun:
        """`port`: of this machine's loopback, where a command line waits (RFC 8252); the console without.

        Raises NotFound, Conflict where the console has no public address, Unavailable.
        """
        provider = self._provider(provider_id)
        redirect_uri = self._redirect_uri(provider_id, port)
        metadata = await provider.metadata()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        expires_ms = self._platform.clock.now_ms() + self._settings.begun_ms
        row = store.SignInRow(digest(state), browser_sha256, provider_id, redirect_uri, nonce, verifier, expires_ms)
        await self._platform.write(identities.add_sign_ins, (row, self._settings.begun_at_once))
        return Begun(_address(metadata, provider.settings, row, state), expires_ms)

    async def finish(self, provider_id: str, came: Came) -> NewKey:
        """A session. Raises Unauthenticated, Forbidden for a person whom nobody let in, Unavailable."""
        provider = self._provider(provider_id)
        begun = await self._platform.write(identities.take_sign_ins, came.state)
        here = hmac.compare_digest(digest(came.browser), begun.browser_sha256)
        if not here or begun.provider != provider_id:
            raise Unauthenticated("this sign-in was begun elsewhere", hint="sign in again, in one browser")
        metadata = await provider.metadata()
        if came.issuer != provider.settings.issuer and (came.issuer is not None or metadata.names_issuer):
            raise Unauthenticated("another provider answered than the one that was asked", hint="sign in again")
        token = await provider.id_token(came.code, begun.verifier, begun.redirect_uri)
        claims = await self._verified(provider, token, begun.nonce)
        return await self._platform.write(identities.enter, self._entry(provider.settings, claims))

    async def _verified(self, provider: Provider, token: str, nonce: str) -> Mapping[str, Any]:
        settings = provider.settings
        expected = Expected(
            settings.issuer,
            settings.client_id,
            settings.audiences,
            nonce,
            self._platform.clock.now_ms(),
            self._settings.leeway_ms,
        )
        try:
            return id_token.verified(token, await provider.keys(), expected)
        except id_token.UnknownKey:
            pass
        try:
            return id_token.verified(token, await provider.newer_keys(), expected)
        except id_token.UnknownKey as error:
            raise id_token.refused("the provider does not show the key that signed it (kid)") from error

    def _entry(self, provider: ProviderSettings, claims: Mapping[str, Any]) -> Entry:
        return Entry(
            issuer=provider.issuer,
            subject=claims["sub"],
            label=_label(claims),
            admitted=not provider.email_domains or _domain(claims) in {each.lower() for each in provider.email_domains},
            granted=_granted(provider, claims),
            may_create=provider.newcomers == "create",
            session_ms=self._settings.session_ms,
            sessions_each=self._settings.sessions_each,
        )

    def _provider(self, provider_id: str) -> Provider:
        found = self._providers.get(provider_id)
        if found is None:
            known = ", ".join(self._providers) or "none"
            raise NotFound(f"there is no provider {provider_id}; there are: {known}", field="provider")
        return found

    def _redirect_uri(self, provider_id: str, port: int | None) -> str:
        """From the settings: nothing that a caller says makes another address than these two."""
        if port is not None:
            return f"http://127.0.0.1:{port}{LOOPBACK_CALLBACK}"
        if self._settings.console_url is None:
            hint = "the operator sets sign_in.console_url"
            raise Conflict("the hub does not know where the console is", hint=hint)
        return self._settings.console_url.rstrip("/") + CALLBACK + provider_id


def _address(metadata: Metadata, provider: ProviderSettings, begun: store.SignInRow, state: str) -> str:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": begun.redirect_uri,
        "scope": " ".join(provider.scopes),
        "state": state,
        "nonce": begun.nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    joint = "&" if "?" in metadata.authorization_endpoint else "?"
    return f"{metadata.authorization_endpoint}{joint}{urlencode(asked)}"


def _label(claims: Mapping[str, Any]) -> str:
    """What people call them: it decides nothing."""
    for name in ("preferred_username", "email", "name", "sub"):
        found = claims.get(name)
        if isinstance(found, str) and found.strip():
            return found.strip()
    return ""


def _domain(claims: Mapping[str, Any]) -> str | None:
    """Of an address of mail that the provider has checked; None without one."""
    address = claims.get("email")
    if not isinstance(address, str) or claims.get("email_verified") is not True:
        return None
    _, at, domain = address.rpartition("@")
    return domain.lower() if at else None


def _granted(provider: ProviderSettings, claims: Mapping[str, Any]) -> Account | None:
    for grant in provider.grants:
        if grant.claim == "email" and claims.get("email_verified") is not True:
            continue  # anybody may have typed it
        told = claims.get(grant.claim)
        if told == grant.value or (isinstance(told, list) and grant.value in told):
            return Account(grant.organisation, grant.role)
    return None
