"""The site's side of the hub-site link over HTTP: every request signed, every call with a time limit."""

import asyncio
import random
import ssl
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlencode

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ValidationError

from yunhe.core.errors import InvalidInput, Refused, Unavailable
from yunhe.site.crash import CrashPoint, no_crash
from yunhe.wire import problem, signing
from yunhe.wire.api import Problem
from yunhe.wire.link import (
    Enrol,
    Enrolled,
    Hello,
    SealedSecrets,
    SecretsWanted,
    Sync,
    SyncAnswer,
    Welcome,
)

CONNECTIONS = 32
JSON = {"Content-Type": "application/json"}
BYTES = {"Content-Type": "application/octet-stream"}
Answer = TypeVar("Answer", bound=BaseModel)


class Link:
    """One site's connection. Raises the hub's own errors; a hub that cannot be reached is Unavailable."""

    def __init__(
        self,
        hub_url: str,
        site_id: str,
        key: Ed25519PrivateKey,
        timeout_ms: int,
        ca_file: Path | None = None,
        crash_point: CrashPoint = no_crash,
    ) -> None:
        self._site_id = site_id
        self._crash_point = crash_point
        self._key = key
        self._timeout = timeout_ms / 1000
        self.epoch = 0
        self.greeted = asyncio.Event()  # the hub has given this process its epoch; before it takes nothing else
        self._http = httpx.AsyncClient(
            base_url=hub_url.rstrip("/"),
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            verify=trust(hub_url, ca_file),
            trust_env=False,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def hello(self, hello: Hello) -> Welcome:
        return parsed(Welcome, await self._send("POST", "/v1/agent/hello", hello.model_dump_json().encode(), JSON))

    async def sync(self, sync: Sync) -> SyncAnswer:
        """One poll; the hub may hold it for `wait_ms`."""
        body = sync.model_dump_json().encode()
        return parsed(SyncAnswer, await self._send("POST", "/v1/agent/sync", body, JSON, sync.wait_ms / 1000))

    async def put_log(self, lease_id: str, epoch: int, offset: int, chunk: bytes) -> int:
        """The log's size at the hub afterwards. Raises Conflict when the hub has less than `offset`."""
        await self.greeted.wait()
        return _size(await self._send("PUT", f"{_log_path(lease_id, epoch)}?offset={offset}", chunk, BYTES))

    async def log_size(self, lease_id: str, epoch: int) -> int:
        await self.greeted.wait()
        return _size(await self._send("GET", _log_path(lease_id, epoch)))

    async def put_output(self, lease_id: str, epoch: int, chunk: bytes, fields: dict[str, str | int]) -> int:
        """`fields`: path, offset, total (bytes of the file) and sha256 (of the file)."""
        await self.greeted.wait()
        target = f"/v1/agent/outputs/{quote(lease_id, safe='')}/{epoch}?{urlencode(fields, quote_via=quote)}"
        return _size(await self._send("PUT", target, chunk, BYTES))

    async def probe(self, chunk: bytes) -> int:
        """Send bytes that nobody keeps; their number."""
        await self.greeted.wait()
        return _size(await self._send("PUT", "/v1/agent/probe", chunk, BYTES))

    async def secrets(self, lease_id: str, epoch: int, wanted: SecretsWanted) -> SealedSecrets:
        """Raises NotFound unless this site holds the lease and has not started it."""
        await self.greeted.wait()
        target = f"/v1/agent/secrets/{quote(lease_id, safe='')}/{epoch}"
        return parsed(SealedSecrets, await self._send("POST", target, wanted.model_dump_json().encode(), JSON))

    async def checkpoint(self, lease_id: str, epoch: int, offset: int) -> bytes:
        """A part of what attempt `epoch` saved; empty at its end. The caller checks the hash of the whole."""
        await self.greeted.wait()
        target = f"/v1/agent/checkpoints/{quote(lease_id, safe='')}/{epoch}?offset={offset}"
        return (await self._send("GET", target)).content

    async def bundle(self, sha256: str) -> bytes:
        """A JSON object, path -> text; the caller checks the hash."""
        return (await self._send("GET", f"/v1/agent/bundles/{sha256}")).content

    async def _send(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None, wait_s: float = 0
    ) -> httpx.Response:
        request = self._http.build_request(
            method,
            target,
            content=body,
            headers=headers,
            timeout=httpx.Timeout(self._timeout, read=self._timeout + wait_s),
        )
        path = request.url.raw_path.decode()
        signed = signing.signed_bytes(method, path, self._site_id, self.epoch, body)
        request.headers[signing.SITE_HEADER] = self._site_id
        request.headers[signing.EPOCH_HEADER] = str(self.epoch)
        request.headers[signing.SIGNATURE_HEADER] = signing.sign(self._key, signed)
        self._crash_point("link.before_send")
        try:
            # httpx limits each step; this limits the whole, against a peer that sends a byte now and then.
            async with asyncio.timeout(2 * self._timeout + wait_s):
                response = await self._http.send(request)
        except (httpx.TransportError, TimeoutError) as error:
            raise Unavailable(f"the hub cannot be reached: {type(error).__name__} {error}".rstrip()) from error
        self._crash_point("link.after_answer")
        return checked(response)


class Backoff:
    """Growing pauses with jitter, so that the sites of a hub that was restarted do not come back in step."""

    def __init__(self, first_ms: int, cap_ms: int) -> None:
        self._first = first_ms
        self._cap = cap_ms
        self._next = first_ms

    def reset(self) -> None:
        self._next = self._first

    async def wait(self) -> None:
        pause = random.uniform(0.5, 1.0) * self._next
        self._next = min(self._cap, self._next * 2)
        await asyncio.sleep(pause / 1000)


def trust(hub_url: str, ca_file: Path | None) -> ssl.SSLContext | bool:
    """The certificate authorities of this system, or only those of `ca_file` (PEM). Raises InvalidInput.

    False for a plain http address: loading them takes time and memory, and redirects are not followed.
    """
    if not hub_url.startswith("https:"):
        return False
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidInput(f"{ca_file} holds no certificates: {error}", field="ca_file") from error


def enrol(hub_url: str, request: Enrol, timeout_ms: int, ca_file: Path | None = None) -> Enrolled:
    """Ask for a place in the network with a one-time token. Raises the hub's errors, Unavailable without one."""
    try:
        with httpx.Client(
            base_url=hub_url.rstrip("/"), timeout=timeout_ms / 1000, verify=trust(hub_url, ca_file), trust_env=False
        ) as http:
            response = http.post("/v1/agent/enrol", content=request.model_dump_json(), headers=JSON)
    except httpx.TransportError as error:
        raise Unavailable(f"the hub cannot be reached: {error}") from error
    return parsed(Enrolled, checked(response))


def _log_path(lease_id: str, epoch: int) -> str:
    return f"/v1/agent/logs/{quote(lease_id, safe='')}/{epoch}"


def _size(response: httpx.Response) -> int:
    try:
        return int(response.json()["size"])
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"the hub's answer is not understood: {response.text[:100]}") from error


def checked(response: httpx.Response) -> httpx.Response:
    """The response, or the error that it carries."""
    if response.is_success:
        return response
    try:
        told = Problem.model_validate_json(response.content)
    except ValidationError:
        kind = Unavailable if response.status_code >= 500 else Refused
        raise kind(f"the hub answered {response.status_code} {response.reason_phrase}") from None
    raise problem.to_error(told)


def parsed(kind: type[Answer], response: httpx.Response) -> Answer:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise Unavailable(f"the hub's answer is not understood: {error.errors()[0]['msg']}") from error
