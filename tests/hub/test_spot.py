"""Spot orders: cheaper, and ended by the network for orders that are not, which get the units; nothing else changes."""

import json
import random

import pytest

from tests.hub.conftest import FakeClock
from tests.hub.test_preemption import RUN, charges, done, preempted
from tests.hub.world import Held, SiteDouble, World
from yunhe.core.lifecycle import EndReason
from yunhe.core.tariff import RatingInputs, rate, unit_price
from yunhe.hub.intake import explaining
from yunhe.hub.orders import events
from yunhe.hub.platform.context import Platform
from yunhe.wire.link import UsageReport


@pytest.fixture
def world(platform: Platform, clock: FakeClock) -> World:
    made = World(platform, clock)
    made.organisation("lab")
    made.organisation("firm")
    return made


def spot(world: World, cores: int = 4, **changes: object) -> str:
    return world.submit(
        "lab", spot=True, run=RUN, duration="1h", budget="50CNY", requirement={"cores": cores}, **changes
    )


def ordinary(world: World, cores: int = 4, **changes: object) -> str:
    return world.submit("firm", requirement={"cores": cores, "memory": "64MiB"}, **changes)


def start(site: SiteDouble) -> list[Held]:
    found = list(site.held.values())
    site.poll(*(site.started(held) for held in found))
    return found


def later(world: World, ms: int) -> None:
    """Time passes, and all sites are still there."""
    world.clock.ms += ms
    for site in world.sites.values():
        site.poll()


def told(site: SiteDouble) -> list[str]:
    return sorted(held.start.lease_id for held in site.held.values() if held.told is EndReason.PREEMPTED)


def rooms_of(world: World, order: str) -> tuple[str | None, int]:
    row = world.order(order)
    return row.room_pool, row.room_tasks


def why(world: World, order: str) -> str:
    with world.platform.db.reading() as conn:
        policy = world.platform.settings.policy
        by = explaining.Explainer(world.pricer, world.shapes, policy, lambda conn, order_id, at_ms: None)
        return explaining.why(conn, order, by, world.clock.now_ms()).summary


def test_a_spot_order_costs_less_by_the_policys_factor_and_its_charge_is_computed_from_what_is_stored(
    world: World,
) -> None:
    site = world.site("north")
    cheap, dear = spot(world, 1), world.submit("lab", run=RUN, duration="1h", budget="50CNY")
    assert world.round() == 2
    site.run(wall_ms=1_000_000)
    done(world)
    found = {}
    for row in world.rows("SELECT * FROM charge"):
        inputs = {k: v for k, v in json.loads(row.inputs).items() if k in RatingInputs.__dataclass_fields__}
        assert rate(RatingInputs(**inputs)).price.compute == row.compute_microcny
        found[row.order_id] = (inputs["price_microcny_per_unit_hour"], row.compute_microcny, row.energy_microcny)
    percent = world.platform.settings.policy.spot_discount_percent
    assert found[cheap][0] == unit_price(found[dear][0], True, percent) < found[dear][0]
    assert found[cheap][1] * 100 == pytest.approx(found[dear][1] * (100 - percent), abs=100)
    assert found[cheap][2] == found[dear][2] > 0
    assert world.order(cheap).hold_microcny < world.order(dear).hold_microcny


def test_a_spot_lease_does_not_end_for_an_order_of_its_own_account(world: World) -> None:
    site = world.site("north")
    young = spot(world)
    assert world.round() == 1
    start(site)
    own = world.submit("lab", requirement={"cores": 4, "memory": "64MiB"})
    assert world.round() == 0
    assert told(site) == [] and rooms_of(world, own) == (None, 0)
    ordinary(world)
    world.round()
    assert told(site) == [f"{young}.0"], "it ends for others"


