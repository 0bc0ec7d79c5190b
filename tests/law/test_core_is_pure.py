"""core has no clock, no I/O, no randomness: what import-linter and ruff cannot see is looked for in the syntax."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.law.sources import SRC, parse, python_files, shown

# Builtins that reach outside, and methods that do so on whatever object they are called on.
CALLS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}
METHODS = {"read_text", "write_text", "read_bytes", "write_bytes", "tofile", "fromfile", "memmap", "now", "utcnow"}
NUMPY_FILES = {"load", "save", "savez", "loadtxt", "savetxt", "genfromtxt", "fromfile", "memmap"}


def impurities(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of every call that makes a function depend on more than its arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield node.lineno, f"global {', '.join(node.names)}"
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name(id=name) if name in CALLS:
                yield node.lineno, f"{name}()"
            case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=name) if name in NUMPY_FILES:
                yield node.lineno, f"numpy.{name}()"
            case ast.Attribute(attr="default_rng") | ast.Name(id="default_rng") if not (node.args or node.keywords):
                yield node.lineno, "default_rng() without a seed"
            case ast.Attribute(attr=name) if name in METHODS:
                yield node.lineno, f".{name}()"


@pytest.mark.parametrize("path", python_files(SRC / "core"), ids=shown)
def test_core_calls_nothing_outside(path: Path) -> None:
    assert list(impurities(parse(path))) == []


@pytest.mark.parametrize(
    "planted",
    [
        "open('x')",
        "print(1)",
        "import numpy as np\nnp.random.default_rng()",
        "import numpy as np\nnp.load('x')",
        "from datetime import datetime\ndatetime.now()",
        "p.read_text()",
        "def f():\n    global n\n    n = 1",
    ],
)
def test_a_planted_impurity_is_seen(planted: str) -> None:
    assert list(impurities(ast.parse(planted)))
