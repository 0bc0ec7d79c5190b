"""The table of spatial shifting: greedy by hand, the optimum below it, bad files refused."""

from pathlib import Path

import pytest

from benchmarks.placement import spatial
from benchmarks.placement.table import Table
from yunhe.core import errors

# Greedy's trap: the middle zone takes the greenest one's room, which is all that the grey one reaches.
FILES = {
    "zone_mean_ci_2020_2022.csv": """zonecode,2020,2021,2022
green,0,0,10
middle,0,0,400
grey,0,0,500
other,0,0,450
far,0,0,1
""",
    "gcp_latency_ms_34regions.csv": """origin,grey,middle,green,other
grey,5,99,20,99
middle,99,5,20,20
green,20,20,5,99
other,99,20,99,5
""",
    "published_capacity_latency_emissions.csv": """latency,0,50
5,340,340
50,340,230
""",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "grid_hourly").mkdir()
    for name, text in FILES.items():
        (tmp_path / "grid_hourly" / name).write_text(text)
    return tmp_path


def table(data: Path) -> Table:
    return spatial.run(data, 1, lambda text: None)


def test_greedy_and_the_optimum(data: Path) -> None:
    found = {(row.case, row.policy): row.value for row in table(data).rows}
    assert found[("50 ms, 0 % idle", "greedy")] == found[("50 ms, 0 % idle", "network LP")] == 340
    # 50 units each; green has room for 50 more. Greedy: middle takes it, then other moves to the emptied middle.
    # Together: grey goes to green, and other to middle.
    assert found[("50 ms, 50 % idle", "greedy")] == (100 * 10 + 50 * 400 + 50 * 500) / 200
    assert found[("50 ms, 50 % idle", "network LP")] == pytest.approx((100 * 10 + 100 * 400) / 200)


def test_only_zones_with_both_series_count(data: Path) -> None:
    world = spatial.read_world(data / "grid_hourly", {})
    assert list(world.carbon) == ["green", "middle", "other", "grey"]


@pytest.mark.parametrize(
    ("name", "old", "new", "where"),
    [
        ("zone_mean_ci_2020_2022.csv", "0,0,400", "0,0,dirty", "zone_mean_ci_2020_2022.csv:3: 2022"),
        ("zone_mean_ci_2020_2022.csv", "middle,0,0,400", "middle,0", "zone_mean_ci_2020_2022.csv:3"),
        ("zone_mean_ci_2020_2022.csv", "0,0,400", "0,0,-4", "zone_mean_ci_2020_2022.csv:3: 2022"),
        ("gcp_latency_ms_34regions.csv", "middle,99,5,20,20", "middle,99,5,20", "gcp_latency_ms_34regions.csv:3"),
        ("gcp_latency_ms_34regions.csv", "middle,99,5", "middle,99,nan", "gcp_latency_ms_34regions.csv:3: middle"),
        (
            "published_capacity_latency_emissions.csv",
            "latency",
            "ms",
            "published_capacity_latency_emissions.csv:2: latency",
        ),
        (
            "published_capacity_latency_emissions.csv",
            "340,230",
            "340,x",
            "published_capacity_latency_emissions.csv:3: 50",
        ),
    ],
)
def test_bad_input_is_refused_with_line_and_field(data: Path, name: str, old: str, new: str, where: str) -> None:
    path = data / "grid_hourly" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(errors.InvalidInput) as caught:
        table(data)
    assert caught.value.field == where
