"""Power price and carbon of a site by the hour: of the day, and of dated hours that somebody foretold.

An hour is a full hour of UTC (`ms // HOUR_MS`), so that all series of a network change at one moment.  A site's hours
of the day are those of its own time zone, a whole number of hours from UTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

HOUR_MS = 3_600_000
DAY = 24
UTC_OFFSET_HOURS = 8  # all of China
MAX_FORECAST = 168  # hours


class Forecast(NamedTuple):
    """Values of dated hours: that of hour `first + i` (hours since 1970, UTC) is `values[i]`."""

    first: int = 0
    values: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Hours:
    """What a site's two figures are in which hour. An empty series: always as the site says now; a forecast comes with
    a day that holds beyond it."""

    utc_offset: int = UTC_OFFSET_HOURS  # of the site's clock, hours
    power: tuple[int, ...] = ()  # micro-CNY per kWh by the hour of the site's day, 24 of them
    carbon: tuple[int, ...] = ()  # g per kWh, likewise
    power_forecast: Forecast = Forecast()  # goes before `power` where it reaches
    carbon_forecast: Forecast = Forecast()

    def power_at(self, hour: int, now: int) -> int:
        """Of an hour since 1970; `now`: what it is where nothing else is known."""
        return _at(hour, self.utc_offset, self.power, self.power_forecast, now)

    def carbon_at(self, hour: int, now: int) -> int:
        return _at(hour, self.utc_offset, self.carbon, self.carbon_forecast, now)

    def power_from(self, hour: int) -> tuple[int, ...]:
        """Of this hour and those after it: as far as is foretold and a day more, which repeats. Empty: flat."""
        return _from(hour, self.utc_offset, self.power, self.power_forecast)

    def carbon_from(self, hour: int) -> tuple[int, ...]:
        return _from(hour, self.utc_offset, self.carbon, self.carbon_forecast)


FLAT = Hours()


def _at(hour: int, utc_offset: int, of_day: tuple[int, ...], forecast: Forecast, now: int) -> int:
    if 0 <= hour - forecast.first < len(forecast.values):
        return forecast.values[hour - forecast.first]
    return of_day[(hour + utc_offset) % DAY] if of_day else now


def _from(hour: int, utc_offset: int, of_day: tuple[int, ...], forecast: Forecast) -> tuple[int, ...]:
    if not of_day:
        return ()
    end = max(hour, forecast.first + len(forecast.values)) + DAY
    return tuple([_at(each, utc_offset, of_day, forecast, 0) for each in range(hour, end)])


def whole(values: Sequence[int], placed_ms: int, length_ms: int) -> int:
    """Sum of value x ms over `length_ms` from `placed_ms` on; `values[0]` is of the hour of `placed_ms`.

    Beyond the last value the last day repeats (or all of them, where they are less than a day).
    """
    total, at, left, i = 0, placed_ms, length_ms, 0
    cycle = min(DAY, len(values))
    while left > 0:
        passed = min(left, HOUR_MS - at % HOUR_MS)
        total += values[i] * passed
        at, left, i = at + passed, left - passed, i + 1
        if i == len(values):
            i -= cycle
    return total
