"""What this host's own users take: stated in the file `reserve` of the data directory, and measured if the site wants.

`reserve` holds a number of cores and, if it matters, an amount of memory: "4" or "4 16GiB". The centre's own tools
write it (whole, then renamed); without it nothing is reserved. Measured is the CPU time of everything on the host that
is not this site's agent and jobs, averaged over ten seconds, to the nearest core.
"""

import os
import time
from collections import deque
from pathlib import Path

from yunhe.core.errors import InvalidInput
from yunhe.core.units import parse_bytes
from yunhe.site.discover import Share
from yunhe.site.drivers.lease_dir import LeaseDir
from yunhe.site.settings import DriverSettings
from yunhe.site.supervisor.kernel import TICKS, tree
from yunhe.site.supervisor.records import read_text
from yunhe.wire.link import PoolDigest

RESERVE_FILE = "reserve"
RESERVE_BYTES = 200  # more is no reserve
AVERAGE_MS = 10_000
CORE = 1_000
BUSY_STEP = 100  # milli-cores; what is shown need not tremble
STAT_USER, STAT_CSTIME = 11, 15  # of /proc/PID/stat behind the name: utime, stime, cutime, cstime


class LocalUse:
    """Of one pool of cores: the offered share of this host."""

    def __init__(self, settings: DriverSettings, data_dir: Path, average_ms: int = AVERAGE_MS) -> None:
        self._settings = settings
        self._average_ms = average_ms
        self._data_dir = data_dir
        self._share = Share(0, 0)
        self._host_milli = (os.cpu_count() or 1) * CORE
        self._seen: deque[tuple[int, int, int]] = deque()  # ms: clock, host's CPU time, own CPU time
        self._of_lease: dict[str, int] = {}
        self._own_ms = 0

    def open(self, share: Share) -> None:
        self._share = share

    def look(self) -> PoolDigest:
        """Raises InvalidInput for a reserve that cannot be read."""
        milli, memory = self._reserved()
        host, own = self._rates()
        if self._settings.local_use == "measured" and host is not None and own is not None:
            outside = (max(0, host - own) + CORE // 2) // CORE * CORE
            # What is not offered serves them first.
            milli = max(milli, outside - max(0, self._host_milli - self._share.milli))
        milli = min(milli, self._share.milli)
        return PoolDigest(
            name=self._settings.pool,
            foreign_milli=milli,
            foreign_memory_bytes=min(memory, self._share.memory_bytes),
            busy_milli=self._busy(host),
            powered_milli=self._share.milli,  # the agent runs here, so it is on
        )

    def _busy(self, host: int | None) -> int | None:
        """Of a part of a host nobody can say which cores work."""
        if host is None or self._share.milli < self._host_milli:
            return None
        return min(self._share.milli, (host + BUSY_STEP // 2) // BUSY_STEP * BUSY_STEP)

    def _reserved(self) -> tuple[int, int]:
        text = read_text(str(self._data_dir / RESERVE_FILE))
        words = (text or "").split()
        if text is None or not words:
            return 0, 0
        try:
            if len(words) > 2 or len(text) > RESERVE_BYTES:
                raise ValueError
            milli = round(float(words[0]) * CORE)
            if not 0 <= milli <= 2**40:
                raise ValueError
        except (ValueError, OverflowError):
            raise InvalidInput(
                f"{text[:40]!r} is no number of cores", field=RESERVE_FILE, hint='for example "4" or "4 16GiB"'
            ) from None
        return milli, parse_bytes(words[1], RESERVE_FILE, zero_ok=True) if len(words) == 2 else 0

    def _rates(self) -> tuple[int | None, int | None]:
        """Milli-cores at work on the host, and the site's own of them, over the last ten seconds; None at first."""
        now_ms, host_ms = time.monotonic_ns() // 1_000_000, _host_ms()
        if self._settings.local_use == "measured":
            self._count_own()
        while len(self._seen) > 1 and self._seen[1][0] <= now_ms - self._average_ms:
            self._seen.popleft()
        first = self._seen[0] if self._seen and self._seen[0][0] <= now_ms - self._average_ms else None
        self._seen.append((now_ms, host_ms, self._own_ms))
        if first is None:
            return None, None
        span = now_ms - first[0]
        return max(0, host_ms - first[1]) * CORE // span, (self._own_ms - first[2]) * CORE // span

    def _count_own(self) -> None:
        """CPU time of the agent and of every lease that has a folder; one that is gone has been counted to its end."""
        now = {"": _cpu_ms(os.getpid())}
        for folder in (self._data_dir / "leases").iterdir():
            used = _lease_ms(LeaseDir(folder))
            if used is not None:
                now[folder.name] = used
        self._own_ms += sum(max(0, used - self._of_lease.get(name, 0)) for name, used in now.items())
        self._of_lease = {name: max(used, self._of_lease.get(name, 0)) for name, used in now.items()}


def _host_ms() -> int:
    """Time that all cores of the host have worked: user, nice, system, irq and softirq of proc_stat(5)."""
    user, nice, system, _, _, irq, softirq = map(int, (read_text("/proc/stat") or "").split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + softirq) * 1000 // TICKS


def _lease_ms(folder: LeaseDir) -> int | None:
    try:
        end = folder.record("exit.json")
        if end is not None:
            used = end.get("cpu_ms", 0)
            return used if isinstance(used, int) else 0
        if not folder.claimed or not folder.supervisor_alive():
            return None
        supervisor = int((folder.path / "claim").read_text().split()[0])
    except (OSError, ValueError):
        return None
    return sum(_cpu_ms(pid) for pid in (supervisor, *tree(supervisor)))


def _cpu_ms(pid: int) -> int:
    """Of a process and its ended children."""
    fields = (read_text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
    return sum(int(value) for value in fields[STAT_USER:STAT_CSTIME]) * 1000 // TICKS
