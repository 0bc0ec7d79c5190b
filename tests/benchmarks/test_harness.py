"""The shape of the benchmarks' harness. Nothing here is timed."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import orders
from benchmarks.fake_agents import ran
from benchmarks.figure import Budget, Figure, PeerFigure, as_row, load_budgets
from benchmarks.http_client import BadAnswer, Connection, request
from benchmarks.registry import BENCHMARKS
from benchmarks.scene import TookTooLong, bounded
from yunhe.wire.api import OrderBatch, OrderSpec
from yunhe.wire.link import StartLease, Sync

ROOT = Path(__file__).parent.parent.parent
STATED = {"id", "value", "unit", "better", "budget", "goal", "peer", "peer_value", "seed", "machine"}


def test_every_budget_has_its_benchmark_and_a_reason() -> None:
    budgets = load_budgets()
    assert budgets.keys() == BENCHMARKS.keys()
    for budget in budgets.values():
        assert budget.calibration and budget.peer and budget.measure
        assert budget.met(budget.goal, budget.budget), f"the goal of {budget.id} is behind its budget"


@pytest.mark.parametrize(
    ("better", "value", "met", "reached"),
    [
        ("higher", 500, True, False),
        ("higher", 499, False, False),
        ("lower", 20, True, True),
        ("lower", 501, False, False),
    ],
)
def test_a_row_says_what_was_met(better: str, value: float, met: bool, reached: bool) -> None:
    goal = 2_000 if better == "higher" else 50
    budget = Budget("x", "what", "unit", better, 500, goal, "why", "who")  # type: ignore[arg-type]
    row = as_row(budget, Figure(value, extra={"rows_per_order": 11}), PeerFigure(3.0), 1, "here")
    assert row.keys() >= STATED
    assert (row["budget_met"], row["goal_met"]) == (met, reached)
    assert (row["peer_value"], row["rows_per_order"]) == (3.0, 11)


def test_a_figure_that_was_not_taken_is_neither_met_nor_missed() -> None:
    row = as_row(load_budgets()["settled"], Figure(None, note="why"), PeerFigure(None, "not installed"), 1, "here")
    assert (row["value"], row["budget_met"], row["peer_value"]) == (None, None, None)
    assert (row["note"], row["peer_note"]) == ("why", "not installed")


def test_the_orders_are_valid_and_of_20_shapes() -> None:
    specs = [OrderSpec.model_validate_json(body) for body in orders.bodies()]
    assert len({spec.model_dump_json() for spec in specs}) == orders.SHAPES
    assert len(OrderBatch.model_validate_json(orders.batch(100)).orders) == 100


def test_the_agents_reports_are_valid() -> None:
    start = StartLease(
        seq=1,
        lease_id="ord_1.0",
        epoch=1,
        pool="cpu",
        slots=1,
        slot_milli=500,
        slot_memory_bytes=1,
        run_limit_ms=60_000,
        disconnect_limit_ms=1_000,
        command=("true",),
    )
    reports = ran(json.loads(start.model_dump_json()))
    for seq, report in enumerate(reports, 1):
        report["seq"] = seq
    message = {"site_id": "a", "epoch": 1, "poll_no": 1, "applied_seq": 1, "wait_ms": 0, "reports": reports}
    assert [report.kind for report in Sync.model_validate(message).reports] == ["started", "usage", "ended"]


def test_a_benchmark_is_stopped_at_its_bound() -> None:
    with pytest.raises(TookTooLong), bounded(0.05):
        time.sleep(30)
    with bounded(30):
        pass


def test_the_client_reads_answers_that_come_in_pieces() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for body in (b"hello", b""):
            await reader.readuntil(b"\r\n\r\n")
            for part in (b"HTTP/1.1 201 Cre", b"ated\r\ncontent-length: %d\r\n\r" % len(body), b"\n", body):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()

    async def talk() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            connection = await Connection.connect("127.0.0.1", server.sockets[0].getsockname()[1])
            message = request("GET", "/", {}, b"")
            assert await connection.send(message) == (201, b"hello")
            assert await connection.send(message) == (201, b"")
            with pytest.raises(BadAnswer):
                await connection.send(message)

    asyncio.run(talk())


def test_a_wrong_name_is_refused_and_the_list_is_complete() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "benchmarks", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    wrong = run("--only", "submit_sqlite,nothing")
    assert wrong.returncode == 2 and "no benchmark nothing" in wrong.stderr
    assert [line.split()[0] for line in run("--list").stdout.splitlines()] == list(load_budgets())
