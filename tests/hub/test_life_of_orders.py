"""The life of orders at the hub: silent sites, faults, retries, limits, shares. Time is moved by hand."""

import pytest

from tests.hub.conftest import FakeClock
from tests.hub.world import SiteDouble, World
from yunhe.core.errors import InsufficientFunds
from yunhe.core.lifecycle import MAX_SITE_FAULTS, EndReason
from yunhe.hub.accounts.service import Principal
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.catalogue.service import SiteChange
from yunhe.hub.metering import service as metering
from yunhe.hub.orders import events, outbox
from yunhe.hub.platform.context import Platform
from yunhe.wire.link import UsageReport

OPERATOR = Principal("operator", "o", "operator", "k")


@pytest.fixture
def world(platform: Platform, clock: FakeClock) -> World:
    made = World(platform, clock)
    made.organisation("lab")
    return made


def done(world: World) -> None:
    """Everything that has ended is settled, and the books agree."""
    world.check()
    world.settle()
    world.settle()
    world.check()
    world.check_settled()


def cancels(world: World, site: SiteDouble) -> list[tuple[str, int, EndReason]]:
    with world.platform.db.reading() as conn:
        told = outbox.after(conn, site.id, 0, None)
    return [(i.lease_id, i.epoch, i.reason) for i in told if i.kind == "cancel"]


# --- silence ------------------------------------------------------------------------------------------------------


