"""The front page: the network as anybody may see it, live."""

from collections.abc import Sequence

from nicegui import ui

from yunhe.console import panels
from yunhe.console.network_map import NetworkMap
from yunhe.console.shell import shell
from yunhe.console.sums import WAYS, Cell, Seen, Sum
from yunhe.console.view import View
from yunhe.core.demand import Precision
from yunhe.core.units import format_bandwidth, format_bytes, format_flops, format_latency
from yunhe.wire.api import NetworkHistory, NetworkSiteView

TOP = 10  # rows of a ranking
DAY_S = 60.0


async def page(view: View) -> None:
    with shell(view, view.say("shell.network"), "/"):
        ui.label(view.say("shell.network")).classes("yunhe-title").props("role=heading aria-level=1")
        _Live(view)
        # Its library is large: what is above is there before it.
        view.part(view.live.history, lambda found: _day(view, found), every_s=DAY_S, late=True)


class _Live:
    """What is drawn once and then kept up to date, so that a map that was moved stays where it is."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._shown: Seen | None = None
        self._drawn = ""  # which of loading, failed, empty, full
        self._way = WAYS[0]
        self._note = ui.label().classes("yunhe-soft").props("role=status")
        self._box = ui.column().classes("full-width")
        ui.context.client.on_delete(view.live.watch(self._update))
        self._update()

    def _update(self) -> None:
        """What differs from what is shown."""
        view, found, error = self._view, self._view.live.seen, self._view.live.error
        self._note.text = f"{view.say('network.stale')} {error.message} ({error.code})" if found and error else ""
        drawn = ("full" if found.sites else "empty") if found else ("failed" if error else "loading")
        if drawn != self._drawn:
            self._drawn, self._shown = drawn, None
            self._box.clear()
            with self._box:
                match drawn:
                    case "loading":
                        view.show_loading()
                    case "empty":
                        view.show_empty(view.say("network.none"))
                    case "failed" if error:
                        view.show_error(error)
                    case "full":
                        self._lay_out()
        if drawn == "full" and found is not None and found is not self._shown:
            self._show(found)

    def _lay_out(self) -> None:
        view = self._view
        self._figures = ui.element("div").classes("yunhe-row")
        with ui.element("div").classes("yunhe-row"):
            with ui.element("div").classes("yunhe-card yunhe-map-box"):
                ui.label(view.say("network.map")).classes("yunhe-sub")
                words = {name: view.say(f"network.{name}") for name in ("nearer", "farther")}
                tell = self._tell
                self._map = NetworkMap(view.say("network.map_keys"), words, tell, self._show_map)
                with ui.element("div").classes("yunhe-scale").props('aria-hidden="true"'):
                    ui.label("0 %")
                    ui.element("div")
                    ui.label("100 %")
                ui.label(view.say("network.legend")).classes("yunhe-soft")
            with ui.element("div").classes("yunhe-card"):
                ways = {way: view.say(f"network.by_{way}") for way in WAYS}
                ui.toggle(ways, value=self._way, on_change=lambda event: self._turn(event.value)).props("no-caps dense")
                self._ranking = ui.element("div").classes("yunhe-wide")
        with panels.card(view.say("network.lines")):
            ui.label(view.say("network.lines_are")).classes("yunhe-soft")
            self._lines = ui.element("div").classes("full-width")

    def _turn(self, way: str) -> None:
        self._way = way
        if self._shown is not None:
            self._rank(self._shown)

    def _show(self, found: Seen) -> None:
        before, self._shown = self._shown, found
        if before is None or before.total != found.total:
            self._figures.clear()
            with self._figures:
                _figures(self._view, found.total)
        if before is None or before.by[self._way] != found.by[self._way]:
            self._rank(found)
        if before is None or before.lines != found.lines:
            self._lines.clear()
            with self._lines:
                _lines(self._view, found.lines)
        self._show_map()

    def _show_map(self) -> None:
        if self._shown is not None:
            self._map.show(self._shown.cells(self._map.view))

    def _tell(self, cell: Cell) -> str:
        view = self._view
        told = view.say("network.bubble", name=cell.name, sites=cell.sites, used=f"{cell.used_percent:.1f}")
        line = {
            "place": cell.place.capitalize(),
            "latency": format_latency(cell.one_way_us, 2),
            "load": f"{cell.load_percent:.1f}",
        }
        return f"{told}\n{view.say('network.line', **line)}" if cell.place else told

    def _rank(self, found: Seen) -> None:
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
                "intelligent": _rate(each.intelligent, Precision.FP16).partition("@")[0],  # its column says so
                "general": _rate(each.general, Precision.FP32).partition("@")[0],
                "used": f"{each.used_percent:.1f} %",
            }
            for each in found.by[self._way][:TOP]
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


def _lines(view: View, lines: Sequence[NetworkSiteView]) -> None:
    columns = [
        panels.column("site", view.say("network.line_site")),
        panels.column("place", view.say("network.line_place")),
        panels.column("latency", view.say("network.line_latency"), right=True),
        panels.column("width", view.say("network.line_width"), right=True, wide=True),
        panels.column("transfers", view.say("network.line_transfers"), right=True, wide=True),
        panels.column("left", view.say("network.line_left"), right=True, wide=True),
        panels.column("load", view.say("network.line_load"), right=True),
    ]
    rows = [
        {
            "id": site.id,
            "site": site.name,
            "place": site.place.capitalize(),
            "latency": format_latency(site.one_way_us, 3),
            "width": format_bandwidth(site.bandwidth_bps),
            "transfers": site.transfers,
            "left": format_bytes(site.left_bytes, 1) if site.left_bytes else panels.NONE,
            "load": f"{100 * site.load_bps / site.bandwidth_bps:.1f} %" if site.bandwidth_bps else panels.NONE,
        }
        for site in lines
    ]
    panels.table(columns, rows)


def _rate(gflops: int, precision: Precision) -> str:
    return format_flops(gflops * 10**9, precision, 3) if gflops else "-"


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
