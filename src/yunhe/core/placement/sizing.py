"""How much of each pool ONE task takes: slots, units, memory, and how long it runs there.

Whatever multiplies rates, times and amounts is done in Python integers: 10^21 FLOP/s times 10^3 leaves 64 bits, and
a float would round a card away.
"""

from typing import NamedTuple

import numpy as np

from yunhe.core.demand import Precision, Requirement, Shape, Terms
from yunhe.core.placement.board import NO_RATE, Board
from yunhe.core.placement.board import trusted_rate as trusted_rate
from yunhe.core.placement.columns import Bools, Ints
from yunhe.core.rounding import ceil_div
from yunhe.core.supply import Pool, PoolKind

HUGE = 2**60  # stands for "more than any pool has"; sums of two stay within 64 bits
UNIT = 1000  # milli of one core or card
_MS = 1000
_BITS = 2**64 - 1
_SMALL = 2.0**62
_DOUBT = 1e-12  # of a quotient: far more than its roundings


class Sizes(NamedTuple):
    """One shape at some pools, one position per pool. `milli` and `memory` are of the whole task (all its slots)."""

    slots: Ints
    slot_milli: Ints
    milli: Ints
    slot_memory: Ints
    memory: Ints
    run_ms: Ints  # predicted; the run limit where it cannot be predicted
    transfer_ms: Ints  # part of run_ms: the input data come first
    known: Bools  # False: the pool has no trusted rate at the precision asked for


class _Units(NamedTuple):
    slots: Ints
    slot_milli: Ints
    known: Bools | None = None  # None: everywhere
    run_ms: Ints | None = None  # None: not predictable


