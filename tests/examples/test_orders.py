"""The example orders are valid, stay small, and each has an expected end."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.law.sources import ROOT
from yunhe.sdk import load_order
from yunhe.wire.api import MAX_FILES_BYTES

ORDERS = ROOT / "examples" / "orders"
FILES = sorted(ORDERS.glob("[0-9]*.yaml"))
ENDS = ("succeeded", "failed:", "refused:", "cancelled", "withdrawn")


def content(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_order_is_valid_and_carries_what_it_runs(path: Path) -> None:
    spec = load_order(path)
    assert spec.run.command is not None
    assert spec.run.command[0] == "python"
    assert spec.run.command[1] in spec.run.files
    assert len(spec.run.files) == len(content(path)["run"]["files"])
    assert sum(len(text.encode()) for text in spec.run.files.values()) <= MAX_FILES_BYTES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_order_says_what_it_shows_and_what_to_expect(path: Path) -> None:
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert comments[0].startswith("# Shows: ")
    assert any(line.startswith("# Expected: ") for line in comments)


def test_every_order_has_an_expected_end() -> None:
    expected = content(ORDERS / "expected.yaml")
    assert list(expected) == [path.name for path in FILES]
    assert all(end.startswith(ENDS) for end in expected.values())
    assert len(FILES) >= 14


def test_the_orders_cover_what_a_customer_can_ask() -> None:
    texts = [content(path) for path in FILES]
    asked = {key for text in texts for key in text["requirement"]}
    assert asked >= {"cores", "compute", "work", "memory", "slots", "latency", "bandwidth", "residency", "tier"}
    assert asked >= {"max_carbon", "data"}
    assert {text.get("preference", "cost") for text in texts} == {"cost", "speed", "carbon"}
    assert {key for text in texts for key in text} >= {"duration", "deadline", "budget", "array", "retries"}
