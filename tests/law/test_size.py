"""Size has a tail limit: functions of at most 60 lines, files of at most 400, at most 7 parameters."""

import ast
from pathlib import Path

import pytest

from tests.law.sources import ROOT, SRC, parse, python_files, shown

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400
MAX_PARAMETERS = 7

Function = ast.FunctionDef | ast.AsyncFunctionDef


def too_large(path: Path, tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, Function):
            continue
        lines = own_lines(node)
        if lines > MAX_FUNCTION_LINES:
            found.append(f"{path.name}:{node.lineno} {node.name} has {lines} lines")
        parameters = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        count = len([a for a in parameters if a.arg not in ("self", "cls")])
        if count > MAX_PARAMETERS and not is_command(node):
            found.append(f"{path.name}:{node.lineno} {node.name} has {count} parameters")
    return found


def own_lines(node: Function) -> int:
    """Lines of a function without those of the functions inside it, which are measured by themselves (routes).

    Of a command the body counts: its signature is the list of its options.
    """
    first = node.body[0].lineno if is_command(node) else node.lineno
    lines = (node.end_lineno or node.lineno) - first + 1
    return lines - sum(own_lines(inner) for inner in node.body if isinstance(inner, Function))


def is_command(node: Function) -> bool:
    """The parameters of a command line or of an HTTP route are its options: the decorator reads them by name."""
    verbs = {"command", "callback", "get", "post", "put", "delete", "patch"}
    calls = (d.func for d in node.decorator_list if isinstance(d, ast.Call))
    return any(isinstance(call, ast.Attribute) and call.attr in verbs for call in calls)


# A migration is history: a list of tables as they were, written once.
MEASURED = [path for path in python_files(SRC) if path.parent.name != "versions"] + python_files(ROOT / "examples")


@pytest.mark.parametrize("path", MEASURED, ids=shown)
def test_sizes(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{shown(path)} has {lines} lines"
    assert too_large(path, parse(path)) == []


def test_a_long_function_is_seen() -> None:
    body = "\n".join("    pass" for _ in range(MAX_FUNCTION_LINES))
    names = ", ".join(f"p{i}" for i in range(MAX_PARAMETERS + 1))
    assert len(too_large(Path("planted.py"), ast.parse(f"def long({names}):\n{body}\n"))) == 2
