"""A provider of OpenID Connect, asked over HTTPS: what it says of itself, its keys, an ID token for a code.

Every answer is bounded in time and size, no redirect is followed, and what was read is kept for a while. A provider
that fails is not asked again at once.
"""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

import httpx
import orjson
from joserfc.jwk import Key

from yunhe.core.errors import Unauthenticated, Unavailable, YunheError
from yunhe.hub.accounts import id_token
from yunhe.hub.platform.clock import Clock
from yunhe.hub.platform.sign_in_settings import ProviderSettings, is_loopback, is_safe_address

WELL_KNOWN = "/.well-known/openid-configuration"
KEPT_MS = 3_600_000  # a provider that changes its keys is noticed by a token of an unknown key
AGAIN_MS = 10_000  # after a failure, or for an unknown key, not more often
MAX_ANSWER_BYTES = 256 * 1024
AT_ONCE = 16  # questions to one provider


@dataclass(frozen=True, slots=True)
class Metadata:
    """Of OpenID Connect Discovery 1.0, what is used here."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    secret_in_body: bool  # client_secret_post, where basic is not offered
    names_issuer: bool  # RFC 9207


class Provider:
    """One per process and provider. Raises Unavailable when it does not answer as a provider does."""

    def __init__(self, settings: ProviderSettings, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self._tls: ssl.SSLContext | None = None
        self._free = asyncio.Semaphore(AT_ONCE)
        self._turn = asyncio.Lock()  # one reads what all wait for
        self._metadata: tuple[int, Metadata] | None = None
        self._keys: tuple[int, tuple[Key, ...]] | None = None
        self._failed: tuple[int, YunheError] | None = None

    async def metadata(self) -> Metadata:
        async with self._turn:
            known = self._metadata
            if known is None or not self._within(known[0], KEPT_MS):
                document = await self._fetch(self.settings.issuer.rstrip("/") + WELL_KNOWN)
                known = self._metadata = (self._clock.now_ms(), self._checked(document))
            return known[1]

    async def keys(self) -> tuple[Key, ...]:
        metadata = await self.metadata()
        async with self._turn:
            known = self._keys
            if known is None or not self._within(known[0], KEPT_MS):
                known = await self._fetch_keys(metadata)
            return known[1]

    async def newer_keys(self) -> tuple[Key, ...]:
        """For a token of a key that `keys` did not have: read again, but not again and again."""
        metadata = await self.metadata()
        async with self._turn:
            known = self._keys
            if known is None or not self._within(known[0], AGAIN_MS):
                known = await self._fetch_keys(metadata)
            return known[1]

    async def id_token(self, code: str, verifier: str, redirect_uri: str) -> str:
        """What the code stands for. Raises Unauthenticated when the provider does not take it."""
        metadata = await self.metadata()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "client_id": self.settings.client_id,
            "code_verifier": verifier,
        }
        headers = {}
        secret = self.settings.client_secret()
        if secret is not None and metadata.secret_in_body:
            form["client_secret"] = secret
        elif secret is not None:  # RFC 6749, 2.3.1
            pair = f"{quote_plus(self.settings.client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        status, answer = await self._ask("POST", metadata.token_endpoint, headers, form)
        if status != 200:
            raise self._not_taken(status, answer)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise self._unavailable("sent no ID token")
        return token

    async def _fetch_keys(self, metadata: Metadata) -> tuple[int, tuple[Key, ...]]:
        keys = id_token.read_keys(await self._fetch(metadata.jwks_uri))
        self._keys = (self._clock.now_ms(), keys)
        return self._keys

    async def _fetch(self, url: str) -> Mapping[str, Any]:
        if self._failed is not None and self._within(self._failed[0], AGAIN_MS):
            raise self._unavailable(self._failed[1].message)
        try:
            status, answer = await self._ask("GET", url, {}, None)
            if status != 200:
                raise self._unavailable(f"answered with HTTP {status}")
        except YunheError as error:
            self._failed = (self._clock.now_ms(), error)
            raise
        self._failed = None
        return answer

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> tuple[int, Mapping[str, Any]]:
        """Status and JSON object; an answer that is none is an empty one."""
        limit_s = self.settings.timeout_ms / 1000
        try:
            async with asyncio.timeout(limit_s), self._free:
                client = httpx.AsyncClient(
                    verify=await self._trust() if url.startswith("https:") else False,
                    trust_env=not is_loopback(url),  # a proxy of the environment cannot reach our loopback
                    timeout=limit_s,
                    follow_redirects=False,
                )
                sent = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
                async with client, client.stream(method, url, headers=sent, data=form) as answer:
                    body = await self._bounded(answer)
        except TimeoutError as error:
            raise self._unavailable("did not answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise self._unavailable(f"cannot be reached ({type(error).__name__})") from error
        try:
            found = orjson.loads(body)
        except ValueError:
            found = None
        return answer.status_code, found if isinstance(found, dict) else {}

    async def _bounded(self, answer: httpx.Response) -> bytes:
        """As it was sent: what is packed could become anything."""
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise self._unavailable("sent a packed answer")
        body = bytearray()
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise self._unavailable(f"sent more than {MAX_ANSWER_BYTES} bytes")
        return bytes(body)

    async def _trust(self) -> ssl.SSLContext:
        if self._tls is None:
            # Reading certificates takes tens of milliseconds.
            self._tls = await asyncio.to_thread(ssl.create_default_context, cafile=self.settings.ca_file)
        return self._tls

    def _checked(self, document: Mapping[str, Any]) -> Metadata:
        if document.get("issuer") != self.settings.issuer:
            raise self._unavailable("calls itself by another name than the setting `issuer`")
        inside = is_loopback(self.settings.issuer)
        places = [document.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
        for place in places:
            if not isinstance(place, str) or len(place) > 500 or not is_safe_address(place, loopback_too=inside):
                raise self._unavailable("names an address that is not https")
        ways = document.get("token_endpoint_auth_methods_supported")
        only_body = isinstance(ways, list) and "client_secret_basic" not in ways and "client_secret_post" in ways
        names_issuer = document.get("authorization_response_iss_parameter_supported") is True
        return Metadata(str(places[0]), str(places[1]), str(places[2]), only_body, names_issuer)

    def _not_taken(self, status: int, answer: Mapping[str, Any]) -> YunheError:
        told = answer.get("error")
        if told == "invalid_grant":
            return Unauthenticated("the provider does not take this code", hint="sign in again")
        known = told in ("invalid_request", "invalid_client", "unauthorized_client", "unsupported_grant_type")
        return self._unavailable(f"refused this hub with HTTP {status}" + (f" ({told})" if known else ""))

    def _unavailable(self, why: str) -> Unavailable:
        name = f"the provider {self.settings.id} "
        hint = "try again in a moment; if it fails again, tell the operator this sentence"
        return Unavailable(why if why.startswith(name) else name + why, field="provider", hint=hint)

    def _within(self, since_ms: int, limit_ms: int) -> bool:
        return 0 <= self._clock.now_ms() - since_ms < limit_ms
