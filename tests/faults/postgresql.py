"""A PostgreSQL server of the test's own, to be killed at will."""

import asyncio
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.faults.parts import end_with_parent

START_S = 60.0
TOOL = Path(__file__).parents[2] / "tools" / "with-postgresql.sh"


def programs() -> Path | None:
    """The folder of PostgreSQL's programs; None where it is not installed."""
    found = subprocess.run([str(TOOL), "--find"], capture_output=True, text=True, check=False)
    return Path(found.stdout.strip()) if found.returncode == 0 else None


class Cluster:
    """One server. `kill` leaves it as a power cut of the process would; `start` lets it recover.

    `synchronous_commit` stays on: what was acknowledged must survive the kill of every process of the server. `fsync`
    is off, because the kill of a process takes nothing from the kernel's page cache.
    """

    def __init__(self, folder: Path) -> None:
        found = programs()
        assert found is not None, "ask programs() first"
        self._programs = found
        self._folder = folder
        self._password = secrets.token_hex(16)
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = "postgres" if os.geteuid() == 0 else ""  # PostgreSQL refuses to run as root

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://yunhe:{self._password}@127.0.0.1:{self._port}/postgres"

    def _as_owner(self, *words: str) -> list[str]:
        if not self._owner:
            return list(words)
        return [
            "setpriv",
            f"--reuid={self._owner}",
            f"--regid={self._owner}",
            "--clear-groups",
            "--pdeathsig",
            "KILL",
            *words,
        ]

    async def start(self) -> None:
        """Make it when it is new, start it, wait until it answers."""
        if not self._folder.exists():
            await asyncio.to_thread(self._make)
        until = time.monotonic() + START_S
        while True:
            self._spawn()
            while self._process is not None and self._process.poll() is None:
                if await asyncio.to_thread(self._ready):
                    return
                await asyncio.sleep(0.05)
            # After a kill its children may hold the shared memory for a moment.
            if time.monotonic() > until:
                raise TimeoutError(f"PostgreSQL does not start; see {self._folder}/server.log")
            await asyncio.sleep(0.1)

    def _make(self) -> None:
        self._folder.mkdir(mode=0o700)
        (self._folder / "socket").mkdir()
        (self._folder / "password").write_text(self._password)
        if self._owner:
            owner = pwd.getpwnam(self._owner)
            for path in (self._folder, self._folder / "socket", self._folder / "password"):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        words = ["--pgdata", str(self._folder / "data"), "--username", "yunhe", "--auth", "scram-sha-256"]
        words += ["--pwfile", str(self._folder / "password"), "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        made = self._as_owner(str(self._programs / "initdb"), *words)
        subprocess.run(made, check=True, capture_output=True, cwd=self._folder)

    def _spawn(self) -> None:
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._folder / "socket"),
            "max_connections": "100",
            "shared_buffers": "64MB",
            "fsync": "off",
            "full_page_writes": "off",
            "log_min_messages": "warning",
        }
        words = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), "-p", str(self._port)]
        words += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._as_owner(*words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
                preexec_fn=end_with_parent if not self._owner else None,
            )

    def _ready(self) -> bool:
        words = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port), "-U", "yunhe"]
        return subprocess.run(words, check=False).returncode == 0

    def kill(self) -> None:
        """SIGKILL to the server's first process; its children notice and end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    async def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            await asyncio.to_thread(self._process.wait, 20)
        except subprocess.TimeoutExpired:
            self.kill()

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
