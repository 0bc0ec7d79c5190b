"""How fast a file moves: units wait for it, so a source or a target that is too slow is given up."""

import time
from types import TracebackType

from yunhe.site.data.child import Progress
from yunhe.site.data.failure import Blame, TransferFailed


class Pace:
    """A file's progress, over all tries. Time counts inside the `with` only: the wait for a turn is the site's own.

    Called with the bytes so far. Raises TransferFailed (SITE) when fewer than `least_bytes_per_s` came over `over_ms`.
    """

    def __init__(self, tell: Progress, least_bytes_per_s: int, over_ms: int) -> None:
        self._tell = tell
        self._least = least_bytes_per_s
        self._over_s = over_ms / 1000
        self._since: float | None = None
        self._spent_s = 0.0
        self._before = 0  # bytes at the start of the time that is looked at

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._spend()
        self._since = None

    def __call__(self, done: int, total: int | None) -> None:
        self._tell(done, total)
        if self._since is None:
            return
        self._spend()
        self._before = min(self._before, done)  # from the start again
        if self._spent_s < self._over_s:
            return
        if done - self._before < self._least * self._spent_s:
            raise TransferFailed(Blame.SITE, f"slower than {self._least} bytes/s for {self._spent_s:.0f} s")
        self._spent_s, self._before = 0.0, done

    def _spend(self) -> None:
        if self._since is not None:
            now = time.monotonic()
            self._spent_s, self._since = self._spent_s + now - self._since, now
