"""Balance, invoices, moves of the book, the proof, and files for spreadsheets."""

import csv
import io
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests.console.conftest import Watched, Windows, save
from tests.console.people import fits, key_of, ran_at
from yunhe.apps.embedded import Network
from yunhe.console.exports import safe, text_of
from yunhe.console.panels import beside
from yunhe.core.units import format_money
from yunhe.sdk.client import Client


def test_a_customer_sees_its_money_and_what_it_paid_for(
    window: Watched, network: Network, customer: Client, operator: Client
) -> None:
    order_id = ran_at(customer, "qingpu", "on-the-invoice")
    window.sign_in(network.customer_key)
    page = window.open("/money")
    page.get_by_text(format_money(customer.balance().available_microcny), exact=True).wait_for()
    page.get_by_role("link", name="on-the-invoice").wait_for()
    page.locator("td", has_text=f"charge:{order_id}.0:1").wait_for()
    assert page.get_by_text("Proof of the book").count() == 0
    save(page, "money")
    page.get_by_role("link", name="Available").click()
    page.locator("td", has_text="world:deposits").wait_for()
    expect(page.locator("td", has_text="org:my-lab:available").first).to_be_visible()
    page.get_by_role("link", name="The month before").click()
    page.get_by_text("Nothing was charged in").wait_for()
    window.open("/money?account=org:delta-cloud:earned").get_by_text("is not known").wait_for()


def test_both_as_csv_with_the_rights_of_the_session(
    window: Watched, network: Network, customer: Client, tmp_path: Path
) -> None:
    ran_at(customer, "qingpu", "in the file")
    window.sign_in(network.customer_key)
    page = window.open("/money")
    page.get_by_role("link", name="As CSV").nth(1).wait_for()
    found = []
    for number in range(2):
        with page.expect_download() as download:
            page.get_by_role("link", name="As CSV").nth(number).click()
        download.value.save_as(tmp_path / "file.csv")
        text = (tmp_path / "file.csv").read_bytes().decode("utf-8-sig")
        found.append(list(csv.DictReader(io.StringIO(text))))
    invoice, moves = found
    month = invoice[0]["month"]
    assert sum(int(row["total_microcny"]) for row in invoice) == customer.invoice(month).total_microcny
    assert {row["set_ref"] for row in moves} == {posting.set_ref for posting in customer.postings()}
    assert all(int(row["amount"]) > 0 for row in moves)

    url = network.console_url
    assert httpx.get(f"{url}/money/postings.csv").status_code == 401
    cookies = {c["name"]: c["value"] for c in window.context.cookies() if c["name"] == "yunhe_console"}  # type: ignore[typeddict-item]
    with httpx.Client(base_url=url, cookies=cookies) as mine:
        assert mine.get("/money/postings.csv", params={"account": "org:delta-cloud:earned"}).status_code == 404
        assert mine.get("/money/invoice.csv", params={"month": month, "of": "delta-cloud"}).status_code == 403
        assert mine.get("/money/invoice.csv", params={"month": "2026-13"}).status_code == 422
        answer = mine.get("/money/invoice.csv", params={"month": month})
        assert answer.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\n=1"])
def test_no_spreadsheet_computes_a_cell(cell: str) -> None:
    assert safe(cell) == f"'{cell}"
    [[read]] = list(csv.reader(io.StringIO(text_of([[cell]]), newline="")))
    assert read == f"'{cell}"


def test_plain_cells_stay_as_they_are() -> None:
    assert [safe(cell) for cell in ("job 1", "", 7, -7, "a=b", "订单")] == ["job 1", "", 7, -7, "a=b", "订单"]
    assert text_of([["a,b", 'c"d']]) == '"a,b","c""d"\r\n'


def test_months_turn_over_the_year() -> None:
    assert (beside("2026-01", -1), beside("2026-12", 1), beside("2026-11", 0)) == ("2025-12", "2027-01", "2026-11")


def test_an_operator_looks_at_any_account_and_proves_the_book(
    window: Watched, network: Network, customer: Client
) -> None:
    window.sign_in(network.operator_key)
    page = window.open("/money?of=my-lab")
    page.get_by_text(format_money(customer.balance().available_microcny), exact=True).wait_for()
    page.get_by_role("button", name="Check now").click()
    page.locator(".q-badge", has_text="balanced").wait_for()
    page.get_by_text("Sum of CNY/6").wait_for()
    expect(page.locator("dd", has_text="0.00CNY").first).to_be_visible()
    page.get_by_label("Any account").fill("operator:fees")
    page.get_by_label("Any account").press("Enter")
    page.wait_for_url("**account=operator%3Afees*")
    assert "of=my-lab" in page.url
    window.open("/money?of=nobody").get_by_text("is not known").first.wait_for()


def test_a_provider_has_money_but_no_invoice(window: Watched, operator: Client) -> None:
    window.sign_in(key_of(operator, "poor-co", "provider"))
    page = window.open("/money")
    page.get_by_text("No moves yet").wait_for()
    assert page.get_by_text("Invoice").count() == 0


def test_a_visitor_is_asked_to_sign_in(window: Watched) -> None:
    window.open("/money").get_by_text("Sign in to see this.").wait_for()


def test_on_a_phone_in_chinese_in_the_dark(windows: Windows, network: Network) -> None:
    watched = windows(language="zh-CN", phone=True, dark=True)
    watched.sign_in(network.customer_key)
    page = watched.open("/money")
    page.get_by_text("账目流水").wait_for()
    page.locator("td", has_text="充值").or_(page.locator("td", has_text="冻结")).first.wait_for()
    assert fits(page)
    save(page, "money-phone")
