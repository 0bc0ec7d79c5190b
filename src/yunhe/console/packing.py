"""Files that never change under their address are packed once, not for each visitor anew.

The library's scripts and styles are 2 MB: packing them takes a tenth of a second of the loop that serves every page.
"""

import gzip
from collections.abc import MutableSequence

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEPT_BYTES = 16 * 1024 * 1024  # packed, of all
PACKED = (b"text/", b"application/javascript", b"application/json", b"image/svg")
LEVEL = 6
_FOREVER = b"immutable"
_NOT_SAME = (b"content-length", b"content-encoding", b"vary")

Kept = tuple[list[tuple[bytes, bytes]], bytes]


class Packing:
    """ASGI middleware. What may change is packed as it comes."""

    def __init__(self, app: ASGIApp) -> None:
        self._plain, self._packed = app, GZipMiddleware(app, minimum_size=1_000, compresslevel=LEVEL)
        self._kept: dict[str, Kept] = {}
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith("/_nicegui/")
        asked = dict(scope.get("headers", ()))
        if not whole or b"gzip" not in asked.get(b"accept-encoding", b"") or b"range" in asked:
            await self._packed(scope, receive, send)
            return
        kept = self._kept.get(scope["path"])
        if kept is None:
            messages: list[Message] = []
            await self._plain(scope, receive, _into(messages))
            kept = self._pack(scope["path"], messages)
            if kept is None:
                for message in messages:
                    await send(message)
                return
        headers, body = kept
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _pack(self, path: str, messages: list[Message]) -> Kept | None:
        """None for what is no such file. Small ones are kept as they are: they cost nothing."""
        start = messages[0]
        headers = {name.lower(): value for name, value in start["headers"]}
        kind = headers.get(b"content-type", b"")
        if start["status"] != 200 or _FOREVER not in headers.get(b"cache-control", b"") or not kind.startswith(PACKED):
            return None
        body = gzip.compress(b"".join(message.get("body", b"") for message in messages[1:]), LEVEL)
        same = [(name, value) for name, value in start["headers"] if name.lower() not in _NOT_SAME]
        more = [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
        kept = [*same, *more, (b"content-length", str(len(body)).encode())], body
        if self._bytes + len(body) <= KEPT_BYTES:
            self._bytes += len(body)
            self._kept[path] = kept
        return kept


def _into(messages: MutableSequence[Message]) -> Send:
    async def keep(message: Message) -> None:
        messages.append(message)

    return keep
