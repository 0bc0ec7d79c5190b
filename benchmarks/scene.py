"""What a benchmark is given to work with, and how it is kept within its time."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

DATABASE = "YUNHE_TEST_DATABASE_URL"


class NotMeasurable(Exception):
    """Something that is not installed here; the text says what and how to get it."""


class TookTooLong(Exception):
    """A benchmark ran over its bound."""


@dataclass(frozen=True)
class Scene:
    """One run: `quick` shortens everything (for a look, not for figures that are kept)."""

    seed: int
    quick: bool
    folder: Path
    console: Console

    def say(self, text: str) -> None:
        """A line of progress."""
        self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim]   {text}", highlight=False)

    def seconds(self, full: float, quick: float) -> float:
        return quick if self.quick else full

    def postgresql(self) -> str:
        """URL of the private server that `tools/with-postgresql.sh --durable` runs."""
        url = os.environ.get(DATABASE)
        if url is None:
            raise NotMeasurable(
                "PostgreSQL is not installed: sudo apt-get install -y --no-install-recommends postgresql-15"
            )
        return url

    def subfolder(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))


@contextmanager
def bounded(limit_s: float) -> Iterator[None]:
    """Raises TookTooLong in the main thread after `limit_s` seconds, so that what was started is also stopped."""

    def over(_signal: int, _frame: FrameType | None) -> None:
        raise TookTooLong(f"stopped after {limit_s:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
