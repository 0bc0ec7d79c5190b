"""What every driver owes a job that is given back: notice, the work that it saved, and its return elsewhere.

The contract of `yunhe.site.drivers.contract.Checkpoints`, on each engine that keeps it.
"""

import io
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.conftest import SlurmHarness, process_harness
from tests.drivers.harness import QUICK, Harness
from tests.drivers.ray_harness import RayHarness
from yunhe.core.demand import Ability
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Checkpoints, Job, LeaseKey, Phase, abilities
from yunhe.wire.link import CheckpointPlan

NOTICE_MS = 8_000
PLAN = CheckpointPlan(signal="SIGUSR1", folder="kept", cap_bytes=1 << 20)
# Counts from where it was; the signal makes it save once more, and then it goes on: only the kill ends it.
COUNT = """
import os, signal, sys, time
folder = os.environ["YUNHE_CHECKPOINT"]
rank = os.environ["YUNHE_RANK"]
path = f"{folder}/count{rank}"
count = int(open(path).read()) if os.path.exists(path) else 0
print("from", count, flush=True)
def save(*_):
    with open(path + ".tmp", "w") as file:
        file.write(str(count))
    os.rename(path + ".tmp", path)
def told(*_):
    save()
    print("told", rank, flush=True)
    if "leave" in sys.argv:
        sys.exit(0)
signal.signal(signal.SIGUSR1, told)
while True:
    count += 1
    time.sleep(0.01)
"""


@pytest.fixture(params=["sandbox", "slurm", "ray"])
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made: Harness
    if request.param == "slurm":
        made = SlurmHarness(request.getfixturevalue("cluster"), tmp_path)
    elif request.param == "ray":
        made = RayHarness(request.getfixturevalue("head"), tmp_path)
    else:
        made = process_harness(tmp_path, QUICK)
    yield made
    made.close()


def give(harness: Harness, lease_id: str, *words: str, archive: Path | None = None, **changes: Any) -> LeaseKey:
    command = ("python3", "-c", COUNT, *words)
    plain = harness.job(lease_id, command, checkpoint=PLAN, slot_milli=500, run_limit_ms=90_000, **changes)
    notice_ms = NOTICE_MS if "leave" in words else 500
    harness.run(harness.driver.submit(Job(plain.lease, plain.contact_ms, {}, checkpoint=archive, notice_ms=notice_ms)))
    return plain.key


def said(harness: Harness, key: LeaseKey, what: bytes, times: int = 1) -> None:
    until = time.monotonic() + 20
    while harness.log(key).count(what) < times:
        assert time.monotonic() < until, (harness.status(key), harness.log(key))
        time.sleep(0.02)


def kept_ms(harness: Harness, key: LeaseKey) -> int:
    assert isinstance(harness.driver, Checkpoints)
    return harness.run(harness.driver.kept_ms(key, PLAN.folder))


def test_a_job_is_told_saves_and_goes_on_elsewhere(keeper: Harness, tmp_path: Path) -> None:
    assert Ability.CHECKPOINTS in abilities(keeper.driver)
    key = give(keeper, "a", "leave")
    said(keeper, key, b"from 0")
    assert kept_ms(keeper, key) == 0
    time.sleep(0.3)
    keeper.run(keeper.driver.cancel(key, EndReason.PREEMPTED))
    status = keeper.ended(key)
    assert status.reason is EndReason.PREEMPTED and status.totals is not None
    assert b"told" in keeper.log(key)
    assert 250 <= kept_ms(keeper, key) <= status.totals.wall_ms
    (saved,) = keeper.run(keeper.driver.outputs(key, (PLAN.folder,), 1 << 20))
    text = keeper.run(keeper.driver.read_output(key, saved.path, 0, 100))
    archive, header = tmp_path / "saved.tar", tarfile.TarInfo("count0")
    header.size = len(text)
    with tarfile.open(archive, "w") as tar:
        tar.addfile(header, io.BytesIO(text))
    after = give(keeper, "a", "leave", epoch=2, archive=archive)
    said(keeper, after, b"from " + text)
    keeper.run(keeper.driver.cancel(after, EndReason.CANCELLED))
    assert keeper.ended(after).reason is EndReason.CANCELLED


def test_the_notice_ends_and_what_was_saved_counts(keeper: Harness) -> None:
    key = give(keeper, "a")
    said(keeper, key, b"from 0")
    keeper.run(keeper.driver.cancel(key, EndReason.PREEMPTED))
    status = keeper.ended(key)
    assert status.reason is EndReason.PREEMPTED and b"told" in keeper.log(key)
    assert status.totals is not None and 0 < kept_ms(keeper, key) <= status.totals.wall_ms


def test_every_process_of_a_gang_is_told(keeper: Harness) -> None:
    key = give(keeper, "a", "leave", slots=2)
    said(keeper, key, b"from 0", 2)
    keeper.run(keeper.driver.cancel(key, EndReason.PREEMPTED))
    assert keeper.ended(key).reason is EndReason.PREEMPTED
    assert {"told 0", "told 1"} <= set(keeper.log(key).decode().splitlines())
    found = keeper.run(keeper.driver.outputs(key, (PLAN.folder,), 1 << 20))
    assert sorted(file.path for file in found) == ["kept/count0", "kept/count1"]


def test_a_job_that_waits_is_given_back_at_once(keeper: Harness) -> None:
    key = give(keeper, "a", "leave", archive=None)
    keeper.run(keeper.driver.cancel(key, EndReason.PREEMPTED))
    status = keeper.ended(key)
    assert status.reason is EndReason.PREEMPTED
    if not status.started:
        assert kept_ms(keeper, key) == 0
    keeper.run(keeper.driver.forget(key))
    assert keeper.status(key).phase is Phase.ABSENT
