"""Which pool can take a task of which shape: every constraint is one equation over pools, with a name.

The round, a single decision, a quote and an explanation all read the same `CONSTRAINTS`; there is no second
implementation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from yunhe.core.demand import LatencyBound, Shape
from yunhe.core.lines import in_kind
from yunhe.core.placement.board import UNKNOWN_US, Board
from yunhe.core.placement.columns import Bools, Coded, Ints
from yunhe.core.placement.cost import hold_of
from yunhe.core.placement.look import Look


@dataclass(frozen=True, slots=True)
class Constraint:
    """`fails` tells where it fails; None: nowhere."""

    code: str
    fails: Callable[[Look], Bools | None]
    lasting: bool = True  # False: waiting can help
    of_place: bool = True  # False: the size of the task matters


@dataclass(frozen=True, slots=True)
class Fit:
    """The answer of every constraint for one shape, kept apart so that it can be explained; one flag per pool."""

    look: Look
    failing: tuple[tuple[Constraint, Bools], ...]  # in the order of CONSTRAINTS
    certified: Bools  # the pool takes the task when enough of it is free
    now: Bools  # enough of it is free now
    lasting: Bools  # waiting does not help


def feasible(shape: Shape, board: Board, free: Ints, free_memory: Ints, now_ms: int) -> Fit:
    """Evaluate every constraint at every pool. `free`, `free_memory`: of each pool, 1/1000 units and bytes."""
    look = Look(board, shape, now_ms)
    lasting, passing = np.zeros(len(board), dtype=bool), np.zeros(len(board), dtype=bool)
    failing: list[tuple[Constraint, Bools]] = []
    for constraint in CONSTRAINTS:
        fails = constraint.fails(look)
        if fails is None or not fails.any():
            continue
        failing.append((constraint, fails))
        if constraint.lasting:
            lasting |= fails
        else:
            passing |= fails
    certified = ~(lasting | passing)
    busy = certified & ((look.sizes.milli > free) | (look.sizes.memory > free_memory))
    if busy.any():
        failing.append((BUSY, busy))
    return Fit(look, tuple(failing), certified, certified & ~busy, lasting)


# --- the constraints, in the order in which people read them ----------------------------------------------------


def _site_left(at: Look) -> Bools:
    return at.of(at.board.columns.left)


def _site_closed(at: Look) -> Bools:
    return at.of(at.board.columns.closed) & ~at.of(at.board.columns.left)


def _not_allowed(at: Look) -> Bools | None:
    return _outside(at, at.need.sites, at.board.columns.site)


def _other_pool(at: Look) -> Bools | None:
    return _outside(at, at.need.pools, at.board.columns.pool)


def _no_command(at: Look) -> Bools:
    stack, allowed = at.board.columns.stack, at.need.stacks
    return at.mask(("stack", allowed), lambda: ~stack.among(allowed))


def _operators_missing(at: Look) -> Bools | None:
    """An operator is needed that was not seen to run there; a pool that nobody tried has none."""
    needed = at.need.operators
    if not needed:
        return None
    pools = at.board.supply.pools
    return at.mask(("operators", needed), lambda: np.array([not needed <= p.operators for p in pools], dtype=bool))


def _abilities_missing(at: Look) -> Bools | None:
    needed = at.need.abilities
    if not needed:
        return None
    pools = at.board.supply.pools
    return at.mask(("abilities", needed), lambda: np.array([not needed <= p.abilities for p in pools], dtype=bool))


def _not_believed(at: Look) -> Bools:
    """What the pool claimed was found to be false; it takes no work until a test goes well."""
    return at.of(at.board.columns.refuted)


def _outside(at: Look, allowed: frozenset[str], have: Coded) -> Bools | None:
    """Where `have` of a pool is not in the set of the requirement; an empty set allows any."""
    if not allowed:
        return None
    return at.mask((id(have), allowed), lambda: ~have.among(allowed))


def _wants_cores(at: Look) -> Bools | None:
    return at.accelerator if at.wants_cores else None


def _wants_cards(at: Look) -> Bools | None:
    return ~at.accelerator if at.need.cards is not None else None


def _other_chip(at: Look) -> Bools | None:
    chip, have = at.need.chip, at.board.columns.chip
    return None if chip is None else at.mask(("chip", chip), lambda: ~have.among((chip,)))


def _compute_short(at: Look) -> Bools | None:
    return ~at.sizes.known | at.short if at.by_compute else None


def _too_few_units(at: Look) -> Bools | None:
    return at.sized & at.short if at.need.slots == 1 else None


def _cores_short(at: Look) -> Bools | None:
    few = _too_few_units(at)
    return None if few is None else few & ~at.accelerator


def _cards_short(at: Look) -> Bools | None:
    few = _too_few_units(at)
    return None if few is None else few & at.accelerator


def _slot_too_large(at: Look) -> Bools:
    large = at.sized & (at.sizes.slot_milli > at.of(at.board.columns.max_slot))
    return large if at.need.slots > 1 else large & ~at.short


def _gang_does_not_fit(at: Look) -> Bools | None:
    """The slots do not fit side by side on the pool's hosts, taken to be equal and of the largest slot's size."""
    columns, several = at.board.columns, at.sizes.slots > 1
    if not several.any():
        return None
    host, capacity = np.maximum(at.of(columns.max_slot), 1), at.of(columns.capacity)
    slot = np.maximum(at.sizes.slot_milli, 1)
    room = capacity // host * (host // slot) + capacity % host // slot
    crowded: Bools = at.sized & (slot <= host) & several & (at.sizes.slots > room)
    return crowded


def _memory_short(at: Look) -> Bools | None:
    if not at.need.memory_bytes:
        return None
    columns = at.board.columns
    too_much = (at.sizes.slot_memory > at.of(columns.host_memory)) | (at.sizes.memory > at.of(columns.memory))
    return at.sized & too_much


def _card_memory_short(at: Look) -> Bools | None:
    needed = at.need.card_memory_bytes
    return needed > at.of(at.board.columns.card_memory) if needed else None


def _too_far(at: Look) -> Bools | None:
    bounds, board = at.need.latency, at.board
    if not bounds:
        return None

    def far() -> Bools:
        found = np.zeros(len(board), dtype=bool)
        for bound in bounds:
            found |= _beyond(bound, board.one_way_us(bound.place))
        return found

    return at.mask(("latency", bounds), far)


def _beyond(bound: LatencyBound, one_way_us: Ints) -> Bools:
    far: Bools = (one_way_us == UNKNOWN_US) | (in_kind(1, bound.kind) * one_way_us > bound.limit_us)
    return far


def _bandwidth_short(at: Look) -> Bools | None:
    needed, columns = at.need.bandwidth_bps, at.board.columns
    short = needed > at.of(columns.bandwidth) if needed else None
    if at.need.data_at is None or not at.need.data_bytes:
        return short
    # Data can only come over a network whose capacity is known, on a path that there is.
    none = at.of(at.board.bandwidth_from(at.need.data_at)) < 1
    return none if short is None else short | none


def _other_region(at: Look) -> Bools | None:
    return _outside(at, at.need.residency, at.board.columns.region)


def _tier_too_low(at: Look) -> Bools:
    return at.need.tier > at.of(at.board.columns.tier)


def _carbon_too_high(at: Look) -> Bools | None:
    """In every hour."""
    limit = at.need.max_carbon_g_per_kwh
    return None if limit is None else at.of(at.board.hourly.least_carbon) > limit


def _carbon_too_high_then(at: Look) -> Bools | None:
    """In the hour of the start, which for a booking is not the one that it is."""
    limit = at.need.max_carbon_g_per_kwh
    if limit is None or at.board.hourly.flat:
        return None
    then = at.board.hourly.at("carbon", at.pools, at.now_ms)
    return (then > limit) & (at.of(at.board.hourly.least_carbon) <= limit)


def _too_late(at: Look) -> Bools:
    """Even started now it ends after the deadline, or its data take all the time there is."""
    limit = at.remaining_ms
    # A task without a predicted run takes its run limit; then only the deadline can be missed.
    late = (at.sizes.transfer_ms >= limit) | (at.sizes.run_ms > limit)
    return late & at.sizes.known if at.by_compute else late


def _too_long(at: Look) -> Bools:
    """The site lends its units for shorter runs only."""
    return at.shape.terms.run_limit_ms > at.of(at.board.columns.longest)


def _too_long_before_booking(at: Look) -> Bools | None:
    """What is free there is booked from `until` on, and the task is not certain to be gone by then."""
    until = at.board.until_ms
    if until is None:
        return None
    return at.now_ms + at.shape.terms.run_limit_ms + at.board.policy.booking_margin_ms > at.of(until)


def _over_budget(at: Look) -> Bools | None:
    """The hold of the whole order exceeds its budget, to the micro-CNY."""
    terms = at.shape.terms
    if terms.budget_microcny is None:
        return None
    return ~within_budget(at, terms.budget_microcny, terms.array) & at.sized


def within_budget(at: Look, budget_microcny: int, tasks: int) -> Bools:
    """Where the hold of `tasks` tasks is at most the budget.

    Floats decide where they are surely on one side; what lies within their error and the rounding is computed
    exactly.
    """
    each = budget_microcny / tasks
    within = at.costs.hold_most <= each
    for i in np.flatnonzero((at.costs.hold_least <= each) & ~within).tolist():
        pool = at.board.supply.pools[at.pools[i]]
        site = at.board.columns.sites[at.pools[i]]
        exact = hold_of(at.shape, pool, site, int(at.sizes.milli[i]), at.board.policy, tasks)
        within[i] = exact.total <= budget_microcny
    return within


BEFORE_BOOKING = Constraint("before_booking", _too_long_before_booking, lasting=False)
BUDGET = Constraint("budget", _over_budget, of_place=False)
CONSTRAINTS = (
    Constraint("site", _site_left),
    Constraint("site", _site_closed, lasting=False),
    Constraint("sites", _not_allowed),
    Constraint("pools", _other_pool),
    Constraint("trust", _not_believed, lasting=False),
    Constraint("stack", _no_command),
    Constraint("operators", _operators_missing),
    Constraint("abilities", _abilities_missing),
    Constraint("cores", _wants_cores),
    Constraint("cards", _wants_cards),
    Constraint("chip", _other_chip),
    Constraint("compute", _compute_short, of_place=False),
    Constraint("cores", _cores_short, of_place=False),
    Constraint("cards", _cards_short, of_place=False),
    Constraint("slot", _slot_too_large, of_place=False),
    Constraint("gang", _gang_does_not_fit, of_place=False),
    Constraint("memory", _memory_short, of_place=False),
    Constraint("card_memory", _card_memory_short),
    Constraint("latency", _too_far),
    Constraint("bandwidth", _bandwidth_short),
    Constraint("residency", _other_region),
    Constraint("tier", _tier_too_low),
    Constraint("carbon", _carbon_too_high),
    Constraint("carbon", _carbon_too_high_then, lasting=False),
    Constraint("duration", _too_long, lasting=False),
    BEFORE_BOOKING,
    Constraint("deadline", _too_late, of_place=False),
    BUDGET,
)
BUSY = Constraint("busy", lambda _: None, lasting=False)
BOOKED_OUT = Constraint("booked_out", lambda _: None, lasting=False)  # of a booking: at some time of its span
CODES = frozenset(constraint.code for constraint in (*CONSTRAINTS, BUSY, BOOKED_OUT))
