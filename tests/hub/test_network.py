"""The network as a whole: open to visitors, names no customer, adds no FP16 to FP32; a sample every minute."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.fakes.agent import cpu_pool, order_json
from tests.hub.running import RunningHub, running_hub
from yunhe.core.demand import Precision
from yunhe.core.errors import RateLimited
from yunhe.sdk.client import Client
from yunhe.wire.api import NetworkSiteView
from yunhe.wire.link import LeaseMoved, LeaseStaging, RateReport

JSON = {"Content-Type": "application/json"}
CARDS = cpu_pool(8_000).model_copy(
    update={
        "name": "cards",
        "kind_of_unit": "card",
        "chip": "a100-sxm-80g",
        "stack": "cuda",
        "card_memory_bytes": 80 << 30,
        "rates": (RateReport(precision=Precision.FP16, measured_flops=200 * 10**12),),
    }
)


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> Iterator[RunningHub]:
    with running_hub(database_url, tmp_path / "hub", poll_hold_ms=2_000) as running:
        yield running


def until_used(visitor: Client) -> tuple[NetworkSiteView, ...]:
    """One view is shown for a second, whoever looks."""
    for _ in range(100):
        sites = visitor.network().sites
        if any(site.general_used_gflops for site in sites):
            return sites
        time.sleep(0.05)
    raise AssertionError(sites)


def test_a_visitor_sees_sites_and_what_of_them_is_used(hub: RunningHub) -> None:
    with Client(hub.url, "") as visitor:
        assert visitor.network().sites == ()
        site = hub.site(pools=(cpu_pool(), CARDS))
        hub.customer("secret-lab").post("/v1/orders", content=order_json(), headers=JSON).raise_for_status()
        [start] = site.wait_starts()
        [shown] = until_used(visitor)
        text = httpx.get(f"{hub.url}/v1/network", timeout=5).text
        assert shown.id in text and "secret-lab" not in text
        assert shown.general_gflops == 4 * 40  # cores at FP32
        assert shown.intelligent_gflops == 8 * 200_000  # cards at FP16
        assert shown.general_used_gflops == 40 * start.slots * start.slot_milli // 1000
        assert shown.intelligent_used_gflops == 0
        assert shown.vendors == ("NVIDIA", "unknown")


def test_who_has_the_network_already_is_told_so(hub: RunningHub) -> None:
    with Client(hub.url, "") as visitor:
        hub.site()
        found = visitor.network_changed()
        assert found is not None
        seen, tag = found
        assert len(seen.sites) == 1
        assert visitor.network_changed(tag) is None
        hub.operator.post(f"/v1/sites/{seen.sites[0].id}/pause").raise_for_status()
        until = time.monotonic() + 10
        while (changed := visitor.network_changed(tag)) is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert [site.state for site in changed[0].sites] == ["paused"]
        hub.site("south")
        while len(visitor.network().sites) < 2:
            assert time.monotonic() < until
            time.sleep(0.05)
        hub.operator.post(f"/v1/sites/{seen.sites[0].id}/leave").raise_for_status()
        while [site.name for site in visitor.network().sites] != ["south"]:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_who_watches_is_told_what_differs(hub: RunningHub) -> None:
    first, second = hub.site(), hub.site("south")
    with Client(hub.url, "") as visitor, closing(visitor.network_changes()) as changes:
        whole = next(changes)
        assert whole.whole
        assert {site.id for site in whole.sites} == {first.site_id, second.site_id}
        hub.operator.post(f"/v1/sites/{first.site_id}/pause").raise_for_status()
        change = next(each for each in changes if any(site.state == "paused" for site in each.sites))
        assert not change.whole
        assert [site.id for site in change.sites] == [first.site_id]
        hub.operator.post(f"/v1/sites/{first.site_id}/leave").raise_for_status()
        assert next(each for each in changes if each.gone).gone == (first.site_id,)


def test_streams_of_one_address_are_bounded(database_url: str, tmp_path: Path) -> None:
    with (
        running_hub(database_url, tmp_path / "hub", network_streams_per_address=1) as bounded,
        Client(bounded.url, "", retries=0) as visitor,
        closing(visitor.network_changes()) as changes,
    ):
        next(changes)
        with pytest.raises(RateLimited):
            next(visitor.network_changes())


def test_a_line_leads_to_the_nearest_place_and_tells_what_moves(hub: RunningHub) -> None:
    site = hub.site()
    size = {"url": "https://data.example/in.csv", "path": "in.csv"}
    order = order_json(run={"command": ["true"], "inputs": [size]})
    hub.customer("lab").post("/v1/orders", content=order, headers=JSON).raise_for_status()
    [start] = site.wait_starts()

    def told(done: int) -> None:
        said = {"lease_id": start.lease_id, "epoch": start.epoch, "phase": "in", "done_bytes": done}
        site.poll([LeaseStaging(seq=0, total_bytes=10**9, **said)])

    with Client(hub.url, "") as visitor, closing(visitor.network_changes()) as changes:
        line = next(changes).sites[0]
        assert line.place and line.one_way_us > 0 and line.transfers == 0
        told(0)
        line = next(s for each in changes for s in each.sites if s.transfers)
        assert (line.left_bytes, line.load_bps) == (10**9, 0)
        told(4 * 10**8)
        line = next(s for each in changes for s in each.sites if s.left_bytes < 10**9)
        assert line.load_bps > 0
        site.poll([LeaseMoved(seq=0, lease_id=start.lease_id, epoch=start.epoch, phase="in", files=())])
        assert next(s for each in changes for s in each.sites if not s.transfers).load_bps == 0


def test_the_day_is_told_in_samples_of_a_minute(hub: RunningHub) -> None:
    hub.site()
    with Client(hub.url, "") as visitor:
        for sample in visitor.network_history().samples:
            assert sample.at_utc_ms % 60_000 == 0


def test_an_operator_may_keep_the_network_to_its_users(database_url: str, tmp_path: Path) -> None:
    with running_hub(database_url, tmp_path / "hub", public_network=False) as hidden:
        answer = httpx.get(f"{hidden.url}/v1/network", timeout=5)
        assert answer.status_code == 404
        assert "sign in" in answer.text
