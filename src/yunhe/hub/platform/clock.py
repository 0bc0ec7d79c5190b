"""Time as a part that can be replaced: the hub never reads a clock elsewhere."""

import time
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """UTC milliseconds."""

    def observe(self, database_ms: int) -> None:
        """Take note of what the database's clock says now."""


class SystemClock:
    """This machine's."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def observe(self, database_ms: int) -> None:
        """Nothing: SQLite's clock is this machine's."""


class DatabaseClock:
    """The clock of the database that replicas share, so that they agree on the time whatever their machines say.

    Between two observations this machine's monotonic clock counts on.
    """

    def __init__(self, database_ms: int) -> None:
        self._ahead_ms = 0
        self.observe(database_ms)

    def now_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000 + self._ahead_ms

    def observe(self, database_ms: int) -> None:
        self._ahead_ms = database_ms - time.monotonic_ns() // 1_000_000
