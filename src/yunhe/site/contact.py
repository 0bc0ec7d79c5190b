"""When the hub last heard this site, for certain: the send time of the newest poll that it answered.

Kept in the file `contact` too, where the supervisors of jobs look; they stop jobs even when no agent lives.
"""

import os
from pathlib import Path

from yunhe.site.supervisor.records import boottime_ms

WIDTH = 20  # always as long, so that it is overwritten in place, also on a full disk


def boot_id() -> str:
    """Which boot of the host this is: its clock and its processes end with it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Home:
    """Whether this data directory is where its agent left it, and not a copy of it: both would hold the same leases."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "home"
        info = os.stat(data_dir)
        self._here = f"{info.st_dev}:{info.st_ino}"

    def unchanged(self) -> bool:
        return not self._path.exists() or self._path.read_text() == self._here

    def settle(self) -> None:
        """The hub has taken this one for the site."""
        if not self._path.exists() or not self.unchanged():
            self._path.write_text(self._here)


class Contact:
    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "contact"
        self._boot_path = data_dir / "boot"
        self._fd = -1
        self.sent_ms = 0

    def open(self) -> None:
        self._fd = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        text = os.pread(self._fd, WIDTH, 0).strip()
        boot = boot_id()
        same_boot = self._boot_path.exists() and self._boot_path.read_text() == boot
        self.sent_ms = int(text) if same_boot and text.isdigit() else 0
        self._write()
        if not same_boot:
            self._boot_path.write_text(boot)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def heard(self, sent_ms: int) -> None:
        """The hub has answered a poll that was sent at `sent_ms` (CLOCK_BOOTTIME)."""
        if sent_ms > self.sent_ms:
            self.sent_ms = sent_ms
            self._write()

    def _write(self) -> None:
        os.pwrite(self._fd, b"%*d" % (WIDTH, self.sent_ms), 0)

    def silent_ms(self, lease_contact_ms: int) -> int:
        """For how long the hub may not have heard of a lease that a poll of `lease_contact_ms` brought."""
        return boottime_ms() - max(self.sent_ms, lease_contact_ms)
