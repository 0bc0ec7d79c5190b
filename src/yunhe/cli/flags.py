"""An order written as options: `--compute 0.05TFLOPS@fp64 --latency 20ms:shanghai -- python job.py`.

`quote` and `submit` take the same options, one per field of `OrderFlags`; quantities are passed on as they were
written and parsed where all orders are.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from yunhe.cli.completion import complete_site
from yunhe.core.demand import Preference
from yunhe.core.errors import InvalidInput
from yunhe.sdk.checked import checked
from yunhe.sdk.orderfile import read_files, secret_of_file, secret_of_variable
from yunhe.wire.api import OrderSpec

_SIZE = "Size of one task (give one of cores, cards, compute, work)"
_PLACE = "Where it may run"
_ORDER = "The order"
_JOB = "The job"
_AFTER = "Then"

NAME_WORDS = 3
NAME_LENGTH = 40
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_][\w.:-]*", re.ASCII)

Text = str | None
Texts = list[str] | None

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class OrderFlags:
    cores: Annotated[Text, typer.Option(help="Cores per slot, as 2 or 0.5.", rich_help_panel=_SIZE)] = None
    cards: Annotated[Text, typer.Option(help="Accelerator cards per slot.", rich_help_panel=_SIZE)] = None
    compute: Annotated[Text, typer.Option(help="A rate, as 20PFLOPS@bf16.", rich_help_panel=_SIZE)] = None
    work: Annotated[Text, typer.Option(help="An amount, as 3EFLOP@bf16.", rich_help_panel=_SIZE)] = None
    chip: Annotated[Text, typer.Option(help="Only this chip (yunhe chips).", rich_help_panel=_SIZE)] = None
    slots: Annotated[Text, typer.Option(help="Equal slots that start together.", rich_help_panel=_SIZE)] = None
    memory: Annotated[Text, typer.Option(help="Memory per slot, as 64GiB.", rich_help_panel=_SIZE)] = None
    card_memory: Annotated[Text, typer.Option(help="Memory of each card.", rich_help_panel=_SIZE)] = None
    latency: Annotated[
        Texts, typer.Option(help="As 20ms:shanghai (round trip), 9ms:shanghai:one-way.", rich_help_panel=_PLACE)
    ] = None
    bandwidth: Annotated[Text, typer.Option(help="Of the site, as 10Gbps.", rich_help_panel=_PLACE)] = None
    data: Annotated[Text, typer.Option(help="Input data and where it lies: 500GB:beijing.", rich_help_panel=_PLACE)] = (
        None
    )
    residency: Annotated[Texts, typer.Option(help="Only in this region.", rich_help_panel=_PLACE)] = None
    tier: Annotated[Text, typer.Option(help="Least security tier of the site.", rich_help_panel=_PLACE)] = None
    max_carbon: Annotated[Text, typer.Option(help="Of the grid, as 400g/kWh.", rich_help_panel=_PLACE)] = None
    site: Annotated[
        Texts, typer.Option(help="Only at this site.", rich_help_panel=_PLACE, autocompletion=complete_site)
    ] = None
    name: Annotated[Text, typer.Option(help="A name for people.", rich_help_panel=_ORDER)] = None
    duration: Annotated[Text, typer.Option(help="Longest run of a task, as 1h30m.", rich_help_panel=_ORDER)] = None
    start_at: Annotated[
        Text, typer.Option(help="Booked for then: 2026-12-01T08:00+08:00, or 'in 2h'.", rich_help_panel=_ORDER)
    ] = None
    deadline: Annotated[Text, typer.Option(help="As 6h, or 2026-12-01T08:00+08:00.", rich_help_panel=_ORDER)] = None
    patience: Annotated[
        Text, typer.Option(help="May wait for a better hour: 6h, or deadline.", rich_help_panel=_ORDER)
    ] = None
    budget: Annotated[Text, typer.Option(help="Most it may cost, as 2CNY.", rich_help_panel=_ORDER)] = None
    prefer: Annotated[Preference | None, typer.Option(help="Among places that fit.", rich_help_panel=_ORDER)] = None
    array: Annotated[Text, typer.Option(help="So many independent tasks.", rich_help_panel=_ORDER)] = None
    priority: Annotated[Text, typer.Option(help="0 to 9, higher first.", rich_help_panel=_ORDER)] = None
    retries: Annotated[Text, typer.Option(help="Run again after an exit other than 0.", rich_help_panel=_ORDER)] = None
    spot: Annotated[
        bool, typer.Option("--spot", help="Cheaper; ended when others need its units.", rich_help_panel=_ORDER)
    ] = False
    env: Annotated[Texts, typer.Option(help="NAME=VALUE for the job.", rich_help_panel=_JOB)] = None
    secret: Annotated[Texts, typer.Option(help="NAME=@FILE, or NAME from the environment.", rich_help_panel=_JOB)] = (
        None
    )
    file: Annotated[Texts, typer.Option(help="A small text file to send along.", rich_help_panel=_JOB)] = None
    input: Annotated[Texts, typer.Option(help="PATH=URL, fetched by the site.", rich_help_panel=_JOB)] = None
    output: Annotated[
        Texts, typer.Option(help="A file to keep from the job; PATH=URL sends it there too.", rich_help_panel=_JOB)
    ] = None
    attach: Annotated[
        bool, typer.Option(help="Send along files of this folder that the command names.", rich_help_panel=_JOB)
    ] = True

    def given(self) -> list[str]:
        """Names of the options that were set."""
        return [f"--{f.name.replace('_', '-')}" for f in fields(self) if getattr(self, f.name) != f.default]


@dataclass(frozen=True, slots=True)
class AfterFlags:
    """What to do with an order beside placing it."""

    wait: Annotated[bool, typer.Option(help="Wait until it is over and settled.", rich_help_panel=_AFTER)] = False
    follow: Annotated[bool, typer.Option("--follow", help="Print its log, then wait.", rich_help_panel=_AFTER)] = False
    timeout: Annotated[Text, typer.Option(help="Stop waiting after, as 10m.", rich_help_panel=_AFTER)] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the order as YAML, place nothing.", rich_help_panel=_AFTER)
    ] = False


def with_flags(function: Callable[..., Result]) -> Callable[..., Result]:
    """Let Typer see one option per field in place of each parameter of a type above."""
    own = inspect.signature(function, eval_str=True)
    groups: dict[str, type[OrderFlags] | type[AfterFlags]] = {
        name: p.annotation for name, p in own.parameters.items() if p.annotation in (OrderFlags, AfterFlags)
    }
    parameters = []
    for name, parameter in own.parameters.items():
        if name not in groups:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        hints = get_type_hints(groups[name], include_extras=True)
        for field in fields(groups[name]):
            option = inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
            )
            parameters.append(option)

    def command(**values: Any) -> Result:  # by name, as Typer calls it
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        return function(**values)

    command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__, command.__name__ = function.__doc__, function.__name__
    return command


def build_order(flags: OrderFlags, command: Sequence[str], folder: Path) -> OrderSpec:
    """The order that options and a command describe; files are read from `folder`.

    Raises InvalidInput naming the field, TooLarge when attached files are too many.
    """
    requirement: dict[str, object] = {
        "cores": flags.cores,
        "cards": flags.cards,
        "compute": flags.compute,
        "work": flags.work,
        "chip": flags.chip,
        "slots": flags.slots,
        "memory": flags.memory,
        "card_memory": flags.card_memory,
        "latency": flags.latency,
        "bandwidth": flags.bandwidth,
        "data": _data(flags.data),
        "residency": flags.residency,
        "tier": flags.tier,
        "max_carbon": flags.max_carbon,
        "sites": flags.site,
    }
    run: dict[str, object] = {
        "command": list(command),
        "env": dict(_assignment(entry) for entry in flags.env or ()),
        "secrets": dict(_secret(entry, folder) for entry in flags.secret or ()),
        "files": _files(flags, command, folder),
        "inputs": [_input(entry) for entry in flags.input or ()],
        "outputs": [_output(entry) for entry in flags.output or ()],
    }
    order: dict[str, object] = {
        "name": flags.name or _name_of(command),
        "run": _set_only(run),
        "requirement": _set_only(requirement),
        "duration": flags.duration,
        "start_at": flags.start_at,
        "deadline": flags.deadline,
        "patience": flags.patience,
        "budget": flags.budget,
        "preference": flags.prefer,
        "array": flags.array,
        "priority": flags.priority,
        "retries": flags.retries,
        "spot": flags.spot or None,
    }
    return checked(OrderSpec, _set_only(order))


def named_files(command: Iterable[str], folder: Path) -> list[str]:
    """Words of a command (also behind `=`) that are files inside `folder`, written as relative paths."""
    found = []
    for word in command:
        for candidate in dict.fromkeys((word, word.partition("=")[2])):
            path = Path(candidate)
            if not candidate or path.is_absolute() or ".." in path.parts:
                continue
            if len(candidate) < 200 and (folder / path).is_file():
                found.append(path.as_posix())
    return found


def _name_of(command: Sequence[str]) -> str | None:
    """The command's first plain words, as `python3 job.py`; None (the default name) when there are none."""
    words = list(takewhile(_PLAIN_WORD.fullmatch, (Path(word).name for word in command[:NAME_WORDS])))
    return " ".join(words)[:NAME_LENGTH].strip() or None