def slots_of(requirement: Requirement, pool: Pool, milli: int) -> tuple[int, int]:
    """(slots, milli per slot) of a task that was given `milli` of `pool`: equal slots, each within one host.

    A requirement of `compute` or `work` in one slot on an accelerator pool may spread over several hosts; it then
    takes the fewest hosts that hold it.
    """
    slots = requirement.slots
    if slots == 1 and by_compute(requirement) and pool.kind is PoolKind.ACCELERATOR:
        slots = max(1, ceil_div(milli, max(UNIT, pool.max_slot_milli // UNIT * UNIT)))
    return slots, milli // slots


def sizes(shape: Shape, board: Board, pools: Ints, now_ms: int) -> Sizes:
    """Sizes of `shape` at `pools` (positions).

    - `cores_milli`, `cards`: as stated, per slot.
    - `compute`: rate / trusted rate of the pool, in thousandths of a core or in whole cards, spread evenly over the
      slots (each rounded up).
    - `work`: the rate that finishes in the time there is: until the deadline, and within the run limit, less the
      transfer of the input data.  Without a deadline the run limit alone counts.
    - none of them: one unit, 1 core or the pool's largest slot if that is smaller; a CPU pool unless a chip is named.

    Memory that is not stated is the slot's share of the pool (whole bytes per 1/1000 unit).
    """
    return _Sizer(board, pools, now_ms).row(shape)


def by_compute(requirement: Requirement) -> bool:
    """Whether the number of units is Yunhe's choice."""
    return requirement.compute is not None or requirement.work is not None


class _Sizer:
    """Sizes shapes against one set of pools."""

    def __init__(self, board: Board, pools: Ints, now_ms: int) -> None:
        self._board = board
        self._pools = pools
        self._now_ms = now_ms
        self._accelerator = board.columns.accelerator[pools]

    def row(self, shape: Shape) -> Sizes:
        need, terms, columns = shape.requirement, shape.terms, self._board.columns
        transfer = self._transfer_ms(need)
        units = self._units(need, terms, transfer)
        milli = np.minimum(units.slots * units.slot_milli, HUGE)
        if need.memory_bytes:
            # Of a stated amount every slot takes as much, so the product is made before it is clipped to 64 bits.
            slot_memory = self._column(need.memory_bytes)
            if HUGE // need.memory_bytes >= int(units.slots.max(initial=1)):
                memory = need.memory_bytes * units.slots
            else:
                memory = np.array([min(n * need.memory_bytes, HUGE) for n in units.slots.tolist()], dtype=np.int64)
        else:
            # A task beyond the pool is refused for its units; clipping it here keeps the product within 64 bits.
            capacity, share = columns.capacity[self._pools], columns.bytes_per_milli[self._pools]
            slot_memory = np.minimum(units.slot_milli, capacity) * share
            memory = np.minimum(milli, capacity) * share
        run = self._column(terms.run_limit_ms) if units.run_ms is None else units.run_ms
        known = np.ones(len(self._pools), dtype=bool) if units.known is None else units.known
        return Sizes(units.slots, units.slot_milli, milli, slot_memory, memory, run, transfer, known)

    def _units(self, need: Requirement, terms: Terms, transfer: Ints) -> _Units:
        if need.compute is not None:
            flops, known = self._rate(need.compute.precision)
            return self._spread(need, _ceil(need.compute.flops * UNIT, flops), known)
        if need.work is not None:
            return self._for_work(need, terms, transfer)
        slots = self._column(need.slots)
        if need.cores_milli is not None:
            return _Units(slots, self._column(max(1, need.cores_milli), HUGE // need.slots))
        if need.cards is not None:
            return _Units(slots, self._column(need.cards * UNIT, HUGE // need.slots))
        one_core = np.clip(self._board.columns.max_slot[self._pools], 1, UNIT)
        return _Units(slots, np.where(self._accelerator, UNIT, one_core))

    def _for_work(self, need: Requirement, terms: Terms, transfer: Ints) -> _Units:
        assert need.work is not None
        flops, known = self._rate(need.work.precision)
        limit = terms.run_limit_ms
        if terms.deadline_ms is not None:
            limit = min(limit, terms.deadline_ms - self._now_ms)
        # A window of nothing is refused for the deadline; 1 ms stands in so that the division is defined.
        flop_milli_ms = need.work.flop * UNIT * _MS
        units = self._spread(need, _ceil(flop_milli_ms, flops, np.maximum(limit - transfer, 1)), known)
        run = _ceil(flop_milli_ms, flops, units.slots * units.slot_milli)
        return units._replace(run_ms=np.minimum(run + transfer, HUGE))

    def _spread(self, need: Requirement, milli: Ints, known: Bools) -> _Units:
        """`milli` of a unit over equal slots: thousandths of cores, whole cards."""
        milli = np.maximum(milli, 1)
        slots = self._column(need.slots)
        cards = -(-milli // UNIT)
        if need.slots == 1:
            per_host = np.maximum(self._board.columns.max_slot[self._pools] // UNIT, 1)
            slots = np.where(self._accelerator, -(-cards // per_host), slots)
        per_slot = np.where(self._accelerator, -(-cards // slots) * UNIT, -(-milli // slots))
        return _Units(slots, per_slot, known)

    def _rate(self, precision: Precision) -> tuple[Ints, Bools]:
        rates = self._board.rates(precision)
        return rates.flops[self._pools], rates.known[self._pools]

    def _transfer_ms(self, need: Requirement) -> Ints:
        """Time for the input data to come over the network; none where they already lie."""
        if need.data_at is None or not need.data_bytes:
            return self._column(0)
        bandwidth = self._board.bandwidth_from(need.data_at)[self._pools]
        over_network = _ceil(need.data_bytes * 8 * _MS, np.maximum(bandwidth, 1))
        return np.where(self._board.lies_at(need.data_at)[self._pools], 0, over_network)

    def _column(self, value: int, most: int = HUGE) -> Ints:
        return np.full(len(self._pools), min(value, most), dtype=np.int64)


def _ceil(numerator: int, first: Ints, second: Ints | None = None) -> Ints:
    """`numerator` over each product of denominators, rounded up and clipped to HUGE.

    In 64 bits where they hold it.  Else by floats, four roundings off at most (5e-16 of the quotient); what is nearer
    than that to a whole number is settled exactly: a float would round a card away.  Where no rate is known the
    number means nothing.
    """
    if second is None and numerator <= HUGE:
        return -(-numerator // first)
    second = np.ones_like(first) if second is None else second
    product = first.astype(np.float64) * second
    quotient = float(numerator) / product
    whole = np.rint(quotient)
    doubt = _DOUBT * np.maximum(quotient, 1)
    unsure = (np.abs(quotient - whole) <= doubt) & (first != NO_RATE) & (quotient < HUGE)
    found = np.ceil(np.minimum(quotient, float(HUGE))).astype(np.int64)
    at = np.flatnonzero(unsure)
    if len(at):
        # What is left of the numerator is far below 2^63, so that its last 64 bits, which wrap, are all of it.
        near = whole[at].astype(np.uint64)
        left = np.uint64(numerator & _BITS) - near * first[at].astype(np.uint64) * second[at].astype(np.uint64)
        found[at] = whole[at].astype(np.int64) + (left.astype(np.int64) > 0)
        for i in at[product[at] * doubt[at] >= _SMALL].tolist():
            found[i] = min(-(-numerator // (int(first[i]) * int(second[i]))), HUGE)
    return found
