"""The latencies that the cluster table gives as examples against what `core.lines` computes."""

import pytest

from yunhe.core.lines import one_way_us, rtt_us
from yunhe.facts import load

EXAMPLES = [(cluster, name, rtt) for cluster in load.clusters() for name, rtt in cluster.example_rtt_us]


@pytest.mark.parametrize(("cluster", "name", "published"), EXAMPLES, ids=[f"{c.id}-{n}" for c, n, _ in EXAMPLES])
def test_example_round_trips(cluster: load.Cluster, name: str, published: int) -> None:
    """Route factor 1.4 and the same fibre; the table rounds to 0.1 ms and its city points differ by some km."""
    place = next(place for place in load.places() if place.name_en == name)
    computed = rtt_us(one_way_us(cluster.lat, cluster.lon, place.lat, place.lon, 140))
    assert computed == pytest.approx(published, rel=0.03, abs=150)


def test_the_three_circles_of_latency() -> None:
    """The national targets: 1 ms in a city, 5 ms in a region, 20 ms between hubs (one way)."""
    at = load.place_coordinates()
    assert one_way_us(*at["shanghai"], *at["qingpu"], 140) < 1_000
    assert one_way_us(*at["shanghai"], *at["nanjing"], 140) < 5_000
    assert one_way_us(*at["shanghai"], *at["zhongwei"], 140) < 20_000
