"""An order as a YAML file. Only plain data is read: no tags, no aliases, no dates, no `yes` that means true.

Scalars follow YAML 1.2: `true` and `false` are the only truth values, `010` and `1:30` stay text.
"""

import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from yunhe.core.errors import InvalidInput, TooLarge, YunheError
from yunhe.wire.api import OrderSpec
from yunhe.wire.invalid import field_path, from_validation_error

MAX_YAML_BYTES = 2 * 1024 * 1024  # files of 1 MiB, escaped
MAX_YAML_DEPTH = 20
MAX_YAML_NODES = 20_000

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ReadFiles = Callable[[list[str]], dict[str, str]]
ReadSecrets = Callable[[Mapping[str, object]], dict[str, str]]

_EXAMPLE = "for example:\nrun:\n  command: [python3, job.py]"


class _PlainLoader(_Base):  # type: ignore[misc]
    """SafeLoader with the scalars of YAML 1.2, and no key twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            name = getattr(key, "value", None)
            if isinstance(name, str) and name in seen:
                raise InvalidInput(f"{name[:40]!r} is given twice (line {key.start_mark.line + 1})", hint="keep one")
            seen.add(name if isinstance(name, str) else id(key))
        built: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return built


for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", ["n", "~", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,17})", "-+0123456789"),
    ("float", r"[-+]?[0-9]{1,18}(?:\.[0-9]{0,18})?(?:[eE][-+]?[0-9]{1,3})?", "-+0123456789"),
):
    _PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$", re.ASCII), _first)


def load_order_yaml(
    text: str, read_files: ReadFiles | None = None, read_secrets: ReadSecrets | None = None
) -> OrderSpec:
    """Read an order. Raises TooLarge, or InvalidInput / UnknownField naming the field and its line.

    `read_files` lets `run.files` be a list of paths: it gives their text (a client has the files, a hub has not).
    `read_secrets` gives the values for `run.secrets`, which then says only where they lie.
    """
    value, node = read_mapping(text, "an order", _EXAMPLE)
    run = value.get("run")
    if read_files is not None and isinstance(run, dict) and isinstance(run.get("files"), list):
        value = {**value, "run": {**run, "files": read_files([str(path) for path in run["files"]])}}
        run = value["run"]
    if read_secrets is not None and isinstance(run, dict) and isinstance(run.get("secrets"), dict):
        value = {**value, "run": {**run, "secrets": read_secrets(run["secrets"])}}
    try:
        return OrderSpec.model_validate(value)
    except ValidationError as error:
        raise with_line(from_validation_error(error), node) from error


def read_mapping(
    text: str, what: str, example: str, max_nodes: int = MAX_YAML_NODES
) -> tuple[dict[str, Any], yaml.Node]:
    """The plain values of a file that should be `what`, and the nodes that they were written as, `max_nodes` at most.

    Raises TooLarge, or InvalidInput with the line.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput("the file is not text in UTF-8") from error
    if size > MAX_YAML_BYTES:
        raise TooLarge(f"the file is larger than {MAX_YAML_BYTES // 2**20} MiB", hint=f"is it {what}?")
    if not text.strip():
        raise InvalidInput("the file is empty", hint=example)
    try:
        _check_events(text, max_nodes)
        loader = _PlainLoader(text)
        try:
            node = loader.get_single_node()
            value = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise _syntax_error(error) from error
    if not isinstance(node, yaml.MappingNode) or not isinstance(value, dict):
        raise InvalidInput("the file is not a mapping of fields", hint=example)
    return value, node


def _check_events(text: str, max_nodes: int) -> None:
    """Refuse what could grow without bound, before anything is built."""
    depth, nodes, documents = 0, 0, 0
    for event in yaml.parse(text, Loader=_Base):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InvalidInput(f"anchors and aliases are not accepted (line {line})", hint="write the value out")
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise InvalidInput(f"tags such as {str(tag)[:40]!r} are not accepted (line {line})", hint="quote the text")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        nodes += isinstance(event, yaml.NodeEvent)
        if depth > MAX_YAML_DEPTH:
            raise TooLarge(f"nested deeper than {MAX_YAML_DEPTH} levels (line {line})")
        if nodes > max_nodes:
            raise TooLarge(f"has more than {max_nodes} values (line {line})")
        if documents > 1:
            raise InvalidInput(f"has more than one document (line {line})", hint="one file is one document")


def _syntax_error(error: yaml.YAMLError) -> InvalidInput:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        return InvalidInput(f"not valid YAML: {error.problem or error.context}{where}", hint="check the indentation")
    return InvalidInput(f"not valid YAML: {str(error).splitlines()[0][:120]}", hint="the file must be text in UTF-8")


def _entries(node: yaml.Node, path: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """(path, the node to point at, value) of each child."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield field_path(path, str(key.value)), key, value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield field_path(path, index), value, value


def with_line(error: YunheError, root: yaml.Node) -> YunheError:
    """The same error with the line of the deepest node on its field's path."""
    line, node, path = 0, root, ""
    while True:
        wanted = error.field or ""
        step = next(
            (
                entry
                for entry in _entries(node, path)
                if wanted == entry[0] or wanted.startswith((entry[0] + ".", entry[0] + "["))
            ),
            None,
        )
        if step is None:
            break
        path, at, node = step
        line = at.start_mark.line + 1
    if not line:
        return error
    return type(error)(f"{error.message} (line {line})", field=error.field, hint=error.hint)
