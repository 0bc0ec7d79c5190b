"""What is concluded from what is seen, and what is never concluded. No cluster."""

from dataclasses import replace
from typing import Any

import pytest

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey, Phase
from yunhe.site.drivers.kubernetes.held import Held
from yunhe.site.drivers.kubernetes.record import Intent, Record, Stop
from yunhe.site.drivers.kubernetes.verdict import Act, Rules, Sight, Verdict, judge
from yunhe.site.drivers.kubernetes.views import JobView, PodView

RULES = Rules(vanished=5, tries=3, pull=10, start=100, lost=20)
JOB = JobView("ns", "job", "u1", LeaseKey("a", 1), 1, 60, False, False, "", "")
POD = PodView("ns", "pod", "p1", "job", 0, "n1", "Pending", "", "", False, "", "", "", 0, 0, None, "")
RUNS = replace(POD, phase="Running", started_ms=5_000)
WELL = replace(RUNS, phase="Succeeded", finished_ms=9_000, exit_code=0, ended_for="Completed")
BADLY = replace(RUNS, phase="Failed", finished_ms=9_000, exit_code=3, ended_for="Error")
SIGHT = Sight(
    slots=1,
    run_limit_s=60,
    fresh=True,
    stop=None,
    job=JOB,
    job_was_there=True,
    placing=False,
    confirmed=True,
    tries=1,
    asked_age=1,
    ours=True,
    pods=(),
    runs_age=None,
    idle_age=1,
    leaving_age=None,
)


def seen(*pods: PodView, **changes: Any) -> Verdict:
    runs = 4.0 if any(pod.started_ms for pod in pods) else None
    idle = None if runs else 1.0
    return judge(replace(SIGHT, **{"pods": pods, "runs_age": runs, "idle_age": idle, **changes}), RULES)


def test_a_broken_watch_says_nothing_whatever_was_seen() -> None:
    for pods in ((), (RUNS,), (WELL,), (BADLY,)):
        assert seen(*pods, fresh=False).phase is Phase.UNKNOWN


@pytest.mark.parametrize(
    "changes, phase, act",
    [
        ({"confirmed": False, "placing": True, "asked_age": 99}, Phase.UNKNOWN, Act.NOTHING),
        ({"confirmed": False}, Phase.UNKNOWN, Act.NOTHING),
        ({"confirmed": False, "asked_age": 6}, Phase.UNKNOWN, Act.PLACE),
        ({"confirmed": False, "asked_age": 6, "tries": 3}, Phase.UNKNOWN, Act.STOP),
        ({"confirmed": False, "ours": False}, Phase.ABSENT, Act.NOTHING),
        ({"confirmed": True}, Phase.ACCEPTED, Act.NOTHING),
        ({"confirmed": True, "asked_age": 6}, Phase.ACCEPTED, Act.LOOK),
        ({"confirmed": False, "stop": Stop(EndReason.CANCELLED, "")}, Phase.UNKNOWN, Act.NOTHING),
        ({"confirmed": False, "stop": Stop(EndReason.CANCELLED, ""), "asked_age": 6}, Phase.ENDED, Act.NOTHING),
    ],
)
def test_a_job_that_no_watch_has_shown(changes: dict[str, Any], phase: Phase, act: Act) -> None:
    verdict = seen(job=None, job_was_there=False, **changes)
    assert (verdict.phase, verdict.act) == (phase, act)


@pytest.mark.parametrize(
    "pod, reason, code",
    [
        (WELL, EndReason.EXITED, 0),
        (BADLY, EndReason.EXITED, 3),
        (replace(BADLY, exit_code=137, ended_for="OOMKilled"), EndReason.MEMORY_LIMIT, 137),
        (replace(BADLY, reason="DeadlineExceeded"), EndReason.TIME_LIMIT, 3),
        (replace(BADLY, reason="Evicted", message="low on memory"), EndReason.SUPERVISOR_LOST, 3),
        (replace(BADLY, reason="Evicted", message="ephemeral local storage"), EndReason.EXITED, 137),
        (replace(BADLY, disrupted="PreemptionByScheduler"), EndReason.PREEMPTED, 3),
        (replace(POD, disrupted="PreemptionByScheduler", gone=True), EndReason.PREEMPTED, None),
        (replace(BADLY, reason="Preempting", message="for a critical pod", exit_code=137), EndReason.PREEMPTED, 137),
        (replace(BADLY, disrupted="DeletionByTaintManager"), EndReason.SUPERVISOR_LOST, 3),
        (replace(BADLY, reason="NodeLost"), EndReason.SUPERVISOR_LOST, 3),
        (replace(BADLY, ended_for="ContainerStatusUnknown", exit_code=137), EndReason.SUPERVISOR_LOST, 137),
        (replace(POD, phase="Failed", reason="OutOfcpu"), EndReason.SPAWN_FAILED, None),
        (replace(POD, phase="Failed", ended_for="StartError", exit_code=128), EndReason.EXITED, 128),
        (replace(BADLY, exit_code=143, deleting=True), EndReason.SUPERVISOR_LOST, 143),
        (replace(RUNS, gone=True), EndReason.SUPERVISOR_LOST, None),
    ],
)
def test_every_way_to_end(pod: PodView, reason: EndReason, code: int | None) -> None:
    verdict = seen(pod)
    assert (verdict.phase, verdict.reason, verdict.exit_code) == (Phase.ENDED, reason, code)


