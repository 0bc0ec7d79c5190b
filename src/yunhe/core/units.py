"""Quantities as people write them: the one place where they are parsed and formatted.

| quantity  | written as                               | held as                              | maximum  |
|-----------|------------------------------------------|--------------------------------------|----------|
| compute   | `20PFLOPS@bf16`, `8TOPS@int8`            | FLOP/s (OP/s for int8), a precision  | 1 ZFLOPS |
| work      | `3EFLOP@bf16`, `8EOP@int8`               | FLOP, a precision                    | 1e30     |
| bytes     | `64GiB`, `1.5TB`, `512B`                 | bytes                                | 1 EiB    |
| bandwidth | `10Gbps`                                 | bit/s                                | 1 Pbps   |
| duration  | `20ms`, `6h`, `1h30m`, `2d`              | ms                                   | 366 days |
| latency   | `20ms:shanghai`, `9ms:shanghai:one-way`  | us, a place, a kind                  | 10 s     |
| money     | `3.50CNY`                                | micro-CNY                            | 1e9 CNY  |
| rate      | `3.50CNY`, per unit hour or kWh          | micro-CNY                            | 1e4 CNY  |
| carbon    | `400g/kWh`                               | g/kWh                                | 5000     |

Numbers are exact (`Fraction`), never floats.  What is finer than the held unit is rounded up, except money, which is
refused.  Every parser raises `InvalidInput` naming `field`, what was wrong, and a hint with a correct example.
"""

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction

from yunhe.core.demand import Compute, LatencyBound, LatencyKind, Precision, Work
from yunhe.core.errors import InvalidInput

MAX_FLOPS = 10**21
MAX_FLOP = 10**30
MAX_BYTES = 2**60
MAX_BANDWIDTH_BPS = 10**15
MAX_DURATION_MS = 366 * 86_400_000
MAX_LATENCY_US = 10_000_000
MAX_MONEY_MICROCNY = 10**15
MAX_RATE_MICROCNY = 10**10  # so that what is computed with a rate fits 64 bits
MAX_CARBON_G_PER_KWH = 5_000

MICRO = 1_000_000

_PREFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18, "Z": 10**21}
_RATE_UNITS = {p + u: f for p, f in _PREFIXES.items() for u in ("FLOPS", "FLOP/s", "OPS", "OP/s")}
_WORK_UNITS = {p + u: f for p, f in _PREFIXES.items() for u in ("FLOP", "OP")}
_BYTE_UNITS = {p + "B": f for p, f in _PREFIXES.items() if p != "Z"} | {
    p + "iB": 1024**i for i, p in enumerate("KMGTPE", start=1)
}
_BIT_UNITS = {p + u: f for p, f in _PREFIXES.items() if p not in ("E", "Z") for u in ("bps", "bit/s")}
_MS_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_US_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_PRECISIONS = {p.value: p for p in Precision}

# What people write for a unit that is named otherwise here.
_MEANT = {
    "RMB": "CNY",
    "rmb": "CNY",
    "cny": "CNY",
    "yuan": "CNY",
    "元": "CNY",
    "¥": "CNY",
    "sec": "s",
    "min": "m",
    "mins": "m",
    "minutes": "m",
    "hour": "h",
    "hours": "h",
    "day": "d",
    "days": "d",
    "μs": "us",
    "µs": "us",
    "Gi": "GiB",
    "Mi": "MiB",
    "Ki": "KiB",
    "Ti": "TiB",
    "KB": "kB",
}

# What people write for a field or an option that is named otherwise here.
_OTHER_NAMES = {"cpu": "cores", "cpus": "cores", "gpu": "cards", "gpus": "cards", "mem": "memory", "ram": "memory"}

_NUMBER = re.compile(r"([+-]?)(\d{1,30}(?:\.\d{1,30})?)\s*", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?\s*\.?(nan|inf)", re.IGNORECASE)
_EXPONENT = re.compile(r"[eE][+-]?\d", re.ASCII)
_SHOWN_CHARS = 40


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "...")


def _refuse(message: str, field: str, example: str) -> InvalidInput:
    return InvalidInput(message, field=field, hint=f"for example {example}")


def other_name(name: str, known: Collection[str]) -> str | None:
    """What a size that people call `cpu`, `gpu` or `ram` is called here, where that is one of `known`."""
    other = _OTHER_NAMES.get(name.lower())
    return other if other in known else None


