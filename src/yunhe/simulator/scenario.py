"""A scenario: the network, its customers, the work they bring, and the rules, as one YAML file.

Everything is checked before anything runs: an unknown key, a missing unit or a name that is nowhere defined is refused
with its field and line.  `docs/simulator.md` shows the language.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, Field, ValidationError

from yunhe.core.errors import InvalidInput, YunheError
from yunhe.core.units import meant
from yunhe.simulator import quantities as q
from yunhe.simulator.parts import (
    MAX_CENTRES,
    CentreSpec,
    CustomerSpec,
    LineSpec,
    Name,
    Part,
    Rules,
    SitesModel,
    WorkloadSpec,
)
from yunhe.simulator.what_if import MAX_EDITS, Edit, Edits, apply
from yunhe.wire.invalid import from_errors
from yunhe.wire.order_yaml import read_mapping, with_line

MAX_NODES = 1_000_000  # values of the file: a nation of 7,000 centres has 30,000
MAX_TEXT_BYTES = 64 << 20  # of a file: the most centres, each written out, take a quarter
_EXAMPLE = "see examples/scenarios/small.yaml"

Checked = TypeVar("Checked", bound=BaseModel)


class Scenario(Part):
    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    start: q.Moment = 1_767_542_400_000  # 2026-01-05T00:00+08:00, a Monday
    length: q.DurationMs
    warm_up: q.DelayMs = 0  # of the length; figures begin after it, at a full hour
    network: Literal["on", "off"] = "on"  # off: every customer only at its own home
    engine: Literal["rounds", "online"] = "rounds"
    round_every: q.DurationMs = 1_000  # at most one round in this time
    round_orders: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000  # open orders that one round looks at
    rules: Rules = Rules()
    sites: SitesModel = SitesModel()
    lines: Annotated[tuple[LineSpec, ...], Field(max_length=100_000)] = ()
    centres: Annotated[tuple[CentreSpec, ...], Field(min_length=1, max_length=10_000)]
    customers: Annotated[tuple[CustomerSpec, ...], Field(min_length=1, max_length=10_000)]
    workloads: Annotated[tuple[WorkloadSpec, ...], Field(min_length=1, max_length=100)]
    what_if: Annotated[tuple[Edit, ...], Field(max_length=MAX_EDITS)] = ()  # changes of all that stands above

    def digest(self) -> str:
        """SHA-256 of everything that was asked for but the seed, in hex."""
        values = self.model_dump(mode="json", exclude={"seed"})
        return hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)).hexdigest()


def load(text: str) -> Scenario:
    """Read a scenario, its own `what_if` applied. Raises TooLarge, InvalidInput or UnknownField with field and line."""
    value, node = read_mapping(text, "a scenario", _EXAMPLE, MAX_NODES)
    try:
        scenario = _checked(Scenario, value)
        _check_names(scenario)
        return changed(scenario.model_copy(update={"what_if": ()}), scenario.what_if)
    except YunheError as error:
        raise with_line(error, node) from error


def load_edits(text: str) -> tuple[Edit, ...]:
    """Read edits: a mapping with `what_if`, or one edit by itself. Raises as `load` does."""
    value, node = read_mapping(text, "a list of edits", "price: {centre: guian, compute: 5CNY/h}")
    try:
        return _checked(Edits, value if "what_if" in value else {"what_if": [value]}).what_if
    except YunheError as error:
        raise with_line(error, node) from error


def changed(scenario: Scenario, edits: tuple[Edit, ...]) -> Scenario:
    """The scenario after the edits. Raises InvalidInput where they name what is not there."""
    if not edits:
        return scenario
    values = apply({name: getattr(scenario, name) for name in Scenario.model_fields}, edits, "what_if")
    after = Scenario.model_construct(**values)
    _check_names(after)
    return after


def located(error: YunheError, text: str) -> YunheError:
    """An error that was found later, with the line of its field in the scenario's text."""
    return with_line(error, read_mapping(text, "a scenario", _EXAMPLE, MAX_NODES)[1])


def read_text(path: Path) -> str:
    """A scenario or its edits. Raises InvalidInput for what is not there, is too large, or is no text."""
    try:
        with path.open("rb") as file:
            found = file.read(MAX_TEXT_BYTES + 1)
        if len(found) > MAX_TEXT_BYTES:
            raise InvalidInput(f"the file is larger than {MAX_TEXT_BYTES >> 20} MiB", field=str(path))
        return found.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("the file is not text in UTF-8", field=str(path)) from error
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", field=str(path)) from error


def _checked(kind: type[Checked], value: dict[str, Any]) -> Checked:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise from_errors(error.errors(include_url=False), kind) from error


def _check_names(scenario: Scenario) -> None:
    """Every name is somebody's, and only one's; and something is left to be measured."""
    if scenario.warm_up >= scenario.length:
        raise InvalidInput("leaves nothing of the length to be measured", field="warm_up")
    for field, parts in (
        ("centres", scenario.centres),
        ("customers", scenario.customers),
        ("workloads", scenario.workloads),
    ):
        twin = _first_twin(part.name for part in parts)
        if twin:
            raise InvalidInput(f"two have one name: {twin}", field=field)
    if sum(centre.count for centre in scenario.centres) > MAX_CENTRES:
        raise InvalidInput(f"there are more than {MAX_CENTRES}", field="centres")
    centres = [centre.name for centre in scenario.centres]
    customers = [customer.name for customer in scenario.customers]
    one = [name for centre in scenario.centres for name in names_of(centre.name, centre.count)]
    for i, customer in enumerate(scenario.customers):
        _known(customer.home, one, f"customers[{i}].home", "centre")
        _known(customer.one_per, centres, f"customers[{i}].one_per", "centre")
        if scenario.network == "off" and customer.home is None and customer.one_per is None:
            raise InvalidInput("is required with `network: off`", field=f"customers[{i}].home")
    for i, workload in enumerate(scenario.workloads):
        for name in workload.customers:
            _known(name, customers, f"workloads[{i}].customers", "customer")
    for i, line in enumerate(scenario.lines):
        _known(line.centre, one, f"lines[{i}].centre", "centre")


def names_of(name: str, count: int) -> list[str]:
    """`name`, or name-1 to name-count."""
    return [name] if count == 1 else [f"{name}-{i}" for i in range(1, count + 1)]


def _known(name: str | None, known: Sequence[str], field: str, what: str) -> None:
    if name is not None and name not in set(known):
        raise InvalidInput(f"no {what} is called {name[:40]!r}", field=field, hint=meant(name, known[:20]))


def _first_twin(names: Iterable[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""