def test_a_job_that_is_gone_is_no_success() -> None:
    verdict = seen(job=None)
    assert (verdict.phase, verdict.reason) == (Phase.ENDED, EndReason.SUPERVISOR_LOST)
    assert seen(RUNS, job=None).phase is Phase.STARTED  # it still runs
    assert seen(WELL, job=None).exit_code == 0  # it was seen to end before


def test_the_dead_mans_switch() -> None:
    verdict = seen(replace(RUNS, gone=True), job=replace(JOB, failed="DeadlineExceeded"))
    assert (verdict.phase, verdict.reason) == (Phase.ENDED, EndReason.DISCONNECTED)


def test_what_was_stopped_ended_for_that() -> None:
    stop = Stop(EndReason.PREEMPTED, "for local users")
    leaving = replace(JOB, deleting=True)
    assert seen(RUNS, stop=stop, job=leaving).phase is Phase.STARTED
    for pods in ((WELL,), (BADLY,)):
        verdict = seen(*pods, stop=stop, job=leaving)
        assert (verdict.reason, verdict.exit_code) == (EndReason.PREEMPTED, pods[0].exit_code)
    assert seen(stop=stop, job=None).reason is EndReason.PREEMPTED
    assert seen(stop=stop, job=JOB).phase is Phase.ACCEPTED  # not before Kubernetes has let it go


@pytest.mark.parametrize(
    "pod, changes, reason",
    [
        (RUNS, {"runs_age": 60.0}, EndReason.TIME_LIMIT),
        (replace(RUNS, deleting=True), {}, EndReason.SUPERVISOR_LOST),
        (RUNS, {"job": replace(JOB, deleting=True)}, EndReason.SUPERVISOR_LOST),
        (replace(POD, waiting="InvalidImageName"), {}, EndReason.SPAWN_FAILED),
        (replace(POD, waiting="ImagePullBackOff"), {"idle_age": 11.0}, EndReason.SPAWN_FAILED),
        (POD, {"idle_age": 101.0}, EndReason.SPAWN_FAILED),
    ],
)
def test_what_is_stopped(pod: PodView, changes: dict[str, Any], reason: EndReason) -> None:
    verdict = seen(pod, **changes)
    assert (verdict.act, verdict.reason) == (Act.STOP, reason)
    assert verdict.phase in (Phase.ACCEPTED, Phase.STARTED)


def test_what_waits_is_not_stopped() -> None:
    for changes in ({"idle_age": 99.0}, {"idle_age": 1e9, "job": replace(JOB, suspended=True)}):
        assert seen(POD, **changes) == Verdict(Phase.ACCEPTED)
    assert seen(replace(POD, waiting="ImagePullBackOff"), idle_age=9.0).act is Act.NOTHING


def test_a_silent_node_is_not_known_and_then_lost() -> None:
    assert seen(RUNS, silent_nodes={"n1"}).phase is Phase.UNKNOWN
    leaving = {"job": None, "silent_nodes": {"n1"}, "stop": Stop(EndReason.SUPERVISOR_LOST, "its node was lost")}
    assert seen(RUNS, **leaving, leaving_age=19.0).phase is Phase.UNKNOWN
    verdict = seen(RUNS, **leaving, leaving_age=21.0)
    assert (verdict.phase, verdict.reason) == (Phase.ENDED, EndReason.SUPERVISOR_LOST)


def rank(number: int, pod: PodView) -> PodView:
    return replace(pod, uid=f"p{number}", rank=number)


def test_a_gang_ends_with_all_or_with_the_first_that_fails() -> None:
    two = {"slots": 2}
    assert seen(rank(0, WELL), **two).phase is Phase.STARTED  # the other one is not there yet
    assert seen(rank(0, WELL), rank(1, RUNS), **two).phase is Phase.STARTED
    assert seen(rank(0, WELL), rank(1, WELL), **two).exit_code == 0
    ended = replace(BADLY, exit_code=137, deleting=True, finished_ms=8_000)
    assert seen(rank(0, RUNS), rank(1, BADLY), **two) == Verdict(Phase.STARTED)
    assert seen(rank(0, ended), rank(1, BADLY), **two).exit_code == 3  # not the one that was ended for it


