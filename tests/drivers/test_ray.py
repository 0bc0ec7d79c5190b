"""The Ray driver on a real Ray: what is asked of it, what it says, and who may start what."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.ray_harness import RayHarness
from tests.engines import ray
from yunhe.core.errors import InvalidInput, Unavailable
from yunhe.core.lifecycle import EndReason
from yunhe.site.contact import Contact
from yunhe.site.drivers.contract import LeaseKey, Phase, SpawnFailed
from yunhe.site.supervisor.records import boottime_ms


def listed(harness: RayHarness, key: LeaseKey) -> dict[str, str]:
    """Ray's own word on the job of a lease; empty when it knows none."""
    answer = harness.head.get(f"/api/jobs/{harness.driver._client.id_of(key)}")  # type: ignore[attr-defined]
    return dict(json.loads(answer.text)) if answer.is_success else {}


# --- supply ---------------------------------------------------------------------------------------------------------


def test_nodes_and_cards_are_pools(on_ray: RayHarness) -> None:
    pools = {pool.name: pool for pool in on_ray.run(on_ray.driver.discover())}
    assert set(pools) == {"cpu", "h20", "mlu"}
    assert (pools["h20"].chip, pools["h20"].stack, pools["h20"].capacity_milli) == ("h20", "cuda", 2_000)
    assert (pools["mlu"].chip, pools["mlu"].stack) == ("unknown", "unknown")  # no catalogue's chip is called so
    # A core that goes with a card is not offered a second time.
    assert (pools["cpu"].kind_of_unit, pools["cpu"].capacity_milli) == ("core", 4_000)
    assert sum(pool.memory_bytes for pool in pools.values()) == 6_000_000_000


def test_what_others_hold_is_told(on_ray: RayHarness) -> None:
    """Jobs that did not come through Yunhe, apart from our own."""
    on_ray.submit("a", ("sleep", "60"), slot_milli=1_000, slot_memory_bytes=100 << 20)
    body = {"entrypoint": "sleep 60", "entrypoint_num_cpus": 2, "entrypoint_num_gpus": 1, "entrypoint_memory": 1 << 30}
    other = json.loads(on_ray.head.post("/api/jobs/", body).text)["submission_id"]

    def foreign() -> dict[str, tuple[int, int]]:
        found = on_ray.run(on_ray.driver.foreign())
        return {pool.name: (pool.foreign_milli, pool.foreign_memory_bytes) for pool in found}

    try:
        on_ray.until(LeaseKey("a", 1), Phase.STARTED)
        expected = {"cpu": (2_000, 1 << 30), "h20": (1_000, 0), "mlu": (0, 0)}
        on_ray.head.until(lambda: foreign() == expected, "count both jobs", 20)
    finally:
        on_ray.head.post(f"/api/jobs/{other}/stop")


# --- what is asked --------------------------------------------------------------------------------------------------


def test_cards_are_given_by_ray_and_nothing_else_of_it_reaches_the_job(on_ray: RayHarness) -> None:
    key = on_ray.submit("a", ("env",), pool="h20", slot_milli=2_000, env={"MINE": "1"})
    job = listed(on_ray, key)
    asked = json.loads(job["metadata"]["yunhe_resources"])  # type: ignore[index]
    assert asked == {"CPU": 2.0, "memory": 64 << 20, "GPU": 2.0, "accelerator_type:H20": 0.001}
    assert on_ray.ended(key).exit_code == 0
    env = dict(line.split("=", 1) for line in on_ray.log(key).decode().splitlines())
    assert (env["CUDA_VISIBLE_DEVICES"], env["MINE"], env["YUNHE_SIZE"]) == ("0,1", "1", "1")
    assert not [name for name in env if name.startswith("RAY")]
    assert on_ray.head.token not in on_ray.log(key).decode()


def test_what_ray_would_let_wait_for_ever_is_refused(on_ray: RayHarness) -> None:
    def refused(why: str, **changes: object) -> None:
        with pytest.raises(SpawnFailed, match=why):
            on_ray.submit("a", ("true",), **changes)
        assert on_ray.status(LeaseKey("a", 1)).phase is Phase.ABSENT

    refused("memory", slot_memory_bytes=100 << 30)
    refused("no pool", pool="elsewhere")
    refused("whole cards", pool="h20", slot_milli=1_500)


