"""What answers in place of a Ray dashboard: every call ends in time, and what is no answer is Unavailable."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from yunhe.core.errors import Unavailable
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.drivers.ray import client as module
from yunhe.site.drivers.ray.client import RayClient
from yunhe.site.settings import RaySettings

KEY = LeaseKey("a", 1)
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def speaking_to(answer: Answer, **changes: Any) -> AsyncIterator[RayClient]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = RayClient(RaySettings(address=address, call_limit_ms=300, **changes), "tag")
    try:
        yield client
    finally:
        await client.close()
        server.close()


def saying(text: str, status: str = "200 OK", more: str = "") -> Answer:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = text.encode()
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return answer


async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def dripping(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then: each read ends in time, the answer never does."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _n in range(300):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.1)


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


async def refused_by(answer: Answer) -> str:
    async with speaking_to(answer) as client:
        began = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            await client.listing()
        assert time.monotonic() - began < 20
        return str(caught.value)


def test_every_call_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no answer in 0.3 s" in asyncio.run(refused_by(silent))
    assert "no answer in 0.3 s" in asyncio.run(refused_by(dripping))
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 1 << 20)
    assert "longer than" in asyncio.run(refused_by(endless))


@pytest.mark.parametrize("text", ["<html>", "{}", '"text"', "null"])
def test_what_is_no_list_of_jobs_is_no_answer(text: str) -> None:
    asyncio.run(refused_by(saying(text)))


@pytest.mark.parametrize("usage", ["null", "[]", '{"n": []}', '{"n": {"CPU": []}}', '{"n": {"CPU": [null]}}'])
def test_what_is_no_figure_of_use_is_no_answer(usage: str) -> None:
    async def work() -> None:
        text = '{"data": {"clusterStatus": {"time": 1, "loadMetricsReport": {"usageByNode": %s}}}}'
        async with speaking_to(saying(text % usage)) as client:
            with pytest.raises(Unavailable, match="in use"):
                await client.usage()

    asyncio.run(work())


def test_jobs_of_others_and_odd_entries_are_passed_over() -> None:
    jobs = '[1, {}, {"submission_id": "x"}, {"submission_id": "yunhe-tag-a"}, {"submission_id": "yunhe-other-a.1"},'
    jobs += '{"submission_id": "yunhe-tag-a.1", "status": "NEW", "metadata": {"yunhe_resources": "?"}}]'

    async def listed() -> dict[LeaseKey, str]:
        async with speaking_to(saying(jobs)) as client:
            return {key: job.stage for key, job in (await client.listing()).jobs.items()}

    assert asyncio.run(listed()) == {KEY: "unclear"}


def test_what_a_submit_is_answered() -> None:
    async def submitted(answer: Answer) -> tuple[bool, str]:
        async with speaking_to(answer) as client:
            told = await client.submit(KEY, {"entrypoint": "true"})
            return told.known, told.refusal

    def answered(*words: str) -> tuple[bool, str]:
        return asyncio.run(submitted(saying(*words)))

    assert answered("{}") == (True, "")
    assert answered("Traceback\nValueError: yunhe-tag-a.1 already exists", "500 Internal") == (True, "")
    assert answered("Traceback\nTypeError: no such resource", "400 Bad") == (False, "TypeError: no such resource")
    assert answered("no agent, try again", "500 Internal") == (False, "")
    assert asyncio.run(submitted(silent)) == (False, "")


def test_the_token_goes_to_the_stated_address_alone(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o600)
    reached: list[str] = []

    async def elsewhere(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        reached.append("elsewhere")

    async def work() -> None:
        other = await asyncio.start_server(elsewhere, "127.0.0.1", 0)
        place = f"Location: http://127.0.0.1:{other.sockets[0].getsockname()[1]}/\r\n"
        async with speaking_to(saying("", "302 Found", place), token_file=token) as client:
            with pytest.raises(Unavailable, match="302"):
                await client.version()
        other.close()

    asyncio.run(work())
    assert not reached