def close_match(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The one of `known` that `name` was most likely meant to be, compared without case; None when none is as near as
    `likeness` (1: the same letters, as `difflib` counts)."""
    by_lower = {k.lower(): k for k in known}
    other = other_name(name, by_lower.values())
    if other is not None:
        return other
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=likeness)
    return by_lower[found[0]] if found else None


def meant(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown `name`: the near one of `known`, or all of them in their order."""
    names = list(known)
    near = close_match(name, names)
    return f"did you mean {near!r}?" if near else f"known are {', '.join(names)}"


def _take_number(text: str, field: str, example: str) -> tuple[Fraction, str]:
    """Split `text` into its leading number and the rest."""
    text = text.strip()
    if not text:
        raise _refuse("is empty", field, example)
    if _NOT_FINITE.match(text):
        raise _refuse(f"{_shown(text)} is not a finite number", field, example)
    found = _NUMBER.match(text)
    if not found:
        raise _refuse(f"{_shown(text)} does not begin with a plain number", field, example)
    sign, digits = found.groups()
    rest = text[found.end() :]
    if sign == "-":
        raise _refuse(f"{_shown(text)} is negative", field, example)
    if _EXPONENT.match(rest):
        raise _refuse(f"{_shown(text)} has an exponent; use a unit prefix instead", field, example)
    if rest[:1] in (",", "_", "."):
        raise _refuse(f"{_shown(text)} is not a plain number; leave out separators", field, example)
    return Fraction(digits), rest


def _unit_factor(unit: str, units: Mapping[str, int], field: str, example: str) -> int:
    factor = units.get(unit)
    if factor is not None:
        return factor
    if not unit:
        raise _refuse("has no unit", field, example)
    named = _MEANT.get(unit)
    longer = next((known for known in units if known.startswith(unit)), None)  # "20P" is 20PFLOPS
    near = named if named in units else longer or close_match(unit, units)
    suggestion = f"; did you mean {near!r}?" if near else ""
    raise _refuse(f"unknown unit {_shown(unit)}{suggestion}", field, example)


def _bounded(value: int, maximum: int, said: str, field: str, *, zero_ok: bool, example: str) -> int:
    if value == 0 and not zero_ok:
        raise _refuse("must be more than zero", field, example)
    if value > maximum:
        raise _refuse(f"is more than the maximum of {said}", field, example)
    return value


def _scaled(text: str, units: Mapping[str, int], field: str, example: str) -> int:
    number, unit = _take_number(text, field, example)
    return math.ceil(number * _unit_factor(unit, units, field, example))


# --- compute and work -------------------------------------------------------------------------------------------


def _split_precision(text: str, field: str, what: str, example: str) -> tuple[str, Precision]:
    if _NOT_FINITE.match(text.strip()):
        raise _refuse(f"{_shown(text)} is not a finite number", field, example)
    amount, at, name = text.strip().partition("@")
    if not at or not name.strip():
        written = f"{amount.strip()}@bf16" if _NUMBER.match(amount.strip()) else example
        raise InvalidInput(
            f"{what} needs a precision: write {written[:60]}", field=field, hint=f"for example {example}"
        )
    name = name.strip().lower()
    if name not in _PRECISIONS:
        raise InvalidInput(f"unknown precision {_shown(name)}", field=field, hint=meant(name, _PRECISIONS))
    return amount, _PRECISIONS[name]


def _check_operations(unit: str, precision: Precision, field: str, example: str) -> None:
    if "FLOP" not in unit and "OP" in unit and precision is not Precision.INT8:
        raise _refuse(f"OP counts int8 operations; {precision.value} is counted in FLOP", field, example)


def parse_compute(text: str, field: str = "compute") -> Compute:
    """`20PFLOPS@bf16` -> 20e15 FLOP/s at BF16. `TOPS@int8` counts integer operations."""
    example = "20PFLOPS@bf16"
    amount, precision = _split_precision(text, field, "compute", example)
    number, unit = _take_number(amount, field, example)
    if unit in _WORK_UNITS:
        raise _refuse(f"{unit} is an amount of work, not a rate: write {unit}S, or use `work`", field, example)
    factor = _unit_factor(unit, _RATE_UNITS, field, example)
    _check_operations(unit, precision, field, example)
    flops = _bounded(math.ceil(number * factor), MAX_FLOPS, "1ZFLOPS", field, zero_ok=False, example=example)
    return Compute(flops, precision)


def parse_work(text: str, field: str = "work") -> Work:
    """`3EFLOP@bf16` -> 3e18 FLOP at BF16: an amount, not a rate."""
    example = "3EFLOP@bf16"
    amount, precision = _split_precision(text, field, "work", example)
    number, unit = _take_number(amount, field, example)
    if unit in _RATE_UNITS:
        whole = unit.removesuffix("/s").removesuffix("S")
        raise _refuse(f"{unit} is a rate, not an amount: write {whole}, or use `compute`", field, example)
    factor = _unit_factor(unit, _WORK_UNITS, field, example)
    _check_operations(unit, precision, field, example)
    flop = math.ceil(number * factor)
    return Work(_bounded(flop, MAX_FLOP, "1000000000ZFLOP", field, zero_ok=False, example=example), precision)


# --- bytes, bandwidth, time, money, carbon ------------------------------------------------------------------------


def parse_bytes(text: str, field: str = "size", *, zero_ok: bool = False) -> int:
    """`64GiB` (1024-based) or `64GB` (1000-based) -> bytes."""
    number, unit = _take_number(text, field, "64GiB")
    if unit.endswith("b") and unit[:-1] + "B" in _BYTE_UNITS:
        raise _refuse(f"{unit!r} is bits; did you mean {unit[:-1]}B?", field, "64GiB")
    value = math.ceil(number * _unit_factor(unit, _BYTE_UNITS, field, "64GiB"))
    return _bounded(value, MAX_BYTES, "1EiB", field, zero_ok=zero_ok, example="64GiB")


def parse_bandwidth(text: str, field: str = "bandwidth") -> int:
    """`10Gbps` -> bit/s."""
    number, unit = _take_number(text, field, "10Gbps")
    if unit.endswith(("B/s", "Bps")):
        raise _refuse(f"{unit!r} is bytes; bandwidth is in bits: multiply by 8", field, "10Gbps")
    value = math.ceil(number * _unit_factor(unit, _BIT_UNITS, field, "10Gbps"))
    return _bounded(value, MAX_BANDWIDTH_BPS, "1Pbps", field, zero_ok=False, example="10Gbps")


def parse_duration(text: str, field: str = "duration") -> int:
    """`6h`, `1h30m`, `2d`, `20ms` -> ms. Parts go from large to small, each unit once."""
    example = "1h30m"
    rest, total, last = text.strip(), Fraction(0), math.inf
    parts = 0
    while rest or not parts:
        number, rest = _take_number(rest, field, example)
        unit = re.match(r"[^\d\s.+-]*", rest, re.ASCII)
        name = unit.group() if unit else ""
        factor = _unit_factor(name, _MS_UNITS, field, example)
        if factor >= last:
            raise _refuse(f"{_shown(text)} has its units out of order or twice", field, example)
        total, last, rest = total + number * factor, factor, rest[len(name) :].strip()
        parts += 1
    value = math.ceil(total)
    return _bounded(value, MAX_DURATION_MS, "366d", field, zero_ok=False, example=example)


def parse_duration_us(text: str, field: str = "latency") -> int:
    """A latency: `20ms`, `500us`, `1s` -> microseconds."""
    value = _scaled(text, _US_UNITS, field, "20ms")
    return _bounded(value, MAX_LATENCY_US, "10s", field, zero_ok=False, example="20ms")


def parse_latency(text: str, field: str = "latency") -> LatencyBound:
    """`20ms:shanghai` (round trip), `20ms:shanghai:rtt` or `9ms:shanghai:one-way`. The place is not checked here."""
    example = "20ms:shanghai, or 9ms:shanghai:one-way"
    limit, *rest = text.strip().split(":")
    if len(rest) not in (1, 2) or not rest[0].strip():
        raise _refuse(f"{_shown(text)} does not name a place", field, example)
    kinds = {"rtt": LatencyKind.RTT, "one-way": LatencyKind.ONE_WAY, "one_way": LatencyKind.ONE_WAY}
    kind = kinds.get(rest[1].strip().lower()) if len(rest) == 2 else LatencyKind.RTT
    if kind is None:
        raise _refuse(f"unknown kind of latency {_shown(rest[1])}: it is rtt or one-way", field, example)
    return LatencyBound(place_id(rest[0]), parse_duration_us(limit, field), kind)


def place_id(name: str) -> str:
    """The id under which a place may be known: lower case, without spaces around it."""
    return name.strip().lower()


def parse_money(text: str, field: str = "amount", *, zero_ok: bool = True, most: int = MAX_MONEY_MICROCNY) -> int:
    """`3.50CNY` -> 3_500_000 micro-CNY, exactly; more than 6 decimals are refused."""
    example = "3.50CNY"
    if text.strip()[:1] in ("¥", "￥"):
        raise _refuse("the currency goes behind the number, as CNY", field, example)
    number, unit = _take_number(text, field, example)
    micro = number * _unit_factor(unit, {"CNY": MICRO}, field, example)
    if micro.denominator != 1:
        raise _refuse(f"{_shown(text)} has more than 6 decimals", field, example)
    return _bounded(int(micro), most, f"{most // MICRO}CNY", field, zero_ok=zero_ok, example=example)


def parse_carbon(text: str, field: str = "max_carbon") -> int:
    """`400g/kWh` or `0.4kg/kWh` -> whole g/kWh of the grid."""
    value = _scaled(text, {"g/kWh": 1, "kg/kWh": 1000}, field, "400g/kWh")
    return _bounded(value, MAX_CARBON_G_PER_KWH, "5000g/kWh", field, zero_ok=True, example="400g/kWh")


# --- for people: with `digits` None the text is exact and parses back to the same value ---------------------------


def _decimal(value: Fraction, digits: int | None) -> str:
    """A fraction whose denominator divides a power of ten, or one rounded to `digits` decimals, as plain text."""
    if digits is None:
        scale = 0
        while (value * 10**scale).denominator != 1:
            scale += 1
    else:
        scale = digits
    shifted = round(value * 10**scale)
    sign, shifted = ("-" if shifted < 0 else ""), abs(shifted)
    whole, part = divmod(shifted, 10**scale)
    decimals = f"{part:0{scale}d}".rstrip("0") if scale else ""
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def _largest(value: int, units: Mapping[str, int], digits: int | None) -> str:
    """`value` in the largest of `units` (name -> factor) that is not above it."""
    name, factor = min(units.items(), key=lambda u: u[1])
    for candidate, size in units.items():
        if factor < size <= abs(value):
            name, factor = candidate, size
    return _decimal(Fraction(value, factor), digits) + name


def format_flops(flops: int, precision: Precision, digits: int | None = None) -> str:
    unit = "OPS" if precision is Precision.INT8 else "FLOPS"
    amount = _largest(flops, {p + unit: f for p, f in _PREFIXES.items()}, digits)
    return f"{amount}@{precision.value}"


def format_compute(compute: Compute, digits: int | None = None) -> str:
    return format_flops(compute.flops, compute.precision, digits)


def format_work(work: Work, digits: int | None = None) -> str:
    unit = "OP" if work.precision is Precision.INT8 else "FLOP"
    return f"{_largest(work.flop, {p + unit: f for p, f in _PREFIXES.items()}, digits)}@{work.precision.value}"


def format_bytes(count: int, digits: int | None = None) -> str:
    """In 1024-based units. Exact text drops to a smaller unit when it would need more than 3 decimals."""
    units = {"B": 1} | {p + "iB": 1024**i for i, p in enumerate("KMGTPE", start=1)}
    if digits is None:
        units = {u: f for u, f in units.items() if (Fraction(count, f) * 1000).denominator == 1}
    return _largest(count, units, digits)


def format_bandwidth(bps: int, digits: int | None = None) -> str:
    return _largest(bps, {p + "bps": f for p, f in _PREFIXES.items() if p not in ("E", "Z")}, digits)


def format_duration(ms: int) -> str:
    """`5400000` -> `1h30m`; exact."""
    parts, rest = [], ms
    for name, factor in _MS_UNITS.items():
        count, rest = divmod(rest, factor)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"


def format_span(ms: int) -> str:
    """A length of time as one reads it, rounded: `217 ms`, `1.05 s`, `12.3 s`, `1h5m10s`."""
    if ms < 1_000:
        return f"{ms} ms"
    if ms < 59_950:
        text = f"{ms / 1000:.2f}" if ms < 9_995 else f"{ms / 1000:.1f}"
        return (text[:-1] if text.endswith("0") and ms < 9_995 else text) + " s"
    return format_duration((ms + 500) // 1_000 * 1_000)


def format_latency(us: int, digits: int | None = None) -> str:
    """In ms; below 1 ms in us."""
    return _largest(us, {"us": 1, "ms": 1_000}, digits)


def format_money(microcny: int) -> str:
    """`3500000` -> `3.50CNY`; at least two decimals, exact, negative with a leading minus."""
    sign, whole = ("-" if microcny < 0 else ""), abs(microcny)
    decimals = f"{whole % MICRO:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole // MICRO}.{decimals}CNY"


def format_carbon(g_per_kwh: int) -> str:
    return f"{g_per_kwh}g/kWh"


def format_carbon_mass(mg: int, digits: int | None = 2) -> str:
    """Milligrams of CO2 as mg, g, kg or t."""
    return _largest(mg, {"mg": 1, "g": 10**3, "kg": 10**6, "t": 10**9}, digits)


def format_energy(mwh: int, digits: int | None = 2) -> str:
    """Milliwatt-hours as mWh, Wh, kWh or MWh."""
    return _largest(mwh, {"mWh": 1, "Wh": 10**3, "kWh": 10**6, "MWh": 10**9}, digits)


def format_milli(milli: int) -> str:
    """Thousandths of a core or a card as a plain number: `1500` -> `1.5`."""
    return _decimal(Fraction(milli, 1000), None)
