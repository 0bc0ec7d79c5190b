"""Rounds as lines of JSON: everything that a round decided on, and what it decided. Canonical: equal rounds are equal
bytes.

A hub can record its rounds, and the simulator decides them again (`yunhe sim replay`).  The values of the core say by
their types how they are written, so a field that is added to them is recorded too.
"""

import dataclasses
import json
import types
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache, partial
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np
import orjson

from yunhe.core.demand import Shape
from yunhe.core.errors import InvalidInput
from yunhe.core.policy import Policy
from yunhe.core.round import Plan, Snapshot
from yunhe.core.supply import Supply

FORMAT = 1


class RecordedRound(NamedTuple):
    snapshot: Snapshot
    policy: Policy
    now_ms: int
    seed: int
    plan: Plan


def to_line(recorded: RecordedRound) -> bytes:
    """One line, with its end."""
    values = {"format": FORMAT, **{name: written(value) for name, value in recorded._asdict().items()}}
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def from_line(line: bytes) -> RecordedRound:
    """Raises InvalidInput for what is no round of this format."""
    try:
        values = json.loads(line)
    except ValueError as error:
        raise InvalidInput("is no JSON", field="round") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise InvalidInput(f"is no recorded round of format {FORMAT}", field="round")
    try:
        hints = _hints(RecordedRound)
        return RecordedRound(**{name: read(hints[name], value) for name, value in values.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"is no whole round: {error!r}"[:200], field="round") from error


# --- in two parts -------------------------------------------------------------------------------------------------


_MOVING = ("free", "bookings", "leases")  # of a supply
STAYING = tuple(each.name for each in dataclasses.fields(Supply) if each.name not in _MOVING)
_ORJSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_SORT_KEYS


class ShapeTexts:
    """Shapes as they are written. Orders that wait bring the same ones to each round: they are written once."""

    def __init__(self, most: int = 50_000) -> None:
        self._most = most
        self._texts: dict[int, tuple[Shape, orjson.Fragment]] = {}

    def of(self, shape: Shape) -> orjson.Fragment:
        known = self._texts.get(id(shape))
        if known is None or known[0] is not shape:
            if len(self._texts) >= self._most:
                self._texts.clear()
            known = self._texts[id(shape)] = (shape, orjson.Fragment(_fast(shape)))
        return known[1]


def supply_part(supply: Supply) -> bytes:
    """What of a supply stays from round to round: all of it but what is free and what is booked. Written as in
    `to_line`."""
    values = {name: getattr(supply, name) for name in STAYING}
    return _fast({name: written(each) if isinstance(each, Mapping) else each for name, each in values.items()})


def rest_part(recorded: RecordedRound, texts: ShapeTexts | None = None) -> bytes:
    """The round without its `supply_part`."""
    snapshot, texts = recorded.snapshot, texts or ShapeTexts()
    moving = {name: getattr(snapshot.supply, name) for name in _MOVING}
    rest = {each.name: getattr(snapshot, each.name) for each in dataclasses.fields(snapshot) if each.name != "supply"}
    rest["shapes"] = [texts.of(shape) for shape in snapshot.shapes]
    return _fast({"format": FORMAT, **recorded._asdict(), "snapshot": {**moving, **rest}})


def read_supply(part: bytes) -> Supply:
    """The supply with nothing free. Raises InvalidInput."""
    values = _loaded(part)
    nothing = [{"milli": 0, "memory_bytes": 0} for _ in values.get("pools", ())]
    supply: Supply = _whole(Supply, {**values, "free": nothing})
    return supply


def from_parts(supply: Supply, rest: bytes) -> RecordedRound:
    """`supply` as `read_supply` gave it. Raises InvalidInput."""
    values = _loaded(rest)
    if values.pop("format", None) != FORMAT:
        raise InvalidInput(f"is no recorded round of format {FORMAT}", field="round")
    snapshot = values.pop("snapshot", None)
    if not isinstance(snapshot, dict):
        raise InvalidInput("is no whole round", field="round")
    moving = {name: _whole(_hints(Supply)[name], snapshot.pop(name, ())) for name in _MOVING}
    others = {name: _whole(_hints(Snapshot)[name], value) for name, value in snapshot.items()}
    hints = _hints(RecordedRound)
    try:
        seen = Snapshot(dataclasses.replace(supply, **moving), **others)
        return RecordedRound(snapshot=seen, **{name: _whole(hints[name], value) for name, value in values.items()})
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"is no whole round: {error!r}"[:200], field="round") from error


