"""What the sources import is declared, and what is declared is used."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.law.sources import ROOT, SRC, parse, python_files

# Used without an import of ours: uvicorn finds the faster loop and parser by itself.
FOUND_BY_OTHERS = {"httptools", "uvloop"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# Part of the interface of what we declare.
INTERFACE_OF = {"starlette": "fastapi", "click": "typer", "typing-extensions": "pydantic", "psycopg-binary": "psycopg"}


def declared(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"]]
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    return {normal(re.split(r"[\[<>=!~; ]", text)[0]) for text in texts}


def imported(*folders: Path) -> dict[str, str]:
    """Third-party distribution -> one file that imports it."""
    owners = packages_distributions()
    found: dict[str, str] = {}
    for path in (path for folder in folders for path in python_files(folder)):
        for node in ast.walk(parse(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for top in {name.split(".")[0] for name in names} - {"yunhe", "tests", "benchmarks"}:
                if top not in sys.stdlib_module_names:
                    for owner in owners.get(top, [top]):
                        found[normal(owner)] = str(path.relative_to(ROOT))
    return found


def undeclared(known: set[str], *folders: Path) -> dict[str, str]:
    return {name: file for name, file in imported(*folders).items() if INTERFACE_OF.get(name, name) not in known}


def test_what_is_imported_is_declared() -> None:
    # What only an extra brings is imported where it is used and nowhere else.
    assert set(undeclared(declared(), SRC).values()) <= {"src/yunhe/simulator/report.py", "src/yunhe/apps/sweep.py"}
    assert undeclared(declared("simulate", "ray"), SRC) == {}
    assert undeclared(declared("test"), ROOT / "tests", ROOT / "benchmarks") == {}


def test_what_is_declared_is_used() -> None:
    assert declared() - set(imported(SRC)) - FOUND_BY_OTHERS == set()
