"""From messages to core values: where the text of an order becomes a `Shape`, with the field named in every error."""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from difflib import get_close_matches

from yunhe.core import units
from yunhe.core.demand import (
    AS_LONG_AS_IT_MAY,
    Ability,
    LatencyBound,
    LatencyKind,
    Preference,
    Requirement,
    Shape,
    Terms,
)
from yunhe.core.errors import InvalidInput, TooLarge
from yunhe.core.supply import STACKS
from yunhe.wire.api import DataSpec, LatencySpec, OrderSpec, OutputSpec, RequirementSpec, RunSpec
from yunhe.wire.api.orders import MAX_COMMAND_CHARS, MAX_FILES_BYTES, MAX_SECRET_BYTES
from yunhe.wire.data import check_data, stated_bytes
from yunhe.wire.invalid import field_path

MAX_RUN_LIMIT_MS = 30 * 86_400_000
MAX_SLOTS_PER_ORDER = 100_000  # array x slots: bounds what one order can ask of a round

NEAR = 0.5  # likeness from which a chip's name may have been meant: h1000, h100-sxm

_MILLI = 1_000
_SIZES = ("cores", "cards", "compute", "work")
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def to_shape(spec: OrderSpec, now_ms: int, places: Mapping[str, str]) -> Shape:
    """Everything that placement looks at. `places`: each name of a place (its id too) -> its id; `now_ms` is UTC.

    Raises InvalidInput (TooLarge for files) with the path of the field, such as `requirement.latency[0]`.
    """
    stacks = _stacks(spec.run)
    _refuse_nul(("run.env", name, text) for name, text in spec.run.env.items())
    _check_length(spec.run)
    _check_files(spec.run)
    check_secrets(spec.run)
    check_data(spec.run, spec.array)
    if spec.array * spec.requirement.slots > MAX_SLOTS_PER_ORDER:
        raise InvalidInput(
            f"array x requirement.slots is {spec.array * spec.requirement.slots}, more than {MAX_SLOTS_PER_ORDER}",
            field="array",
            hint="split it into several orders",
        )
    terms = _terms(spec, now_ms)
    if spec.requirement.work is not None and terms.deadline_ms is None:
        raise InvalidInput(
            "work needs a deadline: the rate follows from it", field="deadline", hint="for example deadline: 6h"
        )
    requirement = _requirement(spec.requirement, stacks, _abilities(spec.run), places)
    if requirement.data_at is not None and not requirement.data_bytes:  # where it lies is said, how much is known
        requirement = replace(requirement, data_bytes=stated_bytes(spec.run))
    return Shape(requirement, terms)


def check_chip(spec: OrderSpec, chips: Collection[str]) -> None:
    """Raises InvalidInput for a chip that neither the catalogue nor the network has: the order would wait for ever.

    For orders that come in; one that was accepted stays readable when a chip is gone.
    """
    chip = spec.requirement.chip
    if chip is not None and chip not in chips:
        near = get_close_matches(chip.lower(), sorted(chips), n=3, cutoff=NEAR)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        hint += "`yunhe chips` lists those that are known"
        raise InvalidInput(f"unknown chip {chip[:40]!r}", field="requirement.chip", hint=hint)


def command_for(spec: OrderSpec, stack: str) -> tuple[str, ...]:
    """The command to run on a pool of `stack`. Raises InvalidInput (`run.stacks`) when the order has none for it."""
    command = spec.run.stacks.get(stack) or (spec.run.command if stack == "cpu" else None)
    if command is None:
        raise InvalidInput(f"the order has no command for the stack {stack[:40]!r}", field="run.stacks")
    return command


# --- run --------------------------------------------------------------------------------------------------------


def _stacks(run: RunSpec) -> frozenset[str]:
    if run.command is None and not run.stacks:
        raise InvalidInput(
            "is required: what shall be run?", field="run.command", hint="for example command: [python3, job.py]"
        )
    if run.command is not None and "cpu" in run.stacks:
        raise InvalidInput("is the same as run.command; give one of them", field="run.stacks.cpu")
    for stack, command in run.stacks.items():
        if stack not in STACKS:
            raise InvalidInput(
                f"unknown stack {stack[:40]!r}", field="run.stacks", hint=units.meant(stack, sorted(STACKS))
            )
        _check_command(command, f"run.stacks.{stack}")
    if run.command is None:
        return frozenset(run.stacks)
    _check_command(run.command, "run.command")
    return frozenset(run.stacks) | {"cpu"}


def _check_command(command: tuple[str, ...], field: str) -> None:
    if not command[0].strip():
        raise InvalidInput("the first word, the program, is empty", field=f"{field}[0]")
    _refuse_nul((field, index, word) for index, word in enumerate(command))


def _refuse_nul(texts: Iterable[tuple[str, int | str, str]]) -> None:
    """Each text with the field that it is in and its place there: no program can be given one with a NUL."""
    for field, part, text in texts:
        if "\0" in text:
            raise InvalidInput("has a NUL character; only text is accepted", field=field_path(field, part))