def test_a_job_that_waits_is_accepted_and_never_starts_once_stopped(on_ray: RayHarness, tmp_path: Path) -> None:
    cards = on_ray.submit("g", ("sleep", "60"), pool="mlu", slot_milli=2_000)
    on_ray.until(cards, Phase.STARTED)
    witness = ("sh", "-c", f"echo started >> {tmp_path}/witness")
    waiting = on_ray.submit("w", witness, slot_milli=1_000, pool="mlu", epoch=7)
    on_ray.head.until(lambda: listed(on_ray, waiting)["status"] == "PENDING", "list it")
    time.sleep(0.5)  # a list that is newer than the submit
    assert on_ray.status(waiting).phase is Phase.ACCEPTED
    on_ray.run(on_ray.driver.cancel(waiting, EndReason.WITHDRAWN))
    status = on_ray.status(waiting)
    assert (status.phase, status.reason, status.started) == (Phase.ENDED, EndReason.WITHDRAWN, False)
    on_ray.run(on_ray.driver.cancel(cards, EndReason.CANCELLED))
    after = on_ray.submit("x", ("true",), slot_milli=2_000, pool="mlu")  # both cards: the one before it is gone
    assert on_ray.ended(after, 40).exit_code == 0
    assert not (tmp_path / "witness").exists()


# --- gangs and limits -------------------------------------------------------------------------------------------------


def test_a_gang_lies_on_one_node(on_ray: RayHarness) -> None:
    script = "echo rank $YUNHE_RANK of $YUNHE_SIZE; sleep 0.3"
    status, log = on_ray.do("a", ("sh", "-c", script), slots=3, slot_milli=1_000)
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 0), log
    assert sorted(log.splitlines()) == [f"rank {rank} of 3" for rank in range(3)]


def test_memory_is_held(on_ray: RayHarness) -> None:
    script = "import time; x = b'x' * (200 << 20); time.sleep(20)"
    status, _ = on_ray.do("a", ("python3", "-c", script), slot_memory_bytes=64 << 20)
    assert status.reason is EndReason.MEMORY_LIMIT


def test_without_word_of_the_hub_the_job_is_stopped(on_ray: RayHarness) -> None:
    contact = Contact(on_ray.data_dir)
    contact.open()
    contact.heard(boottime_ms())
    key = on_ray.submit("a", ("sleep", "60"), disconnect_limit_ms=3_000)
    status = on_ray.ended(key)
    assert status.reason is EndReason.DISCONNECTED
    # On a busy machine Ray may take longer than the limit: then it is not started at all.
    assert status.totals is None or status.totals.wall_ms < 5_000
    contact.close()


# --- the token --------------------------------------------------------------------------------------------------------


def test_a_wrong_token_and_an_open_file_are_said(on_ray: RayHarness, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64)
    token.chmod(0o600)
    (tmp_path / "other").mkdir()
    wrong = RayHarness(on_ray.head, tmp_path / "other", token_file=token)
    with pytest.raises(Unavailable, match="refuses the token"):
        wrong.run(wrong.driver.discover())
    wrong.close()
    token.chmod(0o644)
    shown = RayHarness(on_ray.head, tmp_path / "other", token_file=token)
    with pytest.raises(InvalidInput, match="others can read"):
        shown.run(shown.driver.discover())
    shown.close()


# --- only once --------------------------------------------------------------------------------------------------------


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Path]:
    """A file that each start of a job adds a line to."""
    path = tmp_path / "witness"
    path.touch()
    yield path
    assert len(path.read_text().splitlines()) <= 1, "a job was started twice"


class AgentDies(Exception):
    """In place of SIGKILL."""


@pytest.mark.parametrize("where", ["driver.prepared", "driver.asked"])
def test_an_agent_killed_around_the_request_has_one_job(on_ray: RayHarness, witness: Path, where: str) -> None:
    def crash(name: str) -> None:
        if name == where:
            raise AgentDies

    on_ray.driver._crash_point = crash  # type: ignore[attr-defined]
    job = on_ray.job("a", ("sh", "-c", f"echo started >> {witness}"))
    with pytest.raises(AgentDies):
        on_ray.run(on_ray.driver.submit(job))
    on_ray.reopen()
    on_ray.run(on_ray.driver.submit(job))
    assert on_ray.ended(job.key).exit_code == 0
    assert witness.read_text() == "started\n"


def test_a_second_start_does_nothing(on_ray: RayHarness, witness: Path) -> None:
    """The same entrypoint under another id, as a head might that has lost what it knew."""
    key = on_ray.submit("a", ("sh", "-c", f"echo started >> {witness}; sleep 2"))
    on_ray.until(key, Phase.STARTED)
    again = json.loads(on_ray.head.post("/api/jobs/", {"entrypoint": listed(on_ray, key)["entrypoint"]}).text)
    ended = f"/api/jobs/{again['submission_id']}"
    on_ray.head.until(lambda: json.loads(on_ray.head.get(ended).text)["status"] == "SUCCEEDED", "run it")
    assert on_ray.ended(key).exit_code == 0
    assert witness.read_text() == "started\n"
    assert "started again" in (on_ray.lease_dir(key) / "supervisor.err").read_text()


def test_why_it_is_skipped_is_one_line_that_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert "pip install" in ray.missing() and "\n" not in ray.missing()


def test_the_agent_does_not_import_ray() -> None:
    assert os.system("python -c 'import sys, yunhe.apps.site; sys.exit(\"ray\" in sys.modules)'") == 0
