"""A hub as a process of its own, on a database of its own, as an operator would run it."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import sqlalchemy as sa

from tests.fakes.agent import FakeAgent, cpu_pool

START_S = 30.0
STOP_S = 15.0
ENROLS_PER_ADDRESS = 20
JSON = {"Content-Type": "application/json"}


@dataclass
class HubProcess:
    """A running hub. `operator` is a client with the first operator's key."""

    host: str
    port: int
    process: subprocess.Popen[bytes]
    database_url: str
    operator: httpx.Client

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def call(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """One call of the operator. Raises httpx.HTTPStatusError with what the hub said."""
        answer = self.operator.request(method, path, json=body)
        if answer.is_error:
            raise httpx.HTTPStatusError(answer.text, request=answer.request, response=answer)
        found: dict[str, object] = answer.json()
        return found

    def organisation(self, name: str) -> None:
        self.call("POST", "/v1/organisations", {"id": name, "name": name})

    def customer(self, name: str = "lab", deposit: str = "1000000CNY") -> str:
        """The key of a new organisation with money."""
        self.organisation(name)
        self.call("POST", "/v1/deposits", {"organisation": name, "amount": deposit, "reference": f"first {name}"})
        made = self.call("POST", "/v1/keys", {"organisation": name, "member": "load", "role": "customer"})
        return str(made["key"])

    def enrol(self, name: str, cores: int, *, number: int, provider: str = "centre") -> FakeAgent:
        """An approved site, the hub's `number`-th, of an agent that has not spoken yet."""
        token = str(self.call("POST", "/v1/enrolment-tokens", {"provider": provider})["token"])
        pools = (cpu_pool(cores * 1000, cores << 32),)
        # The hub bounds how often one address may try to enrol; the loopback has addresses enough.
        address = f"127.0.{1 + number // ENROLS_PER_ADDRESS}.1"
        with httpx.Client(base_url=self.url, transport=httpx.HTTPTransport(local_address=address)) as client:
            agent = FakeAgent(client, pools=pools)
            agent.enrol(token, name)
        agent.client = self.operator
        self.call("POST", f"/v1/sites/{agent.site_id}/approve", {})
        return agent

    def active_sites(self, count: int, cores: int) -> list[FakeAgent]:
        """`count` sites with one certified pool each. Their agents do not poll any more."""
        self.organisation("centre")
        made = [self.enrol(f"site-{i:03d}", cores, number=i) for i in range(count)]
        for agent in made:
            agent.hello().raise_for_status()
            agent.poll([agent.certificate()])
        return made

    def memory_mib(self) -> tuple[float, float]:
        """Resident memory of (the hub's own process, its helpers: the round's worker and what belongs to it)."""
        main = psutil.Process(self.process.pid)
        helpers = sum(child.memory_info().rss for child in main.children(recursive=True))
        return main.memory_info().rss / 2**20, helpers / 2**20

    def cpu_s(self) -> float:
        """CPU seconds of the hub's processes until now."""
        main = psutil.Process(self.process.pid)
        times = [p.cpu_times() for p in (main, *main.children(recursive=True))]
        return sum(t.user + t.system for t in times)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def hub(database_url: str, folder: Path, **settings: object) -> Iterator[HubProcess]:
    """Start `yunhe hub serve`, wait until it is ready, and stop it at the end."""
    port = free_port()
    environment = {f"YUNHE_{name.upper()}": str(value) for name, value in settings.items()}
    # The command as it is installed beside the interpreter that runs this.
    command = [str(Path(sys.executable).with_name("yunhe")), "hub", "serve", "--port", str(port)]
    log = folder / "hub.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--data-dir", str(folder), "--database-url", database_url],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        operator = _await(process, port, folder)
        with operator:
            yield HubProcess("127.0.0.1", port, process, database_url, operator)
    except Exception as error:
        error.add_note(f"the hub's log: {log.read_text(errors='replace')[-3000:]}")
        raise
    finally:
        _stop(process)


def _await(process: subprocess.Popen[bytes], port: int, folder: Path) -> httpx.Client:
    until = time.monotonic() + START_S
    url = f"http://127.0.0.1:{port}"
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=2).is_success:
                key = (folder / "operator.key").read_text().strip()
                return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=70)
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError("the hub did not start")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """With its helpers: the whole session that it leads."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait(STOP_S)


# --- databases ----------------------------------------------------------------------------------------------------


@contextmanager
def postgresql(server_url: str) -> Iterator[str]:
    """The URL of an empty database on the server; commits on it reach the disk, or this raises."""
    server = sa.make_url(server_url)
    name = f"yunhe_bench_{secrets.token_hex(6)}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with admin.connect() as conn:
        for setting in ("fsync", "synchronous_commit"):
            if conn.exec_driver_sql(f"SHOW {setting}").scalar() != "on":
                raise RuntimeError(f"{setting} is off at this server: commits would not be durable, nor figures true")
        conn.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as conn:
            conn.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def count_rows(database_url: str) -> dict[str, int]:
    """Rows in each of the hub's tables."""
    engine = sa.create_engine(sa.make_url(database_url), poolclass=sa.pool.NullPool)
    with engine.connect() as conn:
        names = sa.inspect(conn).get_table_names()
        return {name: int(conn.exec_driver_sql(f'SELECT count(*) FROM "{name}"').scalar_one()) for name in names}
