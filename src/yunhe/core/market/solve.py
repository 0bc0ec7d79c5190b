"""The network's program in HiGHS: built, solved, read; and when nothing solves it, what stands in the way."""

from typing import NamedTuple

import highspy
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from yunhe.core import errors
from yunhe.core.market import feasible
from yunhe.core.market.network import Clearing, Columns, Floats, Network

SEED = 1
BARRIER_FROM = 10_000  # columns; from there on the barrier method (with crossover) is faster than the simplex method
ITERATIONS_PER_SIZE = 100  # of rows plus columns; a limit that is the same on every machine
FIRST_TANGENTS = 9
MAX_STEPS = 100
STEP_GAP = 1e-7  # of the cost, between the curves and their tangents
GAP = 1e-6  # between cost and bound, relative
NAMED = 5  # how many limits an error lists
LAW_BREAK = 1_000.0  # a grid line over its limit counts this much more than demand that is not served


Ints = NDArray[np.intp]


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


def cleared(network: Network, columns: Columns) -> Clearing:
    """See `yunhe.core.market.network.clear`."""
    answer = _solved(_program(columns))
    if answer is None:
        raise _infeasible(network, columns)
    offers, lines, nodes = len(columns.price), len(columns.tail), len(columns.demand)
    taken, flows, angles = np.split(answer.x, [offers, offers + lines])
    angles = angles / _unit(columns)
    prices, laws = np.split(answer.row_duals, [nodes])
    loop_prices = np.zeros(lines)
    loop_prices[columns.grid] = laws
    wrong = feasible.violations(columns, taken, flows, angles)
    cost, bound = feasible.cost(columns, taken, flows), feasible.bound(columns, prices, loop_prices)
    if wrong or cost - bound > GAP * max(1.0, abs(cost)):
        what = wrong[0] if wrong else f"cost {cost:.9g} is above the bound {bound:.9g} that its prices prove"
        raise errors.Unavailable(f"the solver's answer does not hold: {what}")
    at_ends = prices[columns.head] - prices[columns.tail]
    return Clearing(
        cost=cost,
        bound=bound,
        taken=taken,
        flows=flows,
        prices=prices,
        rents=(at_ends - columns.line_price) * flows,
        limit_worth=np.abs(answer.column_duals[offers : offers + lines]),
        angles=angles,
        loop_prices=loop_prices,
    )


def _program(columns: Columns) -> Program:
    """Columns: what is taken of offers, flows, angles. Rows: a balance per node, a flow law per grid line."""
    offers, lines, nodes = len(columns.price), len(columns.tail), len(columns.demand)
    grid, laws = columns.grid, nodes + np.arange(len(columns.grid))
    flow, angle = offers + np.arange(lines), offers + lines
    law = columns.susceptance[grid] / _unit(columns)
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


def _unit(columns: Columns) -> float:
    """What an angle is multiplied by in the program: the middle susceptance, so that its entries lie around 1."""
    return float(np.median(np.abs(columns.susceptance[columns.grid]))) if len(columns.grid) else 1.0


def _solved(program: Program) -> Answer | None:
    """The optimum, or None where there is no feasible point. Raises Unavailable when HiGHS gives up.

    A cost that curves is followed from below by tangents, one more wherever the last answer lay above them (Kelley's
    cutting planes): each step is a linear program.
    """
    highs = highspy.Highs()  # type: ignore[no-untyped-call]
    size = len(program.cost) + len(program.right)
    options = {
        "output_flag": False,
        "threads": 1,
        "random_seed": SEED,
        "simplex_iteration_limit": ITERATIONS_PER_SIZE * size,
        "solver": "ipm" if len(program.cost) >= BARRIER_FROM else "simplex",
    }
    for name, value in options.items():
        highs.setOptionValue(name, value)
    highs.passModel(_model(program))
    curved = np.flatnonzero(program.curve)
    beside = len(program.cost) + np.arange(len(curved))
    least, most = program.lower[curved], program.upper[curved]
    for share in np.linspace(0.0, 1.0, FIRST_TANGENTS) if len(curved) else ():
        _touch(highs, program, curved, least + share * (most - least), beside)
    for _ in range(MAX_STEPS):
        highs.run()
        status = highs.getModelStatus()
        if status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
            return None  # never unbounded: whatever has a cost has limits
        if status != highspy.HighsModelStatus.kOptimal:
            raise errors.Unavailable(f"the solver gave up: {highs.modelStatusToString(status)}")
        found = highs.getSolution()
        x, columns = np.array(found.col_value), len(program.cost)
        above = program.curve[curved] * x[curved] ** 2 - x[columns:]
        if above.sum() <= STEP_GAP * max(1.0, abs(highs.getObjectiveValue())):
            rows = np.array(found.row_dual)[: len(program.right)]
            return Answer(x[:columns], rows, np.array(found.col_dual)[:columns])
        here = above > 0
        _touch(highs, program, curved[here], x[curved[here]], beside[here])
    raise errors.Unavailable(f"the solver gave up: costs that curve were not met in {MAX_STEPS} steps")


