"""Rounds written down as they were decided, for `yunhe sim replay`. Off unless the operator names a file.

A record that cannot be written is told in the log and costs the hub nothing else.
"""

import logging
import os
from pathlib import Path

from yunhe.wire.rounds import RecordedRound, to_line

log = logging.getLogger(__name__)


class Recorder:
    """Appends to one file, up to a number of bytes."""

    def __init__(self, path: Path, cap_bytes: int) -> None:
        self._path = path
        self._cap_bytes = cap_bytes
        self._full = False

    def write(self, recorded: RecordedRound) -> None:
        """A whole line or nothing."""
        if self._full:
            return
        line = to_line(recorded)
        try:
            # Readable by its owner alone: it names customers and what they asked for.
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                before = os.fstat(handle).st_size
                if before + len(line) > self._cap_bytes:
                    self._full = True
                    log.warning("rounds are recorded no more: %s has reached %d bytes", self._path, self._cap_bytes)
                elif os.write(handle, line) < len(line):
                    os.ftruncate(handle, before)
                    raise OSError(f"{self._path}: written in part")
            finally:
                os.close(handle)
        except OSError as error:
            log.warning("a round could not be recorded: %s", error)
