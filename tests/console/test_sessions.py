"""Who is whom to the console: sessions that others cannot end, take over or be handed, and keys that are none."""

import re

import httpx
import pytest

from yunhe.apps.embedded import Network
from yunhe.console.sessions import MAX_PER_USER, Session, Sessions
from yunhe.sdk.client import Client
from yunhe.wire.api import WhoAmI

URL = "http://127.0.0.1:9"
TOKEN = re.compile(r'"name":"token"[^}]*?"value":"([^"]+)"|"value":"([^"]+)"[^}]*?"name":"token"')


def user(sessions: Sessions, name: str, now_s: float = 0.0) -> Session:
    who = WhoAmI(organisation=name, member="m", role="customer")
    return sessions.begin(now_s, client=Client(URL, "yk_x"), who=who)


def test_a_crowd_of_visitors_signs_nobody_out() -> None:
    sessions = Sessions(60.0, 600.0, 5)
    ours = user(sessions, "ours")
    first = sessions.begin(0.0)
    for _ in range(20):
        sessions.begin(1.0)
    assert sessions.find(ours.id, 2.0) is ours
    assert ours.signed_in
    assert sessions.find(first.id, 2.0) is None


def test_who_signs_in_over_and_over_ends_only_sessions_of_their_own() -> None:
    sessions = Sessions(60.0, 600.0, MAX_PER_USER + 2)
    ours = user(sessions, "ours")
    many = [user(sessions, "greedy") for _ in range(3 * MAX_PER_USER)]
    assert sessions.find(ours.id, 1.0) is ours
    assert sessions.find(many[0].id, 1.0) is None
    assert sessions.find(many[-1].id, 1.0) is many[-1]


def test_an_ended_session_has_no_key_and_a_sign_in_ends_the_visitors() -> None:
    sessions = Sessions(60.0, 600.0, 5)
    visitor = sessions.begin(0.0)
    visitor.language = "zh"
    signed = sessions.begin(0.0, visitor, Client(URL, "yk_x"), WhoAmI(organisation="o", member="m", role="customer"))
    assert sessions.find(visitor.id, 1.0) is None
    assert signed.language == "zh"
    assert sessions.find(signed.id, 61.0) is None
    assert signed.client is None
    assert not signed.signed_in


@pytest.mark.parametrize("key", [" ", "\t", "yk_\u043a\u043b\u044e\u0447", "a\r\nX: 1", "\x00"])
def test_what_is_no_key_signs_nobody_in(network: Network, key: str) -> None:
    """The console runs beside the client's file of the network, whose key is nobody's who comes by."""
    with httpx.Client(base_url=network.console_url) as visitor:
        found = TOKEN.search(visitor.get("/sign-in").text)
        assert found is not None
        answer = visitor.post("/sign-in", data={"token": found[1] or found[2], "key": key})
        assert (answer.status_code, answer.headers["location"][:18]) == (303, "/sign-in?why=wrong")
        assert visitor.get("/orders/x/log").status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/static/console.css"])
def test_what_caches_keep_carries_no_cookie(network: Network, path: str) -> None:
    assert "set-cookie" not in httpx.get(network.console_url + path).headers


@pytest.mark.parametrize("origin", ["http://[", "null", "http://evil.example", "file://"])
def test_an_origin_that_is_not_ours_is_refused(network: Network, origin: str) -> None:
    assert httpx.get(network.console_url + "/healthz", headers={"Origin": origin}).status_code == 403