def _model(program: Program) -> highspy.HighsLp:
    """The linear program; each column with a curve has one more beside it, for what the curve costs."""
    lp = highspy.HighsLp()
    order = np.lexsort((program.row, program.column))
    curves = np.zeros(np.count_nonzero(program.curve))
    lp.num_col_, lp.num_row_ = len(program.cost) + len(curves), len(program.right)
    lp.col_cost_ = np.concatenate((program.cost, curves + 1))
    lp.col_lower_ = np.concatenate((program.lower, curves))
    lp.col_upper_ = np.concatenate((program.upper, curves + np.inf))
    lp.row_lower_ = lp.row_upper_ = program.right
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.concatenate(([0], np.cumsum(np.bincount(program.column, minlength=lp.num_col_))))
    lp.a_matrix_.index_, lp.a_matrix_.value_ = program.row[order], program.value[order]
    return lp


def _touch(highs: highspy.Highs, program: Program, column: Ints, at: Floats, beside: Ints) -> None:
    """Rows that hold the cost beside each column above its tangent at `at`: y >= curve x at x (2 x - at)."""
    curve, rows = program.curve[column], len(column)
    index = np.stack((column, beside), axis=1).ravel()
    value = np.stack((-2 * curve * at, np.ones(rows)), axis=1).ravel()
    right = -curve * at**2
    highs.addRows(rows, right, np.full(rows, np.inf), 2 * rows, 2 * np.arange(rows), index, value)


def _infeasible(network: Network, columns: Columns) -> errors.Infeasible:
    """What is short or too much when as little as possible is, and the limits that a unit more of would help.

    The program with every balance made elastic (a feed and a drain at each node, at one per unit) and nothing else to
    pay; its duals are a certificate of infeasibility (Farkas), so the limits that they price are those in the way.
    """
    program, offers, lines = _program(columns), len(columns.price), len(columns.tail)
    nodes = len(columns.demand)
    # Flow laws with limits that exclude 0 may contradict each other: those lines are elastic too.
    stiff = columns.grid[(columns.line_least[columns.grid] > 0) | (columns.line_most[columns.grid] < 0)]
    size = len(program.cost)
    extra = 2 * nodes + 2 * len(stiff)
    at = np.arange(nodes)
    entries = [(program.row, program.column, program.value), (at, size + at, np.ones(nodes))]
    entries.append((at, size + nodes + at, -np.ones(nodes)))
    for place, line in enumerate(stiff):
        of_line = program.column == offers + line
        for sign, twin in ((1.0, 2 * place), (-1.0, 2 * place + 1)):
            column = np.full(of_line.sum(), size + 2 * nodes + twin)
            entries.append((program.row[of_line], column, sign * program.value[of_line]))
    weight = np.concatenate((np.ones(2 * nodes), np.full(2 * len(stiff), LAW_BREAK)))
    elastic = program._replace(
        cost=np.concatenate((np.zeros(size), weight)),
        curve=np.zeros(size + extra),
        lower=np.concatenate((program.lower, np.zeros(extra))),
        upper=np.concatenate((program.upper, np.full(extra, np.inf))),
        row=np.concatenate([entry[0] for entry in entries]),
        column=np.concatenate([entry[1] for entry in entries]),
        value=np.concatenate([entry[2] for entry in entries]),
    )
    answer = _solved(elastic)
    if answer is None:
        raise errors.Unavailable("the solver calls the network infeasible and finds nothing in its way")
    far = feasible.tolerance(columns)
    slack = answer.x[size:]
    off = slack[:nodes] - slack[nodes : 2 * nodes]
    priced = np.abs(answer.column_duals[: offers + lines]) > feasible.ABSOLUTE
    in_the_way = [f"offer {network.offers[place].id}" for place in np.flatnonzero(priced[:offers]).tolist()]
    in_the_way += [f"line {network.lines[place].id}" for place in np.flatnonzero(priced[offers:]).tolist()]
    limits = _listed(in_the_way) or "nothing feeds it"
    short = np.flatnonzero(np.abs(off) > far)
    if len(short):
        worst = short[np.abs(off[short]).argmax()]
        node = network.nodes[worst]
        what = "cannot be served" if off[worst] > 0 else "too much must be taken there"
        more = f" (and {len(short) - 1} more nodes)" if len(short) > 1 else ""
        message = f"node {node.id}, demand {node.demand:.6g}: {abs(off[worst]):.6g} {what}{more}"
        return errors.Infeasible(message, field=f"nodes.{node.id}.demand", hint=f"limits in the way: {limits}")
    over = slack[2 * nodes :]
    line = network.lines[stiff[int(over.argmax()) // 2]]
    message = f"line {line.id} cannot keep its limits {line.least:.6g} to {line.most:.6g} together with the flow laws"
    return errors.Infeasible(message, field=f"lines.{line.id}", hint=f"limits in the way: {limits}")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
