"""The frame: visitors, signing in and out, two languages, light and dark, what stands before the pages."""

import re

import httpx
import pytest

from tests.console.conftest import Watched, Windows
from yunhe.apps.embedded import Network
from yunhe.console import wording


def test_both_languages_say_the_same_things() -> None:
    texts = {language: wording.texts(language) for language in wording.LANGUAGES}
    first, *others = texts.values()
    for other in others:
        assert sorted(other) == sorted(first)
        for key, text in first.items():
            holes = re.findall(r"{\w*}", text)
            assert sorted(re.findall(r"{\w*}", other[key])) == sorted(holes), key
    assert not any(re.search("[一-鿿]", text) for key, text in texts["en"].items() if key != "shell.language")


def test_a_visitor_sees_the_network_and_is_asked_to_sign_in_for_orders(window: Watched) -> None:
    page = window.open("/")
    assert page.title().endswith("Yunhe")
    assert page.locator("nav a", has_text="Orders").count() == 0
    window.open("/orders").locator("text=Sign in to see this.").wait_for()


def test_a_user_signs_in_and_out(window: Watched, network: Network) -> None:
    page = window.sign_in(network.customer_key)
    page.locator("header nav a", has_text="Orders").first.click()
    page.wait_for_url("**/orders")
    page.locator("header button", has_text="Sign out").click()
    page.wait_for_url(window.url + "/")
    window.open("/orders").locator("text=Sign in to see this.").wait_for()


def test_a_wrong_key_is_told_and_nothing_else_happens(window: Watched) -> None:
    page = window.open("/sign-in")
    page.fill("input[name=key]", "yk_wrong")
    page.click("main button[type=submit]")
    page.locator("[role=alert]", has_text="does not know").wait_for()


def test_chinese_by_the_browser_and_by_the_button(windows: Windows) -> None:
    page = windows(language="zh-CN").open("/sign-in")
    page.locator("h1, [role=heading]", has_text="登录").wait_for()
    page.locator("header button", has_text="English").click()
    page.locator("h1, [role=heading]", has_text="Sign in").wait_for()


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_as_the_browser_prefers(windows: Windows, dark: bool) -> None:
    page = windows(dark=dark).open("/sign-in")
    page.wait_for_selector("body.body--dark" if dark else "body.body--light")


def test_a_key_never_comes_to_the_browser(window: Watched, network: Network) -> None:
    page = window.sign_in(network.customer_key)
    assert network.customer_key not in page.content()
    assert all(network.customer_key not in str(cookie) for cookie in window.context.cookies())
    [cookie] = [c for c in window.context.cookies() if c["name"] == "yunhe_console"]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"


def test_another_sign_in_gives_another_session(window: Watched, network: Network) -> None:
    window.open("/")
    [before] = [c["value"] for c in window.context.cookies() if c["name"] == "yunhe_console"]
    window.sign_in(network.customer_key)
    [after] = [c["value"] for c in window.context.cookies() if c["name"] == "yunhe_console"]
    assert before != after


def test_forms_of_other_sites_are_refused(network: Network) -> None:
    url = network.console_url
    with httpx.Client() as stranger:
        assert stranger.get(url, headers={"Origin": "http://evil.example"}).status_code == 403
        assert stranger.post(f"{url}/sign-out", data={"token": "guessed"}).status_code == 403
        assert stranger.post(f"{url}/sign-in", data={"token": "x", "key": "yk_x"}).status_code == 403
        assert stranger.post(f"{url}/sign-in", data={"token": "x", "key": "k" * 10_000}).status_code == 422


def test_scripts_run_by_a_nonce_of_each_answer(network: Network) -> None:
    answers = [httpx.get(network.console_url + "/") for _ in range(2)]
    nonces = [re.findall(r"'nonce-([^']+)'", answer.headers["content-security-policy"]) for answer in answers]
    assert nonces[0] != nonces[1]
    for answer, [nonce] in zip(answers, nonces, strict=True):
        assert answer.headers["x-frame-options"] == "DENY"
        assert len(re.findall(r"<script\b", answer.text)) == answer.text.count(f'nonce="{nonce}"')
