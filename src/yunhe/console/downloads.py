"""Files of an order, streamed through the console with the rights of the session."""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Annotated
from urllib.parse import quote

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from yunhe.console.asking import Asking
from yunhe.console.guard import session_of
from yunhe.core.errors import NotFound, RateLimited, Unauthenticated, Unavailable, YunheError
from yunhe.sdk.client import Client
from yunhe.wire.api import OutputView
from yunhe.wire.problem import STATUS

AT_ONCE = 8  # downloads of all users together; each holds a connection to the hub
_HEADERS = {"content-encoding": "identity", "cache-control": "no-store"}  # not packed once more

OrderId = Annotated[str, Path(max_length=80)]


def add_routes(web: FastAPI, asking: Asking) -> None:
    free = asyncio.Semaphore(AT_ONCE)

    @web.get("/orders/{order_id}/output")
    async def output(
        request: Request,
        order_id: OrderId,
        lease_id: Annotated[str, Query(max_length=80)],
        path: Annotated[str, Query(max_length=200)],
    ) -> Response:
        client = session_of(request.scope).client
        try:
            found = await asking.ask(client, lambda hub: _find(hub, order_id, lease_id, path))
            if client is None or free.locked():
                raise _too_many()
            await free.acquire()
            return await _opened(client, order_id, found, free)
        except YunheError as error:
            return _refusal(error)

    @web.get("/orders/{order_id}/log")
    async def log(request: Request, order_id: OrderId, task: Annotated[int, Query(ge=0, le=100_000)] = 0) -> Response:
        client = session_of(request.scope).client
        try:
            if client is None:
                raise Unauthenticated("sign in first", hint="")
            await asking.ask(client, lambda hub: hub.log_part(order_id, task=task))  # says now what can be wrong
            if free.locked():
                raise _too_many()
            await free.acquire()
        except YunheError as error:
            return _refusal(error)
        opened = ExitStack()
        opened.callback(free.release)
        headers = _HEADERS | {"content-disposition": _attachment(f"{order_id}.{task}.log")}
        return _Held(opened, client.log_chunks(order_id, task=task, follow=False), headers)


def _too_many() -> RateLimited:
    return RateLimited("too many downloads at once", hint="try again in a moment")


def _find(hub: Client, order_id: str, lease_id: str, path: str) -> OutputView:
    for output in hub.outputs(order_id):
        if (output.lease_id, output.path) == (lease_id, path) and output.stored:
            return output
    raise NotFound("this order has no such output here")


async def _opened(client: Client, order_id: str, output: OutputView, free: asyncio.Semaphore) -> Response:
    """The answer, whose first byte comes when the hub has said yes. Gives `free` back when it is over."""
    opened = ExitStack()
    try:
        pieces = await run_in_threadpool(opened.enter_context, client.output_stream(order_id, output))
    except BaseException:
        free.release()
        raise

    opened.callback(free.release)
    headers = _HEADERS | {
        "content-disposition": _attachment(output.path.rpartition("/")[2]),
        "content-length": str(output.size_bytes),
    }
    return _Held(opened, _checked(pieces, output), headers)


class _Held(StreamingResponse):
    """Closes what it streams from when it is over, also for a browser that went away before the first byte."""

    def __init__(self, opened: ExitStack, pieces: Iterator[bytes], headers: dict[str, str]) -> None:
        super().__init__(pieces, media_type="application/octet-stream", headers=headers)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._opened:
            await super().__call__(scope, receive, send)


def _checked(pieces: Iterator[bytes], output: OutputView) -> Iterator[bytes]:
    """The pieces, the last of them only when all have the SHA-256 that the site stated: else the download breaks."""
    digest, last = hashlib.sha256(), b""
    for piece in pieces:
        if last:
            yield last
        digest.update(piece)
        last = piece
    if digest.hexdigest() != output.sha256:
        raise Unavailable(f"{output.path}: what came is not what the site stored")
    if last:
        yield last


def _attachment(name: str) -> str:
    """RFC 6266: saved under this name, never shown as a page."""
    return f"attachment; filename*=utf-8''{quote(name, safe='')}"


def _refusal(error: YunheError) -> Response:
    said = f"{error.message}\n{error.hint}".strip()
    return PlainTextResponse(f"{said}\n", status_code=STATUS.get(type(error), 500))
