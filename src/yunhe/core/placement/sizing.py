"""How much of each pool ONE task takes: slots, units, memory, and how long it runs there.

Whatever multiplies rates, times and amounts is done in Python integers: 10^21 FLOP/s times 10^3 leaves 64 bits, and
a float would round a card away.
"""

from typing import NamedTuple

import numpy as np

from yunhe.core.demand import Precision, Requirement, Shape, Terms
from yunhe.core.placement.columns import Bools, Columns, Ints
from yunhe.core.policy import Policy
from yunhe.core.rounding import ceil_div
from yunhe.core.supply import Pool, PoolKind

HUGE = 2**60  # stands for "more than any pool has"; sums of two stay within 64 bits
UNIT = 1000  # milli of one core or card
_MS = 1000
_NO_RATE = 10**18  # stands where `known` is False; large, so that what is divided by it stays small


class Sizes(NamedTuple):
    """One row per shape, one column per pool. `milli` and `memory` are of the whole task (all its slots)."""

    slots: Ints
    slot_milli: Ints
    milli: Ints
    slot_memory: Ints
    memory: Ints
    run_ms: Ints  # predicted; the run limit where it cannot be predicted
    transfer_ms: Ints  # part of run_ms: the input data come first
    known: Bools  # False: the pool has no trusted rate at the precision asked for

    def rows(self, rows: list[int]) -> "Sizes":
        return Sizes._make(column[rows] for column in self)


class _Units(NamedTuple):
    slots: Ints
    slot_milli: Ints
    known: Bools | None = None  # None: everywhere
    run_ms: Ints | None = None  # None: not predictable


class _Rates(NamedTuple):
    """Trusted FLOP/s of one unit per pool; `known` tells where there is none."""

    flops: list[int]
    known: Bools


def trusted_rate(pool: Pool, precision: Precision, policy: Policy) -> int | None:
    """FLOP/s of one unit that placement counts on: measured and derated by the pool's trust, else nominal derated by
    policy, else None (unknown)."""
    for rate in pool.rates:
        if rate.precision is precision:
            if rate.measured_flops:
                return rate.measured_flops * pool.trust_milli // 1000 or None
            if rate.nominal_flops:
                return rate.nominal_flops * policy.nominal_derate_percent // 100 or None
    return None


