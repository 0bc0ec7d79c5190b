"""How often one address may ask as nobody in particular, and may fail to sign in: a bucket that fills by itself."""

import time
from collections import OrderedDict

from starlette.requests import HTTPConnection

MAX_ADDRESSES = 20_000  # the least recently seen one is forgotten: it finds a full bucket


class Buckets:
    """Each holds `size` and fills by `per_s`. Times are monotonic seconds."""

    def __init__(self, size: float, per_s: float) -> None:
        self._size, self._per_s = size, per_s
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # how much, and when that was

    def empty(self, address: str, now_s: float | None = None) -> bool:
        return self._now(address, time.monotonic() if now_s is None else now_s) < 1

    def take(self, address: str, now_s: float | None = None) -> bool:
        """False when nothing is left; what is refused costs nothing, or who asks too fast would never get anything."""
        now_s = time.monotonic() if now_s is None else now_s
        left = self._now(address, now_s)
        self._left[address] = (left - 1 if left >= 1 else left, now_s)
        self._left.move_to_end(address)
        if len(self._left) > MAX_ADDRESSES:
            self._left.popitem(last=False)
        return left >= 1

    def _now(self, address: str, now_s: float) -> float:
        left, at_s = self._left.get(address, (self._size, now_s))
        return min(self._size, left + (now_s - at_s) * self._per_s)


def address_of(asked: HTTPConnection) -> str:
    """Who asks; behind a proxy of this machine, who asked it."""
    return asked.client.host if asked.client else ""
