"""Times as the viewer's own clock has them, with the distance from UTC beside them."""

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

NONE = "–"
ZONE_COOKIE = "yunhe_zone"  # set by static/console.js
MAX_ZONE_CHARS = 60


def zone_of(name: str | None) -> tzinfo:
    """By its IANA name (`Asia/Shanghai`); UTC for one that this machine does not know."""
    try:
        return ZoneInfo((name or "UTC")[:MAX_ZONE_CHARS].replace("%2F", "/"))
    except (ValueError, OSError, KeyError):
        return UTC


def moment(utc_ms: int | None, zone: tzinfo) -> str:
    """`2026-11-22 20:55:01 +08:00`; a dash for None."""
    if utc_ms is None:
        return NONE
    at = datetime.fromtimestamp(utc_ms / 1000, UTC).astimezone(zone)
    away = at.strftime("%z")
    return f"{at:%Y-%m-%d %H:%M:%S} {away[:3]}:{away[3:5]}"
