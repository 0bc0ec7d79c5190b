"""Delays and widths along links: against paths found by hand and by trying all of them; what is refused."""

from itertools import permutations
from math import nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.placement_network import GIB, NOW, PLACES, POLICY, LatencyBound, LatencyKind, a_pool, a_shape, a_site
from yunhe.core.errors import InvalidInput
from yunhe.core.lines import one_way_us
from yunhe.core.placement.board import UNKNOWN_US, Board
from yunhe.core.placement.sizing import sizes
from yunhe.core.placement.topology import NO_PATH, Topology, great_circles_us, topology_of
from yunhe.core.round import explain
from yunhe.core.supply import Free, Link, Supply

NODES = "abcde"
links = st.lists(
    st.builds(
        Link,
        st.sampled_from(NODES),
        st.sampled_from(NODES),
        st.sampled_from([0, 1, 5, 7, 1_000]),
        st.sampled_from([0, 1, 10, 100]),
    ).filter(lambda link: link.a != link.b),
    min_size=1,
    max_size=12,
).map(tuple)


def by_trying(given: tuple[Link, ...], start: str, end: str) -> tuple[int, int]:
    """(delay, width) of the best of all simple paths."""
    if start == end:
        return 0, 2**52
    delay, width = NO_PATH, 0
    between = [node for node in NODES if node not in (start, end)]
    for count in range(len(between) + 1):
        for middle in permutations(between, count):
            hops = [start, *middle, end]
            found = [[x for x in given if {x.a, x.b} == {one, two}] for one, two in zip(hops, hops[1:], strict=False)]
            if all(found):
                total = sum(min(x.one_way_us for x in hop) for hop in found)
                delay = total if delay == NO_PATH else min(delay, total)
                width = max(width, min(max(x.bandwidth_bps for x in hop) for hop in found))
    return delay, width


@settings(max_examples=150, deadline=None)
@given(links)
def test_the_best_of_all_paths(given: tuple[Link, ...]) -> None:
    topology = Topology(given)
    for start in topology.numbers:
        for end, number in topology.numbers.items():
            delay, width = by_trying(given, start, end)
            assert topology.delays_us(start)[number] == delay
            assert topology.widest_bps(start)[number] == width


@pytest.mark.parametrize(
    ("link", "field"),
    [
        (Link("a", "b", -1, 1), "links[1].one_way_us"),
        (Link("a", "b", nan, 1), "links[1].one_way_us"),  # type: ignore[arg-type]
        (Link("a", "b", 10**13, 1), "links[1].one_way_us"),
        (Link("a", "b", 1, -1), "links[1].bandwidth_bps"),
        (Link("a", "b", 1, nan), "links[1].bandwidth_bps"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused_with_its_field(link: Link, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Topology((Link("a", "b", 1, 1), link))
    assert refused.value.field == field


def test_an_equal_graph_is_searched_once() -> None:
    one = tuple(Link(*x) for x in [("a", "b", 1, 1), ("b", "c", 2, 2)])
    again = tuple(Link(*x) for x in [("a", "b", 1, 1), ("b", "c", 2, 2)])
    assert topology_of(one) is topology_of(again)
    assert topology_of(one) is not topology_of(one[:1])


def a_network(*given: Link) -> Supply:
    whole = Free(8_000, 32 * GIB)
    sites = (a_site("s1"), a_site("s2"), a_site("far"))
    pools = tuple(a_pool(f"{site.id}:cpu") for site in sites)
    return Supply(sites, pools, (whole,) * 3, PLACES, {("s2", "beijing"): 77}, given)


def test_links_come_before_great_circles_and_measurements_before_links() -> None:
    supply = a_network(Link("s1", "hub", 300, 10**9), Link("hub", "beijing", 200, 10**8), Link("s2", "beijing", 1, 1))
    board = Board(supply, POLICY)
    circle = one_way_us(39.90, 116.40, *PLACES["beijing"], POLICY.route_factor_percent)
    assert board.one_way_us("beijing").tolist() == [500, 77, circle]
    assert board.bandwidth_from("beijing").tolist() == [10**8, 1, 10**10]  # `far` has its own network alone
    ten_minutes = 10**8 // 8 * 600
    shape = a_shape(data_at="beijing", data_bytes=ten_minutes)
    assert sizes(shape, board, board.all, NOW).transfer_ms[0] == 600_000


def test_a_place_that_no_path_leads_to_is_unknown_and_says_so() -> None:
    supply = a_network(Link("s1", "a", 1, 1), Link("beijing", "b", 1, 1))
    assert Board(supply, POLICY).one_way_us("beijing")[0] == UNKNOWN_US
    near = (LatencyBound("beijing", 10_000, LatencyKind.RTT),)
    first = explain(a_shape(latency=near, data_at="beijing", data_bytes=1), supply, POLICY, NOW)[0]
    assert [(r.code, r.have) for r in first.reasons] == [("latency", "unknown"), ("bandwidth", "0bps")]


def test_great_circles_of_many_are_those_of_each() -> None:
    lat, lon = [31.23, 39.9, 30.57, -12.5, 39.90], [121.47, 116.4, 104.07, 179.9, 116.40]
    found = great_circles_us(np.array(lat), np.array(lon), PLACES["beijing"], 140).tolist()
    assert found == [one_way_us(a, b, *PLACES["beijing"], 140) for a, b in zip(lat, lon, strict=True)]
