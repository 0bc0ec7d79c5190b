"""Requests that come thousands of times a second, served beside the framework instead of through it.

Two thirds of the time of a small POST are the framework's own: routing, dependencies, exit stacks, response models.
An express handler gets the headers and the body and gives the answer; whatever is unusual about a request (another
content type, a query, a doubled header, a body that does not validate) it leaves to the route of the same address,
which stays the one description of the call, in the OpenAPI document too.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from yunhe.core.errors import TooLarge, YunheError
from yunhe.hub.platform.http import App, Receive, Scope, Send, mistake_response, problem_response

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parcel:
    """One request: headers by lower-case name, no name twice."""

    method: str
    target: str  # as it came over the wire
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes  # JSON


# None: the framework's route shall answer. Nothing may have been written then.
Handler = Callable[[Parcel], Awaitable[Reply | None]]
Handlers = Mapping[tuple[str, str], Handler]


class Express:
    """ASGI middleware, inside the frame that bounds bodies and numbers requests."""

    def __init__(self, app: App, handlers: Handlers) -> None:
        self._app = app
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._handlers.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        headers = _headers(scope) if handler is not None else None
        if handler is None or headers is None:
            await self._app(scope, receive, send)
            return
        request_id = str(scope.get("yunhe_request_id", ""))
        try:
            body = await _read(receive)
            reply = await handler(Parcel(scope["method"], scope["raw_path"].decode("ascii"), headers, body))
        except YunheError as error:
            await problem_response(error, request_id)(scope, receive, send)
            return
        except HTTPException as error:  # the frame's bound
            await problem_response(TooLarge(str(error.detail)), request_id)(scope, receive, send)
            return
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - told as such, as the framework's routes do
            await mistake_response(scope["method"], scope["path"], error, request_id)(scope, receive, send)
            return
        if reply is None:
            await self._app(scope, _again(body, receive), send)
            return
        length = str(len(reply.body)).encode()
        named = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": reply.status, "headers": named})
        await send({"type": "http.response.body", "body": reply.body})


def _headers(scope: Scope) -> dict[str, str] | None:
    """None for a request that is not plain: a query, a doubled header, something other than JSON."""
    pairs = scope["headers"]
    found = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
    plain = len(found) == len(pairs) and not scope["query_string"]
    return found if plain and found.get("content-type") == "application/json" else None


async def _read(receive: Receive) -> bytes:
    """The whole body. Raises what the frame raises for a body that is too large."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """The same body once more, for the framework's route."""
    given = False

    async def replay() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
