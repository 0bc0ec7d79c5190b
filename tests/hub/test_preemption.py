"""What a centre takes back for its own users: placed again, charged for what was kept, never twice."""

import hashlib
import json
import random

import pytest

from tests.hub.conftest import FakeClock
from tests.hub.world import Held, SiteDouble, World
from yunhe.core.lifecycle import MAX_PREEMPTIONS, EndReason
from yunhe.core.tariff import RatingInputs, rate
from yunhe.hub.dispatch import outputs
from yunhe.hub.dispatch.outputs import Chunk
from yunhe.hub.metering import service as metering
from yunhe.hub.orders import events, outbox
from yunhe.hub.platform.context import Platform
from yunhe.wire.link import CHECKPOINT_PATH, Checkpoint, LeaseEnded, Report

SAVED = hashlib.sha256(b"saved").hexdigest()
RUN = {"command": ["train"], "checkpoint": {"signal": "SIGUSR1"}}


@pytest.fixture
def world(platform: Platform, clock: FakeClock) -> World:
    made = World(platform, clock)
    made.organisation("lab")
    return made


def preempted(site: SiteDouble, held: Held, kept_ms: int | None, *, upload: bool = True) -> Report:
    """The end of a lease that its site gave back; None: it left no checkpoint."""
    end = site.ended(held, EndReason.PREEMPTED, 143)
    assert isinstance(end, LeaseEnded)
    if kept_ms is None:
        return end
    if upload:
        chunk = Chunk(end.lease_id, end.epoch, CHECKPOINT_PATH, 0, b"saved", 5, SAVED)
        site.world.write(outputs.record, chunk)
    checkpoint = Checkpoint(epoch=end.epoch, kept_ms=kept_ms, size_bytes=5, sha256=SAVED)
    return end.model_copy(update={"checkpoint": checkpoint})


def give_back(site: SiteDouble, wall_ms: int, kept_ms: int | None, *, upload: bool = True) -> None:
    """All that is held here starts, runs for a while and is preempted."""
    site.world.clock.ms += wall_ms
    for held in list(site.held.values()):
        site.poll(
            site.started(held), site.used(held, wall_ms, final=True), preempted(site, held, kept_ms, upload=upload)
        )


def done(world: World) -> None:
    world.check()
    world.settle()
    world.settle()
    world.check()
    world.check_settled()


def charges(world: World) -> list[tuple[int, int, bool, dict[str, int]]]:
    """(epoch, total, disputed, inputs) of every charge."""
    rows = world.rows("SELECT * FROM charge ORDER BY lease_id, epoch")
    return [
        (
            row.epoch,
            row.compute_microcny + row.energy_microcny + row.transfer_microcny + row.line_microcny,
            bool(row.disputed),
            json.loads(row.inputs),
        )
        for row in rows
    ]


