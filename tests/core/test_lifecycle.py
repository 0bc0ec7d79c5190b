"""One task's life under every order of events: fenced, absorbing, released once per placement, bounded."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from yunhe.core import lifecycle
from yunhe.core.errors import Conflict
from yunhe.core.lifecycle import (
    ENDED,
    MAX_PREEMPTED_DELAY_MS,
    MAX_PREEMPTIONS,
    MAX_SITE_FAULTS,
    ORDER_ENDED,
    PLACED,
    SITE_FAULTS,
    WAITING,
    Booked,
    BookingLost,
    CancelRequested,
    DeadlinePassed,
    Ended,
    EndReason,
    Event,
    GivenUp,
    InstructionKind,
    OrderState,
    Overdue,
    Placed,
    Reclaimed,
    SiteBack,
    SiteSilent,
    Started,
    Step,
    Task,
    TaskState,
    order_state,
    step,
)

REASONS = st.sampled_from(list(EndReason))
EXITS = st.one_of(st.none(), st.integers(0, 3))
NEVER_MIND = (
    BookingLost("the site is paused"),
    Started(1),
    Ended(1, EndReason.EXITED, 0),
    CancelRequested(),
    Reclaimed(1),
    SiteSilent(),
    SiteBack(),
    GivenUp(),
    Overdue(),
    DeadlinePassed(),
)


class OneTask(RuleBasedStateMachine):
    """Random events on one task, beside what a hub would count of it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000
        self.task = Task("order.0", retries_left=3)
        self.placements = 0
        self.releases = 0
        self.starts = 0
        self.cancel_asked = False
        self.retries = 0
        self.preempted = 0

    def give(self, event: Event) -> Step:
        before = self.task
        self.now_ms += 1
        result = step(before, event, self.now_ms)
        self.task = result.task
        self.releases += result.released
        self.starts += sum(i.kind is InstructionKind.START for i in result.instructions)
        self.retries += any(kind == "retry" for kind, _ in result.facts)
        self.preempted += any(kind == "preempted" for kind, _ in result.facts)
        if before.state in ENDED:
            assert not result.changed
            assert result.task == before
        if not result.changed:
            assert result.task == before, "a change of state without a fact"
        assert result.released == (before.state in PLACED and self.task.state not in PLACED)
        assert all(i.epoch == self.task.epoch for i in result.instructions)
        return result

    @precondition(lambda self: self.task.state is TaskState.PENDING)
    @rule(pool=st.sampled_from(["a:cpu", "b:cpu"]))
    def book(self, pool: str) -> None:
        before = self.task
        self.give(Booked(pool[0], pool, "from then to then"))
        assert self.task == replace(before, state=TaskState.BOOKED, site_id=pool[0], pool_id=pool)

    @precondition(lambda self: self.task.state is not TaskState.PENDING)
    @rule()
    def booking_twice_is_a_bug(self) -> None:
        with pytest.raises(Conflict):
            step(self.task, Booked("a", "a:cpu", ""), self.now_ms)

    @rule()
    def lose_the_booking(self) -> None:
        before = self.task
        result = self.give(BookingLost("the site is paused"))
        assert result.changed == (before.state is TaskState.BOOKED)
        if result.changed:
            assert (self.task.state, self.task.pool_id, self.task.epoch) == (TaskState.PENDING, None, before.epoch)

    @precondition(lambda self: self.task.state in WAITING)
    @rule(pool=st.sampled_from(["a:cpu", "b:cpu"]))
    def place(self, pool: str) -> None:
        self.give(Placed(pool[0], pool))
        self.placements += 1
        assert self.task.state is TaskState.LEASED
        assert self.task.epoch == self.placements

    @precondition(lambda self: self.task.state not in WAITING)
    @rule()
    def placing_twice_is_a_bug(self) -> None:
        with pytest.raises(Conflict):
            step(self.task, Placed("a", "a:cpu"), self.now_ms)

    @rule()
    def start(self) -> None:
        self.give(Started(self.task.epoch))

    @rule(reason=REASONS, exit_code=EXITS, kept_ms=st.sampled_from([0, 500]))
    def end(self, reason: EndReason, exit_code: int | None, kept_ms: int) -> None:
        before = self.task
        result = self.give(Ended(before.epoch, reason, exit_code, kept_ms))
        if before.state in PLACED:
            assert self.task.state in ENDED | {TaskState.PENDING}
            if reason is EndReason.EXITED and exit_code == 0 and before.started:
                assert self.task.state is TaskState.SUCCEEDED
            if self.task.state is TaskState.SUCCEEDED:
                assert before.started
            if result.facts[0][0] == "disbelieved":
                assert self.task.reason in SITE_FAULTS
                assert before.cancel_requested or self.task.state is not TaskState.CANCELLED
            if reason in SITE_FAULTS:
                assert self.task.retries_left == before.retries_left, "a fault of the site used up a retry"
            if reason is EndReason.PREEMPTED:
                assert (self.task.retries_left, self.task.site_faults) == (before.retries_left, before.site_faults)
                if kept_ms and before.started and not before.cancel_requested:
                    assert (self.task.state, self.task.preemptions) == (TaskState.PENDING, 0)

    @rule(back=st.integers(1, 5), reason=REASONS, exit_code=EXITS)
    def old_epochs_are_fenced(self, back: int, reason: EndReason, exit_code: int | None) -> None:
        before = self.task
        for epoch in (before.epoch - back, before.epoch + back):
            assert not self.give(Started(epoch)).changed
            assert not self.give(Ended(epoch, reason, exit_code)).changed
        assert self.task == before

    @rule()
    def cancel(self) -> None:
        before = self.task
        self.give(CancelRequested())
        if before.state in WAITING:
            never = before.epoch == 0
            assert self.task.state is (TaskState.WITHDRAWN if never else TaskState.CANCELLED)
        self.cancel_asked |= before.state not in ENDED

    @rule(old=st.booleans())
    def reclaim(self, old: bool) -> None:
        before = self.task
        result = self.give(Reclaimed(before.epoch - old))
        told = before.state in (TaskState.LEASED, TaskState.RUNNING) and not before.stopping and not old
        assert result.changed == told
        assert [i.reason for i in result.instructions] == [EndReason.PREEMPTED] * told
        assert self.task.state is before.state and self.task.epoch == before.epoch

    @rule()
    def silence(self) -> None:
        self.give(SiteSilent())

    @rule()
    def back(self) -> None:
        self.give(SiteBack())
        assert self.task.state is not TaskState.UNKNOWN

    @rule()
    def give_up(self) -> None:
        before = self.task
        result = self.give(GivenUp())
        assert result.changed == (before.state is TaskState.UNKNOWN)
        if result.changed:
            assert [i.kind for i in result.instructions] == [InstructionKind.CANCEL]

    @rule()
    def overdue(self) -> None:
        before = self.task
        result = self.give(Overdue())
        if before.stopping and before.state in (TaskState.LEASED, TaskState.RUNNING):
            assert (self.task.state in PLACED, self.task.reason) == (False, EndReason.LOST)
        else:
            stopping = before.stopping or before.state in PLACED
            assert self.task == replace(before, stopping=stopping), "being overdue is no proof of an end"
        assert result.changed or before.state not in (TaskState.LEASED, TaskState.RUNNING)
        assert bool(result.instructions) == result.changed

    @rule()
    def deadline(self) -> None:
        before = self.task
        self.give(DeadlinePassed())
        if before.state in WAITING:
            assert (self.task.state, self.task.reason) == (TaskState.FAILED, EndReason.DEADLINE_MISSED)
        else:
            assert self.task == before

    @invariant()
    def released_once_per_placement(self) -> None:
        assert self.starts == self.placements
        assert self.releases == self.placements - (self.task.state in PLACED)

    @invariant()
    def attempts_are_bounded(self) -> None:
        assert self.task.site_faults <= MAX_SITE_FAULTS
        assert self.task.retries_left >= 0
        assert self.task.preemptions <= min(MAX_PREEMPTIONS, self.preempted)
        assert self.retries == self.task.site_faults + 3 - self.task.retries_left

    @invariant()
    def a_cancelled_task_is_never_placed_again(self) -> None:
        if self.cancel_asked:
            assert self.task.state is not TaskState.PENDING

    @invariant()
    def one_task_and_its_order_agree(self) -> None:
        assert (order_state({self.task.state: 1}) in ORDER_ENDED) == (self.task.state in ENDED)

    def teardown(self) -> None:
        """Whatever happened: a cancel, and then the site's word or its silence, ends it."""
        self.give(CancelRequested())
        self.give(SiteSilent())
        self.give(GivenUp())
        assert self.task.state in ENDED


