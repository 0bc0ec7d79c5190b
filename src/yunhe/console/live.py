"""The network as visitors see it, asked of the hub once for all open pages."""

import asyncio
import time

from yunhe.console.asking import Asking
from yunhe.sdk.client import Client
from yunhe.wire.api import NetworkHistory, NetworkView

FRESH_S = 1.5
HISTORY_FRESH_S = 30.0


class Live:
    """Each question is asked at most once in its time, however many look."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._lock = asyncio.Lock()
        self._network: tuple[float, NetworkView] | None = None
        self._history: tuple[float, NetworkHistory] | None = None

    async def network(self) -> NetworkView:
        """At most `FRESH_S` old. Raises errors of `core.errors`."""
        async with self._lock:
            if self._network is None or time.monotonic() - self._network[0] > FRESH_S:
                found = await self._asking.ask(self._asking.visitor, Client.network)
                self._network = (time.monotonic(), found)
            return self._network[1]

    async def history(self) -> NetworkHistory:
        """At most `HISTORY_FRESH_S` old. Raises errors of `core.errors`."""
        async with self._lock:
            if self._history is None or time.monotonic() - self._history[0] > HISTORY_FRESH_S:
                found = await self._asking.ask(self._asking.visitor, Client.network_history)
                self._history = (time.monotonic(), found)
            return self._history[1]
