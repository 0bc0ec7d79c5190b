"""What somebody may try: a socket from another site's page, names that are markup, a key that is revoked, too much."""

import gzip
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from tests.console.conftest import Watched, Windows
from tests.console.people import key_of, newcomer
from tests.console.test_bad_luck_pages import console
from yunhe.apps.embedded import Network
from yunhe.console.throttle import Buckets
from yunhe.core.errors import InvalidInput
from yunhe.sdk.client import Client
from yunhe.wire.api import RunSpec
from yunhe.wire.order_yaml import load_order_yaml

MARKUP = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>{{ window.hacked = 1 }}"
SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
DIAL = """url => new Promise(done => { const dialled = new WebSocket(url);
  dialled.onmessage = () => done("answered"); dialled.onclose = () => done("refused"); })"""


def shake_hands(url: str, origin: str) -> str:
    """The status line of a socket's handshake."""
    host = url.removeprefix("http://")
    with socket.create_connection(host.split(":"), timeout=10) as wire:
        asked = f"GET {SOCKET} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        wire.sendall(f"{asked}{key}Origin: {origin}\r\n\r\n".encode())
        return wire.recv(200).split(b"\r\n")[0].decode()


def test_no_socket_is_opened_for_another_sites_page(network: Network, browser: Browser) -> None:
    url = network.console_url
    assert "101" in shake_hands(url, url)
    assert "403" in shake_hands(url, "http://evil.example")

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    # Another port of the same machine is another origin, but the same site: cookies go along.
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with server, browser.new_context() as context:
        page = context.new_page()
        wanted = url.replace("http", "ws") + SOCKET
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        assert page.evaluate(DIAL, wanted) == "refused"
        page.goto(f"{url}/healthz")
        assert page.evaluate(DIAL, wanted) == "answered"
        server.shutdown()


def test_names_that_are_markup_are_text(windows: Windows, network: Network, operator: Client, customer: Client) -> None:
    spec = load_order_yaml("requirement: {cores: 0.1}\nrun: {command: ['true']}\nduration: 1m\n")
    with pytest.raises(InvalidInput):
        customer.submit(spec.model_copy(update={"name": MARKUP[:60]}))
    order = customer.submit(spec.model_copy(update={"run": RunSpec(command=("echo", MARKUP))}))
    watched = windows()
    watched.sign_in(network.operator_key)
    with newcomer(network, operator, "newcomers", MARKUP[:60]) as site_id:
        operator.approve(site_id)
        for path in ("/", "/orders", f"/orders/{order.id}", "/provider", f"/provider/{site_id}"):
            page = watched.open(path)
            page.wait_for_function("!document.querySelector('#content .q-spinner')")
            assert page.evaluate("window.hacked") is None, path
            assert page.locator("#content img[src=x]").count() == 0, path
        page = watched.open("/")
        page.locator("td", has_text="Hebei").wait_for()
        canvas = page.locator(".yunhe-map canvas")
        canvas.focus()
        for _ in range(6):
            page.keyboard.press("n")
        assert page.evaluate("window.hacked") is None
        watched.open("/provider")
        page.locator("main td", has_text="<img src=x").first.wait_for()


def test_a_key_revoked_under_an_open_page_shows_nothing_more(windows: Windows, operator: Client) -> None:
    key = key_of(operator, "short-lived", "customer")
    [made] = [each for each in operator.keys() if each.organisation == "short-lived"]
    watched = windows()
    watched.sign_in(key)
    page = watched.open("/orders")
    page.locator(".yunhe-empty").wait_for()
    operator.revoke_key(made.id)
    page.locator("main [role=alert] a", has_text="Sign in").wait_for()
    assert page.locator(".yunhe-empty").count() == 0


def test_visitors_may_ask_for_so_much(network: Network, tmp_path: Path) -> None:
    with console(tmp_path, network.url, visitor_requests=5, visitor_requests_per_s=0.001) as port:
        url = f"http://127.0.0.1:{port}"
        assert [httpx.get(url).status_code for _ in range(7)] == [200] * 5 + [429] * 2
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_a_bucket_fills_by_itself() -> None:
    buckets = Buckets(2, 0.5)
    assert [buckets.take("a", 0.0) for _ in range(3)] == [True, True, False]
    assert buckets.empty("a", 1.0)
    assert buckets.take("b", 1.0)
    assert buckets.take("a", 2.5)


def test_files_of_the_library_are_packed_and_what_they_are(window: Watched) -> None:
    page = window.open("/")
    path = next(
        p for p in page.evaluate("performance.getEntries().map(e => e.name)") if p.endswith("quasar.umd.prod.js")
    )
    plain = httpx.get(path, headers={"Accept-Encoding": "identity"})
    for _ in range(2):
        with httpx.stream("GET", path) as packed:
            raw = b"".join(packed.iter_raw())
            assert packed.headers["content-encoding"] == "gzip"
            assert "immutable" in packed.headers["cache-control"]
        assert gzip.decompress(raw) == plain.content
        assert len(raw) == int(packed.headers["content-length"])


@pytest.mark.parametrize(("language", "name"), [("en-US", "en-US"), ("zh-CN", "zh-CN")])
def test_the_library_speaks_the_viewers_language(windows: Windows, language: str, name: str) -> None:
    page = windows(language=language).open("/")
    assert page.evaluate("Quasar.Lang.props.isoName") == name
    assert page.evaluate("document.documentElement.lang") == name
