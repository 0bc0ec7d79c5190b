"""When to run a job that may wait: start it later, or pause it, by a series of carbon intensity or price.

Four published rules and Yunhe's own. What they know of a job is how long it may wait and the mean length of its class,
never its own length. A rule begins with a job's arrival and is asked again whenever its last step is over.

| rule | pauses | knows of the length | of the series |
|---|---|---|---|
| Lowest-Slot (Wiesner et al. 2021; Hanafy et al. 2024) | no | nothing | the time it may wait, once |
| Lowest-Window (Hanafy et al. 2024, GAIA) | no | the class mean | the time it may wait and the class mean, once |
| Carbon-Time (GAIA) | no | the class mean | the same |
| Ecovisor (Souza et al. 2023, threshold as in GAIA) | yes | nothing | 24 h once, then the current slot |
| memoryless (Yunhe) | yes | the class mean | its `Sight`: as far as it is told, once or renewed |

Yunhe's rule takes a length of which only the mean m is known as exponential: of all lengths with that mean it supposes
least (maximum entropy), and whatever has run, the rest is again m on average. So what to do depends on the slot and on
the waiting that is left alone, and dynamic programming finds the least expected sum. Of slot k with value c_k and
length d, with w slots of waiting left, r = exp(-d/m):
    V_k(w) = min(run: c_k m (1 - r) + r V_{k+1}(w),  wait: p d + V_{k+1}(w - 1))
p is what an hour of waiting is worth to the customer, in the unit of the series; 0 asks for the least alone. What lies
beyond sight counts as the mean of what is seen.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from yunhe.core.errors import InvalidInput

MS_PER_HOUR = 3_600_000
ECOVISOR_SHARE = 0.3  # of the next day: it runs in what is below this quantile
ECOVISOR_SIGHT_MS = 24 * MS_PER_HOUR
MAX_SLOTS = 1_000_000

Floats = NDArray[np.float64]


class Waiting(NamedTuple):
    """What is known of a job when it comes: how long it may wait in all, and how long its class runs on average."""

    arrival_ms: int
    patience_ms: int
    mean_ms: int

    def check(self, series: "Series", *, mean: bool = True) -> None:
        """Raises InvalidInput for a patience or (where a rule knows it) a mean length out of bounds."""
        most = MAX_SLOTS * series.slot_ms
        if not 0 <= self.patience_ms <= most:
            raise InvalidInput(f"{self.patience_ms} ms is not 0 to {MAX_SLOTS} slots", field="patience_ms")
        if mean and not 1 <= self.mean_ms <= most:
            raise InvalidInput(f"{self.mean_ms} ms is not 1 ms to {MAX_SLOTS} slots", field="mean_ms")


class Step(NamedTuple):
    """Run, or wait, until `until_ms`; None: to the job's end."""

    run: bool
    until_ms: int | None


class Plan(Protocol):
    def step(self, now_ms: int, patience_ms: int) -> Step:
        """What to do from now on, with `patience_ms` of waiting left."""
        ...


