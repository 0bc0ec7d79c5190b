"""The client against answers that a network really gives: lost, late, broken, or from something else than a hub."""

import hashlib
import json
import os
import socket
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.sdk.answers import order
from tests.sdk.scripted import Reply, Script
from yunhe.core import errors
from yunhe.core.lifecycle import OrderState
from yunhe.sdk import Client, Order, Requirement, Run
from yunhe.wire.api import OrderPage, OutputList, OutputView, QuoteView
from yunhe.wire.api.orders import MASK

AN_ORDER = Order(run=Run(command=("true",)))
QUOTE = QuoteView(offers=(), refused=())


def test_a_lost_answer_is_asked_for_again_with_the_same_key(script: Script, client: Client) -> None:
    script.say(Reply(drop=True), errors.Unavailable("restarting"), order())
    assert client.submit(AN_ORDER).id == "o-1"
    keys = [seen.headers["idempotency-key"] for seen in script.seen]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert len({seen.body for seen in script.seen}) == 1


def test_two_submits_are_two_orders_unless_the_caller_says_otherwise(script: Script, client: Client) -> None:
    script.say(order())
    client.submit(AN_ORDER)
    client.submit(AN_ORDER)
    client.submit(AN_ORDER, idempotency_key="mine")
    keys = [seen.headers["idempotency-key"] for seen in script.seen]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_a_call_that_is_not_idempotent_is_never_repeated(script: Script, client: Client) -> None:
    script.say(Reply(drop=True))
    with pytest.raises(errors.Unavailable):
        client.create_key("acme", "li.wei", "customer")
    assert len(script.seen) == 1


def test_refusals_are_not_repeated_and_keep_what_the_hub_said(script: Script, client: Client) -> None:
    script.say(errors.OverBudget("the best offer is 3.10CNY", field="budget", hint="raise the budget to 3.10CNY"))
    with pytest.raises(errors.OverBudget) as caught:
        client.submit(AN_ORDER)
    assert caught.value.field == "budget"
    assert caught.value.hint == "raise the budget to 3.10CNY"
    assert len(script.seen) == 1


@pytest.mark.parametrize("kind", [errors.Unauthenticated, errors.Forbidden, errors.NotFound, errors.QuotaExceeded])
def test_a_problem_becomes_the_error_that_the_hub_raised(
    kind: type[errors.YunheError], script: Script, client: Client
) -> None:
    script.say(kind("no"))
    with pytest.raises(kind, match="no"):
        client.order("o-1")


def test_no_hub_is_said_with_the_address_its_origin_and_the_way_out() -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers there
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Client(url, retries=0) as client, pytest.raises(errors.Unavailable) as caught:
            client.whoami()
    assert url in caught.value.message
    assert "argument" in caught.value.message
    assert "yunhe up" in caught.value.hint


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"<html>It works!</html>", 200, {"Content-Type": "text/html"}),
        Reply(b'{"hello": "world"}'),
        Reply(b"", 302, {"Location": "/login"}),
        Reply(b"not json", 503, {"Content-Type": "application/problem+json"}),
    ],
)
def test_something_else_than_a_hub_is_told_as_such(reply: Reply, script: Script) -> None:
    script.say(reply)
    with Client(script.url, retries=0) as client, pytest.raises(errors.Unavailable) as caught:
        client.whoami()
    assert script.url in caught.value.message


