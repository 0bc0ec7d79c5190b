"""The stage of the console's measures: a hub with the nation's sites and orders, a console, a real Chromium."""

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, sync_playwright

from benchmarks import console_world, hubs
from benchmarks.console_world import Made
from benchmarks.hubs import HubProcess
from benchmarks.scene import NotMeasurable, Scene
from yunhe.apps.children import Child
from yunhe.console.settings import ConsoleSettings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
QUICK_SITES, QUICK_ORDERS = 300, 2_000
START_S, PATIENCE_MS = 30.0, 60_000
FOREVER_MS = 40 * 86_400_000  # the sites have no agents here, and are to look connected
SIZE = {"width": 1280, "height": 860}


@dataclass
class Stage:
    """`cookies`: of a customer who is signed in; `url`: of the console."""

    made: Made
    hub: HubProcess
    url: str
    browser: Browser
    cookies: StorageState

    def context(self, *, signed_in: bool) -> BrowserContext:
        """As of a browser that was never here before, but for its cookies."""
        state = self.cookies if signed_in else None
        context = self.browser.new_context(viewport=SIZE, locale="en-US", storage_state=state)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE_MS)
        return context

    def sign_in(self, url: str) -> StorageState:
        context = self.context(signed_in=False)
        page = context.new_page()
        page.goto(f"{url}/sign-in")
        page.fill("input[name=key]", self.made.customer_key)
        page.click("main button[type=submit]")
        page.wait_for_url(f"{url}/")
        state = context.storage_state()
        context.close()
        return state


@contextmanager
def stage(scene: Scene) -> Iterator[Stage]:
    """Raises NotMeasurable where there is no Chromium."""
    if CHROMIUM is None:
        raise NotMeasurable("Chromium is not installed: tools/install-debian.sh")
    folder = scene.subfolder("console")
    sites = QUICK_SITES if scene.quick else console_world.SITES
    orders = QUICK_ORDERS if scene.quick else console_world.ORDERS
    made = console_world.make(folder, sites, orders)
    scene.say(f"{sites} sites and {orders} orders are written, {made.took_s:.0f} s")
    with standing(made) as found:
        yield found


@contextmanager
def standing(made: Made) -> Iterator[Stage]:
    """Hub, console and browser on what was made."""
    folder = made.folder
    with (
        hubs.hub(made.database_url, folder, silent_after_ms=FOREVER_MS, disconnect_limit_ms=FOREVER_MS) as hub,
        console(hub.url, folder) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        found = Stage(made, hub, url, browser, {"cookies": [], "origins": []})
        found.cookies = found.sign_in(url)
        try:
            yield found
        finally:
            browser.close()


@contextmanager
def console(hub_url: str, folder: Path) -> Iterator[str]:
    """A console of its own for the hub; its address."""
    port = hubs.free_port()
    file = folder / f"console-{port}.json"
    file.write_text(ConsoleSettings(hub_url=hub_url, port=port).model_dump_json())
    child = Child("the console", "yunhe.apps.console:main", [str(file)], folder / f"console-{port}.log", {})
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + START_S
    try:
        while not _answers(url):
            child.check()
            if time.monotonic() > until:
                raise RuntimeError(f"the console did not start: {child.tail()}")
            time.sleep(0.1)
        yield url
    finally:
        child.ask_to_stop()
        child.wait(time.monotonic() + 10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2).is_success
    except httpx.HTTPError:
        return False


# --- what a page asks the hub -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """A GET of the console at the hub, and with whose key."""

    path: str
    authorization: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": self.authorization} if self.authorization else {}


@dataclass
class Listener:
    """Stands between a console and its hub, and notes what is asked. Not for timing."""

    hub_url: str
    heard: list[Call] = field(default_factory=list)

    def calls_of(self, page: Page, address: str, settle_s: float) -> list[Call]:
        """What the hub is asked for when the page is opened, each once."""
        self.heard.clear()
        page.goto(address)
        page.wait_for_function("!document.querySelector('main .q-spinner')")
        time.sleep(settle_s)
        return list(dict.fromkeys(self.heard))


@contextmanager
def listening(hub_url: str) -> Iterator[tuple[Listener, str]]:
    """(the listener, the address that a console is to take for the hub's)."""
    listener = Listener(hub_url)

    class Handler(BaseHTTPRequestHandler):
        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "content-length")}
            with httpx.stream(self.command, hub_url + self.path, headers=kept, content=body, timeout=70) as answer:
                kind = answer.headers.get("content-type", "")
                if self.command == "GET" and kind.startswith("application/json"):
                    listener.heard.append(Call(self.path, self.headers.get("authorization", "")))
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    if name not in ("transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):  # the console went away
                    for part in answer.iter_raw():
                        self.wfile.write(part)

        do_GET = do_POST = do_PUT = do_DELETE = _pass

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield listener, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