def _files(flags: OrderFlags, command: Sequence[str], folder: Path) -> dict[str, str]:
    attached = named_files(command, folder) if flags.attach else []
    names = dict.fromkeys([*attached, *(Path(name).as_posix() for name in flags.file or ())])
    try:
        return read_files(names, folder)
    except InvalidInput as error:
        way_out = "--no-attach leaves out files that the command names; the job can fetch large data where it runs"
        raise type(error)(error.message, field=error.field, hint=way_out if attached else error.hint) from error


def _data(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    size, colon, place = text.partition(":")
    if not colon:
        raise InvalidInput(f"{text!r} does not name a place", field="--data", hint="for example 500GB:beijing")
    return {"size": size, "at": place}


def _input(entry: str) -> dict[str, str]:
    path, equals, url = entry.partition("=")
    if not equals:
        raise InvalidInput(f"{entry[:40]!r} has no URL", field="--input", hint="for example in.csv=s3://bucket/in.csv")
    return {"path": path, "url": url}


def _output(entry: str) -> str | dict[str, str]:
    path, equals, url = entry.partition("=")
    return {"path": path, "url": url} if equals and "://" in url else entry


def _assignment(entry: str) -> tuple[str, str]:
    name, equals, value = entry.partition("=")
    if not equals:
        raise InvalidInput(f"{entry!r} has no value", field="--env", hint="for example --env SEED=7")
    return name, value


def _secret(entry: str, folder: Path) -> tuple[str, str]:
    """Never the secret itself: every user of this machine can read a command line."""
    name, equals, where = entry.partition("=")
    if not equals:
        return name, secret_of_variable(name, "--secret")
    if not where.startswith("@"):
        hint = f"--secret {name}=@FILE, or export {name} and say --secret {name}"
        raise InvalidInput(f"{name[:64]} is not given as text on the command line", field="--secret", hint=hint)
    return name, secret_of_file(folder / where[1:], "--secret")


def _set_only(values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value not in (None, {}, [])}
