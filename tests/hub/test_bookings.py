"""Bookings at the hub: promised, shown, cancelled, begun, lost; time is moved by hand."""

import pytest

from tests.fakes.agent import cpu_pool
from tests.hub.conftest import FakeClock
from tests.hub.world import SiteDouble, World
from yunhe.core.lifecycle import CancelRequested
from yunhe.hub.accounts import administration
from yunhe.hub.accounts.service import Principal
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.catalogue.service import SiteChange
from yunhe.hub.intake.explaining import Explainer, quote_view, why
from yunhe.hub.matching.looking import Rounds
from yunhe.hub.orders import events, starting, views
from yunhe.hub.orders.booking import URGENT
from yunhe.hub.orders.events import LeaseEvent
from yunhe.hub.platform.context import Platform
from yunhe.wire.api import OrderDetail, OrderSpec, WhyView
from yunhe.wire.link import Certificate

OPERATOR = Principal("operator", "o", "operator", "k")
MINUTE = 60_000
HOUR = 60 * MINUTE


@pytest.fixture
def world(platform: Platform, clock: FakeClock) -> World:
    made = World(platform, clock)
    made.organisation("lab")
    made.organisation("mill")
    return made


def whole(start_at: str | None = "in 1h", **changes: object) -> dict[str, object]:
    """All 4 cores of a site for half an hour."""
    fields = {"requirement": {"cores": 4, "memory": "64MiB"}, "duration": "30m", "start_at": start_at, **changes}
    return {name: value for name, value in fields.items() if value is not None}


def advance(world: World, ms: int) -> None:
    """Time passes; sites stay in touch."""
    world.clock.ms += ms
    for site in world.sites.values():
        site.poll()


def facts(world: World, order: str) -> list[str]:
    return [row.kind for row in world.rows("SELECT kind FROM fact WHERE order_id = :id ORDER BY id", id=order)]


def detail(world: World, order: str) -> OrderDetail:
    with world.platform.db.reading() as conn:
        return views.detail(conn, order)


def done(world: World) -> None:
    world.check()
    world.settle()
    world.settle()
    world.check()
    world.check_settled()


# --- the whole way ------------------------------------------------------------------------------------------------