TestOneTask = OneTask.TestCase
TestOneTask.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def run(task: Task, *events: Event) -> Task:
    for event in events:
        task = step(task, event, 0).task
    return task


def test_a_site_that_is_back_is_not_given_up() -> None:
    task = run(Task("t"), Placed("a", "a:cpu"), Started(1), SiteSilent(), SiteBack())
    assert task.state is TaskState.RUNNING
    assert not step(task, GivenUp(), 0).changed


def test_a_reclaimed_task_ends_as_preempted_or_as_it_would_have_and_goes_on() -> None:
    told = run(Task("t"), Placed("a", "a:cpu"), Started(1), Reclaimed(1))
    assert (told.state, told.stopping) == (TaskState.RUNNING, True)
    assert run(told, Ended(1, EndReason.EXITED, 0)).state is TaskState.SUCCEEDED
    ended = run(told, Ended(1, EndReason.PREEMPTED, 143, 500))
    assert (ended.state, ended.reason, ended.site_faults) == (TaskState.PENDING, EndReason.PREEMPTED, 0)
    assert run(told, CancelRequested(), Ended(1, EndReason.PREEMPTED, 143)).state is TaskState.CANCELLED


def test_a_lost_task_is_placed_again_with_a_new_epoch() -> None:
    task = run(Task("t"), Placed("a", "a:cpu"), SiteSilent(), GivenUp())
    assert (task.state, task.reason, task.site_faults) == (TaskState.PENDING, EndReason.LOST, 1)
    assert run(task, Placed("b", "b:cpu")).epoch == 2


