"""A provider that is away, slow, endless, changed or leads elsewhere."""

import gzip
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.oidc import FakeProvider
from tests.hub.conftest import FakeClock
from tests.hub.sign_in.door import Door, MakeDoor
from yunhe.hub.accounts.provider import AGAIN_MS, MAX_ANSWER_BYTES


def huge(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(200):
            handler.wfile.write(b"[" * 65_536)
    except OSError:
        pass  # the hub had enough


def slow(handler: Any) -> None:
    """A byte now and then: never silent for long, never done."""
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass  # the hub has gone


BOMB = gzip.compress(b" " * (20 * MAX_ANSWER_BYTES))


def packed(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(BOMB)))
    handler.end_headers()
    handler.wfile.write(BOMB)


FAILURES: list[tuple[Callable[[Any], None], str]] = [
    (lambda handler: handler.answer(500, {}), "HTTP 500"),
    (lambda handler: handler.redirect("http://127.0.0.1:1/"), "HTTP 302"),
    (huge, "more than"),
    (slow, "in time"),
    (packed, "packed"),
    (lambda handler: handler.close_connection, "cannot be reached"),
]


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/jwks", "/token"])
def test_a_provider_that_fails_is_said_to_fail(
    door_with: MakeDoor, linked: dict[str, str], provider: FakeProvider, path: str, clock: FakeClock
) -> None:
    for failure, says in FAILURES:
        door = door_with()
        provider.spoilt[path] = failure
        began = time.monotonic()
        answer = door.begin("b" * 40) if "well-known" in path else door.enter()
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (503, "unavailable", "provider")
        assert says in answer.json()["detail"]
        assert time.monotonic() - began < 10  # the bound is 1.5 s; a provider that drips would take for ever
        del provider.spoilt[path]
        clock.ms += AGAIN_MS
        assert door.enter().status_code == 201


def test_a_provider_that_is_down_is_not_asked_by_everybody(door: Door, provider: FakeProvider) -> None:
    provider.spoilt["/.well-known/openid-configuration"] = lambda handler: handler.answer(500, {})
    for _ in range(5):
        assert door.begin("b" * 40).status_code == 503
    assert len(provider.seen) == 1


def test_a_provider_that_is_not_there(door_with: MakeDoor) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = door_with(issuer=f"http://127.0.0.1:{taken.getsockname()[1]}").begin("b" * 40)
    assert (answer.status_code, "cannot be reached" in answer.json()["detail"]) == (503, True)


ELSEWHERE: list[tuple[dict[str, object], str]] = [
    ({"issuer": "https://evil.example"}, "another name"),
    ({"token_endpoint": "http://example.com/token"}, "not https"),
    ({"token_endpoint": "file:///etc/passwd"}, "not https"),
    ({"jwks_uri": None}, "not https"),
    ({"jwks_uri": "http://169.254.169.254/latest"}, "not https"),
    ({"authorization_endpoint": "javascript:alert(1)"}, "not https"),
    ({"authorization_endpoint": 'https://x/"><script>'}, "not https"),
    ({"authorization_endpoint": "https://user@evil.example/"}, "not https"),
]


def test_a_provider_that_leads_elsewhere(door: Door, provider: FakeProvider, clock: FakeClock) -> None:
    for document, says in ELSEWHERE:
        provider.metadata = document
        clock.ms += AGAIN_MS
        answer = door.begin("b" * 40)
        assert (answer.status_code, says in answer.json()["detail"]) == (503, True), answer.text


def test_a_provider_that_does_not_know_this_hub(door_with: MakeDoor, provider: FakeProvider) -> None:
    answer = door_with(client_id="other").enter()
    assert (answer.status_code, "invalid_client" in answer.json()["detail"]) == (503, True)
