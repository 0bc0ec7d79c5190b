"""When an order is to start, as people write it."""

import pytest

from yunhe.core.errors import InvalidInput
from yunhe.facts.load import place_names
from yunhe.wire.api import OrderSpec
from yunhe.wire.convert import to_shape
from yunhe.wire.order_yaml import load_order_yaml

NOW = 1_800_000_000_000  # 2027-01-15T08:00:00Z
HOUR = 3_600_000
RUN = {"command": ["true"]}


def start_of(**changes: object) -> int | None:
    return to_shape(OrderSpec.model_validate({"run": RUN, **changes}), NOW, place_names()).terms.start_ms


@pytest.mark.parametrize(
    ("text", "start_ms"),
    [
        ("in 2h", NOW + 2 * HOUR),
        (" in  1h30m ", NOW + 3 * HOUR // 2),
        ("2h", NOW + 2 * HOUR),
        ("2027-01-15T18:00+08:00", NOW + 2 * HOUR),
        ("2027-01-15T10:00:00Z", NOW + 2 * HOUR),
    ],
)
def test_a_start_is_a_time_or_so_long_from_now(text: str, start_ms: int) -> None:
    assert start_of(start_at=text) == start_ms


def test_an_order_without_a_start_starts_when_it_can() -> None:
    assert start_of() is None


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"start_at": "tomorrow"}, "start_at", "number"),
        ({"start_at": "in 0s"}, "start_at", "0"),
        ({"start_at": "2027-01-15T07:59:59Z"}, "start_at", "in the past"),
        ({"start_at": "2027-01-16T08:00:00"}, "start_at", "no time zone"),
        ({"start_at": "2040-01-01T00:00Z"}, "start_at", "366 days"),
        ({"start_at": "in 2h", "deadline": "2h"}, "deadline", "no time for the run"),
        ({"start_at": "in 2h", "deadline": "2h59m", "duration": "1h"}, "deadline", "no time for the run"),
        ({"start_at": "in 2h", "spot": True}, "start_at", "spot"),
    ],
)
def test_a_start_that_cannot_be_is_refused(changes: dict[str, object], field: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        start_of(**changes)
    assert refused.value.field == field


def test_a_start_in_a_file_is_no_date_of_yaml() -> None:
    spec = load_order_yaml("run:\n  command: [true_]\nstart_at: 2027-02-01T08:00+08:00\n")
    assert spec.start_at == "2027-02-01T08:00+08:00"
