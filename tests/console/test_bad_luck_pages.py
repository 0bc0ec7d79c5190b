"""What goes wrong under an open page is shown, and heals: hub and socket away, a slow hub, a session that ended."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.console.conftest import Watched, Windows
from tests.fakes.agent import FakeAgent, order_json
from tests.hub.running import free_port
from yunhe.apps.children import Child
from yunhe.apps.hub import OPERATOR_KEY_FILE
from yunhe.console.settings import ConsoleSettings
from yunhe.hub.platform.settings import HubSettings

START_S = 60.0
JSON = {"Content-Type": "application/json"}
SLOW_S = 6.0


def until(what: Callable[[], object], limit_s: float = START_S) -> None:
    end = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2).is_success
    return False


@dataclass
class OwnHub:
    """A hub as a process, that may be stopped and started again."""

    folder: Path
    port: int = field(default_factory=free_port)
    child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        settings = HubSettings(
            database_url=f"sqlite:///{self.folder}/hub.db", data_dir=self.folder, port=self.port, certify_prove_ms=0
        )
        file = self.folder / "settings.json"
        file.write_text(settings.model_dump_json())
        self.child = Child("a hub", "yunhe.apps.hub:main", [str(file)], self.folder / "hub.log", {})
        until(lambda: answers(f"{self.url}/readyz"))

    def stop(self) -> None:
        if self.child is not None:
            self.child.ask_to_stop()
            self.child.wait(time.monotonic() + 15)
            self.child = None

    def operator(self) -> httpx.Client:
        key = (self.folder / OPERATOR_KEY_FILE).read_text().strip()
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=30)

    def site(self) -> None:
        with self.operator() as operator, httpx.Client(base_url=self.url, timeout=30) as client:
            operator.post("/v1/organisations", json={"id": "centre", "name": "centre"}).raise_for_status()
            token = operator.post("/v1/enrolment-tokens", json={"provider": "centre"}).json()["token"]
            agent = FakeAgent(client)
            agent.enrol(token, "north")
            operator.post(f"/v1/sites/{agent.site_id}/approve", json={}).raise_for_status()
            agent.become_active()

    def customer(self) -> str:
        """The key of one with an order."""
        with self.operator() as operator:
            operator.post("/v1/organisations", json={"id": "lab", "name": "lab"}).raise_for_status()
            deposit = {"organisation": "lab", "amount": "100CNY", "reference": "first"}
            operator.post("/v1/deposits", json=deposit).raise_for_status()
            asked = {"organisation": "lab", "member": "tester", "role": "customer"}
            key = str(operator.post("/v1/keys", json=asked).json()["key"])
        headers = {"Authorization": f"Bearer {key}", **JSON}
        order = order_json(name="the-first")
        httpx.post(f"{self.url}/v1/orders", content=order, headers=headers, timeout=30).raise_for_status()
        return key


class Wire:
    """Carries bytes between whoever connects and a port of this machine; it may be cut, and be slow for some."""

    def __init__(self, to_port: int) -> None:
        self._to_port, self._open = to_port, True
        self.slow: bytes = b""  # requests that begin so wait for SLOW_S
        self._pairs: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """All connections end, and no new one comes through."""
        self._open = False
        for end in self._pairs:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._open = True

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                if not self._open:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._to_port), timeout=5)
            except OSError:
                if self._listener.fileno() < 0:
                    return
                near.close()
                continue
            far.settimeout(None)
            self._pairs += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other, one is near), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket, asks: bool) -> None:
        with suppress(OSError):
            while part := one.recv(65_536):
                if asks and self.slow and part.startswith(self.slow):
                    time.sleep(SLOW_S)
                other.sendall(part)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass
class Own:
    """A hub and a console that nobody else looks at. `to_hub`: what the console asks through."""

    hub: OwnHub
    key: str
    to_hub: Wire
    to_console: Wire


@contextmanager
def console(folder: Path, hub_url: str, **settings: float) -> Iterator[int]:
    """Its port."""
    port = free_port()
    file = folder / "console.json"
    file.write_text(ConsoleSettings(hub_url=hub_url, port=port, **settings).model_dump_json())
    child = Child("a console", "yunhe.apps.console:main", [str(file)], folder / "console.log", {})
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/healthz"))
        yield port
    finally:
        child.ask_to_stop()
        child.wait(time.monotonic() + 10)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    folder = tmp_path_factory.mktemp("own")
    hub = OwnHub(folder)
    with ExitStack() as stack:
        stack.callback(hub.stop)
        hub.start()
        hub.site()
        to_hub = Wire(hub.port)
        stack.callback(to_hub.close)
        to_console = Wire(stack.enter_context(console(folder, to_hub.url)))
        stack.callback(to_console.close)
        yield Own(hub, hub.customer(), to_hub, to_console)


def rows(watched: Watched) -> None:
    watched.page.locator("main td a", has_text="the-first").wait_for()


def test_a_hub_that_starts_again_under_an_open_page(windows: Windows, own: Own) -> None:
    visitor, customer = windows(url=own.to_console.url), windows(url=own.to_console.url)
    visitor.open("/")
    visitor.page.locator(".yunhe-map canvas").first.wait_for()
    customer.sign_in(own.key)
    customer.open("/orders")
    rows(customer)
    own.hub.stop()
    visitor.page.locator("[role=status]", has_text="This is not the newest").wait_for()
    alert = customer.page.locator("main [role=alert]")
    alert.wait_for()
    assert "unavailable" in alert.inner_text()  # the code
    own.hub.start()
    rows(customer)
    assert alert.count() == 0
    visitor.page.wait_for_function("!document.body.innerText.includes('This is not the newest')")


def test_a_lost_socket_is_shown_and_heals(windows: Windows, own: Own) -> None:
    watched = windows(url=own.to_console.url)
    watched.sign_in(own.key)
    watched.open("/orders")
    rows(watched)
    own.to_console.cut()
    popup = watched.page.locator("#popup")
    popup.wait_for(state="visible")
    assert "onnection" in popup.inner_text()
    own.to_console.mend()
    popup.wait_for(state="hidden")
    rows(watched)
    watched.complaints.clear()  # the browser tells of the socket that it lost


def test_a_slow_hub_holds_up_no_other_page(windows: Windows, own: Own) -> None:
    customer, visitor = windows(url=own.to_console.url), windows(url=own.to_console.url)
    customer.sign_in(own.key)
    own.to_hub.slow = b"GET /v1/orders?"
    try:
        asked = time.monotonic()
        customer.open("/orders")
        customer.page.locator("main [role=status]", has_text="Loading").wait_for()
        visitor.open("/")
        visitor.page.locator(".yunhe-map canvas").first.wait_for()
        assert customer.page.locator("main td").count() == 0  # it still waits, and said so
        rows(customer)
        assert time.monotonic() - asked > SLOW_S
    finally:
        own.to_hub.slow = b""


def test_an_empty_network_fills_itself(windows: Windows, tmp_path: Path) -> None:
    hub = OwnHub(tmp_path)
    with ExitStack() as stack:
        stack.callback(hub.stop)
        hub.start()
        watched = windows(url=f"http://127.0.0.1:{stack.enter_context(console(tmp_path, hub.url))}")
        watched.open("/")
        watched.page.locator(".yunhe-empty").wait_for()
        hub.site()
        watched.page.locator(".yunhe-map canvas").wait_for()
        watched.page.locator(".yunhe-figure", has_text="1").first.wait_for()
        watched.page.close()


def test_a_session_that_ended_leads_to_sign_in_and_back(windows: Windows, own: Own, tmp_path: Path) -> None:
    with console(tmp_path, own.hub.url, session_idle_s=3) as port:
        watched = windows(url=f"http://127.0.0.1:{port}")
        watched.sign_in(own.key)
        watched.open("/orders")
        rows(watched)
        link = watched.page.locator("main [role=alert] a", has_text="Sign in")
        link.wait_for()  # nobody touched the page: what it showed is gone
        assert watched.page.locator("main td").count() == 0
        link.click()
        watched.page.fill("input[name=key]", own.key)
        watched.page.click("main button[type=submit]")
        watched.page.wait_for_url("**/orders")
        rows(watched)
