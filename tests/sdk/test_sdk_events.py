"""A stream of events as networks cut it: what did not come whole comes again, from the last id on."""

from itertools import islice
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.sdk.scripted import Reply, Script
from yunhe.core import errors
from yunhe.sdk import Client, orders
from yunhe.sdk.events import MAX_BLOCK_BYTES
from yunhe.wire.api import EventView

STREAM = {"Content-Type": "text/event-stream"}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "OUTAGE_PAUSE_S", 0.01)


def event(n: int) -> EventView:
    return EventView(id=f"7-{n}", at_utc_ms=n, order_id="o-1", lease_id=None, epoch=None, kind="started", detail="")


def block(n: int) -> bytes:
    return f"id: 7-{n}\nevent: started\ndata: {event(n).model_dump_json()}\n\n".encode()


def flow(*parts: bytes) -> Reply:
    return Reply(b"".join(parts), headers=STREAM)


def asked(script: Script) -> list[str | None]:
    """The ids behind which it went on."""
    return [parse_qs(urlsplit(seen.target).query).get("after", [None])[0] for seen in script.seen]


def test_what_is_cut_comes_again_and_nothing_twice(script: Script, client: Client) -> None:
    script.say(
        flow(b"retry: 2000\nid: 7-0\n\n"),  # a place, and nothing happened
        flow(block(1), block(2), block(3)[:-1]),  # the end of the last one is missing
        Reply(drop=True),
        errors.Unavailable("restarting"),
        flow(block(3), block(4)),
    )
    assert list(islice(client.events(), 4)) == [event(1), event(2), event(3), event(4)]
    assert asked(script) == [None, "7-0", "7-2", "7-2", "7-2"]


def test_a_newer_hub_may_say_more(script: Script, client: Client) -> None:
    more = block(1).replace(b'"kind"', b'"mood":"good","kind"').replace(b"\n", b"\r\n")
    script.say(flow(b": a comment\n", b"colour: red\n", more))
    assert next(client.events("7-0", "o-1")) == event(1)
    assert script.seen[0].target == "/v1/events?after=7-0&order=o-1"


@pytest.mark.parametrize("body", [b"id: 7-1\ndata: {}\n\n", b"x" * (MAX_BLOCK_BYTES + 1), b"<html>no hub</html>"])
def test_what_is_no_hub_is_an_error(body: bytes, script: Script, client: Client) -> None:
    script.say(flow(body))
    with pytest.raises(errors.Unavailable):
        next(client.events(outage=0.05))


@pytest.mark.parametrize("kind", [errors.Unauthenticated, errors.Forbidden, errors.NotFound, errors.InvalidInput])
def test_a_refusal_is_not_repeated(kind: type[errors.YunheError], script: Script, client: Client) -> None:
    script.say(kind("no", field="after"))
    with pytest.raises(kind):
        next(client.events("7-0"))
    assert len(script.seen) == 1
