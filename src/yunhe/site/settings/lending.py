"""What a centre lends of what it has, and when: the table `[lend]` of site.toml. Read again while the agent runs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"(?:([A-Za-z,\-]+)\s+)?(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)
_SHARE = re.compile(r"([a-z0-9][a-z0-9-]{0,23})=(\d{1,3})%?", re.ASCII)
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """`days` on which it opens (0: Monday), from minute `start` to minute `end` of the day, or of the next day."""

    days: frozenset[int]
    start: int
    end: int

    def holds(self, at: datetime) -> bool:
        """Whether it is open at this local time."""
        day, minute = at.weekday(), at.hour * 60 + at.minute
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        yesterday = (day - 1) % len(DAYS)
        return (day in self.days and minute >= self.start) or (yesterday in self.days and minute < self.end)


def parse_window(text: str) -> Window:
    """ "20:00-07:00", "Mon-Fri 20:00-07:00", "Sat,Sun 00:00-24:00". Raises ValueError."""
    found = _WINDOW.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text[:40]!r} is not like 20:00-07:00 or Mon-Fri 20:00-07:00")
    start, end = (int(found[i]) * 60 + int(found[i + 1]) for i in (2, 4))
    if start >= _DAY_MINUTES or end > _DAY_MINUTES or int(found[3]) > 59 or int(found[5]) > 59:
        raise ValueError(f"{text[:40]!r} has a time that no clock shows")
    if start == end:
        raise ValueError(f"{text[:40]!r} is empty; a whole day is 00:00-24:00")
    return Window(frozenset(_days(found[1])), start, end)


def _days(text: str | None) -> Iterator[int]:
    if text is None:
        yield from range(len(DAYS))
        return
    for part in text.lower().split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"{part[:20]!r} is not a day or days like mon or mon-fri")
        day = DAYS.index(first)
        yield day
        while DAYS[day] != (last or first):
            day = (day + 1) % len(DAYS)
            yield day


class LendSettings(BaseModel):
    """All of everything, always, without these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Of every pool: what the network's orders may hold at most, in percent of what was certified.
    share_percent: int = Field(default=100, ge=0, le=100)
    # "POOL=PERCENT" where a pool has another share.
    pool_shares: tuple[str, ...] = ()
    # When anything is lent; empty: always. Local time of `zone`, else of this host.
    hours: tuple[str, ...] = Field(default=(), max_length=50)
    zone: str | None = Field(default=None, max_length=60)
    # A longer run limit is not placed here: such a job would only be stopped. None: any.
    longest_ms: int | None = Field(default=None, ge=1_000)
    # From when the engine shows that local users need units to when they are free. Long enough to write a checkpoint
    # of some GB to a disk; short for somebody who waits.
    give_back_ms: int = Field(default=30_000, ge=0, le=3_600_000)

    @property
    def notice_ms(self) -> int:
        """From the signal to the job to its end; the rest of the time is for stopping it."""
        return self.give_back_ms * 9 // 10

    @field_validator("hours")
    @classmethod
    def _windows(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            parse_window(text)
        return texts

    @field_validator("pool_shares")
    @classmethod
    def _shares(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            found = _SHARE.fullmatch(text)
            if found is None or int(found[2]) > 100:
                raise ValueError(f"{text[:40]!r} is not like cpu=50")
        return texts

    @field_validator("zone")
    @classmethod
    def _zone(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                ZoneInfo(text)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError(f"{text[:40]!r} is not a time zone that this host knows, like Asia/Shanghai") from None
        return text

    def share_of(self, pool: str) -> int:
        """Percent."""
        for text in self.pool_shares:
            name, _, percent = text.partition("=")
            if name == pool:
                return int(percent.rstrip("%"))
        return self.share_percent

    def open_at(self, utc_ms: int) -> bool:
        """Whether anything is lent at this moment."""
        if not self.hours:
            return True
        zone: tzinfo | None = ZoneInfo(self.zone) if self.zone else None
        local = datetime.fromtimestamp(utc_ms / 1000, zone) if zone else datetime.fromtimestamp(utc_ms / 1000)
        return any(parse_window(text).holds(local) for text in self.hours)
