"""Two sets of runs side by side: each figure, its difference, and how far it spreads over seeds."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yunhe.core.errors import InvalidInput

Document = Mapping[str, Any]

# Student's t at 97.5 % by degrees of freedom (1 to 30); 1.96 beyond.
_T: tuple[float, ...] = (
    12.71,
    4.30,
    3.18,
    2.78,
    2.57,
    2.45,
    2.36,
    2.31,
    2.26,
    2.23,
    2.20,
    2.18,
    2.16,
    2.14,
    2.13,
    2.12,
    2.11,
    2.10,
)
_T += (2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04)


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    unit: str
    value: Callable[[Document], float | None]


def _count(name: str) -> Callable[[Document], float]:
    return lambda found: float(found["orders"].get(name, 0))


def _share_placed(found: Document) -> float | None:
    submitted = found["orders"].get("submitted", 0)
    started = found["wait_ms"]["all"]["jobs"]
    return started / submitted * 100 if submitted else None


def _wait(size: str, figure: str) -> Callable[[Document], float | None]:
    def value(found: Document) -> float | None:
        waits = found["wait_ms"].get(size)
        return waits[figure] / 60_000 if waits else None

    return value


def _ended_flop(found: Document) -> float:
    return sum(int(flop) for flop in found["useful_flop"].values()) / 1e21


def _flop(found: Document) -> float:
    """With the done part of what runs at the end: a run of a day cuts through jobs of a week."""
    return _ended_flop(found) + sum(int(flop) for flop in found["under_way_flop"].values()) / 1e21


def _per(amount: Callable[[Document], float]) -> Callable[[Document], float | None]:
    def value(found: Document) -> float | None:
        flop = _flop(found)
        return amount(found) / flop if flop else None

    return value


def check(found: Document) -> None:
    """Raises InvalidInput where a figure that two runs are compared by is missing, or is none."""
    for metric in METRICS:
        try:
            metric.value(found)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"has no {metric.name}: it is damaged, or of another version", field="result") from error


METRICS = (
    Metric("utilisation", "%", lambda found: found["utilisation"] * 100),
    Metric("work done", "ZFLOP", _flop),
    Metric("work of orders that succeeded", "ZFLOP", _ended_flop),
    Metric("useful card hours", "h", lambda found: found["useful_card_hours"]),
    Metric("orders started", "%", _share_placed),
    Metric("orders succeeded", "", _count("succeeded")),
    Metric("orders refused", "", _count("refused_no_place")),
    Metric("orders waiting at the end", "", _count("waiting_at_end")),
    Metric("wait, mean", "min", _wait("all", "mean")),
    Metric("wait of 8 cards, p99", "min", _wait("8", "p99")),
    Metric("paid", "CNY", lambda found: found["charged_microcny"] / 1e6),
    Metric("paid per work", "CNY/ZFLOP", _per(lambda found: found["charged_microcny"] / 1e6)),
    Metric("energy", "kWh", lambda found: found["energy_kwh"]),
    Metric("energy per work", "kWh/ZFLOP", _per(lambda found: found["energy_kwh"])),
    Metric("power bill", "CNY", lambda found: found["power_cny"]),
    Metric("carbon", "kg", lambda found: found["carbon_kg"]),
    Metric("carbon per work", "kg/ZFLOP", _per(lambda found: found["carbon_kg"])),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of both. `spread`: half the width of the 95 % interval of the mean difference; None with one seed."""

    name: str
    unit: str
    first: float | None
    second: float | None
    difference: float | None
    percent: float | None
    spread: float | None
    seeds: int


def compare(first: Sequence[Document], second: Sequence[Document]) -> list[Line]:
    """Means over the seeds. With the same seeds on both sides each difference is of one seed, so what the seed makes
    of both is not counted as spread.  Raises InvalidInput where there is nothing to compare."""
    if not first or not second:
        raise InvalidInput("there is no run to compare", field="runs")
    by_seed = {found["seed"]: found for found in first}, {found["seed"]: found for found in second}
    shared = sorted(set(by_seed[0]) & set(by_seed[1]))
    lines = []
    for metric in METRICS:
        if shared:
            pairs = [(metric.value(by_seed[0][seed]), metric.value(by_seed[1][seed])) for seed in shared]
            known = [(a, b) for a, b in pairs if a is not None and b is not None]
            lines.append(_line(metric, [a for a, _ in known], [b for _, b in known], paired=True))
        else:
            a = [value for found in first if (value := metric.value(found)) is not None]
            b = [value for found in second if (value := metric.value(found)) is not None]
            lines.append(_line(metric, a, b, paired=False))
    return lines


def _line(metric: Metric, first: list[float], second: list[float], *, paired: bool) -> Line:
    if not first or not second:
        return Line(metric.name, metric.unit, None, None, None, None, None, 0)
    a, b = _mean(first), _mean(second)
    spread = None
    if paired and len(first) > 1:
        spread = _half_width([y - x for x, y in zip(first, second, strict=True)])
    elif not paired and min(len(first), len(second)) > 1:
        # Welch: the variances of the two means add up; degrees of freedom by the smaller set, on the safe side.
        freedom = min(len(first), len(second)) - 1
        spread = _t(freedom) * math.sqrt(_variance(first) / len(first) + _variance(second) / len(second))
    percent = (b - a) / a * 100 if a else None
    return Line(metric.name, metric.unit, a, b, b - a, percent, spread, len(first))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _t(freedom: int) -> float:
    return _T[freedom - 1] if freedom <= len(_T) else 1.96


def _half_width(values: Sequence[float]) -> float:
    return _t(len(values) - 1) * math.sqrt(_variance(values) / len(values))