@pytest.mark.parametrize("url", ["", "hub.example", "ftp://hub.example", "http://", "http://a:b", "http://a:99999999"])
def test_what_is_not_an_address_is_refused_by_name(url: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        Client(url or "http:///")
    assert caught.value.field == "url"


def test_the_key_is_sent_and_never_shown(script: Script, client: Client) -> None:
    script.say(QUOTE)
    client.quote(Requirement(cores=1))
    assert script.seen[0].headers["authorization"] == "Bearer secret"
    assert "secret" not in repr(client.profile)


def test_a_bare_requirement_is_quoted_as_an_order(script: Script, client: Client) -> None:
    script.say(QUOTE)
    client.quote(Requirement(compute="0.05TFLOPS@fp64", latency="20ms:shanghai"), duration="2h")
    sent = json.loads(script.seen[0].body)
    assert sent["requirement"]["compute"] == "0.05TFLOPS@fp64"
    assert sent["duration"] == "2h"


def test_a_quote_says_that_there_are_secrets_and_not_which(script: Script, client: Client) -> None:
    script.say(QUOTE)
    client.quote(Order(run=Run(command=("true",), secrets={"TOKEN": "s3cret-value"}), requirement=Requirement(cores=1)))
    assert json.loads(script.seen[0].body)["run"]["secrets"] == {"TOKEN": MASK}


def test_wrong_values_are_named_before_anything_is_sent(script: Script, client: Client) -> None:
    with pytest.raises(errors.InvalidInput, match="most 10000"):
        client.submit_batch([AN_ORDER] * 10_001)
    with pytest.raises(errors.InvalidInput) as caught:
        client.quote(Requirement(cores=1), duration="")
    assert caught.value.field == "duration"
    with pytest.raises(errors.InvalidInput) as caught:
        client.create_key("acme", "li.wei", "king")
    assert caught.value.field == "role"
    assert script.seen == []


def test_an_id_cannot_reach_another_address(script: Script, client: Client) -> None:
    script.say(order())
    client.cancel("../sites/x?y=")
    assert script.seen[0].target == "/v1/orders/..%2Fsites%2Fx%3Fy%3D/cancel"


def test_pages_are_read_to_the_end_and_not_beyond_a_limit(script: Script, client: Client) -> None:
    pages = [
        OrderPage(orders=(order(order_id="a"), order(order_id="b")), next_cursor="c1"),
        OrderPage(orders=(order(order_id="c"),), next_cursor=None),
    ]
    script.say(*pages)
    assert [view.id for view in client.orders(OrderState.OPEN)] == ["a", "b", "c"]
    queries = [parse_qs(urlsplit(seen.target).query) for seen in script.seen]
    assert queries[0]["state"] == ["open"]
    assert queries[1]["cursor"] == ["c1"]
    script.seen.clear()
    script.say(*pages)
    assert [view.id for view in client.orders(limit=2)] == ["a", "b"]
    assert len(script.seen) == 1


def test_waiting_outlives_a_hub_that_is_away_for_a_moment(script: Script) -> None:
    away = Reply(drop=True)
    script.say(order(), away, away, order(OrderState.RUNNING), order(OrderState.SUCCEEDED, settled=True))
    with Client(script.url, retries=0) as client:
        view = client.wait("o-1", timeout=20)
    assert view.state is OrderState.SUCCEEDED
    assert view.settled


def test_waiting_ends_when_the_time_is_over_and_says_the_state(script: Script, client: Client) -> None:
    script.say(order(OrderState.RUNNING))
    with pytest.raises(TimeoutError, match="running"):
        client.wait("o-1", timeout=0.2)


def test_ended_but_not_settled_is_not_over(script: Script, client: Client) -> None:
    script.say(order(OrderState.SUCCEEDED), order(OrderState.SUCCEEDED, settled=True))
    views = list(client.watch("o-1", timeout=10))
    assert [view.settled for view in views] == [False, True]


def log_reply(content: bytes, next_offset: int, complete: bool, attempt: int = 1, latest: int = 1) -> Reply:
    headers = {
        "Yunhe-Next-Offset": str(next_offset),
        "Yunhe-Complete": str(complete).lower(),
        "Yunhe-Attempt": str(attempt),
        "Yunhe-Latest-Attempt": str(latest),
    }
    return Reply(content, 200, headers)


def asked(script: Script, name: str) -> list[str]:
    return [parse_qs(urlsplit(seen.target).query).get(name, [""])[0] for seen in script.seen]


def test_a_followed_log_is_whole_lines_in_order(script: Script, client: Client) -> None:
    script.say(
        log_reply(b"one\ntw", 6, False),
        log_reply(b"", 6, False),
        log_reply(b"o\n\xff\xfe\nlast", 15, True),
    )
    assert list(client.logs("o-1")) == ["one", "two", "\ufffd\ufffd", "last"]
    assert asked(script, "offset") == ["0", "6", "6"]


def test_a_followed_log_goes_on_with_the_next_attempt_from_its_begin(script: Script, client: Client) -> None:
    script.say(
        log_reply(b"", 0, False, attempt=0, latest=0),
        log_reply(b"first\n", 6, False),
        log_reply(b"broke\n", 12, True, attempt=1, latest=2),
        log_reply(b"second\n", 7, False, attempt=2, latest=2),
        log_reply(b"", 7, True, attempt=2, latest=2),
    )
    assert list(client.logs("o-1")) == ["first", "broke", "second"]
    assert asked(script, "attempt") == ["", "", "1", "2", "2"]
    assert asked(script, "offset") == ["0", "0", "6", "0", "7"]


def test_one_attempt_by_name_is_that_one_alone(script: Script, client: Client) -> None:
    script.say(log_reply(b"first\n", 6, True, attempt=1, latest=3))
    assert list(client.logs("o-1", attempt=1)) == ["first"]
    assert asked(script, "attempt") == ["1"]


def test_a_log_that_is_not_followed_ends_where_it_is(script: Script, client: Client) -> None:
    script.say(log_reply(b"one\n", 4, False), log_reply(b"two\n", 8, False), log_reply(b"", 8, False))
    assert list(client.logs("o-1", follow=False)) == ["one", "two"]
    assert set(asked(script, "follow_ms")) == {"0"}


def output(path: str, lease: str, content: bytes) -> OutputView:
    return OutputView(lease_id=lease, path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def test_a_download_is_checked_and_appears_whole(script: Script, client: Client, tmp_path: Path) -> None:
    listing = OutputList(outputs=(output("out/result.bin", "l-1", b"\x00\x01right"),))
    script.say(listing, Reply(b"\x00\x01right", 200, {}))
    target = client.download("o-1", "out/result.bin", tmp_path / "result.bin")
    assert target.read_bytes() == b"\x00\x01right"
    script.say(listing, Reply(b"wrong", 200, {}))
    with pytest.raises(errors.Unavailable, match="not what the site stored"):
        client.download("o-1", "out/result.bin", tmp_path / "second.bin")
    assert sorted(os.listdir(tmp_path)) == ["result.bin"]
    script.say(listing)
    with pytest.raises(errors.Conflict, match="exists already"):
        client.download("o-1", "out/result.bin", tmp_path / "result.bin")


def test_a_download_says_what_is_missing_or_not_clear(script: Script, client: Client, tmp_path: Path) -> None:
    script.say(OutputList(outputs=(output("r", "l-1", b"1"), output("r", "l-2", b"2"))))
    with pytest.raises(errors.NotFound):
        client.download("o-1", "other", tmp_path / "x")
    with pytest.raises(errors.InvalidInput, match="2 tasks"):
        client.download("o-1", "r", tmp_path / "x")