def test_a_spot_lease_ends_for_an_ordinary_order_which_gets_the_units_and_goes_on_later(world: World) -> None:
    site = world.site("north")
    young = spot(world)
    assert world.round() == 1
    [held] = start(site)
    later(world, 1_000_000)
    wants = ordinary(world)
    other = spot(world)  # also waits, and is cheaper: it gets none of what comes
    assert world.round() == 0
    assert told(site) == [f"{young}.0"] and rooms_of(world, wants) == (f"{site.id}:cpu", 1)
    assert [f.detail for f in world.rows("SELECT detail FROM fact WHERE kind = 'reclaimed'")] == [
        "for an order that is not spot"
    ]
    assert "are being freed for it" in why(world, wants) and world.tasks(young)[0].stopping
    for _ in range(3):  # the job takes its time
        later(world, 1_000)
        assert world.round() == 0
    assert len(world.rows("SELECT * FROM fact WHERE kind IN ('reclaimed', 'room')")) == 2

    later(world, 5_000)
    site.poll(site.used(held, 1_005_000, final=True), preempted(site, held, 900_000))
    task = world.tasks(young)[0]
    assert (task.state, task.reason, task.kept_ms) == ("pending", "preempted", 900_000)
    assert why(world, young).startswith("1 task waits")
    assert "ended for an order that is not spot; goes on from its checkpoint at 15m" in why(world, young)
    later(world, 2_000)
    assert world.round() == 1
    assert world.tasks(wants)[0].state == "leased" and rooms_of(world, wants) == (None, 0)
    assert world.tasks(other)[0].state == "pending"
    world.check()

    site.run()
    assert world.round() == 1
    assert world.tasks(young)[0].state == "leased", "the older spot order"
    [again] = site.held.values()
    assert again.start.restore is not None and again.start.restore.kept_ms == 900_000 and again.start.spot
    site.run()
    world.write(events.cancel_orders, other)
    done(world)
    paid = {(order, epoch): total for order, epoch, total in _charged(world)}
    assert paid[young, 1] > 0 and paid[young, 2] > 0 and world.state(young) == "succeeded"
    [(_, _, _, first)] = [c for c in charges(world) if c[2]]
    assert first["kept_wall_ms"] == 900_000 and first["hold_microcny"] > 0


def _charged(world: World) -> list[tuple[str, int, int]]:
    rows = world.rows("SELECT * FROM charge")
    return [(row.order_id, row.epoch, row.compute_microcny + row.energy_microcny) for row in rows]


def test_the_lease_with_the_newest_checkpoint_ends_by_the_word_of_its_own_site(world: World) -> None:
    north, south = world.site("north"), world.site("south")
    old, saved = spot(world), spot(world)
    assert world.round() == 2
    by_site = {site.id: (site, start(site)[0]) for site in (north, south)}
    (keeps, mine), (_, other) = by_site[world.tasks(saved)[0].site_id], by_site[world.tasks(old)[0].site_id]
    # `saved` runs longer at risk, but for its checkpoint.
    said = keeps.used(mine, 600_000)
    assert isinstance(said, UsageReport)
    keeps.poll(said.model_copy(update={"saved_ms": 590_000}))
    assert world.tasks(saved)[0].saved_ms == 590_000
    liar = next(site for site in (north, south) if site is not keeps)
    lie = liar.used(other, 1_000)
    assert isinstance(lie, UsageReport)
    update = {"lease_id": mine.start.lease_id, "saved_ms": 1, "n": 7}
    liar.poll(lie.model_copy(update=update))
    keeps.poll(said.model_copy(update={"epoch": 9, "n": 1, "saved_ms": 2}))
    assert world.tasks(saved)[0].saved_ms == 590_000
    ordinary(world)
    world.round()
    assert told(north) + told(south) == [f"{saved}.0"]


def test_an_ordinary_lease_never_ends_and_nothing_ends_while_a_place_is_free(world: World) -> None:
    north, south = world.site("north"), world.site("south")
    first = ordinary(world)
    assert world.round() == 1
    cheap = spot(world, 2)
    assert world.round() == 1
    assert ordinary(world, 2) and world.round() == 1, "there was room"
    assert told(north) + told(south) == []
    ordinary(world, 4)
    world.round()
    assert told(north) + told(south) == [], "the spot lease alone does not free enough"
    two = ordinary(world, 2)
    world.round()
    assert told(north) + told(south) == [f"{cheap}.0"]
    assert world.tasks(first)[0].state == "leased" and rooms_of(world, two)[1] == 1


