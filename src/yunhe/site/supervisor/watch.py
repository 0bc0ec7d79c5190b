"""One job from its claim to its exit record."""

import errno
import json
import os
import select
import signal
import time

from yunhe.site.supervisor import given
from yunhe.site.supervisor.job import Job
from yunhe.site.supervisor.leftovers import remove_of
from yunhe.site.supervisor.records import (
    RECORD_BYTES,
    Spec,
    boottime_ms,
    cancel_reason,
    complain,
    monotonic_ms,
    read_text,
    write_record,
)
from yunhe.site.supervisor.seat import Seat, SpawnFailed

TICK_MS = 1_000  # the longest sleep: cancel links are also noticed without a signal


class Supervisor:
    """The life of one job: start, watch, stop, record."""

    def __init__(self, spec: Spec, seat: Seat, values: given.Values | None = None) -> None:
        self.spec = spec
        self.seat = seat
        self.job = Job(spec, seat, values)
        self.reason = ""  # why it was stopped; empty: not stopped
        self.detail = ""
        self.kill_at = 0
        self.contact_ms = spec["contact_ms"]
        self.next_usage = 0
        self.wake, wake_write = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGURG, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.stop("supervisor_lost", "the host is shutting down"))

    def run(self) -> None:
        record = os.open("exit.json.tmp", os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(record, b" " * RECORD_BYTES)
        self.check_limits()
        if self.reason:
            self.finish(record, started=False)
            return
        try:
            self.job.start()
        except SpawnFailed as error:
            self.reason, self.detail = "spawn_failed", str(error)
            self.finish(record, started=False)
            return
        self.announce()
        self.watch()
        self.finish(record, started=True)

    def announce(self) -> None:
        started = {"pid": self.job.pid, "supervisor": os.getpid(), "utc_ms": time.time_ns() // 1_000_000}
        try:
            write_record("started.json", started)
        except OSError as error:  # a full disk: the exit record has its reserved place and says it all
            complain(f"started.json: {error}")
        self.notify()

    def notify(self) -> None:
        """Wake the agent if there is one; it finds the files without this too."""
        import socket  # noqa: PLC0415 - seldom needed, and each job waits for what is imported

        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            try:
                sock.sendto(self.spec["key"].encode(), "\0" + self.spec["notify"])
            except OSError as error:
                if error.errno not in (errno.ECONNREFUSED, errno.ENOENT, errno.EAGAIN):
                    raise

    def watch(self) -> None:
        """Until the job's first process has ended."""
        job, poll = self.job, select.poll()
        assert job.log is not None
        poll.register(self.wake, select.POLLIN)
        poll.register(job.log.pipe, select.POLLIN)
        while job.status is None:
            for fd, _ in poll.poll(self.pause_ms()):
                if fd == self.wake:
                    os.read(self.wake, 4096)
                elif not job.log.pump(16):
                    poll.unregister(fd)
            job.reap()
            job.sample()
            self.check_limits()
            self.write_usage()
            if self.reason and monotonic_ms() >= self.kill_at and job.status is None:
                job.kill()

    def pause_ms(self) -> int:
        """How long nothing needs to be looked at."""
        now = monotonic_ms()
        until = now + (TICK_MS if self.spec["cgroup"] else min(TICK_MS, self.spec["sample_ms"]))
        until = min(until, self.next_usage)
        if self.reason:
            until = min(until, max(self.kill_at, now + 20))
        else:
            until = min(until, self.job.start_ms + self.spec["run_limit_ms"])
            until = min(until, now + max(1, self.disconnected_in_ms()))
        return max(1, until - now)

    def disconnected_in_ms(self) -> int:
        """Time left without a word of the hub, by the clock of the site."""
        text = (read_text(self.spec["contact_path"]) or "").strip()
        self.contact_ms = max(self.contact_ms, int(text) if text.isdigit() else 0)
        return self.contact_ms + self.spec["disconnect_limit_ms"] - boottime_ms()

    def check_limits(self) -> None:
        """Stop the job when a limit is reached or somebody asks for it."""
        if self.reason:
            return
        grace = self.spec["term_grace_ms"]
        # Dead when the limit is reached, not only asked to end: the hub may start another copy then.
        early = min(grace, self.spec["disconnect_limit_ms"] // 5)
        cancel = cancel_reason()
        if cancel == "preempted" and self.job.status is None:
            self.give_notice(*self.spec.get("notice", (signal.SIGTERM, grace)))
        elif cancel and cancel != "preempted":
            self.stop(cancel, "", grace)
        elif (left := self.disconnected_in_ms() - early) <= 0:
            self.stop("disconnected", "no word of the hub for the disconnect limit", max(0, early + left))
        elif self.job.pid == 0:
            return
        elif self.job.out_of_memory():
            self.stop("memory_limit", self.memory_text())
        elif self.job.too_many:
            self.stop("exited", f"killed: more than {self.spec['pids_limit']} processes")
        elif monotonic_ms() - self.job.start_ms >= self.spec["run_limit_ms"]:
            self.stop("time_limit", f"longer than {self.spec['run_limit_ms']} ms", grace)

    def memory_text(self) -> str:
        how = "by the kernel" if self.spec["cgroup"] else "after sampling"
        return f"killed {how}: more than {self.spec['memory_limit_bytes']} bytes of memory"

    def stop(self, reason: str, detail: str, grace_ms: int = 0) -> None:
        """SIGTERM now when there is a grace, SIGKILL after it."""
        if self.reason:
            return
        self.reason, self.detail = reason, detail
        self.kill_at = monotonic_ms() + grace_ms
        if grace_ms and self.job.pid:
            self.job.terminate()

    def give_notice(self, number: int, grace_ms: int) -> None:
        """The site's own users need the units: the job may save its work, within its disconnect and run limits."""
        left_ms = self.job.start_ms + self.spec["run_limit_ms"] - monotonic_ms() if self.job.pid else grace_ms
        grace_ms = max(0, min(grace_ms, self.disconnected_in_ms(), left_ms + self.spec["term_grace_ms"]))
        if number == signal.SIGTERM or not self.job.pid:
            self.stop("preempted", "", grace_ms)
            return
        self.stop("preempted", "", 0)
        self.kill_at += grace_ms
        self.job.warn(number)

    def write_usage(self) -> None:
        now = monotonic_ms()
        if now >= self.next_usage:
            self.next_usage = now + self.spec["usage_write_ms"]
            try:
                write_record("usage.json", self.job.totals(), sync=False)
            except OSError as error:  # a full disk; the totals go into the exit record
                complain(f"usage.json: {error}")

    def finish(self, record: int, started: bool) -> None:
        """Write the exit record into its reserved place, then let the agent know."""
        exit_record: dict[str, object] = {"started": started, "exit_code": None}
        if started:
            exit_record.update(self.job.totals())
            cleared = self.job.clear()
            self.judge(cleared)
            exit_record.update(self.job.totals(), wall_ms=exit_record["wall_ms"], exit_code=self.job.status)
        self.job.forget_secrets()
        if started:
            remove_of(self.spec["uid"])
        exit_record.update(reason=self.reason, detail=self.detail[:400])
        data = json.dumps(exit_record).encode()
        os.pwrite(record, data.ljust(RECORD_BYTES), 0)
        os.fsync(record)
        self.publish()
        self.notify()
        if started:
            self.seat.remove()
        else:
            self.seat.leave()

    def publish(self) -> None:
        """From here on the record is there for everyone."""
        os.rename("exit.json.tmp", "exit.json")

    def judge(self, cleared: bool) -> None:
        """Name the reason of the end, from what is known."""
        job = self.job
        assert job.log is not None
        job.log.pump(1 << 12)
        report = job.sandbox_report()
        if "spawn-error" in report:
            self.reason, self.detail = "spawn_failed", str(report["spawn-error"])
        elif not self.reason and self.spec["sandbox"] and "exit-code" not in report:
            tail = (read_text("log") or "").strip()[-300:]
            self.reason, self.detail = "spawn_failed", f"the sandbox did not start: {tail}"
        elif self.reason in ("", "exited") and job.out_of_memory():
            self.reason, self.detail = "memory_limit", self.memory_text()
        elif not self.reason:
            disk = os.statvfs(".")
            full = job.status != 0 and disk.f_bavail * disk.f_frsize < (1 << 20)
            self.reason = "disk_full" if full else "exited"
        notes = [self.detail, job.log.note, "" if cleared else "some of its processes did not end"]
        self.detail = "; ".join(note for note in notes if note)