def slots_of(requirement: Requirement, pool: Pool, milli: int) -> tuple[int, int]:
    """(slots, milli per slot) of a task that was given `milli` of `pool`: equal slots, each within one host.

    A requirement of `compute` or `work` in one slot on an accelerator pool may spread over several hosts; it then
    takes the fewest hosts that hold it.
    """
    slots = requirement.slots
    if slots == 1 and by_compute(requirement) and pool.kind is PoolKind.ACCELERATOR:
        slots = max(1, ceil_div(milli, max(UNIT, pool.max_slot_milli // UNIT * UNIT)))
    return slots, milli // slots


def sizes(shapes: tuple[Shape, ...], columns: Columns, policy: Policy, now_ms: int) -> Sizes:
    """Sizes of every shape at every pool.

    - `cores_milli`, `cards`: as stated, per slot.
    - `compute`: rate / trusted rate of the pool, in thousandths of a core or in whole cards, spread evenly over the
      slots (each rounded up).
    - `work`: the rate that finishes in the time there is: until the deadline, and within the run limit, less the
      transfer of the input data.  Without a deadline the run limit alone counts.
    - none of them: one unit, 1 core or the pool's largest slot if that is smaller; a CPU pool unless a chip is named.

    Memory that is not stated is the slot's share of the pool (whole bytes per 1/1000 unit).
    """
    sizer = _Sizer(columns, policy, now_ms)
    numbers: dict[tuple[object, ...], int] = {}
    rows: list[Sizes] = []
    index: list[int] = []
    for shape in shapes:
        key = _key(shape)
        number = numbers.setdefault(key, len(rows))
        if number == len(rows):
            rows.append(sizer.row(shape))
        index.append(number)
    stacked = [np.stack(field) for field in zip(*rows, strict=True)]
    if len(rows) < len(index):
        stacked = [field[index] for field in stacked]
    return Sizes(*stacked)


def by_compute(requirement: Requirement) -> bool:
    """Whether the number of units is Yunhe's choice."""
    return requirement.compute is not None or requirement.work is not None


def _key(shape: Shape) -> tuple[object, ...]:
    """What of a shape its sizes depend on."""
    need, terms = shape.requirement, shape.terms
    deadline = terms.deadline_ms if need.work is not None else None
    data = (need.data_at, need.data_bytes) if need.data_at is not None else None
    size = (need.cores_milli, need.cards, need.compute, need.work, need.chip is None, need.slots)
    return (*size, need.memory_bytes, data, terms.run_limit_ms, deadline)


class _Sizer:
    """Sizes shapes against one set of pools; rates per precision are looked up once."""

    def __init__(self, columns: Columns, policy: Policy, now_ms: int) -> None:
        self._columns = columns
        self._policy = policy
        self._now_ms = now_ms
        self._rates: dict[Precision, _Rates] = {}
        self._everywhere = np.ones(len(columns), dtype=bool)
        self._nothing = np.zeros(len(columns), dtype=np.int64)

    def row(self, shape: Shape) -> Sizes:
        """One row, without the dimension of shapes."""
        need, terms = shape.requirement, shape.terms
        transfer = self._transfer_ms(need)
        units = self._units(need, terms, transfer)
        milli = np.minimum(units.slots * units.slot_milli, HUGE)
        if need.memory_bytes:
            # Of a stated amount every slot takes as much, so the product is made before it is clipped to 64 bits.
            slot_memory = self._column(need.memory_bytes)
            by_slots = {slots: min(slots * need.memory_bytes, HUGE) for slots in set(units.slots.tolist())}
            memory = np.array([by_slots[slots] for slots in units.slots.tolist()], dtype=np.int64)
        else:
            # A task beyond the pool is refused for its units; clipping it here keeps the product within 64 bits.
            capacity, share = self._columns.capacity, self._columns.bytes_per_milli
            slot_memory = np.minimum(units.slot_milli, capacity) * share
            memory = np.minimum(milli, capacity) * share
        run = self._column(terms.run_limit_ms) if units.run_ms is None else units.run_ms
        known = self._everywhere if units.known is None else units.known
        return Sizes(units.slots, units.slot_milli, milli, slot_memory, memory, run, transfer, known)

    def _units(self, need: Requirement, terms: Terms, transfer: Ints) -> _Units:
        if need.compute is not None:
            rate = self._rate(need.compute.precision)
            return self._spread(need, _ceil(need.compute.flops * UNIT, rate.flops), rate.known)
        if need.work is not None:
            return self._for_work(need, terms, transfer)
        slots = self._column(need.slots)
        if need.cores_milli is not None:
            return _Units(slots, self._column(max(1, need.cores_milli), HUGE // need.slots))
        if need.cards is not None:
            return _Units(slots, self._column(need.cards * UNIT, HUGE // need.slots))
        return _Units(slots, np.where(self._columns.accelerator, UNIT, np.clip(self._columns.max_slot, 1, UNIT)))

    def _for_work(self, need: Requirement, terms: Terms, transfer: Ints) -> _Units:
        assert need.work is not None
        rate = self._rate(need.work.precision)
        limit = terms.run_limit_ms
        if terms.deadline_ms is not None:
            limit = min(limit, terms.deadline_ms - self._now_ms)
        # A window of nothing is refused for the deadline; 1 ms stands in so that the division is defined.
        window = np.maximum(limit - transfer, 1).tolist()
        flop_milli_ms = need.work.flop * UNIT * _MS
        needed = _ceil(flop_milli_ms, [flops * ms for flops, ms in zip(rate.flops, window, strict=True)])
        units = self._spread(need, needed, rate.known)
        milli = (units.slots * units.slot_milli).tolist()
        run = _ceil(flop_milli_ms, [flops * given for flops, given in zip(rate.flops, milli, strict=True)])
        return units._replace(run_ms=np.minimum(run + transfer, HUGE))

    def _spread(self, need: Requirement, milli: Ints, known: Bools) -> _Units:
        """`milli` of a unit over equal slots: thousandths of cores, whole cards."""
        milli = np.maximum(milli, 1)
        slots = self._column(need.slots)
        cards = -(-milli // UNIT)
        if need.slots == 1:
            per_host = np.maximum(self._columns.max_slot // UNIT, 1)
            slots = np.where(self._columns.accelerator, -(-cards // per_host), slots)
        per_slot = np.where(self._columns.accelerator, -(-cards // slots) * UNIT, -(-milli // slots))
        return _Units(slots, per_slot, known)

    def _rate(self, precision: Precision) -> _Rates:
        if precision not in self._rates:
            found = [trusted_rate(pool, precision, self._policy) for pool in self._columns.supply.pools]
            known = np.array([rate is not None for rate in found], dtype=bool)
            self._rates[precision] = _Rates([rate or _NO_RATE for rate in found], known)
        return self._rates[precision]

    def _transfer_ms(self, need: Requirement) -> Ints:
        """Time for the input data to come over the site's network; none where they already lie."""
        columns = self._columns
        if need.data_at is None or not need.data_bytes:
            return self._nothing
        there = np.array([need.data_at in (site.id, site.cluster) for site in columns.sites], dtype=bool)
        over_network = _ceil(need.data_bytes * 8 * _MS, np.maximum(columns.bandwidth, 1).tolist())
        return np.where(there, 0, over_network)

    def _column(self, value: int, most: int = HUGE) -> Ints:
        return np.full(len(self._columns), min(value, most), dtype=np.int64)


def _ceil(numerator: int, denominators: list[int]) -> Ints:
    """`numerator` over each denominator, rounded up and clipped to HUGE; in Python integers where 64 bits end."""
    if numerator <= HUGE and max(denominators, default=1) <= HUGE:
        return -(-numerator // np.array(denominators, dtype=np.int64))
    found = [-(-numerator // each) for each in denominators]
    if max(found, default=0) > HUGE:
        found = [min(each, HUGE) for each in found]
    return np.array(found, dtype=np.int64)
