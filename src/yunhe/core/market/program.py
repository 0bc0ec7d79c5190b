"""The network's program, and HiGHS, which solves it: one thread, a fixed seed, limits that count and do not clock."""

from typing import NamedTuple

import highspy
import numpy as np
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from yunhe.core import errors
from yunhe.core.market.network import Columns, Floats, Ints

SEED = 1
BARRIER_FROM = 10_000  # columns; from there on the barrier method (with crossover) is faster than the simplex method
ITERATIONS_PER_SIZE = 100  # of rows plus columns; a limit that is the same on every machine
FIRST_TANGENTS = 9
MAX_STEPS = 100
STEP_GAP = 1e-7  # of the cost, between the curves and their tangents


class Program(NamedTuple):
    """min cost x + curve x^2 subject to rows @ x = right, lower <= x <= upper; entries as (row, column, value)."""

    cost: Floats
    curve: Floats
    lower: Floats
    upper: Floats
    right: Floats
    row: Ints
    column: Ints
    value: Floats


class Answer(NamedTuple):
    x: Floats
    row_duals: Floats
    column_duals: Floats


def program(columns: Columns) -> Program:
    """Columns: what is taken of offers, flows, angles. Rows: a balance per node, a flow law per grid line."""
    offers, lines, nodes = len(columns.price), len(columns.tail), len(columns.demand)
    grid, laws = columns.grid, nodes + np.arange(len(columns.grid))
    flow, angle = offers + np.arange(lines), offers + lines
    law = columns.susceptance[grid] / angle_unit(columns)
    entries = (
        (columns.offer_at, np.arange(offers), np.ones(offers)),
        (columns.head, flow, np.ones(lines)),
        (columns.tail, flow, -np.ones(lines)),
        (laws, flow[grid], np.ones(len(grid))),
        (laws, angle + columns.tail[grid], -law),
        (laws, angle + columns.head[grid], law),
    )
    # One angle of each part that hangs together stands at 0.
    ends = (columns.tail[grid], columns.head[grid])
    _, part = connected_components(coo_array((np.ones(len(grid)), ends), shape=(nodes, nodes)), directed=False)
    free = np.full(nodes, np.inf)
    free[np.unique(part, return_index=True)[1]] = 0.0
    return Program(
        cost=np.concatenate((columns.price, columns.line_price, np.zeros(nodes))),
        curve=np.concatenate((columns.rising, np.zeros(lines + nodes))),
        lower=np.concatenate((columns.offer_least, columns.line_least, -free)),
        upper=np.concatenate((columns.offer_most, columns.line_most, free)),
        right=np.concatenate((columns.demand, np.zeros(len(grid)))),
        row=np.concatenate([entry[0] for entry in entries]),
        column=np.concatenate([entry[1] for entry in entries]),
        value=np.concatenate([entry[2] for entry in entries]),
    )


def angle_unit(columns: Columns) -> float:
    """What an angle is multiplied by in the program: the middle susceptance, so that its entries lie around 1."""
    return float(np.median(np.abs(columns.susceptance[columns.grid]))) if len(columns.grid) else 1.0


def solved(task: Program) -> Answer | None:
    """The optimum, or None where there is no feasible point. Raises Unavailable when HiGHS gives up.

    A cost that curves is followed from below by tangents, one more wherever the last answer lay above them (Kelley's
    cutting planes): each step is a linear program.
    """
    highs = highspy.Highs()  # type: ignore[no-untyped-call]
    size = len(task.cost) + len(task.right)
    options = {
        "output_flag": False,
        "threads": 1,
        "random_seed": SEED,
        "simplex_iteration_limit": ITERATIONS_PER_SIZE * size,
        "solver": "ipm" if len(task.cost) >= BARRIER_FROM else "simplex",
    }
    for name, value in options.items():
        highs.setOptionValue(name, value)
    highs.passModel(_model(task))
    curved = np.flatnonzero(task.curve)
    beside = len(task.cost) + np.arange(len(curved))
    least, most = task.lower[curved], task.upper[curved]
    for share in np.linspace(0.0, 1.0, FIRST_TANGENTS) if len(curved) else ():
        _touch(highs, task, curved, least + share * (most - least), beside)
    for _ in range(MAX_STEPS):
        highs.run()
        status = highs.getModelStatus()
        if status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
            return None  # never unbounded: whatever has a cost has limits
        if status != highspy.HighsModelStatus.kOptimal:
            raise errors.Unavailable(f"the solver gave up: {highs.modelStatusToString(status)}")
        found = highs.getSolution()
        x, columns = np.array(found.col_value), len(task.cost)
        above = task.curve[curved] * x[curved] ** 2 - x[columns:]
        if above.sum() <= STEP_GAP * max(1.0, abs(highs.getObjectiveValue())):
            rows = np.array(found.row_dual)[: len(task.right)]
            return Answer(x[:columns], rows, np.array(found.col_dual)[:columns])
        here = above > 0
        _touch(highs, task, curved[here], x[curved[here]], beside[here])
    raise errors.Unavailable(f"the solver gave up: costs that curve were not met in {MAX_STEPS} steps")


def _model(task: Program) -> highspy.HighsLp:
    """The linear program; each column with a curve has one more beside it, for what the curve costs."""
    lp = highspy.HighsLp()
    order = np.lexsort((task.row, task.column))
    curves = np.zeros(np.count_nonzero(task.curve))
    lp.num_col_, lp.num_row_ = len(task.cost) + len(curves), len(task.right)
    lp.col_cost_ = np.concatenate((task.cost, curves + 1))
    lp.col_lower_ = np.concatenate((task.lower, curves))
    lp.col_upper_ = np.concatenate((task.upper, curves + np.inf))
    lp.row_lower_ = lp.row_upper_ = task.right
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.concatenate(([0], np.cumsum(np.bincount(task.column, minlength=lp.num_col_))))
    lp.a_matrix_.index_, lp.a_matrix_.value_ = task.row[order], task.value[order]
    return lp


def _touch(highs: highspy.Highs, task: Program, column: Ints, at: Floats, beside: Ints) -> None:
    """Rows that hold the cost beside each column above its tangent at `at`: y >= curve x at x (2 x - at)."""
    curve, rows = task.curve[column], len(column)
    index = np.stack((column, beside), axis=1).ravel()
    value = np.stack((-2 * curve * at, np.ones(rows)), axis=1).ravel()
    right = -curve * at**2
    highs.addRows(rows, right, np.full(rows, np.inf), 2 * rows, 2 * np.arange(rows), index, value)