def test_a_rank_that_was_taken_away_is_why_the_others_failed() -> None:
    """A peer may fail by itself, and earlier, because its connection broke: that is not the customer's doing."""
    two, broke = {"slots": 2}, rank(1, replace(BADLY, exit_code=1, finished_ms=8_000))
    lost = replace(RUNS, disrupted="DeletionByTaintManager", deleting=True)
    assert seen(rank(0, lost), broke, **two).phase is Phase.STARTED  # it may still run there
    assert seen(rank(0, replace(lost, gone=True)), broke, **two).reason is EndReason.SUPERVISOR_LOST
    assert seen(rank(0, replace(RUNS, gone=True)), broke, **two).reason is EndReason.SUPERVISOR_LOST
    pushed = replace(BADLY, disrupted="PreemptionByScheduler", exit_code=143, deleting=True)
    assert seen(rank(0, pushed), broke, **two).reason is EndReason.PREEMPTED
    never_ran = rank(0, replace(POD, gone=True))
    assert seen(never_ran, broke, **two).exit_code == 1


def test_events_are_asked_before_a_deletion_is_the_sites_fault() -> None:
    """Before 1.26 the scheduler's word is in them alone."""
    stop = Stop(EndReason.SUPERVISOR_LOST, "its pod was deleted by others")
    pod = replace(BADLY, deleting=True, exit_code=143)
    verdict = seen(pod, job=None, stop=stop, preempted=None)
    assert (verdict.phase, verdict.act) == (Phase.STARTED, Act.ASK)
    assert seen(pod, job=None, stop=stop, preempted="").reason is EndReason.SUPERVISOR_LOST
    assert seen(pod, job=None, stop=stop, preempted="others first").reason is EndReason.PREEMPTED
    ours = Stop(EndReason.CANCELLED, "")
    assert seen(pod, job=None, stop=ours, preempted="others first").reason is EndReason.CANCELLED
    assert seen(WELL, job=None, stop=None, preempted="others first").reason is EndReason.EXITED


def test_a_job_that_kueue_takes_back_is_preempted() -> None:
    suspended = replace(JOB, suspended=True, start_ms=0)
    verdict = seen(RUNS, job=suspended)
    assert (verdict.act, verdict.reason) == (Act.STOP, EndReason.PREEMPTED)
    assert seen(replace(BADLY, deleting=True), job=suspended).reason is EndReason.PREEMPTED
    assert seen(BADLY, job=replace(JOB, failed="BackoffLimitExceeded")).reason is EndReason.EXITED


def test_a_second_pod_is_never_let_run() -> None:
    again = replace(POD, uid="p2")
    assert seen(rank(0, replace(RUNS, deleting=True)), again).act is Act.STOP
    assert seen(rank(0, RUNS), again).act is Act.STOP


# --- times --------------------------------------------------------------------------------------------------------


def held(tmp_path: Any, cpu_milli: int = 500) -> Held:
    intent = Intent("ns", "job", 1, cpu_milli, 60_000, 60_000, 0, 1000)
    return Held(LeaseKey("a", 1), intent, Record(tmp_path, LeaseKey("a", 1)))


@pytest.mark.parametrize(
    "began, ended, said_s, wall_ms",
    [
        (10.0, 10.3, 0, 300),  # within the second
        (10.0, 14.2, 4, 4_200),
        (10.0, 19.0, 4, 4_999),  # the watch was late: no more than the node's times allow
        (10.0, 10.1, 4, 3_001),
    ],
)
def test_wall_time_between_whole_seconds(tmp_path: Any, began: float, ended: float, said_s: int, wall_ms: int) -> None:
    lease = held(tmp_path)
    lease.see_pod(POD, True, began - 1, 4_000)
    lease.see_pod(RUNS, True, began, 5_000)
    lease.see_pod(replace(WELL, finished_ms=5_000 + said_s * 1000), True, ended, 9_000)
    totals = lease.totals(99.0)
    assert (totals.wall_ms, totals.cpu_ms, totals.sampled) == (wall_ms, wall_ms // 2, True)


def test_wall_time_of_a_run_that_nobody_watched(tmp_path: Any) -> None:
    lease = held(tmp_path)
    lease.see_pod(WELL, True, 100.0, 500_000)  # the agent came back long after
    assert lease.totals(200.0).wall_ms == 4_000


def test_a_run_that_began_before_the_agent_did(tmp_path: Any) -> None:
    lease = held(tmp_path)
    lease.see_pod(RUNS, True, 100.0, 35_000)  # by the server's clock it has been running for 30 s
    assert lease.totals(101.0).wall_ms == 31_000
    lease.use = (1_234, 5_678)
    assert (lease.totals(101.0).cpu_ms, lease.totals(101.0).peak_memory_bytes) == (1_234, 5_678)


def test_what_never_ran_has_no_use(tmp_path: Any) -> None:
    status = held(tmp_path).status(Verdict(Phase.ENDED, reason=EndReason.TIME_LIMIT), 1.0)
    assert (status.started, status.totals, status.reason) == (False, None, EndReason.SPAWN_FAILED)
