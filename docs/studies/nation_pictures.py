"""The pictures of nation.md, from nation.json; `nation.py plot` draws them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
ISLANDS, NETWORK, BOUND = "#c77b30", "#2b6ca3", "#777777"
_PLAIN = {"svg.fonttype": "none", "svg.hashsalt": "nation", "font.size": 9, "font.family": "sans-serif"}

Runs = Sequence[dict[str, Any]]


def draw(found: dict[str, Any]) -> None:
    """`found`: the document of nation.json."""
    with matplotlib.rc_context(_PLAIN):
        _hours(found["day"])
        _centres(found["day"])
        _work(found["cases"])
        _sensitivity(found["cases"])
        _skew(found["curve"])


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, name: str) -> None:
    figure.savefig(HERE / f"{name}.svg", metadata={"Date": None})


def _hours(day: dict[str, Any]) -> None:
    figure, axes = _axes(6.5, 2.8)
    for name, color in (("islands", ISLANDS), ("network", NETWORK)):
        hours = [value * 100 for value in day[name]["hours"]]
        axes.step(range(len(hours) + 1), [*hours, hours[-1]], where="post", color=color, label=name)
    axes.set(xlabel="hour of Monday", ylabel="cards that are busy, %", ylim=(0, 100), xlim=(0, 24))
    axes.legend(frameon=False)
    _save(figure, "nation-hours")


def _centres(day: dict[str, Any]) -> None:
    figure, axes = _axes(6.5, 2.8)
    for name, color in (("islands", ISLANDS), ("network", NETWORK)):
        sites = sorted(([busy, cards] for _, cards, busy in day[name]["sites"]), reverse=True)
        total, so_far, x, y = sum(cards for _, cards in sites), 0, [0.0], [sites[0][0] * 100]
        for busy, cards in sites:
            so_far += cards
            x.append(so_far / total * 100)
            y.append(busy * 100)
        axes.step(x, y, where="pre", color=color, label=name)
    axes.set(xlabel="cards, % of all, in the busiest centres first", ylabel="utilisation of the centre, %")
    axes.set(xlim=(0, 100), ylim=(0, 102))
    axes.legend(frameon=False)
    _save(figure, "nation-centres")


def _work(cases: dict[str, Any]) -> None:
    names = [
        name
        for name in ("load-0.5", "base", "load-1.5", "load-2", "load-3", "skew-2", "philly", "pai2020")
        if name in cases
    ]
    kinds = (("islands", ISLANDS), ("islands_bound", "#e6c7a6"), ("network", NETWORK), ("bound", "#a9c6df"))
    labels = ("islands", "islands, bound", "network", "nation, bound")
    figure, axes = _axes(6.5, 3)
    for j, ((kind, color), label) in enumerate(zip(kinds, labels, strict=True)):
        at = [i + (j - 1.5) * 0.2 for i in range(len(names))]
        axes.bar(at, [_mean(cases[name][f"{kind}_of_capacity"]) for name in names], 0.19, color=color, label=label)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="work done, % of capacity", ylim=(0, 100))
    axes.legend(frameon=False, ncols=4, loc="upper center")
    _save(figure, "nation-work")


def _sensitivity(cases: dict[str, Any]) -> None:
    names = list(cases)[::-1]
    figure, axes = _axes(6.5, 0.24 * len(names) + 0.8)
    for i, name in enumerate(names):
        gains = cases[name]["gain_percent"]
        axes.plot([min(gains), max(gains)], [i, i], color=NETWORK, linewidth=3, solid_capstyle="butt")
        axes.plot(gains, [i] * len(gains), "o", color=NETWORK, markersize=4)
    axes.axvline(_mean(cases["base"]["gain_percent"]), color=BOUND, linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="work of the network over that of islands, % more", xlim=(0, None))
    axes.grid(axis="x", linewidth=0.3)
    _save(figure, "nation-sensitivity")


def _skew(curve: Sequence[Sequence[float]]) -> None:
    figure, axes = _axes(6.5, 2.6)
    spread = [row[0] for row in curve]
    axes.plot(spread, [row[3] * 100 for row in curve], color=ISLANDS, label="islands")
    axes.plot(spread, [min(1.0, row[2]) * 100 for row in curve], color=NETWORK, label="offered, at most 100 %")
    axes.set(xlabel="spread of demand between centres (standard deviation of the logarithm)", ylabel="% of capacity")
    axes.set(ylim=(0, 105), xlim=(0, spread[-1]))
    axes.legend(frameon=False)
    _save(figure, "nation-skew")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
