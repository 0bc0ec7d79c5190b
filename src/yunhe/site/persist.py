"""What fails by a mistake, ours or a library's, is tried again before anybody is told."""

import logging
from collections.abc import Awaitable, Callable

from yunhe.site.link import Backoff

log = logging.getLogger(__name__)
TRIES = 5


async def persist(what: str, work: Callable[[], Awaitable[None]], backoff: Backoff) -> str:
    """Empty when `work` went through; else what the last of TRIES failed with."""
    for left in reversed(range(TRIES)):
        try:
            await work()
        except Exception as error:
            log.exception("%s: an unexpected error, %d tries are left", what, left)
            text = f"{type(error).__name__}: {error}"
        else:
            return ""
        if left:
            await backoff.wait()
    return text
