"""A hub under a hub, all as processes: an order goes down and its usage comes up, whatever dies on the way."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.nation import Hub, Nation, active, node_settings
from tests.replicas.network import until
from tests.site.data_servers import Web, WebFile, web_server
from yunhe.apps.site import JoinRequest, join
from yunhe.core.errors import Refused

SHORT = {"disconnect_limit_ms": 6_000, "disconnect_grace_ms": 6_000}  # of one test: a busy machine stands still longer
ALIVE = ("leased", "running", "unknown")


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as server:
        server.files["in"] = WebFile(os.urandom(300_000))
        yield server


def test_an_order_goes_down_and_its_usage_and_charge_come_up(nation: Nation) -> None:
    before = nation.upper.balances(), nation.lower.balances()
    order_id = nation.submit("echo hello; sleep 0.3; printf 42 > result.txt")
    ended = nation.settled(order_id)
    assert (ended["state"], ended["tasks"]) == ("succeeded", {"succeeded": 1}), nation.task(order_id)

    [below] = nation.orders_below(order_id)
    shown = nation.below.get(f"/v1/orders/{below['id']}").json()
    hub_id = nation.upper.operator.get("/v1/hub").json()["id"]
    assert shown["spec"]["origin"]["hubs"] == [hub_id]
    assert shown["spec"]["origin"]["lease_id"] == f"{order_id}.0"
    assert shown["name"] == f"{order_id}.0.1"
    assert shown["spec"]["requirement"]["pools"] == ["hall:cpu"]

    log = nation.customer.get(f"/v1/orders/{order_id}/logs").text
    [output] = nation.customer.get(f"/v1/orders/{order_id}/outputs").json()["outputs"]
    content = {"lease_id": output["lease_id"], "path": "result.txt"}
    assert (log, output["path"]) == ("hello\n", "result.txt")
    assert nation.customer.get(f"/v1/orders/{order_id}/outputs/content", params=content).text == "42"

    nation.check_books(order_id)
    [above], [under] = nation.used(order_id)[1], nation.used(below["id"], nation.below)[1]
    assert under["price"]["compute_microcny"] > 0
    assert above["inputs"]["price_microcny_per_unit_hour"] == under["inputs"]["price_microcny_per_unit_hour"] * 6 // 5
    assert above["inputs"]["wall_ms"] == under["inputs"]["wall_ms"] > 290
    paid, after = nation.upper.balances(), nation.lower.balances()
    assert paid["org:lab:available"] - before[0]["org:lab:available"] == -above["price"]["total_microcny"]
    assert after["org:node:available"] - before[1]["org:node:available"] == -under["price"]["total_microcny"]


def test_a_killed_agent_in_the_middle_loses_and_doubles_nothing(nation: Nation) -> None:
    order_id = nation.submit("sleep 2; echo done")
    nation.running_below(order_id)
    nation.node.kill()
    time.sleep(0.5)  # it is away for a while
    assert nation.task(order_id)["state"] in ALIVE
    nation.node.start()
    assert nation.settled(order_id)["state"] == "succeeded"
    assert len(nation.orders_below(order_id)) == 1
    assert nation.customer.get(f"/v1/orders/{order_id}/logs").text == "done\n"
    nation.check_books(order_id)


def test_an_end_while_the_agent_in_the_middle_is_away_is_told_afterwards(nation: Nation) -> None:
    order_id = nation.submit("sleep 0.5; exit 3")
    nation.running_below(order_id)
    nation.node.kill()
    [below] = nation.orders_below(order_id)
    assert nation.settled(below["id"], nation.below)["state"] == "failed"
    assert nation.task(order_id)["state"] in ALIVE
    nation.node.start()
    assert nation.settled(order_id)["state"] == "failed"
    assert (nation.task(order_id)["reason"], nation.task(order_id)["exit_code"]) == ("exited", 3)
    nation.check_books(order_id)


def test_a_lower_hub_that_dies_and_comes_back_ends_nothing(nation: Nation) -> None:
    order_id = nation.submit("sleep 3; echo done")
    nation.running_below(order_id)
    nation.lower.kill()
    end, seen = time.monotonic() + 1.5, set()
    while time.monotonic() < end:
        seen.add(nation.task(order_id)["state"])
        time.sleep(0.1)
    assert seen <= set(ALIVE)
    waiting = nation.submit("echo late")
    nation.lower.start()
    nation.lower.wait()
    assert nation.settled(order_id)["state"] == "succeeded"
    assert nation.settled(waiting)["state"] == "succeeded"
    for one in (order_id, waiting):
        assert nation.task(one)["epoch"] == 1 and len(nation.orders_below(one)) == 1
        nation.check_books(one)


def test_a_cancel_reaches_the_bottom(nation: Nation) -> None:
    order_id = nation.submit("sleep 50")
    nation.running_below(order_id)
    nation.customer.post(f"/v1/orders/{order_id}/cancel").raise_for_status()
    assert nation.settled(order_id)["state"] == "cancelled"
    [below] = nation.orders_below(order_id)
    assert below["state"] == "cancelled"
    nation.check_books(order_id)


def test_a_run_that_its_site_below_lost_costs_nothing_and_is_placed_again(nation: Nation) -> None:
    order_id = nation.submit("sleep 1.5; echo done")
    nation.running_below(order_id)
    [below] = nation.orders_below(order_id)
    claim = nation.hall.home / "leases" / f"{below['id']}.0.1" / "claim"
    os.kill(int(claim.read_text().split()[0]), signal.SIGKILL)
    assert nation.settled(order_id)["state"] == "succeeded"
    first, second = nation.orders_below(order_id)
    assert nation.settled(first["id"], nation.below)["state"] == "cancelled"
    assert nation.settled(second["id"], nation.below)["state"] == "succeeded"
    charges = nation.used(order_id)[1]
    assert [(charge["epoch"], charge["disputed"]) for charge in charges] == [(1, True), (2, False)]
    assert charges[0]["price"]["total_microcny"] == 0
    assert nation.settled(first["id"], nation.below)["charged_microcny"] == 0
    nation.check_books(order_id)


def test_an_agent_that_stays_away_leaves_nothing_running_below(nation: Nation) -> None:
    usual = nation.upper.settings
    nation.upper.again(usual.model_copy(update=SHORT))
    until("the node speaks again", active(nation.upper, "node", nation.node), 20)
    order_id = nation.submit("sleep 50")
    nation.running_below(order_id)
    nation.node.kill()

    def given_up() -> bool:
        return bool(nation.task(order_id)["reason"] == "lost")

    until("the upper hub gives it up", given_up, 40)
    [below] = nation.orders_below(order_id)
    facts = nation.customer.get(f"/v1/orders/{order_id}").json()["facts"]
    [lost_ms] = [fact["utc_ms"] for fact in facts if fact["kind"] == "retry"]
    ended = nation.settled(below["id"], nation.below)
    assert ended["state"] == "cancelled" and ended["ended_utc_ms"] < lost_ms
    nation.customer.post(f"/v1/orders/{order_id}/cancel").raise_for_status()
    nation.node.start()
    assert nation.settled(order_id)["charged_microcny"] == 0
    for hub in (nation.upper, nation.lower):
        hub.balances()
    nation.upper.again(usual)
    until("the node speaks again", active(nation.upper, "node", nation.node), 20)


# --- what belongs to an order ---------------------------------------------------------------------------------------


def test_data_goes_straight_to_the_site_below_and_its_way_is_told_above(nation: Nation, web: Web) -> None:
    web.pause_s = 0.1  # so that it can be seen on its way
    body = web.files["in"].body
    run = {
        "command": ["sh", "-c", "sha256sum in/x; tail -c 1000 in/x > out.bin"],
        "inputs": [{"url": web.url + "in", "path": "in/x", "sha256": hashlib.sha256(body).hexdigest()}],
        "outputs": [{"path": "out.bin", "url": web.url + "put/out.bin"}],
    }
    order_id = nation.submit("", run=run)
    seen: set[str] = set()

    def over() -> bool:
        staging = nation.task(order_id)["staging"]
        seen.add(staging["phase"] if staging else "")
        return bool(nation.task(order_id)["state"] == "succeeded")

    until("it has run", over, 40)
    assert "in" in seen
    assert nation.settled(order_id)["undelivered"] == 0
    assert nation.task(order_id)["delivery"] == "delivered"
    assert nation.customer.get(f"/v1/orders/{order_id}/logs").text.split()[0] == hashlib.sha256(body).hexdigest()
    assert web.put["put/out.bin"] == body[-1000:]
    assert web.gets("in") == 1  # nothing of it went through the agent in the middle
    [output] = nation.customer.get(f"/v1/orders/{order_id}/outputs").json()["outputs"]
    assert (output["path"], output["problem"], output["size_bytes"]) == ("out.bin", "", 1000)
    nation.check_books(order_id)


def test_data_that_cannot_be_had_below_is_the_same_above(nation: Nation, web: Web) -> None:
    inputs = [{"url": web.url + "nowhere", "path": "in/x"}]
    order_id = nation.submit("", run={"command": ["cat", "in/x"], "inputs": inputs})
    ended = nation.settled(order_id)
    assert (ended["state"], ended["charged_microcny"]) == ("failed", 0)
    assert nation.task(order_id)["reason"] == "data_in_failed"


def test_an_output_that_does_not_get_there_is_told_above(nation: Nation, web: Web) -> None:
    web.status = 403
    outputs = [{"path": "out", "url": web.url + "put/out"}]
    order_id = nation.submit("", run={"command": ["sh", "-c", "echo x > out"], "outputs": outputs})
    assert nation.settled(order_id)["state"] == "succeeded"
    assert nation.task(order_id)["delivery"] == "undelivered"
    [output] = nation.customer.get(f"/v1/orders/{order_id}/outputs").json()["outputs"]
    assert output["problem"] and output["stored"]  # it is small enough for the hub


def test_secrets_are_the_lower_hubs_from_here_on_and_on_no_disk_between(nation: Nation) -> None:
    [pool] = nation.customer.get("/v1/pools").json()["pools"]
    if "secrets" not in pool["abilities"]:
        pytest.skip("the hall has no sandbox, and delivers no secrets: apt-get install bubblewrap")
    text = "correct horse battery"
    run = {"command": ["sh", "-c", "sha256sum < $YUNHE_SECRETS/TOKEN; sleep 1"], "secrets": {"TOKEN": text}}
    order_id = nation.submit("", run=run)
    assert nation.settled(order_id)["state"] == "succeeded"
    log = nation.customer.get(f"/v1/orders/{order_id}/logs").text
    assert log.split()[0] == hashlib.sha256(text.encode()).hexdigest()
    [below] = nation.orders_below(order_id)
    shown = nation.below.get(f"/v1/orders/{below['id']}").json()["spec"]["run"]["secrets"]
    assert text not in json.dumps(shown) and list(shown) == ["TOKEN"]
    folders = (nation.node.home, nation.hall.home, nation.upper.settings.data_dir, nation.lower.settings.data_dir)
    for file in (file for folder in folders for file in folder.rglob("*") if file.is_file()):
        assert text.encode() not in file.read_bytes(), file


def test_a_preemption_below_is_one_above_and_costs_nothing(nation: Nation) -> None:
    """The hall's own users need its cores, and give them back."""
    reserve = nation.hall.home / "reserve"
    order_id = nation.submit("sleep 3; echo done")
    nation.running_below(order_id)
    (nation.hall.home / "reserve.new").write_text("2")
    (nation.hall.home / "reserve.new").rename(reserve)
    until("it is given back", lambda: nation.task(order_id)["reason"] == "preempted", 30)
    reserve.write_text("0")
    assert nation.settled(order_id)["state"] == "succeeded"
    first, *_ = nation.used(order_id)[1]
    assert (first["disputed"], first["price"]["total_microcny"]) == (True, 0)
    below = nation.orders_below(order_id)
    assert nation.settled(below[0]["id"], nation.below)["charged_microcny"] == 0
    kinds = [fact["kind"] for fact in nation.customer.get(f"/v1/orders/{order_id}").json()["facts"]]
    assert "preempted" in kinds and "retry" not in kinds  # no fault of the node
    nation.check_books(order_id)


