"""Slurm's real accounting, slurmdbd on MariaDB: why jobs ended that Slurm lists no more, and how long they ran."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.conftest import SlurmHarness
from tests.engines.slurm import Shape, missing
from tests.engines.slurm_accounts import AccountingCluster, missing_accounts
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey, Phase
from yunhe.site.drivers.slurm.client import AccountLine

SHAPE = Shape(nodes=1, cpus=8, partition="cpu", memory_mib=4000)


@pytest.fixture(scope="module")
def centre() -> Iterator[AccountingCluster]:
    if why := missing() or missing_accounts():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="yunhe-accounts-") as folder:
        made = AccountingCluster(Path(folder), SHAPE)
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture
def site(centre: AccountingCluster, tmp_path: Path) -> Iterator[SlurmHarness]:
    with closing(SlurmHarness(centre, tmp_path, accounting=True, accounting_interval_ms=300)) as made:
        yield made


def read(site: SlurmHarness, keys: Sequence[LeaseKey]) -> dict[LeaseKey, tuple[AccountLine, ...]]:
    """What the driver reads of them."""
    driver: Any = site.driver
    names = [name for key in keys for name in driver._batches.names(key)]
    return dict(site.run(driver._client.accounted(names, driver._batches.members)))


def accounted(site: SlurmHarness, keys: Sequence[LeaseKey]) -> list[AccountLine]:
    """Of each, when all are over."""
    found: dict[LeaseKey, tuple[AccountLine, ...]] = {}

    def over() -> bool:
        found.update(read(site, keys))
        return all(found.get(key) and found[key][-1].end_s for key in keys)

    site.cluster.until(over, "have its accounts", 0.2)
    return [found[key][-1] for key in keys]


def lose_list(centre: AccountingCluster) -> None:
    """Slurm lists no job of before; what it has to tell its accounts it still tells them."""
    centre.stop_controller()
    for path in (centre.folder / "state").glob("job_state*"):
        path.unlink()
    centre.start_controller()
    centre.until(lambda: len(centre.idle()) == SHAPE.nodes, "come up again")


def running(site: SlurmHarness, name: str) -> tuple[LeaseKey, int]:
    """A job that has run for two seconds, and the accounts know; when it began."""
    key = site.submit(name, ("sleep", "60"))
    began = site.until(key, Phase.STARTED).started_utc_ms
    site.cluster.until(lambda: bool(read(site, [key]).get(key)), "be in the accounts", 0.2)
    site.cluster.until(lambda: time.time() * 1000 > began + 2_000, "run for a while")
    return key, began


def kill(site: SlurmHarness, key: LeaseKey) -> None:
    """It leaves no record of its end."""
    os.kill(site.supervisor_pid(key), signal.SIGKILL)
    site.cluster.until(lambda: set(site.listed(key, "%T")) <= {"FAILED", "CANCELLED", "COMPLETED"}, "see its end")


def test_the_accounts_of_real_jobs_are_read(site: SlurmHarness) -> None:
    """Those that left a record: it says the same, and never more time than Slurm's accounts do."""
    well = site.submit("well", ("sleep", "2"))
    badly = site.submit("badly", ("sh", "-c", "exit 7"))
    stopped = site.submit("stopped", ("sleep", "60"))
    site.until(stopped, Phase.STARTED)
    site.cluster.call("scancel", f"--name={site.job_name(stopped)}")
    keys = (well, badly, stopped)
    ends = [site.ended(key) for key in keys]
    lines = accounted(site, keys)
    assert [line.state for line in lines] == ["COMPLETED", "FAILED", "CANCELLED"]
    assert [line.energy_joules for line in lines] == [None] * 3, "nothing here measures energy"
    for end, line in zip(ends, lines, strict=True):
        assert end.totals is not None
        assert line.ran_ms(end.started_utc_ms) <= end.totals.wall_ms <= (line.ran_s + 1) * 1000
    assert ends[0].reason is EndReason.EXITED and lines[0].ran_ms(ends[0].started_utc_ms) >= 1_000


def test_accounts_that_are_away_leave_it_unknown_and_then_tell(centre: AccountingCluster, site: SlurmHarness) -> None:
    """slurmdbd is down for a while: nothing is invented, then its word is told with the time that surely ran."""
    key, began = running(site, "a")
    centre.stop_accounts()
    try:
        kill(site, key)
        ran_ms = time.time() * 1000 - began
        (site.lease_dir(key) / "usage.json").unlink()  # the disk that it was on is gone
        lose_list(centre)
        driver: Any = site.driver
        centre.until(lambda: site.status(key).phase is Phase.UNKNOWN and key in driver._accounting._since, "look it up")
        since = time.monotonic()
        while time.monotonic() - since < 2:  # longer than `lost_ms`: it would have been given up
            assert site.status(key).phase is Phase.UNKNOWN
    finally:
        centre.start_accounts()
    status = site.ended(key, 60)
    assert (status.reason, status.exit_code) == (EndReason.SUPERVISOR_LOST, None)
    assert "Slurm's accounting says" in status.detail
    assert status.totals is not None and 0 < status.totals.wall_ms <= ran_ms


def test_accounts_that_never_come_are_not_waited_for_for_ever(centre: AccountingCluster, tmp_path: Path) -> None:
    changes = {"accounting": True, "accounting_interval_ms": 300, "accounting_wait_ms": 3_000}
    with closing(SlurmHarness(centre, tmp_path, **changes)) as site:
        key, _ = running(site, "a")
        centre.stop_accounts()
        try:
            kill(site, key)
            lose_list(centre)
            status = site.ended(key, 60)
        finally:
            centre.start_accounts()
        assert status.reason is EndReason.SUPERVISOR_LOST and "accounting" not in status.detail
