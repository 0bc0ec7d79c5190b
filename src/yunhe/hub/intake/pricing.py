"""From a spec to its shape, its quote and the hold it needs."""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import sqlalchemy as sa

from yunhe.core import units
from yunhe.core.demand import Shape
from yunhe.core.errors import OverBudget, Refused, TooLarge
from yunhe.core.placement.calendar import is_booking
from yunhe.core.round import Quote, quote
from yunhe.core.supply import Free, Supply
from yunhe.facts import load
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.orders import calendar
from yunhe.hub.platform.context import Platform
from yunhe.wire.api import OrderSpec
from yunhe.wire.convert import check_chip, to_shape

SUPPLY_TTL_MS = 250  # a quote may be this old; the round decides on a fresh view
CACHED_QUOTES = 2_000
CACHED_BODIES = 1_000
KEPT_BODY_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class Priced:
    """A checked order. `hold_microcny` is the most it can cost at the places it may go to, retries included."""

    shape: Shape
    hold_microcny: int


@dataclass(frozen=True, slots=True)
class Canonical:
    """A spec as it is stored: its files by content, its secrets by name, its origin with the order alone."""

    hash: str
    json: str
    bundle_sha256: str | None
    bundle_json: str | None
    body_sha: str
    origin_json: str | None = None


def canonical(spec: OrderSpec) -> Canonical:
    text = spec.model_dump_json(exclude_defaults=True, exclude={"run": {"files"}, "origin": True})
    bundle = json.dumps(spec.run.files, sort_keys=True, separators=(",", ":")) if spec.run.files else None
    bundle_sha = hashlib.sha256(bundle.encode()).hexdigest() if bundle is not None else None
    digest = hashlib.sha256(f"{text}\n{bundle_sha}".encode()).hexdigest()
    origin = spec.origin.model_dump_json() if spec.origin else None
    body = hashlib.sha256(f"{digest}\n{origin}".encode()).hexdigest() if origin else digest
    return Canonical(digest, text, bundle_sha, bundle, body, origin)


class Reader:
    """From the bytes of an order to its spec. Orders of one text come in great numbers: they are read once.

    One per process, used on the event loop's thread.
    """

    def __init__(self) -> None:
        self._read: OrderedDict[bytes, tuple[OrderSpec, Canonical]] = OrderedDict()

    def read(self, body: bytes) -> tuple[OrderSpec, Canonical]:
        """Raises pydantic.ValidationError."""
        found = self._read.get(body)
        if found is None:
            spec = OrderSpec.model_validate_json(body)
            found = (spec, canonical(spec))
            if len(body) <= KEPT_BODY_BYTES and not spec.run.secrets:
                self._read[body] = found
                if len(self._read) > CACHED_BODIES:
                    self._read.popitem(last=False)
        return found


