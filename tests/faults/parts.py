"""Processes of the network that are killed and started again."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
CHECK_S = 0.05


def end_with_parent() -> None:
    """Nothing outlives a test that was killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Part:
    """One process, started again whenever it is gone, until `stop`."""

    def __init__(self, name: str, entry: str, arguments: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        """`entry` is `module:function`."""
        module, _, function = entry.partition(":")
        self.name = name
        self.log = log
        self.exits: Counter[int] = Counter()
        self.restart_after_s = 0.0  # how long the next pause before a start takes
        self.stopped = False  # by SIGSTOP
        self._command = [
            sys.executable,
            "-c",
            f"import sys; from {module} import {function}; sys.exit({function}())",
            *arguments,
        ]
        self._env = {**os.environ, **env}
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._spawn()
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    def _spawn(self) -> None:
        with self.log.open("ab") as output:
            output.write(f"--- started, {time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000} ms\n".encode())
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._env,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            assert self._process is not None
            status = self._process.poll()
            if status is None:
                continue
            self.exits[status] += 1
            self.stopped = False
            pause, self.restart_after_s = self.restart_after_s, 0.0
            await asyncio.sleep(pause)
            self._spawn()

    @property
    def pid(self) -> int | None:
        """None while it is gone."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def send(self, number: int) -> bool:
        """False when there is nothing to send it to."""
        pid = self.pid
        if pid is None:
            return False
        os.kill(pid, number)
        self.stopped = number == signal.SIGSTOP
        return True

    def kill(self, restart_after_s: float = 0.0) -> bool:
        self.restart_after_s = restart_after_s
        return self.send(signal.SIGKILL)

    def set_env(self, name: str, value: str) -> None:
        """For the next start."""
        self._env[name] = value

    async def stop(self, limit_s: float = 10.0) -> int | None:
        """SIGTERM, and the exit status; SIGKILL (and None) when that takes too long."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self.pid is None or self._process is None:
            return None
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        until = time.monotonic() + limit_s
        while self._process.poll() is None:
            if time.monotonic() > until:
                self._process.kill()
                self._process.wait(10)
                return None
            await asyncio.sleep(CHECK_S)
        return self._process.returncode
