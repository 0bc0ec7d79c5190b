"""A private Ray: one head on 127.0.0.1, with ports, a folder and a token of its own; no other Ray is touched.

It claims more cores than there are, and its GPUs are numbers: enough for everything but speed.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from yunhe.apps.children import end_with_parent
from yunhe.apps.local_engines.processes import free_ports, kill, marked, parent
from yunhe.site.supervisor.kernel import tree

MARK = "YUNHE_PRIVATE_RAY"  # in the environment of all its processes
UP_S, STOP_S, CALL_S = 90.0, 20.0, 5.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What the head claims to have. `resources`: custom ones, as {"accelerator_type:H20": 1}."""

    cpus: int
    memory_bytes: int
    gpus: int = 0
    resources: dict[str, float] = field(default_factory=dict)


def program() -> str | None:
    """The `ray` of this Python, else the one in PATH."""
    return shutil.which("ray", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def missing() -> str:
    """Why Ray cannot be started here, with the line that installs it; empty when it can."""
    return "" if program() else f"Ray is not installed: {sys.executable} -m pip install 'ray[default]'"


class Head:
    """`start`, use, `stop`. `folder` must have a short path: sockets lie below it. Raises RuntimeError."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.folder = folder
        self.shape = shape
        self.token = secrets.token_hex(32)
        self.token_file = folder / "token"
        self._ports = free_ports(4)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._ports[1]}"

    @property
    def cluster_address(self) -> str:
        """For `ray.init`."""
        return f"127.0.0.1:{self._ports[0]}"

    # --- start and stop -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """As often as it was stopped or killed: always at the same address, and each time without any memory."""
        ray = program()
        if ray is None:
            raise RuntimeError(missing())
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(self.token)
        with (self.folder / "head.log").open("ab") as log:
            self._process = subprocess.Popen(
                [ray, "start", *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self._environment(),
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        self.until(self.up, "come up", UP_S)

    def _options(self) -> list[str]:
        gcs, dashboard, agent, client = self._ports
        shape = self.shape
        return [
            "--head",
            "--block",
            "--node-ip-address=127.0.0.1",
            f"--port={gcs}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard}",
            f"--dashboard-agent-listen-port={agent}",
            f"--ray-client-server-port={client}",
            f"--num-cpus={shape.cpus}",
            f"--num-gpus={shape.gpus}",
            f"--memory={shape.memory_bytes}",
            "--object-store-memory=80000000",
            f"--resources={json.dumps(shape.resources)}",
            f"--temp-dir={self.folder}/t",
            "--disable-usage-stats",
        ]

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            MARK: str(self.folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # otherwise it listens on an address of the network
            "RAY_DASHBOARD_MAX_AGENTS": "1",
        }

    def up(self) -> bool:
        """It answers, and its node is there. Raises RuntimeError when it has ended instead."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"Ray's head has ended: {self.tail()}")
        try:
            answer = self.get("/api/v0/nodes")
        except httpx.HTTPError:
            return False
        found = json.loads(answer.text)["data"]["result"]["result"] if answer.is_success else []
        return any(node["state"] == "ALIVE" for node in found)

    def stop(self) -> None:
        """In good order; what is left after that is killed, found by its environment."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_S)
        self._process = None
        until = time.monotonic() + STOP_S
        while (left := marked(MARK, str(self.folder))) and time.monotonic() < until:
            for number in left:
                kill(number, signal.SIGKILL)
            time.sleep(0.02)

    def kill(self) -> None:
        """As a crash of its host's Ray would: every daemon at once, SIGKILL. What it knew is lost."""
        if self._process is None:
            return
        head = self._process.pid
        daemons = [head, *(number for number in tree(head) if parent(number) == head)]
        for number in daemons:
            kill(number, signal.SIGKILL)
        self._process.wait(STOP_S)
        self._process = None

    def daemon(self, name: str) -> int:
        """The number of one daemon, by a word of its command line, as "dashboard.py"."""
        assert self._process is not None
        for number in tree(self._process.pid):
            if name in _command(number):
                return number
        raise RuntimeError(f"no {name} runs")

    def tail(self) -> str:
        try:
            return (self.folder / "head.log").read_text(errors="replace")[-500:].strip()
        except FileNotFoundError:
            return ""

    # --- use ----------------------------------------------------------------------------------------------------

    def get(self, path: str) -> httpx.Response:
        return self._call("GET", path)

    def post(self, path: str, body: object = None) -> httpx.Response:
        return self._call("POST", path, body)

    def _call(self, method: str, path: str, body: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        with httpx.Client(base_url=self.address, headers=headers, timeout=CALL_S, trust_env=False) as client:
            return client.request(method, path, json=body)

    def until(self, reached: Callable[[], bool], what: str, limit_s: float = 30.0) -> None:
        until = time.monotonic() + limit_s
        while not reached():
            if time.monotonic() > until:
                raise RuntimeError(f"Ray did not {what} in {limit_s:.0f} s: {self.tail()}")
            time.sleep(0.05)


def _command(number: int) -> str:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
