"""A run as one HTML page with its plots inside, and as Parquet tables for those who look deeper.

matplotlib and pyarrow are the extra `simulate`; this module is imported when a report is written, and nowhere else.
"""

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from yunhe.core.units import format_money
from yunhe.simulator.compare import METRICS
from yunhe.simulator.tally import CLASSES

Document = Mapping[str, Any]

_HOUR_MS = 3_600_000
_PARTIES = 15  # shown; the rest is one bar
_RASTER_ABOVE = 500  # points of a map that would make the page large
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)  # names of vocabularies, of use to nobody here
_BLUE, _RED, _GREEN, _GREY = "#1f5fa8", "#c0392b", "#2e8b57", "#888888"

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse}
td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}
svg{max-width:100%;height:auto}.note{color:#666}
"""


def to_html(found: Document) -> str:
    """One page that needs nothing beside it. The same result gives the same page."""
    parts = [f"<h1>{html.escape(str(found['scenario']))}</h1>", _stamp(found), _figures(found)]
    for title, note, plot in _PLOTS:
        parts.append(f"<h2>{title}</h2><p class=note>{note}</p>{_svg(plot, found)}")
    body = "\n".join(parts)
    title = html.escape(f"{found['scenario']}, seed {found['seed']}")
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>{body}</html>"
    )


def tables(found: Document) -> dict[str, bytes]:
    """Parquet files by name: one row per hour, one per centre, one per party."""
    hours = pa.table({name: pa.array(values) for name, values in found["hours"].items()})
    sites = pa.Table.from_pylist(list(found["sites"]))
    money = found["money"]
    rows = [
        {"party": name, "kind": kind, "microcny": amount}
        for kind, amounts in (("earned", money["earned_microcny"]), ("spent", money["spent_microcny"]))
        for name, amount in amounts.items()
    ]
    rows.append({"party": "operator", "kind": "fees", "microcny": money["fees_microcny"]})
    stamp = {key: str(found[key]) for key in ("scenario", "scenario_sha256", "seed")}
    written = {}
    for name, table in (("hours", hours), ("sites", sites), ("money", pa.Table.from_pylist(rows))):
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(stamp), sink)
        written[name] = sink.getvalue()
    return written


# --- words and figures --------------------------------------------------------------------------------------------


def _stamp(found: Document) -> str:
    network = "one network" if found["network"] == "on" else "islands: every customer at its own centre"
    return (
        f"<p>{found['centres']:,} centres, {found['cards']:,} cards ({found['fp16_pflops_nominal']:,.0f} PFLOPS FP16 "
        f"nominal), {found['customers']:,} customers; {network}; {found['length_ms'] / _HOUR_MS:,.0f} h simulated, "
        f"{found['events']:,} events, {found['rounds']:,} rounds.<br><span class=note>scenario "
        f"{found['scenario_sha256']}, seed {found['seed']}</span></p>"
    )


def _figures(found: Document) -> str:
    rows = []
    for metric in METRICS:
        value = metric.value(found)
        if value is not None:
            rows.append(f"<tr><td>{metric.name}</td><td>{value:,.2f}</td><td>{html.escape(metric.unit)}</td></tr>")
    money = found["money"]
    books = (
        f"<p class=note>The books sum to {money['sum_microcny']} micro-CNY; fees "
        f"{format_money(money['fees_microcny'])}, held for open orders {format_money(money['held_microcny'])}.</p>"
    )
    return f"<table><tr><th>figure<th>value<th>unit</tr>{''.join(rows)}</table>{books}"


# --- plots --------------------------------------------------------------------------------------------------------


def _svg(plot: Callable[[Figure, Document], None], found: Document) -> str:
    with matplotlib.rc_context({"svg.hashsalt": "yunhe", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        plot(figure, found)
        sink = io.StringIO()
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    text = sink.getvalue()
    return _METADATA.sub("", text[text.index("<svg") :])


def _hours(found: Document) -> list[float]:
    return [(end - found["start_ms"]) / _HOUR_MS for end in found["hours"]["end_ms"]]


def _line(axes: Axes, found: Document, name: str, label: str, colour: str, times: float = 1.0) -> None:
    values = [None if value is None else value * times for value in found["hours"][name]]
    axes.plot(_hours(found), [float("nan") if v is None else v for v in values], color=colour, lw=1.6)
    axes.set_ylabel(label, color=colour)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("hours since the start")
    axes.grid(alpha=0.25)


def _two(figure: Figure, found: Document, left: tuple[str, str, float], right: tuple[str, str, float]) -> None:
    axes = figure.subplots()
    _line(axes, found, left[0], left[1], _BLUE, left[2])
    _line(axes.twinx(), found, right[0], right[1], _RED, right[2])


def _map(figure: Figure, found: Document) -> None:
    sites = [site for site in found["sites"] if site["cards"]]
    most = max((site["cards"] for site in sites), default=1)
    chart, bars = figure.subplots(1, 2, width_ratios=[3, 2])
    points = chart.scatter(
        [site["lon"] for site in sites],
        [site["lat"] for site in sites],
        c=[site["utilisation"] * 100 for site in sites],
        s=[10 + 150 * (site["cards"] / most) ** 0.5 for site in sites],
        cmap="viridis",
        vmin=0,
        vmax=100,
        alpha=0.8,
        rasterized=len(sites) > _RASTER_ABOVE,
    )
    figure.colorbar(points, ax=chart, label="utilisation, %")
    chart.set_xlabel("longitude")
    chart.set_ylabel("latitude")
    bars.hist(
        [site["utilisation"] * 100 for site in sites],
        bins=[i * 5 for i in range(21)],
        weights=[site["cards"] for site in sites],
        color=_BLUE,
    )
    bars.set_xlabel("utilisation of the centre, %")
    bars.set_ylabel("cards")


def _waits(figure: Figure, found: Document) -> None:
    sizes = [name for _, name in CLASSES if name in found["wait_ms"]]
    axes = figure.subplots()
    width = 0.25
    for i, (quantile, colour) in enumerate((("p50", _GREEN), ("p90", _BLUE), ("p99", _RED))):
        values = [max(found["wait_ms"][size][quantile], 1) / 60_000 for size in sizes]
        axes.bar([n + (i - 1) * width for n in range(len(sizes))], values, width, label=quantile, color=colour)
    axes.set_xticks(range(len(sizes)), [f"{size}\n{found['wait_ms'][size]['jobs']:,} jobs" for size in sizes])
    axes.set_yscale("log")
    axes.set_ylabel("minutes")
    axes.legend()


def _busy(figure: Figure, found: Document) -> None:
    _two(figure, found, ("utilisation", "utilisation, %", 100), ("open_orders", "orders that wait", 1))


def _prices(figure: Figure, found: Document) -> None:
    _two(figure, found, ("charged_cny_per_card_hour", "paid, CNY per card hour", 1), ("power_cny", "power, CNY/h", 1))


def _carbon(figure: Figure, found: Document) -> None:
    _two(figure, found, ("energy_kwh", "energy, kWh/h", 1), ("carbon_kg", "carbon, kg/h", 1))


def _fragmented(figure: Figure, found: Document) -> None:
    _line(figure.subplots(), found, "fragmented", "of the free cards, %", _BLUE, 100)


def _money(figure: Figure, found: Document) -> None:
    money = found["money"]
    left, right = figure.subplots(1, 2)
    _parties(left, money["earned_microcny"], "earned by providers, CNY", _GREEN)
    _parties(right, money["spent_microcny"], "spent by customers, CNY", _GREY)


def _parties(axes: Axes, amounts: Mapping[str, int], label: str, colour: str) -> None:
    ranked = sorted(amounts.items(), key=lambda item: (-item[1], item[0]))
    shown: Sequence[tuple[str, int]] = ranked[:_PARTIES]
    if len(ranked) > _PARTIES:
        shown = [*shown, (f"{len(ranked) - _PARTIES:,} others", sum(amount for _, amount in ranked[_PARTIES:]))]
    names = [name for name, _ in reversed(shown)]
    axes.barh(names, [amount / 1e6 for _, amount in reversed(shown)], color=colour)
    axes.set_xlabel(label)


_PLOTS: tuple[tuple[str, str, Callable[[Figure, Document], None]], ...] = (
    ("Utilisation", "Each centre's cards over the whole run; the size of a point goes with its cards.", _map),
    ("Over time", "Busy cards of all cards, and orders that wait, hour by hour.", _busy),
    ("Waits by size", "From the order to the first line of the job, of those that started.", _waits),
    ("Prices", "What was paid for a card hour that ended in the hour, and what the centres' power cost.", _prices),
    ("Energy and carbon", "At the meter; carbon by the grid's factor of the hour.", _carbon),
    ("Money by party", "Charges of ended attempts; the operator's fees are in the table above.", _money),
    ("Fragmentation", "Share of the free cards that lie in pools with less than eight free.", _fragmented),
)
