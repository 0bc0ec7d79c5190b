"""Sign-in through a provider: the way of a person, until they sign out or the session ends."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tests.fakes.oidc import FakeProvider
from tests.hub.conftest import FakeClock
from tests.hub.sign_in.door import CONSOLE, STAFF, Door, MakeDoor
from yunhe.hub.accounts.provider import AGAIN_MS


def test_who_is_linked_signs_in_works_and_signs_out(door: Door, linked: dict[str, str], clock: FakeClock) -> None:
    made = door.enter()
    assert made.status_code == 201, made.text
    session = made.json()
    assert (session["organisation"], session["member"], session["role"]) == ("acme", "Li Wei", "customer")
    assert session["expires_utc_ms"] == clock.ms + 8 * 3_600_000
    headers = {"Authorization": f"Bearer {session['key']}"}
    assert door.client.get("/v1/whoami", headers=headers).json()["organisation"] == "acme"
    [shown] = [key for key in door.client.get("/v1/keys", headers=headers).json()["keys"] if key["expires_utc_ms"]]
    assert (shown["id"], shown["expires_utc_ms"]) == (session["id"], session["expires_utc_ms"])
    assert door.client.post("/v1/sign-out", headers=headers).json() == {"signed_out": True}
    refused = door.client.get("/v1/whoami", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")


def test_a_session_ends_by_itself_to_the_moment(door: Door, linked: dict[str, str], clock: FakeClock) -> None:
    headers = door.key()
    clock.ms += 8 * 3_600_000 - 1
    assert door.client.get("/v1/whoami", headers=headers).status_code == 200
    clock.ms += 1  # and no cache keeps it longer
    refused = door.client.get("/v1/whoami", headers=headers)
    assert (refused.status_code, refused.json()["detail"]) == (401, "the session has ended")
    assert refused.json()["hint"] == "sign in again"


def test_the_address_says_what_the_flow_demands(door: Door, provider: FakeProvider) -> None:
    url = door.begin("b" * 40).json()["url"]
    assert url.startswith(f"{provider.url}/authorize?")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert asked["redirect_uri"] == f"{CONSOLE}/sign-in/callback/{STAFF}"
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["scope"] == "openid profile email"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    on_loopback = parse_qs(urlsplit(door.begin("b" * 40, port=45_678).json()["url"]).query)
    assert on_loopback["redirect_uri"] == ["http://127.0.0.1:45678/callback"]


def test_two_replicas_share_what_was_begun(door: Door, door_with: MakeDoor, linked: dict[str, str]) -> None:
    """And one that starts anew knows it too."""
    body = door.came("x" * 40)
    other = door_with()
    assert other.finish(body).status_code == 201
    assert door.finish(body).status_code == 401


def at_once(*calls: Callable[[], httpx.Response]) -> list[int]:
    """The statuses of calls that are made at the same time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return sorted(done.result(60).status_code for done in [pool.submit(call) for call in calls])


def test_two_answers_at_once_at_two_replicas_are_one(door: Door, door_with: MakeDoor, linked: dict[str, str]) -> None:
    other, body = door_with(), door.came("x" * 40)
    assert at_once(lambda: door.finish(body), lambda: other.finish(body)) == [201, 401]


def test_a_newcomer_who_comes_twice_at_once_is_one_person(door_with: MakeDoor, operator: dict[str, str]) -> None:
    first, second = door_with(newcomers="create"), door_with(newcomers="create")
    mine, again = first.came("x" * 40), second.came("y" * 40)
    assert at_once(lambda: first.finish(mine), lambda: second.finish(again)) == [201, 201]
    assert len(first.client.get("/v1/identities", headers=operator).json()["identities"]) == 1


def test_a_provider_is_asked_for_its_keys_once(door: Door, linked: dict[str, str], provider: FakeProvider) -> None:
    for _ in range(3):
        door.key()
    assert provider.seen.count("/jwks") == 1
    assert provider.seen.count("/.well-known/openid-configuration") == 1


@pytest.mark.parametrize("ways", [["client_secret_post"], ["client_secret_basic"], None])
def test_the_secret_goes_as_the_provider_likes_it(
    door: Door, linked: dict[str, str], provider: FakeProvider, ways: list[str] | None
) -> None:
    provider.metadata = {} if ways is None else {"token_endpoint_auth_methods_supported": ways}
    assert door.enter().status_code == 201


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("RS256", RSAKey.generate_key(2048, auto_kid=True)),
        ("ES256", ECKey.generate_key("P-256", auto_kid=True)),
        ("EdDSA", OKPKey.generate_key("Ed25519", auto_kid=True)),
        ("Ed25519", OKPKey.generate_key("Ed25519", auto_kid=True)),
    ],
)
def test_each_allowed_algorithm_is_understood(
    door: Door, linked: dict[str, str], provider: FakeProvider, algorithm: str, key: Any
) -> None:
    provider.algorithm, provider.keys = algorithm, [key]
    assert door.enter().status_code == 201


def test_a_provider_that_changes_its_keys_is_followed(
    door: Door, linked: dict[str, str], provider: FakeProvider, clock: FakeClock
) -> None:
    door.key()
    provider.rotate()
    assert door.enter().status_code == 401  # not so soon again: somebody could have us ask without end
    clock.ms += AGAIN_MS
    assert door.enter().status_code == 201
    assert provider.seen.count("/jwks") == 2