def test_a_rate_behind_a_hub_is_shown_to_the_hub_above(nation: Nation) -> None:
    """Its challenge runs at a site below, as an order of the node. How fast is not asked here: all time is allowed."""
    usual = nation.upper.settings
    asking = {"certify_prove_ms": 200, "certify_allowance_ms": 60_000, "certify_turn_ms": 60_000}
    nation.upper.again(usual.model_copy(update=asking))
    until("the node speaks again", active(nation.upper, "node", nation.node), 20)

    def claim() -> tuple[int, str]:
        [pool] = nation.upper.operator.get("/v1/sites/node").json()["pools"]
        return pool["trust_milli"], pool["trust_note"]

    try:
        nation.upper.operator.post("/v1/sites/node/certify").raise_for_status()
        until("the claim is taken", lambda: claim()[0] == 600, 20)
        until("it is shown", lambda: claim()[0] == 1000, 60)
        names = [order["name"] for order in nation.below.get("/v1/orders", params={"limit": 200}).json()["orders"]]
        assert any(name.startswith("certify.") for name in names)
    finally:
        nation.upper.again(usual)
        until("the node speaks again", active(nation.upper, "node", nation.node), 20)


# --- circles ------------------------------------------------------------------------------------------------------


def test_an_order_that_comes_back_is_refused(nation: Nation) -> None:
    origin = {"hubs": [nation.lower.operator.get("/v1/hub").json()["id"]], "lease_id": "ord_1.0"}
    spec = {"run": {"command": ["true"]}, "origin": origin}
    answer = nation.below.post("/v1/orders", json=spec)
    assert (answer.status_code, answer.json()["field"]) == (409, "origin.hubs")
    assert "at this hub before" in answer.json()["detail"]
    far = {"hubs": [f"hub_{n:016x}" for n in range(4)], "lease_id": "ord_1.0"}
    answer = nation.below.post("/v1/orders", json={**spec, "origin": far})
    assert answer.status_code == 409 and "at most 4" in answer.json()["detail"]


