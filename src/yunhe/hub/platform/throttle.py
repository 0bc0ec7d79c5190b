"""How often one address may call what is open to callers without a key."""

from yunhe.core.errors import RateLimited

WINDOW_MS = 60_000
ADDRESSES = 10_000


class Throttle:
    """At most `calls` of one address in a minute; kept in this process alone."""

    def __init__(self, calls: int, refused: str) -> None:
        self._most = calls
        self._refused = refused
        self._calls: dict[str, int] = {}
        self._window = 0

    def check(self, address: str, now_ms: int) -> None:
        """Raises RateLimited, saying `refused`."""
        window = now_ms // WINDOW_MS
        if window != self._window or len(self._calls) >= ADDRESSES:
            self._calls, self._window = {}, window
        self._calls[address] = self._calls.get(address, 0) + 1
        if self._calls[address] > self._most:
            raise RateLimited(self._refused, hint="try again in a minute")
