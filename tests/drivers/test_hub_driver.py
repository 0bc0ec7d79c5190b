"""What the driver for hubs adds to the contract: limits both ways, circles, and answers that never came."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.hub_harness import HubHarness, TwoHubs, key_file
from tests.fakes.fake_hub import start_lease
from yunhe.apps.site import load_settings
from yunhe.core.demand import Ability
from yunhe.core.errors import InvalidInput, Refused, TooLarge
from yunhe.core.lifecycle import EndReason, OrderState, TaskState
from yunhe.site.drivers.contract import Job, LeaseKey, Phase, SpawnFailed
from yunhe.site.drivers.hub import passing, states, supply
from yunhe.site.drivers.hub.driver import HubDriver
from yunhe.site.drivers.hub.supply import Ends
from yunhe.site.drivers.hub.upper import Upper
from yunhe.site.settings import LowerHubSettings
from yunhe.wire.api import AttemptView, LookView, OrderView, PoolView, RateView, SiteView, StackView, TaskView
from yunhe.wire.data import deliveries_of, inputs_of, output_paths
from yunhe.wire.link import DataInput, Delivery
from yunhe.wire.origin import Origin

A, B, C, D, E = (f"hub_{n:016x}" for n in range(5))
ENDS = Ends(upper=A, lower=B)
GIB = 1 << 30


def a_pool(pool_id: str, **changes: Any) -> PoolView:
    fields: dict[str, Any] = {
        "id": pool_id,
        "site_id": pool_id.partition(":")[0],
        "chip": "unknown",
        "chip_name": "a processor",
        "unit": "core",
        "stack": "cpu",
        "capacity_milli": 8_000,
        "free_milli": 8_000,
        "memory_bytes": 32 * GIB,
        "free_memory_bytes": 32 * GIB,
        "max_slot_milli": 8_000,
        "rates": (RateView(precision="fp64", nominal_flops=20, measured_flops=10),),
        "benchmarks": (),
        "price_microcny_per_unit_hour": 100_001,
        "watts_per_unit": 5,
        "watts_source": "assumed",
        "tested_utc_ms": 1_000,
    }
    return PoolView(**{**fields, **changes})


def a_site(*pools: PoolView, **changes: Any) -> SiteView:
    fields: dict[str, Any] = {
        "id": pools[0].site_id,
        "name": "a hall",
        "provider": "centre",
        "state": "active",
        "connected": True,
        "accepting": True,
        "cluster": None,
        "region": "Hebei",
        "lat": 40.0,
        "lon": 115.0,
        "pue_milli": 1_200,
        "carbon_g_per_kwh": 500,
        "power_price_microcny_per_kwh": 400_000,
        "assumed": (),
        "tier": 2,
        "isolation": "",
        "last_contact_utc_ms": 1,
        "certified_utc_ms": 1,
        "pools": pools,
    }
    return SiteView(**{**fields, **changes})


def offered(*sites: SiteView, **settings: Any) -> tuple[supply.Offered, ...]:
    return supply.offered(sites, ENDS, LowerHubSettings(**settings))


def names(*sites: SiteView, **settings: Any) -> list[str]:
    return [one.report.name for one in offered(*sites, **settings)]


# --- upward -------------------------------------------------------------------------------------------------------


def test_names_are_short_and_always_the_same() -> None:
    long = a_site(a_pool("a-site-with-a-very-long-name-indeed:gpu-partition"))
    short = a_site(a_pool("hall-7:cpu"))
    assert names(short) == ["hall-7--cpu"]
    [name] = names(long)
    assert len(name) <= 24 and names(long, share_percent=50) == [name]
    other = a_site(a_pool("a-site-with-a-very-long-name-indeed:gpu-partition-2"))
    assert names(other) != [name]
    [hidden] = offered(short, anonymous=True)
    assert hidden.report.name.startswith("pool-") and "hall" not in hidden.report.model_dump_json()


def test_a_part_is_offered_at_a_margin() -> None:
    [one] = offered(a_site(a_pool("s:cpu")), share_percent=30, margin_bps=1_000)
    report = one.report
    assert (report.capacity_milli, report.max_slot_milli, report.memory_bytes) == (2_400, 2_400, 32 * GIB * 30 // 100)
    assert report.asking_microcny_per_unit_hour == 110_002  # rounded up
    assert (report.hubs, report.tested_utc_ms) == ((B,), 1_000)
    assert [rate.measured_flops for rate in report.rates] == [10]
    assert [rate.measured_flops for rate in supply.nominal(report).rates] == [None]
    cards = a_pool("s:h20", unit="card", stack="cuda", capacity_milli=5_000, max_slot_milli=5_000)
    assert offered(a_site(cards), share_percent=50)[0].report.capacity_milli == 2_000


def test_rates_are_no_more_than_the_lower_hub_believes() -> None:
    doubted = a_site(a_pool("s:cpu", trust_milli=600, stack_check=StackView(versions={}, operators=("a",), missing={})))
    [one] = offered(doubted)
    assert [rate.measured_flops for rate in one.report.rates] == [6]
    assert one.report.stack_check is not None and one.report.stack_check.operators == ("a",)
    refuted = a_site(a_pool("s:cpu", trust_milli=0))
    [digest] = supply.foreign((one,), [refuted], {}, None)
    assert digest.foreign_milli == 8_000


def test_only_what_is_allowed_is_offered() -> None:
    sites = (
        a_site(a_pool("north:cpu"), a_pool("north:big")),
        a_site(a_pool("south:cpu"), region="Guizhou", tier=1),
        a_site(a_pool("gone:cpu"), state="left"),
    )
    assert names(*sites) == ["north--big", "north--cpu", "south--cpu"]
    assert names(*sites, sites=("nor*",)) == ["north--big", "north--cpu"]
    assert names(*sites, pools=("*:cpu",)) == ["north--cpu", "south--cpu"]
    assert names(*sites, regions=("Guizhou",)) == ["south--cpu"]
    with pytest.raises(Refused, match="no certified pool"):
        offered(*sites, regions=("Hainan",))
    assert supply.tier(offered(*sites), LowerHubSettings()) == 1
    assert supply.tier(offered(*sites), LowerHubSettings(max_tier=0)) == 0


def test_equal_pools_of_many_hosts_are_one() -> None:
    hosts = [
        a_site(a_pool(f"host-{n}:cpu", rates=(RateView(precision="fp64", nominal_flops=20, measured_flops=10 + n),)))
        for n in range(100)
    ]
    with pytest.raises(TooLarge, match="100 pools"):
        offered(*hosts)
    [one] = offered(*hosts, aggregate=True)
    assert (one.report.name, one.report.capacity_milli, one.report.max_slot_milli) == ("cpu", 800_000, 8_000)
    assert [rate.measured_flops for rate in one.report.rates] == [10]  # the slowest: the order may come there
    assert one.largest_milli == 8_000 and len(one.members) == 100
    other = a_site(a_pool("host-x:cpu", chip_name="another processor"))
    two = names(*hosts, other, aggregate=True)
    assert len(two) == 2 and all(name.startswith("cpu-") for name in two)


def test_what_others_use_below_is_not_free_above() -> None:
    certified = offered(a_site(a_pool("s:cpu")), share_percent=50)
    now = a_site(a_pool("s:cpu", free_milli=1_000, free_memory_bytes=4 * GIB))
    [digest] = supply.foreign(certified, [now], {"s--cpu": (500, GIB)}, None)
    # Above: 4,000 offered, less 500 of our own, less this: what is free below, 1,000.
    assert (digest.foreign_milli, digest.foreign_memory_bytes) == (2_500, 11 * GIB)
    [idle] = supply.foreign(certified, [a_site(a_pool("s:cpu", longest_ms=9_000))], {}, 5_000)
    assert (idle.foreign_milli, idle.longest_ms, digest.longest_ms) == (0, 5_000, None)
    for away in ({"connected": False}, {"accepting": False}, {"state": "paused"}):
        [all_of_it] = supply.foreign(certified, [a_site(a_pool("s:cpu"), **away)], {}, None)
        assert all_of_it.foreign_milli == 4_000


# --- circles ------------------------------------------------------------------------------------------------------


def test_what_comes_from_above_is_not_offered_back() -> None:
    own, borrowed = a_site(a_pool("own:cpu")), a_site(a_pool("lent:cpu", hubs=(C, A)))
    assert names(own, borrowed) == ["own--cpu"]
    with pytest.raises(Refused, match="comes from the hub above"):
        offered(borrowed)
    with pytest.raises(Refused, match="the same one"):
        supply.offered([own], Ends(B, B), LowerHubSettings())


def test_hubs_upon_hubs_have_an_end() -> None:
    assert offered(a_site(a_pool("far:cpu", hubs=(C, D))))[0].report.hubs == (B, C, D)
    with pytest.raises(Refused, match="more than 4 hubs away"):
        offered(a_site(a_pool("far:cpu", hubs=(C, D, E))))


# --- downward -----------------------------------------------------------------------------------------------------


def a_job(**changes: Any) -> Job:
    return Job(start_lease("ord_1.3", ("true",), **{"pool": "s--cpu", **changes}), 0, {"a.txt": "text"})


def test_an_order_below_says_where_it_comes_from() -> None:
    [pool] = offered(a_site(a_pool("s:cpu")))
    env = {"YUNHE_TASK_INDEX": "3", "YUNHE_LEASE_ID": "ord_1.3", "MINE": "1"}
    job = a_job(env=env, slots=2, slot_milli=1_500, earns_microcny=1_000_000, tenant="lab")
    spec = passing.order_of(job, pool, A, LowerHubSettings(max_loss_bps=500, start_within_ms=1_000))
    assert (spec.requirement.cores, spec.requirement.slots, spec.requirement.pools) == (1.5, 2, ("s:cpu",))
    assert (spec.run.env, spec.run.files, spec.retries) == ({"MINE": "1"}, {"a.txt": "text"}, 0)
    assert (spec.duration, spec.deadline, spec.budget) == ("20000ms", "21000ms", "1.050000CNY")
    assert spec.origin is not None and (spec.origin.hubs, spec.origin.index) == ((A,), 3)
    assert "lab" not in spec.origin.tenant
    again = passing.order_of(a_job(origin=spec.origin), pool, B, LowerHubSettings())
    assert again.origin is not None and again.origin.hubs == (A, B)
    assert (again.origin.lease_id, again.origin.index, again.budget) == ("ord_1.3", 3, None)


def test_cards_are_asked_for_by_their_stack() -> None:
    cards = a_pool("s:h20", unit="card", stack="cuda", chip="h20")
    spec = passing.order_of(a_job(slot_milli=2_000), offered(a_site(cards))[0], A, LowerHubSettings())
    assert (spec.requirement.cards, spec.requirement.cores) == (2, None)
    assert (spec.run.stacks, spec.run.command) == ({"cuda": ("true",)}, None)


@pytest.mark.parametrize(
    ("changes", "settings", "why"),
    [
        ({"run_limit_ms": 60_001}, {"max_run_ms": 60_000}, "at most 60000 ms"),
        ({"slot_milli": 9_000}, {}, "more than one pool below has"),
        ({"slot_milli": 5_000, "slots": 2}, {}, "more than one pool below has"),
        ({"origin": Origin(hubs=(C, D, E), lease_id="ord_1.0")}, {}, "through 4 hubs"),
    ],
)
def test_what_is_over_a_limit_is_not_passed_down(changes: dict[str, Any], settings: dict[str, Any], why: str) -> None:
    # Two equal hosts as one pool: an order never spreads over both.
    [pool] = offered(a_site(a_pool("s:cpu")), a_site(a_pool("t:cpu")), aggregate=True)
    with pytest.raises(SpawnFailed, match=why):
        passing.check(a_job(**changes), pool, LowerHubSettings(**settings))


# --- states -------------------------------------------------------------------------------------------------------


def looked(order: OrderState, task: TaskState, reason: str | None, *attempts: AttemptView, code: int = 0) -> LookView:
    view = OrderView(
        id="ord_2",
        name="x",
        account="node",
        state=order,
        submitted_utc_ms=1,
        ended_utc_ms=None,
        array=1,
        tasks={task.value: 1},
        hold_microcny=1,
        charged_microcny=0,
        settled=False,
    )
    shown = TaskView(
        lease_id="ord_2.0",
        index=0,
        state=task,
        epoch=len(attempts),
        site_id="s",
        pool_id="s:cpu",
        exit_code=code if reason == "exited" else None,
        reason=reason,
        started_utc_ms=5,
    )
    return LookView(key="k", order=view, task=shown, attempts=attempts)


def attempt(epoch: int, started: bool, end: str | None, wall_ms: int = 0) -> AttemptView:
    return AttemptView(
        epoch=epoch, started=started, end_reason=end, wall_ms=wall_ms, cpu_ms=0, peak_memory_bytes=0, sampled=False
    )


RUNNING, OPEN, OVER = OrderState.RUNNING, OrderState.OPEN, OrderState.CANCELLED


@pytest.mark.parametrize(
    ("view", "asked", "phase", "reason", "take_back"),
    [
        (looked(OPEN, TaskState.PENDING, None), None, Phase.ACCEPTED, None, False),
        (looked(RUNNING, TaskState.LEASED, None, attempt(1, False, None)), None, Phase.ACCEPTED, None, False),
        (looked(RUNNING, TaskState.RUNNING, None, attempt(1, True, None)), None, Phase.STARTED, None, False),
        (looked(RUNNING, TaskState.UNKNOWN, None, attempt(1, True, None)), None, Phase.UNKNOWN, None, False),
        # A place that never began it is the lower hub's own affair.
        (looked(OPEN, TaskState.PENDING, "lost", attempt(1, False, "lost")), None, Phase.ACCEPTED, None, False),
        # One that began it and lost it is the end, once the order below cannot begin again.
        (looked(OPEN, TaskState.PENDING, "lost", attempt(1, True, "lost", 9)), None, Phase.UNKNOWN, None, True),
        (looked(OPEN, TaskState.PENDING, "preempted", attempt(1, True, "preempted")), None, Phase.UNKNOWN, None, True),
        (looked(OVER, TaskState.CANCELLED, "cancelled", attempt(1, True, "lost", 9)), None, Phase.ENDED, "lost", False),
        (looked(OVER, TaskState.CANCELLED, "cancelled", attempt(1, True, "cancelled")), "lost", Phase.ENDED, "lost", 0),
        (looked(OVER, TaskState.WITHDRAWN, "withdrawn"), "cancelled", Phase.ENDED, "cancelled", False),
        (looked(OVER, TaskState.WITHDRAWN, "withdrawn"), None, Phase.ENDED, "site_refused", False),
        (
            looked(OrderState.FAILED, TaskState.FAILED, "deadline_missed"),
            None,
            Phase.ENDED,
            "spawn_failed",
            False,
        ),
        (
            looked(OrderState.FAILED, TaskState.FAILED, "time_limit", attempt(1, True, "time_limit", 9)),
            "cancelled",
            Phase.ENDED,
            "time_limit",
            False,
        ),
    ],
)
def test_states_of_an_order_below(
    view: LookView, asked: str | None, phase: Phase, reason: str | None, take_back: bool
) -> None:
    status, back = states.seen(view, EndReason(asked) if asked else None)
    assert (status.phase, status.reason, back) == (phase, reason, take_back)
    began = any(one.started for one in view.attempts)
    if phase is Phase.ENDED:
        assert (status.started, status.totals is not None) == (began, began)


# --- against a real hub -------------------------------------------------------------------------------------------


def test_a_hub_joins_by_one_command(two_hubs: TwoHubs, tmp_path: Path) -> None:
    two_hubs.upper.operator.post("/v1/organisations", json={"id": "region", "name": "region"})
    token = two_hubs.upper.operator.post("/v1/enrolment-tokens", json={"provider": "region"}).json()["token"]
    words = f"""site join {two_hubs.upper.url} --name region --cluster zhangjiakou --token {token} --engine hub
        --lower-url {two_hubs.lower.url} --lower-key-file {two_hubs.key_file} --margin 7.5 --share 50 --max-run 6h
        --data-dir {tmp_path / "site"}"""
    done = subprocess.run([sys.executable, "-m", "yunhe.cli.main", *words.split()], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "region pending\n"), done.stderr
    settings = load_settings(tmp_path / "site")
    assert (settings.engine, settings.hub.url, settings.hub.regions) == ("hub", two_hubs.lower.url, ("Hebei",))
    assert (settings.hub.margin_bps, settings.hub.share_percent, settings.hub.max_run_ms) == (750, 50, 6 * 3_600_000)
    assert two_hubs.key_file.read_text() not in (tmp_path / "site" / "site.toml").read_text()


def test_a_key_that_others_can_read_is_not_used(two_hubs: TwoHubs, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.write_text(two_hubs.key_file.read_text())
    loose.chmod(0o640)
    with pytest.raises(InvalidInput, match="others may read"):
        _discover(two_hubs, tmp_path, key_file=loose)


def test_a_key_with_more_rights_than_needed_is_refused(two_hubs: TwoHubs, tmp_path: Path) -> None:
    strong = key_file(two_hubs.lower, "strong", tmp_path, role="operator")
    with pytest.raises(InvalidInput, match="that of an operator"):
        _discover(two_hubs, tmp_path, key_file=strong)


def _discover(hubs: TwoHubs, tmp_path: Path, **changes: Any) -> None:
    upper = Upper(hubs.upper.url, "s", None, 5_000)
    asyncio.run(HubDriver(hubs.settings(**changes), upper, tmp_path).discover())


class Dies(BaseException):
    """As `kill -9` at one line."""


def test_data_and_secrets_are_passed_down_as_they_were_ordered() -> None:
    [pool] = offered(a_site(a_pool("s:cpu")))
    inputs = (
        DataInput(url="https://data.example/x", path="in/x", size_bytes=5, secret="STORE"),
        DataInput(url="https://data.example/y", path="y", sha256="ab" * 32),
    )
    sent = (Delivery(path="out/", url="https://data.example/out/"),)
    plain = a_job(inputs=inputs, outputs=("log.txt", "out/"), deliveries=sent, secrets=("STORE",))
    job = Job(plain.lease, 0, {}, {"STORE": b'{"token": "correct horse"}'})
    run = passing.order_of(job, pool, A, LowerHubSettings()).run
    assert inputs_of(run, 0) == inputs and deliveries_of(run, 0) == sent
    assert output_paths(run) == ("log.txt", "out/")
    assert run.secrets["STORE"].get_secret_value() == '{"token": "correct horse"}'
    assert "correct horse" not in run.model_dump_json()


def test_secrets_are_offered_only_where_the_site_says_so() -> None:
    all_of_them = tuple(ability.value for ability in Ability)
    site = a_site(a_pool("s:cpu", abilities=all_of_them))
    [usual], [trusting] = offered(site), offered(site, deliver_secrets=True)
    assert set(usual.report.abilities) == {Ability.NETWORK, Ability.DATA}
    assert set(trusting.report.abilities) == {Ability.NETWORK, Ability.DATA, Ability.SECRETS}
    [mixed] = offered(site, a_site(a_pool("t:cpu")), aggregate=True, deliver_secrets=True)
    assert mixed.report.abilities == ()


@pytest.mark.parametrize("point", ["driver.prepared", "driver.asked"])
def test_an_agent_that_dies_while_it_submits_submits_once(on_hub: HubHarness, point: str) -> None:
    def crash(at: str) -> None:
        if at == point:
            raise Dies

    job = on_hub.job("a", on_hub.command(say="once"))
    on_hub.driver._crash_point = crash  # type: ignore[attr-defined]
    with pytest.raises(Dies):
        on_hub.run(on_hub.driver.submit(job))
    on_hub.reopen()
    assert on_hub.ended(job.key).exit_code == 0
    assert on_hub.log(job.key) == b"once\n"
    assert _below(on_hub, job.key) == 1


def test_an_order_with_secrets_is_said_by_the_process_that_has_them(two_hubs: TwoHubs, tmp_path: Path) -> None:
    """Another one waits until nothing of it can come to the lower hub any more, and then knows nothing of the lease."""
    harness = HubHarness(two_hubs, tmp_path, deliver_secrets=True, request_timeout_ms=2_000)
    if not all(Ability.SECRETS in pool.abilities for pool in harness.run(harness.driver.discover())):
        pytest.skip("the site below has no sandbox, and delivers no secrets: apt-get install bubblewrap")

    def crash(at: str) -> None:
        if at == "driver.prepared":
            raise Dies

    plain = harness.job("a", ("sh", "-c", "wc -c < $YUNHE_SECRETS/TOKEN"), secrets=("TOKEN",), outputs=())
    job = Job(plain.lease, plain.contact_ms, {}, {"TOKEN": b"correct horse"})
    try:
        harness.driver._crash_point = crash  # type: ignore[attr-defined]
        with pytest.raises(Dies):
            harness.run(harness.driver.submit(job))
        harness.reopen()
        assert harness.status(job.key).phase is Phase.UNKNOWN
        harness.until(job.key, Phase.ABSENT, 40)
        assert harness.run(harness.driver.known()) == frozenset()
        harness.run(harness.driver.submit(job))
        assert harness.ended(job.key).exit_code == 0
        assert harness.log(job.key).strip() == b"13"
        for file in (file for file in harness.data_dir.rglob("*") if file.is_file()):
            assert b"correct horse" not in file.read_bytes(), file
    finally:
        harness.close()


def _below(harness: HubHarness, key: LeaseKey) -> int:
    """How many orders the lower hub has of the lease, of this test's site."""
    return len(harness.run(harness.driver._lower.look([harness.driver._passed[key].order.key])))  # type: ignore[attr-defined]