def test_what_is_booked_begins_when_its_time_has_come(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab", **whole())
    start_ms = world.clock.ms + HOUR
    assert world.round() == 1
    [task] = detail(world, order).task_list
    assert (task.state, task.pool_id, task.booked_from_utc_ms) == ("booked", f"{north.id}:cpu", start_ms)
    assert task.booked_until_utc_ms == start_ms + HOUR // 2
    assert (world.state(order), north.held) == ("open", {})
    world.check()

    before = world.submit("mill", **whole(None, duration="58m"))
    assert world.round() == 1, "what certainly ends before goes around it"
    advance(world, 58 * MINUTE)
    north.run()
    assert world.state(before) == "succeeded"

    late = world.submit("mill", **whole(None, duration="10m"))
    assert (world.round(), world.start_booked()) == (0, 0)
    world.clock.ms = start_ms - 1
    assert world.start_booked() == 0
    advance(world, 1)
    assert world.start_booked() == 1
    [held] = north.held.values()
    assert (held.start.lease_id, held.start.run_limit_ms) == (f"{order}.0", HOUR // 2)
    assert detail(world, order).task_list[0].booked_from_utc_ms is None
    assert world.round() == 0, "all is in use"
    assert facts(world, order) == ["submitted", "booked", "leased"]

    north.run()
    assert world.round() == 1
    north.run()
    assert (world.state(order), world.state(late)) == ("succeeded", "succeeded")
    done(world)
    assert world.order(order).charged_microcny > 0


def test_a_start_that_comes_twice_begins_one_lease(world: World) -> None:
    """Two leaders, or one that was killed between its look and its answer: the row is no longer booked."""
    north = world.site("north")
    order = world.submit("lab", **whole())
    world.round()
    advance(world, HOUR)
    due = world.due()
    assert due is not None
    assert world.write(world.committer.start_booked, due) == 1
    assert world.write(world.committer.start_booked, due) == 0
    north.poll()
    assert len(north.held) == 1 and facts(world, order).count("leased") == 1
    world.check()


def test_a_plan_that_books_is_committed_once(world: World) -> None:
    world.site("north")
    first, second = world.submit("lab", **whole()), world.submit("mill", **whole())
    plan = world.plan()
    assert [item.order_id for item in plan.bookings] == [first]
    world.do(lambda tx: events.apply(tx, [LeaseEvent(f"{second}.0", CancelRequested())]))
    assert (world.commit(plan), world.commit(plan)) == (1, 0)
    assert facts(world, first) == ["submitted", "booked"]
    world.check()


def test_two_plans_that_do_not_know_of_each_other_promise_nothing_twice(world: World) -> None:
    world.site("north")
    booked, other = world.submit("lab", **whole()), world.submit("mill", **whole())
    world.do(lambda tx: events.cancel_orders(tx, [other]))
    first = world.plan()
    third = world.submit("mill", **whole())
    world.do(lambda tx: events.cancel_orders(tx, [booked]))
    second = world.plan()
    again = world.submit("lab", **whole(None, duration="2h"))
    unaware = world.plan()  # of what `second` books
    assert [item.order_id for item in second.bookings] == [third]
    assert (world.commit(first), world.commit(second)) == (0, 1)
    unaware = type(unaware)(
        tuple(item for item in unaware.assignments if item.order_id == again),
        unaware.open_orders,
        unaware.supply,
        unaware.bookings,
    )
    assert world.commit(unaware) == 0
    world.check()


# --- the calendar -------------------------------------------------------------------------------------------------


def test_bookings_follow_each_other_and_leases(world: World) -> None:
    north = world.site("north")
    world.submit("lab", **whole(None, duration="30m"))
    assert world.round() == 1
    early = world.submit("mill", **whole("in 20m"))
    assert world.round() == 0, "the lease may go on until then"
    first, second = world.submit("mill", **whole("in 2h")), world.submit("mill", **whole("in 2h30m"))
    assert world.round() == 2
    north.run()
    assert world.round() == 1, "it has ended"
    assert [detail(world, order).task_list[0].state for order in (early, first, second)] == ["booked"] * 3
    advance(world, 2 * HOUR)
    assert world.start_booked() == 1, "the first in line; nobody was there to begin it before"


def test_an_array_is_booked_task_by_task(world: World) -> None:
    world.site("north"), world.site("south")
    order = world.submit("lab", **whole(array=3))
    assert world.round() == 2
    view = detail(world, order)
    assert view.tasks == {"booked": 2, "pending": 1}
    world.check()
    advance(world, HOUR)
    assert world.start_booked() == 2
    assert world.round() == 0
    for site in world.sites.values():
        site.run()
    assert world.round() == 1, "its time has come, so the third is as any other"
    for site in world.sites.values():
        site.run()
    done(world)
    assert world.state(order) == "succeeded"


# --- asked and answered -------------------------------------------------------------------------------------------


def ask_why(world: World, order: str) -> WhyView:
    explainer = Explainer(world.pricer, world.shapes, world.platform.settings.policy, Rounds().placing)
    with world.platform.db.reading() as conn:
        return why(conn, order, explainer, world.clock.ms)


def test_why_says_that_the_capacity_is_taken_then(world: World) -> None:
    north = world.site("north")
    first, second = world.submit("lab", **whole()), world.submit("mill", **whole())
    world.round()
    assert ask_why(world, first).summary.startswith(f"booked at {north.id}:cpu from 20")
    answer = ask_why(world, second)
    assert answer.summary.startswith("1 task waits to be booked for 20")
    assert answer.summary.endswith("1 of 1 pools fit but are taken then")
    [pool] = answer.sites
    assert [(r.code, r.have) for r in pool.reasons] == [("booked_out", "0 cores free then")]
    long = world.submit("mill", **whole(None, duration="2h"))
    world.round()
    [pool] = ask_why(world, long).sites
    assert [r.code for r in pool.reasons] == ["before_booking"]
    world.do(lambda tx: events.cancel_orders(tx, [first]))
    assert world.round() == 1
    assert ask_why(world, second).summary.startswith("booked at")


def test_a_quote_is_for_the_start(world: World) -> None:
    world.site("north")
    world.submit("lab", **whole())
    world.round()

    def offers(start_at: str) -> list[int]:
        fields = {"run": {"command": ["true"]}, **whole(start_at)}
        spec = OrderSpec.model_validate(fields)
        with world.platform.db.reading() as conn:
            view = quote_view(*world.pricer.quote(conn, spec), spec)
        return [offer.start_utc_ms - world.clock.ms for offer in view.offers]

    assert offers("in 3h") == [3 * HOUR]
    assert offers("in 50m") == []


def test_a_cancelled_booking_costs_nothing(world: World) -> None:
    world.site("north")
    order = world.submit("lab", **whole())
    world.round()
    world.do(lambda tx: events.cancel_orders(tx, [order]))
    assert (world.state(order), facts(world, order)[-1]) == ("withdrawn", "withdrawn")
    done(world)
    assert world.order(order).settled and world.order(order).charged_microcny == 0
    advance(world, HOUR)
    assert world.start_booked() == 0


# --- lost ---------------------------------------------------------------------------------------------------------


def change(world: World, site: SiteDouble, action: str) -> None:
    world.do(lambda tx: catalogue.change_sites(tx, [SiteChange(OPERATOR, site.id, action)]))


def shrink(world: World, site: SiteDouble) -> None:
    smaller = Certificate(seq=1, tested_utc_ms=1, tier=2, isolation="", software="", pools=(cpu_pool(3_000),))
    world.do(lambda tx: catalogue.certify(tx, site.id, smaller))


@pytest.mark.parametrize(
    ("trouble", "said"),
    [("pause", "is paused"), ("silence", "is silent"), ("shrink", "has 3 of 4 units")],
)
def test_a_start_that_is_missed_makes_an_urgent_order(world: World, trouble: str, said: str) -> None:
    north = world.site("north")
    order = world.submit("lab", **whole())
    world.round()
    south = world.site("south")
    if trouble == "pause":
        change(world, north, "pause")
    elif trouble == "shrink":
        shrink(world, north)
    else:
        world.sites.pop(north.id)
    busy = world.submit("mill", **whole(None, duration="65m"))
    assert world.round() == 1
    others = [world.submit("mill", priority=9, **whole(None)) for _ in range(2)]
    advance(world, HOUR)
    assert world.start_booked() == 0
    assert world.tasks(order)[0].state == "booked", "its units may come back in a moment"
    advance(world, MINUTE)
    assert world.start_booked() == 0
    [task] = world.tasks(order)
    assert (task.state, task.pool_id, task.milli, world.order(order).priority) == ("pending", None, 0, URGENT)
    [lost] = world.rows("SELECT detail FROM fact WHERE kind = 'booking_lost'")
    assert said in lost.detail
    south.run()
    assert (world.state(busy), world.round()) == ("succeeded", 1)
    assert [held.start.lease_id for held in south.held.values()] == [f"{order}.0"], "it goes before all others"
    assert [world.tasks(other)[0].state for other in others] == ["pending", "pending"]
    world.check()


def test_a_booking_waits_for_a_job_that_is_being_stopped(world: World) -> None:
    north = world.site("north")
    first, second = world.submit("lab", **whole("in 1h")), world.submit("lab", **whole("in 1h30m"))
    assert world.round() == 2
    advance(world, HOUR)
    assert world.start_booked() == 1
    advance(world, HOUR // 2)
    assert world.start_booked() == 0
    assert "booking_lost" not in facts(world, second)
    advance(world, 2_000)
    north.run()
    assert world.state(first) == "succeeded"
    assert world.start_booked() == 1
    world.check()


def test_what_cannot_begin_yet_holds_nobody_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "MOST", 2)
    silent = [world.site(name) for name in ("east", "north", "west")]
    stuck = world.submit("lab", **whole(array=3))
    assert world.round() == 3
    world.site("south")
    advance(world, 1)
    good = world.submit("mill", **whole("in 59m"))
    assert world.round() == 1
    for site in silent:
        world.sites.pop(site.id)
    assert good > stuck, "it comes behind them in each look"
    advance(world, HOUR)
    assert [world.start_booked() for _ in range(3)] == [0, 1, 0]
    assert [task.state for task in world.tasks(stuck)] == ["booked"] * 3
    world.check()


def test_who_has_used_up_the_own_quota_does_not_go_before_others(world: World) -> None:
    world.organisation("small", quota_milli=4_000)
    world.site("north")
    order = world.submit("small", **whole())
    assert world.round() == 1
    before = world.order(order).priority
    less = administration.Change(OPERATOR, "small", {"quota_milli": 1_000})
    world.write(administration.change_organisations, less)
    advance(world, HOUR + MINUTE)
    assert world.start_booked() == 0
    assert (world.tasks(order)[0].state, world.order(order).priority) == ("pending", before)
    assert "quota" in world.rows("SELECT detail FROM fact WHERE kind = 'booking_lost'")[0].detail
    world.check()


def test_what_a_site_takes_with_it_when_it_leaves_is_booked_elsewhere(world: World) -> None:
    north = world.site("north")
    order = world.submit("lab", **whole())
    world.round()
    south = world.site("south")
    change(world, north, "leave")
    world.sites.pop(north.id)
    assert world.start_booked() == 0
    assert world.rows("SELECT detail FROM fact WHERE kind = 'booking_lost'")[0].detail.endswith("takes part no more")
    assert world.round() == 1
    [task] = world.tasks(order)
    assert (task.state, task.site_id) == ("booked", south.id)
    assert facts(world, order) == ["submitted", "booked", "booking_lost", "booked"]
    world.check()


def test_a_quota_binds_bookings_by_their_time(world: World) -> None:
    world.organisation("small", quota_milli=4_000)
    world.site("north"), world.site("south")
    world.submit("small", **whole("in 1h")), world.submit("small", **whole("in 2h")), world.submit("small", **whole())
    assert world.round() == 2
    world.check()
