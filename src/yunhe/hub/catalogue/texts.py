"""How lists are kept in one column of text. Each is read once: a round reads the same ones again and again."""

import json
from collections.abc import Sequence
from functools import lru_cache

from pydantic import TypeAdapter

from yunhe.core.demand import Precision
from yunhe.core.supply import Rate
from yunhe.wire.link import BenchmarkResult, StackReport

_STACK_CHECK: TypeAdapter[StackReport | None] = TypeAdapter(StackReport | None)
_RESULTS: TypeAdapter[tuple[BenchmarkResult, ...]] = TypeAdapter(tuple[BenchmarkResult, ...])


def names_text(names: Sequence[str]) -> str:
    """How the list of assumed figures is stored."""
    return json.dumps(list(names))


@lru_cache(maxsize=4096)
def names_set(text: str) -> frozenset[str]:
    return frozenset(json.loads(text))


def results_text(results: Sequence[BenchmarkResult]) -> str:
    """How measured figures are stored."""
    return _RESULTS.dump_json(tuple(results)).decode()


@lru_cache(maxsize=4096)
def results(text: str) -> tuple[BenchmarkResult, ...]:
    return _RESULTS.validate_json(text)


@lru_cache(maxsize=4096)
def names(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


@lru_cache(maxsize=4096)
def stack_check(text: str) -> StackReport | None:
    return _STACK_CHECK.validate_json(text)


def stack_text(found: StackReport | None) -> str:
    """How a check of a software stack is stored."""
    return _STACK_CHECK.dump_json(found).decode()


@lru_cache(maxsize=65_536)
def parse_rates(text: str) -> tuple[Rate, ...]:
    """Remembered by their text: a round reads the same rates again and again."""
    return tuple(Rate(Precision(name), nominal, measured) for name, nominal, measured in json.loads(text))
