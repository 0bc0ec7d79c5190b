"""Rules that hold for every command: quick help, one place for its line, an example, an exit status."""

import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.core import TyperCommand

from tests.cli.conftest import Run
from yunhe.cli.lazy import Branch, Leaf, Stub
from yunhe.cli.tree import TREE

HELP_SECONDS = 0.3


def leaves() -> Iterator[tuple[str, Leaf]]:
    for name, entry in TREE.items():
        if isinstance(entry, Branch):
            for child, leaf in entry.children.items():
                yield f"{name} {child}", leaf
        else:
            yield name, entry


def load(path: str, leaf: Leaf) -> TyperCommand:
    return Stub(path.split()[-1], leaf).load()


@pytest.mark.parametrize(("path", "leaf"), list(leaves()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_command_has_its_line_and_an_example(path: str, leaf: Leaf, yunhe: Run) -> None:
    command = load(path, leaf)
    assert (command.help or "").splitlines()[0] == leaf.help
    assert (command.epilog or "").replace("\\[", "[").startswith(f"Example: yunhe {path}")
    shown = yunhe(*path.split(), "--help")
    assert shown.code == 0
    assert "Example:" in shown.out
    assert shown.err == ""


def test_help_imports_no_client_and_no_server() -> None:
    check = (
        "import sys; from yunhe.cli.main import main; main(['--help']);"
        "heavy = {'httpx', 'pydantic', 'sqlalchemy', 'fastapi', 'numpy', 'yunhe.sdk', 'yunhe.hub', 'yunhe.apps'};"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_comes_at_once() -> None:
    """By processor time, the best of five: other work on this machine is not our slowness."""
    taken = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "yunhe.cli.main", "--help"], stdout=subprocess.DEVNULL, timeout=60, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taken) <= HELP_SECONDS


def test_without_a_command_the_help_is_shown(yunhe: Run) -> None:
    shown = yunhe()
    assert shown.code == 0
    assert "Place and follow work" in shown.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("sumbit",), "Did you mean 'submit'"),
        (("orders", "--sate", "open"), "No such option: --sate"),
        (("orders", "--state", "lost"), "--state"),
        (("show",), "Missing argument"),
        (("site",), "Missing command"),
        (("site", "join", "--token"), "requires an argument"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(arguments: tuple[str, ...], says: str, yunhe: Run) -> None:
    shown = yunhe(*arguments)
    assert shown.code == 2
    assert shown.out == ""
    assert says in shown.err.splitlines()[0]
    assert shown.err.startswith("error: ")
    assert "hint: see `yunhe" in shown.err


def test_the_version_is_told(yunhe: Run) -> None:
    assert yunhe("--version").out.startswith("yunhe 0.")
