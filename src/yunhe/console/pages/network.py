"""The front page: the network as anybody may see it, live."""

import json
from functools import cache
from importlib import resources
from typing import Any

from nicegui import ui

from yunhe.console.shell import shell
from yunhe.console.sums import Seen, Sum, used_percent
from yunhe.console.view import View
from yunhe.core.demand import Precision
from yunhe.core.errors import YunheError
from yunhe.core.units import format_flops
from yunhe.wire.api import NetworkHistory

LIVE_S = 2.0
TOP = 10  # rows of a ranking
FRAME_MS = 16  # a moved map is drawn again as often as the browser draws
LARGEST_PX, SMALLEST_PX = 34, 6
COLOURS = ["#2c7bb6", "#7fb8d6", "#f2d57e", "#f09a4a", "#c9361f"]  # idle to full; apart for the colour-blind too


async def page(view: View) -> None:
    with shell(view, view.say("shell.network"), "/"):
        ui.label(view.say("shell.network")).classes("yunhe-title").props("role=heading aria-level=1")
        view.part(lambda: view.live.network(), lambda found: _Live(view, found).draw())
        view.part(lambda: view.live.history(), lambda found: _day(view, found), every_s=60.0)


class _Live:
    """What is drawn once and then kept up to date, so that a map that was moved stays where it is."""

    def __init__(self, view: View, found: Seen) -> None:
        self._view, self._found = view, found
        self._shown: Seen | None = None
        self._way = "region"

    def draw(self) -> None:
        view = self._view
        if not self._found.sites:
            view.show_empty(view.say("network.none"))
            return
        self._figures = ui.element("div").classes("yunhe-row")
        with ui.element("div").classes("yunhe-row"):
            with ui.element("div").classes("yunhe-card yunhe-map-box"):
                ui.label(view.say("network.map")).classes("yunhe-sub")
                self._map = (
                    ui.echart(_map(view)).classes("yunhe-map").props(f'role=img aria-label="{view.say("network.map")}"')
                )
                ui.label(view.say("network.legend")).classes("yunhe-soft")
            with ui.element("div").classes("yunhe-card"):
                ways = {way: view.say(f"network.by_{way}") for way in ("region", "vendor", "provider", "kind")}
                ui.toggle(ways, value=self._way, on_change=lambda event: self._turn(event.value)).props("no-caps dense")
                self._ranking = ui.element("div").classes("yunhe-wide")
        self._note = ui.label().classes("yunhe-soft").props("role=status")
        self._show()
        ui.timer(LIVE_S, self._refresh)

    def _turn(self, way: str) -> None:
        self._way = way
        self._rank()

    async def _refresh(self) -> None:
        try:
            found = await self._view.live.network()
        except YunheError as error:
            self._note.text = f"{self._view.say('network.stale')} {error.message} ({error.code})"
            return
        self._note.text = ""
        if found is not self._found:
            self._found = found
            self._show()

    def _show(self) -> None:
        """What differs from what is shown."""
        before, found = self._shown, self._found
        self._shown = found
        if before is None or before.total != found.total:
            self._figures.clear()
            with self._figures:
                _figures(self._view, found.total)
        if before is None or before.by[self._way] != found.by[self._way]:
            self._rank()
        if before is not None and before.bubbles == found.bubbles:
            return
        self._map.options["series"][1]["data"] = [
            {
                "name": _told(self._view, bubble.name, bubble.sites, bubble.used_percent),
                "value": [bubble.lon, bubble.lat, bubble.used_percent],
                "symbolSize": SMALLEST_PX + (LARGEST_PX - SMALLEST_PX) * bubble.size,
            }
            for bubble in found.bubbles
        ]
        self._map.update()

    def _rank(self) -> None:
        view = self._view
        self._ranking.clear()
        names = ("name", "sites", "intelligent", "general", "used")
        columns = [
            {"name": n, "label": view.say(f"network.{n}"), "field": n, "align": "left" if n == "name" else "right"}
            for n in names
        ]
        rows = [
            {
                "name": view.say(f"network.{each.name}") if self._way == "kind" else each.name,
                "sites": each.sites,
                "intelligent": _rate(each.intelligent, Precision.FP16),
                "general": _rate(each.general, Precision.FP32),
                "used": f"{used_percent(each):.1f} %",
            }
            for each in self._found.by[self._way][:TOP]
        ]
        with self._ranking:
            ui.table(columns=columns, rows=rows, row_key="name").props("dense flat").classes("full-width")


