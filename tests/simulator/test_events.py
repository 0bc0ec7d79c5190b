"""The heap and its loop: order, feeds, bounds, and going on from a state."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from yunhe.core.errors import InvalidInput
from yunhe.simulator.events import Timeline

FIRST, SECOND = 0, 1


@dataclass
class Numbers:
    """A feed of given times."""

    times: tuple[int, ...]
    name: str = "numbers"

    def open(self, skip: int) -> Iterator[tuple[int, str]]:
        return ((at, f"n{i}") for i, at in enumerate(self.times) if i >= skip)


class Log:
    def __init__(self) -> None:
        self.seen: list[tuple[int, str, object]] = []
        self.timeline = Timeline((self.first, self.second))

    def first(self, now_ms: int, what: object) -> None:
        self.seen.append((now_ms, "first", what))

    def second(self, now_ms: int, what: object) -> None:
        self.seen.append((now_ms, "second", what))


def test_one_millisecond_goes_by_rank_and_then_as_scheduled() -> None:
    log = Log()
    for what in ("a", "b"):
        log.timeline.at(5, SECOND, what)
    log.timeline.at(5, FIRST, "c")
    log.timeline.at(1, SECOND, "d")
    assert log.timeline.run() is False
    assert log.seen == [(1, "second", "d"), (5, "first", "c"), (5, "second", "a"), (5, "second", "b")]


def test_what_is_scheduled_for_the_past_happens_now() -> None:
    log = Log()
    log.timeline.at(5, FIRST, "a")
    log.timeline.run()
    log.timeline.at(3, FIRST, "late")
    log.timeline.run()
    assert log.seen[-1] == (5, "first", "late")


def test_a_feed_keeps_one_event_in_the_heap() -> None:
    drawn = 0

    class Counting(Numbers):
        def open(self, skip: int) -> Iterator[tuple[int, str]]:
            nonlocal drawn
            for item in super().open(skip):
                drawn += 1
                yield item

    log = Log()
    log.timeline.feed(FIRST, Counting(tuple(range(1000))))
    log.timeline.run(until_ms=9)
    assert [at for at, _, _ in log.seen] == list(range(10))
    assert drawn == 11


def test_a_feed_that_goes_back_in_time_is_refused_by_name() -> None:
    log = Log()
    log.timeline.feed(FIRST, Numbers((1, 5, 3), name="trace.csv"))
    with pytest.raises(InvalidInput, match=r"trace\.csv: goes back in time, from 5 ms to 3 ms"):
        log.timeline.run()


def test_a_run_in_parts_is_the_run_in_one() -> None:
    """Stopped after every few events, written out, read again: nothing is lost, doubled or in another order."""
    feed = Numbers((1, 1, 2, 7, 7, 9))

    def filled() -> Log:
        log = Log()
        log.timeline.feed(FIRST, feed)
        for at in (7, 2, 9, 1):
            log.timeline.at(at, SECOND, f"s{at}")
        return log

    whole = filled()
    whole.timeline.run()
    part = filled()
    seen: list[tuple[int, str, object]] = []
    while part.timeline.run(at_most=3):
        seen += part.seen
        state = pickle.loads(pickle.dumps(part.timeline.state()))
        part = Log()
        part.timeline.restore(state, [(FIRST, feed)])
    assert seen + part.seen == whole.seen
    assert part.timeline.events == whole.timeline.events == 10
