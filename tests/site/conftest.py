"""A joined site whose agent runs as a process of its own against the fake hub."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fake_hub import FakeHub
from yunhe.apps.site import JoinRequest, join
from yunhe.site.settings import DriverSettings

# Short, so that tests are; the defaults are for real sites.
QUICK: dict[str, str | int | bool] = {
    "sweep_ms": 200,
    "usage_interval_ms": 300,
    "log_interval_ms": 50,
    "backoff_first_ms": 20,
    "backoff_cap_ms": 200,
    "flush_limit_ms": 3_000,
    "request_timeout_ms": 3_000,
}


class SiteProcess:
    """The agent of one site: `start`, `kill`, `stop`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *words: str) -> "SiteProcess":
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "yunhe.apps.site", "--data-dir", str(self.data_dir), *words],
                stdout=out,
                stderr=out,
            )
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self, timeout_s: float = 40) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout_s)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


def supervisors(data_dir: Path) -> list[int]:
    """Supervisors of this site that live, by the locked claims in its folder."""
    found = []
    for claim in (data_dir / "leases").glob("*/claim"):
        pid = int(claim.read_text().split()[0])
        if os.path.exists(f"/proc/{pid}"):
            found.append(pid)
    return found


def wait_for(what: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        value = what()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"nothing within {timeout_s} s")


def fill_disk(path: Path) -> None:
    """Write until nothing more fits."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    size = 1 << 16
    try:
        while size:
            try:
                os.write(fd, b"\0" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                size //= 2
    finally:
        os.close(fd)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A disk of its own at `folder`; skips the test where none can be mounted."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.decode().strip()} (needs root)")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    fake = FakeHub()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def make_site(hub: FakeHub, tmp_path: Path) -> Iterator[Callable[..., SiteProcess]]:
    made: list[SiteProcess] = []

    def make(engine: str = "process", driver: DriverSettings | None = None, **extra: Any) -> SiteProcess:
        data_dir = tmp_path / f"site{len(made)}"
        small = DriverSettings(cores_milli=1000, memory_bytes=512 << 20, usage_write_ms=100)
        request = JoinRequest(
            hub_url=hub.url,
            token="good",
            name="test site",
            data_dir=data_dir,
            cluster="zhangjiakou",
            driver=driver or small,
            engine=engine,
            extra={**QUICK, **extra},
        )
        join(request)
        site = SiteProcess(data_dir)
        made.append(site)
        return site

    yield make
    for site in made:
        if site.process and site.process.poll() is None:
            site.kill()
        for pid in supervisors(site.data_dir):
            os.kill(pid, signal.SIGTERM)


@pytest.fixture
def site(make_site: Callable[..., SiteProcess]) -> SiteProcess:
    return make_site().start()
