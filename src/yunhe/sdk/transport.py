"""One HTTP call to the hub: its errors, its retries, its bounds. Nothing above this file knows httpx's errors."""

import os
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from yunhe.core import errors
from yunhe.sdk.config import DEFAULT_URL, Profile
from yunhe.wire.api import IdentityPage, OrderPage, PostingPage, Problem, SiteChargePage, SiteList
from yunhe.wire.api.orders import REVEAL
from yunhe.wire.problem import CONTENT_TYPE, to_error

Answer = TypeVar("Answer", bound=BaseModel)
Page = TypeVar("Page", IdentityPage, OrderPage, PostingPage, SiteChargePage, SiteList)
Row = TypeVar("Row")
Query = Mapping[str, str | int]

CA_FILE = "YUNHE_CA_FILE"
CONNECT_TIMEOUT_S = 5.0
# Pauses before the second, third and fourth try of an idempotent call; each is jittered by half.
BACKOFF_S = (0.1, 0.3, 0.9)
MAX_ERROR_BODY_BYTES = 64 * 1024
PAGE_ROWS = 200

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_BY_STATUS: dict[int, type[errors.YunheError]] = {
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.NotFound,
    413: errors.TooLarge,
    422: errors.InvalidInput,
    429: errors.RateLimited,
}


