"""A round looked at in the browser, down to one order's candidates; what people changed; a quota changed."""

import re

from playwright.sync_api import expect

from tests.console.conftest import Watched, Windows, save
from tests.console.people import fits, key_of, ran_at
from yunhe.apps.embedded import Network
from yunhe.sdk.client import Client


def test_an_operator_finds_out_why_an_order_went_there(
    window: Watched, network: Network, customer: Client, operator: Client
) -> None:
    site = next(site for site in operator.sites() if site.connected)
    order_id = ran_at(customer, site.id, "looked-at")
    window.sign_in(network.operator_key)
    page = window.open(f"/orders/{order_id}")
    page.get_by_text(re.compile("places that fitted")).wait_for()
    expect(page.locator("tr", has_text="chosen (1)")).to_contain_text("CNY")
    page.get_by_role("link", name=re.compile(r"Round \d+ in detail")).click()
    expect(page.locator("tr", has_text="chosen (1)")).to_contain_text(site.name)
    page.get_by_text("Pools that did not fit").wait_for()
    save(page, "round-order")
    page.get_by_role("link", name=re.compile(r"^Round \d+$")).click()
    row = page.locator("tr", has_text=order_id)
    expect(row).to_contain_text("1 / 1")
    row.get_by_role("link").click()
    expect(page.locator("tr", has_text="chosen (1)")).to_contain_text(site.name)
    page.get_by_role("link", name="All rounds").click()
    page.get_by_text("Rounds that the hub keeps").wait_for()
    expect(page.locator("tr", has_text="orders came").first).to_be_visible()
    save(page, "rounds")
    page = window.open("/operator?show=round&round=999999999")
    page.get_by_text("round 999999999 is not kept").wait_for()


def test_a_customer_sees_its_own_reasons_and_no_round(window: Watched, network: Network, customer: Client) -> None:
    site_id = customer.sites()[0].id
    order_id = ran_at(customer, site_id, "my-own")
    window.sign_in(network.customer_key)
    page = window.open(f"/orders/{order_id}")
    expect(page.locator("tr", has_text="chosen (1)")).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("in detail"))).to_have_count(0)
    page = window.open("/operator?show=round")
    page.get_by_text("Code: forbidden").wait_for()


def test_a_quota_is_changed_and_who_did_it_is_told(windows: Windows, network: Network, operator: Client) -> None:
    key_of(operator, "quota-co", "customer")
    window = windows()
    window.sign_in(network.operator_key)
    page = window.open("/operator?show=accounts&text=quota-co")
    form = page.locator(".yunhe-row > .yunhe-card", has_text="Change an organisation")
    form.get_by_label("Organisation (id)").fill("quota-co")
    form.get_by_label("Quota of units").fill("many")
    form.get_by_role("button", name="Change").click()
    page.locator(".q-notification", has_text="quota_cores").wait_for()
    form.get_by_label("Quota of units").fill("1.5")
    form.get_by_label("Share").fill("4")
    form.get_by_role("button", name="Change").click()
    page.locator(".q-notification", has_text="quota-co is changed.").wait_for()
    expect(page.locator("tr", has_text="quota-co")).to_contain_text("1.5")
    found = operator.organisations()
    assert [(o.quota_milli, o.weight) for o in found if o.id == "quota-co"] == [(1500, 4)]
    page = window.open("/operator?show=audit")
    line = page.locator("tr", has_text="changed an organisation").first
    expect(line).to_contain_text("quota-co")
    expect(line).to_contain_text("Quota: no limit → 1.5; Share: 1 → 4")
    save(page, "audit")


def test_rounds_in_chinese_on_a_phone(windows: Windows, network: Network, customer: Client) -> None:
    ran_at(customer, customer.sites()[0].id, "phone")
    window = windows(language="zh-CN", phone=True, dark=True)
    window.sign_in(network.operator_key)
    page = window.open("/operator?show=round")
    page.get_by_text("枢纽保留的调度轮次").wait_for()
    page.locator("tbody tr a").first.click()
    page.get_by_text("费用与下界").wait_for()
    assert fits(page)
    page.locator("tbody tr a").first.click()
    page.get_by_text("选中（1）").wait_for()
    assert fits(page)
    save(page, "round-order-phone-zh")