def test_an_order_that_others_cancel_below_is_not_the_customers_cancel(on_hub: HubHarness, two_hubs: TwoHubs) -> None:
    key = on_hub.submit("a", on_hub.command(run_ms=30_000))
    on_hub.until(key, Phase.STARTED)
    two_hubs.node().post(f"/v1/orders/{on_hub.order_id(key)}/cancel").raise_for_status()
    status = on_hub.ended(key)
    assert status.reason is EndReason.SITE_REFUSED and "at the lower hub" in status.detail


def test_a_cancel_that_was_noted_is_said_by_the_next_agent(on_hub: HubHarness) -> None:
    key = on_hub.submit("a", on_hub.command(run_ms=30_000))
    on_hub.until(key, Phase.STARTED)
    on_hub.driver._passed[key].record.note_cancel(EndReason.CANCELLED)  # type: ignore[attr-defined]
    on_hub.reopen()
    assert on_hub.ended(key).reason is EndReason.CANCELLED


def test_a_lease_that_is_given_up_leaves_nothing_running_below(on_hub: HubHarness, two_hubs: TwoHubs) -> None:
    key = on_hub.submit("a", on_hub.command(run_ms=30_000))
    on_hub.until(key, Phase.STARTED)
    order = f"/v1/orders/{on_hub.order_id(key)}"
    on_hub.run(on_hub.driver.forget(key))
    until = time.monotonic() + 30
    while two_hubs.node().get(order).json()["state"] != "cancelled":
        assert time.monotonic() < until
        time.sleep(0.1)


