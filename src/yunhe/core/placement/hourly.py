"""Power prices and carbon of pools by the hour, for looks at what a run will cost that crosses hours.

The mean over a run weights each hour by the share of the run that it is expected to hold.  Of a run whose length is
known these are equal shares; of one of which only a limit or a mean m is known the length counts as exponential, as in
`placement.timing`: the hour from t to t + 1 counts exp(-t/m) - exp(-(t + 1)/m).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from yunhe.core.hours import DAY, HOUR_MS, Forecast
from yunhe.core.placement.columns import Bools, Floats, Ints
from yunhe.core.supply import Site

_MOST_TABLES = 4 * DAY


class _Series(NamedTuple):
    """One figure of the sites whose hours vary, a row for each."""

    of_day: Floats  # by the hour of the site's day
    forecasts: tuple[tuple[int, Forecast], ...]  # (row, what is foretold)


class _Table(NamedTuple):
    """Hours from one on; the last day of them repeats."""

    values: Floats
    sums: Floats  # of the hours before each, and of all


class Hourly:
    """Of the sites of one network. Arrays of pools have one element per pool; positions are those of the board."""

    def __init__(self, sites: Sequence[Site], site_index: Ints, power: Floats, carbon: Floats) -> None:
        """`power`, `carbon`: of each pool now."""
        vary = [i for i, site in enumerate(sites) if site.hours.power or site.hours.carbon]
        self.flat = not vary  # nothing changes with the hour anywhere
        self._now = {"power": power, "carbon": carbon}
        self.least_power = self.most_power = power
        self.least_carbon = carbon
        if self.flat:
            return
        some = [sites[i] for i in vary]
        row = np.full(len(sites), -1, dtype=np.int64)
        row[vary] = np.arange(len(vary))
        self._row = row[site_index]
        self._offset = np.array([site.hours.utc_offset for site in some], dtype=np.int64)[:, None]
        prices = [site.hours.power or (site.power_price_microcny_per_kwh,) * DAY for site in some]
        factors = [site.hours.carbon or (site.carbon_g_per_kwh,) * DAY for site in some]
        self._series = {
            "power": _series(prices, [site.hours.power_forecast for site in some]),
            "carbon": _series(factors, [site.hours.carbon_forecast for site in some]),
        }
        self._tables: dict[tuple[str, int], _Table] = {}
        self.least_power, self.most_power = self._extremes("power", power)
        self.least_carbon = self._extremes("carbon", carbon)[0]

    def varies(self, pools: Ints) -> Bools:
        if self.flat:
            return np.zeros(len(pools), dtype=bool)
        found: Bools = self._row[pools] >= 0
        return found

    def at(self, what: str, pools: Ints, at_ms: int) -> Floats:
        """`what`, "power" or "carbon", in the hour of `at_ms`."""
        found, at = self._now[what][pools], np.flatnonzero(self.varies(pools))
        if len(at):
            found[at] = self._table(what, at_ms // HOUR_MS).values[self._row[pools[at]], 0]
        return found

    def means(self, what: str, pools: Ints, start_ms: int, run_ms: Ints, *, known: bool) -> Floats:
        """Of `what`, over runs that start at `start_ms`. `known`: they take `run_ms`; else that is their mean."""
        found, at = self._now[what][pools], np.flatnonzero(self.varies(pools))
        if not len(at):
            return found
        rows, hour = self._row[pools[at]], start_ms // HOUR_MS
        table, begin = self._table(what, hour), start_ms / HOUR_MS - hour
        length = np.maximum(run_ms[at], 1) / HOUR_MS
        found[at] = _over(table, rows, begin, length) if known else _expected(table, rows, begin, length)
        return found

    def _table(self, what: str, hour: int) -> _Table:
        table = self._tables.get((what, hour))
        if table is None:
            if len(self._tables) >= _MOST_TABLES:
                self._tables.clear()
            series = self._series[what]
            ahead = max([f.first + len(f.values) - hour for _, f in series.forecasts], default=0)
            of_day = (hour + self._offset + np.arange(max(0, ahead) + DAY)) % DAY
            values = np.take_along_axis(series.of_day, of_day, axis=1)
            for row, forecast in series.forecasts:
                told = forecast.values[max(0, hour - forecast.first) :]
                first = max(0, forecast.first - hour)
                values[row, first : first + len(told)] = told
            sums = np.concatenate((np.zeros((len(values), 1)), np.cumsum(values, axis=1)), axis=1)
            table = self._tables[what, hour] = _Table(values, sums)
        return table

    def _extremes(self, what: str, now: Floats) -> tuple[Floats, Floats]:
        """(least, most) of each pool, whatever the hour."""
        series, at = self._series[what], np.flatnonzero(self._row >= 0)
        least, most = series.of_day.min(axis=1), series.of_day.max(axis=1)
        for row, forecast in series.forecasts:
            least[row], most[row] = min(least[row], *forecast.values), max(most[row], *forecast.values)
        found = now.copy(), now.copy()
        found[0][at], found[1][at] = least[self._row[at]], most[self._row[at]]
        return found


def _series(of_day: list[tuple[int, ...]], forecasts: list[Forecast]) -> _Series:
    told = tuple((row, forecast) for row, forecast in enumerate(forecasts) if forecast.values)
    return _Series(np.array(of_day, dtype=np.float64), told)


def _over(table: _Table, rows: Ints, begin: float, length: Floats) -> Floats:
    """Means over [begin, begin + length], in hours of the table."""
    first = table.values[rows, 0] * begin
    means: Floats = (_until(table, rows, begin + length) - first) / length
    return means


def _until(table: _Table, rows: Ints, at: Floats) -> Floats:
    width = table.values.shape[1]
    days = np.maximum(0, np.ceil((at - width) / DAY))
    hours = at - days * DAY
    whole = np.minimum(hours.astype(np.int64), width - 1)
    part = table.sums[rows, whole] + table.values[rows, whole] * (hours - whole)
    found: Floats = part + days * (table.sums[rows, width] - table.sums[rows, width - DAY])
    return found


def _expected(table: _Table, rows: Ints, begin: float, mean: Floats) -> Floats:
    """Means under exponential lengths; the runs begin within the first hour."""
    width = table.values.shape[1]
    found = np.empty(len(rows))
    edges = np.maximum(np.arange(width + 1) - begin, 0)
    for each in np.unique(mean).tolist():
        at = np.flatnonzero(mean == each)
        left = np.exp(-edges / each)
        weights = -np.diff(left)
        last = np.exp(-np.arange(DAY) / each)
        weights[-DAY:] += left[-1] * last / last.sum()  # what lies beyond is like the last day
        found[at] = (table.values @ weights)[rows[at]]
    return found
