"""Questions to the hub, off the event loop, a bounded number at once and each bounded in time."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from yunhe.console.settings import ConsoleSettings
from yunhe.core.errors import Unauthenticated, Unavailable
from yunhe.sdk.client import Client

Answer = TypeVar("Answer")


class Asking:
    """Calls of the SDK for pages. `visitor` is a client without a key."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings
        self._free = asyncio.Semaphore(settings.calls_at_once)
        self.visitor = self.client(None)
        self.closed = False

    def client(self, api_key: str | None) -> Client:
        return Client(self._settings.hub_url, api_key or "", timeout=self._settings.call_timeout_s, retries=1)

    async def ask(self, client: Client | None, call: Callable[[Client], Answer]) -> Answer:
        """Raises what the SDK raises; Unauthenticated for nobody; Unavailable when the console itself is too busy."""
        if client is None:
            raise Unauthenticated("sign in first")
        try:
            async with asyncio.timeout(self._settings.call_timeout_s * 2), self._free:
                return await asyncio.to_thread(call, client)
        except TimeoutError as error:
            raise Unavailable("the hub took too long", hint="try again in a moment") from error

    def close(self) -> None:
        self.closed = True
        self.visitor.close()
