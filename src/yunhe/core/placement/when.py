"""When an order that may wait starts: now, or in a later hour in which its run is expected to cost or emit less.

    held_back(snapshot, board, now_ms) -> delays        of a round: who waits, for which hour, where
    wait_of(shape, board, now_ms, submitted_ms)         the same for one order, for `why`

An order with patience w that came at t0 may start until t0 + w, and never later than its deadline allows.  Of the
starts that are left (now, and each full hour) the one with the least expected sum is taken, over all pools that would
take it, busy or not; the first of equals.  It is asked again every hour, so news of prices count from the next hour on.
Waiting reserves nothing: when the hour has come the order takes its turn with all the others.

The length of a run is what is predicted, or is taken for memoryless with its run limit as the mean (`timing`, maximum
entropy); it is never interrupted, so what a start costs is the sum from there to the end:
    S_k = sum over j >= k of c_j (exp(-(t_j - t_k)/m) - exp(-(t_{j+1} - t_k)/m)) m
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from yunhe.core.demand import Preference, Shape
from yunhe.core.hours import DAY, HOUR_MS
from yunhe.core.placement.board import Board
from yunhe.core.placement.columns import Bools, Floats, Ints
from yunhe.core.placement.cost import data_bytes
from yunhe.core.placement.feasible import CONSTRAINTS, feasible, within_budget
from yunhe.core.placement.look import Look
from yunhe.core.placement.values import Delay, Queue, Snapshot
from yunhe.core.tariff import BYTES_PER_GIB, MILLI_MS_PER_UNIT_HOUR

SIGHT = 48  # starts are looked at so many hours ahead; what a run costs is known as far as its site's series are


@dataclass(frozen=True, slots=True)
class Wait:
    """`saves`: of one task, against a start now, micro-CNY or (preference carbon) milligrams."""

    pool: int
    start_ms: int
    latest_ms: int
    until_ms: int  # when it is asked again
    saves: int
    saves_percent: int


def may_wait(shape: Shape) -> bool:
    terms = shape.terms
    return terms.patience_ms > 0 and terms.start_ms is None and terms.preference is not Preference.SPEED


def latest_start_ms(shape: Shape, submitted_ms: int) -> int:
    """By patience and deadline; of `work` the units that there are may ask for an earlier one."""
    terms = shape.terms
    latest = submitted_ms + terms.patience_ms
    if terms.deadline_ms is None:
        return latest
    run_ms = 1 if shape.requirement.work is not None else terms.run_limit_ms
    return min(latest, terms.deadline_ms - run_ms)


def held_back(snapshot: Snapshot, board: Board, now_ms: int) -> tuple[Snapshot, tuple[Delay, ...]]:
    """The snapshot without the orders that wait for a better hour, and these."""
    patient = np.array([may_wait(shape) for shape in snapshot.shapes], dtype=bool)
    queue = snapshot.queue
    if board.hourly.flat or not patient.any():
        return snapshot, ()
    waits, delays = _Waits(board, now_ms), []
    keep = np.ones(len(queue.ids), dtype=bool)
    for row in np.flatnonzero(patient[queue.shape] & (queue.tasks > 0)).tolist():
        shape, submitted_ms = snapshot.shapes[int(queue.shape[row])], int(queue.submitted_ms[row])
        which = queue.ids[row], int(queue.version[row])
        # Of more kinds than can be looked at some start as if they had no patience: they may not hold up each other.
        if waits.looks >= board.policy.max_waits or (found := waits.of(shape, submitted_ms)) is None:
            continue
        site, saves = board.columns.sites[found.pool].id, found.saves * int(queue.tasks[row])
        delays.append(Delay(*which, site, found.until_ms, found.start_ms, found.latest_ms, saves))
        keep[row] = False
    return (replace(snapshot, queue=_rows(queue, np.flatnonzero(keep))), tuple(delays)) if delays else (snapshot, ())


def wait_of(shape: Shape, board: Board, now_ms: int, submitted_ms: int) -> Wait | None:
    """Whether an order of `shape` is held back now. None: it is to start as soon as it can."""
    return _Waits(board, now_ms).of(shape, submitted_ms) if may_wait(shape) and not board.hourly.flat else None


def best_starts(look: Look) -> tuple[Ints, Floats]:
    """Of each of its pools by itself: the best start of the next 24 hours (UTC ms), and what it saves against now."""
    first_ms, now = next_hour(look.now_ms), _sums(look, look.now_ms)
    best, start = now.copy(), np.full(len(now), look.now_ms, dtype=np.int64)
    a_day = replace(look.shape, terms=replace(look.shape.terms, patience_ms=DAY * HOUR_MS))
    latest_ms = latest_start_ms(a_day, look.now_ms)
    for start_ms in range(first_ms, latest_ms + 1, HOUR_MS):
        sums = _sums(look, start_ms)
        better = sums < best
        best[better], start[better] = sums[better], start_ms
    return start, now - best


def _rows(queue: Queue, at: Ints) -> Queue:
    return Queue(
        ids=tuple(map(queue.ids.__getitem__, at.tolist())),
        shape=queue.shape[at],
        account=queue.account[at],
        priority=queue.priority[at],
        submitted_ms=queue.submitted_ms[at],
        tasks=queue.tasks[at],
        version=queue.version[at],
    )


class _Waits:
    """Of one moment. Orders that differ in their patience and their budget alone are looked at once."""

    def __init__(self, board: Board, now_ms: int) -> None:
        self._board = board
        self._now_ms = now_ms
        self._curves: dict[Hashable, _Curve] = {}
        self.looks = 0  # that took time

    def of(self, shape: Shape, submitted_ms: int) -> Wait | None:
        latest_ms = latest_start_ms(shape, submitted_ms)
        if next_hour(self._now_ms) > latest_ms:
            return None
        curve = self._curve(shape)
        terms = shape.terms
        if terms.budget_microcny is not None:
            within = within_budget(curve.look, terms.budget_microcny, terms.array)
            if not within.all():
                curve, self.looks = curve.among(within), self.looks + 1
        return curve.best(latest_ms)

    def _curve(self, shape: Shape) -> "_Curve":
        need, terms = shape.requirement, shape.terms
        deadline = terms.deadline_ms if need.work is not None else None
        key = (need, terms.run_limit_ms, terms.preference, terms.spot, deadline)
        curve = self._curves.get(key)
        if curve is None:
            self.looks += 1
            shape = replace(shape, terms=replace(terms, deadline_ms=deadline, budget_microcny=None))
            columns = self._board.columns
            fit = feasible(shape, self._board, columns.capacity, columns.memory, self._now_ms)
            curve = self._curves[key] = _Curve(fit.look.take(np.flatnonzero(fit.certified)))
        return curve


class _Curve:
    """What one task of a kind comes to at the pools that would take it now, by the hour in which it starts."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self._now = _sums(look, look.now_ms)
        least = float(self._now.min(initial=np.inf))
        self._limit = least * (1 - look.board.policy.least_saving_percent / 100)
        self._least = least
        # Whoever cannot be so cheap in any hour need not be looked at.
        self._close = np.flatnonzero(_floor(look) <= self._limit)
        self._later: list[tuple[float, int]] = []  # of the next full hour and those after it: (least sum, pool)

    def among(self, some: Bools) -> "_Curve":
        return _Curve(self.look.take(np.flatnonzero(some)))

    def best(self, latest_ms: int) -> Wait | None:
        """None: no start until `latest_ms` saves enough."""
        if not len(self._close):
            return None
        first_ms = next_hour(self.look.now_ms)
        count = min((latest_ms - first_ms) // HOUR_MS + 1, SIGHT)
        self._look_ahead(count)
        found = min(range(count), key=lambda k: self._later[k][0])  # the first of equals
        value, pool = self._later[found]
        if not value <= self._limit or value >= self._least:
            return None
        if self.look.need.work is not None:  # its units may run out before its patience does
            last = max(k for k in range(count) if self._later[k][0] < np.inf)
            latest_ms = latest_ms if last == count - 1 < SIGHT - 1 else first_ms + last * HOUR_MS
        saves = self._least - value
        percent = int(100 * saves / self._least) if self._least else 0
        return Wait(pool, first_ms + found * HOUR_MS, latest_ms, first_ms, int(saves), percent)

    def _look_ahead(self, count: int) -> None:
        first_ms, close = next_hour(self.look.now_ms), self.look.take(self._close)
        for start_ms in range(first_ms + len(self._later) * HOUR_MS, first_ms + count * HOUR_MS, HOUR_MS):
            sums = _sums(close, start_ms)
            at = int(sums.argmin())
            self._later.append((float(sums[at]), int(close.pools[at])))


def next_hour(now_ms: int) -> int:
    return (now_ms // HOUR_MS + 1) * HOUR_MS


def _sums(look: Look, start_ms: int) -> Floats:
    """What a task comes to that starts at `start_ms`, micro-CNY or milligrams; infinite where it cannot."""
    board, shape = look.board, look.shape
    need, terms = shape.requirement, shape.terms
    if need.work is not None and start_ms != look.now_ms:  # it is sized by the time that is left then
        look = Look(board, shape, start_ms, look.pools)
    what = "carbon" if terms.preference is Preference.CARBON else "power"
    mean = board.hourly.means(what, look.pools, start_ms, look.sizes.run_ms, known=need.work is not None)
    found = _valued(look, mean)
    if start_ms != look.now_ms or need.work is not None:
        for fails in _failing(look, start_ms):
            found[fails] = np.inf
    return found


def _valued(look: Look, mean: Floats) -> Floats:
    """Of runs at this mean price of power, or factor."""
    board, terms = look.board, look.shape.terms
    unit_hours = look.sizes.milli / MILLI_MS_PER_UNIT_HOUR * look.sizes.run_ms
    kw = board.columns.kw_per_unit[look.pools]
    if terms.preference is Preference.CARBON:
        return np.asarray(unit_hours * kw * mean * 1000)
    transfer = data_bytes(look.shape) * board.policy.transfer_microcny_per_gib / BYTES_PER_GIB
    return np.asarray(unit_hours * (board.price(spot=terms.spot)[look.pools] + kw * mean) + transfer)


def _floor(look: Look) -> Floats:
    """What a task comes to at least, whenever it starts."""
    hourly = look.board.hourly
    carbon = look.shape.terms.preference is Preference.CARBON
    return _valued(look, (hourly.least_carbon if carbon else hourly.least_power)[look.pools])


def _failing(look: Look, start_ms: int) -> Iterator[Bools]:
    """Constraints that a later start can fail although one now does not."""
    need = look.need
    if need.max_carbon_g_per_kwh is not None:
        yield look.board.hourly.at("carbon", look.pools, start_ms) > need.max_carbon_g_per_kwh
    if need.work is not None:
        for constraint in CONSTRAINTS:
            fails = None if constraint.of_place else constraint.fails(look)
            if fails is not None:
                yield fails
