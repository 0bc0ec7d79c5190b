"""One heap of what is going to happen, and the loop that walks it.

Time is an integer of milliseconds.  Two events of one millisecond come by their rank (the position of their handler),
two of one rank in the order in which they were scheduled; so equal inputs give equal runs.  What comes from outside
(a trace of a million jobs) is fed: of every feed only its next event lies in the heap.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

from yunhe.core.errors import InvalidInput

Handler = Callable[[int, Any], None]  # (now_ms, what was scheduled)
Entry = tuple[int, int, int, Any, int]  # (at_ms, rank, number, what, feed or NO_FEED); a plain tuple is made fastest

NO_FEED = -1


class Feed(Protocol):
    """Events from outside, by their time."""

    @property
    def name(self) -> str:
        """For an error that the feed causes."""
        ...

    def open(self, skip: int) -> Iterator[tuple[int, Any]]:
        """(at_ms, what) in the order of time, without the first `skip`."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """All that a loop has to keep to go on later. Plain values, and whatever was scheduled."""

    now_ms: int
    number: int
    events: int
    heap: tuple[Entry, ...]
    drawn: tuple[int, ...]  # of each feed


class Timeline:
    """`handlers[rank]` is called for every event of that rank. `now_ms` is the time of the event being handled."""

    def __init__(self, handlers: Sequence[Handler], now_ms: int = 0) -> None:
        self.now_ms = now_ms
        self.events = 0  # that were handled
        self._handlers = tuple(handlers)
        self._heap: list[Entry] = []
        self._number = 0
        self._feeds: list[tuple[int, Feed, Iterator[tuple[int, Any]]]] = []  # rank, feed, what of it is still to come
        self._drawn: list[int] = []

    def at(self, at_ms: int, rank: int, what: Any) -> None:
        """Schedule an event; one in the past happens now."""
        self._number += 1
        heappush(self._heap, (max(at_ms, self.now_ms), rank, self._number, what, NO_FEED))

    def feed(self, rank: int, source: Feed) -> None:
        """Let the events of `source` happen in their time."""
        self._feeds.append((rank, source, source.open(0)))
        self._drawn.append(0)
        self._draw(len(self._feeds) - 1)

    def run(self, until_ms: int | None = None, at_most: int | None = None) -> bool:
        """Handle events up to and at `until_ms`, and no more than `at_most`; False: there was nothing left to handle.

        Raises InvalidInput when a feed goes back in time; whatever a handler raises passes through.
        """
        heap, handlers = self._heap, self._handlers
        last_ms = until_ms if until_ms is not None else (1 << 62)
        left = at_most if at_most is not None else (1 << 62)
        while heap and heap[0][0] <= last_ms:
            if left == 0:
                return True
            left -= 1
            at_ms, rank, _, what, feed = heappop(heap)
            self.now_ms = at_ms
            if feed >= 0:
                self._draw(feed)
            handlers[rank](at_ms, what)
            self.events += 1
        return False

    def state(self) -> State:
        return State(self.now_ms, self._number, self.events, tuple(self._heap), tuple(self._drawn))

    def restore(self, state: State, feeds: Sequence[tuple[int, Feed]]) -> None:
        """Go on from `state`, with the same `feeds` (rank and source) in the same order."""
        if len(feeds) != len(state.drawn):
            raise InvalidInput(f"the state has {len(state.drawn)} feeds, not {len(feeds)}", field="feeds")
        self.now_ms, self._number, self.events = state.now_ms, state.number, state.events
        self._heap = list(state.heap)
        heapify(self._heap)
        self._drawn = list(state.drawn)
        self._feeds = [
            (rank, source, source.open(drawn)) for (rank, source), drawn in zip(feeds, state.drawn, strict=True)
        ]

    def _draw(self, index: int) -> None:
        """Put the next event of a feed into the heap."""
        rank, source, items = self._feeds[index]
        found = next(items, None)
        if found is None:
            return
        at_ms, what = found
        if at_ms < self.now_ms:
            raise InvalidInput(f"goes back in time, from {self.now_ms} ms to {at_ms} ms", field=source.name)
        self._drawn[index] += 1
        self._number += 1
        heappush(self._heap, (at_ms, rank, self._number, what, index))