def test_the_delay_doubles_with_every_fault_of_a_site() -> None:
    task, delays = Task("t"), []
    while task.state is TaskState.PENDING:
        task = run(task, Placed("a", "a:cpu"))
        task = step(task, Ended(task.epoch, EndReason.SPAWN_FAILED, None), 0).task
        delays.append(task.not_before_ms)
    assert delays == [1_000, 2_000, 4_000, 8_000, 16_000, 16_000]
    assert (task.state, task.reason) == (TaskState.FAILED, EndReason.SPAWN_FAILED)


def preempt(task: Task, kept_ms: int = 0) -> Task:
    placed = run(task, Placed("a", "a:cpu"))
    return run(placed, Started(placed.epoch), Ended(placed.epoch, EndReason.PREEMPTED, 143, kept_ms))


def test_a_preempted_task_is_placed_again_and_waits_longer_while_nothing_is_kept() -> None:
    task, delays = Task("t", retries_left=1), []
    while task.state is TaskState.PENDING:
        task = preempt(task)
        delays.append(task.not_before_ms)
    assert delays[:4] == [1_000, 2_000, 4_000, 8_000]
    assert max(delays) == MAX_PREEMPTED_DELAY_MS
    assert (task.state, task.reason) == (TaskState.FAILED, EndReason.PREEMPTED)
    assert (task.epoch, task.retries_left, task.site_faults) == (MAX_PREEMPTIONS + 1, 1, 0)


def test_a_task_that_keeps_something_each_time_is_preempted_as_often_as_need_be() -> None:
    task = Task("t")
    for _ in range(5 * MAX_PREEMPTIONS):
        task = preempt(preempt(task), kept_ms=60_000)
        assert (task.state, task.preemptions, task.not_before_ms) == (TaskState.PENDING, 0, 1_000)


def test_a_preempted_task_that_was_cancelled_is_over() -> None:
    task = run(Task("t"), Placed("a", "a:cpu"), CancelRequested(), Ended(1, EndReason.PREEMPTED, 0, 10))
    assert (task.state, task.reason) == (TaskState.CANCELLED, EndReason.PREEMPTED)


def test_a_job_that_ends_well_after_the_signal_has_not_succeeded() -> None:
    assert run(Task("t"), Placed("a", "a:cpu"), Ended(1, EndReason.PREEMPTED, 0)).state is TaskState.PENDING


def test_a_site_that_ignores_a_cancel_is_given_up() -> None:
    stopping = run(Task("t"), Placed("a", "a:cpu"), Started(1), CancelRequested())
    given_up = step(stopping, Overdue(), 9)
    assert (given_up.task.state, given_up.task.reason) == (TaskState.CANCELLED, EndReason.LOST)
    assert [(i.kind, i.reason) for i in given_up.instructions] == [(InstructionKind.CANCEL, EndReason.LOST)]
    assert given_up.released and not step(given_up.task, Ended(1, EndReason.EXITED, 0), 10).changed
    assert not step(run(stopping, SiteSilent()), Overdue(), 9).changed  # a silent site is another matter


