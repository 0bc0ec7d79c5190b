"""Child processes that end with their parent: the parts of a network embedded in one command."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from yunhe.core.errors import Unavailable

_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 2_000


class Child:
    """One part, started at once. Its output goes to `log`; it is told to stop when this process dies."""

    def __init__(self, name: str, entry: str, arguments: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        """`entry` is `module:function`. Not run by `-m`: a worker that the child spawns would import it all again."""
        self.name = name
        self._log = log
        module, _, function = entry.partition(":")
        program = f"from {module} import {function}; {function}()"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **env},
                start_new_session=True,  # Ctrl-C is for the parent, which stops the parts in order
                preexec_fn=end_with_parent,
            )

    def check(self) -> None:
        """Raises Unavailable, with the end of its log, when the part has ended."""
        status = self._process.poll()
        if status is not None:
            raise Unavailable(f"{self.name} ended with status {status}", hint=f"{self._log}: {self.tail()}")

    def tail(self) -> str:
        try:
            return self._log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return ""

    def ask_to_stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self, until_s: float) -> None:
        """Until the monotonic time `until_s`; then it is killed."""
        try:
            self._process.wait(max(0.1, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


def end_with_parent() -> None:
    """To be called in a new child: it is told to stop when the thread that made it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
