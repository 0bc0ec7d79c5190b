"""What must not get in: answers that were begun elsewhere, used, stolen or made up."""

import secrets

import pytest
import sqlalchemy as sa

from tests.fakes.oidc import FakeProvider
from tests.hub.conftest import FakeClock
from tests.hub.sign_in.door import STAFF, Door, refused


def test_a_state_that_was_never_begun(door: Door, linked: dict[str, str]) -> None:
    body = door.came("x" * 40)
    refused(door.finish({**body, "state": secrets.token_urlsafe(32)}), "never begun")


def test_an_answer_counts_once(door: Door, linked: dict[str, str]) -> None:
    body = door.came("x" * 40)
    assert door.finish(body).status_code == 201
    refused(door.finish(body), "is over")


def test_a_code_counts_once_also_in_another_sign_in(door: Door, linked: dict[str, str]) -> None:
    """PKCE: a stolen code does not fit the verifier of the thief's own sign-in, nor does one that was used."""
    mine, theirs = door.came("x" * 40), door.came("y" * 40)
    refused(door.finish({**theirs, "code": mine["code"]}), "does not take this code")
    used, fresh = door.came("x" * 40), door.came("y" * 40)
    assert door.finish(used).status_code == 201
    refused(door.finish({**fresh, "code": used["code"]}), "does not take this code")


def test_what_another_browser_began_is_worth_nothing(door: Door, linked: dict[str, str]) -> None:
    """Cross-site sign-in: the attacker's answer in the victim's browser, which has a secret of its own."""
    attackers = door.came("attacker" * 5)
    refused(door.finish({**attackers, "browser": "victim" * 8}), "begun elsewhere")
    refused(door.finish(attackers), "is over")  # and it is used up


def test_what_took_too_long_is_over(door: Door, linked: dict[str, str], clock: FakeClock) -> None:
    body = door.came("x" * 40)
    clock.ms += 600_000
    refused(door.finish(body), "is over")


def test_another_provider_cannot_answer(door: Door, linked: dict[str, str], provider: FakeProvider) -> None:
    refused(door.finish({**door.came("x" * 40), "issuer": "https://evil.example"}), "another provider")
    provider.metadata = {"authorization_response_iss_parameter_supported": True}
    fresh = {**door.came("x" * 40)}
    del fresh["issuer"]
    assert door.finish(fresh).status_code == 201  # what it says of itself was read before


def test_a_provider_that_says_who_answers_must_say_so(
    door: Door, linked: dict[str, str], provider: FakeProvider
) -> None:
    provider.metadata = {"authorization_response_iss_parameter_supported": True}
    body = door.came("x" * 40)
    del body["issuer"]
    refused(door.finish(body), "another provider")


def test_a_flood_of_beginnings_is_bounded_and_leaves_the_newest(
    door: Door, linked: dict[str, str], clock: FakeClock
) -> None:
    first = door.came("x" * 40)
    for _ in range(9):
        clock.ms += 1
        assert door.begin("f" * 40).status_code == 200
    clock.ms += 1
    last = door.came("y" * 40)
    with door.platform.db.reading() as conn:
        assert conn.execute(sa.text("SELECT count(*) FROM sign_in")).scalar() == 10
    assert door.finish(last).status_code == 201
    refused(door.finish(first), "is over")


def test_one_address_begins_so_many_in_a_minute(door: Door, linked: dict[str, str], clock: FakeClock) -> None:
    clock.ms += 60_000 - clock.ms % 60_000
    assert [door.begin("f" * 40).status_code for _ in range(61)] == [200] * 60 + [429]
    answer = door.begin("f" * 40)
    assert (answer.json()["code"], answer.json()["hint"]) == ("rate_limited", "try again in a minute")
    clock.ms += 60_000
    assert door.finish(door.came("y" * 40)).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"browser_sha256": "short"},
        {"browser_sha256": "0" * 64, "redirect_uri": "https://evil.example"},
        {"browser_sha256": "0" * 64, "port": 0},
        {"browser_sha256": "0" * 64, "port": "1@evil.example"},
        {"browser_sha256": "0" * 64, "console_url": "https://evil.example"},
    ],
)
def test_nobody_says_where_the_answer_goes(door: Door, body: dict[str, object]) -> None:
    assert door.client.post(f"/v1/sign-in/{STAFF}", json=body).status_code == 422


def test_a_provider_that_is_none(door: Door) -> None:
    answer = door.client.post("/v1/sign-in/evil", json={"browser_sha256": "0" * 64})
    assert (answer.status_code, answer.json()["field"]) == (404, "provider")
