"""Wake-up hints inside one process. A hint may be spurious or late, never the only way to learn of a change.

Use: register the waiter, THEN read, then wait; otherwise a change between the read and the wait is missed.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

MANY = ("order:", "log:")  # topics of single things: as many waiters as there are people waiting


class Waiter:
    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.topics: set[str] = set()  # that woke it since it was armed

    def wake(self, topic: str = "") -> None:
        self.topics.add(topic)
        self._event.set()

    def rearm(self) -> None:
        """Call before the next read when waiting in a loop."""
        self.topics.clear()
        self._event.clear()

    async def wait(self, timeout_s: float) -> bool:
        """True when woken, False after the timeout."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return False
        return True


class Signals:
    """Topics are short strings such as "round", "outbox", "order:ord_..."."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: dict[str, set[Waiter]] = defaultdict(set)
        self.closing = False

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    @contextmanager
    def waiting(self, *topics: str) -> Iterator[Waiter]:
        waiter = Waiter()
        for topic in topics:
            self._waiters[topic].add(waiter)
        try:
            yield waiter
        finally:
            for topic in topics:
                waiters = self._waiters[topic]
                waiters.discard(waiter)
                if not waiters:
                    del self._waiters[topic]

    def fire(self, topics: Iterable[str]) -> None:
        """On the event loop's thread."""
        for topic in topics:
            for waiter in self._waiters.get(topic, ()):
                waiter.wake(topic)

    def fire_shared(self) -> None:
        """Another replica wrote something: the loops of this one look again."""
        self.fire([topic for topic in self._waiters if not topic.startswith(MANY)])

    def fire_all(self) -> None:
        """As `fire_shared`, and everybody who waits for one order or one log."""
        self.fire(list(self._waiters))

    def close(self) -> None:
        """The process is about to stop: long polls look at `closing` and answer with what there is."""
        self.closing = True
        self.fire_all()

    def fire_from_thread(self, topics: Iterable[str]) -> None:
        if self._loop is not None:
            # The loop may be closing: then nobody waits any more, and what was committed stays so.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.fire, tuple(topics))
