"""The network as visitors see it: one stream from the hub for all open pages, and each is told when it has changed."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from yunhe.console.asking import Asking
from yunhe.console.stirring import Stirring
from yunhe.console.sums import Network, Seen
from yunhe.core.errors import Unavailable, YunheError
from yunhe.sdk.client import Client
from yunhe.wire.api import NetworkHistory

IDLE_S = 60.0  # so long after the last page the stream goes on: the next visitor finds the network there
PAUSES_S = (0.2, 0.5, 1.0, 2.0)  # before the stream is opened again
HISTORY_FRESH_S = 30.0

log = logging.getLogger(__name__)


class Live:
    """`seen`: the network as it was last told, None while nothing is known; `error`: why it may be old."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self.stirring = Stirring(asking)
        self._history_lock = asyncio.Lock()
        self._history: tuple[float, NetworkHistory] | None = None
        self.seen: Seen | None = None
        self.error: YunheError | None = None
        self._told: set[Callable[[], None]] = set()
        self._left_s = 0.0  # monotonic: when somebody last looked
        self._following = False

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """`changed` is called whenever `seen` or `error` is another one, until what is returned is called."""
        self._told.add(changed)
        if not self._following:
            self._start(asyncio.get_running_loop())

        def leave() -> None:
            self._told.discard(changed)
            self._left_s = time.monotonic()

        return leave

    async def history(self) -> NetworkHistory:
        """At most `HISTORY_FRESH_S` old. Raises errors of `core.errors`."""
        async with self._history_lock:
            if self._history is None or time.monotonic() - self._history[0] > HISTORY_FRESH_S:
                found = await self._asking.ask(self._asking.visitor, Client.network_history)
                self._history = (time.monotonic(), found)
            return self._history[1]

    # --- the stream, on a thread of its own ---------------------------------------------------------------------------

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._following = True
        threading.Thread(target=self._follow, args=(loop,), daemon=True).start()

    def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        tries = 0
        while not self._idle() and not self._asking.closed:
            network = Network()
            try:
                for change in self._asking.visitor.network_changes():
                    tries = 0
                    if change.whole or change.sites or change.gone:
                        _tell(loop, self._take, network.take(change), None)
                    if self._idle():
                        break
            except RuntimeError:  # the client was closed: the console ends
                break
            except YunheError as error:
                log.info("the stream of the network broke off: %s", error.message)
                tries = self._broke_off(loop, error, tries)
            except Exception:  # whatever it is, a page may not stand still without a word
                log.exception("the stream of the network")
                tries = self._broke_off(loop, Unavailable("the network cannot be shown"), tries)
        _tell(loop, self._rest, loop)

    def _broke_off(self, loop: asyncio.AbstractEventLoop, error: YunheError, tries: int) -> int:
        """Says so, and waits the longer, the more often it came; how often that is now."""
        _tell(loop, self._take, self.seen, error)
        time.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
        return tries + 1

    def _idle(self) -> bool:
        return not self._told and time.monotonic() - self._left_s > IDLE_S

    def _take(self, seen: Seen | None, error: YunheError | None) -> None:
        self.seen, self.error = seen, error
        for changed in tuple(self._told):
            changed()

    def _rest(self, loop: asyncio.AbstractEventLoop) -> None:
        """What is known gets old from now on: who looks next waits for what is new."""
        self._following, self.seen, self.error = False, None, None
        if self._told:  # somebody came meanwhile
            self._start(loop)


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[..., None], *values: object) -> None:
    with suppress(RuntimeError):  # the console ends
        loop.call_soon_threadsafe(what, *values)
