"""A supervisor on another host than its agent's: the clock between them, and an engine that may stop the job too."""

import os
import signal
import time

from yunhe.site.supervisor.records import Spec, boottime_ms, complain, monotonic_ms, read_text
from yunhe.site.supervisor.seat import Seat
from yunhe.site.supervisor.watch import Supervisor

STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGKILL)
FENCE_MS = 1_000
SPREAD_MS = 500  # the engine signals processes one after the other: the job may fall before its supervisor is told
PAUSE_S = 0.01


def clock_offset_ms(beacon: str, age_ms: int, boot: str, now_ms: int) -> int:
    """What to add to the agent's CLOCK_BOOTTIME to have this host's.

    `beacon` is "BOOT MS CONTACT": which boot of which host, its clock when this was written, `age_ms` ago by the clock
    of the shared disk, and when the hub was last heard. An age that was read too small makes that look later than it
    was, so no age is below 0.
    """
    their_boot, ms, _ = beacon.split()
    return 0 if their_boot == boot else now_ms - (int(ms) + max(0, age_ms))


def offset_ms(beacon: str) -> int:
    """By the times that the shared disk gives to the beacon and to a file of now, in the lease's folder. Without a
    beacon the agent's clock is taken for this host's."""
    try:
        os.close(os.open("probe", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600))
        os.utime("probe")  # the time of the disk
        age = (os.stat("probe").st_mtime_ns - os.stat(beacon).st_mtime_ns) // 1_000_000
        os.unlink("probe")
        boot = (read_text("/proc/sys/kernel/random/boot_id") or "").strip()
        return clock_offset_ms(read_text(beacon) or "", age, boot, boottime_ms())
    except (OSError, ValueError) as error:
        complain(f"no beacon of the agent, its clock is taken for this host's: {error}")
        return 0


class FarSupervisor(Supervisor):
    """`news`: a folder that the agent looks at. `engine`: its name for people. `grace_ms`: at most so long between the
    engine's own SIGTERM and the end of the job."""

    def __init__(self, spec: Spec, seat: Seat, news: str, engine: str, grace_ms: int = 0) -> None:
        self.offset_ms = offset_ms(spec["contact_path"])
        spec["contact_ms"] += self.offset_ms
        super().__init__(spec, seat)
        self.news = news
        self.engine = engine
        self.grace_ms = grace_ms
        self.next_fence = 0
        signal.signal(signal.SIGTERM, lambda *_: self.stopped_by_engine())

    def stopped_by_engine(self) -> None:
        self.check_limits()  # a cancel or limit of ours comes first
        self.stop("supervisor_lost", f"stopped by {self.engine}", min(self.spec["term_grace_ms"], self.grace_ms))

    def disconnected_in_ms(self) -> int:
        words = (read_text(self.spec["contact_path"]) or "").split()
        self.contact_ms = max(self.contact_ms, int(words[2]) + self.offset_ms if len(words) == 3 else 0)
        return self.contact_ms + self.spec["disconnect_limit_ms"] - boottime_ms()

    def check_limits(self) -> None:
        now = monotonic_ms()
        if not self.reason and now >= self.next_fence:
            self.next_fence = now + FENCE_MS
            if os.path.exists("exit.json") or not os.path.exists("spec.json"):
                self.stop("supervisor_lost", "the agent has given it up")
        super().check_limits()

    def judge(self, cleared: bool) -> None:
        until = monotonic_ms() + SPREAD_MS
        while not self.reason and self.job.status in STOPPED and monotonic_ms() < until:
            time.sleep(PAUSE_S)  # whose signal was it? The engine's reaches this process too
        super().judge(cleared)

    def publish(self) -> None:
        try:
            os.link("exit.json.tmp", "exit.json")
        except FileExistsError:
            complain("the agent has written its end before")

    def notify(self) -> None:
        """A file named after the lease in a folder that the agent looks at."""
        try:
            os.close(os.open(f"{self.news}/{self.spec['key']}", os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as error:  # a hint only
            complain(f"news: {error}")
