"""A network of this machine, its console, and a real Chromium that may speak to nobody else."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Response, sync_playwright

from yunhe.apps.embedded import Network
from yunhe.sdk.client import Client

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = "Chromium is not installed: tools/install-debian.sh"
PATIENCE_MS = 20_000
COLOURS = 64  # of a picture
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A hub, three sites of processes and the console: what `yunhe up` starts. One for all tests of pages."""
    if CHROMIUM is None:
        pytest.skip(MISSING)
    folder = tmp_path_factory.mktemp("network")
    with Network(folder, folder / "data", lambda _line: None, port=0, console=True) as running:
        yield running


@pytest.fixture
def customer(network: Network) -> Iterator[Client]:
    with network.customer() as client:
        yield client


@pytest.fixture
def operator(network: Network) -> Iterator[Client]:
    with network.operator() as client:
        yield client


@pytest.fixture(scope="module")  # while it is open no other test of this process could run an event loop
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@dataclass
class Watched:
    """One browser window. What it asked outside and complained of is looked at when the test is over."""

    url: str
    context: BrowserContext
    page: Page
    outside: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        self.page.goto(self.url + path)
        self.page.wait_for_selector("#content")
        return self.page

    def sign_in(self, key: str) -> Page:
        self.open("/sign-in")
        self.page.fill("input[name=key]", key)
        self.page.click("main button[type=submit]")
        self.page.wait_for_url(self.url + "/")
        return self.page


Windows = Callable[..., Watched]


@pytest.fixture
def windows(network: Network, browser: Browser) -> Iterator[Windows]:
    """Makes browser windows: `windows(language="zh-CN", phone=True, dark=True)`."""
    opened: list[Watched] = []

    def make(*, language: str = "en-US", phone: bool = False, dark: bool = False, url: str = "") -> Watched:
        size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 860}
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport=size, locale=language, color_scheme=scheme)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE_MS)
        watched = Watched(url or network.console_url, context, context.new_page())
        _watch(watched)
        opened.append(watched)
        return watched

    yield make
    for watched in opened:
        with contextlib.suppress(Exception):  # a window that crashed says so below
            watched.context.close()
    for watched in opened:
        assert watched.outside == []
        assert watched.complaints == []


def _watch(watched: Watched) -> None:
    def asked(response: Response) -> None:
        if not response.url.startswith((watched.url, "data:", "blob:")):
            watched.outside.append(response.url)

    page = watched.page
    page.on(
        "request",
        lambda r: None if r.url.startswith((watched.url, "data:", "blob:")) else watched.outside.append(r.url),
    )
    page.on("response", asked)
    page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    page.on("console", lambda m: watched.complaints.append(m.text) if m.type == "error" else None)


@pytest.fixture
def window(windows: Windows) -> Watched:
    """A visitor's, in English."""
    return windows()


def save(page: Page, name: str) -> Path | None:
    """A picture for people, where YUNHE_PICTURES names a folder."""
    folder = os.environ.get("YUNHE_PICTURES")
    if not folder:
        return None
    path = Path(folder) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Surfaces and text: few colours tell it all, in a fifth of the bytes.
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
    return path