class Transport:
    """A connection pool to one hub. Raises only errors of `yunhe.core.errors`."""

    def __init__(self, profile: Profile, timeout: float, retries: int) -> None:
        """`timeout` is seconds of silence. Raises InvalidInput when the address is not an http(s) URL, or the key is
        not text that a header can have."""
        secure, loopback = _check_url(profile.url)
        self.profile = profile
        self.timeout = timeout
        self._pauses = BACKOFF_S[:retries]
        headers = {"User-Agent": "yunhe-sdk/1", "Accept": "application/json"}
        if profile.api_key:
            _check_key(profile.api_key)
            headers["Authorization"] = f"Bearer {profile.api_key}"
        self._http = httpx.Client(
            base_url=profile.url.rstrip("/"),
            headers=headers,
            timeout=self._limits(timeout),
            # Loading certificates takes tens of milliseconds; a plain http address never needs them, because
            # redirects are not followed.
            verify=_trust() if secure else False,
            # A proxy of the environment cannot reach this machine's own loopback.
            trust_env=not loopback,
        )

    def close(self) -> None:
        self._http.close()

    def get(self, answer: type[Answer], path: str, query: Query | None = None, hold: float = 0.0) -> Answer:
        """GET with retries; `hold` is how many seconds longer than usual the hub may take (a long poll)."""
        return self.read(answer, self.fetch(path, query, hold))

    def get_changed(self, answer: type[Answer], path: str, tag: str) -> tuple[Answer, str] | None:
        """GET with retries: the answer and the tag that names it; None when it is what `tag` named."""
        request = self._http.build_request("GET", path, headers={"If-None-Match": tag} if tag else {})
        response = self._send(request, again=True)
        if response.status_code == 304:
            return None
        return self.read(answer, response), response.headers.get("etag", "")

    def rows(
        self, page: type[Page], of: Callable[[Page], tuple[Row, ...]], path: str, query: Query, limit: int | None
    ) -> Iterator[Row]:
        """GET page by page; at most `limit` rows, each page's being those that `of` takes out of it."""
        cursor: dict[str, str] = {}
        left = limit
        while left is None or left > 0:
            size = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
            answer = self.get(page, path, {**query, **cursor, "limit": size})
            rows = of(answer)
            yield from rows
            if answer.next_cursor is None:
                return
            cursor = {"cursor": answer.next_cursor}
            left = None if left is None else left - len(rows)

    def fetch(self, path: str, query: Query | None = None, hold: float = 0.0) -> httpx.Response:
        """GET with retries, the raw answer."""
        request = self._http.build_request("GET", path, params=query, timeout=self._limits(self.timeout + hold))
        return self._send(request, again=True)

    def post(
        self,
        answer: type[Answer],
        path: str,
        body: BaseModel | None = None,
        *,
        key: str | None = None,
        again: bool = False,
    ) -> Answer:
        """POST; `again` says that the call may be repeated safely, an idempotency `key` makes it so."""
        return self.read(answer, self.change("POST", path, body, key=key, again=again))

    def change(
        self, method: str, path: str, body: BaseModel | None = None, *, key: str | None = None, again: bool = False
    ) -> httpx.Response:
        """PUT, POST or DELETE, the raw answer."""
        headers = {} if key is None else {"Idempotency-Key": key}
        content = b""
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = body.model_dump_json(exclude_none=True, context=REVEAL).encode()
        request = self._http.build_request(method, path, content=content, headers=headers)
        return self._send(request, again=again or key is not None)

    @contextmanager
    def stream(self, path: str, query: Query | None = None, hold: float = 0.0) -> Iterator[Iterator[bytes]]:
        """GET a large body piece by piece; not retried once it flows. `hold`: as in `get`, before each piece."""
        try:
            limits = self._limits(self.timeout + hold)
            with self._http.stream("GET", path, params=query, timeout=limits) as response:
                if response.status_code >= 400:
                    response.read()
                    raise self._error(response)
                yield response.iter_bytes()
        except httpx.RequestError as error:
            raise self._unreachable(error) from error

    def _send(self, request: httpx.Request, *, again: bool) -> httpx.Response:
        for pause in self._pauses if again else ():
            try:
                return self._once(request)
            except errors.Unavailable:
                time.sleep(pause * random.uniform(0.5, 1.5))
        return self._once(request)

    def _once(self, request: httpx.Request) -> httpx.Response:
        try:
            response = self._http.send(request)
        except httpx.RequestError as error:
            raise self._unreachable(error) from error
        if response.status_code >= 300 and not (response.status_code == 304 and "if-none-match" in request.headers):
            raise self._error(response)
        return response

    def read(self, answer: type[Answer], response: httpx.Response) -> Answer:
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise errors.Unavailable(
                f"the answer of {self.profile.url} is not understood: {where or 'body'}: {first['msg']}",
                hint="is this the address of a Yunhe hub, and of a version near this one?",
            ) from error

    def _error(self, response: httpx.Response) -> errors.YunheError:
        signing_in = response.request.url.path.startswith("/v1/sign-in/")  # that is done without a key
        if response.status_code == 401 and not self.profile.api_key and not signing_in:
            return errors.Unauthenticated(
                f"no key for this hub, {self.profile.url}",
                hint=f"`yunhe login {self.profile.url}` stores one, YUNHE_API_KEY gives one for a call",
            )
        if response.headers.get("content-type", "").startswith(CONTENT_TYPE):
            try:
                return to_error(Problem.model_validate_json(response.content[:MAX_ERROR_BODY_BYTES]))
            except ValidationError:
                pass  # told below as what it is: an answer that no hub gives
        kind = _BY_STATUS.get(response.status_code, errors.Unavailable)
        return kind(
            f"{self.profile.url} answered {response.request.method} {response.request.url.path} "
            f"with HTTP {response.status_code} and not as a Yunhe hub does",
            hint="check the address: `yunhe config` shows where it comes from",
        )

    def _unreachable(self, error: httpx.RequestError) -> errors.Unavailable:
        reason = (
            "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error) or type(error).__name__
        )
        return errors.Unavailable(
            f"no answer from the hub at {self.profile.url} (address from {self.profile.source}): {reason}",
            hint=f"name the authority that signed the hub's certificate: {CA_FILE}=ca.pem"
            if "CERTIFICATE_VERIFY_FAILED" in reason
            else "is the hub running? `yunhe up` starts a network here, `yunhe login` stores another address",
        )

    @staticmethod
    def _limits(seconds: float) -> httpx.Timeout:
        return httpx.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT_S))


def _trust() -> ssl.SSLContext:
    """The certificate authorities of this system, or only those that the environment names."""
    file = os.environ.get(CA_FILE) or None
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:  # ssl.SSLError is one
        raise errors.InvalidInput(f"{file} holds no certificates: {error}", field=CA_FILE) from error


def escaped(part: str) -> str:
    """One segment of a path: an id cannot reach another address."""
    return quote(part, safe="") if part.strip(".") else part.replace(".", "%2E")  # `..` would be the one above


def _check_key(key: str) -> None:
    """Raises InvalidInput, without showing the key."""
    if not (key.isascii() and key.isprintable()):
        raise errors.InvalidInput("is no key: it has characters that no key has", field="api_key")


def _check_url(url: str) -> tuple[bool, bool]:
    """Whether the address is https, and whether it is this machine's loopback. Raises InvalidInput."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # reading the port checks it
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as error:
        raise errors.InvalidInput(f"{url!r} is not an address: {error}", field="url") from error
    if parts.scheme not in ("http", "https") or not host:
        raise errors.InvalidInput(f"{url!r} is not an address such as {DEFAULT_URL}", field="url")
    return parts.scheme == "https", host in _LOOPBACK
