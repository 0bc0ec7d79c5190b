"""What power costs by the hour of the day where a tariff by time of use is published: multiples of the flat price."""

import re
from dataclasses import dataclass
from functools import lru_cache

from yunhe.core.hours import DAY
from yunhe.facts.load import table

_PERIOD = re.compile(r"(\d{1,2})-(\d{1,2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class TimeOfUse:
    """`by_hour`: thousandths of the flat price for each hour of the local day, 0 h first.

    A surcharge of some days of the year (`tip` in the table) has no part in it.
    """

    region: str
    by_hour: tuple[int, ...]
    source: str
    confidence: str


@lru_cache(maxsize=1)
def time_of_use() -> dict[str, TimeOfUse]:
    """By region (the names of the facts). Rows of the table that state no hours say nothing here."""
    found = {}
    for row in table("tariffs"):
        if row["kind"] != "time_of_use":
            continue
        by_hour = [_milli(row["flat_mult"])] * DAY
        for period in ("peak", "valley"):
            for hour in _hours(str(row[f"{period}_hours"] or "")):
                by_hour[hour] = _milli(row[f"{period}_mult"])
        region = str(row["region"])
        found[region] = TimeOfUse(region, tuple(by_hour), str(row["source"]), str(row["confidence"]))
    return found


def _hours(text: str) -> list[int]:
    """`10-12;14-19`: the hours 10, 11, 14 to 18."""
    return [hour for first, end in _PERIOD.findall(text) for hour in range(int(first), int(end))]


def _milli(cell: object) -> int:
    return round(float(str(cell)) * 1000)
