"""What the agent may rely on, whichever engine it is."""

import hashlib

import pytest

from tests.drivers.conftest import Harness
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey, Phase, SpawnFailed


def test_a_job_that_ends_well(harness: Harness) -> None:
    status, log = harness.do("a", harness.command(say="hello"))
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 0)
    assert status.started and status.started_utc_ms > 1_600_000_000_000
    assert log == "hello\n"


def test_the_exit_code_is_the_jobs_own(harness: Harness) -> None:
    status, _ = harness.do("a", harness.command(code=3))
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 3)


def test_totals_are_cumulative_and_kept(harness: Harness) -> None:
    key = harness.submit("a", harness.command(run_ms=300))
    seen = [harness.ended(key).totals, harness.status(key).totals]
    assert seen[0] == seen[1]
    assert seen[0] is not None and 290 <= seen[0].wall_ms < 20_000


def test_started_is_seen_while_it_runs(harness: Harness) -> None:
    key = harness.submit("a", harness.command(run_ms=2_500))
    status = harness.until(key, Phase.STARTED)
    assert status.started and status.reason is None
    assert harness.ended(key).exit_code == 0


def test_submitting_again_starts_nothing(harness: Harness) -> None:
    job = harness.job("a", harness.command(say="once", run_ms=200))
    for _ in range(3):
        harness.run(harness.driver.submit(job))
    harness.ended(job.key)
    harness.run(harness.driver.submit(job))
    assert harness.log(job.key) == b"once\n"
    assert harness.status(job.key).phase is Phase.ENDED


def test_epochs_of_one_lease_are_jobs_of_their_own(harness: Harness) -> None:
    first = harness.submit("a", harness.command(say="one"))
    second = harness.submit("a", harness.command(say="two"), epoch=2)
    assert (harness.ended(first).exit_code, harness.ended(second).exit_code) == (0, 0)
    assert (harness.log(first), harness.log(second)) == (b"one\n", b"two\n")


def test_nothing_is_known_of_a_lease_never_given(harness: Harness) -> None:
    key = LeaseKey("never", 1)
    assert harness.status(key).phase is Phase.ABSENT
    harness.run(harness.driver.cancel(key, EndReason.CANCELLED))
    assert harness.log(key) == b""
    harness.run(harness.driver.forget(key))
    assert harness.status(key).phase is Phase.ABSENT


@pytest.mark.parametrize("reason", [EndReason.CANCELLED, EndReason.TIME_LIMIT, EndReason.LOST])
def test_a_cancel_ends_it_for_the_stated_reason(harness: Harness, reason: EndReason) -> None:
    key = harness.submit("a", harness.command(run_ms=30_000))
    harness.until(key, Phase.STARTED)
    harness.run(harness.driver.cancel(key, reason))
    status = harness.ended(key)
    assert status.reason is reason and status.started
    harness.run(harness.driver.cancel(key, EndReason.CANCELLED))
    assert harness.status(key) == status


def test_a_cancel_right_after_the_submit(harness: Harness) -> None:
    key = harness.submit("a", harness.command(run_ms=30_000))
    harness.run(harness.driver.cancel(key, EndReason.CANCELLED))
    assert harness.ended(key).reason is EndReason.CANCELLED


def test_the_run_limit_ends_it(harness: Harness) -> None:
    status, _ = harness.do("a", harness.command(run_ms=30_000), run_limit_ms=200)
    assert status.reason is EndReason.TIME_LIMIT
    assert status.totals is not None and 190 <= status.totals.wall_ms < 15_000


def test_news_name_the_lease(harness: Harness) -> None:
    key = harness.submit("a", harness.command(run_ms=50))
    named: set[LeaseKey] = set()
    while not (key in named and harness.status(key).phase is Phase.ENDED):
        named |= harness.run(harness.driver.changed(10_000))
    assert harness.run(harness.driver.changed(1)) in (frozenset(), frozenset({key}))


def test_logs_are_read_from_any_offset(harness: Harness) -> None:
    key = harness.submit("a", harness.command(say="0123456789"))
    harness.ended(key)
    assert harness.run(harness.driver.logs(key, 4, 3)) == b"456"
    assert harness.run(harness.driver.logs(key, 11, 3)) == b""


def test_outputs_are_measured_and_read(harness: Harness) -> None:
    key = harness.submit("a", harness.command(write=("result.txt", "forty-two")))
    harness.ended(key)
    output, missing = harness.run(harness.driver.outputs(key, ("result.txt", "nothing.txt"), 1000))
    assert (output.path, output.size_bytes, output.missing) == ("result.txt", 9, "")
    assert output.sha256 == hashlib.sha256(b"forty-two").hexdigest()
    assert harness.run(harness.driver.read_output(key, "result.txt", 6, 10)) == b"two"
    assert missing.missing
    (capped,) = harness.run(harness.driver.outputs(key, ("result.txt",), 8))
    assert "cap" in capped.missing


def test_a_forgotten_lease_leaves_no_trace(harness: Harness) -> None:
    key = harness.submit("a", harness.command(say="x"))
    harness.ended(key)
    harness.run(harness.driver.forget(key))
    assert harness.status(key).phase is Phase.ABSENT
    assert harness.log(key) == b""


def test_many_are_observed_in_one_call(harness: Harness) -> None:
    keys = [harness.submit(f"a{i}", harness.command(code=i), slot_milli=50) for i in range(8)]
    for key in keys:
        harness.ended(key)
    statuses = harness.run(harness.driver.observe(keys))
    assert [statuses[key].exit_code for key in keys] == list(range(8))


def test_a_restarted_agent_finds_its_jobs(harness: Harness) -> None:
    running = harness.submit("a", harness.command(say="on", run_ms=60_000), run_limit_ms=120_000)
    ended = harness.submit("b", harness.command(code=4))
    harness.until(running, Phase.STARTED)
    harness.ended(ended)
    harness.reopen()
    assert harness.status(ended).exit_code == 4
    harness.until(running, Phase.STARTED)
    harness.run(harness.driver.cancel(running, EndReason.CANCELLED))
    assert harness.ended(running).reason is EndReason.CANCELLED
    assert harness.log(running) == b"on\n"


def test_what_the_engine_cannot_take_is_said_at_once(harness: Harness) -> None:
    command = ("fail", "too big") if harness.scripted else ("true",)
    with pytest.raises(SpawnFailed):
        harness.run(harness.driver.submit(harness.job("a", command, slot_milli=50_000)))
    assert harness.status(LeaseKey("a", 1)).phase is Phase.ABSENT


def test_its_pools_add_up(harness: Harness) -> None:
    for pool in harness.run(harness.driver.discover()):
        assert 0 < pool.max_slot_milli <= pool.capacity_milli
        assert pool.memory_bytes > 0
        assert {rate.precision for rate in pool.rates} >= {"fp64", "fp32"}
        assert all(rate.measured_flops is None for rate in pool.rates)
