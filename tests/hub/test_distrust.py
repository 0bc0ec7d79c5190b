"""What a site cannot gain by false words, or by saying nothing: the hub's own clock decides. Time is moved by hand."""

import json
import threading
from collections.abc import Callable

import pytest

from tests.hub.conftest import FakeClock
from tests.hub.world import Held, SiteDouble, World
from yunhe.core.lifecycle import EndReason
from yunhe.core.tariff import RatingInputs, rate
from yunhe.core.usage import TOLERANCE_MS, Totals, bounded, most_wall_ms
from yunhe.hub.metering import service as metering
from yunhe.hub.orders import events, outbox
from yunhe.hub.platform.context import Platform
from yunhe.wire.link import CancelLease, LeaseMoved, LeaseStaging, Report, UsageReport

HOUR_MS = 3_600_000


@pytest.fixture
def world(platform: Platform, clock: FakeClock) -> World:
    made = World(platform, clock)
    made.organisation("lab")
    return made


def placed(world: World, **order: object) -> tuple[SiteDouble, str, Held]:
    """A site and an order that it was given."""
    north = world.site("north")
    order_id = world.submit("lab", **{"duration": "4h", "budget": "50CNY", **order})
    assert world.round() == 1
    [held] = north.held.values()
    return north, order_id, held


def overdue(world: World) -> None:
    world.do(lambda tx: events.overdue(tx, 100))


def done(world: World) -> None:
    world.check()
    world.settle()
    world.settle()
    world.check()
    world.check_settled()


def charge(world: World, lease_id: str) -> tuple[int, bool, dict[str, int]]:
    [row] = world.rows("SELECT * FROM charge WHERE lease_id = :id", id=lease_id)
    total = row.compute_microcny + row.energy_microcny + row.transfer_microcny + row.line_microcny
    return total, bool(row.disputed), json.loads(row.inputs)


# --- usage --------------------------------------------------------------------------------------------------------


def lie(north: SiteDouble, held: Held, wall_ms: int, cpu_ms: int | None = None) -> Report:
    """Usage that is told without a moment having passed here."""
    report = north.used(held, wall_ms, final=True)
    north.world.clock.ms -= held.used_ms
    assert isinstance(report, UsageReport)
    cpu = report.totals.cpu_ms if cpu_ms is None else cpu_ms
    return report.model_copy(update={"totals": report.totals.model_copy(update={"cpu_ms": cpu})})


@pytest.mark.parametrize("passed_ms", [0, 60_000, HOUR_MS])
def test_usage_beyond_the_hubs_own_time_is_recorded_and_disputed_and_costs_nothing(
    world: World, passed_ms: int
) -> None:
    north, order, held = placed(world)
    world.clock.ms += passed_ms
    north.poll(north.started(held), lie(north, held, 4 * HOUR_MS), north.ended(held))
    done(world)
    total, disputed, inputs = charge(world, f"{order}.0")
    most_ms = passed_ms + passed_ms // 1_000 + TOLERANCE_MS
    assert (inputs["wall_ms"], inputs["reported_wall_ms"], disputed) == (most_ms, 4 * HOUR_MS, True)
    assert inputs["cpu_ms"] <= most_ms
    given = {name: value for name, value in inputs.items() if name in RatingInputs.__dataclass_fields__}
    assert total == rate(RatingInputs(**given)).price.total == world.order(order).charged_microcny  # type: ignore[arg-type]
    with world.platform.db.reading() as conn:
        [usage] = metering.of_order(conn, order)
    assert (usage.wall_ms, usage.disputed) == (4 * HOUR_MS, True)


def test_a_clock_that_drifts_is_no_lie(world: World) -> None:
    north, order, held = placed(world)
    report = north.used(held, HOUR_MS, final=True)
    world.clock.ms -= 3_500 + TOLERANCE_MS  # this clock is slow by nearly a thousandth, and was set back
    north.poll(north.started(held), report, north.ended(held))
    done(world)
    _, disputed, inputs = charge(world, f"{order}.0")
    assert (inputs["wall_ms"], disputed) == (HOUR_MS, False)


def test_more_busy_time_than_the_lease_has_units_is_cut(world: World) -> None:
    north, order, held = placed(world)
    world.clock.ms += 60_000
    north.poll(north.started(held), lie(north, held, 60_000, cpu_ms=10**9), north.ended(held))
    done(world)
    _, disputed, inputs = charge(world, f"{order}.0")
    assert (inputs["wall_ms"], inputs["reported_cpu_ms"], disputed) == (60_000, 10**9, False)
    assert 60_000 <= inputs["cpu_ms"] <= 60_000 + TOLERANCE_MS + 60


