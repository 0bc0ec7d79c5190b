"""A lease's folder at the agent: where it is, why it was stopped, how it ended, and its log.

lease.json   what was asked for; there before Kubernetes is asked
stop.json    why it is to end, once for ever
placed, started   empty: the server has acknowledged it; it was seen running
use.json     CPU time and memory so far, where they are measured
end.json     how it ended, once for ever
log, log.json   the log so far, and up to where it was read
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey, Phase, Status
from yunhe.site.drivers.lease_dir import remove_tree
from yunhe.site.supervisor.records import write_record
from yunhe.wire.link import UsageTotals


@dataclass(frozen=True, slots=True)
class Intent:
    """What is needed of a lease after it was submitted. `cpu_milli` of one slot. `secret`: a Secret goes with it."""

    namespace: str
    name: str
    slots: int
    cpu_milli: int
    run_limit_ms: int
    disconnect_limit_ms: int
    contact_ms: int
    log_cap_bytes: int
    grace_ms: int = 0  # from SIGTERM to SIGKILL
    secret: bool = False
    secrets: bool = False  # one of its own for what must not stay


@dataclass(frozen=True, slots=True)
class Stop:
    reason: EndReason
    detail: str


class Record:
    """Reads and writes; everything here may wait for the disk."""

    def __init__(self, leases: Path, key: LeaseKey) -> None:
        self.path = leases / str(key)
        self.log = self.path / "log"

    def prepare(self, intent: Intent) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_record(str(self.path / "lease.json"), asdict(intent))

    def intent(self) -> Intent | None:
        """None where there is none, or only the half of one that a crash left."""
        found = self._read("lease.json")
        return Intent(**found) if found else None  # type: ignore[arg-type]

    def stop(self) -> Stop | None:
        found = self._read("stop.json")
        return Stop(EndReason(str(found["reason"])), str(found["detail"])) if found else None

    def write_stop(self, stop: Stop) -> None:
        write_record(str(self.path / "stop.json"), {"reason": stop.reason.value, "detail": stop.detail})

    def marked(self, name: str) -> bool:
        return (self.path / name).exists()

    def mark(self, name: str) -> None:
        """Nothing for a lease that has been forgotten meanwhile."""
        if self.path.exists():
            (self.path / name).touch()

    def write_end(self, status: Status) -> None:
        assert status.reason is not None
        record: dict[str, object] = {
            "started": status.started,
            "started_utc_ms": status.started_utc_ms,
            "totals": status.totals.model_dump() if status.totals else None,
            "reason": status.reason.value,
            "exit_code": status.exit_code,
            "detail": status.detail,
        }
        write_record(str(self.path / "end.json"), record)

    def end(self) -> Status | None:
        found = self._read("end.json")
        if found is None:
            return None
        code = found["exit_code"]
        return Status(
            Phase.ENDED,
            started=bool(found["started"]),
            started_utc_ms=int(str(found["started_utc_ms"])),
            totals=UsageTotals.model_validate(found["totals"]) if found["totals"] else None,
            reason=EndReason(str(found["reason"])),
            exit_code=code if isinstance(code, int) else None,
            detail=str(found["detail"]),
        )

    def use(self) -> tuple[int, int] | None:
        """CPU time in ms and the most memory in bytes."""
        found = self._read("use.json")
        return (int(str(found["cpu_ms"])), int(str(found["peak_bytes"]))) if found else None

    def write_use(self, cpu_ms: int, peak_bytes: int) -> None:
        write_record(str(self.path / "use.json"), {"cpu_ms": cpu_ms, "peak_bytes": peak_bytes}, sync=False)

    def _read(self, name: str) -> dict[str, object] | None:
        try:
            value: dict[str, object] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return value

    def read_log(self, offset: int, limit: int) -> bytes:
        try:
            fd = os.open(self.log, os.O_RDONLY)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(fd, limit, offset)
        finally:
            os.close(fd)

    def remove(self) -> None:
        if self.path.exists():
            remove_tree(self.path)


def all_keys(leases: Path) -> Iterator[LeaseKey]:
    """Of every folder that is there."""
    yield from (key for key in map(LeaseKey.parse, os.listdir(leases)) if key is not None)