def test_an_order_that_costs_more_than_it_brings_is_not_placed(on_hub: HubHarness) -> None:
    with pytest.raises(SpawnFailed, match="refuses it: budget"):
        on_hub.submit("a", on_hub.command(), earns_microcny=1)
    assert on_hub.run(on_hub.driver.known()) == frozenset()


def test_what_waits_below_for_too_long_is_taken_back(two_hubs: TwoHubs, tmp_path: Path) -> None:
    harness = HubHarness(two_hubs, tmp_path, start_within_ms=1_000)
    try:
        full = harness.submit("full", harness.command(run_ms=60_000), slot_milli=2_000)
        harness.until(full, Phase.STARTED)
        waits = harness.submit("waits", harness.command(), slot_milli=1_000)
        assert harness.status(waits).phase is not Phase.ENDED
        status = harness.ended(waits)
        assert (status.reason, status.started) == (EndReason.SPAWN_FAILED, False)
    finally:
        harness.close()


def test_what_another_customer_takes_below_is_told_above(on_hub: HubHarness, two_hubs: TwoHubs) -> None:
    def foreign() -> int:
        [pool] = on_hub.run(on_hub.driver.foreign())
        return pool.foreign_milli

    assert foreign() == 0
    own = on_hub.submit("a", on_hub.command(run_ms=20_000), slot_milli=500)
    on_hub.until(own, Phase.STARTED)
    assert foreign() == 0
    other = two_hubs.lower.customer(f"other-{time.monotonic_ns()}")
    spec = {"run": {"command": ["sleep", "20"]}, "requirement": {"cores": 0.7, "memory": "64MiB"}, "duration": "30s"}
    order_id = other.post("/v1/orders", json=spec).raise_for_status().json()["id"]
    until = time.monotonic() + 30
    while foreign() != 700:
        assert time.monotonic() < until, foreign()
        time.sleep(0.05)
    other.post(f"/v1/orders/{order_id}/cancel").raise_for_status()
