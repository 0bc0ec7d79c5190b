"""From stored specs to the values that placement looks at, cached by content."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from yunhe.core.demand import Shape
from yunhe.core.errors import YunheError
from yunhe.hub.orders import store
from yunhe.hub.orders.tasks import chunks
from yunhe.wire.api import OrderSpec
from yunhe.wire.convert import to_shape

log = logging.getLogger(__name__)

MAX_CACHED = 50_000

ShapeKey = tuple[str, int | None, int | None, int]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A stored spec, ready for placement; `shape` without the times and the hold of one order."""

    spec: OrderSpec
    shape: Shape
    bundle: str | None


def key_of(row: sa.Row[Any]) -> ShapeKey:
    """What of an order's row makes its shape."""
    return row.spec_hash, row.deadline_ms, row.start_ms, row.hold_microcny


class _Recent(Generic[K, V]):
    """The entries that were used last, for several threads."""

    def __init__(self) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._entries[key] = value
            if len(self._entries) > MAX_CACHED:
                self._entries.popitem(last=False)


class Shapes:
    """One per process, used by reader threads. What a caller was given stays with it, whatever is forgotten here."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places
        self._specs: _Recent[str, Loaded] = _Recent()
        self._shapes: _Recent[ShapeKey, Shape] = _Recent()

    def load(self, conn: sa.Connection, submitted_ms: Mapping[str, int]) -> dict[str, Loaded]:
        """The specs by hash. `submitted_ms`: some submission time of each, so that it validates again.

        A spec that this version cannot read is told in the log and left out: it must not hold up the others.
        """
        found: dict[str, Loaded] = {}
        missing = []
        for spec_hash in submitted_ms:
            known = self._specs.get(spec_hash)
            if known is None:
                missing.append(spec_hash)
            else:
                found[spec_hash] = known
        for part in chunks(sorted(missing)):
            columns = (store.spec.c.hash, store.spec.c.json, store.spec.c.bundle)
            for row in conn.execute(sa.select(*columns).where(store.spec.c.hash.in_(part))):
                loaded = self._parse(row.hash, row.json, row.bundle, submitted_ms[row.hash])
                if loaded is not None:
                    self._specs.put(row.hash, loaded)
                    found[row.hash] = loaded
        return found

    def _parse(self, spec_hash: str, text: str, bundle: str | None, submitted_ms: int) -> Loaded | None:
        try:
            spec = OrderSpec.model_validate_json(text)
            return Loaded(spec, to_shape(spec, submitted_ms, self._places), bundle)
        except (YunheError, ValueError) as error:
            log.error("the stored spec %s cannot be read; its orders wait: %s", spec_hash, error)
            return None

    def of_order(self, row: sa.Row[Any], loaded: Loaded) -> Shape:
        """The order's shape; what it may cost at most at any place is its hold (see intake)."""
        key = key_of(row)
        shape = self._shapes.get(key)
        if shape is None:
            budget = row.hold_microcny // (1 + loaded.spec.retries)
            times = {"deadline_ms": row.deadline_ms, "start_ms": row.start_ms}
            terms = replace(loaded.shape.terms, **times, budget_microcny=budget)
            shape = replace(loaded.shape, terms=terms)
            self._shapes.put(key, shape)
        return shape
