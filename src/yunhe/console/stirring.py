"""That something happened to somebody's orders, as it happens: one stream for all pages of those with the same rights.

What is told is only that; each page then asks with the key of its own session.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from yunhe.console.asking import Asking
from yunhe.console.sessions import Session
from yunhe.core.errors import YunheError
from yunhe.sdk.client import Client

AGAIN_S = 2.0  # without a stream pages look so often: they say what is wrong, and are right when it is over

log = logging.getLogger(__name__)

Changed = Callable[[], None]
Rights = tuple[str, str]  # organisation, role


class Stirring:
    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._told: dict[Rights, dict[Changed, Session]] = {}

    def watch(self, session: Session, changed: Changed) -> Changed:
        """`changed` is called when something happened, until what is returned is called."""
        if session.who is None:
            return _nothing
        rights = session.who.organisation, session.who.role
        told = self._told.get(rights)
        if told is None:
            told = self._told[rights] = {}
            loop = asyncio.get_running_loop()
            threading.Thread(target=self._follow, args=(loop, rights, told), daemon=True).start()
        told[changed] = session

        def leave() -> None:
            told.pop(changed, None)

        return leave

    def _follow(self, loop: asyncio.AbstractEventLoop, rights: Rights, told: dict[Changed, Session]) -> None:
        """Until nobody with these rights looks any more."""
        missed = False  # what happened while there was no stream
        while not self._asking.closed:
            client = next((session.client for session in tuple(told.values()) if session.client), None)
            try:
                if client is not None:
                    self._stream(client, loop, told, missed)
            except (YunheError, RuntimeError) as error:  # RuntimeError: its session ended, and closed its client
                log.info("a stream of events broke off: %s", error)
            if not told:
                break
            missed = True
            _tell(loop, told)
            time.sleep(AGAIN_S)
        with suppress(RuntimeError):  # the console ends
            loop.call_soon_threadsafe(self._over, loop, rights, told)

    def _stream(
        self, client: Client, loop: asyncio.AbstractEventLoop, told: dict[Changed, Session], missed: bool
    ) -> None:
        for stirred in client.stirs():
            if stirred or missed:
                _tell(loop, told)
            missed = False
            if not told or self._asking.closed:
                return

    def _over(self, loop: asyncio.AbstractEventLoop, rights: Rights, told: dict[Changed, Session]) -> None:
        if told and not self._asking.closed:  # somebody came meanwhile
            threading.Thread(target=self._follow, args=(loop, rights, told), daemon=True).start()
        else:
            self._told.pop(rights, None)


def _tell(loop: asyncio.AbstractEventLoop, told: dict[Changed, Session]) -> None:
    def tell() -> None:
        for changed in tuple(told):
            changed()

    with suppress(RuntimeError):  # the console ends
        loop.call_soon_threadsafe(tell)


def _nothing() -> None:
    pass
