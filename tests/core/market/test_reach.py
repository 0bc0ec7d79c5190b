"""Work of regions, served within reach: nothing travels on, nobody serves more than it has."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yunhe.core import errors
from yunhe.core.market.reach import Place, dispatch

NAMES = ("a", "b", "c", "d", "e")


def test_nothing_is_passed_on_beyond_reach() -> None:
    """b reaches green c, a reaches only b: a's work may not come to c by way of b."""
    places = {"a": Place(9, 10), "b": Place(5, 12), "c": Place(1, 100)}
    found = dispatch({"a": 10.0, "b": 10.0}, places, {"a": {"a", "b"}, "b": {"b", "c"}})
    assert found.served == {("a", "b"): 10, ("b", "c"): 10}
    assert found.cost == 60
    assert found.worth["b"] == 0 and found.prices == {"a": 5, "b": 1}


def test_room_is_worth_what_it_saves() -> None:
    places = {"green": Place(1, 10), "grey": Place(7, 100)}
    found = dispatch({"x": 30.0}, places, {"x": {"green", "grey"}})
    assert found.worth == {"green": 6, "grey": 0}
    more = dispatch({"x": 30.0}, places | {"green": Place(1, 11)}, {"x": {"green", "grey"}})
    assert found.cost - more.cost == 6


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_served_is_what_was_asked_and_no_more_than_there_is(data: st.DataObject) -> None:
    places = {name: Place(data.draw(st.integers(1, 9)), data.draw(st.integers(10, 30))) for name in NAMES}
    reach = {name: {name} | data.draw(st.sets(st.sampled_from(NAMES))) for name in NAMES}
    demand = {name: float(data.draw(st.integers(0, 10))) for name in NAMES}
    found = dispatch(demand, places, reach)
    for name in NAMES:
        assert sum(found.served.get((name, place), 0) for place in NAMES) == pytest.approx(demand[name])
        assert sum(found.served.get((region, name), 0) for region in NAMES) <= places[name].units + 1e-9
    assert all(place in reach[region] for region, place in found.served)
    assert found.cost <= sum(units * places[name].price for name, units in demand.items()) + 1e-9  # all stay at home


def test_a_region_that_cannot_be_served_is_named() -> None:
    with pytest.raises(errors.Infeasible, match="demand of x") as caught:
        dispatch({"x": 30.0}, {"small": Place(1, 10), "far": Place(1, 100)}, {"x": {"small"}})
    assert "offer small" in caught.value.hint and "far" not in caught.value.hint


def test_a_negative_demand_is_refused() -> None:
    with pytest.raises(errors.InvalidInput, match="negative"):
        dispatch({"x": -1.0}, {"a": Place(1, 1)}, {"x": {"a"}})


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(errors.InvalidInput, match="no place 'moon'") as caught:
        dispatch({"x": 1.0}, {"a": Place(1, 1)}, {"x": {"a", "moon"}})
    assert caught.value.field == "reach.x"
