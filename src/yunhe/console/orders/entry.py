"""What stands in the form of a new order, as text, and the order that it means. Pure.

What an order has and the form has no field for (inputs, checkpoints) is kept beside and goes along unchanged.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from yunhe.core.errors import InvalidInput
from yunhe.wire.api import OrderSpec

SIZES = ("cores", "cards", "compute", "work")
CPU = "cpu"
# Fields that are one text each; the text is the value as an order file has it.
PLAIN = (
    "name",
    "requirement.chip",
    "requirement.slots",
    "requirement.memory",
    "requirement.card_memory",
    "requirement.bandwidth",
    "requirement.tier",
    "requirement.max_carbon",
    "duration",
    "start_at",
    "deadline",
    "budget",
    "preference",
    "array",
    "priority",
    "retries",
)
LISTS = ("requirement.residency", "requirement.sites")  # written with commas
Tree = dict[str, Any]


@dataclass(slots=True)
class Program:
    """The command for one stack."""

    stack: str = CPU
    command: str = ""
    image: str = ""


@dataclass(slots=True)
class Entry:
    """`texts` by the path of the order's field, and `size`, `size_by`, `latency`, `latency_place`, `latency_kind`,
    `data_at`, `data_size`, `env`, `outputs`, `file_name`, `file_text`. An empty text is no value."""

    texts: dict[str, str] = field(default_factory=dict)
    programs: list[Program] = field(default_factory=lambda: [Program()])
    network: bool = False
    rest: Tree = field(default_factory=dict)
    left_out: bool = False  # secrets, which are never shown again

    def text(self, name: str) -> str:
        return self.texts.get(name, "").strip()


def values(entry: Entry) -> Tree:
    """The order as plain values, unchecked. Raises InvalidInput for what is not even a command or an assignment."""
    tree = _copy(entry.rest)
    for path in PLAIN:
        if entry.text(path):
            _put(tree, path, entry.text(path))
    for path in LISTS:
        if entry.text(path):
            _put(tree, path, _words(entry.text(path)))
    if entry.text("size"):
        _put(tree, f"requirement.{entry.text('size_by') or SIZES[0]}", entry.text("size"))
    if entry.text("latency"):
        parts = (entry.text("latency"), entry.text("latency_place"), entry.text("latency_kind"))
        _put(tree, "requirement.latency", ":".join(part for part in parts if part))
    if entry.text("data_at"):
        size = {"size": entry.text("data_size")} if entry.text("data_size") else {}
        _put(tree, "requirement.data", {"at": entry.text("data_at")} | size)
    _put_run(tree, entry)
    return tree


def _put_run(tree: Tree, entry: Entry) -> None:
    run: Tree = tree.setdefault("run", {})
    written = [program for program in entry.programs if program.command.strip()]
    for program in written:
        path = "run.command" if program.stack == CPU else f"run.stacks.{program.stack}"
        _put(tree, path, _split(program.command, path))
        if program.image.strip():
            alone = len(written) == 1 and program.stack == CPU
            _put(tree, "run.image" if alone else f"run.images.{program.stack}", program.image.strip())
    if entry.network:
        run["network"] = True
    if entry.text("env"):
        run["env"] = dict(_assignment(line) for line in entry.text("env").splitlines() if line.strip())
    if entry.text("outputs"):
        run["outputs"] = [_output(line.strip()) for line in entry.text("outputs").splitlines() if line.strip()]
    if entry.text("file_name"):
        run["files"] = {**run.get("files", {}), entry.text("file_name"): entry.texts.get("file_text", "")}


def entry_of(spec: OrderSpec) -> Entry:
    """The form filled with an order, to repeat or to change it."""
    tree: Tree = spec.model_dump(mode="json", exclude_defaults=True, exclude={"origin": True})
    entry = Entry(programs=[], rest=tree)
    texts = entry.texts
    run: Tree = tree.get("run", {})
    for path in PLAIN:
        if (value := _take(tree, path)) is not None:
            texts[path] = str(value)
    for path in LISTS:
        texts[path] = ", ".join(_take(tree, path) or ())
    for size in SIZES:
        if (value := _take(tree, f"requirement.{size}")) is not None:
            texts["size_by"], texts["size"] = size, str(value).removesuffix(".0")
    _take_place(tree, texts)
    images = run.pop("images", {})
    for stack, command in {CPU: run.pop("command", None), **run.pop("stacks", {})}.items():
        if command is not None:
            image = run.pop("image", "") if stack == CPU else ""
            entry.programs.append(Program(stack, shlex.join(command), images.get(stack, image)))
    entry.network = run.pop("network", False)
    texts["env"] = "\n".join(f"{name}={value}" for name, value in run.pop("env", {}).items())
    outputs = [o if isinstance(o, str) else f"{o['path']}={o['url']}" for o in run.pop("outputs", ())]
    texts["outputs"] = "\n".join(outputs)
    if len(run.get("files", {})) == 1:
        [(texts["file_name"], texts["file_text"])] = run.pop("files").items()
    entry.left_out = run.pop("secrets", None) is not None
    return entry


def _take_place(tree: Tree, texts: dict[str, str]) -> None:
    latency = tree.get("requirement", {}).get("latency")
    bounds = latency if isinstance(latency, list) else [latency]
    if len(bounds) == 1 and isinstance(bounds[0], str) and bounds[0].count(":") in (1, 2):
        limit, place, *kind = bounds[0].split(":")
        texts |= {"latency": limit, "latency_place": place, "latency_kind": kind[0] if kind else ""}
        _take(tree, "requirement.latency")
    if (data := _take(tree, "requirement.data")) is not None:
        texts |= {"data_at": data["at"], "data_size": data.get("size", "")}


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.replace("，", ",").split(",") if word.strip()]


def _split(text: str, path: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidInput(f"a quote is not closed: {error}", field=path, hint="write it as in a shell") from error


def _assignment(line: str) -> tuple[str, str]:
    name, equals, value = line.partition("=")
    if not equals:
        raise InvalidInput(f"{line[:40]!r} has no value", field="run.env", hint="for example SEED=7")
    return name.strip(), value


def _output(line: str) -> str | dict[str, str]:
    path, equals, url = line.partition("=")
    return {"path": path, "url": url} if equals and "://" in url else line


def _copy(tree: Mapping[str, Any]) -> Tree:
    return {name: _copy(value) if isinstance(value, dict) else value for name, value in tree.items()}


def _put(tree: Tree, path: str, value: object) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = value


def _take(tree: Tree, path: str) -> Any:
    """The value, no longer in the tree; None when there is none."""
    *parents, name = path.split(".")
    for parent in parents:
        tree = tree.get(parent, {})
    return tree.pop(name, None)
