"""A hub with the rooms that sign-in needs, and what a browser and an operator do there."""

import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path

import httpx
from fastapi import FastAPI

from tests.fakes.oidc import CLIENT_ID, CLIENT_SECRET, FakeProvider, came_back
from tests.hub.conftest import ApiClient
from yunhe.hub.accounts import audit, sign_in_routes
from yunhe.hub.accounts import routes as account_routes
from yunhe.hub.accounts.service import Accounts
from yunhe.hub.accounts.sign_in import SignIn
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.http import install_problems
from yunhe.hub.platform.sign_in_settings import ProviderSettings, SignInSettings

CONSOLE = "https://console.example"
STAFF = "staff"


def settings_of(provider: FakeProvider, secret: Path, **chosen: object) -> SignInSettings:
    secret.write_text(CLIENT_SECRET + "\n")
    values = {"id": STAFF, "name": "Staff", "issuer": provider.url, "client_id": CLIENT_ID, "timeout_ms": 1_500}
    staff = ProviderSettings.model_validate({**values, "client_secret_file": secret, **chosen})
    return SignInSettings(
        console_url=CONSOLE, providers=(staff,), sessions_each=3, begun_at_once=10, begun_per_minute=60
    )


class Door:
    """A hub with the rooms that sign-in needs, and what a browser does there."""

    def __init__(self, platform: Platform) -> None:
        self.app, self.platform = FastAPI(), platform
        install_problems(self.app)
        accounts = Accounts(platform)
        self.app.include_router(account_routes.router(platform, accounts))
        self.app.include_router(audit.router(platform, accounts))
        self.app.include_router(sign_in_routes.router(platform, accounts, SignIn(platform)))
        self.client = ApiClient(self.app)

    def begin(self, browser: str, **more: object) -> httpx.Response:
        shown = hashlib.sha256(browser.encode()).hexdigest()
        return self.client.post(f"/v1/sign-in/{STAFF}", json={"browser_sha256": shown, **more})

    def came(self, browser: str, **more: object) -> dict[str, str]:
        """The body of the end of a sign-in that went well so far."""
        back = came_back(self.begin(browser, **more).json()["url"])
        return {"state": back["state"], "code": back["code"], "browser": browser, "issuer": back["iss"]}

    def finish(self, body: dict[str, str]) -> httpx.Response:
        return self.client.post(f"/v1/sign-in/{STAFF}/session", json=body)

    def enter(self, **more: object) -> httpx.Response:
        return self.finish(self.came(secrets.token_urlsafe(32), **more))

    def key(self) -> dict[str, str]:
        answer = self.enter()
        assert answer.status_code == 201, answer.text
        return {"Authorization": f"Bearer {answer.json()['key']}"}


MakeDoor = Callable[..., Door]


def link(door: Door, operator: dict[str, str], subject: str, role: str = "customer") -> dict[str, str]:
    body = {"provider": STAFF, "subject": subject, "organisation": "acme", "member": "Li Wei", "role": role}
    answer = door.client.post("/v1/identities", json=body, headers=operator)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def refused(answer: httpx.Response, says: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), answer.text
    assert says in answer.json()["detail"]