class Pricer:
    """One per process. Keeps the supply for a moment, and the price of specs that come again.

    A price holds as long as sites and pools are what they were: what is free right now has no part in it.
    """

    def __init__(self, platform: Platform, places: Mapping[str, str]) -> None:
        self._platform = platform
        self._places = places
        self._chips = frozenset(chip.id for chip in load.chips())
        self._supply: Supply | None = None
        self._supply_ms = 0
        self._priced: OrderedDict[str, Priced] = OrderedDict()
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()

    def supply(self, conn: sa.Connection) -> Supply:
        """The network as it was at most a quarter of a second ago."""
        with self._refreshing:  # of many that find it too old, one reads it
            now_ms = self._platform.clock.now_ms()
            before = self._supply
            if before is not None and 0 <= now_ms - self._supply_ms < SUPPLY_TTL_MS:
                return before
            supply = catalogue.supply(conn, now_ms, self._platform.settings.silent_after_ms)
            with self._lock:
                self._supply, self._supply_ms = supply, now_ms
                if before is None or before.sites != supply.sites or before.pools != supply.pools:
                    self._priced.clear()
            return supply

    def supply_for(self, conn: sa.Connection, shape: Shape, now_ms: int) -> Supply:
        """`supply` with the bookings that an order of this shape has to go around."""
        policy, to_book = self._platform.settings.policy, is_booking(shape, now_ms)
        return calendar.with_bookings(conn, self.supply(conn), policy, now_ms, to_book=to_book)

    def known(self, spec_hash: str) -> Priced | None:
        """The price of a spec that came a moment ago; None when it must be computed (see `price`)."""
        with self._lock:
            if self._platform.clock.now_ms() - self._supply_ms >= SUPPLY_TTL_MS:
                return None
            return self._priced.get(spec_hash)

    def quote(self, conn: sa.Connection, spec: OrderSpec) -> tuple[Shape, Quote, Supply]:
        now_ms = self._platform.clock.now_ms()
        shape = to_shape(spec, now_ms, self._places)
        supply = self.supply_for(conn, shape, now_ms)
        self._check_chip(spec, supply)
        return shape, quote(shape, supply, self._platform.settings.policy, now_ms), supply

    def _check_chip(self, spec: OrderSpec, supply: Supply) -> None:
        if spec.requirement.chip is not None and spec.requirement.chip not in self._chips:
            check_chip(spec, self._chips | {pool.chip for pool in supply.pools})

    def price(self, conn: sa.Connection, spec: OrderSpec, spec_hash: str) -> Priced:
        """Raises OverBudget when places fit but for the budget, Refused when none fits and no budget is stated."""
        supply = self.supply(conn)
        known = self.known(spec_hash)
        if known is not None:
            return known
        now_ms = self._platform.clock.now_ms()
        shape = to_shape(spec, now_ms, self._places)
        self._check_chip(spec, supply)
        attempts = 1 + spec.retries
        budget = shape.terms.budget_microcny
        if budget is not None and attempts > 1:
            shape = replace(shape, terms=replace(shape.terms, budget_microcny=budget // attempts))
        asked = _unused(supply) if is_booking(shape, now_ms) else supply  # one that cannot be booked now waits
        found = quote(shape, asked, self._platform.settings.policy, now_ms)
        priced = Priced(shape, _hold(found, budget, attempts))
        if shape.terms.deadline_ms is None and shape.terms.start_ms is None:  # these change what the same text costs
            with self._lock:
                if self._supply is supply:
                    self._priced[spec_hash] = priced
                while len(self._priced) > CACHED_QUOTES:
                    self._priced.popitem(last=False)
        return priced


def _unused(supply: Supply) -> Supply:
    """As if nothing were in use or booked: what an order can cost does not depend on it."""
    return replace(supply, free=tuple(Free(pool.capacity_milli, pool.memory_bytes) for pool in supply.pools))


def _hold(found: Quote, budget_microcny: int | None, attempts: int) -> int:
    if found.offers:
        most = max(offer.hold.total for offer in found.offers) * attempts
        if most > units.MAX_MONEY_MICROCNY:  # of an amount that anybody states; the ledger adds in 64 bits
            raise TooLarge(
                f"may cost {units.format_money(most)}, more than {units.format_money(units.MAX_MONEY_MICROCNY)}",
                field="duration",
                hint="state a budget, which leaves out dear places, or lower `duration`, `retries` or the array",
            )
        return most
    dear = [
        reason
        for site in found.refused
        if all(r.code == "budget" or not r.lasting for r in site.reasons)
        for reason in site.reasons
        if reason.code == "budget"
    ]
    if dear:
        times = f" for {attempts} attempts" if attempts > 1 else ""
        raise OverBudget(
            f"the cheapest place needs {min(dear, key=lambda r: (len(r.have), r.have)).have}{times}",
            field="budget",
            hint="raise the budget, or lower `duration` (the hold covers the whole run limit)",
        )
    if budget_microcny is None:
        raise Refused(
            "no site of the network can meet this requirement now",
            field="requirement",
            hint="`yunhe quote` says why; state a budget to leave the order open until a site can",
        )
    return budget_microcny
