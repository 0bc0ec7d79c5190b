"""Sign-in through a provider, in a real Chromium: there and back, out again, refused, and begun in another browser."""

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import httpx
import oidc_provider_mock
import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import CHROMIUM, MISSING, Watched, Windows, save
from tests.console.people import fits
from tests.fakes.oidc import CLIENT_ID, CLIENT_SECRET, FakeProvider, came_back, fake_provider
from tests.hub.running import free_port
from yunhe.apps.children import Child
from yunhe.apps.hub import OPERATOR_KEY_FILE
from yunhe.console.settings import ConsoleSettings
from yunhe.core.errors import Unauthenticated
from yunhe.hub.platform.settings import HubSettings
from yunhe.hub.platform.sign_in_settings import ProviderSettings, SignInSettings
from yunhe.sdk.client import Client
from yunhe.wire.api import OrganisationRequest

START_S = 60.0
STYLE = "https://cdn.jsdelivr.net/"


@dataclass
class Place:
    """A hub that knows two providers, and its console. `staff` is an independent implementation with a page."""

    hub_url: str
    console_url: str
    operator: Client
    staff_url: str
    partner: FakeProvider
    hub: Child


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if CHROMIUM is None:
        pytest.skip(MISSING)
    folder = tmp_path_factory.mktemp("sign-in")
    secret = folder / "secret"
    secret.write_text(CLIENT_SECRET)
    with ExitStack() as stack:
        staff = stack.enter_context(oidc_provider_mock.run_server_in_thread())
        partner = stack.enter_context(fake_provider())
        hub_port, console_port = free_port(), free_port()
        hub_url, console_url = f"http://127.0.0.1:{hub_port}", f"http://127.0.0.1:{console_port}"
        staff_url = f"http://localhost:{staff.server_port}"
        known = {"client_id": CLIENT_ID, "client_secret_file": secret}
        providers = (
            ProviderSettings.model_validate({"id": "staff", "name": "Example Research", "issuer": staff_url, **known}),
            ProviderSettings.model_validate({"id": "partner", "name": "Partner", "issuer": partner.url, **known}),
        )
        settings = HubSettings(
            database_url=f"sqlite:///{folder}/hub.db",
            data_dir=folder,
            port=hub_port,
            sign_in=SignInSettings(console_url=console_url, providers=providers),
        )
        hub = started("a hub", "yunhe.apps.hub:main", settings.model_dump_json(), folder / "hub.json")
        stack.callback(hub.wait, time.monotonic() + 600)
        stack.callback(hub.ask_to_stop)
        until_it_answers(hub, f"{hub_url}/readyz")
        console = ConsoleSettings(hub_url=hub_url, port=console_port).model_dump_json()
        web = started("a console", "yunhe.apps.console:main", console, folder / "console.json")
        stack.callback(web.wait, time.monotonic() + 600)
        stack.callback(web.ask_to_stop)
        until_it_answers(web, f"{console_url}/healthz")
        operator = stack.enter_context(Client(hub_url, (folder / OPERATOR_KEY_FILE).read_text().strip()))
        operator.create_organisation(OrganisationRequest(id="lab", name="lab"))
        yield Place(hub_url, console_url, operator, staff_url, partner, hub)


def started(name: str, target: str, settings: str, file: Path) -> Child:
    file.write_text(settings)
    return Child(name, target, [str(file)], file.with_suffix(".log"), {})


def until_it_answers(child: Child, url: str) -> None:
    end = time.monotonic() + START_S
    while True:
        child.check()
        try:
            if httpx.get(url, timeout=2).is_success:
                return
        except httpx.HTTPError:
            pass  # it starts
        assert time.monotonic() < end, child.tail()
        time.sleep(0.05)


@pytest.fixture
def visitor(place: Place, windows: Windows) -> Iterator[Watched]:
    """Asks the console and the providers that it leads to, and nobody else."""
    window = windows(url=place.console_url)
    # The page of `staff` wants a style from outside; it gets an empty one from here.
    window.context.route(STYLE + "**", lambda route: route.fulfill(content_type="text/css", body=""))
    yield window
    allowed = (place.staff_url, place.partner.url, STYLE)
    window.outside[:] = [url for url in window.outside if not url.startswith(allowed)]


@pytest.fixture
def network() -> None:
    """None: this file has a hub of its own."""


def at_provider(page: Page, subject: str) -> None:
    page.wait_for_selector("input[name=sub]")
    page.fill("input[name=sub]", subject)
    page.get_by_role("button", name="Authorize").click()


