"""Generators fitted to public traces: arrivals by the hour of the day and week, cards by share, run times by quantiles.

A fit keeps what the load of a network depends on, and nothing of single jobs:

- `hourly`: arrivals of each hour of the week over the mean hour (168 figures);
- `cards`: each number of cards with its share of the jobs, and quantiles of the run time of those jobs at
  `PROBABILITIES`, which are dense at the tail, where most of the card hours lie.  Between two quantiles the logarithm
  is interpolated.

Arrivals within an hour are a Poisson process: their number is drawn, then they are spread evenly.  Every hour draws by
(seed, hour) alone, so a generator can begin anywhere.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import orjson

from yunhe.simulator.workloads.raw import RawJob

HOUR_MS = 3_600_000
WEEK_HOURS = 168
PROBABILITIES = (*(i / 20 for i in range(20)), 0.96, 0.97, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.9975, 0.999, 1.0)
LEAST_JOBS = 50  # of one number of cards; rarer ones are counted with the next smaller
_SCALE = 6  # digits that are kept
_LEAST_S = 0.001


@dataclass(frozen=True, slots=True)
class CardClass:
    cards: int
    share: float
    quantiles_s: tuple[float, ...]  # of the run time, at PROBABILITIES


@dataclass(frozen=True, slots=True)
class Fitted:
    """`source`: the trace; `jobs`: how many it had."""

    source: str
    jobs: int
    hourly: tuple[float, ...]
    classes: tuple[CardClass, ...]

    @property
    def card_hours_per_job(self) -> float:
        """Mean. Between quantiles a and b that is (b - a) / ln(b / a), the mean of a log-uniform variable."""
        steps = np.diff(PROBABILITIES)
        total = 0.0
        for each in self.classes:
            ends = np.maximum(each.quantiles_s, _LEAST_S)
            low, high = ends[:-1], ends[1:]
            wide = high > low * (1 + 1e-9)
            means = np.where(wide, (high - low) / np.log(np.where(wide, high / low, 2.0)), low)
            total += each.share * each.cards * float(steps @ means) / 3600
        return total


def fit(source: str, jobs: Iterable[RawJob], first_hour: int = 0) -> Fitted:
    """Statistics of a trace. `first_hour`: of the week (0: Monday, 0 h) at which its zero lies."""
    hours: Counter[int] = Counter()
    runs: dict[int, list[int]] = defaultdict(list)
    last = 0
    for job in jobs:
        hours[(job.at_ms // HOUR_MS + first_hour) % WEEK_HOURS] += 1
        runs[job.cards].append(job.run_ms)
        last = max(last, job.at_ms // HOUR_MS)
    total = sum(hours.values())
    weeks = np.zeros(WEEK_HOURS)  # how often each hour of the week lay in the trace
    for hour in range(last + 1):
        weeks[(hour + first_hour) % WEEK_HOURS] += 1
    rate = np.array([hours[i] for i in range(WEEK_HOURS)]) / np.maximum(weeks, 1)
    common: dict[int, list[int]] = {}
    for cards in sorted(runs):
        if len(runs[cards]) >= LEAST_JOBS or not common:
            common[cards] = runs[cards]
        else:
            common[max(common)] = common[max(common)] + runs[cards]
    classes = [
        CardClass(
            cards,
            round(len(found) / total, _SCALE),
            tuple(round(float(v) / 1000, 3) for v in np.quantile(found, PROBABILITIES)),
        )
        for cards, found in common.items()
    ]
    mean = float(rate.mean())
    return Fitted(source, total, tuple(round(float(r) / mean, _SCALE) for r in rate), tuple(classes))


@cache
def shipped(like: str) -> Fitted:
    """One of the fits that come with Yunhe: venus, philly or pai2020."""
    text = resources.files("yunhe.simulator.workloads").joinpath("fits.json").read_bytes()
    row = orjson.loads(text)[like]
    classes = tuple(CardClass(c["cards"], c["share"], tuple(c["quantiles_s"])) for c in row["classes"])
    return Fitted(row["source"], row["jobs"], tuple(row["hourly"]), classes)


def generate(
    fitted: Fitted, jobs_per_day: float, seed: int, first_hour: int, before_hours: int = 0
) -> Iterator[RawJob]:
    """Jobs without end, by arrival. `first_hour`: of the week at which they begin.

    Jobs of the `before_hours` ahead of that whose run would not be over come at 0, with the rest of their run.
    """
    shares = np.array([each.share for each in fitted.classes])
    shares = shares / shares.sum()
    cards = np.array([each.cards for each in fitted.classes])
    logs = np.log(np.maximum([each.quantiles_s for each in fitted.classes], _LEAST_S))
    steps = np.array(PROBABILITIES)
    hour = -before_hours
    while True:
        # The past has numbers of its own: the same jobs come whether it is asked for or not.
        draw = np.random.default_rng((seed, hour) if hour >= 0 else (seed, -hour, 1))
        rate = jobs_per_day / 24 * fitted.hourly[(first_hour + hour) % WEEK_HOURS]
        count = int(draw.poisson(rate))
        at = np.sort(draw.integers(0, HOUR_MS, count)) + hour * HOUR_MS
        kind = draw.choice(len(cards), count, p=shares)
        chance = draw.random(count)
        low = np.searchsorted(steps, chance, side="right") - 1
        part = (chance - steps[low]) / (steps[low + 1] - steps[low])
        log = logs[kind, low] + (logs[kind, low + 1] - logs[kind, low]) * part
        run = np.maximum(1, np.round(np.exp(log) * 1000)).astype(np.int64)
        if hour < 0:
            kept = at + run > 0
            kind, run = kind[kept], (at + run)[kept]
            at = np.zeros_like(run)
        yield from map(RawJob, at.tolist(), cards[kind].tolist(), run.tolist())
        hour += 1
