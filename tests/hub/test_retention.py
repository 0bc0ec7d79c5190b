"""What is kept for a time only, and what for ever."""

from pathlib import Path

import pytest

from tests.hub.conftest import FakeClock
from tests.hub.world import World
from yunhe.hub.dispatch import retention
from yunhe.hub.dispatch.blobs import Blobs
from yunhe.hub.dispatch.retention import DAY_MS, RETENTION, Retention
from yunhe.hub.platform import work
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.writer import Tx


class Keeper:
    def __init__(self, platform: Platform, clock: FakeClock, folder: Path) -> None:
        self.world = World(platform, clock)
        self.world.organisation("lab")
        self.site = self.world.site("north")
        self.blobs = Blobs(folder)
        self.retention = Retention(platform, self.blobs)

    def orders(self, n: int) -> list[str]:
        """Orders that ran, each with a log."""
        self.site.poll()
        made = [self.world.submit("lab") for _ in range(n)]
        while self.world.round():
            for lease_id, epoch in self.site.held:
                self.blobs.append_log(lease_id, epoch, 0, b"said", 100)
            self.site.run()
        self.world.settle()
        return made

    def logs(self, orders: list[str]) -> int:
        return sum(self.blobs.log_size(f"{order}.0", 1) > 0 for order in orders)

    def count(self, table: str) -> int:
        return int(self.world.rows(f"SELECT count(*) AS n FROM {table}")[0].n)

    def due(self) -> list[str]:
        query = "SELECT key FROM work WHERE room = :room AND due_ms <= :now ORDER BY key"
        return [row.key for row in self.world.rows(query, room=RETENTION, now=self.world.clock.ms)]

    def go_round(self) -> int:
        """All that is due; how many steps it took."""
        steps = 0
        while self.due():
            self.world.do(self._step)
            steps += 1
        return steps

    def _step(self, tx: Tx) -> None:
        self.retention.consume(tx, work.take(tx, RETENTION, self.due()))


@pytest.fixture
def keeper(platform: Platform, clock: FakeClock, tmp_path: Path) -> Keeper:
    made = Keeper(platform, clock, tmp_path / "blobs")
    for _ in range(2):  # as two replicas that start
        made.world.write(retention.begin, None)
    return made


def test_logs_and_evidence_go_and_the_books_stay(keeper: Keeper) -> None:
    days = keeper.world.platform.settings.retention_days
    old = keeper.orders(5)
    keeper.world.clock.ms += days * DAY_MS // 2
    young = keeper.orders(3)
    keeper.go_round()
    assert (keeper.logs(old), keeper.logs(young)) == (5, 3)
    books = [keeper.count(table) for table in ("usage", "charge", "posting", "fact", "lease")]
    before = keeper.count("evidence")
    keeper.world.clock.ms += days * DAY_MS // 2
    keeper.go_round()
    assert (keeper.logs(old), keeper.logs(young)) == (0, 3)
    assert 0 < keeper.count("evidence") < before
    assert books == [keeper.count(table) for table in ("usage", "charge", "posting", "fact", "lease")]
    assert keeper.due() == []
    keeper.world.clock.ms += DAY_MS
    assert len(keeper.due()) == 2  # it comes again


def test_much_goes_in_steps_and_what_ended_at_once_goes_together(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP", 2)
    old = keeper.orders(4)
    keeper.world.do(lambda tx: tx.conn.exec_driver_sql("UPDATE lease SET ended_ms = 5"))
    old += keeper.orders(5)
    keeper.world.clock.ms += (keeper.world.platform.settings.retention_days + 1) * DAY_MS
    assert keeper.go_round() > 2
    assert (keeper.logs(old), keeper.count("evidence")) == (0, 0)


def test_what_runs_keeps_its_log(keeper: Keeper) -> None:
    keeper.world.submit("lab", duration="1h")
    assert keeper.world.round() == 1
    [(lease_id, epoch)] = keeper.site.held
    keeper.blobs.append_log(lease_id, epoch, 0, b"said", 100)
    keeper.world.clock.ms += 2 * keeper.world.platform.settings.retention_days * DAY_MS
    keeper.go_round()
    assert keeper.blobs.log_size(lease_id, epoch) == 4