def test_a_silent_sites_task_is_unknown_then_lost_and_placed_elsewhere(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab")
    assert world.round() == 1
    [held] = north.held.values()
    north.poll(north.started(held), north.used(held, 10_000))
    world.silent(north)
    [task] = world.tasks(order)
    assert (task.state, task.epoch) == ("unknown", 1)
    world.check()
    world.do(lambda tx: catalogue.change_sites(tx, [SiteChange(OPERATOR, north.id, "pause")]))
    world.lost(north)
    world.clock.ms += 1_000
    world.sites.pop(north.id)
    south = world.site("south")
    assert world.round() == 1
    [task] = world.tasks(order)
    assert (task.state, task.epoch, task.site_id, task.site_faults) == ("leased", 2, south.id, 1)
    south.run(wall_ms=5_000)
    done(world)
    assert world.state(order) == "succeeded"

    # The lost site comes back: its usage is kept, costs nothing and is told; what it ends changes nothing.
    assert cancels(world, north) == [(f"{order}.0", 1, EndReason.LOST)]
    charged = world.order(order).charged_microcny
    north.poll(north.used(held, 20_000, final=True), north.ended(held, exit_code=1))
    done(world)
    assert (world.state(order), world.order(order).charged_microcny) == ("succeeded", charged)
    usage = world.rows("SELECT epoch, wall_ms FROM usage WHERE lease_id = :id ORDER BY epoch, n", id=f"{order}.0")
    assert [(row.epoch, row.wall_ms) for row in usage] == [(1, 10_000), (1, 30_000), (2, 5_000)]
    charges = world.rows("SELECT epoch, compute_microcny, disputed FROM charge ORDER BY epoch")
    assert [(row.epoch, row.compute_microcny > 0, bool(row.disputed)) for row in charges] == [
        (1, False, True),
        (2, True, False),
    ]


def test_a_site_that_is_back_in_time_keeps_its_job(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab")
    world.round()
    [held] = north.held.values()
    north.poll(north.started(held))
    world.silent(north)
    assert world.tasks(order)[0].state == "unknown"
    north.poll()
    world.lost(north)  # a watcher that is late by a moment
    [task] = world.tasks(order)
    assert (task.state, task.epoch) == ("running", 1)
    north.poll(north.used(held, 3_000, final=True), north.ended(held))
    done(world)
    assert world.state(order) == "succeeded"


def test_usage_that_comes_when_its_order_is_settled_is_told_and_costs_nothing(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab")
    world.round()
    [held] = north.held.values()
    north.poll(north.started(held), north.ended(held))  # a site that forgets to measure
    done(world)
    assert world.order(order).settled and world.rows("SELECT * FROM charge") == []
    north.poll(north.used(held, 9_000, final=True))
    done(world)
    [charge] = world.rows("SELECT * FROM charge")
    assert charge.disputed and charge.compute_microcny == 0 == world.order(order).charged_microcny


def test_usage_of_anothers_lease_and_usage_that_contradicts_itself_are_counted_as_refused(world: World) -> None:
    north, south = world.site("north"), world.site("south")
    world.do(lambda tx: catalogue.change_sites(tx, [SiteChange(OPERATOR, south.id, "pause")]))
    order = world.submit("lab")
    world.round()
    [held] = north.held.values()
    first = north.used(held, 5_000)
    south.poll(first)
    assert refusals(world) == (0, 0, 1)
    north.poll(north.started(held), first, first)
    assert refusals(world) == (1, 1, 1)
    assert isinstance(first, UsageReport)
    less = first.totals.model_copy(update={"wall_ms": 1})
    north.poll(first.model_copy(update={"totals": less}), first.model_copy(update={"n": 1, "from_ms": 9_000}))
    assert refusals(world) == (1, 1, 3)
    north.poll(north.used(held, 1_000, final=True), north.ended(held))
    done(world)
    assert world.rows("SELECT count(*) AS n FROM charge")[0].n == 1 and world.state(order) == "succeeded"


def refusals(world: World) -> tuple[int, int, int]:
    """Usage records that are kept, came twice, and were refused."""
    with world.platform.db.reading() as conn:
        found = metering.totals(conn)
    return found.records, found.duplicates, found.refused


# --- faults and retries -------------------------------------------------------------------------------------------


def test_faults_of_sites_are_bounded_and_asked_for_less_and_less_often(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab")
    waits = []
    for fault in range(MAX_SITE_FAULTS + 1):
        assert world.round() == 1, fault
        north.run(EndReason.SPAWN_FAILED, None, wall_ms=100)
        [task] = world.tasks(order)
        if task.state == "pending":
            waits.append(task.not_before_ms - world.clock.ms)
            world.clock.ms = task.not_before_ms - 1
            assert world.round() == 0
            world.clock.ms += 1
    assert world.state(order) == "failed" and world.round() == 0
    assert waits == [1_000 * 2**n for n in range(MAX_SITE_FAULTS)]
    done(world)
    assert world.order(order).charged_microcny == 0
    assert {bool(row.disputed) for row in world.rows("SELECT disputed FROM charge")} == {True}


def test_an_exit_code_is_retried_as_often_as_the_customer_wished(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab", retries=2)
    for _ in range(3):
        world.clock.ms += 1_000
        assert world.round() == 1
        north.run(exit_code=3, wall_ms=60_000)
    assert world.state(order) == "failed" and world.tasks(order)[0].exit_code == 3
    done(world)
    row = world.order(order)
    assert len(world.rows("SELECT * FROM charge")) == 3
    assert 0 < row.charged_microcny <= row.hold_microcny


def test_an_overdue_run_is_told_to_stop_once(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab", duration="10s")
    world.round()
    [held] = north.held.values()
    north.poll(north.started(held))
    limit_ms = 10_000 + world.platform.settings.overdue_grace_ms
    world.clock.ms += limit_ms
    world.do(lambda tx: events.overdue(tx, 100))
    assert cancels(world, north) == []
    world.clock.ms += 1
    world.do(lambda tx: events.overdue(tx, 100))
    world.do(lambda tx: events.overdue(tx, 100))
    assert cancels(world, north) == [(f"{order}.0", 1, EndReason.TIME_LIMIT)]
    north.poll(north.used(held, 10_000, final=True), north.ended(held, EndReason.TIME_LIMIT, None))
    done(world)
    assert (world.state(order), world.tasks(order)[0].reason) == ("failed", "time_limit")


def test_what_is_not_placed_by_its_deadline_fails_and_costs_nothing(world: World) -> None:
    north = world.site("north")
    blocker = world.submit("lab", requirement={"cores": 4}, duration="1h", budget="50CNY")
    order = world.submit("lab", requirement={"cores": 4}, deadline="10m")
    assert world.round() == 1 and world.state(blocker) == "running"
    world.clock.ms += 9 * 60_000
    world.do(lambda tx: events.deadlines(tx, 100))
    assert world.state(order) == "open"
    world.clock.ms += 60_001
    world.do(lambda tx: events.deadlines(tx, 100))
    assert (world.state(order), world.tasks(order)[0].reason) == ("failed", "deadline_missed")
    done(world)
    north.run()
    done(world)
    assert world.order(order).charged_microcny == 0 and world.round() == 0


# --- cancelling ---------------------------------------------------------------------------------------------------


def test_an_order_can_be_cancelled_at_every_point_of_its_life(world: World) -> None:
    north = world.site("north", cores=2)
    running, leased, queued = world.submit("lab"), world.submit("lab"), world.submit("lab")
    assert world.round() == 2
    for order in (running, leased, queued):
        if order == running:
            north.poll(north.started(north.held[f"{order}.0", 1]))
        world.write(events.cancel_orders, order)
        world.write(events.cancel_orders, order)
        world.check()
    assert world.state(queued) == "withdrawn"
    assert sorted(cancels(world, north)) == sorted((f"{o}.0", 1, EndReason.CANCELLED) for o in (running, leased))
    assert world.round() == 0
    north.run(EndReason.CANCELLED, None)
    assert {world.state(running), world.state(leased)} == {"cancelled"}
    done(world)
    assert world.order(running).charged_microcny > 0 == world.order(queued).charged_microcny


def test_a_cancelled_site_fault_is_not_placed_again(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab")
    world.round()
    world.write(events.cancel_orders, order)
    world.silent(north)
    world.lost(north)
    done(world)
    assert world.state(order) == "cancelled"


# --- who gets what ------------------------------------------------------------------------------------------------


def test_a_gang_is_placed_whole_or_not_at_all(world: World) -> None:
    north = world.site("north", cores=4)
    world.submit("lab", requirement={"cores": 3})
    assert world.round() == 1
    gang = world.submit("lab", requirement={"cores": 1, "slots": 2})
    assert world.round() == 0
    north.run()
    assert world.round() == 1
    [held] = north.held.values()
    assert (held.start.lease_id, held.start.slots, held.start.slot_milli) == (f"{gang}.0", 2, 1_000)
    assert world.tasks(gang)[0].milli == 2_000
    world.check()


def test_a_quota_binds_what_runs_at_once(world: World) -> None:
    world.organisation("small", quota_milli=2_000)
    north = world.site("north", cores=8)
    order = world.submit("small", array=5)
    seen = 0
    while world.round() > 0:
        world.check()
        assert len(north.held) <= 2
        seen += len(north.held)
        north.run()
    assert seen == 5 and world.state(order) == "succeeded"
    done(world)


def test_two_organisations_share_what_there_is(world: World) -> None:
    world.organisation("late")
    north = world.site("north", cores=4)
    first = world.submit("lab", array=40)
    second = world.submit("late", array=40)
    assert world.round() == 4
    by_order = [lease_id.partition(".")[0] for lease_id, _ in north.held]
    assert sorted(by_order) == sorted([first, first, second, second])
    world.check()


def test_orders_that_cannot_be_placed_do_not_hide_those_of_others(world: World) -> None:
    world.organisation("other")
    world.site("north")
    object.__setattr__(world.platform, "settings", world.platform.settings.model_copy(update={"round_orders": 4}))
    for _ in range(6):
        world.submit("lab", requirement={"compute": "20PFLOPS@bf16"}, priority=9)
    order = world.submit("other")
    assert world.round() == 1 and world.state(order) == "running"


def test_a_paused_site_gets_nothing_new_and_keeps_what_it_has(world: World) -> None:
    north = world.site("north")
    first = world.submit("lab")
    assert world.round() == 1
    second = world.submit("lab")
    plan_of_before = world.plan()
    world.do(lambda tx: catalogue.change_sites(tx, [SiteChange(OPERATOR, north.id, "pause")]))
    assert world.commit(plan_of_before) == 0  # what was decided before the pause is not committed after it
    assert world.round() == 0
    north.run()
    assert (world.state(first), world.state(second)) == ("succeeded", "open")
    world.do(lambda tx: catalogue.change_sites(tx, [SiteChange(OPERATOR, north.id, "resume")]))
    north.poll(accepting=False)
    assert world.commit(world.plan()) == 0
    north.poll(accepting=True)
    assert world.round() == 1
    done(world)


def test_a_plan_is_committed_once(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab", array=3)
    plan = world.plan()
    assert world.commit(plan) == 3
    assert world.commit(plan) == 0
    north.poll()
    assert len(north.held) == 3 == len(world.rows("SELECT * FROM lease WHERE order_id = :id", id=order))
    world.check()


def test_without_money_nothing_is_accepted(world: World) -> None:
    world.organisation("poor", cny=1)
    world.site("north")
    world.submit("poor", requirement={"cores": 1}, duration="1h", budget="1CNY")
    with pytest.raises(InsufficientFunds):
        world.submit("poor", requirement={"cores": 4}, duration="9h", budget="9CNY")
    world.check()
