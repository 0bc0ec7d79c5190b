"""Answers that flow for as long as somebody listens: how many at once, and an end to those who do not read."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from yunhe.core.errors import RateLimited

RETRY_MS = 2_000  # what a browser is to wait before it comes back
BEAT_S = 15.0  # shorter than the idle limit of common proxies
SEND_S = 30.0  # a caller that takes nothing for so long has gone
MAX_STREAM_MS = 24 * 3_600_000


class Slots:
    """How many streams are open, in all and of each caller: an organisation, or an address."""

    def __init__(self, total: int, each: int) -> None:
        self._total, self._each = total, each
        self._open: Counter[str] = Counter()

    @contextmanager
    def taken(self, caller: str) -> Iterator[None]:
        """Raises RateLimited."""
        if self._open.total() >= self._total:
            raise RateLimited("too many streams of events are open at this hub", hint="try again later")
        if self._open[caller] >= self._each:
            raise RateLimited(
                f"{self._open[caller]} streams of events are open from where you call", hint="close one of them"
            )
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]


class EventStream(StreamingResponse):
    """Takes a slot for as long as it flows; a caller that does not read loses it."""

    media_type = "text/event-stream"

    def __init__(self, slots: Slots, caller: str, blocks: AsyncGenerator[bytes, None]) -> None:
        super().__init__(blocks, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._slots, self._caller, self._blocks = slots, caller, blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._slots.taken(self._caller):
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._blocks) as blocks:
            async for block in blocks:
                message = {"type": "http.response.body", "body": block, "more_body": True}
                await asyncio.wait_for(send(message), SEND_S)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
