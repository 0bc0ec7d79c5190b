"""The front page: what a visitor sees, live; and thousands of sites in a bounded number of bubbles."""

import numpy as np
import pytest

from tests.console.conftest import Watched, Windows, save
from yunhe.console.sums import MAX_BUBBLES, bubbles, by, total, used_percent
from yunhe.sdk.client import Client
from yunhe.wire.api import NetworkSiteView
from yunhe.wire.order_yaml import load_order_yaml


@pytest.mark.parametrize(("language", "title"), [("en-US", "Network"), ("zh-CN", "算力网")])
def test_a_visitor_sees_map_figures_and_rankings(windows: Windows, language: str, title: str) -> None:
    page = windows(language=language).open("/")
    page.locator("[role=heading]", has_text=title).wait_for()
    page.locator(".yunhe-map canvas").first.wait_for()
    page.locator("text=@fp32").first.wait_for()
    page.locator("td", has_text="Hebei").wait_for()
    assert "my-lab" not in page.content()
    save(page, f"network-{language[:2]}")


def test_on_a_phone_nothing_is_cut(windows: Windows) -> None:
    page = windows(phone=True).open("/")
    page.locator(".yunhe-map canvas").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator('button[aria-label="Menu"]').click()
    page.locator(".q-menu a", has_text="Network").wait_for()
    save(page, "network-phone")


ORDER = "requirement: {cores: 0.1}\nrun: {command: [sleep, '60']}\nduration: 2m\n"


def test_what_is_used_is_seen_without_loading_again(window: Watched, customer: Client) -> None:
    page = window.open("/")
    general = page.locator(".yunhe-card", has_text="General compute").first
    general.locator("text=0.0 % in use").wait_for()
    order = customer.submit(load_order_yaml(ORDER))
    general.locator("text=/(0[.][1-9]|[1-9][0-9]*[.][0-9]) % in use/").wait_for()
    customer.cancel(order.id)
    general.locator("text=0.0 % in use").wait_for()


def many(count: int) -> list[NetworkSiteView]:
    draw = np.random.default_rng(3)
    return [
        NetworkSiteView(
            id=f"s{i}",
            name=f"Site {i}",
            provider=f"p{i % 50}",
            region=f"Region {i % 30}",
            cluster=None,
            lat=float(draw.uniform(20, 50)),
            lon=float(draw.uniform(80, 125)),
            state="active",
            connected=bool(i % 7),
            tier=2,
            carbon_g_per_kwh=500,
            bandwidth_bps=10**10,
            vendors=("NVIDIA", "Huawei") if i % 3 else ("Huawei",),
            general_gflops=1_000,
            general_used_gflops=i % 1_000,
            intelligent_gflops=10**6 if i % 2 else 0,
            intelligent_used_gflops=5 * 10**5 if i % 2 else 0,
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("count", [0, 1, 1_500, 7_000])
def test_bubbles_are_few_and_count_every_site(count: int) -> None:
    found = bubbles(many(count))
    assert len(found) <= MAX_BUBBLES
    assert sum(bubble.sites for bubble in found) == count
    assert all(0 <= bubble.size <= 1 and 0 <= bubble.used_percent <= 100 for bubble in found)


def test_sums_never_add_precisions() -> None:
    sites = many(100)
    found = total(sites)
    assert (found.general, found.intelligent) == (100 * 1_000, 50 * 10**6)
    assert used_percent(found) == 50.0
    assert sum(each.sites for each in by("region", sites)) == 100
    assert {each.name: each.sites for each in by("vendor", sites)}["Huawei"] == 100
