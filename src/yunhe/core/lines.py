"""Latency between places. One-way and round-trip are two figures; a round trip is twice the way."""

from math import asin, ceil, cos, radians, sin, sqrt

from yunhe.core.demand import LatencyKind
from yunhe.core.supply import Site, Supply

EARTH_RADIUS_KM = 6371.0088  # mean radius R1 (IUGG)
FIBRE_US_PER_KM = 4.9  # light in silica, group index 1.468: 299792.458 km/s / 1.468 is 4.9 us per km


def great_circle_km(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Distance on a sphere between two points in degrees (haversine formula)."""
    north = radians(lat2 - lat1) / 2
    east = radians(lon2 - lon1) / 2
    h = sin(north) ** 2 + cos(radians(lat1)) * cos(radians(lat2)) * sin(east) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(h)))


def one_way_us(lat1: float, lon1: float, lat2: float, lon2: float, route_factor_percent: int) -> int:
    """One-way delay over fibre in microseconds: great circle x route factor x 4.9 us/km, rounded up."""
    km = great_circle_km(lat1, lon1, lat2, lon2)
    return ceil(km * route_factor_percent / 100 * FIBRE_US_PER_KM)


def rtt_us(one_way: int) -> int:
    """Round trip of a one-way delay, both in microseconds."""
    return 2 * one_way


def in_kind(one_way: int, kind: LatencyKind) -> int:
    """The figure that a bound of `kind` speaks of, from a one-way delay; both in microseconds."""
    return rtt_us(one_way) if kind is LatencyKind.RTT else one_way


def site_one_way_us(supply: Supply, site: Site, place: str, route_factor_percent: int) -> int | None:
    """One-way delay in microseconds from a site to a place: measured where it was, computed otherwise.

    None when the place is unknown: neither measured from this site nor among `supply.places`.
    """
    measured = supply.measured_latency_us.get((site.id, place))
    if measured is not None:
        return measured
    at = supply.places.get(place)
    if at is None:
        return None
    return one_way_us(site.lat, site.lon, at[0], at[1], route_factor_percent)
