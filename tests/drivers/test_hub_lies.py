"""A lower hub that lies: nothing of this site is read or written for it, and the agent goes on."""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.test_hub_driver import looked
from yunhe.core.errors import Unavailable
from yunhe.core.lifecycle import OrderState, TaskState
from yunhe.sdk.orders import OrderCalls
from yunhe.site.drivers.contract import Output
from yunhe.site.drivers.hub import states
from yunhe.site.drivers.hub.delivery import Outputs, moved
from yunhe.wire.api import AttemptView, OutputView, StagingView
from yunhe.wire.link import MAX_MOVED_FILES


class Lower:
    """Answers `outputs` as it is told, and would hand over anything."""

    def __init__(self, *there: OutputView) -> None:
        self.there = there
        self.asked: list[str] = []

    async def outputs(self, order_id: str) -> tuple[OutputView, ...]:
        return self.there

    async def download(self, order_id: str, output: OutputView, target: Path) -> None:
        self.asked.append(output.path)
        target.write_bytes(b"x")


def output(**changes: Any) -> OutputView:
    sha256 = hashlib.sha256(b"x").hexdigest()
    return OutputView(**{"lease_id": "ord_1.0", "path": "out", "size_bytes": 1, "sha256": sha256, **changes})


def test_a_name_of_content_is_no_path_of_this_site(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "key").write_bytes(b"the site's key")
    for changes in ({"sha256": "../key"}, {"sha256": str(tmp_path / "key")}, {"sha256": ""}, {"size_bytes": -(10**18)}):
        lower: Any = Lower(output(**changes))
        outputs = Outputs(lower, "ord_1", tmp_path / "outputs")
        assert asyncio.run(outputs.fetch(["out"], 100)) == (Output("out", missing="not there"),)
        assert lower.asked == [] and list((tmp_path / "outputs").iterdir()) == []


def test_a_download_without_end_is_cut_off(tmp_path: Path) -> None:
    class Endless:
        sent = 0

        @contextmanager
        def stream(self, path: str, query: object) -> Iterator[Iterator[bytes]]:
            yield self.chunks()

        def chunks(self) -> Iterator[bytes]:
            while self.sent < 1 << 26:
                self.sent += 1 << 16
                yield bytes(1 << 16)

    calls, endless = OrderCalls(), Endless()
    calls._transport = endless  # type: ignore[assignment]
    with pytest.raises(Unavailable):
        calls.download_output("ord_1", output(size_bytes=100_000), tmp_path / "out")
    assert endless.sent < 1 << 18 and list(tmp_path.iterdir()) == []


def attempt(**changes: Any) -> AttemptView:
    values = {"epoch": 1, "started": True, "end_reason": None, "wall_ms": 1, "cpu_ms": 1, "peak_memory_bytes": 1}
    return AttemptView(**{**values, "sampled": False, **changes})


@pytest.mark.parametrize(
    ("of_attempt", "of_task"),
    [
        ({"wall_ms": -1}, {}),
        ({"cpu_ms": 2**60}, {}),
        ({"end_reason": "magic"}, {}),
        ({}, {"reason": "magic"}),
        ({}, {"exit_code": 2**40}),
        ({}, {"started_utc_ms": -1}),
    ],
)
def test_what_no_hub_says_is_not_taken_for_a_state(of_attempt: dict[str, Any], of_task: dict[str, Any]) -> None:
    good = looked(OrderState.SUCCEEDED, TaskState.SUCCEEDED, "exited", attempt())
    assert states.sound(good)
    task = good.task.model_copy(update=of_task)
    assert not states.sound(good.model_copy(update={"task": task, "attempts": (attempt(**of_attempt),)}))


def test_what_it_says_of_data_on_its_way_is_bounded() -> None:
    good = looked(OrderState.RUNNING, TaskState.LEASED, None, attempt(started=False, wall_ms=0))
    for staging, sound in (
        (StagingView(phase="in", done_bytes=5, total_bytes=9, problem="slow " * 100), True),
        (StagingView(phase="sideways", done_bytes=5), False),
        (StagingView(phase="in", done_bytes=-1), False),
        (StagingView(phase="out", done_bytes=0, problem="nul\0"), False),
    ):
        view = good.model_copy(update={"task": good.task.model_copy(update={"staging": staging})})
        assert states.sound(view) is sound, staging
        if sound:
            assert states.seen(view, None).status.moving == ("in", 5, 9, ("slow " * 100)[:300])


def test_what_it_says_of_delivered_files_is_bounded() -> None:
    url = "https://data.example/out"
    told = [
        output(path="well", url=url),
        output(path="lost", url=url, sha256="", problem="refused " * 100),
        output(path="kept", url=""),  # not to be delivered
        output(path="odd", url=url, sha256="../key"),
        output(path="nul\0", url=url),
        output(path="x" * 500, url=url),
    ]
    found = moved(told)
    assert [(file.path, bool(file.problem)) for file in found] == [("well", False), ("lost", True)]
    assert len(moved([output(path=f"f{n}", url=url) for n in range(5_000)])) == MAX_MOVED_FILES
