"""Every error of the tree becomes a problem and the same error again on the other side."""

import pickle
from collections.abc import Iterator

import pytest

from yunhe.core import errors
from yunhe.core.errors import YunheError
from yunhe.wire import problem
from yunhe.wire.api import Problem


def tree(kind: type[YunheError]) -> Iterator[type[YunheError]]:
    for child in kind.__subclasses__():
        yield child
        yield from tree(child)


EVERY = sorted(tree(YunheError), key=lambda kind: kind.__name__)


def test_every_error_has_a_status_and_a_code_of_its_own() -> None:
    assert set(EVERY) == set(problem.STATUS)
    assert len({kind.code for kind in EVERY}) == len(EVERY)


@pytest.mark.parametrize("kind", EVERY)
def test_round_trip(kind: type[YunheError]) -> None:
    raised = kind("it did not work", field="requirement.cores", hint="try another way")
    sent = problem.to_problem(raised, request_id="r1").model_dump_json()
    got = problem.to_error(Problem.model_validate_json(sent))
    assert type(got) is kind
    assert (got.message, got.field, got.hint) == (raised.message, raised.field, raised.hint)
    assert got.retryable == raised.retryable


@pytest.mark.parametrize("kind", EVERY)
def test_status_says_whose_turn_it_is(kind: type[YunheError]) -> None:
    told = problem.to_problem(kind("no"))
    assert told.type == f"urn:yunhe:problem:{kind.code}"
    assert told.hint == kind.default_hint
    assert 400 <= told.status < 600
    if told.status >= 500:
        assert told.retryable, "a fault of the hub may pass"


@pytest.mark.parametrize("kind", EVERY)
def test_errors_survive_another_process(kind: type[YunheError]) -> None:
    got = pickle.loads(pickle.dumps(kind("no", field="x", hint="h")))
    assert (type(got), got.message, got.field, got.hint) == (kind, "no", "x", "h")


@pytest.mark.parametrize(("status", "kind"), [(599, errors.Unavailable), (418, errors.Refused)])
def test_a_code_of_a_newer_hub_becomes_its_nearest_kind(status: int, kind: type[YunheError]) -> None:
    newer = Problem(type="urn:x", title="x", status=status, detail="later", code="from_the_future")
    assert type(problem.to_error(newer)) is kind
