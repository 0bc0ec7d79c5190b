"""Latency: known distances, the two kinds, measured before computed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.placement_network import PLACES, a_site, a_supply
from yunhe.core import lines
from yunhe.core.demand import LatencyKind

latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)


@pytest.mark.parametrize(
    ("a", "b", "km"),
    [
        ("beijing", "shanghai", 1_065),
        ("shanghai", "chengdu", 1_658),
    ],
)
def test_great_circle_agrees_with_published_distances(a: str, b: str, km: int) -> None:
    assert lines.great_circle_km(*PLACES[a], *PLACES[b]) == pytest.approx(km, rel=0.01)


def test_quarter_of_the_equator() -> None:
    quarter = 6371.0088 * 3.141592653589793 / 2
    assert lines.great_circle_km(0, 0, 0, 90) == pytest.approx(quarter)
    assert lines.one_way_us(0, 0, 0, 90, 100) == int(quarter * 4.9) + 1  # rounded up


def test_the_route_factor_lengthens_the_way() -> None:
    direct = lines.one_way_us(*PLACES["beijing"], *PLACES["shanghai"], 100)
    routed = lines.one_way_us(*PLACES["beijing"], *PLACES["shanghai"], 140)
    assert routed == pytest.approx(direct * 1.4, abs=2)
    assert 7_000 < routed < 7_700  # one way; 14.6 ms there and back


@given(latitudes, longitudes, latitudes, longitudes)
def test_the_way_back_is_as_long_and_never_beyond_half_the_earth(
    lat1: float, lon1: float, lat2: float, lon2: float
) -> None:
    there = lines.one_way_us(lat1, lon1, lat2, lon2, 100)
    assert abs(there - lines.one_way_us(lat2, lon2, lat1, lon1, 100)) <= 1
    assert 0 <= there <= 20_016 * 4.9


def test_round_trip_is_twice_one_way() -> None:
    supply = a_supply(a_site())
    one_way = lines.site_one_way_us(supply, supply.sites[0], "shanghai", 140)
    assert one_way is not None
    assert lines.in_kind(one_way, LatencyKind.ONE_WAY) == one_way
    assert lines.in_kind(one_way, LatencyKind.RTT) == 2 * one_way


def test_measured_latency_comes_before_the_computed_one() -> None:
    supply = replace(a_supply(a_site()), measured_latency_us={("s1", "shanghai"): 12_345, ("s1", "moon"): 1_280_000})
    site = supply.sites[0]
    assert lines.site_one_way_us(supply, site, "shanghai", 140) == 12_345
    assert lines.site_one_way_us(supply, site, "moon", 140) == 1_280_000  # measured, on no map
    assert lines.site_one_way_us(supply, site, "nowhere", 140) is None
