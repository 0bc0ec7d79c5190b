"""Readers of public traces: one job at a time, and what is wrong is refused with its line and column."""

import gzip
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from yunhe.core.errors import InvalidInput
from yunhe.simulator.workloads.fitted import WEEK_HOURS, fit, generate, shipped
from yunhe.simulator.workloads.raw import RawJob, in_order, sorted_jobs
from yunhe.simulator.workloads.traces import read_trace

VENUS = "job_id,arrival_s,service_sec,gpu_count\n7,0.0,172800.0,32\n8,1.5,0.2,1\n"
PHILLY = (
    "timestamp,duration,num_gpus,gpu_time,cluster\n2017-10-09 07:01:55,66.0,1,66.0,a\n2017-10-09 07:01:54,9,2,1,b\n"
)
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,1,2\n"
MOONCAKE = '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": []}\n'

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(text: str) -> Path:
        path = tmp_path / "trace"
        path.write_text(text)
        return path

    return put


def test_each_format_is_read_as_it_lies(write: Write, tmp_path: Path) -> None:
    assert list(read_trace("venus", write(VENUS))) == [RawJob(0, 32, 172_800_000), RawJob(1_500, 1, 200)]
    assert list(read_trace("pai2020", write(VENUS)))[1].cards == 1
    assert [job.at_ms for job in read_trace("philly", write(PHILLY))] == [0, -1_000]
    assert list(read_trace("azure", write(AZURE))) == [RawJob(0, 1, 1, 418), RawJob(4_314, 1, 1, 3)]
    assert list(read_trace("mooncake", write(MOONCAKE))) == [RawJob(0, 1, 1, 7_258)]
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(VENUS.encode()))
    assert len(list(read_trace("venus", packed))) == 2


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("venus", "job_id,arrival_s,gpu_count\n", r"service_sec: trace has no such column \(line 1\)"),
        ("venus", "", "arrival_s: trace has no such column"),
        ("venus", VENUS + "9,-3,5,1\n", r"arrival_s: -3 is negative \(line 4 of trace\)"),
        ("venus", VENUS + "9,3,5,1000000000\n", r"gpu_count: 1000000000 is out of range: .* at most 100,000 \(line 4"),
        ("venus", VENUS + "9,3,5,0\n", r"gpu_count: 0 is out of range: it is at least 1 \(line 4"),
        ("venus", VENUS + "9,3,5,1.5\n", r"gpu_count: 1.5 is not a whole number \(line 4"),
        ("venus", VENUS + "9,3,nan,1\n", r"service_sec: 'nan' is not a finite number \(line 4"),
        ("venus", VENUS + "9,3,long,1\n", r"service_sec: 'long' is not a number \(line 4"),
        ("venus", VENUS + "9,3\n", r"service_sec: is missing \(line 4"),
        ("philly", PHILLY + "yesterday,1,1,1,a\n", r"timestamp: 'yesterday' is not a date and time \(line 4"),
        ("mooncake", MOONCAKE + "{nonsense\n", r"is no JSON \(line 2\)"),
        ("mooncake", MOONCAKE + "[1]\n", r"is no JSON object \(line 2\)"),
        ("mooncake", MOONCAKE + '{"timestamp": 1, "input_length": 5}\n', r"output_length: is missing \(line 2"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_refused_with_its_number_and_column(write: Write, kind: str, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        list(read_trace(kind, write(text)))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    for content in (b"\xff\xfe\x00bad", gzip.compress(b"a,b\n")[:-6]):
        path = tmp_path / "broken"
        path.write_bytes(content)
        with pytest.raises(InvalidInput):
            list(read_trace("venus", path))


def test_arrivals_out_of_order_are_refused_or_sorted() -> None:
    jobs = [RawJob(5, 1, 1), RawJob(9, 1, 1), RawJob(7, 2, 1), RawJob(7, 3, 1)]
    with pytest.raises(InvalidInput, match=r"w: job 3 arrives at 7 ms, before the one ahead of it at 9 ms"):
        list(in_order(jobs, "w"))
    assert [(job.at_ms, job.cards) for job in sorted_jobs(jobs, "w")] == [(5, 1), (7, 2), (7, 3), (9, 1)]


@pytest.mark.parametrize("like", ["venus", "philly", "pai2020"])
def test_a_generator_has_the_statistics_of_its_fit(like: str) -> None:
    fitted = shipped(like)
    assert len(fitted.hourly) == WEEK_HOURS and abs(sum(fitted.hourly) / WEEK_HOURS - 1) < 1e-3
    assert abs(sum(each.share for each in fitted.classes) - 1) < 1e-3
    week = []
    for job in generate(fitted, 20_000, seed=3, first_hour=0):
        if job.at_ms >= WEEK_HOURS * 3_600_000:
            break
        week.append(job)
    assert all(a.at_ms <= b.at_ms for a, b in zip(week, week[1:], strict=False))
    assert abs(len(week) / (20_000 * 7) - 1) < 0.02
    mean = sum(job.cards * job.run_ms for job in week) / 3_600_000 / len(week)
    assert abs(mean / fitted.card_hours_per_job - 1) < 0.1
    again = fit("again", week)
    ones = fitted.classes[0].share, again.classes[0].share
    assert abs(ones[0] - ones[1]) < 0.01
    worst = max(abs(a - b) for a, b in zip(fitted.hourly, again.hourly, strict=True))
    assert worst < 0.5


def test_a_generator_draws_by_its_seed_alone() -> None:
    fitted = shipped("venus")
    first, same, other = (list(islice(generate(fitted, 1e4, seed, 0), 500)) for seed in (1, 1, 2))
    assert first == same != other