def test_a_site_that_runs_on_beyond_its_limit_is_given_up_and_the_task_is_placed_again() -> None:
    told = run(Task("t"), Placed("a", "a:cpu"), Started(1), Overdue())
    assert (told.state, told.stopping) == (TaskState.RUNNING, True)
    again = run(told, Overdue())
    assert (again.state, again.site_faults, again.reason) == (TaskState.PENDING, 1, EndReason.LOST)
    assert not run(again, Placed("b", "b:cpu")).stopping


@pytest.mark.parametrize("reason", list(EndReason))
@pytest.mark.parametrize("started", [False, True])
def test_a_site_gains_nothing_by_an_end_that_cannot_be(reason: EndReason, started: bool) -> None:
    placed = run(Task("t"), Placed("a", "a:cpu"))
    after = step(run(placed, Started(1)) if started else placed, Ended(1, reason, 0, 1_000), 0)
    ran = {EndReason.EXITED, EndReason.MEMORY_LIMIT, EndReason.TIME_LIMIT}
    if reason in SITE_FAULTS | {EndReason.PREEMPTED} | (ran if started else {EndReason.DATA_IN_FAILED}):
        assert after.task.reason is reason and "disbelieved" not in dict(after.facts)
    else:
        assert after.task.reason in SITE_FAULTS and after.task.state is TaskState.PENDING
        assert dict(after.facts)["disbelieved"] == f"{reason.value} 0"
    if not started:  # nothing is kept of what never ran
        assert dict(after.facts).get("preempted", "kept 0 ms") == "kept 0 ms"


def test_an_exit_without_a_code_says_nothing() -> None:
    task = run(Task("t", retries_left=1), Placed("a", "a:cpu"), Started(1), Ended(1, EndReason.EXITED, None))
    assert (task.retries_left, task.site_faults, task.reason) == (1, 1, EndReason.SUPERVISOR_LOST)


def test_a_cancel_that_meets_an_end_keeps_the_truth() -> None:
    running = run(Task("t", retries_left=2), Placed("a", "a:cpu"), Started(1), CancelRequested())
    assert run(running, Ended(1, EndReason.EXITED, 0)).state is TaskState.SUCCEEDED
    assert run(running, Ended(1, EndReason.EXITED, 3)).state is TaskState.CANCELLED
    assert run(running, Ended(1, EndReason.MEMORY_LIMIT, None)).state is TaskState.CANCELLED


@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_ended_task_ignores_everything(state: TaskState) -> None:
    task = Task("t", state=state, epoch=1)
    assert all(step(task, event, 0) == Step(task) for event in NEVER_MIND)


COUNTS = st.dictionaries(st.sampled_from(list(TaskState)), st.integers(0, 3))


@given(COUNTS)
def test_an_order_ends_with_its_last_task(counts: dict[TaskState, int]) -> None:
    alive = Counter(counts).total() - sum(counts.get(state, 0) for state in ENDED)
    state = order_state(counts)
    assert (state in ORDER_ENDED) == (alive == 0)
    if state is OrderState.SUCCEEDED:
        assert not any(counts.get(s) for s in TaskState if s is not TaskState.SUCCEEDED)
    if state is OrderState.FAILED:
        assert counts.get(TaskState.FAILED)
    if state is OrderState.OPEN:
        assert not any(counts.get(s) for s in TaskState if s not in WAITING)


def test_an_order_cancelled_midway_says_so() -> None:
    assert order_state({TaskState.SUCCEEDED: 2, TaskState.WITHDRAWN: 3}) is OrderState.CANCELLED
    assert order_state({TaskState.WITHDRAWN: 3}) is OrderState.WITHDRAWN
    assert order_state({TaskState.SUCCEEDED: 1, TaskState.FAILED: 1}) is OrderState.FAILED


def test_every_reason_ends_an_attempt() -> None:
    for reason in EndReason:
        task = run(Task("t"), Placed("a", "a:cpu"), Ended(1, reason, None))
        assert task.state not in PLACED
    assert lifecycle.RETRY_DELAY_MS > 0
