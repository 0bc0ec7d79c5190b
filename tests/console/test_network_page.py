"""The front page: what a visitor sees, live; and thousands of sites in a bounded number of bubbles."""

import numpy as np
import pytest

from tests.console.conftest import Watched, Windows, save
from yunhe.console.sums import MAX_CELLS, WHOLE, Network, View, seen
from yunhe.sdk.client import Client
from yunhe.wire.api import NetworkChange, NetworkSiteView
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
def test_cells_are_few_and_count_every_site(count: int) -> None:
    found = seen(many(count)).cells(WHOLE)
    assert len(found) <= MAX_CELLS
    assert all(0 <= cell.size <= 1 and 0 <= cell.used_percent <= 100 for cell in found)
    if count <= 1:
        assert sum(cell.sites for cell in found) == count


def test_who_comes_nearer_sees_sites_by_themselves() -> None:
    network = seen(many(7_000))
    near = View.of(110.0, 35.0, 111.0, 36.0)
    assert near.cell_deg < WHOLE.cell_deg
    inside = [site for site in network.listed if 110 <= site.lon <= 111 and 35 <= site.lat <= 36]
    assert inside
    assert {cell.name for cell in network.cells(near) if cell.sites == 1} & {site.name for site in inside}
    assert abs(sum(cell.sites for cell in network.cells(near)) - len(inside)) <= 3  # those at its edge


def test_a_change_is_taken_into_what_was_there() -> None:
    network, sites = Network(), many(3)
    assert network.take(NetworkChange(at_utc_ms=1, whole=True, sites=tuple(sites), gone=())).sites == 3
    paused = sites[1].model_copy(update={"state": "paused", "transfers": 2, "load_bps": 5 * 10**9})
    found = network.take(NetworkChange(at_utc_ms=2, whole=False, sites=(paused,), gone=("s2",)))
    assert [site.id for site in found.listed] == ["s0", "s1"]
    assert found.lines[0] == paused
    busy = [cell for cell in found.cells(WHOLE) if cell.transfers]
    assert [(cell.transfers, cell.load_percent) for cell in busy] == [(2, 50.0)]


def test_sums_never_add_precisions() -> None:
    found = seen(many(100))
    assert (found.total.general, found.total.intelligent) == (100 * 1_000, 50 * 10**6)
    assert found.total.used_percent == 50.0
    assert sum(each.sites for each in found.by["region"]) == 100
    assert {each.name: each.sites for each in found.by["vendor"]}["Huawei"] == 100


def test_the_map_tells_of_sites_and_lines_by_keyboard(window: Watched) -> None:
    page = window.open("/")
    page.locator("td", has_text="one way").or_(page.locator("th", has_text="Latency, one way")).wait_for()
    canvas = page.locator(".yunhe-map canvas")
    canvas.focus()
    page.keyboard.press("n")
    tip = page.locator(".yunhe-map-tip")
    tip.wait_for()
    assert "in use" in tip.inner_text()
    assert "Line to " in tip.inner_text()
    page.keyboard.press("Escape")
    tip.wait_for(state="hidden")


def test_a_map_that_is_moved_draws_and_shows_what_is_there(window: Watched) -> None:
    page = window.open("/")
    canvas = page.locator(".yunhe-map canvas")
    page.locator("td", has_text="Hebei").wait_for()
    drawn = "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    page.wait_for_function(f"() => ({drawn})(document.querySelector('.yunhe-map canvas')) > 2")
    before = canvas.evaluate("c => c.toDataURL()")
    page.locator('.yunhe-map button[aria-label="Nearer"]').click()
    page.wait_for_function("b => document.querySelector('.yunhe-map canvas').toDataURL() !== b", arg=before)
    assert page.locator(".yunhe-map canvas").count() == 1
