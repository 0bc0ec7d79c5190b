"""One driver with a loop of its own, and words for jobs that every engine understands."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from tests.fakes.fake_hub import start_lease
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Driver, Isolation, Job, LeaseKey, Phase, Status
from yunhe.site.settings import DriverSettings
from yunhe.site.supervisor.records import boottime_ms

Result = TypeVar("Result")
QUICK = DriverSettings(
    cores_milli=1000, memory_bytes=512 << 20, usage_write_ms=50, term_grace_ms=300, sample_ms=20, pids_limit=40
)


class Harness:
    """One driver with a loop of its own, and words for jobs that every engine understands."""

    def __init__(self, make: Callable[[], Driver], scripted: bool, data_dir: Path) -> None:
        self._make = make
        self.scripted = scripted  # commands are a script of the fake driver, not programs
        self.data_dir = data_dir
        self._runner = asyncio.Runner()
        self.driver = make()
        self.isolation: Isolation = self.run(self.driver.open())
        self.keys: set[LeaseKey] = set()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(asyncio.wait_for(coroutine, 60))

    def reopen(self) -> None:
        """As a restarted agent would: a new driver over what is there. An engine in memory stays the same one."""
        if self.scripted:
            return
        self.run(self.driver.close())
        self.driver = self._make()
        self.run(self.driver.open())

    def command(self, say: str = "", run_ms: int = 0, write: tuple[str, str] | None = None, code: int = 0) -> Any:
        if self.scripted:
            words = ["run", str(run_ms), "exit", str(code)]
            words += ["say", say] if say else []
            words += ["write", *write] if write else []
            return tuple(words)
        lines = [f"echo {say}"] if say else []
        lines += [f"printf %s {write[1]} > {write[0]}"] if write else []
        lines += [f"sleep {run_ms / 1000}", f"exit {code}"]
        return ("sh", "-c", "; ".join(lines))

    def job(self, lease_id: str, command: tuple[str, ...], files: dict[str, str] | None = None, **changes: Any) -> Job:
        job = Job(start_lease(lease_id, command, **changes), boottime_ms(), files or {})
        self.keys.add(job.key)
        return job

    def submit(self, lease_id: str, command: tuple[str, ...], **changes: Any) -> LeaseKey:
        job = self.job(lease_id, command, **changes)
        self.run(self.driver.submit(job))
        return job.key

    def status(self, key: LeaseKey) -> Status:
        return self.run(self.driver.observe([key]))[key]

    def until(self, key: LeaseKey, phase: Phase, timeout_s: float = 40) -> Status:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            status = self.status(key)
            if status.phase is phase:
                return status
            time.sleep(0.005)
        raise AssertionError(f"{key} is not {phase} within {timeout_s} s: {self.status(key)}, {self.log(key)!r}")

    def ended(self, key: LeaseKey, timeout_s: float = 40) -> Status:
        return self.until(key, Phase.ENDED, timeout_s)

    def log(self, key: LeaseKey) -> bytes:
        return self.run(self.driver.logs(key, 0, 1 << 22))

    def do(self, lease_id: str, command: tuple[str, ...], **changes: Any) -> tuple[Status, str]:
        """Run to the end; how it ended, and its log."""
        key = self.submit(lease_id, command, **changes)
        return self.ended(key), self.log(key).decode(errors="replace")

    def lease_dir(self, key: LeaseKey) -> Path:
        return self.data_dir / "leases" / str(key)

    def supervisor_pid(self, key: LeaseKey) -> int:
        return int((self.lease_dir(key) / "claim").read_text().split()[0])

    def close(self) -> None:
        """Nothing runs any more, and nothing is left."""
        try:
            for key in self.keys:
                self.run(self.driver.cancel(key, EndReason.CANCELLED))
            for key in self.keys:
                if self.status(key).phase is not Phase.ABSENT:
                    self.ended(key)
                self.run(self.driver.forget(key))
        finally:
            self.run(self.driver.close())
            self._runner.close()
