"""From stored specs to the values that placement looks at, cached by content."""

from collections import OrderedDict
from dataclasses import replace
from typing import TypeVar

import sqlalchemy as sa

from yunhe.core.demand import Shape
from yunhe.hub.orders import store
from yunhe.wire.api import OrderSpec
from yunhe.wire.convert import to_shape

MAX_CACHED = 50_000

K = TypeVar("K")
V = TypeVar("V")


class Shapes:
    """One per process; read and written by reader threads, so every step is a single dict operation."""

    def __init__(self, places: frozenset[str]) -> None:
        self._places = places
        self._specs: OrderedDict[str, tuple[OrderSpec, Shape, str | None]] = OrderedDict()
        self._shapes: OrderedDict[tuple[str, int | None, int], Shape] = OrderedDict()

    def load(self, conn: sa.Connection, hashes: set[str], submitted_ms: dict[str, int]) -> None:
        """Parse the specs not seen yet. `submitted_ms`: some submission time of each, so that it validates again."""
        missing = sorted(hashes - self._specs.keys())
        for start in range(0, len(missing), 500):
            rows = conn.execute(
                sa.select(store.spec.c.hash, store.spec.c.json, store.spec.c.bundle).where(
                    store.spec.c.hash.in_(missing[start : start + 500])
                )
            )
            for row in rows:
                spec = OrderSpec.model_validate_json(row.json)
                self._specs[row.hash] = (spec, to_shape(spec, submitted_ms[row.hash], self._places), row.bundle)
        _trim(self._specs)

    def spec(self, spec_hash: str) -> OrderSpec:
        return self._specs[spec_hash][0]

    def bundle(self, spec_hash: str) -> str | None:
        return self._specs[spec_hash][2]

    def shape(self, spec_hash: str, deadline_ms: int | None, hold_microcny: int) -> Shape:
        """The order's shape; what it may cost at most at any place is its hold (see intake)."""
        key = (spec_hash, deadline_ms, hold_microcny)
        shape = self._shapes.get(key)
        if shape is None:
            spec, base, _ = self._specs[spec_hash]
            budget = hold_microcny // (1 + spec.retries)
            shape = replace(base, terms=replace(base.terms, deadline_ms=deadline_ms, budget_microcny=budget))
            self._shapes[key] = shape
            _trim(self._shapes)
        return shape


def _trim(cache: "OrderedDict[K, V]") -> None:
    while len(cache) > MAX_CACHED:
        cache.popitem(last=False)
