"""Use over time as a chart: busy units in each measured interval, and the most memory so far. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from yunhe.wire.api import UsageView

MAX_LINES = 6  # attempts drawn; more cannot be told apart
_MIB = 1 << 20
_GREY = "#888"

Points = list[tuple[float, float]]


def busy(records: Sequence[UsageView]) -> Points:
    """(seconds since the attempt's start, units busy on average in the interval) of one attempt: the interval's begin
    and end. Intervals that were not reported are gaps: nothing is drawn over them."""
    points: Points = []
    cpu_ms, to_ms = 0, 0
    for record in sorted(records, key=lambda r: r.from_ms):
        if record.from_ms > to_ms and points:
            points.append((to_ms / 1000, float("nan")))
        width_ms = record.to_ms - record.from_ms
        if width_ms > 0:
            units = round(max(0, record.cpu_ms - cpu_ms) / width_ms, 4)
            points += [(record.from_ms / 1000, units), (record.to_ms / 1000, units)]
        cpu_ms, to_ms = record.cpu_ms, record.to_ms
    return points


def memory(records: Sequence[UsageView]) -> Points:
    """(seconds since the attempt's start, MiB at most so far) of one attempt."""
    ordered = sorted(records, key=lambda r: r.from_ms)
    return [(at / 1000, round(r.peak_memory_bytes / _MIB, 2)) for r in ordered for at in (r.from_ms, r.to_ms)]


def options(usage: Sequence[UsageView], labels: dict[str, str]) -> dict[str, Any]:
    """For ECharts. `labels`: of the axes `busy`, `memory`, `time`, and of a `series`, with its holes."""
    attempts: dict[tuple[str, int], list[UsageView]] = defaultdict(list)
    for record in usage:
        attempts[record.lease_id, record.epoch].append(record)
    series: list[dict[str, Any]] = []
    for (lease_id, epoch), records in list(attempts.items())[:MAX_LINES]:
        name = labels["series"].format(task=lease_id.rpartition(".")[2], attempt=epoch)
        series.append(_line(f"{name}, {labels['busy']}", busy(records), 0))
        series.append(_line(f"{name}, {labels['memory']}", memory(records), 1) | {"lineStyle": {"type": "dashed"}})
    return {
        "animation": False,
        "grid": {"left": 8, "right": 8, "top": 56, "bottom": 28, "containLabel": True},
        "legend": {"type": "scroll", "top": 0, "textStyle": {"color": _GREY}},
        "tooltip": {"trigger": "axis"},
        "textStyle": {"color": _GREY},
        "xAxis": _axis(labels["time"], "center") | {"type": "value", "nameLocation": "middle", "nameGap": 24},
        "yAxis": [_axis(labels["busy"]), _axis(labels["memory"], "right") | {"splitLine": {"show": False}}],
        "series": series,
    }


def _line(name: str, points: Points, axis: int) -> dict[str, Any]:
    data = [[x, None if y != y else y] for x, y in points]  # not a number: a gap
    return {"name": name, "type": "line", "data": data, "yAxisIndex": axis, "symbolSize": 4, "connectNulls": False}


def _axis(name: str, align: str = "left") -> dict[str, Any]:
    return {
        "name": name,
        "min": 0,
        "nameTextStyle": {"color": _GREY, "align": align},
        "axisLabel": {"color": _GREY},
        "splitLine": {"lineStyle": {"color": "rgba(128,128,128,0.25)"}},
    }