def test_a_hub_cannot_join_itself_or_be_offered_its_own(nation: Nation, tmp_path: Path) -> None:
    def attempt(hub: Hub, below: Hub) -> str:
        made = below.account(f"node-{hub.settings.port}-{tmp_path.name[-20:]}".lower().replace("_", "-"))
        settings = node_settings(below, made, tmp_path)
        request = JoinRequest(
            hub.url,
            hub.token("centre"),
            "circle",
            tmp_path / "circle",
            cluster="zhangjiakou",
            engine="hub",
            engine_settings=settings,
        )
        with pytest.raises(Refused) as caught:
            join(request)
        assert not any(site["name"] == "circle" for site in hub.operator.get("/v1/sites").json()["sites"])
        return str(caught.value)

    assert "the same one" in attempt(nation.lower, nation.lower)
    # All that the upper hub has lies below the lower one.
    assert "comes from the hub above" in attempt(nation.lower, nation.upper)


def test_what_lies_behind_a_pool_is_told(nation: Nation) -> None:
    [pool] = nation.customer.get("/v1/pools").json()["pools"]
    [below] = nation.below.get("/v1/pools").json()["pools"]
    assert pool["id"] == "node:hall--cpu"
    assert pool["hubs"] == [nation.lower.operator.get("/v1/hub").json()["id"]]
    # Both hubs have a site measured again now and then; the date above is one that the lower hub has had.
    assert 0 < pool["tested_utc_ms"] <= below["tested_utc_ms"]
    assert pool["capacity_milli"] == below["capacity_milli"]
    shown = [{rate["precision"] for rate in one["rates"] if rate["measured_flops"]} for one in (pool, below)]
    assert shown[0] == shown[1] != set()
