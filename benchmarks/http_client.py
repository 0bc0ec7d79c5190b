"""A lean HTTP/1.1 client for load: one kept connection, one request at a time, no more parsing than is needed.

A general client costs about as much as the hub itself, and the figures would be half its own.
"""

import asyncio
from typing import cast

CRLF2 = b"\r\n\r\n"
LENGTH = b"content-length:"


class BadAnswer(Exception):
    """An answer that is no HTTP, or a connection that went away."""


class Connection(asyncio.Protocol):
    """Use `connect`; then `await send(request)` as often as wanted, one after the other."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._buffer = bytearray()

    @staticmethod
    async def connect(host: str, port: int) -> "Connection":
        _, protocol = await asyncio.get_running_loop().create_connection(Connection, host, port)
        return protocol

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """(status, body). Raises BadAnswer."""
        if self._transport is None:
            raise BadAnswer("the connection is closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without being a subclass

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(CRLF2)
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        at = head.find(LENGTH)
        if at < 0:
            self._fail("an answer without a length")
            return
        stop = head.find(b"\r\n", at)
        length = int(head[at + len(LENGTH) : stop if stop > 0 else None])
        whole = end + len(CRLF2) + length
        if len(self._buffer) < whole:
            return
        body = bytes(self._buffer[end + len(CRLF2) : whole])
        del self._buffer[:whole]
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(f"the hub closed the connection: {exc}")

    def _fail(self, why: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(BadAnswer(why))


def request(method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
    """The bytes of one request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: hub", f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + CRLF2 + body
