"""The Ray driver when things go wrong at the centre: a real head killed and restarted, jobs touched by others."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.drivers.ray_harness import RayHarness
from tests.drivers.test_ray import listed
from tests.engines import ray
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey, Phase
from yunhe.site.supervisor.kernel import tree


def quiet(path: Path) -> Callable[[], bool]:
    """Whether nobody touches the file any more."""

    def look() -> bool:
        path.unlink(missing_ok=True)
        time.sleep(0.3)
        return not path.exists()

    return look


def beating(path: Path) -> tuple[str, ...]:
    """A job of two sessions, so that killing the first alone leaves the second."""
    beat = f"while :; do touch {path}; sleep 0.05; done"
    return ("sh", "-c", f"setsid sh -c '{beat}' & {beat}")


@contextmanager
def hanging(head: ray.Head) -> Iterator[None]:
    """A dashboard that takes connections and gives no answer."""
    dashboard = head.daemon("dashboard.py")
    processes = [dashboard, *tree(dashboard)]
    for number in processes:
        os.kill(number, signal.SIGSTOP)
    try:
        yield
    finally:
        for number in processes:
            os.kill(number, signal.SIGCONT)


def phase(harness: RayHarness, key: LeaseKey) -> Phase:
    """As an agent would ask; the answer comes within seconds, whatever Ray does."""
    began = time.monotonic()
    found = harness.status(key).phase
    assert time.monotonic() - began < 15
    return found


def test_a_dashboard_that_hangs_makes_nothing_up(head: ray.Head, tmp_path: Path) -> None:
    on_ray = RayHarness(head, tmp_path, call_limit_ms=1_500, listing_valid_ms=1_500)
    running = on_ray.submit("a", ("sleep", "60"))
    full = on_ray.submit("b", ("sleep", "60"), pool="mlu", slot_milli=2_000)
    for key in (running, full):
        on_ray.until(key, Phase.STARTED)
    waiting = on_ray.submit("w", ("true",), pool="mlu", slot_milli=1_000)
    with hanging(on_ray.head):
        on_ray.until(waiting, Phase.UNKNOWN)
        on_ray.until(running, Phase.STARTED)  # it shows that it lives
        on_ray.run(on_ray.driver.cancel(running, EndReason.CANCELLED))  # and hears without Ray
        assert on_ray.ended(running).reason is EndReason.CANCELLED
        unheard = on_ray.submit("u", ("true",))
        assert phase(on_ray, unheard) is Phase.UNKNOWN
    on_ray.until(waiting, Phase.ACCEPTED)
    assert on_ray.ended(unheard).exit_code == 0
    on_ray.run(on_ray.driver.cancel(full, EndReason.CANCELLED))
    assert on_ray.ended(waiting).exit_code == 0
    on_ray.close()


def test_a_head_killed_and_started_again_mid_job(on_ray: RayHarness, tmp_path: Path) -> None:
    """It has forgotten everything. What ran ends by its own record; what waited is submitted again, and runs once."""
    running = on_ray.submit("a", beating(tmp_path / "alive"))
    full = on_ray.submit("b", ("sleep", "60"), pool="mlu", slot_milli=2_000)
    for key in (running, full):
        on_ray.until(key, Phase.STARTED)
    waiting = on_ray.submit("w", ("sh", "-c", f"echo once >> {tmp_path}/witness"), pool="mlu", slot_milli=1_000)
    on_ray.head.kill()
    assert phase(on_ray, waiting) is not Phase.ENDED
    status = on_ray.ended(running)
    assert quiet(tmp_path / "alive")(), "a process of it outlived the end that was told"
    on_ray.head.start()
    assert status.reason is EndReason.SUPERVISOR_LOST and "stopped by Ray" in status.detail
    assert status.started and status.totals is not None and status.totals.wall_ms > 0
    assert on_ray.ended(waiting, 40).exit_code == 0
    assert (tmp_path / "witness").read_text() == "once\n"
    assert on_ray.status(running) == status


def test_a_job_stopped_behind_the_agents_back(on_ray: RayHarness) -> None:
    key = on_ray.submit("a", ("sh", "-c", "trap 'echo saved; exit 0' TERM; while :; do sleep 0.05; done"))
    on_ray.until(key, Phase.STARTED)
    time.sleep(0.3)
    on_ray.head.post(f"/api/jobs/{on_ray.driver._client.id_of(key)}/stop")  # type: ignore[attr-defined]
    status = on_ray.ended(key)
    assert status.reason is EndReason.SUPERVISOR_LOST and "stopped by Ray" in status.detail
    assert b"saved\n" in on_ray.log(key)


@pytest.mark.parametrize("which", ["guard", "supervisor"])
def test_each_of_the_two_processes_ends_the_job_of_the_other(on_ray: RayHarness, tmp_path: Path, which: str) -> None:
    key = on_ray.submit("a", beating(tmp_path / "alive"))
    on_ray.until(key, Phase.STARTED)
    on_ray.head.until((tmp_path / "alive").exists, "begin")
    supervisor = on_ray.supervisor_pid(key)
    guard = int(Path(f"/proc/{supervisor}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(guard if which == "guard" else supervisor, signal.SIGKILL)
    status = on_ray.ended(key)
    assert status.reason is EndReason.SUPERVISOR_LOST and status.started
    assert status.totals is not None and status.totals.wall_ms > 0
    assert quiet(tmp_path / "alive")(), "a process of it outlived the end that was told"


def test_what_ray_has_of_leases_that_are_over_is_removed(on_ray: RayHarness) -> None:
    """Its list does not grow for ever, and other jobs are left alone."""
    other = json.loads(on_ray.head.post("/api/jobs/", {"entrypoint": "true"}).text)["submission_id"]
    key = on_ray.submit("a", ("true",))
    on_ray.ended(key)
    on_ray.head.until(lambda: listed(on_ray, key)["status"] == "SUCCEEDED", "end it")
    on_ray.run(on_ray.driver.forget(key))
    on_ray.driver._over[key] -= 3600  # type: ignore[attr-defined] # as if it were long ago
    on_ray.head.until(lambda: phase(on_ray, LeaseKey("b", 1)) is Phase.ABSENT and not listed(on_ray, key), "forget it")
    assert on_ray.head.get(f"/api/jobs/{other}").is_success
