"""The command line in this process, in a folder of its own, against a scripted hub."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sdk.scripted import Script, scripted_hub
from yunhe.cli.main import main


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no configuration of this machine's user."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("YUNHE_URL", "YUNHE_API_KEY", "YUNHE_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return here


@pytest.fixture
def yunhe(folder: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run one command line; what it printed, and its exit status."""

    def run(*arguments: str) -> Ran:
        capfd.readouterr()
        code = main(arguments)
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def script(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    with scripted_hub() as running:
        monkeypatch.setenv("YUNHE_URL", running.url)
        monkeypatch.setenv("YUNHE_API_KEY", "secret")
        yield running
