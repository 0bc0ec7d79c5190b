"""A site's power price and carbon by the hour, as people write and read them."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from yunhe.cli.output import moment
from yunhe.core.errors import InvalidInput
from yunhe.core.hours import DAY
from yunhe.core.units import format_money
from yunhe.wire.api import SiteView

_PART = re.compile(r"(\d{1,2})-(\d{1,2}):(\d+(?:\.\d+)?)", re.ASCII)
_EXAMPLE = "for example 0-8:0.4,10-12:1.6, or flat"
_FORECASTS = ("power_forecast", "carbon_forecast")


def multiples(text: str, field: str) -> tuple[float, ...]:
    """`0-8:0.4,10-12:1.6` -> 24 multiples, 1 where nothing is said; `flat`: none. Raises InvalidInput."""
    if text.strip().lower() == "flat":
        return ()
    found = [1.0] * DAY
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None or not int(match[1]) < int(match[2]) <= DAY:
            raise InvalidInput(f"{part.strip()[:40]!r} is no span of hours with a multiple", field=field, hint=_EXAMPLE)
        for hour in range(int(match[1]), int(match[2])):
            found[hour] = float(match[3])
    return tuple(found)


def read_forecast(path: Path) -> dict[str, object]:
    """`power_forecast`, `carbon_forecast` or both, from a file. Raises InvalidInput."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot be read: {error}"[:200], field="--forecast") from error
    if not isinstance(values, dict) or not values or set(values) - set(_FORECASTS):
        raise InvalidInput(f"is no object with {' or '.join(_FORECASTS)}", field="--forecast")
    return values


def hours_pairs(site: SiteView) -> Sequence[tuple[str, str]]:
    """For `site show`: now, the best hour of the next 24, and who says so."""
    hours = site.hours
    if hours is None:
        return ()
    power = f"{format_money(hours.power_now_microcny_per_kwh)} per kWh now"
    carbon = f"{hours.carbon_now_g_per_kwh} gCO2/kWh now"
    if hours.cheapest_microcny_per_kwh < hours.power_now_microcny_per_kwh:
        power += f", {format_money(hours.cheapest_microcny_per_kwh)} at {moment(hours.cheapest_utc_ms)}"
    if hours.cleanest_g_per_kwh < hours.carbon_now_g_per_kwh:
        carbon += f", {hours.cleanest_g_per_kwh} at {moment(hours.cleanest_utc_ms)}"
    return (
        ("power by the hour", f"{power} ({hours.power_source or 'assumed flat'})"),
        ("carbon by the hour", f"{carbon} ({hours.carbon_source or 'assumed flat'})"),
    )
