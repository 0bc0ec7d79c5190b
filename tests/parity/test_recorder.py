"""The recorder of a hub: whole lines up to its cap, and never the hub's trouble."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.round_scale import NOW_MS, shapes, supply
from tests.core.placement_network import GIB, a_pool, a_shape, a_site, a_snapshot, a_supply
from yunhe.core.errors import InvalidInput
from yunhe.core.policy import Policy
from yunhe.core.round import AccountShare, Held, Queue, Room, Snapshot, plan_round
from yunhe.core.supply import Free
from yunhe.hub.matching.recording import Recorder
from yunhe.simulator.replay import replay
from yunhe.wire.rounds import RecordedRound, from_line, from_parts, read_supply, rest_part, supply_part, to_line


@pytest.fixture(scope="module")
def recorded() -> RecordedRound:
    """A round of every kind of constraint, amounts beyond 64 bits among them."""
    asked = shapes()
    count = len(asked)
    queue = Queue(
        ids=tuple(f"order-{i}" for i in range(count)),
        shape=np.arange(count, dtype=np.int32),
        account=np.zeros(count, dtype=np.int32),
        priority=np.zeros(count, dtype=np.int16),
        submitted_ms=np.full(count, NOW_MS, dtype=np.int64),
        tasks=np.ones(count, dtype=np.int32),
        version=np.ones(count, dtype=np.int64),
    )
    snapshot = Snapshot(supply(np.random.default_rng(1), 1.0), asked, (AccountShare("lab", 1, 0, None),), queue)
    policy = Policy()
    return RecordedRound(snapshot, policy, NOW_MS, 7, plan_round(snapshot, policy, NOW_MS, 7))


def test_what_spot_leases_hold_and_what_ends_comes_back_too() -> None:
    free = {"s1:cpu": Free(0, 32 * GIB)}
    held = Held("spot.0", 3, "s1:cpu", 8_000, GIB, 5, False, "a"), Held("gone.0", 1, "s1:cpu", 0, 0, 9, True, "b")
    seen = a_snapshot(a_supply(a_site(), a_pool(), free=free), (a_shape(),), {}, {})
    seen = replace(seen, held=held, rooms=(Room("o001", "s1:cpu", 1),))
    plan = plan_round(seen, Policy(), NOW_MS, 7)
    assert plan.preempted
    recorded = RecordedRound(seen, Policy(), NOW_MS, 7, plan)
    back = from_line(to_line(recorded))
    assert (back.snapshot.held, back.snapshot.rooms, back.plan) == (held, seen.rooms, plan)
    parts = from_parts(read_supply(supply_part(seen.supply)), rest_part(recorded))
    assert to_line(parts) == to_line(recorded)
    [item] = replay([to_line(recorded)])
    assert item.same


def test_a_round_comes_back_as_it_was(recorded: RecordedRound) -> None:
    line = to_line(recorded)
    back = from_line(line)
    assert to_line(back) == line
    assert (back.policy, back.plan, back.now_ms, back.seed) == (recorded.policy, recorded.plan, NOW_MS, 7)
    assert back.snapshot.supply == recorded.snapshot.supply
    assert back.snapshot.shapes == recorded.snapshot.shapes
    for name in ("shape", "account", "priority", "submitted_ms", "tasks", "version"):
        column = getattr(back.snapshot.queue, name)
        assert column.dtype == getattr(recorded.snapshot.queue, name).dtype
        assert column.tolist() == getattr(recorded.snapshot.queue, name).tolist()
    assert recorded.plan.assignments and [item.same for item in replay([line])] == [True]


def test_a_full_file_ends_the_recording_with_whole_lines(
    recorded: RecordedRound, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, line = tmp_path / "rounds.jsonl", to_line(recorded)
    recorder = Recorder(file, 2 * len(line) + 10)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            recorder.write(recorded)
    assert file.read_bytes() == line * 2
    assert file.stat().st_mode & 0o077 == 0
    assert len([r for r in caplog.records if "no more" in r.message]) == 1


def test_a_file_that_cannot_be_written_is_told_and_no_more(
    recorded: RecordedRound, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Recorder(tmp_path / "nowhere" / "rounds.jsonl", 10**9).write(recorded)
    assert "could not be recorded" in caplog.text


@pytest.mark.parametrize("line", [b"nonsense\n", b"{}\n", b'{"format":1,"now_ms":3}\n', b'{"format":2}\n', b"[]\n"])
def test_what_is_no_round_is_refused_with_its_line(recorded: RecordedRound, line: bytes) -> None:
    with pytest.raises(InvalidInput, match="line 2"):
        list(replay([to_line(recorded), line]))
