"""What would happen if: edits of a scenario, in its own language.

    what_if:
      - add_centre: {name: hami, region: Xinjiang, lat: 42.8, lon: 93.5, pools: [...]}
      - line: {centre: hami, to: shanghai, one_way: 17ms}
      - price: {centre: guian, compute: 5CNY/h}
      - rule: {max_carbon: 600g/kWh}

They stand in the scenario, in a file of their own, or on the command line.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from yunhe.core.errors import InvalidInput
from yunhe.core.units import meant
from yunhe.simulator import quantities as q
from yunhe.simulator.parts import CentreSpec, CustomerSpec, LineSpec, Name, Part, Rules, WorkloadSpec

MAX_EDITS = 1_000


class PriceEdit(Part):
    """Other prices at a centre (of all its pools, or of one)."""

    centre: Name
    pool: Name | None = None
    compute: q.PerHour | None = None
    power: q.PerKwh | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.compute is None and self.power is None:
            raise ValueError("needs `compute` or `power`")
        return self


class LoadEdit(Part):
    """More or less work."""

    workload: Name
    jobs_per_day: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    faster: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    jobs: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.jobs_per_day is None and self.faster is None and self.jobs is None:
            raise ValueError("needs `jobs_per_day`, `faster` or `jobs`")
        return self


class SetEdit(Part):
    """Other values of the scenario itself."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    length: q.DurationMs | None = None
    warm_up: q.DelayMs | None = None
    network: Literal["on", "off"] | None = None
    engine: Literal["rounds", "online"] | None = None
    round_every: q.DurationMs | None = None


class Edit(Part):
    """One change."""

    add_centre: CentreSpec | None = None
    remove_centre: Name | None = None
    add_customer: CustomerSpec | None = None
    add_workload: WorkloadSpec | None = None
    line: LineSpec | None = None
    price: PriceEdit | None = None
    rule: Rules | None = None
    load: LoadEdit | None = None
    set: SetEdit | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"needs exactly one of {', '.join(type(self).model_fields)}")
        return self


class Edits(Part):
    """A file of edits, or those of a command line."""

    what_if: Annotated[tuple[Edit, ...], Field(min_length=1, max_length=MAX_EDITS)]


def apply(values: dict[str, Any], edits: tuple[Edit, ...], field: str) -> dict[str, Any]:
    """`values` (the fields of a scenario, as its parts) after the edits. Raises InvalidInput for an unknown name."""
    for i, edit in enumerate(edits):
        (kind,) = edit.model_fields_set
        values = _APPLY[kind](values, getattr(edit, kind), f"{field}[{i}].{kind}")
    return values


def _added(name: str) -> Any:
    def add(values: dict[str, Any], part: Part, field: str) -> dict[str, Any]:
        return {**values, name: (*values[name], part)}

    return add


def _removed(values: dict[str, Any], name: str, field: str) -> dict[str, Any]:
    _index(values["centres"], name, field, "centre")
    return {**values, "centres": tuple(centre for centre in values["centres"] if centre.name != name)}


def _priced(values: dict[str, Any], edit: PriceEdit, field: str) -> dict[str, Any]:
    index = _index(values["centres"], edit.centre, f"{field}.centre", "centre")
    centre: CentreSpec = values["centres"][index]
    if edit.pool is not None:
        _index(centre.pools, edit.pool, f"{field}.pool", "pool")
    if edit.compute is not None:
        pools = tuple(
            pool.model_copy(update={"price": edit.compute}) if edit.pool in (None, pool.name) else pool
            for pool in centre.pools
        )
        centre = centre.model_copy(update={"pools": pools})
    if edit.power is not None:
        centre = centre.model_copy(update={"power_price": edit.power})
    return {**values, "centres": _with(values["centres"], index, centre)}


def _ruled(values: dict[str, Any], rules: Rules, field: str) -> dict[str, Any]:
    stated = {name: getattr(rules, name) for name in rules.model_fields_set}
    return {**values, "rules": values["rules"].model_copy(update=stated)}


def _loaded(values: dict[str, Any], edit: LoadEdit, field: str) -> dict[str, Any]:
    index = _index(values["workloads"], edit.workload, f"{field}.workload", "workload")
    workload: WorkloadSpec = values["workloads"][index]
    if edit.jobs_per_day is not None:
        if workload.fitted is None:
            raise InvalidInput("goes with a fitted workload; use `faster`", field=f"{field}.jobs_per_day")
        fitted = workload.fitted.model_copy(update={"jobs_per_day": edit.jobs_per_day})
        workload = workload.model_copy(update={"fitted": fitted})
    stated = {name: value for name in ("faster", "jobs") if (value := getattr(edit, name)) is not None}
    return {**values, "workloads": _with(values["workloads"], index, workload.model_copy(update=stated))}


def _set(values: dict[str, Any], edit: SetEdit, field: str) -> dict[str, Any]:
    return {**values, **{name: getattr(edit, name) for name in edit.model_fields_set}}


_APPLY: dict[str, Any] = {
    "add_centre": _added("centres"),
    "remove_centre": _removed,
    "add_customer": _added("customers"),
    "add_workload": _added("workloads"),
    "line": _added("lines"),
    "price": _priced,
    "rule": _ruled,
    "load": _loaded,
    "set": _set,
}


def _index(parts: tuple[Any, ...], name: str, field: str, what: str) -> int:
    names = [part.name for part in parts]
    if name not in names:
        raise InvalidInput(f"no {what} is called {name[:40]!r}", field=field, hint=meant(name, names[:20]))
    return names.index(name)


def _with(parts: tuple[Any, ...], index: int, part: Part) -> tuple[Any, ...]:
    return (*parts[:index], part, *parts[index + 1 :])
