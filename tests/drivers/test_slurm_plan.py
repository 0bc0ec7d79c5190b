"""What of a lease is said to sbatch, without a Slurm."""

from pathlib import Path

import pytest

from tests.drivers.conftest import QUICK_SLURM
from tests.fakes.agent import cpu_pool
from yunhe.site.drivers.contract import Job
from yunhe.site.drivers.nodes.program import Program
from yunhe.site.drivers.slurm.plan import Planner
from yunhe.site.drivers.slurm.supply import SlurmPool
from yunhe.site.settings import DriverSettings, SlurmSettings
from yunhe.wire.link import StartLease


def options(settings: SlurmSettings, slots: int, folder: Path) -> list[str]:
    planner = Planner(DriverSettings(), settings, Program(folder, ()), folder, folder)
    start = StartLease(
        seq=1,
        lease_id="o.0",
        epoch=1,
        pool="batch",
        slots=slots,
        slot_milli=1_000,
        slot_memory_bytes=1 << 30,
        run_limit_ms=60_000,
        disconnect_limit_ms=60_000,
        command=("true",),
    )
    plan = planner.plan(Job(start, 0), SlurmPool(cpu_pool(), "batch", frozenset()), None)
    return [word for word in plan["options"] if word.startswith("--switches")]


@pytest.mark.parametrize(
    ("asked", "slots", "said"),
    [
        ({}, 4, []),
        ({"gang_switches": 1}, 4, ["--switches=1@5"]),
        ({"gang_switches": 2, "gang_switches_wait_ms": 61_000}, 4, ["--switches=2@2"]),
        ({"gang_switches": 1}, 1, []),
    ],
)
def test_gangs_lie_under_few_switches_where_the_centre_asks_for_it(
    asked: dict[str, int], slots: int, said: list[str], tmp_path: Path
) -> None:
    assert options(QUICK_SLURM.model_copy(update=asked), slots, tmp_path) == said
