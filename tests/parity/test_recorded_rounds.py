"""Parity: what a live hub decided, the simulator decides again from the same inputs, byte for byte."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.fakes.agent import cpu_pool, order_json, ran
from tests.hub.running import running_hub
from yunhe.core.hours import DAY, UTC_OFFSET_HOURS
from yunhe.core.placement.board import Board
from yunhe.core.placement.dearest import dearest_hold
from yunhe.core.round import Snapshot
from yunhe.simulator.build import Customer
from yunhe.simulator.islands import whole
from yunhe.simulator.placing import Rounds
from yunhe.simulator.replay import replay
from yunhe.wire.link import StartLease, SyncAnswer
from yunhe.wire.rounds import RecordedRound, from_line

JSON = {"Content-Type": "application/json"}
LEAST_ROUNDS = 5


@dataclass
class Recorded:
    """Rounds of a hub with two sites, and what became of its orders."""

    lines: list[bytes]
    leases: dict[str, str]  # order id and index -> pool
    holds: dict[str, int]  # by order id, of orders without retries

    @property
    def rounds(self) -> list[RecordedRound]:
        return [from_line(line) for line in self.lines]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """A real hub on a real port; its agents speak the real link. More is ordered than there is room for."""
    folder = tmp_path_factory.mktemp("parity")
    file = folder / "rounds.jsonl"
    settings: dict[str, object] = {"poll_hold_ms": 2_000, "certify_turn_ms": 1_000, "round_record": file}
    holds: dict[str, int] = {}
    leases: dict[str, str] = {}
    with running_hub(f"sqlite:///{folder}/hub.db", folder / "data", **settings) as hub:
        sites = [hub.site("north"), hub.site("south", "other", pools=(cpu_pool(cores_milli=2_000),))]
        path = f"/v1/sites/{sites[0].site_id}/tariff"
        hub.operator.put(path, json={"power_by_hour": _dear_now()}).raise_for_status()
        orders = [
            order_json(),
            order_json(requirement={"cores": 2, "latency": "30ms:beijing"}),
            order_json(requirement={"compute": "0.03TFLOPS@fp64"}, preference="speed"),
            order_json(requirement={"cores": 1, "slots": 2}),
            order_json(requirement={"cores": 0.5}, array=6, priority=5),
            order_json(requirement={"work": "1TFLOP@fp32"}, deadline="1h"),
            order_json(requirement={"compute": "20PFLOPS@bf16"}),  # nobody has it
            order_json(duration="1m", patience="20h"),  # waits for a better hour
        ]
        customers = [hub.customer("lab"), hub.customer("mill")]
        total = 0
        for i, body in enumerate(orders * 2):
            made = customers[i % 2].post("/v1/orders", content=body, headers=JSON)
            assert made.status_code == 201, made.text
            holds[made.json()["id"]] = made.json()["hold_microcny"]
            total += json.loads(body).get("array", 1)
        wanted = total - 4
        for _ in range(200):
            for site in sites:
                starts = _starts(site.poll(wait_ms=100))
                while starts:
                    start = starts.pop()
                    leases[start.lease_id] = f"{site.site_id}:{start.pool}"
                    starts += _starts(site.poll(ran(start)))
            if len(leases) >= wanted:
                break
        assert len(leases) == wanted
    yield Recorded(file.read_bytes().splitlines(keepends=True), leases, holds)


def _dear_now() -> list[float]:
    """Power by the hours of the day: dear in this one and the next."""
    hour = (int(time.time()) // 3600 + UTC_OFFSET_HOURS) % DAY
    return [5.0 if at in (hour, (hour + 1) % DAY) else 0.5 for at in range(DAY)]


def _starts(answer: SyncAnswer) -> list[StartLease]:
    return [item for item in answer.instructions if isinstance(item, StartLease)]


def test_every_round_is_decided_again_to_the_last_byte(recorded: Recorded) -> None:
    replayed = list(replay(recorded.lines))
    assert [item.number for item in replayed if not item.same] == []
    assert len(replayed) >= LEAST_ROUNDS
    planned = {(a.order_id, a.pool_id): a.tasks for round_ in recorded.rounds for a in round_.plan.assignments}
    assert {delay.site_id for round_ in recorded.rounds for delay in round_.plan.delays} == {"north"}
    # The rounds that were recorded are those that the leases came from.
    assert {(lease.partition(".")[0], pool) for lease, pool in recorded.leases.items()} <= set(planned)


def test_a_decision_that_was_another_is_seen(recorded: Recorded) -> None:
    line = next(line for line, item in zip(recorded.lines, recorded.rounds, strict=True) if item.plan.assignments)
    values = json.loads(line)
    values["plan"]["assignments"].pop()
    forged = json.dumps(values, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    [item] = replay([forged])
    assert not item.same


def test_the_simulators_own_queue_comes_to_the_hubs_plan(recorded: Recorded) -> None:
    """Its snapshot is made from orders that wait, as the hub's is from rows."""
    compared = 0
    for given in recorded.rounds:
        queue = given.snapshot.queue
        if any(tasks != 1 for tasks in queue.tasks.tolist()):
            continue  # an order is one task there
        accounts = given.snapshot.accounts
        # Nothing of the use before is known to a new placer, so only rounds that begin with none are like for like.
        if any(account.used_milli for account in accounts):
            continue
        customers = [Customer(a.id, None, None, None, a.weight, a.quota_milli, 0) for a in accounts]
        supply = given.snapshot.supply
        placer = Rounds(whole(supply), customers, given.policy, given.seed, len(queue.ids))
        orders = [_Order(given.snapshot, i) for i in range(len(queue.ids))]
        for order in reversed(orders):
            placer.add(order, given.now_ms)
        placed = placer.decide(given.now_ms)
        found = [(orders[p.number].id, supply.pools[p.pool].id, p.milli, p.memory_bytes) for p in placed]
        assert sorted(found) == sorted((a.order_id, a.pool_id, a.milli, a.memory_bytes) for a in given.plan.assignments)
        compared += 1
    assert compared


class _Order:
    """Row `i` of a recorded queue, as an order that waits in the simulator."""

    def __init__(self, snapshot: Snapshot, i: int) -> None:
        queue = snapshot.queue
        self.number = i
        self.id = queue.ids[i]
        self.customer = int(queue.account[i])
        self.shape = snapshot.shapes[int(queue.shape[i])]
        self.priority = int(queue.priority[i])
        self.submitted_ms = int(queue.submitted_ms[i])
        self.version = int(queue.version[i])


def test_the_simulator_holds_what_the_hub_held(recorded: Recorded) -> None:
    checked = set()
    for given in recorded.rounds:
        queue, supply = given.snapshot.queue, given.snapshot.supply
        board = Board(supply, given.policy)
        for i, order_id in enumerate(queue.ids):
            shape = given.snapshot.shapes[int(queue.shape[i])]
            hold = dearest_hold(shape, board, given.now_ms)
            if hold is not None and shape.terms.deadline_ms is None:  # with one, the size depends on the moment
                assert hold == recorded.holds[order_id], order_id
                checked.add(order_id)
    assert len(checked) > LEAST_ROUNDS
