"""What an operator does in the browser, and what nobody else can."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import Watched, Windows, save
from tests.console.people import fits, key_of, newcomer, ran_at
from yunhe.apps.embedded import Network
from yunhe.core.errors import Forbidden, Unauthenticated
from yunhe.sdk.client import Client


def secret_in(page: Page, begins: str) -> str:
    """The secret that a dialog shows; the dialog is closed."""
    dialog = page.get_by_role("alertdialog")
    shown = dialog.locator(".yunhe-secret")
    expect(shown).to_have_text(re.compile(begins))
    text = shown.inner_text()
    dialog.get_by_role("button", name="I have kept it").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_text(text)).to_have_count(0)
    return text


def test_an_operator_approves_a_site_with_a_price(window: Watched, network: Network, operator: Client) -> None:
    with newcomer(network, operator, "new-co", "New West") as site_id:
        window.sign_in(network.operator_key)
        page = window.open("/operator")
        waiting = page.locator(".yunhe-card .yunhe-card", has_text="New West")
        waiting.get_by_role("button", name="Approve").click()
        form = page.locator(".yunhe-form")
        form.get_by_label("Price per core hour").fill("a lot")
        form.get_by_role("button", name="Approve").click()
        form.locator("[role=alert]", has_text="price_per_core_hour").wait_for()
        assert operator.site(site_id).state == "pending"
        form.get_by_label("Price per core hour").fill("0.25CNY")
        form.get_by_role("button", name="Approve").click()
        expect(waiting).to_have_count(0)
        assert operator.site(site_id).state == "approved"
        assert "price_microcny_per_core_hour" not in operator.site(site_id).assumed


def test_an_operator_refuses_a_site(window: Watched, network: Network, operator: Client) -> None:
    with newcomer(network, operator, "new-co", "Unwanted") as site_id:
        window.sign_in(network.operator_key)
        page = window.open("/operator")
        page.locator(".yunhe-card .yunhe-card", has_text="Unwanted").get_by_role("button", name="Refuse").click()
        page.get_by_role("alertdialog").get_by_role("button", name="Refuse").click()
        page.get_by_text("Unwanted is refused.").wait_for()
        assert operator.site(site_id).state == "left"


def test_a_token_is_shown_once(window: Watched, network: Network) -> None:
    window.sign_in(network.operator_key)
    page = window.open("/operator")
    page.get_by_label("Organisation (id)").fill("no-such")
    page.get_by_role("button", name="Make a token").click()
    page.locator(".q-notification", has_text="there is no organisation no-such").wait_for()
    page.get_by_label("Organisation (id)").fill("delta-cloud")
    page.get_by_role("button", name="Make a token").click()
    token = secret_in(page, "^yt_")
    assert len(token) > 40


def test_organisations_with_quota_and_deposits(window: Watched, network: Network, operator: Client) -> None:
    window.sign_in(network.operator_key)
    page = window.open("/operator?show=accounts")
    new = page.locator(".yunhe-row > .yunhe-card", has_text="New organisation")
    new.get_by_label("Organisation (id)").fill("Upper Case")
    new.get_by_label("Name").fill("x")
    new.get_by_role("button", name="Create").click()
    page.locator(".q-notification", has_text="id").wait_for()
    new.get_by_label("Organisation (id)").fill("by-hand")
    new.get_by_label("Name").fill("By hand")
    new.get_by_label("Quota of units").fill("2.5")
    new.get_by_label("Credit limit").fill("3CNY")
    new.get_by_role("button", name="Create").click()
    row = page.locator("tr", has_text="by-hand")
    expect(row).to_contain_text("2.5")
    expect(row).to_contain_text("3.00CNY")
    book = page.locator(".yunhe-row > .yunhe-card", has_text="Book a deposit")
    book.get_by_label("Organisation (id)").fill("by-hand")
    book.get_by_label("Amount").fill("7CNY")
    book.get_by_label("Reference").fill("bank 7")
    book.get_by_role("button", name="Book").click()
    page.locator(".q-notification", has_text="7.00CNY available").wait_for()
    assert operator.balance("by-hand").available_microcny == 7_000_000
    page = window.open("/operator?show=accounts&text=nobody-at-all")
    page.get_by_text("No organisation matches.").wait_for()


def test_a_key_is_shown_once_works_and_is_revoked(window: Watched, network: Network, operator: Client) -> None:
    key_of(operator, "key-co", "customer")
    window.sign_in(network.operator_key)
    page = window.open("/operator?show=keys&text=key-co")
    page.locator("li", has_text="key-co").wait_for()
    page.get_by_label("Organisation (id)").fill("key-co")
    page.get_by_label("Who").fill("a-program")
    page.get_by_label("Role").click()
    page.get_by_role("option", name="auditor").click()
    page.locator("main").get_by_role("button", name="Create").click()
    key = secret_in(page, "^yk_")
    with Client(network.url, key) as made:
        assert (made.whoami().member, made.whoami().role) == ("a-program", "auditor")
        row = page.locator("li", has_text="a-program")
        row.get_by_role("button", name="Revoke").click()
        page.get_by_role("alertdialog").get_by_role("button", name="Revoke").click()
        row.get_by_text("revoked").wait_for()
        with pytest.raises(Unauthenticated):
            made.whoami()


def test_the_policy_of_rounds_and_the_hub_itself(window: Watched, network: Network, operator: Client) -> None:
    window.sign_in(network.operator_key)
    page = window.open("/operator?show=round")
    for name, value in operator.round().policy.items():
        shown = ("on" if value else "off") if isinstance(value, bool) else f"{value:,}"
        expect(page.locator("tr", has_text=name)).to_contain_text(shown)
    save(page, "operator-round")
    page = window.open("/operator?show=health")
    page.locator(".q-badge", has_text="ready").wait_for()
    page.get_by_text(operator.hub().id).wait_for()
    page.get_by_text("runs the rounds").wait_for()


def test_the_audit_trail_leads_to_the_orders(
    window: Watched, network: Network, operator: Client, customer: Client
) -> None:
    order_id = ran_at(customer, "guian", "audited")
    window.sign_in(network.operator_key)
    page = window.open("/operator?show=audit")
    rows = page.locator("tr", has_text=order_id)
    expect(rows.filter(has_text="succeeded")).to_have_count(1)
    expect(rows.filter(has_text="submitted")).to_have_count(1)
    rows.first.get_by_role("link").click()
    page.wait_for_url(f"**/orders/{order_id}")
    newest = operator.latest_events(limit=2)
    older = operator.latest_events(limit=2, cursor=newest.next_cursor)
    assert [e.at_utc_ms for e in (*newest.events, *older.events)] == sorted(
        (e.at_utc_ms for e in (*newest.events, *older.events)), reverse=True
    )
    assert not {event.id for event in newest.events} & {event.id for event in older.events}
    with pytest.raises(Forbidden):
        customer.latest_events()


def test_an_auditor_reads_and_changes_nothing(window: Watched, network: Network, operator: Client) -> None:
    with newcomer(network, operator, "new-co", "Audited") as site_id:
        window.sign_in(key_of(operator, "audit-co", "auditor"))
        page = window.open("/operator")
        page.get_by_role("link", name="Audited").wait_for()
        for path in ("/operator", "/operator?show=accounts", "/operator?show=keys", f"/provider/{site_id}"):
            page = window.open(path)
            page.locator("table, li, dl").first.wait_for()
            assert page.locator("main .bg-primary, main .text-negative").count() == 0, path


def test_it_is_nobody_elses(window: Watched, network: Network) -> None:
    window.open("/operator").get_by_text("Sign in to see this.").wait_for()
    window.sign_in(network.customer_key)
    page = window.open("/operator")
    page.locator("[role=alert]", has_text="forbidden").wait_for()
    assert page.locator("main nav").count() == 0


@pytest.mark.parametrize("show", ["sites", "accounts", "keys", "audit", "round", "health"])
def test_on_a_phone_in_chinese_in_the_dark(windows: Windows, network: Network, show: str) -> None:
    watched = windows(language="zh-CN", phone=True, dark=True)
    watched.sign_in(network.operator_key)
    page = watched.open(f"/operator?show={show}")
    page.locator("main .yunhe-card").first.wait_for()
    expect(page.get_by_text("加载中")).to_have_count(0)
    assert fits(page)
    save(page, f"operator-phone-{show}")
