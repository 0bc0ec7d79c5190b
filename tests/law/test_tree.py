"""Rules for every file that is kept: no addresses of package indexes, no paths of somebody's machine, no leftovers."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.law.sources import ROOT

# Put together here, so that this file passes its own test.
INDEX_HOSTS = [
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "pypi" + ".tuna",
    "mirrors" + ".aliyun",
    "npmjs" + ".org",
    "conda" + ".anaconda",
]
MACHINE_PATHS = ["/ro" + "ot/.py", "/wo" + "rk/", "/opt/py" + "pi", "/ho" + "me/", "/Use" + "rs/"]
LEFTOVERS = ["TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error"]
TEXT_LIMIT = 2 * 1024 * 1024


@pytest.fixture(scope="module")
def tracked() -> dict[str, str]:
    """Text of each tracked file by its path."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout: there is no list of tracked files")
    texts = {}
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.stat().st_size <= TEXT_LIMIT:
            texts[name] = path.read_text(encoding="utf-8", errors="replace")
    assert "Makefile" in texts
    return texts


def lines_with(texts: dict[str, str], words: list[str]) -> list[str]:
    wanted = re.compile("|".join(re.escape(word) for word in words))
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if wanted.search(line)
    ]


def test_no_package_index_is_named(tracked: dict[str, str]) -> None:
    assert lines_with(tracked, INDEX_HOSTS) == []


def test_no_path_of_a_machine_is_named(tracked: dict[str, str]) -> None:
    assert lines_with(tracked, MACHINE_PATHS) == []


def test_nothing_is_left_for_later(tracked: dict[str, str]) -> None:
    code = {
        name: text for name, text in tracked.items() if name.endswith((".py", ".sh", ".toml")) or name == "Makefile"
    }
    assert lines_with(code, LEFTOVERS) == []


def test_requirements_are_pinned_with_hashes(tracked: dict[str, str]) -> None:
    for name in ("requirements.txt", "requirements-test.txt"):
        entries = [line for line in tracked[name].splitlines() if line and not line.startswith((" ", "#"))]
        assert entries
        for entry in entries:
            assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[a-z,]+\])?==[^ ]+ \\", entry), f"{name}: {entry}"
        assert tracked[name].count("--hash=sha256:") >= len(entries)


def test_both_requirement_files_agree(tracked: dict[str, str]) -> None:
    def versions(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", tracked[name], re.MULTILINE))

    base, test = versions("requirements.txt"), versions("requirements-test.txt")
    assert {name: test.get(name) for name in base} == base


def test_no_file_is_named_after_nothing(tracked: dict[str, str]) -> None:
    vague = {"utils.py", "util.py", "common.py", "manager.py", "helpers.py", "misc.py"}
    assert [name for name in tracked if Path(name).name in vague] == []
