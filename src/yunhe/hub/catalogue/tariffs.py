"""A site's power price and carbon by the hour, as the catalogue keeps them: multiples of its two figures, and foretold
hours.

Multiples say when power is dear or clean, not how dear or clean it is on average: that is the price that the operator
set and the factor of the facts.  So those that a provider states average to one; an operator may state any.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache, partial

from yunhe.core import units
from yunhe.core.errors import InvalidInput
from yunhe.core.hours import DAY, FLAT, HOUR_MS, UTC_OFFSET_HOURS, Forecast, Hours
from yunhe.facts.tariffs import time_of_use
from yunhe.hub.accounts.service import Principal
from yunhe.wire.api import ForecastSpec, SiteTariff

ONE = 1000
MAX_DISTANCE_MS = 14 * 86_400_000  # of a forecast's begin: all hours up to its end are laid out
_AVERAGE_PERMILLE = 10  # that a provider's multiples may be off one


@dataclass(frozen=True, slots=True)
class Tariff:
    """By the hour of the site's day in thousandths of its price or factor, 24 of them; empty: the same all day."""

    utc_offset: int = UTC_OFFSET_HOURS  # hours
    power_milli: tuple[int, ...] = ()
    carbon_milli: tuple[int, ...] = ()
    power_forecast: Forecast = Forecast()  # micro-CNY per kWh
    carbon_forecast: Forecast = Forecast()  # g per kWh
    power_source: str = ""  # who says so; empty: nobody, it is assumed to be flat
    carbon_source: str = ""

    def hours(self, power_microcny_per_kwh: int, carbon_g_per_kwh: int) -> Hours:
        """As placement sees them, for a site of these two figures."""
        power = _of_day(self.power_milli, self.power_forecast, power_microcny_per_kwh)
        carbon = _of_day(self.carbon_milli, self.carbon_forecast, carbon_g_per_kwh)
        if not power and not carbon:
            return FLAT
        return Hours(self.utc_offset, power, carbon, self.power_forecast, self.carbon_forecast)


def _of_day(milli: tuple[int, ...], forecast: Forecast, figure: int) -> tuple[int, ...]:
    """What holds where the forecast does not reach; empty where there is no series at all."""
    if forecast.values and not milli:
        return (figure,) * DAY
    return tuple(round(each * figure / ONE) for each in milli)


def of_region(region: str) -> Tariff:
    """As the shipped facts have it for a site of this region."""
    known = time_of_use().get(region)
    if known is None:
        return Tariff()
    return Tariff(power_milli=known.by_hour, power_source=f"{known.source} ({known.confidence})")


def changed(before: Tariff, stated: SiteTariff, who: Principal, now_ms: int) -> Tariff:
    """`before` with what `who` states. Raises InvalidInput for what is no figure, or not a provider's to say."""
    operator = who.role == "operator"
    said = f"stated by {'the operator' if operator else who.organisation}"
    values: dict[str, object] = {}
    if stated.utc_offset is not None:
        values["utc_offset"] = stated.utc_offset
    for name in ("power", "carbon"):
        multiples: Sequence[float] | None = getattr(stated, f"{name}_by_hour")
        if multiples is not None:
            milli = tuple(round(m * ONE) for m in multiples)
            if milli and not operator:
                _check_average(milli, f"{name}_by_hour")
            values |= {f"{name}_milli": milli, f"{name}_source": said}
        forecast: ForecastSpec | None = getattr(stated, f"{name}_forecast")
        if forecast is not None:
            if not operator:
                raise InvalidInput("is the operator's to state", field=f"{name}_forecast")
            values[f"{name}_forecast"] = _forecast(forecast, name, now_ms)
    return Tariff(**{**_fields(before), **values})  # type: ignore[arg-type]


def _check_average(milli: tuple[int, ...], field: str) -> None:
    average = sum(milli) / len(milli)
    if abs(average - ONE) > _AVERAGE_PERMILLE:
        raise InvalidInput(
            f"averages to {average / ONE:.3f}, not to 1",
            field=field,
            hint="the multiples of a provider say when, not how much: divide each by their average",
        )


def _forecast(stated: ForecastSpec, name: str, now_ms: int) -> Forecast:
    field = f"{name}_forecast"
    try:
        first = datetime.fromisoformat(stated.first)
    except ValueError as error:
        raise InvalidInput("is no ISO 8601 time", field=f"{field}.first", hint="as 2026-12-01T08:00+08:00") from error
    ms = round(first.timestamp() * 1000) if first.tzinfo is not None else 1
    if ms % HOUR_MS or ms < 0:
        raise InvalidInput("is no full hour with its zone", field=f"{field}.first", hint="as 2026-12-01T08:00+08:00")
    if stated.values and abs(ms - now_ms) > MAX_DISTANCE_MS:
        raise InvalidInput("is more than 14 days from now", field=f"{field}.first", hint="state it again nearer to it")
    parse = partial(units.parse_money, most=units.MAX_RATE_MICROCNY) if name == "power" else units.parse_carbon
    return Forecast(ms // HOUR_MS, tuple(parse(text, f"{field}.values[{i}]") for i, text in enumerate(stated.values)))


def to_text(tariff: Tariff) -> str:
    return json.dumps({name: value for name, value in _fields(tariff).items() if value != getattr(_NONE, name)})


@lru_cache(maxsize=65_536)
def from_text(text: str) -> Tariff:
    values = json.loads(text)
    for name in ("power_milli", "carbon_milli"):
        values[name] = tuple(values.get(name, ()))
    for name in ("power_forecast", "carbon_forecast"):
        first, series = values.get(name, (0, ()))
        values[name] = Forecast(first, tuple(series))
    return Tariff(**values)


_NONE = Tariff()


def _fields(tariff: Tariff) -> dict[str, object]:
    return asdict(tariff)
