"""Jobs before they belong to anybody: when they came, on how many cards they ran, for how long."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from yunhe.core.errors import InvalidInput

MAX_CARDS = 100_000  # of one job; the largest cluster named in public has 18,000
MAX_RUN_MS = 366 * 86_400_000
MAX_AT_MS = 20 * MAX_RUN_MS
MAX_SORTED = 5_000_000  # jobs of a trace that is read whole


class RawJob(NamedTuple):
    at_ms: int  # since the start of its source
    cards: int
    run_ms: int  # at least 1
    tokens: int = 0  # of a request; cards and run_ms are then 1


def in_order(jobs: Iterable[RawJob], name: str) -> Iterator[RawJob]:
    """The same jobs. Raises InvalidInput where one comes before the one ahead of it."""
    last = 0
    for number, job in enumerate(jobs, 1):
        if job.at_ms < last:
            raise InvalidInput(
                f"job {number} arrives at {job.at_ms} ms, before the one ahead of it at {last} ms",
                field=name,
                hint="state `sort: true` in the trace to have it sorted in memory",
            )
        last = job.at_ms
        yield job


def sorted_jobs(jobs: Iterable[RawJob], name: str) -> Iterator[RawJob]:
    """All jobs by arrival, from zero; those of one moment as they came. Raises InvalidInput for too many."""
    found: list[RawJob] = []
    for job in jobs:
        found.append(job)
        if len(found) > MAX_SORTED:
            raise InvalidInput(f"has more than {MAX_SORTED} jobs, too many to sort", field=name)
    found.sort(key=lambda job: job.at_ms)
    yield from found