def test_a_preempted_task_goes_on_elsewhere_from_what_was_kept_and_pays_for_that(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab", run=RUN, duration="1h", budget="50CNY")
    assert world.round() == 1
    [held] = north.held.values()
    assert held.start.checkpoint is not None and held.start.restore is None
    assert (held.start.checkpoint.signal, held.start.checkpoint.folder) == ("SIGUSR1", "checkpoint")
    assert held.start.run_limit_ms == 3_600_000
    give_back(north, wall_ms=1_000_000, kept_ms=900_000)
    [task] = world.tasks(order)
    assert (task.state, task.epoch, task.reason, task.kept_ms) == ("pending", 1, "preempted", 900_000)
    assert (task.retries_left, task.site_faults, task.preemptions) == (0, 0, 0)
    world.check()

    del world.sites[north.id]
    north.poll(accepting=False)
    south = world.site("south")
    assert world.round() == 0, "it waits a second"
    world.clock.ms += 1_000
    assert world.round() == 1
    [again] = south.held.values()
    assert again.start.restore == Checkpoint(epoch=1, kept_ms=900_000, size_bytes=5, sha256=SAVED)
    assert again.start.run_limit_ms == 3_600_000 - 900_000
    south.poll(south.started(again), south.used(again, 2_000_000, final=True), south.ended(again))
    done(world)
    assert world.state(order) == "succeeded"
    (first, paid, disputed, inputs), (second, rest, undisputed, whole) = charges(world)
    assert (first, disputed, second, undisputed) == (1, True, 2, False)
    assert (inputs["wall_ms"], inputs["kept_wall_ms"], whole["wall_ms"]) == (1_000_000, 900_000, 2_000_000)
    # One core: 900 s of 1 000 s is paid to the micro-CNY; no record ends by then, so no energy is.
    assert paid == -(-inputs["price_microcny_per_unit_hour"] * 1000 * 900_000 // 3_600_000_000)
    assert world.order(order).charged_microcny == paid + rest
    with world.platform.db.reading() as conn:
        usage = metering.of_order(conn, order)
    assert [(u.epoch, u.disputed) for u in usage] == [(1, True), (2, False)]


def test_what_was_used_by_the_checkpoint_is_undisputed(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab", run=RUN, duration="1h", budget="50CNY")
    world.round()
    [held] = north.held.values()
    north.poll(north.started(held), north.used(held, 60_000), north.used(held, 60_000), north.used(held, 5_000, True))
    world.clock.ms += 125_000
    north.poll(preempted(north, held, 121_000))
    world.settle()
    with world.platform.db.reading() as conn:
        usage = metering.of_order(conn, order)
    assert [(u.to_ms, u.disputed) for u in usage] == [(60_000, False), (120_000, False), (125_000, True)]
    [(_, paid, _, inputs)] = charges(world)
    assert (inputs["kept_wall_ms"], inputs["kept_cpu_ms"]) == (121_000, 120_000)
    given = {name: value for name, value in inputs.items() if name in RatingInputs.__dataclass_fields__}
    assert paid == rate(RatingInputs(**given)).price.total > 0  # type: ignore[arg-type]


@pytest.mark.parametrize(("kept_ms", "upload"), [(None, False), (0, True), (50_000, False)])
def test_without_a_checkpoint_at_the_hub_nothing_is_charged(world: World, kept_ms: int | None, upload: bool) -> None:
    north = world.site("north")
    order = world.submit("lab", run=RUN)
    world.round()
    give_back(north, 55_000, kept_ms, upload=upload)
    world.clock.ms += 1_000
    assert world.round() == 1
    [held] = north.held.values()
    assert held.start.restore is None and held.start.run_limit_ms == 60_000
    [task] = world.tasks(order)
    assert (task.preemptions, task.kept_ms) == (1, 0)
    north.run(wall_ms=30_000)
    done(world)
    (_, first, disputed, _), (_, second, _, _) = charges(world)
    assert (first, disputed) == (0, True) and second == world.order(order).charged_microcny > 0


def test_an_attempt_that_saves_nothing_new_goes_on_from_the_older_checkpoint(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab", run=RUN)
    for kept_ms in (20_000, None, 10_000):
        world.clock.ms += 60_000
        assert world.round() == 1
        give_back(north, 25_000, kept_ms)
    world.clock.ms += 60_000
    assert world.round() == 1
    [held] = north.held.values()
    assert held.start.restore is not None and held.start.restore.epoch == 3
    assert held.start.run_limit_ms == 30_000 and world.tasks(order)[0].kept_ms == 30_000
    world.settle()
    assert [bool(total) for _, total, _, _ in charges(world)] == [True, False, True]


def test_an_end_that_is_repeated_or_comes_after_the_site_was_given_up_changes_nothing(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab", run=RUN)
    world.round()
    [held] = north.held.values()
    north.poll(north.started(held), north.used(held, 30_000, final=True))
    world.silent(north)
    world.lost(north)
    [task] = world.tasks(order)
    assert (task.state, task.reason, task.site_faults) == ("pending", "lost", 1)
    late = preempted(north, held, 29_000)
    north.poll(late)
    north.poll(late)
    assert world.tasks(order)[0].kept_ms == 0
    world.settle()
    assert [(total, disputed) for _, total, disputed, _ in charges(world)] == [(0, True)]
    world.clock.ms += 1_000
    world.round()
    [again] = north.held.values()
    assert (again.start.epoch, again.start.restore) == (2, None)


def test_no_more_is_kept_than_the_hub_saw_pass(world: World) -> None:
    """Or a site could leave the next attempt no time to run."""
    north, order = world.site("north"), world.submit("lab", run=RUN)
    world.round()
    for held in list(north.held.values()):
        lie = north.used(held, 10**9, final=True)
        world.clock.ms -= held.used_ms - 30_000
        north.poll(north.started(held), lie, preempted(north, held, 10**9))
    [(kept_ms,)] = world.rows("SELECT kept_ms FROM task")
    assert kept_ms == 30_000 and world.state(order) == "open"


def test_a_cancelled_task_pays_for_what_was_kept_and_no_more(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab", run=RUN)
    world.round()
    world.write(events.cancel_orders, order)
    give_back(north, 50_000, 40_000)
    done(world)
    assert world.state(order) == "cancelled"
    [(_, paid, disputed, inputs)] = charges(world)
    assert disputed and inputs["kept_wall_ms"] == 40_000 and paid == world.order(order).charged_microcny > 0


def test_a_task_that_is_never_left_alone_ends_unpaid(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab", run=RUN, retries=3)
    for _ in range(MAX_PREEMPTIONS + 1):
        world.clock.ms += 60_000
        assert world.round() == 1
        give_back(north, 5_000, None)
    done(world)
    [task] = world.tasks(order)
    assert (task.state, task.reason, task.retries_left) == ("failed", "preempted", 3)
    assert world.order(order).charged_microcny == 0


def test_however_often_and_wherever_it_is_preempted_the_hold_is_never_exceeded(world: World) -> None:
    """Random lives of tasks; every charge is what its inputs give, and the books always agree (`check`)."""
    dice = random.Random(7)
    sites = [world.site("north", cores=16), world.site("south", cores=16)]
    placed = [
        world.submit("lab", run=RUN, retries=dice.randrange(3), array=dice.randrange(1, 3), budget="30CNY")
        for _ in range(12)
    ]
    for _ in range(60):
        world.clock.ms += 61_000
        world.round()
        for site in sites:
            for held in list(site.held.values()):
                wall_ms, kept = dice.randrange(1, 70_000), dice.random()
                used = site.used(held, wall_ms, final=True)
                match dice.randrange(4):
                    case 0 | 1:
                        end = preempted(site, held, int(held.used_ms * kept) if kept > 0.3 else None)
                    case 2:
                        end = site.ended(held, exit_code=1)
                    case _:
                        end = site.ended(held, EndReason.SPAWN_FAILED, None)
                site.poll(site.started(held), used, end)
        world.check()
        if dice.random() < 0.5:
            world.settle()
            world.check()
    done(world)
    assert all(world.order(order).settled for order in placed)
    for _, total, disputed, inputs in charges(world):
        given = {name: value for name, value in inputs.items() if name in RatingInputs.__dataclass_fields__}
        assert total == rate(RatingInputs(**given)).price.total  # type: ignore[arg-type]
        assert not disputed or not total or inputs["kept_wall_ms"]
    kept = world.rows("SELECT max(kept_ms) AS most FROM task")[0].most
    assert 0 < kept <= 60_000 + 20 * 10_000  # the run limit, and at least 10 s for each start after it


# --- waiting at a centre --------------------------------------------------------------------------------------------


def test_a_lease_in_the_queue_of_its_centre_is_not_overdue_by_its_run_limit(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab", duration="10s")
    world.round()
    [held] = north.held.values()
    settings = world.platform.settings

    def cancels() -> list[EndReason]:
        world.do(lambda tx: events.overdue(tx, 100))
        with world.platform.db.reading() as conn:
            return [i.reason for i in outbox.after(conn, north.id, 0, None) if i.kind == "cancel"]

    world.clock.ms += settings.queue_limit_ms
    assert cancels() == []
    world.clock.ms += 1
    assert cancels() == [EndReason.SPAWN_FAILED]
    [fact] = world.rows("SELECT detail FROM fact WHERE kind = 'overdue'")
    assert fact.detail == "waited too long to be started"
    # The start was on its way; told to stop, the site has to say that it did, or it is counted on no more.
    north.poll(north.started(held))
    world.clock.ms += events.STOP_LIMIT_MS
    assert cancels() == [EndReason.SPAWN_FAILED] and world.state(order) == "running"
    world.clock.ms += 1
    assert cancels() == [EndReason.SPAWN_FAILED, EndReason.LOST]
    assert (world.state(order), world.tasks(order)[0].reason) == ("open", "lost")
