"""`yunhe login --oidc` by a real provider and a browser that is a program, and `yunhe account`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.fakes.oidc import CLIENT_ID, CLIENT_SECRET, FakeProvider, fake_provider
from tests.hub.running import RunningHub, running_hub
from yunhe.hub.platform.sign_in_settings import ProviderSettings, SignInSettings

# What a browser does: follow where it is sent.
BROWSER = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=30).read()"


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with fake_provider() as running:
        yield running


@pytest.fixture
def hub(provider: FakeProvider, tmp_path: Path) -> Iterator[RunningHub]:
    secret = tmp_path / "secret"
    secret.write_text(CLIENT_SECRET)
    known = {"id": "staff", "name": "Staff", "issuer": provider.url, "client_id": CLIENT_ID}
    staff = ProviderSettings.model_validate({**known, "client_secret_file": secret})
    url = f"sqlite:///{tmp_path}/hub.db"
    with running_hub(url, tmp_path / "data", sign_in=SignInSettings(providers=(staff,))) as running:
        yield running


def login(hub: RunningHub, provider: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "browser.py"
    program.write_text(BROWSER)
    env = {**os.environ, "BROWSER": f"{sys.executable} {program} %s"}
    words = [sys.executable, "-m", "yunhe.cli.main", "login", hub.url, "--oidc", provider]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_login_by_a_browser_and_links_of_operators(
    hub: RunningHub, provider: FakeProvider, yunhe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = login(hub, "staff", tmp_path)
    assert (refused.returncode, provider.subject in refused.stderr) == (4, True), refused.stderr
    monkeypatch.setenv("YUNHE_URL", hub.url)
    monkeypatch.setenv("YUNHE_API_KEY", hub.operator.headers["Authorization"].split()[1])
    assert yunhe("org", "create", "acme").code == 0
    made = yunhe("account", "link", "staff", provider.subject, "acme", "--member", "li.wei", "--json")
    assert (made.code, json.loads(made.out)["source"]) == (0, "operator"), made.err
    done = login(hub, "staff", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "li.wei of acme, customer" in done.stdout
    assert "the session ends at" in done.stderr
    assert yunhe("account", "list").out.count(provider.subject) == 1
    monkeypatch.delenv("YUNHE_API_KEY")
    assert yunhe("orders").code == 0  # by the key that was stored
    monkeypatch.setenv("YUNHE_API_KEY", hub.operator.headers["Authorization"].split()[1])
    gone = yunhe("account", "unlink", json.loads(made.out)["id"])
    assert (gone.code, gone.out) == (0, f"{provider.subject} acts for acme no more\n")
    assert login(hub, "staff", tmp_path).returncode == 4


def test_login_by_a_provider_that_is_none(hub: RunningHub, yunhe: Run) -> None:
    shown = yunhe("login", hub.url, "--oidc", "other")
    assert (shown.code, "there are: staff" in shown.err) == (4, True)