class Series:
    """A value per slot: that of slot k holds from k x slot_ms on. Sums are in value x hours."""

    def __init__(self, values: Sequence[float] | Floats, slot_ms: int = MS_PER_HOUR) -> None:
        """Raises InvalidInput for no values, too many, or one that is not finite."""
        self.values = np.asarray(values, dtype=np.float64)
        self.slot_ms = slot_ms
        if not 1 <= len(self.values) <= MAX_SLOTS:
            raise InvalidInput(f"{len(self.values)} slots, not 1 to {MAX_SLOTS}", field="series")
        if slot_ms < 1:
            raise InvalidInput(f"{slot_ms} ms is no length of a slot", field="slot_ms")
        if not np.isfinite(self.values).all():
            slot = int(np.flatnonzero(~np.isfinite(self.values))[0])
            raise InvalidInput("the value is not finite", field=f"series.{slot}")
        self._sum = np.concatenate(([0.0], np.cumsum(self.values)))

    def slot(self, at_ms: int) -> int:
        """The slot of a time. Raises InvalidInput outside the series."""
        slot = at_ms // self.slot_ms
        if not 0 <= slot < len(self.values):
            raise InvalidInput(f"{at_ms} ms lies outside its {len(self.values)} slots", field="series")
        return slot

    def end_of_slot(self, at_ms: int) -> int:
        return (at_ms // self.slot_ms + 1) * self.slot_ms

    def total(self, from_ms: int, to_ms: int) -> float:
        """Integral from one time to another, in value x hours. Raises InvalidInput outside the series."""
        return (self._until(to_ms) - self._until(from_ms)) * self.slot_ms / MS_PER_HOUR

    def reaches(self, at_ms: int) -> bool:
        return at_ms <= len(self.values) * self.slot_ms

    def _until(self, at_ms: int) -> float:
        if at_ms == len(self.values) * self.slot_ms:
            return float(self._sum[-1])
        slot = self.slot(at_ms)
        return float(self._sum[slot] + self.values[slot] * (at_ms - slot * self.slot_ms) / self.slot_ms)


class Start(NamedTuple):
    """Wait until a time, then run to the end."""

    at_ms: int

    def step(self, now_ms: int, patience_ms: int) -> Step:
        return Step(False, self.at_ms) if now_ms < self.at_ms else Step(True, None)


def at_once(series: Series, job: Waiting) -> Start:
    return Start(job.arrival_ms)


def lowest_slot(series: Series, job: Waiting) -> Start:
    """Start where the value is lowest, at its first moment."""
    job.check(series, mean=False)
    first = series.slot(job.arrival_ms)
    last = min(series.slot(job.arrival_ms) + _slots(series, job), len(series.values) - 1)
    best = first + int(series.values[first : last + 1].argmin())
    return Start(max(job.arrival_ms, best * series.slot_ms))


def lowest_window(series: Series, job: Waiting) -> Start:
    """Start where a job of mean length has the lowest sum; whole slots after its arrival are tried."""
    return Start(min(_starts(series, job), key=lambda at: series.total(at, at + job.mean_ms)))


def saving_per_time(series: Series, job: Waiting) -> Start:
    """Carbon-Time: start where a job of mean length saves most per time until its end."""
    job.check(series)
    now = series.total(job.arrival_ms, job.arrival_ms + job.mean_ms)
    best = max(
        _starts(series, job),
        key=lambda at: (now - series.total(at, at + job.mean_ms)) / (at + job.mean_ms - job.arrival_ms),
    )
    return Start(best)


def _starts(series: Series, job: Waiting) -> list[int]:
    job.check(series)
    last = job.arrival_ms + job.patience_ms
    found = [at for at in range(job.arrival_ms, last + 1, series.slot_ms) if series.reaches(at + job.mean_ms)]
    return found or [job.arrival_ms]


def _slots(series: Series, job: Waiting) -> int:
    """How many slots later than its arrival's the job can start."""
    return (job.arrival_ms + job.patience_ms) // series.slot_ms - job.arrival_ms // series.slot_ms


class Below(NamedTuple):
    """Run in the slots below a level, and to the end when no waiting is left."""

    series: Series
    level: float

    def step(self, now_ms: int, patience_ms: int) -> Step:
        if patience_ms <= 0:
            return Step(True, None)
        end = self.series.end_of_slot(now_ms)
        if self.series.values[self.series.slot(now_ms)] < self.level:
            return Step(True, end)
        return Step(False, min(end, now_ms + patience_ms))


def ecovisor(series: Series, job: Waiting) -> Below:
    """Below the level that the next 24 h stay under for 30 % of the time, set once."""
    job.check(series, mean=False)
    first, last = job.arrival_ms, job.arrival_ms + ECOVISOR_SIGHT_MS
    edges = np.clip(np.arange(series.slot(first), -(-last // series.slot_ms) + 1) * series.slot_ms, first, last)
    values = series.values[series.slot(first) :][: len(edges) - 1]
    lengths = np.diff(edges)[: len(values)]
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(lengths[order])
    return Below(series, float(values[order][np.searchsorted(passed, ECOVISOR_SHARE * passed[-1], side="right")]))


class Sight(NamedTuple):
    """What a rule may know of the series: `ms` ahead of the arrival, or, `renewed`, of whatever time it is; and now."""

    ms: int
    renewed: bool = False


class Memoryless(NamedTuple):
    """Yunhe's rule (see the top): run where waiting for better costs more than it can save."""

    series: Series
    job: Waiting
    sight: Sight
    price: float = 0.0

    def step(self, now_ms: int, patience_ms: int) -> Step:
        slot_ms, end = self.series.slot_ms, self.series.end_of_slot(now_ms)
        if patience_ms > MAX_SLOTS * slot_ms:
            raise InvalidInput(f"{patience_ms} ms is more than {MAX_SLOTS} slots", field="patience_ms")
        if patience_ms < end - now_ms:  # it waits whole slots only, and none is left
            return Step(True, None)
        waits = patience_ms // slot_ms, (patience_ms - (end - now_ms)) // slot_ms
        lengths = np.full(patience_ms // slot_ms + -(-self.job.mean_ms // slot_ms) + 2, slot_ms / self.job.mean_ms)
        lengths[0] = (end - now_ms) / self.job.mean_ms
        return Step(runs_now(self._seen(now_ms, len(lengths)), lengths, waits, self.price), end)

    def _seen(self, now_ms: int, slots: int) -> Floats:
        """The value now and of the slots after it: as told where that is in sight, else the mean of what is."""
        from_ms = now_ms if self.sight.renewed else self.job.arrival_ms
        first, now = self.series.slot(from_ms), self.series.slot(now_ms)
        told = self.series.values[first : -(-(from_ms + self.sight.ms) // self.series.slot_ms)]
        seen = np.full(slots, told.mean() if len(told) else self.series.values[now])
        ahead = told[now - first :][:slots]
        seen[: len(ahead)] = ahead
        seen[0] = self.series.values[now]
        return seen


def runs_now(values: Floats, lengths: Floats, waits: tuple[int, int], price: float) -> bool:
    """Whether a job of mean length 1 and unknown length runs in the first of these slots or waits; a tie runs.

    `lengths` of the slots are in mean lengths; `waits`: whole slots of waiting left if it runs now, and if it waits.
    The dynamic program at the top, divided by the mean length.
    """
    stay = np.exp(-lengths)
    least = np.full(waits[0] + 1, values.mean())
    for value, length, share in zip(values[:0:-1], lengths[:0:-1], stay[:0:-1], strict=True):
        run = value * (1 - share) + share * least
        run[1:] = np.minimum(run[1:], price * length + least[:-1])
        least = run
    run_now = values[0] * (1 - stay[0]) + stay[0] * least[waits[0]]
    return bool(run_now <= price * lengths[0] + least[waits[1]])


def memoryless(series: Series, job: Waiting, sight: Sight, price: float = 0.0) -> Memoryless:
    """Yunhe's rule for one job. Raises InvalidInput for a patience, mean length, sight or price not in its bounds."""
    job.check(series)
    if not 0 <= sight.ms <= MAX_SLOTS * series.slot_ms or not 0 <= price < float("inf"):
        right = 0 <= sight.ms <= MAX_SLOTS * series.slot_ms
        raise InvalidInput("sight and price are finite and not negative", field="price" if right else "sight.ms")
    return Memoryless(series, job, sight, price)
