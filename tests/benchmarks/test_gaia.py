"""The replay of jobs that may wait: pieces, delays and carbon add up, nobody waits longer than it may."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.placement import gaia
from benchmarks.placement.gaia import OURS, POLICIES, Job, replay
from yunhe.core import errors
from yunhe.core.placement import timing
from yunhe.core.placement.timing import MS_PER_HOUR as HOUR
from yunhe.core.placement.timing import Series, Step, Waiting

JOBS = "arrival_time,length,cpus\n0.0,3600.0,2\n1804.9,10000.0,1\n1804.9,700.0,3\n"
EVERY = POLICIES | {name: policy for name, (policy, _) in OURS.items()}


def trace(tmp_path: Path, text: str = JOBS) -> Path:
    path = tmp_path / "jobs.csv"
    path.write_text(text)
    return path


def test_jobs_are_read_in_steps_with_the_mean_of_their_class(tmp_path: Path) -> None:
    hashes: dict[str, str] = {}
    jobs = gaia.read_jobs(trace(tmp_path), hashes)
    assert [job.length_ms for job in jobs] == [3_600_000, 10_000_000, 700_000]
    assert [job.known.arrival_ms for job in jobs] == [0, 1_800_000, 1_800_000]
    assert [job.known.mean_ms for job in jobs] == [2_150_000, 10_000_000, 2_150_000]
    assert [job.known.patience_ms for job in jobs] == [6 * HOUR, 24 * HOUR, 6 * HOUR]
    assert list(hashes) == ["jobs.csv"]
    assert len(gaia.read_jobs(trace(tmp_path), {}, every=2)) == 2


@pytest.mark.parametrize("name", EVERY)
def test_every_job_ends_and_none_waits_longer_than_it_may(name: str) -> None:
    rng = np.random.default_rng(1)
    jobs = [
        Job(Waiting(int(at), int(rng.integers(0, 20 * HOUR)), 3 * HOUR), int(rng.integers(1, 20 * HOUR)), 1)
        for at in np.sort(rng.integers(0, 100 * HOUR, 60))
    ]
    series = Series(rng.uniform(1, 100, 200))
    found = replay(jobs, series, EVERY[name])
    assert len(found.delays_ms) == len(jobs)
    assert max(found.delays_ms) <= 20 * HOUR and min(found.delays_ms) >= 0
    assert len(found.piece_waits_ms) >= len(jobs)
    hours = sum(job.length_ms for job in jobs) / HOUR
    assert hours < found.carbon < 100 * hours


class Alternate:
    """Runs in even hours."""

    def step(self, now_ms: int, patience_ms: int) -> Step:
        return Step(now_ms // HOUR % 2 == 0, (now_ms // HOUR + 1) * HOUR)


def test_pieces_delay_and_carbon_of_a_job_that_pauses() -> None:
    job = Job(Waiting(HOUR // 2, 9 * HOUR, HOUR), 2 * HOUR, cpus=4)
    found = replay([job], Series([1, 100, 10, 100, 5, 100]), lambda series, known: Alternate())
    assert found.piece_waits_ms == [0, 3 * HOUR // 2, 7 * HOUR // 2]
    assert found.delays_ms == [2 * HOUR]
    assert found.carbon == pytest.approx(4 * (0.5 * 1 + 10 + 0.5 * 5))


def test_pieces_without_a_pause_between_them_are_one() -> None:
    job = Job(Waiting(0, 0, HOUR), 3 * HOUR, cpus=1)

    class Hourly:
        def step(self, now_ms: int, patience_ms: int) -> Step:
            return Step(True, now_ms + HOUR)

    assert replay([job], Series([1.0] * 5), lambda series, known: Hourly()).piece_waits_ms == [0]


def test_a_policy_that_waits_longer_than_it_may_is_refused() -> None:
    job = Job(Waiting(0, HOUR, HOUR), HOUR, cpus=1)
    with pytest.raises(errors.InvalidInput, match="a wait until"):
        replay([job], Series([1.0] * 9), lambda series, known: timing.Start(2 * HOUR))


def test_a_job_beyond_the_series_is_refused() -> None:
    job = Job(Waiting(0, HOUR, HOUR), 5 * HOUR, cpus=1)
    with pytest.raises(errors.InvalidInput, match="outside"):
        replay([job], Series([1.0] * 4), timing.at_once)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("arrival_time,length,cpus", "arrival_time,length", "jobs.csv:2: cpus"),
        ("1804.9,10000.0", "-3,10000.0", "jobs.csv:3: arrival_time"),
        ("1804.9,10000.0", "1804.9,0", "jobs.csv:3: length"),
        ("1804.9,10000.0", "1804.9,long", "jobs.csv:3: length"),
        ("1804.9,10000.0", "9999,10000.0", "jobs.csv:4: arrival_time"),
        ("10000.0,1", "10000.0,1000000000", "jobs.csv:3: cpus"),
        ("10000.0,1", "10000.0,1.5", "jobs.csv:3: cpus"),
        ("10000.0,1", "1e12,1", "jobs.csv:3: length"),
    ],
)
def test_bad_input_is_refused_with_line_and_field(tmp_path: Path, old: str, new: str, where: str) -> None:
    assert old in JOBS
    with pytest.raises(errors.InvalidInput) as caught:
        gaia.read_jobs(trace(tmp_path, JOBS.replace(old, new, 1)), {})
    assert caught.value.field == where


def test_zones_with_a_short_line_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "zones.csv"
    path.write_text("hour_of_2022_utc,A,B\n0,1,2\n1,3\n")
    with pytest.raises(errors.InvalidInput) as caught:
        gaia.read_zones(path, {})
    assert caught.value.field == "zones.csv:3"
