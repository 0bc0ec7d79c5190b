"""A bad network between one site (or the customers) and the hubs: it cuts, delays, loses and doubles requests.

Every request travels on a connection of its own to one of the hubs. What befalls it is drawn from a seeded dice:

    lose the request          the hub never sees it
    lose the answer           the hub has done it, the sender does not know
    delay it, or its answer   others overtake it
    double it at once         the hub sees it twice, the sender gets the second answer
    double it later           the same bytes come again, when nobody expects them any more

A cut drops what is under way and refuses (or swallows) whatever comes until it ends.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

LATER_S = (0.05, 4.0)  # when a doubled request comes again
DELAY_S = (0.02, 1.0)
UPSTREAM_S = 30.0
MAX_HEAD = 64 * 1024


@dataclass(frozen=True, slots=True)
class Odds:
    """Probability of each mishap for one request."""

    lose_request: float = 0.01
    lose_answer: float = 0.01
    delay: float = 0.04
    double_now: float = 0.02
    double_later: float = 0.03


class Lost(Exception):
    """This request ends here: its connection is closed without an answer."""


class Proxy:
    def __init__(self, name: str, dice: random.Random, odds: Odds, hubs: Callable[[], list[int]]) -> None:
        """`hubs` gives the ports that a request may go to."""
        self.name = name
        self.port = 0
        self.did: Counter[str] = Counter()
        self._dice = dice
        self._odds = odds
        self._hubs = hubs
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._later: set[asyncio.Task[None]] = set()
        self._cut = ""  # "refuse" or "swallow" while the link is cut
        self._healed = asyncio.Event()
        self.calm = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=MAX_HEAD)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = [*self._open, *self._later]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def cut(self, seconds: float) -> None:
        """Nothing passes for so long."""
        self.did["cut"] += 1
        self._healed.clear()
        self._cut = self._dice.choice(("refuse", "swallow"))
        for task in list(self._open):
            task.cancel()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._cut = ""
            self._healed.set()

    # --- one connection, one request ----------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if self._cut == "swallow":
                await self._healed.wait()
                raise Lost
            if self._cut:
                raise Lost
            request = await _read_request(reader)
            writer.write(await self._pass(request))
            await writer.drain()
        except (Lost, OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            writer.transport.abort()  # a reset, as from a link that broke
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._open.discard(task)
            writer.close()

    async def _pass(self, request: bytes) -> bytes:
        dice, odds = self._dice, self._odds
        draws = {name: not self.calm and dice.random() < getattr(odds, name) for name in odds.__slots__}
        if draws["lose_request"]:
            self._note("lose_request")
        if draws["delay"]:
            self.did["delay"] += 1
            await asyncio.sleep(dice.uniform(*DELAY_S))
        if draws["double_now"]:
            self.did["double"] += 1
            await self._forward(request)
        if draws["double_later"]:
            self._spawn(self._again(request, dice.uniform(*LATER_S)))
        answer = await self._forward(request)
        if draws["lose_answer"]:
            self._note("lose_answer")
        return answer

    def _note(self, mishap: str) -> None:
        self.did[mishap] += 1
        raise Lost

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _again(self, request: bytes, after_s: float) -> None:
        await asyncio.sleep(after_s)
        try:
            await self._forward(request)
            self.did["double"] += 1
        except (OSError, EOFError, TimeoutError):
            self.did["double_lost"] += 1

    async def _forward(self, request: bytes) -> bytes:
        """To one of the hubs; the whole answer. Raises OSError when there is no hub, EOFError for half an answer."""
        port = self._dice.choice(self._hubs())
        async with asyncio.timeout(UPSTREAM_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                await writer.drain()
                answer = await reader.read()
            finally:
                writer.close()
        if not _whole(answer):
            raise EOFError
        return answer


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    """Head and body, told to use its connection once."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head[:-4].split(b"\r\n")
    length = int(_field(lines, b"content-length") or 0)
    body = await reader.readexactly(length) if length else b""
    kept = [line for line in lines if not line.lower().startswith((b"connection:", b"keep-alive:"))]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""]) + body


def _field(lines: list[bytes], name: bytes) -> bytes | None:
    for line in lines[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return None


def _whole(answer: bytes) -> bool:
    """A hub that was killed in the middle leaves a part."""
    head, gap, body = answer.partition(b"\r\n\r\n")
    if not gap:
        return False
    lines = head.split(b"\r\n")
    length = _field(lines, b"content-length")
    if length is None:
        return b"chunked" not in (_field(lines, b"transfer-encoding") or b"") or body.endswith(b"0\r\n\r\n")
    return len(body) == int(length)
