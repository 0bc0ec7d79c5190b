"""The site's side of the link: signatures, and what becomes of answers that are no answers."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest

from tests.fakes.fake_hub import FakeHub
from yunhe.core.errors import Conflict, InvalidInput, NotFound, Refused, StorageFull, Unauthenticated, Unavailable
from yunhe.site.link import Backoff, Link, checked, enrol, parsed
from yunhe.wire import problem, signing
from yunhe.wire.link import Enrol, Hello, Sync, SyncAnswer

KEY = signing.new_key()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def welcomed(url: str, timeout_ms: int, key: Any = KEY) -> Link:
    link = Link(url, "site-1", key, timeout_ms)
    link.greeted.set()
    return link


async def on(hub: FakeHub, call: Any, key: Any = KEY) -> Any:
    link = welcomed(hub.url, 2_000, key)
    try:
        return await call(link)
    finally:
        await link.close()


def test_hello_and_poll_are_signed(hub: FakeHub) -> None:
    hub.site.public_key = signing.public_text(KEY)

    async def talk(link: Link) -> SyncAnswer:
        welcome = await link.hello(Hello(site_id="site-1", previous_epoch=0))
        link.epoch = welcome.epoch
        return await link.sync(Sync(site_id="site-1", epoch=welcome.epoch, poll_no=1, applied_seq=0, wait_ms=0))

    assert run(on(hub, talk)).poll_no == 1


def test_another_key_is_not_this_site(hub: FakeHub) -> None:
    hub.site.public_key = signing.public_text(KEY)
    with pytest.raises(Unauthenticated):
        run(on(hub, lambda link: link.hello(Hello(site_id="site-1", previous_epoch=0)), signing.new_key()))


def test_targets_are_signed_as_they_are_sent(hub: FakeHub) -> None:
    """Ids and paths with characters that a URL spells in another way."""
    hub.site.public_key = signing.public_text(KEY)
    fields: dict[str, str | int] = {"path": "out/ä b+c&d.txt", "offset": 0, "total": 2, "sha256": "x"}
    with pytest.raises(InvalidInput, match="hash"):  # the signature is right
        run(on(hub, lambda link: link.put_output("o:1.2_3", 1, b"ab", fields)))
    assert bytes(hub.site.outputs["o:1.2_3.1/out/ä b+c&d.txt"]) == b"ab"
    assert run(on(hub, lambda link: link.put_log("o:1", 1, 0, b"xyz"))) == 3
    assert run(on(hub, lambda link: link.log_size("o:1", 1))) == 3
    with pytest.raises(Conflict, match="starts at 3"):
        run(on(hub, lambda link: link.put_log("o:1", 1, 9, b"xyz")))
    with pytest.raises(NotFound):
        run(on(hub, lambda link: link.bundle("0" * 64)))


def test_no_hub_is_unavailable_within_its_time() -> None:
    started = time.monotonic()
    link = welcomed("http://127.0.0.1:9", 500)
    with pytest.raises(Unavailable, match="cannot be reached"):
        run(link.log_size("a", 1))
    with pytest.raises(Unavailable, match="cannot be reached"):
        enrol("http://127.0.0.1:9", Enrol(token="t", name="n", public_key="k", proof="p"), 500)
    assert time.monotonic() - started < 20


def test_a_hub_that_never_answers_is_unavailable() -> None:
    async def scenario() -> None:
        async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        server = await asyncio.start_server(swallow, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        link = welcomed(f"http://127.0.0.1:{port}", 300)
        try:
            with pytest.raises(Unavailable):
                await link.log_size("a", 1)
        finally:
            await link.close()
            server.close()

    started = time.monotonic()
    run(scenario())
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("status", "kind"), [(500, Unavailable), (502, Unavailable), (503, Unavailable), (400, Refused), (404, Refused)]
)
def test_answers_that_are_no_problem_document(status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=str(status)):
        checked(httpx.Response(status, text="<html>proxy</html>"))


def test_the_hubs_errors_come_back_as_they_were() -> None:
    told = problem.to_problem(StorageFull("no room", field="offset"))
    with pytest.raises(StorageFull, match="no room") as caught:
        checked(httpx.Response(told.status, text=told.model_dump_json()))
    assert caught.value.field == "offset"


def test_an_answer_that_is_not_understood_is_asked_for_again() -> None:
    with pytest.raises(Unavailable, match="not understood"):
        parsed(SyncAnswer, httpx.Response(200, text='{"epoch": -1}'))


def test_pauses_grow_to_the_cap_and_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds * 1000)

    monkeypatch.setattr(asyncio, "sleep", note)
    backoff = Backoff(100, 1_000)

    async def wait(times: int) -> None:
        for _ in range(times):
            await backoff.wait()

    run(wait(6))
    assert all(
        low <= pause <= high for pause, (low, high) in zip(pauses, [(50, 100), (100, 200), (200, 400)], strict=False)
    )
    assert all(500 <= pause <= 1_000 for pause in pauses[4:])
    backoff.reset()
    run(wait(1))
    assert pauses[-1] <= 100