def _check_length(run: RunSpec) -> None:
    """A command and its environment are written and sent once per task; data belong into files."""
    longest = max((sum(map(len, command)) for command in (run.command or (), *run.stacks.values())), default=0)
    size = longest + sum(len(name) + len(text) for name, text in run.env.items())
    if size > MAX_COMMAND_CHARS:
        raise TooLarge(
            f"the command and its environment are {size} characters, more than {MAX_COMMAND_CHARS}",
            field="run",
            hint="put data into `files`",
        )


def _check_files(run: RunSpec) -> None:
    _refuse_nul(("run.files", path, text) for path, text in run.files.items())
    size = 0
    for path, text in run.files.items():
        try:
            size += len(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidInput("is not valid text in UTF-8", field=field_path("run.files", path)) from error
    if size > MAX_FILES_BYTES:
        raise TooLarge(
            f"files are {units.format_bytes(size, 1)} together, more than {units.format_bytes(MAX_FILES_BYTES)}",
            field="run.files",
            hint="put large inputs where the job can fetch them",
        )


def check_secrets(run: RunSpec) -> None:
    """Raises InvalidInput or TooLarge, naming the secret and never its value."""
    for name, secret in run.secrets.items():
        field = field_path("run.secrets", name)
        try:
            size = len(secret.get_secret_value().encode())
        except UnicodeEncodeError:
            raise InvalidInput("is not valid text in UTF-8", field=field) from None  # the cause would show it
        if size > MAX_SECRET_BYTES:
            raise TooLarge(f"is {size} bytes, more than {MAX_SECRET_BYTES}", field=field)


# --- requirement ------------------------------------------------------------------------------------------------


def _abilities(run: RunSpec) -> frozenset[Ability]:
    """What the run needs of an engine beyond running a command."""
    needed = {
        Ability.SECRETS: bool(run.secrets),
        Ability.DATA: bool(run.inputs) or any(isinstance(output, OutputSpec) for output in run.outputs),
        Ability.CHECKPOINTS: run.checkpoint is not None,
        Ability.NETWORK: run.network,
    }
    return frozenset(ability for ability, wanted in needed.items() if wanted)


def _requirement(
    spec: RequirementSpec, stacks: frozenset[str], abilities: frozenset[Ability], places: Mapping[str, str]
) -> Requirement:
    at = "requirement"
    stated = [name for name in _SIZES if getattr(spec, name) is not None]
    if len(stated) > 1:
        raise InvalidInput(
            f"states its size by {' and '.join(stated)}; use exactly one of {', '.join(_SIZES)}", field=at
        )
    cores_milli = None if spec.cores is None else _milli(spec.cores, f"{at}.cores")
    cards = spec.cards
    if not stated:  # one core; one card where a chip is named or no command for a CPU is given
        if spec.chip is not None or "cpu" not in stacks:
            cards = 1
        else:
            cores_milli = _MILLI
    return Requirement(
        cores_milli=cores_milli,
        cards=cards,
        compute=None if spec.compute is None else units.parse_compute(spec.compute, f"{at}.compute"),
        work=None if spec.work is None else units.parse_work(spec.work, f"{at}.work"),
        chip=spec.chip,
        slots=spec.slots,
        memory_bytes=_bytes(spec.memory, f"{at}.memory"),
        card_memory_bytes=_bytes(spec.card_memory, f"{at}.card_memory"),
        latency=_latency(spec, places),
        bandwidth_bps=0 if spec.bandwidth is None else units.parse_bandwidth(spec.bandwidth, f"{at}.bandwidth"),
        data_at=None if spec.data is None else _place(spec.data.at, f"{at}.data.at", places),
        data_bytes=_data_bytes(spec.data),
        residency=frozenset(spec.residency),
        tier=spec.tier,
        max_carbon_g_per_kwh=(
            None if spec.max_carbon is None else units.parse_carbon(spec.max_carbon, f"{at}.max_carbon")
        ),
        sites=frozenset(spec.sites),
        pools=frozenset(spec.pools),
        stacks=stacks,
        operators=frozenset(spec.operators),
        abilities=abilities,
    )


def _milli(cores: float, field: str) -> int:
    """Cores to thousandths; what is finer is rounded up, and less than one thousandth is refused."""
    milli = math.ceil(round(cores * _MILLI, 3))
    if cores < 1 / _MILLI:
        raise InvalidInput(f"{cores:g} is less than 0.001 of a core", field=field, hint="for example cores: 0.5")
    return milli


def _bytes(text: str | None, field: str) -> int:
    return 0 if text is None else units.parse_bytes(text, field)


def _data_bytes(data: DataSpec | None) -> int:
    return 0 if data is None else units.parse_bytes(data.size, "requirement.data.size", zero_ok=True)


def _place(name: str, field: str, places: Mapping[str, str]) -> str:
    """The id of a place, from its id or its name in English or Chinese. Raises InvalidInput."""
    said = units.place_id(name)
    place = places.get(said)
    if place is None:
        near = units.close_match(said, places)
        ids = ", ".join(sorted(set(places.values())))
        hint = f"did you mean {near!r}?" if near else f"known are {ids} (`yunhe places`)"
        raise InvalidInput(f"unknown place {name[:40]!r}", field=field, hint=hint)
    return place


def _latency(spec: RequirementSpec, places: Mapping[str, str]) -> tuple[LatencyBound, ...]:
    field = "requirement.latency"
    if isinstance(spec.latency, tuple):
        return tuple(_bound(item, f"{field}[{i}]", places) for i, item in enumerate(spec.latency))
    return (_bound(spec.latency, field, places),)


def _bound(item: LatencySpec | str, field: str, places: Mapping[str, str]) -> LatencyBound:
    if isinstance(item, str):
        bound = units.parse_latency(item, field)
        return replace(bound, place=_place(bound.place, field, places))
    place = _place(item.place, f"{field}.place", places)
    if item.rtt is not None and item.one_way is None:
        return LatencyBound(place, units.parse_duration_us(item.rtt, f"{field}.rtt"), LatencyKind.RTT)
    if item.one_way is not None and item.rtt is None:
        return LatencyBound(place, units.parse_duration_us(item.one_way, f"{field}.one_way"), LatencyKind.ONE_WAY)
    raise InvalidInput("needs exactly one of rtt and one_way", field=field, hint="for example rtt: 20ms")


# --- terms ------------------------------------------------------------------------------------------------------


def _terms(spec: OrderSpec, now_ms: int) -> Terms:
    run_limit_ms = units.parse_duration(spec.duration, "duration")
    if run_limit_ms > MAX_RUN_LIMIT_MS:
        raise InvalidInput(
            f"{spec.duration} is more than the longest run, {units.format_duration(MAX_RUN_LIMIT_MS)}",
            field="duration",
            hint="write checkpoints and split the work into several orders",
        )
    end_ms = None if spec.deadline is None else deadline_ms(spec.deadline, now_ms)
    start_ms = None if spec.start_at is None else start_at_ms(spec.start_at, now_ms)
    if end_ms is not None and start_ms is not None:
        least_ms = 1 if spec.requirement.work is not None else run_limit_ms
        if end_ms < start_ms + least_ms:
            raise InvalidInput(
                "the deadline leaves no time for the run after start_at", field="deadline", hint="both count from now"
            )
    if start_ms is not None and spec.spot:
        raise InvalidInput("a spot order gives its units up, so none are booked for it", field="start_at")
    return Terms(
        run_limit_ms=run_limit_ms,
        deadline_ms=end_ms,
        budget_microcny=None if spec.budget is None else units.parse_money(spec.budget, "budget"),
        preference=spec.preference,
        array=spec.array,
        patience_ms=_patience_ms(spec),
        start_ms=start_ms,
        spot=spec.spot,
    )


def start_at_ms(text: str, now_ms: int) -> int:
    """UTC ms of a start: `in 2h` (or `2h`) from now, or an ISO 8601 time with its zone. Raises InvalidInput."""
    return deadline_ms(text.strip().removeprefix("in "), now_ms, "start_at")


def _patience_ms(spec: OrderSpec) -> int:
    """How long it may wait for a better hour. Raises InvalidInput (`patience`)."""
    if spec.patience is None:
        return 0
    if spec.preference is Preference.SPEED:
        raise InvalidInput("does not go with preference speed", field="patience", hint="prefer cost or carbon")
    if spec.start_at is not None:
        raise InvalidInput("does not go with start_at", field="patience", hint="state one of them")
    if spec.patience.strip().lower() == "deadline":
        if spec.deadline is None:
            raise InvalidInput("needs a deadline", field="patience", hint="or say how long, for example patience: 6h")
        return AS_LONG_AS_IT_MAY
    return units.parse_duration(spec.patience, "patience")


def deadline_ms(text: str, now_ms: int, field: str = "deadline") -> int:
    """UTC ms of a deadline: a duration from now (`6h`) or an ISO 8601 time with its zone. Raises InvalidInput."""
    text = text.strip()
    if not _ISO_DATE.match(text):
        return now_ms + units.parse_duration(text, field)
    example = "for example 2030-01-31T18:00:00+08:00, or 6h from now"
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is not an ISO 8601 time", field=field, hint=example) from error
    if when.tzinfo is None:
        raise InvalidInput(f"{text!r} has no time zone", field=field, hint=example)
    at_ms = round(when.timestamp() * 1000)
    if at_ms <= now_ms:
        raise InvalidInput(f"{text!r} is in the past", field=field, hint=example)
    if at_ms > now_ms + units.MAX_DURATION_MS:
        raise InvalidInput(f"{text!r} is more than 366 days ahead", field=field, hint=example)
    return at_ms
