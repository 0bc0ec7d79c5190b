"""Settings that cannot be safe are refused, and no secret leaves its place."""

import logging
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from tests.fakes.oidc import CLIENT_SECRET, FakeProvider
from tests.hub.conftest import ApiClient
from tests.hub.sign_in.door import Door
from yunhe.core.errors import InvalidInput
from yunhe.hub.accounts.sign_in import SignIn
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.db import metadata
from yunhe.hub.platform.sign_in_settings import ProviderSettings, SignInSettings

GOOD = {"id": "staff", "name": "Staff", "issuer": "https://id.example/realms/staff", "client_id": "yunhe"}


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "http://id.example"},
        {"issuer": "https://id.example?x=1"},
        {"issuer": "https://id.example#x"},
        {"issuer": "https://a@id.example"},
        {"issuer": "ftp://127.0.0.1"},
        {"id": "Staff/.."},
        {"scopes": ["profile"]},
        {"client_secret_file": "/x", "client_secret_env": "X"},
        {"client_secret": "in the settings"},
        {"newcomers": "all"},
    ],
)
def test_settings_that_are_not_safe_are_refused(change: dict[str, object]) -> None:
    ProviderSettings.model_validate(GOOD)
    with pytest.raises(ValidationError):
        ProviderSettings.model_validate({**GOOD, **change})


def test_a_secret_that_cannot_be_read_stops_the_hub_before_it_serves(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_provider(**chosen: object) -> None:
        one = ProviderSettings.model_validate({**GOOD, **chosen})
        settings = platform.settings.model_copy(update={"sign_in": SignInSettings(providers=(one,))})
        object.__setattr__(platform, "settings", settings)
        SignIn(platform)

    with_provider()
    monkeypatch.setenv("YUNHE_TEST_SECRET", "")
    for wrong in ({"client_secret_file": tmp_path / "none"}, {"client_secret_env": "YUNHE_TEST_SECRET"}):
        with pytest.raises(InvalidInput, match="client secret"):
            with_provider(**wrong)
    monkeypatch.setenv("YUNHE_TEST_SECRET", "s")
    with_provider(client_secret_env="YUNHE_TEST_SECRET")


def test_without_a_provider_there_is_none(client: ApiClient, platform: Platform) -> None:
    assert Door(platform).client.get("/v1/sign-in").json() == {"providers": []}


def test_no_secret_is_stored_or_logged(
    door: Door, linked: dict[str, str], provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = door.came("browser-secret-" * 3)
    key = door.finish(body).json()["key"]
    pending = door.came("browser-secret-" * 3)
    with door.platform.db.reading() as conn:
        stored = "\n".join(str(row) for table in metadata.sorted_tables for row in conn.execute(sa.select(table)))
    assert linked["id"] in stored
    for secret in (key, body["state"], body["code"], pending["state"], "browser-secret-", CLIENT_SECRET):
        assert secret not in stored
        assert secret not in "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("yunhe"))
