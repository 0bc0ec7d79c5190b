"""The hub's overdue notice may overtake the job: what never ran has not run out of time."""

from yunhe.core.lifecycle import Ended, EndReason, Overdue, Placed, Started, Task, TaskState, step


def test_a_time_limit_before_the_start_is_the_sites_fault() -> None:
    task = step(Task("order.0"), Placed("site", "site:cpu"), 0).task
    over = step(task, Ended(1, EndReason.TIME_LIMIT, None), 1)
    assert over.task.state is TaskState.PENDING and over.task.site_faults == 1
    assert over.task.reason is EndReason.SPAWN_FAILED


def test_an_overdue_start_is_stopped_as_the_sites_fault() -> None:
    leased = step(Task("order.0"), Placed("site", "site:cpu"), 0).task
    (stop,) = step(leased, Overdue(), 1).instructions
    assert stop.reason is EndReason.SPAWN_FAILED
    (stop,) = step(step(leased, Started(1), 1).task, Overdue(), 2).instructions
    assert stop.reason is EndReason.TIME_LIMIT


def test_a_time_limit_after_the_start_ends_the_task() -> None:
    task = step(step(Task("order.0"), Placed("site", "site:cpu"), 0).task, Started(1), 1).task
    over = step(task, Ended(1, EndReason.TIME_LIMIT, None), 2)
    assert (over.task.state, over.task.reason) == (TaskState.FAILED, EndReason.TIME_LIMIT)
