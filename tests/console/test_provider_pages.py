"""A provider's sites: what it sees, what it may change, and what it is asked before."""

import re

import pytest
from playwright.sync_api import expect

from tests.console.conftest import Watched, Windows, save
from tests.console.people import fits, key_of, newcomer, ran_at
from yunhe.apps.embedded import Network
from yunhe.sdk.client import Client


def test_a_provider_sees_its_own_site_nominal_against_measured(window: Watched, operator: Client) -> None:
    window.sign_in(key_of(operator, "guizhou-data", "provider"))
    page = window.open("/provider")
    page.get_by_role("link", name="guian").wait_for()
    assert page.locator("td", has_text="zhangjiakou").count() == 0
    page.get_by_role("link", name="guian").click()
    page.wait_for_url("**/provider/guian")
    page.get_by_text("guian:cpu").wait_for()
    pool = operator.site("guian").pools[0]
    rate = next(rate for rate in pool.rates if rate.precision == "fp64")
    assert rate.nominal_flops and rate.measured_flops
    row = page.locator("tr", has=page.get_by_text("FP64", exact=True))
    expect(row).to_contain_text(f"{100 * rate.measured_flops / rate.nominal_flops:.1f} %")
    page.get_by_text("Believed to 100.0 %").wait_for()
    page.get_by_text("Last contact").wait_for()
    expect(page.locator(".q-badge", has_text="connected")).to_be_visible()
    save(page, "provider")


def test_what_ran_what_it_earned_and_no_customers_name(
    window: Watched, operator: Client, customer: Client, network: Network
) -> None:
    order_id = ran_at(customer, "guian", "for-the-provider")
    [charge] = [c for c in operator.charges("guian").charges if c.lease_id == f"{order_id}.0"]
    window.sign_in(key_of(operator, "guizhou-data", "provider"))
    page = window.open("/provider/guian")
    row = page.locator("tr", has_text=charge.lease_id)
    expect(row).to_contain_text(f"{charge.earned_microcny / 1e6:f}".rstrip("0"))
    assert "my-lab" not in page.content() and "for-the-provider" not in page.content()
    page.get_by_role("link", name="Disputed").click()
    page.wait_for_url(re.compile("show=disputed"))
    page.get_by_text("Nothing is disputed.").wait_for()
    page.get_by_role("link", name="The month before").click()
    page.get_by_text("Nothing was earned in").wait_for()


def test_a_provider_pauses_and_resumes_a_site_by_keyboard(window: Watched, operator: Client) -> None:
    window.sign_in(key_of(operator, "guizhou-data", "provider"))
    page = window.open("/provider/guian")
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("Pause guian?").wait_for()
    page.get_by_role("button", name="Back").press("Enter")
    expect(page.get_by_text("Pause guian?")).to_be_hidden()
    assert operator.site("guian").state == "active"
    try:
        page.get_by_role("button", name="Pause").press("Enter")
        page.get_by_role("alertdialog").get_by_role("button", name="Pause").press("Enter")
        page.locator(".q-badge", has_text="paused").wait_for()
        assert operator.site("guian").state == "paused"
        page.get_by_role("button", name="Resume").click()
        page.get_by_role("alertdialog").get_by_role("button", name="Resume").click()
        page.locator(".q-badge", has_text="active").wait_for()
    finally:
        assert operator.resume("guian").state == "active"


def test_a_site_leaves_only_when_its_name_was_typed(window: Watched, operator: Client, network: Network) -> None:
    with newcomer(network, operator, "leaving-co", "Leaving East") as site_id:
        window.sign_in(key_of(operator, "leaving-co", "provider"))
        page = window.open(f"/provider/{site_id}")
        page.get_by_role("button", name="Leave").click()
        dialog = page.get_by_role("alertdialog")
        sure = dialog.get_by_role("button", name="Leave")
        expect(sure).to_be_disabled()
        dialog.get_by_label(f"Type {site_id} to confirm").fill("something else")
        expect(sure).to_be_disabled()
        dialog.get_by_label(f"Type {site_id} to confirm").fill(site_id)
        sure.click()
        page.locator(".q-badge", has_text="left").wait_for()
        assert operator.site(site_id).state == "left"


def test_what_is_others_is_not_there_and_nothing_yet_says_what_to_do(window: Watched, operator: Client) -> None:
    window.sign_in(key_of(operator, "empty-co", "provider"))
    window.open("/provider").get_by_text("No site of yours takes part yet").wait_for()
    page = window.open("/provider/guian")
    page.get_by_text("guian:cpu").wait_for()  # the network is everybody's to see
    page.locator("[role=alert]", has_text="site guian is not known").first.wait_for()  # its money is not
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Pause").click()
    page.locator(".q-notification", has_text="not_found").wait_for()
    assert operator.site("guian").state == "active"


def test_a_session_that_ended_changes_nothing(windows: Windows, operator: Client) -> None:
    key = key_of(operator, "guizhou-data", "provider")
    watched = windows()
    watched.sign_in(key)
    page = watched.open("/provider/guian")
    page.get_by_role("button", name="Pause").click()
    other = watched.context.new_page()
    other.goto(watched.url + "/")
    other.locator("header button", has_text="Sign out").click()
    other.locator("header a", has_text="Sign in").wait_for()
    page.get_by_role("alertdialog").get_by_role("button", name="Pause").click()
    page.locator(".q-notification", has_text="unauthenticated").wait_for()
    assert operator.site("guian").state == "active"


@pytest.mark.parametrize("path", ["/provider", "/provider/guian"])
def test_on_a_phone_in_chinese_in_the_dark(windows: Windows, network: Network, path: str) -> None:
    watched = windows(language="zh-CN", phone=True, dark=True)
    watched.sign_in(network.operator_key)
    page = watched.open(path)
    page.get_by_text("运行中").first.wait_for()
    assert fits(page)
    save(page, f"provider-phone-{path.count('/')}")