def _fast(values: Any) -> bytes:
    """As `written`, a hundred times as fast; of values beyond 64 bits the slow way."""
    try:
        return orjson.dumps(values, default=_plain, option=_ORJSON)
    except orjson.JSONEncodeError:
        return json.dumps(_document(values), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _document(values: Any) -> Any:
    """`written`, of objects and lists of the document too, which are no values of the core."""
    if isinstance(values, orjson.Fragment):
        return json.loads(values.contents)
    if type(values) is dict:
        return {name: _document(value) for name, value in values.items()}
    if type(values) is list:
        return [_document(value) for value in values]
    return written(values)


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"a {type(value).__name__} has no place in a round")


def _loaded(part: bytes) -> dict[str, Any]:
    try:
        values = json.loads(part)
    except ValueError as error:
        raise InvalidInput("is no JSON", field="round") from error
    if not isinstance(values, dict):
        raise InvalidInput("is no whole round", field="round")
    return values


def _whole(kind: Any, value: Any) -> Any:
    try:
        return read(kind, value)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"is no whole round: {error!r}"[:200], field="round") from error


# --- values -------------------------------------------------------------------------------------------------------


def written(value: Any) -> Any:
    """A value of the core as plain JSON. Raises TypeError for a kind that none of them has."""
    if value is None or isinstance(value, str | int | float) and not isinstance(value, Enum):
        return value
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return {field.name: written(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, frozenset):
        return sorted(written(item) for item in value)
    if isinstance(value, tuple | list):
        return [written(item) for item in value]
    if isinstance(value, Mapping):
        # As pairs, since a key may be a tuple; by key, since the order of a mapping says nothing.
        return sorted([written(key), written(item)] for key, item in value.items())
    raise TypeError(f"a {type(value).__name__} has no place in a round")


def read(kind: Any, value: Any) -> Any:
    """The value of type `kind` that `written` made this of. Raises TypeError, KeyError or ValueError."""
    return _reader(kind)(value)


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Made once per type: a round of a nation has a million values."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        other = _reader(next(choice for choice in inner if choice is not type(None)))
        return lambda value: None if value is None else other(value)
    if origin is tuple:
        return _tuple_reader(inner)
    if origin is frozenset:
        item = _reader(inner[0])
        return lambda value: frozenset(map(item, value))
    if origin is dict:
        key, item = _reader(inner[0]), _reader(inner[1])
        return lambda value: {key(name): item(each) for name, each in value}
    if origin is np.ndarray:
        dtype = get_args(inner[1])[0]
        return lambda value: np.array(value, dtype=dtype)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        readers = {name: _reader(hint) for name, hint in _hints(kind).items()}
        return lambda value: kind(**{name: readers[name](each) for name, each in value.items()})
    if hasattr(kind, "_fields"):  # a named tuple
        parts = tuple(_reader(_hints(kind)[name]) for name in kind._fields)
        return lambda value: kind(*(part(each) for part, each in zip(parts, value, strict=True)))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    return partial(_checked, kind)


def _tuple_reader(inner: tuple[Any, ...]) -> Callable[[Any], Any]:
    if len(inner) == 2 and inner[1] is ...:
        item = _reader(inner[0])
        return lambda value: tuple(map(item, value))
    parts = tuple(map(_reader, inner))
    return lambda value: tuple([part(each) for part, each in zip(parts, value, strict=True)])


def _checked(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
