"""Orders as a person sees them: from the form to the settled bill, in a real browser against a real network."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Page, expect

from tests.console.conftest import PATIENCE_MS, Watched, Windows, save
from yunhe.apps.embedded import Network
from yunhe.sdk.client import Client
from yunhe.wire.api import OrderSpec

NOWHERE = {"cores": 0.1, "tier": 5}  # no site is that well guarded


def spec(name: str, *command: str, **fields: object) -> OrderSpec:
    run = {"command": command or ("true",)}
    return OrderSpec.model_validate(
        {"name": name, "run": run, "requirement": {"cores": 0.1}, "duration": "2m"} | fields
    )


@contextmanager
def waiting(customer: Client, *names: str) -> Iterator[tuple[str, ...]]:
    """Orders that nobody can take, while the block runs."""
    orders = [spec(name, requirement=NOWHERE, budget="0.001CNY") for name in names]
    ids = customer.submit_batch(orders)
    try:
        yield ids
    finally:
        for order_id in ids:
            customer.cancel(order_id)


def fill(page: Page, label: str, text: str) -> None:
    page.get_by_label(label, exact=True).fill(text)


def open_form(window: Watched, path: str = "/new") -> Page:
    page = window.open(path)
    page.locator("ol.yunhe-list li").first.wait_for()
    return page


# --- a new order -----------------------------------------------------------------------------------------------------


def test_from_the_form_to_the_settled_bill(window: Watched, network: Network, customer: Client) -> None:
    window.sign_in(network.customer_key)
    page = open_form(window)
    fill(page, "Command", "sh -c 'for i in 1 2 3; do echo line $i; sleep 1; done; echo done > out.txt'")
    page.get_by_text("More: name").click()
    fill(page, "Name", "from the form")
    fill(page, "Files to keep, one to a line", "out.txt")
    page.get_by_text("The order as YAML").click()
    expect(page.locator(".yunhe-said").first).to_contain_text("name: from the form")
    save(page, "new-order")
    page.get_by_role("button", name="Order", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text(re.compile(r"Held: 0\.\d+CNY"))
    page.get_by_role("button", name="Place the order").click()
    page.wait_for_url("**/orders/ord_*")
    order_id = page.url.rpartition("/")[2]
    expect(page.get_by_role("log")).to_contain_text("line 1", timeout=PATIENCE_MS)
    expect(page.locator("#content")).to_contain_text("(settled)", timeout=3 * PATIENCE_MS)
    expect(page.locator("#content")).to_contain_text("Computed again from the inputs here: the same.")
    expect(page.get_by_role("log")).to_contain_text("line 3")
    save(page, "order")
    with page.expect_download() as coming:
        page.get_by_role("link", name="out.txt").click()
    assert coming.value.suggested_filename == "out.txt"
    assert Path(coming.value.path()).read_text() == "done\n"
    shown = page.locator("dd", has_text="(settled)").inner_text()
    charged = customer.order(order_id).charged_microcny
    assert f"{charged / 1e6:.6f}".rstrip("0") in shown
    page.get_by_role("button", name="Repeat").click()
    page.wait_for_url(f"**/new?like={order_id}")
    expect(page.get_by_label("Command", exact=True)).to_have_value(re.compile("for i in 1 2 3"))


def test_an_error_stands_at_the_field_that_the_hub_names(window: Watched, network: Network) -> None:
    window.sign_in(network.customer_key)
    page = open_form(window)
    page.get_by_text("More: name").click()
    order = page.get_by_role("button", name="Order", exact=True)
    for label, wrong, said in (
        ("Memory", "2 bananas", "unknown unit 'bananas'"),
        ("Number of tasks", "many", "must be a valid integer"),
        ("Budget", "3 yuan", "did you mean 'CNY'?"),
        ("Deadline", "yesterday", "does not begin with a plain number"),
        ("Security tier at least", "9", "less than or equal to 5"),
        ("Command", "echo 'open", "a quote is not closed"),
    ):
        field = page.get_by_label(label, exact=True)
        before = field.input_value()
        field.fill(wrong)
        expect(page.locator(".q-field--error", has=field)).to_contain_text(said)
        expect(order).to_be_disabled()
        field.fill(before)
        expect(page.locator(".q-field--error")).to_have_count(0)
        expect(order).to_be_enabled()


def test_what_does_not_fit_says_why_while_one_types(window: Watched, network: Network) -> None:
    window.sign_in(network.customer_key)
    page = open_form(window)
    fill(page, "Latency at most", "1ms")
    page.get_by_label("Latency to", exact=True).fill("Urum")
    page.get_by_role("option", name="Urumqi").click()
    expect(page.locator("#content")).to_contain_text("No pool can take it now.")
    expect(page.locator("#content")).to_contain_text("latency: needs <= 1ms round trip to urumqi")
    page.get_by_role("button", name="Order", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text("Without a budget such an order is refused")
    expect(page.get_by_role("button", name="Place the order")).to_be_disabled()


def test_another_stack_needs_cards(window: Watched, network: Network) -> None:
    window.sign_in(network.customer_key)
    page = open_form(window)
    page.get_by_text("Another stack").click()
    page.get_by_label("Command", exact=True).nth(1).fill("./on-cards")
    page.get_by_label("Image", exact=True).nth(1).fill("job:cuda")
    page.get_by_text("The order as a command").click()
    expect(page.locator(".yunhe-said").nth(1)).to_contain_text("yunhe submit order.yaml")
    expect(page.locator(".yunhe-said").nth(1)).to_contain_text("cuda: [./on-cards]")


# --- the list --------------------------------------------------------------------------------------------------------


def test_filters_and_pages_live_in_the_address(window: Watched, network: Network, customer: Client) -> None:
    names = [f"listed {n:02}" for n in range(30)]
    with waiting(customer, *names):
        window.sign_in(network.customer_key)
        page = window.open("/orders?state=open&text=LISTED")
        rows = page.locator("tbody tr")
        expect(rows).to_have_count(25)
        expect(rows.first).to_contain_text("waiting")
        page.get_by_role("link", name="Older »").click()
        expect(rows).to_have_count(5)
        assert "cursor=" in page.url
        page.go_back()
        expect(rows).to_have_count(25)
        page.get_by_label("Name or id").fill("listed 07")
        page.keyboard.press("Enter")
        expect(rows).to_have_count(1)
        assert "text=listed+07" in page.url
        assert "state=open" in page.url
        rows.get_by_role("link", name="listed 07").click()
        expect(page.locator("#content [role=heading]").first).to_have_text("listed 07")
        window.open("/orders?state=succeeded&text=listed").locator(".yunhe-empty").wait_for()


def test_a_list_follows_what_happens(window: Watched, network: Network, customer: Client) -> None:
    with waiting(customer, "followed") as (order_id,):
        window.sign_in(network.customer_key)
        page = window.open("/orders?text=followed")
        expect(page.locator("tbody")).to_contain_text("waiting")
        customer.cancel(order_id)
        expect(page.locator("tbody")).to_contain_text("withdrawn")


def test_strange_addresses_are_answered(window: Watched, network: Network) -> None:
    window.sign_in(network.customer_key)
    window.open("/orders?cursor=nonsense").locator("[role=alert]", has_text="cursor").wait_for()
    page = window.open("/orders?state=%3Cscript%3E&text=%22%3E%3Cimg src=x onerror=alert(1)%3E")
    page.locator(".yunhe-empty").wait_for()
    window.open("/orders/ord_nobodys").locator("[role=alert]", has_text="not_found").wait_for()


# --- one order -------------------------------------------------------------------------------------------------------


def test_why_it_waits_and_taking_it_back(window: Watched, network: Network, customer: Client) -> None:
    with waiting(customer, "too safe") as (order_id,):
        window.sign_in(network.customer_key)
        page = window.open(f"/orders/{order_id}")
        expect(page.locator("#content")).to_contain_text("no pool of the network can meet this requirement")
        expect(page.locator("#content")).to_contain_text("security tier: needs security tier >= 5")
        save(page, "order-waiting")
        page.get_by_role("button", name="Cancel order").click()
        page.get_by_role("button", name="Keep it").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.get_by_role("button", name="Cancel order").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel order").click()
        expect(page.locator(".yunhe-way")).to_contain_text("withdrawn before it was placed")
        expect(page.get_by_role("button", name="Cancel order")).to_have_count(0)


def test_a_long_log_is_bounded_and_a_loud_one_is_text(window: Watched, network: Network, customer: Client) -> None:
    program = "print('\\x1b[31m<b>red</b>'); [print(f'{n:06} ' + 'x' * 90) for n in range(5000)]; print('the end')"
    order = customer.submit(spec("loud", "python3", "-c", program))
    customer.wait(order.id, timeout=60)
    window.sign_in(network.customer_key)
    page = window.open(f"/orders/{order.id}")
    log = page.get_by_role("log")
    expect(log).to_contain_text("the end")
    assert len(log.inner_text()) < 200 * 1024
    assert log.locator("b").count() == 0
    with page.expect_download() as coming:
        page.get_by_role("link", name="Whole log as a file").click()
    whole = Path(coming.value.path()).read_text()
    assert whole.count("\n") == 5002
    assert "<b>red</b>" in whole


def test_files_come_with_the_rights_of_the_session_alone(window: Watched, network: Network, customer: Client) -> None:
    order = customer.submit(_kept())
    customer.wait(order.id, timeout=60)
    [output] = customer.outputs(order.id)
    where = f"{network.console_url}/orders/{order.id}/output"
    query = {"lease_id": output.lease_id, "path": output.path}
    assert httpx.get(where, params=query).status_code == 401
    assert httpx.get(f"{network.console_url}/orders/{order.id}/log").status_code == 401
    window.sign_in(network.customer_key)
    request = window.context.request
    found = request.get(where, params=query)
    assert found.body() == b"hi\n"
    assert found.headers["content-disposition"] == "attachment; filename*=utf-8''a%20b%22c.html"
    assert found.headers["content-type"] == "application/octet-stream"
    for path in ("../../../etc/passwd", "/etc/passwd", "nothing.txt", "x" * 200):
        assert request.get(where, params=query | {"path": path}).status == 404
    assert request.get(where, params=query | {"lease_id": "ord_other.0"}).status == 404
    assert request.get(f"{network.console_url}/orders/ord_other/log").status == 404


def _kept() -> OrderSpec:
    path = 'a b"c.html'
    return spec("kept", run={"command": ["sh", "-c", f"echo hi > '{path}'"], "outputs": [path]})


def test_pages_of_a_visitor_ask_to_sign_in(window: Watched) -> None:
    for path in ("/new", "/orders", "/orders/ord_x"):
        window.open(path).get_by_text("Sign in to see this.").wait_for()


def test_on_a_phone_in_chinese_in_the_dark(windows: Windows, network: Network, customer: Client) -> None:
    order = customer.submit(spec("phone", "sh", "-c", "echo 你好"))
    customer.wait(order.id, timeout=60)
    window = windows(language="zh-CN", phone=True, dark=True)
    window.sign_in(network.customer_key)
    for path, seen in (("/new", "报价"), ("/orders", "订单"), (f"/orders/{order.id}", "一致")):
        page = window.open(path)
        expect(page.locator("#content")).to_contain_text(seen)
        if path == "/new":
            page.locator("ol.yunhe-list li").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        save(page, f"phone{path.replace('/', '-')[:8]}")
    expect(page.get_by_role("log")).to_contain_text("你好")
