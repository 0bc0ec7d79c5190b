"""Requests to the API server, each bounded in time. A server that does not answer is Unavailable, never a refusal."""

import email.utils
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson

from yunhe.core.errors import Unavailable
from yunhe.site.drivers.kubernetes.access import Access, find
from yunhe.site.settings import KubernetesSettings

Object = dict[str, Any]
PAGE = 500  # objects of a list that are asked for at once
MERGE = "application/merge-patch+json"
CONNECTIONS = 24
# What the same request may get through with later. 401: a token that is being replaced; 409 is told apart by callers.
PASSING = (401, 408, 429)


class Refusal(Exception):
    """The server understood and says no. Never leaves the driver."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class KubeClient:
    """`open` reads the credentials; `clock_ms` is the server's clock as its answers tell it."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._limit_s = settings.request_limit_ms / 1000
        self._http: httpx.AsyncClient | None = None
        self._access: Access | None = None
        self._ahead_ms = 0  # of this host's clock
        self.minor = 0  # of the server's version 1.MINOR; 0: not known yet

    def open(self) -> None:
        """Raises InvalidInput for credentials that cannot be used."""
        access = find(self._settings.kubeconfig, self._settings.context)
        self._access = access
        self._http = httpx.AsyncClient(
            base_url=access.server,
            verify=access.tls,
            timeout=self._limit_s,
            trust_env=False,
            limits=httpx.Limits(max_connections=CONNECTIONS),
        )

    def account(self) -> tuple[str, str] | None:
        """Namespace and name of the agent's own service account; None where it is somebody else."""
        return self._access.account() if self._access else None

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()

    @property
    def clock_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._ahead_ms

    async def version(self) -> str:
        """As "1.28"."""
        info = await self.get("/version")
        minor = "".join(char for char in str(info.get("minor", "")) if char.isdecimal())
        self.minor = int(minor or 0)
        return f"{info.get('major')}.{self.minor}"

    async def get(self, path: str, **params: str) -> Object:
        return await self._call("GET", path, params=params)

    async def create(self, path: str, body: Mapping[str, Any]) -> bool:
        """False: it was there already. The server stops trying when this side does."""
        try:
            await self._call("POST", path, body, {"timeout": f"{self._settings.request_limit_ms}ms"})
        except Refusal as refusal:
            if refusal.status == 409:
                return False
            raise
        return True

    async def patch(self, path: str, body: Mapping[str, Any]) -> None:
        await self._call("PATCH", path, body)

    async def delete(self, path: str) -> bool:
        """With everything that belongs to it, and these first. False: there is no such thing."""
        try:
            await self._call("DELETE", path, {"propagationPolicy": "Foreground"})
        except Refusal as refusal:
            if refusal.status in (404, 409):
                return False
            raise
        return True

    async def has_group(self, group: str) -> bool:
        try:
            await self.get(f"/apis/{group}")
        except Refusal as refusal:
            if refusal.status == 404:
                return False
            raise
        return True

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, params: Mapping[str, str] | None = None
    ) -> Object:
        async with self.stream(method, path, params or {}, body) as response:
            try:
                value = orjson.loads(await response.aread())
            except httpx.HTTPError as error:
                raise Unavailable(f"Kubernetes: {type(error).__name__}") from error
            except orjson.JSONDecodeError as error:
                raise Unavailable("Kubernetes: an answer that is not JSON") from error
        if not isinstance(value, dict):
            raise Unavailable("Kubernetes: an answer that is no object")
        return value

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        silence_s: float | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """An answer, its body not read yet. Raises Refusal, and Unavailable also for one that ends halfway."""
        assert self._http is not None
        headers = {**self._auth(), "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = MERGE if method == "PATCH" else "application/json"
        timeout = httpx.Timeout(self._limit_s, read=silence_s or self._limit_s)
        content = None if body is None else orjson.dumps(body)
        try:
            async with self._http.stream(
                method, path, params=params, content=content, headers=headers, timeout=timeout
            ) as response:
                self._set_clock(response)
                if response.status_code >= 400:
                    await _raise(response)
                yield response
        except httpx.HTTPError as error:
            # Its text can hold the address with parameters; its name says enough.
            raise Unavailable(f"Kubernetes does not answer: {type(error).__name__}") from error

    def _auth(self) -> dict[str, str]:
        try:
            return self._access.headers() if self._access else {}
        except OSError as error:
            raise Unavailable(f"the token of the service account cannot be read: {error.strerror}") from error

    def _set_clock(self, response: httpx.Response) -> None:
        stamp = email.utils.parsedate_tz(response.headers.get("date", ""))
        if stamp is not None:
            # The header has whole seconds; half of one is the best guess.
            ahead = email.utils.mktime_tz(stamp) * 1000 + 500 - time.time_ns() // 1_000_000
            self._ahead_ms = 0 if abs(ahead) <= 1_000 else ahead


async def _raise(response: httpx.Response) -> None:
    text = (await response.aread())[:4000]
    try:
        message = str(orjson.loads(text).get("message", ""))[:400]
    except (orjson.JSONDecodeError, AttributeError):
        message = text.decode(errors="replace")[:200]
    status = response.status_code
    if status >= 500 or status in PASSING:
        raise Unavailable(f"Kubernetes answers {status}: {message}")
    raise Refusal(status, message or f"status {status}")
