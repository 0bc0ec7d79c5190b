"""Nothing is lost or doubled, whatever is killed, cut, delayed or repeated. The seed says what happens when.

`make soak` runs longer; a failure names the seed and keeps the data folder.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.plan import FaultPlan
from tests.faults.postgresql import programs
from tests.faults.run import fault_run

ORDERS = 180  # three seeds together: 540
SECONDS = 400


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not under pytest's own folder: jobs run as other users, who cannot enter that one."""
    path = Path(tempfile.mkdtemp(prefix="yunhe-faults-", dir="/var/tmp"))
    yield path
    if not (path / "failed").exists():
        shutil.rmtree(path)


def judged(plan: FaultPlan) -> None:
    kept = plan.folder / "failed"
    kept.touch()
    summary = fault_run(plan)
    print(summary.text())
    assert not summary.violations, f"{summary.text()}\nkept: {plan.folder}"
    assert summary.orders == plan.orders
    assert summary.kills["hub in all"] and summary.kills["agent in all"] and summary.mishaps["cut"]
    assert summary.states["succeeded"] > plan.orders / 2  # bad luck is the exception for most orders
    kept.unlink()


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("seed", [20261122, 4, 7])
def test_sqlite_hub_agents_and_links(seed: int, folder: Path) -> None:
    judged(FaultPlan(seed, ORDERS, folder))


@pytest.mark.timeout(SECONDS)
def test_postgresql_two_replicas_and_the_database(folder: Path) -> None:
    if programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install -y --no-install-recommends postgresql-15")
    judged(FaultPlan(11, ORDERS, folder, postgresql=True))
