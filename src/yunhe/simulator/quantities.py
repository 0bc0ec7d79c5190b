"""Quantities of a scenario as people write them, as types that pydantic checks. `core.units` reads them.

A number without its unit is refused: `5h`, not `5`.
"""

import math
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator

from yunhe.core import units
from yunhe.core.demand import Compute, Precision, Work
from yunhe.core.errors import InvalidInput

Value = TypeVar("Value")

_SPAN_MS = {"h": 3_600_000, "d": 86_400_000, "y": 365 * 86_400_000}
_SPAN = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([hdy])", re.ASCII)
_PERCENT = re.compile(r"(\d{1,6}(?:\.\d{1,4})?)\s*%", re.ASCII)
_WATTS = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*(W|kW)", re.ASCII)
_BPS_OF_ONE = 10_000
MAX_SPAN_MS = 10_000 * _SPAN_MS["y"]


def _read(parse: Callable[[str], object], example: str) -> BeforeValidator:
    """Text goes through `parse`; what comes back passes as it is (a scenario that is checked twice)."""

    def read(value: Any) -> Any:
        if isinstance(value, bool | int | float) or value is None:
            raise ValueError(f"needs a unit: write it as text, for example {example}")
        if not isinstance(value, str):
            raise ValueError(f"must be text with its unit, for example {example}")
        try:
            return parse(value)
        except InvalidInput as error:
            raise ValueError(f"{error.message}; {error.hint}" if error.hint else error.message) from error

    return BeforeValidator(read)


def _matched(pattern: re.Pattern[str], text: str, example: str) -> re.Match[str]:
    found = pattern.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(f"{text[:40]!r} is not a number with its unit", hint=f"for example {example}")
    return found


def _span(text: str) -> int:
    number, unit = _matched(_SPAN, text, "50000h").groups()
    value = math.ceil(Fraction(number) * _SPAN_MS[unit])
    if not 0 < value <= MAX_SPAN_MS:
        raise InvalidInput("must be more than zero and at most 10000y", hint="for example 30d")
    return value


def _basis_points(text: str) -> int:
    return math.ceil(Fraction(_matched(_PERCENT, text, "5%").group(1)) * _BPS_OF_ONE / 100)


def _watts(text: str) -> int:
    number, unit = _matched(_WATTS, text, "400W").groups()
    return math.ceil(Fraction(number) * (1000 if unit == "kW" else 1))


def _per(unit: str) -> Callable[[str], int]:
    """Micro-CNY per `unit`, from `0.45CNY/kWh`."""

    def parse(text: str) -> int:
        amount, slash, name = text.strip().partition("/")
        if not slash or name.strip() != unit:
            raise InvalidInput(f"{text[:40]!r} is not a price per {unit}", hint=f"for example 0.45CNY/{unit}")
        return units.parse_money(amount)

    return parse


def _moment(text: str) -> int:
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidInput(
            f"{text[:40]!r} is not a date and time", hint="for example 2026-01-05T00:00+08:00"
        ) from error
    if at.tzinfo is None:
        raise InvalidInput("has no offset from UTC", hint="for example 2026-01-05T00:00+08:00")
    if at.timestamp() < 0:
        raise InvalidInput("is before 1970", hint="for example 2026-01-05T00:00+08:00")
    return round(at.timestamp() * 1000)


def _milli(value: Any) -> int:
    """A plain number such as a PUE of 1.25, in thousandths."""
    try:
        number = Decimal(str(value))
    except InvalidOperation as error:
        raise ValueError("must be a plain number, for example 1.25") from error
    if isinstance(value, bool) or not number.is_finite() or not 1 <= number <= 10:
        raise ValueError("must be a number from 1 to 10, for example 1.25")
    return math.ceil(number * 1000)


def _zero_or(parse: Callable[[str], int]) -> Callable[[str], int]:
    """`0s` is a duration too where nothing has to pass."""
    return lambda text: 0 if text.strip() in ("0s", "0ms", "0m", "0h") else parse(text)


DurationMs = Annotated[int, _read(units.parse_duration, "6h")]
DelayMs = Annotated[int, _read(_zero_or(units.parse_duration), "2s")]
DelayUs = Annotated[int, _read(units.parse_duration_us, "20ms")]
SpanMs = Annotated[int, _read(_span, "50000h")]
SizeBytes = Annotated[int, _read(units.parse_bytes, "64GiB")]
BandwidthBps = Annotated[int, _read(units.parse_bandwidth, "10Gbps")]
Money = Annotated[int, _read(units.parse_money, "1000CNY")]
PerHour = Annotated[int, _read(_per("h"), "8.50CNY/h")]
PerKwh = Annotated[int, _read(_per("kWh"), "0.45CNY/kWh")]
PerGib = Annotated[int, _read(_per("GiB"), "0.02CNY/GiB")]
Carbon = Annotated[int, _read(units.parse_carbon, "400g/kWh")]
Speed = Annotated[Compute, _read(units.parse_compute, "200TFLOPS@bf16")]
Amount = Annotated[Work, _read(units.parse_work, "140GFLOP@bf16")]
BasisPoints = Annotated[int, _read(_basis_points, "5%")]
Watts = Annotated[int, _read(_watts, "400W")]
Moment = Annotated[int, _read(_moment, "2026-01-05T00:00+08:00")]
Pue = Annotated[int, BeforeValidator(_milli)]
PrecisionName = Precision