def test_a_person_signs_in_through_the_provider_works_and_leaves(place: Place, visitor: Watched) -> None:
    place.operator.link_identity("staff", "li.wei", "lab", "Li Wei", "customer")
    page = visitor.open("/sign-in?back=/orders")
    save(page, "sign-in-providers")
    page.get_by_role("button", name="Sign in with Example Research").click()
    at_provider(page, "li.wei")
    page.wait_for_url(place.console_url + "/orders")
    expect(page.locator("header")).to_contain_text("lab")
    page.wait_for_selector("text=No orders yet.")
    [session] = [key for key in place.operator.keys() if key.expires_utc_ms and key.member == "Li Wei"]
    assert session.revoked_utc_ms is None
    cookies = {cookie["name"]: cookie for cookie in visitor.context.cookies()}
    assert "yunhe_sign_in" not in cookies
    assert cookies["yunhe_console"]["httpOnly"]
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_selector("text=Sign in")
    [ended] = [key for key in place.operator.keys() if key.id == session.id]
    assert ended.revoked_utc_ms is not None


def test_a_session_that_was_ended_says_so_and_leads_back(place: Place, visitor: Watched) -> None:
    place.operator.link_identity("staff", "zhang", "lab", "Zhang", "customer")
    page = visitor.open("/sign-in")
    page.get_by_role("button", name="Sign in with Example Research").click()
    at_provider(page, "zhang")
    page.wait_for_url(place.console_url + "/")
    [session] = [key for key in place.operator.keys() if key.member == "Zhang"]
    place.operator.revoke_key(session.id)
    page.goto(place.console_url + "/orders?state=open")
    page.wait_for_selector("text=Your session has ended. Sign in again.")
    page.locator("main").get_by_role("link", name="Sign in").click()
    page.get_by_role("button", name="Sign in with Example Research").click()
    at_provider(page, "zhang")
    page.wait_for_url(place.console_url + "/orders?state=open")
    page.wait_for_selector("text=No order matches.")


def test_who_is_not_linked_is_told_so_in_their_language(place: Place, windows: Windows) -> None:
    window = windows(url=place.console_url, language="zh-CN", phone=True)
    place.partner.subject = "stranger-7"
    page = window.open("/sign-in")
    page.get_by_role("button", name="使用 Partner 登录").click()
    page.wait_for_selector("text=尚未关联您的账户")
    assert "stranger-7" in page.locator("main").inner_text()
    assert "forbidden" in page.locator("main").inner_text()
    assert urlsplit(page.url).path == "/sign-in"
    assert fits(page)
    save(page, "sign-in-refused")
    window.outside[:] = [url for url in window.outside if not url.startswith(place.partner.url)]


def test_who_declines_is_back_on_the_page(place: Place, visitor: Watched) -> None:
    page = visitor.open("/sign-in")
    page.get_by_role("button", name="Sign in with Example Research").click()
    page.get_by_role("button", name="Deny").click()
    page.wait_for_selector("text=the provider says: access_denied")
    expect(page.get_by_role("button", name="Sign in with Example Research")).to_be_visible()


def test_what_another_browser_began_signs_nobody_in(place: Place, visitor: Watched) -> None:
    """The attacker has the victim's browser open the attacker's own answer, to be worked with as the attacker."""
    place.partner.subject = "attacker"
    place.operator.link_identity("partner", "attacker", "lab", "Attacker", "customer")
    with Client(place.hub_url, "") as attacker:
        back = came_back(attacker.begin_sign_in("partner", secrets.token_urlsafe(32)).url)
    page = visitor.open("/")
    page.goto(f"{place.console_url}/sign-in/callback/partner?{urlencode(back)}")
    page.wait_for_selector("text=begun elsewhere")
    # Nor when the victim has begun a sign-in of their own.
    page.route(place.partner.url + "/**", lambda route: route.fulfill(body="the provider's page"))
    page.get_by_role("button", name="Sign in with Partner").click()
    page.wait_for_selector("text=the provider's page")
    page.goto(f"{place.console_url}/sign-in/callback/partner?{urlencode(back)}")
    page.wait_for_selector("text=begun elsewhere")
    page.goto(place.console_url + "/orders")
    page.wait_for_selector("text=Sign in to see this.")


@pytest.mark.parametrize(
    "query", ["", "?code=x", "?state=x", "?code=x&state=x", "?error=<script>alert(1)</script>", "?code=x&iss=%00"]
)
def test_made_up_answers_come_to_nothing(place: Place, query: str) -> None:
    cookie = {"yunhe_sign_in": secrets.token_urlsafe(32) + ".%2F%2Fevil.example"}
    with httpx.Client(base_url=place.console_url, cookies=cookie) as client:
        answer = client.get(f"/sign-in/callback/staff{query}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?back=%2F")
        assert "evil" not in client.get("/sign-in").text


def test_a_sign_in_is_begun_by_our_own_page_alone(place: Place) -> None:
    with httpx.Client(base_url=place.console_url) as client:
        client.get("/sign-in")
        assert client.post("/sign-in/with/staff", data={"token": "wrong"}).status_code == 403
        other = {"Origin": "https://evil.example"}
        assert client.post("/sign-in/with/staff", data={"token": "wrong"}, headers=other).status_code == 403
        assert client.get("/sign-in/with/staff").status_code in (404, 405)


def test_the_sessions_key_is_nobodys_when_the_hub_has_ended_it(place: Place) -> None:
    with Client(place.hub_url, "yk_" + "A" * 43) as client, pytest.raises(Unauthenticated):
        client.sign_out()
