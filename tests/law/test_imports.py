"""The import law: it holds, and a violation of each kind is caught."""

import ast
import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.law.sources import ROOT, SRC, parse, shown

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "COLUMNS": "200"}
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    shutil.copy(ROOT / ".importlinter", folder)
    shutil.copytree(SRC, folder / "src" / "yunhe", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_the_law_holds(house: Path) -> None:
    result = lint(house)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


PLANTED = [
    ("core/planted.py", "import pydantic", "core is pure"),
    ("core/planted.py", "import time", "core is pure"),
    ("core/planted.py", "from logging import getLogger", "core is pure"),
    ("core/planted.py", "import yunhe.wire.api", "The house"),
    ("facts/planted.py", "import yunhe.wire.api", "The house"),
    ("sdk/planted.py", "import yunhe.hub", "The house"),
    ("hub/platform/planted.py", "import yunhe.site", "The house"),
    ("hub/platform/planted.py", "import yunhe.sdk", "The hub does not use the SDK"),
    ("site/planted.py", "import yunhe.sdk", "Of a site only"),
    ("site/planted.py", "import sqlalchemy", "SQL stays in the hub"),
    ("site/drivers/contract.py", "import yunhe.site.drivers.process", "Drivers are independent"),
    ("site/drivers/newcomer/__init__.py", "", "Drivers are independent"),
    ("site/supervisor/planted.py", "import yunhe.wire.link", "The supervisor stands alone"),
    ("newcomer/__init__.py", "", "The house"),
    ("hub/newcomer/__init__.py", "", "The hub's rooms"),
    ("hub/ledger/planted.py", "import yunhe.hub.orders", "The hub's rooms"),
    ("hub/dispatch/planted.py", "import yunhe.hub.metering", "The hub's rooms"),
    ("hub/intake/planted.py", "import yunhe.hub.matching", "The hub's rooms"),
    ("hub/orders/planted.py", "import yunhe.hub.ledger.store", "Only ledger imports its store"),
]


@pytest.mark.parametrize(("place", "line", "contract"), PLANTED, ids=[f"{p}: {line}" for p, line, _ in PLANTED])
def test_a_planted_violation_is_caught(house: Path, place: str, line: str, contract: str) -> None:
    planted = house / "src" / "yunhe" / place
    new_folder = not planted.parent.exists()
    planted.parent.mkdir(exist_ok=True)
    before = planted.read_text(encoding="utf-8") if planted.exists() else None
    planted.write_text(f"{before or ''}\n{line}\n", encoding="utf-8")
    try:
        result = lint(house)
    finally:
        if new_folder:
            shutil.rmtree(planted.parent)
        elif before is None:
            planted.unlink()
        else:
            planted.write_text(before, encoding="utf-8")
    assert result.returncode == 1
    # The number of ignored imports may stand behind it.
    broken = [text for text in result.stdout.splitlines() if " BROKEN" in text]
    assert any(text.startswith(contract) for text in broken), result.stdout


def test_every_store_is_protected() -> None:
    law = configparser.ConfigParser()
    law.read(ROOT / ".importlinter")
    protected = {section["protected_modules"].strip() for section in law.values() if "protected_modules" in section}
    stores = {f"yunhe.hub.{path.parent.name}.store" for path in (SRC / "hub").glob("*/store.py")}
    assert protected == stores


def test_the_supervisor_needs_only_the_standard_library() -> None:
    """It starts in milliseconds, by `python -I -S`, and what it imports on its way must be there then."""
    own = "yunhe.site.supervisor"
    paths = [SRC / "__init__.py", SRC / "site" / "__init__.py", *(SRC / "site" / "supervisor").glob("*.py")]
    assert len(paths) > 3
    for path in paths:
        for name, line in imported(parse(path)):
            known = name.startswith(own) or name.split(".")[0] in sys.stdlib_module_names
            assert known, f"{shown(path)}:{line} imports {name}"


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.lineno
