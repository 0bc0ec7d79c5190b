"""The net effect of a batch of instructions."""

from collections.abc import Mapping

from tests.fakes.fake_hub import cancel_lease, certify_now, start_lease
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.intake import Standing, decide
from yunhe.site.spool import Applied, LeaseState
from yunhe.wire.link import SiteInstruction

A = LeaseKey("a", 1)


def batch(
    *instructions: SiteInstruction,
    held: Mapping[LeaseKey, LeaseState] | None = None,
    first: int = 1,
    **standing: object,
) -> Applied | None:
    numbered = [one.model_copy(update={"seq": first + index}) for index, one in enumerate(instructions)]
    fields: dict[str, object] = {"applied_seq": 0, "held": held or {}, "boot": "b", "sent_ms": 1_000, "now_ms": 1_100}
    return decide(numbered, Standing(**{**fields, **standing}))  # type: ignore[arg-type]


def test_nothing_new_is_nothing() -> None:
    assert batch() is None
    assert batch(start_lease("a", ("x",)), applied_seq=1) is None


def test_only_what_is_new_counts() -> None:
    applied = batch(start_lease("a", ("x",)), start_lease("b", ("x",)), applied_seq=1)
    assert applied is not None and applied.seq == 2
    assert [held.key for held in applied.accepted] == [LeaseKey("b", 1)]
    assert applied.accepted[0].contact_ms == 1_000


def test_order_in_the_answer_does_not_matter() -> None:
    start, cancel = start_lease("a", ("x",), seq=1), cancel_lease("a", EndReason.CANCELLED)
    cancel = cancel.model_copy(update={"seq": 2})
    standing = Standing(applied_seq=0, held={}, boot="b", sent_ms=0, now_ms=0)
    applied = decide([cancel, start], standing)
    assert applied is not None and not applied.accepted
    assert [(end.key, end.reason) for end in applied.ended] == [(A, EndReason.CANCELLED)]


def test_a_cancelled_epoch_does_not_touch_the_next() -> None:
    again = start_lease("a", ("x",), epoch=2)
    applied = batch(start_lease("a", ("x",)), cancel_lease("a", EndReason.LOST), again)
    assert applied is not None
    assert [held.key for held in applied.accepted] == [LeaseKey("a", 2)]
    assert [end.key for end in applied.ended] == [A]


def test_a_held_lease_is_not_taken_twice() -> None:
    applied = batch(start_lease("a", ("x",)), held={A: LeaseState.STARTED})
    assert applied == Applied(seq=1)


def test_cancels_of_held_leases() -> None:
    cancel = cancel_lease("a", EndReason.TIME_LIMIT)
    running = batch(cancel, held={A: LeaseState.STARTED})
    assert running is not None and running.cancelled == ((A, EndReason.TIME_LIMIT),)
    ended = batch(cancel, held={A: LeaseState.ENDED})
    assert ended is not None and not ended.cancelled and not ended.ended


def test_a_lost_lease_that_nobody_holds_is_answered() -> None:
    applied = batch(cancel_lease("a", EndReason.LOST), cancel_lease("b", EndReason.CANCELLED))
    assert applied is not None
    assert [(end.key, end.reason) for end in applied.ended] == [(A, EndReason.LOST)]


def test_reasons_to_refuse() -> None:
    start = start_lease("a", ("x",), disconnect_limit_ms=50)
    for standing, reason in (
        ({"now_ms": 1_050}, EndReason.DISCONNECTED),
        ({"now_ms": 1_000, "refusing": "paused"}, EndReason.SITE_REFUSED),
        ({"now_ms": 1_000, "programs": ("y*",)}, EndReason.SITE_REFUSED),
    ):
        applied = batch(start, **standing)
        assert applied is not None and not applied.accepted
        assert [end.reason for end in applied.ended] == [reason]
    applied = batch(start, now_ms=1_049, programs=("y", "x"))
    assert applied is not None and len(applied.accepted) == 1


def test_the_newest_certify_instruction_counts() -> None:
    applied = batch(certify_now(), start_lease("a", ("x",)), certify_now())
    assert applied is not None and (applied.certify_seq, applied.seq) == (3, 3)
