"""Which pool can take a task of which shape: every constraint is one equation over shapes x pools, with a name.

The round, a quote and an explanation all read the same `CONSTRAINTS`; there is no second implementation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from yunhe.core.demand import LatencyBound, Requirement, Shape
from yunhe.core.lines import in_kind, site_one_way_us
from yunhe.core.placement.classes import Classes, classes
from yunhe.core.placement.columns import Bools, Columns, Ints, by_distinct, columns
from yunhe.core.placement.cost import hold_of
from yunhe.core.placement.sizing import by_compute
from yunhe.core.policy import Policy
from yunhe.core.supply import Supply

UNKNOWN_US = -1


class Table:
    """Classes of shapes against pools: what the constraints are evaluated on. Arrays are [class, pool] or broadcast
    to it; `shapes[c]` stands for class c."""

    def __init__(self, classes: Classes, columns: Columns, policy: Policy, now_ms: int) -> None:
        self.shapes = classes.shapes
        self.sizes = classes.sizes
        self.costs = classes.costs
        self.columns = columns
        self.policy = policy
        self.now_ms = now_ms
        self._one_way: dict[str, Ints] = {}
        needs = [shape.requirement for shape in classes.shapes]
        self.by_compute = _column([by_compute(need) for need in needs])
        self.gang = _column([need.slots > 1 for need in needs])
        self.right_kind = ~_wrong_kind(self)

    def each(self, value: Callable[[Requirement], int]) -> Ints:
        """One number of each requirement, as a column."""
        return np.array([[value(shape.requirement)] for shape in self.shapes], dtype=np.int64)

    def one_way_us(self, place: str) -> Ints:
        """One-way delay from each pool to `place`, UNKNOWN_US where nobody knows."""
        if place not in self._one_way:
            supply, factor = self.columns.supply, self.policy.route_factor_percent
            found = [site_one_way_us(supply, site, place, factor) for site in supply.sites]
            by_site = np.array([UNKNOWN_US if us is None else us for us in found], dtype=np.int64)
            self._one_way[place] = by_site[self.columns.site_index]
        return self._one_way[place]

    def latency_us(self, bound: LatencyBound, pool: int) -> int | None:
        """What `bound` is compared with at `pool`, in its own kind."""
        one_way = int(self.one_way_us(bound.place)[pool])
        return None if one_way == UNKNOWN_US else in_kind(one_way, bound.kind)


@dataclass(frozen=True, slots=True)
class Constraint:
    code: str
    fails: Callable[[Table], Bools]
    lasting: bool = True  # False: waiting can help


@dataclass(frozen=True, slots=True)
class Fit:
    """The answer of every constraint, kept apart so that it can be explained. Arrays are [class, pool]."""

    table: Table
    of_shape: Ints  # class of each shape
    failing: tuple[tuple[Constraint, Bools], ...]  # in the order of CONSTRAINTS
    certified: Bools  # the pool takes the task when enough of it is free
    now: Bools  # enough of it is free now
    lasting: Bools  # waiting does not help


def feasible(shapes: tuple[Shape, ...], supply: Supply, policy: Policy, now_ms: int) -> Fit:
    """Evaluate every constraint for every shape and pool. `shapes` must not be empty."""
    pools = columns(supply)
    grouped = classes(shapes, pools, policy, now_ms)
    table = Table(grouped, pools, policy, now_ms)
    size = len(table.shapes), len(pools)
    lasting, passing = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    failing: list[tuple[Constraint, Bools]] = []
    for constraint in CONSTRAINTS:
        fails = constraint.fails(table)
        if not fails.any():
            continue
        failing.append((constraint, np.broadcast_to(fails, size)))
        if constraint.lasting:
            lasting |= fails
        else:
            passing |= fails
    certified = ~(lasting | passing)
    busy = certified & _not_free(table)
    if busy.any():
        failing.append((BUSY, busy))
    return Fit(table, grouped.of_shape, tuple(failing), certified, certified & ~busy, lasting)


# --- the constraints, in the order in which people read them ----------------------------------------------------


def _site_left(t: Table) -> Bools:
    return t.columns.left[None, :]


def _site_closed(t: Table) -> Bools:
    return (t.columns.closed & ~t.columns.left)[None, :]


def _not_allowed(t: Table) -> Bools:
    return _outside(t, lambda need: need.sites, [site.id for site in t.columns.sites])


def _other_pool(t: Table) -> Bools:
    return _outside(t, lambda need: need.pools, [pool.id for pool in t.columns.supply.pools])


def _no_command(t: Table) -> Bools:
    stacks = [pool.stack for pool in t.columns.supply.pools]
    keys = [shape.requirement.stacks for shape in t.shapes]
    return by_distinct(keys, lambda allowed: np.array([stack not in allowed for stack in stacks], dtype=bool))


def _operators_missing(t: Table) -> Bools:
    """An operator is needed that was not seen to run there; a pool that nobody tried has none."""
    keys = [shape.requirement.operators for shape in t.shapes]
    if not any(keys):
        return np.zeros((1, 1), dtype=bool)
    have = [pool.operators for pool in t.columns.supply.pools]
    return by_distinct(keys, lambda needed: np.array([not needed <= ready for ready in have], dtype=bool))


def _abilities_missing(t: Table) -> Bools:
    keys = [shape.requirement.abilities for shape in t.shapes]
    if not any(keys):
        return np.zeros((1, 1), dtype=bool)
    have = [pool.abilities for pool in t.columns.supply.pools]
    return by_distinct(keys, lambda needed: np.array([not needed <= able for able in have], dtype=bool))


def _not_believed(t: Table) -> Bools:
    """What the pool claimed was found to be false; it takes no work until a test goes well."""
    return t.columns.refuted[None, :]


def _outside(t: Table, wanted: Callable[[Requirement], frozenset[str]], have: list[str]) -> Bools:
    """Where `have` of a pool is not in the set of the requirement; an empty set allows any."""

    def row(allowed: frozenset[str]) -> Bools:
        return np.array([bool(allowed) and name not in allowed for name in have], dtype=bool)

    return by_distinct([wanted(shape.requirement) for shape in t.shapes], row)


def _wrong_kind(t: Table) -> Bools:
    return _wants_cores(t) | _wants_cards(t)


def _wants_cores(t: Table) -> Bools:
    """Cores are asked for (or nothing at all), and this pool has cards."""

    def cores(need: Requirement) -> bool:
        unstated = need.cards is None and need.chip is None and not by_compute(need)
        return need.cores_milli is not None or unstated

    return _column([cores(shape.requirement) for shape in t.shapes]) & t.columns.accelerator


def _wants_cards(t: Table) -> Bools:
    return _column([shape.requirement.cards is not None for shape in t.shapes]) & ~t.columns.accelerator


def _other_chip(t: Table) -> Bools:
    chips = [pool.chip for pool in t.columns.supply.pools]
    keys = [shape.requirement.chip for shape in t.shapes]
    return by_distinct(keys, lambda chip: np.array([chip is not None and have != chip for have in chips], dtype=bool))


def _short(t: Table) -> Bools:
    """The task takes more units than the whole pool has."""
    return t.sizes.milli > t.columns.capacity


def _compute_short(t: Table) -> Bools:
    return t.by_compute & (~t.sizes.known | _short(t))


def _sized(t: Table) -> Bools:
    """Where the task's units are known and of the pool's kind, so that sizes may be compared."""
    return t.right_kind & t.sizes.known & ~(t.by_compute & _short(t))


def _too_few_units(t: Table) -> Bools:
    return _sized(t) & ~t.gang & _short(t)


def _cores_short(t: Table) -> Bools:
    return _too_few_units(t) & ~t.columns.accelerator


def _cards_short(t: Table) -> Bools:
    return _too_few_units(t) & t.columns.accelerator


def _slot_too_large(t: Table) -> Bools:
    return _sized(t) & (t.sizes.slot_milli > t.columns.max_slot) & (t.gang | ~_short(t))


def _gang_does_not_fit(t: Table) -> Bools:
    """The slots do not fit side by side on the pool's hosts, taken to be equal and of the largest slot's size."""
    host, slot = np.maximum(t.columns.max_slot, 1), np.maximum(t.sizes.slot_milli, 1)
    room = t.columns.capacity // host * (host // slot) + t.columns.capacity % host // slot
    crowded: Bools = (t.sizes.slots > 1) & (t.sizes.slots > room)
    return _sized(t) & (slot <= t.columns.max_slot) & crowded


def _memory_short(t: Table) -> Bools:
    too_much = (t.sizes.slot_memory > t.columns.host_memory) | (t.sizes.memory > t.columns.memory)
    stated = _column([shape.requirement.memory_bytes > 0 for shape in t.shapes])
    return _sized(t) & stated & too_much


def _card_memory_short(t: Table) -> Bools:
    return t.each(lambda need: need.card_memory_bytes) > t.columns.card_memory


def _too_far(t: Table) -> Bools:
    def row(bounds: tuple[LatencyBound, ...]) -> Bools:
        far = np.zeros(len(t.columns), dtype=bool)
        for bound in bounds:
            one_way = t.one_way_us(bound.place)
            far |= (one_way == UNKNOWN_US) | (in_kind(1, bound.kind) * one_way > bound.limit_us)
        return far

    return by_distinct([shape.requirement.latency for shape in t.shapes], row)


def _bandwidth_short(t: Table) -> Bools:
    # Data can only come over a network whose capacity is known.
    moves = t.each(lambda need: need.data_at is not None and need.data_bytes > 0)
    return np.maximum(t.each(lambda need: need.bandwidth_bps), moves) > t.columns.bandwidth


def _other_region(t: Table) -> Bools:
    return _outside(t, lambda need: need.residency, [site.region for site in t.columns.sites])


def _tier_too_low(t: Table) -> Bools:
    return t.each(lambda need: need.tier) > t.columns.tier


def _carbon_too_high(t: Table) -> Bools:
    limit = t.each(lambda need: 2**62 if need.max_carbon_g_per_kwh is None else need.max_carbon_g_per_kwh)
    return t.columns.carbon > limit


def remaining_ms(shape: Shape, now_ms: int) -> int:
    """Time that a task has if it starts now: its run limit, and no longer than until the deadline."""
    terms = shape.terms
    return terms.run_limit_ms if terms.deadline_ms is None else min(terms.run_limit_ms, terms.deadline_ms - now_ms)


def _too_late(t: Table) -> Bools:
    """Even started now it ends after the deadline, or its data take all the time there is."""
    limit = np.array([[remaining_ms(shape, t.now_ms)] for shape in t.shapes], dtype=np.int64)
    # A task without a predicted run takes its run limit; then only the deadline can be missed.
    return ((t.sizes.transfer_ms >= limit) | (t.sizes.run_ms > limit)) & (t.sizes.known | ~t.by_compute)


def _too_long(t: Table) -> Bools:
    """The site lends its units for shorter runs only."""
    return np.array([[shape.terms.run_limit_ms] for shape in t.shapes], dtype=np.int64) > t.columns.longest


def _over_budget(t: Table) -> Bools:
    """The hold of the whole order exceeds its budget, to the micro-CNY.

    Floats decide where they are surely on one side; what lies within their error and the rounding is computed
    exactly.
    """
    over = np.zeros((len(t.shapes), len(t.columns)), dtype=bool)
    limited = [s for s, shape in enumerate(t.shapes) if shape.terms.budget_microcny is not None]
    if not limited:
        return over
    each = np.array([[(t.shapes[s].terms.budget_microcny or 0) / t.shapes[s].terms.array] for s in limited])
    least, most = t.costs.hold_least[limited], t.costs.hold_most[limited]
    over[limited] = least > each
    pools = t.columns.supply.pools
    for i, p in np.argwhere((least <= each) & (most > each)).tolist():
        s = limited[i]
        exact = hold_of(t.shapes[s], pools[p], t.columns.sites[p], int(t.sizes.milli[s, p]), t.policy)
        over[s, p] = exact.total > (t.shapes[s].terms.budget_microcny or 0)
    return over & _sized(t)


def _not_free(t: Table) -> Bools:
    return (t.sizes.milli > t.columns.free) | (t.sizes.memory > t.columns.free_memory)


def _column(values: list[bool]) -> Bools:
    return np.array(values, dtype=bool)[:, None]


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
    Constraint("compute", _compute_short),
    Constraint("cores", _cores_short),
    Constraint("cards", _cards_short),
    Constraint("slot", _slot_too_large),
    Constraint("gang", _gang_does_not_fit),
    Constraint("memory", _memory_short),
    Constraint("card_memory", _card_memory_short),
    Constraint("latency", _too_far),
    Constraint("bandwidth", _bandwidth_short),
    Constraint("residency", _other_region),
    Constraint("tier", _tier_too_low),
    Constraint("carbon", _carbon_too_high),
    Constraint("duration", _too_long, lasting=False),
    Constraint("deadline", _too_late),
    Constraint("budget", _over_budget),
)
BUSY = Constraint("busy", _not_free, lasting=False)
CODES = frozenset(constraint.code for constraint in (*CONSTRAINTS, BUSY))
