"""A mistake in the agent or its driver: the lease ends all the same, its end says what broke, nothing is invented."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.fakes.fake_hub import FakeHub, start_lease
from tests.site.conftest import SiteProcess
from yunhe.apps.site import _load_key, load_settings
from yunhe.core.lifecycle import EndReason
from yunhe.site.agent import Agent
from yunhe.site.drivers.contract import Job, LeaseKey, Output
from yunhe.site.drivers.fake import FakeDriver

MakeSite = Callable[..., SiteProcess]


class Broken(FakeDriver):
    """Makes a mistake in the named call, the first `times` times."""

    def __init__(self, call: str, times: int, run_ms: int = 0) -> None:
        super().__init__("cpu", 4_000, 1 << 30, run_ms)
        self.call, self.left = call, times

    def _maybe(self, call: str) -> None:
        if call == self.call and self.left:
            self.left -= 1
            raise KeyError("a mistake")

    async def submit(self, job: Job) -> None:
        self._maybe("submit")
        await super().submit(job)
        self._maybe("after submit")

    async def outputs(self, key: LeaseKey, wanted: Sequence[str], cap_bytes: int) -> tuple[Output, ...]:
        self._maybe("outputs")
        return await super().outputs(key, wanted, cap_bytes)

    async def forget(self, key: LeaseKey) -> None:
        self._maybe("forget")
        await super().forget(key)


@contextmanager
def running(make_site: MakeSite, driver: FakeDriver) -> Iterator[None]:
    """The agent of a joined site, in this process, with this driver."""
    data_dir = make_site(engine="fake").data_dir
    loop = asyncio.new_event_loop()
    agent = Agent(load_settings(data_dir), _load_key(data_dir), driver)
    thread = threading.Thread(target=loop.run_until_complete, args=(agent.run(),))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(agent.stop)
        thread.join(20)
        assert not thread.is_alive()
        loop.close()


@pytest.mark.parametrize("call", ["submit", "after submit", "outputs", "forget"])
def test_a_mistake_that_passes_changes_nothing(hub: FakeHub, make_site: MakeSite, call: str) -> None:
    driver = Broken(call, times=2)
    with running(make_site, driver):
        hub.tell(start_lease("a", ("write", "x", "y", "exit", "3"), outputs=("x",)))
        end = hub.wait_end("a")
        assert (end.reason, end.exit_code) == (EndReason.EXITED, 3)
        assert bytes(hub.site.outputs["a.1/x"]) == b"y"
        hub.wait(lambda: not asyncio.run(driver.known()))


@pytest.mark.parametrize(
    ("call", "reason", "used"),
    [
        ("submit", EndReason.SPAWN_FAILED, False),
        ("after submit", EndReason.SUPERVISOR_LOST, True),
        ("outputs", EndReason.SUPERVISOR_LOST, True),
    ],
)
def test_a_mistake_that_stays_ends_the_lease_and_is_named(
    hub: FakeHub, make_site: MakeSite, call: str, reason: EndReason, used: bool
) -> None:
    driver = Broken(call, times=1_000_000, run_ms=3_600_000 if call == "after submit" else 0)
    with running(make_site, driver):
        hub.tell(start_lease("a", ("true",), outputs=("x",), run_limit_ms=4_000_000))
        end = hub.wait_end("a")
        assert (end.reason, end.exit_code is None or used) == (reason, True)
        assert "KeyError: 'a mistake'" in end.detail
        assert bool(hub.usage("a")) is used
        assert [record.final for record in hub.usage("a")][-1:] == [True] * used
        driver.call = ""
        hub.tell(start_lease("b", ("run", "1")))  # the others go on
        assert hub.wait_end("b").reason is EndReason.EXITED
