"""Orders that wait for a better hour, on a hub whose clock goes through the hours; and the tariffs they go by."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from tests.hub.conftest import ApiClient, Begin, FakeClock, MakeKey
from tests.hub.test_catalogue import active_site
from tests.hub.world import SiteDouble, World
from yunhe.core.demand import Preference
from yunhe.core.hours import DAY, HOUR_MS, UTC_OFFSET_HOURS, Forecast
from yunhe.core.placement.board import Board
from yunhe.core.placement.when import wait_of
from yunhe.core.tariff import RatingInputs, rate
from yunhe.facts.tariffs import time_of_use
from yunhe.hub.accounts.service import Principal
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.catalogue import tariffs
from yunhe.hub.catalogue.service import SiteChange
from yunhe.hub.intake.explaining import hour_summary, wait_view
from yunhe.hub.orders import snapshot, views
from yunhe.hub.platform.context import Platform
from yunhe.wire.api import ForecastSpec, SiteTariff

OPERATOR = Principal("operator", "m", "operator", "k")
START_MS = 500_000 * HOUR_MS  # a full hour


@pytest.fixture
def world(platform: Platform, clock: FakeClock) -> World:
    clock.ms = START_MS
    made = World(platform, clock)
    made.organisation("lab")
    return made


def by_hour(*values: float) -> tuple[float, ...]:
    """Multiples by the hours of the day, those from `START_MS` on first; what follows is like the last of them."""
    of_day = [values[-1]] * DAY
    for i, value in enumerate(values):
        of_day[(START_MS // HOUR_MS + UTC_OFFSET_HOURS + i) % DAY] = value
    return tuple(of_day)


def set_tariff(world: World, site: SiteDouble, **values: Any) -> None:
    world.write(catalogue.change_sites, SiteChange(OPERATOR, site.id, "tariff", tariff=SiteTariff(**values)))


def at(world: World, ms: int) -> int:
    """A round at this time, for which the sites are heard."""
    world.clock.ms = ms
    for site in world.sites.values():
        site.poll()
    with world.platform.db.reading() as conn:
        if not snapshot.waiting(conn, ms):
            return 0
    return world.round()


def test_an_order_waits_through_the_hours_and_pays_for_those_that_it_runs_in(world: World) -> None:
    site = world.site("north")
    set_tariff(world, site, power_by_hour=by_hour(9, 9, 1, 3, 9), carbon_by_hour=by_hour(2, 2, 1))
    terms = {"duration": "3h", "patience": "6h", "budget": "90CNY"}
    patient, other = world.submit("lab", **terms), world.submit("lab", requirement={"cores": 1}, duration="3h")
    assert at(world, START_MS + 60_000) == 1  # the other
    assert world.state(other) == "running" and world.state(patient) == "open"
    assert world.order(patient).not_before_ms == START_MS + HOUR_MS
    # No round looks at it before; a hub that starts anew finds the same in the row.
    assert at(world, START_MS + HOUR_MS - 1) == 0
    assert at(world, START_MS + HOUR_MS) == 0
    assert world.order(patient).not_before_ms == START_MS + 2 * HOUR_MS
    assert at(world, START_MS + 2 * HOUR_MS) == 1
    assert world.state(patient) == "running"
    world.check()
    held = next(held for held in site.held.values() if held.start.lease_id.startswith(patient))
    placed_ms = world.clock.ms
    site.poll(site.started(held), site.used(held, 2 * HOUR_MS, final=True), site.ended(held))
    world.settle()
    (row,) = world.rows("SELECT * FROM charge WHERE order_id = :id", id=patient)
    kept = json.loads(row.inputs)
    base = kept["power_price_microcny_per_kwh"]  # the multiple of that hour is 1
    assert kept["power_by_hour"][:3] == [base, 3 * base, 9 * base] and kept["placed_ms"] == placed_ms
    inputs = RatingInputs(**{name: value for name, value in kept.items() if name in RatingInputs.__slots__})
    charge = rate(inputs)
    assert (charge.price.energy, charge.carbon_mg) == (row.energy_microcny, row.carbon_mg)
    # Two hours, at 1 and 3 times the price: 2 on average.
    assert row.energy_microcny == -(-charge.energy_mwh * 2 * base // 1_000_000) > 0


def test_why_it_waits(world: World) -> None:
    site = world.site("north")
    set_tariff(world, site, carbon_by_hour=by_hour(2, 2, 1, 2))
    order = world.submit("lab", patience="3h", preference="carbon", duration="10m")
    at(world, START_MS + 60_000)
    shape, board = said(world, order)
    wait = wait_of(shape, board, world.clock.ms, world.order(order).submitted_ms)
    assert wait is not None
    view = wait_view(wait, board, shape, 1)
    assert (view.site_id, view.start_utc_ms) == (site.id, START_MS + 2 * HOUR_MS)
    assert view.latest_utc_ms == world.order(order).submitted_ms + 3 * HOUR_MS
    assert 40 <= view.saves_percent <= 50 and view.preference is Preference.CARBON
    text = hour_summary(1, view)
    assert text.startswith("1 task waits for a cleaner hour at north: expected ")
    assert text.endswith("No capacity is reserved")


def said(world: World, order: str) -> tuple[Any, Board]:
    with world.platform.db.reading() as conn:
        shape = views.shape_of(conn, order, world.shapes)
        return shape, Board(catalogue.supply(conn, world.clock.ms, 90_000), world.platform.settings.policy)


def test_what_changes_meanwhile_counts_from_the_next_hour_on(world: World) -> None:
    site = world.site("north")
    set_tariff(world, site, power_by_hour=by_hour(9, 9, 9, 1, 9))
    terms = {"duration": "10m", "budget": "90CNY"}
    late, gone = (world.submit("lab", patience="6h", **terms) for _ in range(2))
    assert at(world, START_MS + 60_000) == 0
    version = world.order(gone).version
    newer = sa.text("UPDATE order_ SET version = version + 1 WHERE id = :id")
    world.do(lambda tx: tx.conn.execute(newer, {"id": gone}))
    assert world.hold_back() == 1  # the plan is not of the other any more
    assert world.order(gone).version == version + 1
    set_tariff(world, site, power_by_hour=())
    assert at(world, START_MS + 30 * 60_000) == 0
    assert at(world, START_MS + HOUR_MS) == 2
    assert world.state(late) == "running"


def test_a_forecast_is_waited_for(world: World) -> None:
    site = world.site("north")
    first = {"first": "2027-01-15T08:00+08:00", "values": ["0.01CNY"]}
    with pytest.raises(Exception, match="power_forecast"):
        set_tariff(world, site, power_forecast=ForecastSpec(first="2027-01-15T08:30+08:00", values=("0.01CNY",)))
    set_tariff(world, site, power_forecast=ForecastSpec.model_validate(first))
    begin_ms = 1_799_971_200_000
    world.clock.ms = begin_ms - HOUR_MS + 60_000
    site.poll()
    order = world.submit("lab", patience="3h", duration="10m")
    assert at(world, world.clock.ms) == 0 and world.order(order).not_before_ms == begin_ms
    assert at(world, begin_ms) == 1


# --- tariffs ------------------------------------------------------------------------------------------------------


def test_a_site_joins_with_the_tariff_of_its_region() -> None:
    known = time_of_use()["Guangdong"]
    tariff = tariffs.of_region("Guangdong")
    assert tariff.power_milli == known.by_hour and known.source in tariff.power_source
    assert (tariff.power_milli[3], tariff.power_milli[9], tariff.power_milli[10]) == (380, 1000, 1700)
    assert tariffs.of_region("Hebei") == tariffs.Tariff()
    assert tariffs.from_text(tariffs.to_text(tariff)) == tariff
    told = tariffs.Tariff(9, (), (500,) * DAY, Forecast(7, (1, 2)), Forecast(), "", "us")
    assert tariffs.from_text(tariffs.to_text(told)) == told


def test_who_may_state_which_tariff(client: ApiClient, as_role: MakeKey, begin: Begin, clock: FakeClock) -> None:
    with begin() as tx:
        active_site(tx, "a")
    operator, customer, rival = (
        as_role("operator", "operator"),
        as_role("acme", "customer"),
        as_role("rival", "provider"),
    )
    provider = as_role("site-co", "provider")
    path, even = "/v1/sites/a/tariff", [1.5, 0.5] * 12

    def put(body: dict[str, Any], who: Any) -> Any:
        return client.request("PUT", path, json=body, headers=who)

    shown = put({"power_by_hour": even, "utc_offset": 0}, provider)
    assert shown.status_code == 200, shown.text
    hours = shown.json()["hours"]
    assert hours["power_by_hour"] == even and hours["power_source"] == "stated by site-co"
    base = shown.json()["power_price_microcny_per_kwh"]
    odd = clock.ms // HOUR_MS % 2
    assert hours["power_now_microcny_per_kwh"] == round(base * even[odd])
    assert hours["cheapest_microcny_per_kwh"] == round(base / 2)
    assert hours["cheapest_utc_ms"] == (clock.ms // HOUR_MS + (0 if odd else 1)) * HOUR_MS
    assert client.get("/v1/pools", customer).json()["pools"][0]["hours"] == hours
    # A provider says when, not how much; an operator may say both.
    dear = put({"carbon_by_hour": [0.5] * DAY}, provider)
    assert (dear.status_code, dear.json()["field"]) == (422, "carbon_by_hour")
    assert put({"carbon_by_hour": [0.5] * DAY}, operator).json()["hours"]["carbon_source"] == "stated by the operator"
    begin_ms = clock.ms // HOUR_MS * HOUR_MS
    begin = datetime.fromtimestamp(begin_ms / 1000, UTC).isoformat()
    forecast = {"first": begin, "values": ["0.2CNY"]}
    assert put({"power_forecast": forecast}, provider).status_code == 422
    assert put({"power_forecast": {**forecast, "values": ["10001CNY"]}}, operator).status_code == 422
    assert put({"power_forecast": forecast}, operator).json()["hours"]["foretold_until_utc_ms"] == begin_ms + HOUR_MS
    assert put({"power_forecast": {**forecast, "first": "9999-01-15T08:00+08:00"}}, operator).status_code == 422
    for bad in ({"power_by_hour": [1.0] * 23}, {"power_by_hour": [-1.0] * DAY}, {"utc_offset": 30}):
        assert put(bad, operator).status_code == 422
    assert put({"power_by_hour": even}, rival).status_code == 404
    assert put({"power_by_hour": even}, customer).status_code == 403
    flat = put(
        {"power_by_hour": [], "carbon_by_hour": [], "power_forecast": {**forecast, "values": []}}, operator
    ).json()
    assert flat["hours"]["power_by_hour"] == [] and flat["hours"]["cheapest_utc_ms"] == clock.ms // HOUR_MS * HOUR_MS