def test_a_bound_is_one_whatever_is_said() -> None:
    used = Totals(10**9, 10**9, 5)
    for milli in (1, 500, 8_000):
        counted = bounded(used, milli, most_wall_ms(1_000, 61_000))
        assert counted.wall_ms == 60_000 + 60 + TOLERANCE_MS and counted.peak_memory_bytes == 5
        assert counted.cpu_ms <= -(-counted.wall_ms * milli // 1000)
    assert most_wall_ms(5_000, 0) == TOLERANCE_MS  # a clock that was set back


# --- ends ---------------------------------------------------------------------------------------------------------


def test_a_time_limit_that_has_not_passed_is_the_sites_fault(world: World) -> None:
    north, order, held = placed(world, duration="1h")
    world.clock.ms += 60_000
    north.poll(north.started(held), north.used(held, 60_000, final=True))
    north.poll(north.ended(held, EndReason.TIME_LIMIT, None))
    [task] = world.tasks(order)
    assert (task.state, task.reason) == ("pending", "supervisor_lost") and "before that time" in task.detail
    world.settle()
    assert charge(world, f"{order}.0")[:2] == (0, True)


def test_a_success_without_a_start_is_none(world: World) -> None:
    north, order, held = placed(world)
    north.poll(north.ended(held, EndReason.EXITED, 0))
    [task] = world.tasks(order)
    assert (task.state, task.reason, task.site_faults) == ("pending", "spawn_failed", 1)
    [fact] = world.rows("SELECT detail FROM fact WHERE kind = 'disbelieved'")
    assert fact.detail == "exited 0"
    world.check()


def test_a_cancel_that_nobody_asked_for_is_not_the_customers(world: World) -> None:
    north, order, held = placed(world)
    north.poll(north.started(held), north.used(held, 60_000, final=True), north.ended(held, EndReason.CANCELLED, None))
    assert world.tasks(order)[0].state == "pending"
    world.settle()
    assert charge(world, f"{order}.0")[:2] == (0, True)


# --- sites that do not let go ---------------------------------------------------------------------------------------


def test_a_cancel_that_a_site_ignores_ends_the_order_all_the_same(world: World) -> None:
    north, order, held = placed(world)
    north.poll(north.started(held), north.used(held, 1_000))
    world.do(lambda tx: events.cancel_orders(tx, [order]))
    for _ in range(10):  # it goes on polling, and reports as if nothing had been said
        world.clock.ms += events.STOP_LIMIT_MS // 10
        north.poll()
        overdue(world)
    assert world.state(order) == "running"
    world.clock.ms += 1
    overdue(world)
    [task] = world.tasks(order)
    assert (task.state, task.reason) == ("cancelled", "lost") and "told to stop" in task.detail
    done(world)
    north.poll(north.used(held, 3_000_000, final=True), north.ended(held))
    done(world)
    total, disputed, _ = charge(world, f"{order}.0")
    assert (total, disputed, world.state(order)) == (0, True, "cancelled")
    told = [(i.lease_id, i.reason) for i in cancels(world, north)]
    assert told[-1] == (f"{order}.0", EndReason.LOST)


def cancels(world: World, site: SiteDouble) -> list[CancelLease]:
    with world.platform.db.reading() as conn:
        return [i for i in outbox.after(conn, site.id, 0, None) if i.kind == "cancel"]


def test_a_cancel_that_a_silent_site_has_not_heard_waits_for_its_disconnect_limit(world: World) -> None:
    north, order, held = placed(world)
    north.poll(north.started(held))
    world.do(lambda tx: events.cancel_orders(tx, [order]))
    world.silent(north)
    world.clock.ms += 2 * events.STOP_LIMIT_MS
    overdue(world)
    assert world.state(order) == "running"  # nobody knows: disconnected is not failed
    north.poll()  # it is back, and has a moment to say what it did
    overdue(world)
    assert world.state(order) == "running"
    north.poll(north.used(held, 9_000, final=True), north.ended(held, EndReason.CANCELLED, None))
    assert world.tasks(order)[0].reason == "cancelled"
    done(world)


def staging(held: Held, done_bytes: int, phase: str = "in") -> Report:
    start = held.start
    return LeaseStaging.model_validate(
        {"seq": 0, "lease_id": start.lease_id, "epoch": start.epoch, "phase": phase, "done_bytes": done_bytes}
    )


def fetched(held: Held) -> Report:
    return LeaseMoved(seq=0, lease_id=held.start.lease_id, epoch=held.start.epoch, phase="in", files=())


def alternating(held: Held, n: int) -> Report:
    return staging(held, n) if n % 2 else fetched(held)


@pytest.mark.parametrize("word", [staging, alternating])
def test_a_site_that_says_for_ever_that_data_comes_is_given_up(
    world: World, word: Callable[[Held, int], Report]
) -> None:
    north, order, held = placed(world)
    settings = world.platform.settings
    began_ms, minutes = world.clock.ms, 0
    while world.tasks(order)[0].state != "pending":
        world.clock.ms += 60_000
        minutes += 1
        north.poll(word(held, minutes))
        overdue(world)
        assert minutes < 1_000
    task = world.tasks(order)[0]
    assert (task.reason, task.site_faults) == ("lost", 1)
    limit_ms = settings.staging_limit_ms + settings.queue_limit_ms + events.STOP_LIMIT_MS
    assert world.clock.ms - began_ms <= limit_ms + 120_000
    world.check()


def test_inputs_may_take_as_long_as_the_hub_says_and_no_longer(world: World) -> None:
    north, order, held = placed(world)
    settings = world.platform.settings
    north.poll(staging(held, 1))
    world.clock.ms += settings.staging_limit_ms
    north.poll(staging(held, 2))
    overdue(world)
    assert cancels(world, north) == []
    world.clock.ms += 1
    north.poll(staging(held, 3))
    overdue(world)
    assert [i.reason for i in cancels(world, north)] == [EndReason.SPAWN_FAILED]


def test_outputs_that_never_get_there_do_not_hold_the_order(world: World) -> None:
    north, order, held = placed(world, duration="1h")
    settings = world.platform.settings
    north.poll(north.started(held), north.used(held, 1_000))
    began_ms = world.clock.ms
    while world.tasks(order)[0].state != "pending":
        world.clock.ms += 5 * 60_000
        north.poll(staging(held, 1, "out" if world.clock.ms % 2 else "in"))
        overdue(world)
        assert world.clock.ms - began_ms < 24 * HOUR_MS
    limit_ms = HOUR_MS + settings.overdue_grace_ms + settings.staging_limit_ms + events.STOP_LIMIT_MS
    assert world.clock.ms - began_ms <= limit_ms + 15 * 60_000


# --- arrays -------------------------------------------------------------------------------------------------------


def test_one_tasks_retry_holds_up_none_of_its_siblings(world: World) -> None:
    north = world.site("north", cores=2)
    order = world.submit("lab", array=6, budget="50CNY")
    assert world.round() == 2
    first, second = list(north.held.values())
    north.poll(north.ended(first, EndReason.SPAWN_FAILED, None))
    early = first.start.lease_id
    assert world.round() == 1  # at once, and not the one that failed
    assert {held.start.lease_id for held in north.held.values()} == {second.start.lease_id, f"{order}.2"}
    north.run(wall_ms=10)
    while world.round():
        north.run(wall_ms=10)
    assert world.tasks(order)[0].state == "pending" and world.order(order).pending == 1
    world.clock.ms = world.tasks(order)[0].not_before_ms
    assert world.round() == 1 and early in {held.start.lease_id for held in north.held.values()}
    north.run()
    assert world.state(order) == "succeeded"
    done(world)


# --- two at once --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("only_postgresql")
@pytest.mark.parametrize("seed", range(6))
def test_a_fence_and_the_sites_own_word_meet_and_one_of_them_counts(world: World, seed: int) -> None:
    north, order, held = placed(world)
    north.poll(north.started(held))
    world.do(lambda tx: events.cancel_orders(tx, [order]))
    world.clock.ms += events.STOP_LIMIT_MS + 1
    report = north.used(held, 5_000, final=True)
    meet = threading.Barrier(2)

    def says() -> None:
        meet.wait()
        north.poll(report, north.ended(held, EndReason.CANCELLED, None))

    def fences() -> None:
        meet.wait()
        overdue(world)

    threads = [threading.Thread(target=work) for work in ((says, fences) if seed % 2 else (fences, says))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    [task] = world.tasks(order)
    assert (task.state, task.reason in ("lost", "cancelled")) == ("cancelled", True)
    done(world)
    total, disputed, _ = charge(world, f"{order}.0")
    assert disputed == (task.reason == "lost") and (total == 0) == disputed
