"""How far a lease's transfers are, told to the hub now and then."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.spool import Staged

AGAIN_S = 60.0  # without news it is told so often: the hub waits for as long as it hears of a transfer


class Progress:
    """The sum over a lease's files of one phase ("in" or "out")."""

    def __init__(
        self, key: LeaseKey, phase: Literal["in", "out"], tell: Callable[[Staged], object], interval_ms: int
    ) -> None:
        self._tell = tell
        self._interval_s = interval_ms / 1000
        self._now = Staged(key, phase)
        self._told: Staged | None = None
        self._next = 0.0
        self._again = 0.0
        self._done: dict[str, int] = {}
        self._total: dict[str, int | None] = {}

    def part(self, name: str, total: int | None) -> Callable[[int, int | None], None]:
        """To be called with a file's bytes so far and its size, as they become known."""
        self._done[name], self._total[name] = 0, total
        self._say()

        def update(done: int, total: int | None) -> None:
            if done > self._done[name]:
                self._now = replace(self._now, problem="")
            self._done[name], self._total[name] = done, total
            self._say()

        return update

    def done(self, name: str) -> int:
        return self._done[name]

    def trouble(self, problem: str) -> None:
        self._now = replace(self._now, problem=problem[:300])
        self._say()

    def _say(self) -> None:
        known = [size for size in self._total.values() if size is not None]
        total = sum(known) if len(known) == len(self._total) else None
        self._now = replace(self._now, done_bytes=sum(self._done.values()), total_bytes=total)
        now = time.monotonic()
        if now < self._next or (self._now == self._told and now < self._again):
            return
        self._next, self._again = now + self._interval_s, now + AGAIN_S
        self._told = self._now
        self._tell(self._now)