@pytest.mark.parametrize("change", ["cancelled", "placed", "ended", "again", "doubled"])
def test_what_changed_since_the_plan_is_fenced(world: World, change: str) -> None:
    site = world.site("north")
    young = spot(world)
    world.round()
    [held] = start(site)
    wants = ordinary(world)
    world.plan()
    [room] = world.preempted
    assert room.order_id == wants and room.leases == ((f"{young}.0", 1),)
    match change:
        case "cancelled":
            world.write(events.cancel_orders, wants)
        case "placed":
            world.site("south")
            world.commit(world.plan())
            world.preempted = (room,)
        case "ended":
            site.poll(site.used(held, 1_000, final=True), site.ended(held))
        case "again":
            later(world, 1)
            site.poll(site.ended(held, EndReason.SPAWN_FAILED, None))
            later(world, 2_000)
            site.held.clear()
        case "doubled":
            assert world.make_rooms() == 1
    count = world.make_rooms()
    site.poll()
    assert len(world.rows("SELECT * FROM fact WHERE kind = 'reclaimed'")) == (change == "doubled")
    assert told(site) == ([f"{young}.0"] if change == "doubled" else [])
    assert count == 0 or change in ("ended", "again")
    world.check()
    world.preempted = ()
    for _ in range(3):
        later(world, 61_000)
        site.run()
        world.round()
    world.check()


def test_a_site_that_fell_silent_has_nothing_to_end(world: World) -> None:
    site = world.site("north")
    spot(world)
    world.round()
    start(site)
    world.silent(site)
    ordinary(world)
    assert world.view().snapshot.held == ()


def test_a_reclaimed_lease_that_its_site_never_ends_is_given_up(world: World) -> None:
    site = world.site("north")
    young = spot(world)
    world.round()
    start(site)
    wants = ordinary(world)
    world.round()
    later(world, events.STOP_LIMIT_MS + 1)
    world.do(lambda tx: events.overdue(tx, 100))
    assert world.tasks(young)[0].reason == "lost"
    assert world.round() == 1 and world.tasks(wants)[0].state == "leased"
    world.check()


def test_a_spot_task_that_is_cancelled_or_ends_by_itself_meanwhile(world: World) -> None:
    site = world.site("north")
    one, two = spot(world, 2), spot(world, 2)
    world.round()
    first, second = start(site)
    ordinary(world)
    world.round()
    assert told(site) == sorted([f"{one}.0", f"{two}.0"])
    world.write(events.cancel_orders, one)
    mine = {held.start.lease_id: held for held in (first, second)}
    site.poll(preempted(site, mine[f"{one}.0"], 10_000), site.ended(mine[f"{two}.0"]))
    assert (world.state(one), world.state(two)) == ("cancelled", "succeeded")
    assert world.round() == 1
    site.run()
    done(world)


def test_many_rounds_with_spot_and_ordinary_orders_keep_the_books(world: World) -> None:
    """Random lives; `check` looks at capacity, orders and money after each round."""
    dice = random.Random(11)
    sites = [world.site("north", cores=8), world.site("south", cores=8)]
    for _ in range(25):
        for _ in range(dice.randrange(4)):
            cores = dice.choice([1, 2, 4])
            if dice.random() < 0.6:
                spot(world, cores, array=dice.choice([1, 1, 3]))
            else:
                ordinary(world, cores, array=dice.choice([1, 1, 2]))
        later(world, 2_000)
        world.round()
        for site in sites:
            for held in list(site.held.values()):
                if not held.running:
                    site.poll(site.started(held))
                elif held.told is EndReason.PREEMPTED:
                    site.poll(site.used(held, 500, final=True), preempted(site, held, dice.choice([None, 400])))
                elif dice.random() < 0.3:
                    site.poll(site.used(held, 900, final=True), site.ended(held))
        world.check()
    assert world.rows("SELECT * FROM fact WHERE kind = 'preempted'")
    ended = world.rows("SELECT o.spot FROM lease l JOIN order_ o ON o.id = l.order_id WHERE l.end_reason = 'preempted'")
    assert ended and all(row.spot for row in ended)
    for _ in range(60):
        later(world, 61_000)
        world.round()
        for site in sites:
            site.run()
        if not world.rows("SELECT id FROM order_ WHERE pending > 0"):
            break
    done(world)
