"""What is made of a lease's folder and of an engine's list: each row of the table, without an engine."""

import pytest

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Phase
from yunhe.site.drivers.nodes.folder import Evidence
from yunhe.site.drivers.nodes.verdict import Act, Listed, Memory, Rules, Stage, judge

RULES = Rules(engine="Ray", pulse=3.0, vanished=5.0, start=20.0, lost=60.0, cancel_hard=10.0, tries=2)
NEW = Evidence(prepared=True)
BEGUN = Evidence(prepared=True, claimed=True, started=True, pulse=(1,))
WORD = "Ray says FAILED: no such file"


def looked(evidence: Evidence, *looks: tuple[float, Stage | None], memory: Memory | None = None) -> tuple[Phase, Act]:
    """The last verdict of several looks, each at a time and with what the engine lists (None: it does not answer)."""
    memory = memory or Memory(tries=1)
    for now, stage in looks:
        memory.see(evidence, now)
        verdict = judge(evidence, memory, None if stage is None else Listed(stage, WORD), now, RULES)
    return verdict.phase, verdict.act


def test_a_record_comes_first() -> None:
    ended = Evidence(prepared=True, claimed=True, ended_for="exited")
    for stage in (None, *Stage):
        assert looked(ended, (0, stage)) == (Phase.ENDED, Act.NOTHING)
    assert looked(Evidence(prepared=False), (0, Stage.RUNNING)) == (Phase.ABSENT, Act.NOTHING)


@pytest.mark.parametrize("stage", [None, *Stage])
def test_who_shows_that_he_lives_is_started_whatever_the_engine_says(stage: Stage | None) -> None:
    assert looked(BEGUN, (0, stage), (2, stage)) == (Phase.STARTED, Act.NOTHING)


def test_silence_is_unknown_and_lost_only_after_a_time_in_which_the_engine_said_so() -> None:
    assert looked(BEGUN, (0, Stage.RUNNING), (900, Stage.RUNNING)) == (Phase.STARTED, Act.NOTHING)
    for stage in (Stage.OVER, Stage.MISSING):
        assert looked(BEGUN, (0, stage), (59, stage)) == (Phase.UNKNOWN, Act.NOTHING)
        assert looked(BEGUN, (0, stage), (61, stage)) == (Phase.UNKNOWN, Act.LOSE)
        assert looked(BEGUN, (0, stage), (50, None), (100, stage)) == (Phase.UNKNOWN, Act.NOTHING)
    assert looked(BEGUN, (0, None), (900, None)) == (Phase.UNKNOWN, Act.NOTHING)
    assert looked(BEGUN, (0, Stage.UNCLEAR), (900, Stage.UNCLEAR)) == (Phase.UNKNOWN, Act.NOTHING)


def test_before_it_began() -> None:
    assert looked(NEW, (0, Stage.WAITING), (9000, Stage.WAITING)) == (Phase.ACCEPTED, Act.NOTHING)
    assert looked(NEW, (0, Stage.RUNNING), (19, Stage.RUNNING)) == (Phase.ACCEPTED, Act.NOTHING)
    assert looked(NEW, (0, Stage.RUNNING), (21, Stage.RUNNING)) == (Phase.ACCEPTED, Act.SEAL)
    assert looked(NEW, (0, Stage.OVER)) == (Phase.UNKNOWN, Act.SEAL)
    assert looked(NEW, (0, Stage.UNCLEAR), (900, Stage.UNCLEAR)) == (Phase.UNKNOWN, Act.NOTHING)
    assert looked(NEW, (0, None), (900, None)) == (Phase.UNKNOWN, Act.NOTHING)


def test_what_the_engine_forgot_is_submitted_again_and_in_the_end_sealed() -> None:
    assert looked(NEW, (0, Stage.MISSING), (4, Stage.MISSING)) == (Phase.UNKNOWN, Act.NOTHING)
    assert looked(NEW, (0, Stage.MISSING), (6, Stage.MISSING)) == (Phase.UNKNOWN, Act.PLACE)
    assert looked(NEW, (0, Stage.MISSING), (6, Stage.MISSING), memory=Memory(tries=2)) == (Phase.UNKNOWN, Act.SEAL)
    assert looked(NEW, (0, Stage.MISSING), (6, Stage.MISSING), memory=Memory(placing=True)) == (
        Phase.UNKNOWN,
        Act.NOTHING,
    )


def test_a_cancel_that_is_not_followed_is_the_engines_own_after_grace_and_notice() -> None:
    cancelled = Evidence(prepared=True, claimed=True, started=True, cancel="preempted", pulse=(1,))
    looks = ((0, Stage.RUNNING), (11, Stage.RUNNING))
    assert looked(cancelled, *looks) == (Phase.STARTED, Act.STOP)
    assert looked(cancelled, *looks, memory=Memory(notice=30)) == (Phase.STARTED, Act.NOTHING)


def test_a_lost_lease_keeps_the_reason_for_which_it_was_to_stop() -> None:
    cancelled = Evidence(prepared=True, claimed=True, started=True, cancel="time_limit", pulse=(1,))
    memory = Memory()
    for now in (0, 100):
        memory.see(cancelled, now)
        verdict = judge(cancelled, memory, Listed(Stage.OVER, WORD), now, RULES)
    assert (verdict.act, verdict.reason, verdict.detail) == (Act.LOSE, EndReason.TIME_LIMIT, WORD)
