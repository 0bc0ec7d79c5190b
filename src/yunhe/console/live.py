"""The network as visitors see it, asked of the hub once for all open pages."""

import asyncio
import time
from collections.abc import Callable

from yunhe.console.asking import Asking
from yunhe.console.sums import Seen
from yunhe.sdk.client import Client
from yunhe.wire.api import NetworkHistory

FRESH_S = 1.5
HISTORY_FRESH_S = 30.0


class Live:
    """Each question is asked at most once in its time, however many look."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        # Of each its own: one that takes long does not hold up the other.
        self._network_lock, self._history_lock = asyncio.Lock(), asyncio.Lock()
        self._network: tuple[float, str, Seen] | None = None
        self._history: tuple[float, NetworkHistory] | None = None

    async def network(self) -> Seen:
        """At most `FRESH_S` old; the same object as long as nothing changed. Raises errors of `core.errors`."""
        async with self._network_lock:
            if self._network is None or time.monotonic() - self._network[0] > FRESH_S:
                _, tag, seen = self._network or (0.0, "", None)
                found = await self._asking.ask(self._asking.visitor, _look(tag))
                if found is not None:
                    tag, seen = found
                assert seen is not None  # a hub that was given no tag answers in full
                self._network = (time.monotonic(), tag, seen)
            return self._network[2]

    async def history(self) -> NetworkHistory:
        """At most `HISTORY_FRESH_S` old. Raises errors of `core.errors`."""
        async with self._history_lock:
            if self._history is None or time.monotonic() - self._history[0] > HISTORY_FRESH_S:
                found = await self._asking.ask(self._asking.visitor, Client.network_history)
                self._history = (time.monotonic(), found)
            return self._history[1]


def _look(tag: str) -> Callable[[Client], tuple[str, Seen] | None]:
    """With the sums, which the thread that asks makes: pages do not wait for them."""

    def look(hub: Client) -> tuple[str, Seen] | None:
        found = hub.network_changed(tag)
        return None if found is None else (found[1], Seen.of(found[0].sites))

    return look