def _figures(view: View, found: Sum) -> None:
    for name, capacity, used, precision in (
        ("intelligent", found.intelligent, found.intelligent_used, Precision.FP16),
        ("general", found.general, found.general_used, Precision.FP32),
    ):
        with ui.element("div").classes("yunhe-card"):
            ui.label(view.say(f"network.{name}_long")).classes("yunhe-soft")
            ui.label(_rate(capacity, precision)).classes("yunhe-figure")
            share = 100 * used / capacity if capacity else 0.0
            ui.label(view.say("network.of_it", share=f"{share:.1f}")).classes("yunhe-soft")
            ui.linear_progress(share / 100, show_value=False).props('aria-hidden="true"')
    with ui.element("div").classes("yunhe-card"):
        ui.label(view.say("network.sites_long")).classes("yunhe-soft")
        ui.label(str(found.sites)).classes("yunhe-figure")
        ui.label(view.say("network.connected", count=found.connected)).classes("yunhe-soft")


def _rate(gflops: int, precision: Precision) -> str:
    return format_flops(gflops * 10**9, precision, 3) if gflops else "-"


def _told(view: View, name: str, sites: int, used: float) -> str:
    return view.say("network.bubble", name=name, sites=sites, used=f"{used:.1f}")


# --- charts -------------------------------------------------------------------------------------------------------


@cache
def _coasts() -> list[dict[str, Any]]:
    text = resources.files("yunhe.console").joinpath("static", "land.json").read_text(encoding="utf-8")
    return [{"coords": line} for line in json.loads(text)]


def _map(view: View) -> dict[str, Any]:
    axis = {"type": "value", "show": False, "scale": True}
    return {
        "animation": False,
        "grid": {"left": 4, "right": 4, "top": 4, "bottom": 4},
        "xAxis": {**axis, "min": 73, "max": 136},
        "yAxis": {**axis, "min": 17, "max": 54},
        "dataZoom": [
            {"type": "inside", "xAxisIndex": 0, "filterMode": "none", "throttle": FRAME_MS},
            {"type": "inside", "yAxisIndex": 0, "filterMode": "none", "throttle": FRAME_MS},
        ],
        "visualMap": {
            "type": "continuous",
            "min": 0,
            "max": 100,
            "dimension": 2,
            "seriesIndex": 1,
            "inRange": {"color": COLOURS},
            "orient": "horizontal",
            "left": "center",
            "bottom": 0,
            "itemWidth": 10,
            "itemHeight": 90,
            "text": ["100 %", "0 %"],
            "textStyle": {"color": "#888"},
        },
        "tooltip": {"formatter": "{b}", "extraCssText": "white-space: pre-line", "confine": True},
        "series": [
            {
                "type": "lines",
                "coordinateSystem": "cartesian2d",
                "polyline": True,
                "silent": True,
                "lineStyle": {"color": "#8a8f98", "width": 1, "opacity": 0.8},
                "data": _coasts(),
                "tooltip": {"show": False},
            },
            {
                "type": "scatter",
                "name": view.say("shell.network"),
                "itemStyle": {"opacity": 0.78},
                "emphasis": {"disabled": True},
                "data": [],
            },
        ],
    }


def _day(view: View, found: NetworkHistory) -> None:
    with ui.element("div").classes("yunhe-card"):
        ui.label(view.say("network.day")).classes("yunhe-sub")
        if len(found.samples) < 2:
            ui.label(view.say("network.day_soon")).classes("yunhe-soft")
            return
        lines = {
            "intelligent": [(s.at_utc_ms, s.intelligent_used_gflops, s.intelligent_gflops) for s in found.samples],
            "general": [(s.at_utc_ms, s.general_used_gflops, s.general_gflops) for s in found.samples],
        }
        series = [
            {
                "type": "line",
                "name": view.say(f"network.{name}"),
                "showSymbol": False,
                "data": [[at, round(100 * used / capacity, 1)] for at, used, capacity in points],
            }
            for name, points in lines.items()
            if all(capacity for _, _, capacity in points)
        ]
        ui.echart(
            {
                "animation": False,
                "legend": {"textStyle": {"color": "#888"}},
                "grid": {"left": 44, "right": 12, "top": 34, "bottom": 24},
                "tooltip": {"trigger": "axis"},
                "xAxis": {"type": "time"},
                "yAxis": {"type": "value", "min": 0, "max": 100, "axisLabel": {"formatter": "{value} %"}},
                "series": series,
            }
        ).classes("yunhe-chart").props(f'role=img aria-label="{view.say("network.day")}"')
