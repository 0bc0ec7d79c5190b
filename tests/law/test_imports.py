"""The import law: it holds, and a violation of each kind is caught."""

import ast
import configparser
import os
import shutil
import subprocess
import sys
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
    planted.write_text(line + "\n")
    try:
        result = lint(house)
    finally:
        shutil.rmtree(planted.parent) if new_folder else planted.unlink()
    assert result.returncode == 1
    broken = [text for text in result.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(text.startswith(contract) for text in broken), result.stdout


def test_every_store_is_protected() -> None:
    law = configparser.ConfigParser()
    law.read(ROOT / ".importlinter")
    protected = {section["protected_modules"].strip() for section in law.values() if "protected_modules" in section}
    stores = {f"yunhe.hub.{path.parent.name}.store" for path in (SRC / "hub").glob("*/store.py")}
    assert protected == stores


def test_the_supervisor_stands_alone() -> None:
    """It outlives the agent and starts in milliseconds: `python -I -S`, the standard library and nothing of ours."""
    path = SRC / "site" / "supervisor.py"
    for node in ast.walk(parse(path)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            assert name.split(".")[0] in sys.stdlib_module_names, f"{shown(path)}:{node.lineno} imports {name}"
