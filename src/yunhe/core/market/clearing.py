"""Clearing a market on a network: the cheapest way to serve it all; and when there is none, what stands in the way.

This module loads HiGHS: import it where a market is cleared.
"""

from typing import NamedTuple

import numpy as np

from yunhe.core import errors
from yunhe.core.market import feasible
from yunhe.core.market.network import Clearing, Columns, Floats, Ints, Network, columns
from yunhe.core.market.program import Program, angle_unit, program, solved

GAP = 1e-6  # between cost and bound, relative
NAMED = 5  # how many limits an error lists
LAW_BREAK = 1_000.0  # a grid line over its limit counts this much more than demand that is not served


def clear(network: Network) -> Clearing:
    """The cheapest way to serve every demand, with prices and rents.

    Raises InvalidInput as `network.columns` does, Infeasible naming what is short and the limits that make it so, and
    Unavailable when the solver gives up or its answer does not hold when it is checked again.
    """
    made = columns(network)
    answer = solved(program(made))
    if answer is None:
        raise _infeasible(network, made)
    offers, lines, nodes = len(made.price), len(made.tail), len(made.demand)
    taken, flows, angles = np.split(answer.x, [offers, offers + lines])
    angles = angles / angle_unit(made)
    prices, laws = np.split(answer.row_duals, [nodes])
    loop_prices = np.zeros(lines)
    loop_prices[made.grid] = laws
    cost, bound = feasible.cost(made, taken, flows), feasible.bound(made, prices, loop_prices)
    wrong = feasible.violations(made, taken, flows, angles)
    if cost - bound > GAP * max(1.0, abs(cost), float(np.abs(prices) @ np.abs(made.demand))):
        wrong.append(f"cost {cost:.9g} is above the bound {bound:.9g} that its prices prove")
    if wrong:
        raise errors.Unavailable(f"the solver's answer does not hold: {wrong[0]}")
    return Clearing(
        cost=cost,
        bound=bound,
        taken=taken,
        flows=flows,
        prices=prices,
        rents=(prices[made.head] - prices[made.tail] - made.line_price) * flows,
        limit_worth=np.abs(answer.column_duals[offers : offers + lines]),
        angles=angles,
        loop_prices=loop_prices,
    )


class _Elastic(NamedTuple):
    """A program whose balances give way, and the flow laws of `stiff` lines: it always has a feasible point.

    Behind the columns of the program: a feed and a drain per node, then more and less flow per stiff line.
    """

    program: Program
    stiff: Ints


def _infeasible(network: Network, made: Columns) -> errors.Infeasible:
    """What is short or too much when as little as possible is, and the limits that one unit more of would help.

    The duals of the elastic program are a certificate of infeasibility (Farkas): limits that they price are in the way.
    """
    elastic = _elastic(made)
    answer = solved(elastic.program)
    offers, lines, nodes = len(made.price), len(made.tail), len(made.demand)
    slack = np.zeros(0) if answer is None else answer.x[offers + lines + nodes :]
    if answer is None or not slack.max(initial=0.0) > 0:
        raise errors.Unavailable("the solver finds the network infeasible, and nothing in its way")
    weight = np.abs(answer.column_duals[: offers + lines])
    names = [f"offer {offer.id}" for offer in network.offers] + [f"line {line.id}" for line in network.lines]
    priced = np.flatnonzero(weight > feasible.ABSOLUTE)
    in_the_way = [names[place] for place in priced[np.argsort(-weight[priced].round(6), kind="stable")].tolist()]
    limits = ", ".join(in_the_way[:NAMED]) or "nothing feeds it"
    if len(in_the_way) > NAMED:
        limits += f" and {len(in_the_way) - NAMED} more"
    field, message = _what(network, elastic.stiff, slack, feasible.tolerance(made))
    return errors.Infeasible(message, field=field, hint=f"limits in the way: {limits}")


def _what(network: Network, stiff: Ints, slack: Floats, far: float) -> tuple[str, str]:
    """(field, message) of the constraint that gave way most."""
    nodes = len(network.nodes)
    over = slack[2 * nodes :].reshape(-1, 2).sum(axis=1)
    if over.max(initial=0.0) > far:
        line = network.lines[int(stiff[over.argmax()])]
        limits = f"{line.least:.6g} to {line.most:.6g}"
        return f"lines.{line.id}", f"line {line.id} cannot keep its limits {limits} together with the flow laws"
    off = slack[:nodes] - slack[nodes : 2 * nodes]
    at = int(np.abs(off).argmax())
    node, alike = network.nodes[at], np.abs(off[off * off[at] > far * abs(off[at])])
    what = "cannot be served" if off[at] > 0 else "too much must be taken there"
    others = f", and {alike.sum():.6g} in all at {len(alike)} nodes" if len(alike) > 1 else ""
    return f"nodes.{node.id}.demand", f"node {node.id}, demand {node.demand:.6g}: {abs(off[at]):.6g} {what}{others}"


def _elastic(made: Columns) -> _Elastic:
    rigid, offers, nodes = program(made), len(made.price), len(made.demand)
    # Flow laws contradict each other only where limits exclude 0.
    stiff = made.grid[(made.line_least[made.grid] > 0) | (made.line_most[made.grid] < 0)]
    size, extra, at = len(rigid.cost), 2 * nodes + 2 * len(stiff), np.arange(nodes)
    twin = np.full(size, -1)
    twin[offers + stiff] = size + 2 * nodes + 2 * np.arange(len(stiff))
    of_stiff = twin[rigid.column] >= 0
    # Demand gives way sooner than a node that only passes on, so that what is short is named where it is asked for.
    forced = made.demand < 0
    forced[made.offer_at[made.offer_least > 0]] = True
    gives_way = np.concatenate((np.where(made.demand > 0, 1.0, 2.0), np.where(forced, 1.0, 2.0)))
    row, column, value = rigid.row[of_stiff], twin[rigid.column[of_stiff]], rigid.value[of_stiff]
    return _Elastic(
        rigid._replace(
            cost=np.concatenate((np.zeros(size), gives_way, np.full(2 * len(stiff), LAW_BREAK))),
            curve=np.zeros(size + extra),
            lower=np.concatenate((rigid.lower, np.zeros(extra))),
            upper=np.concatenate((rigid.upper, np.full(extra, np.inf))),
            row=np.concatenate((rigid.row, at, at, row, row)),
            column=np.concatenate((rigid.column, size + at, size + nodes + at, column, column + 1)),
            value=np.concatenate((rigid.value, np.ones(nodes), -np.ones(nodes), value, -value)),
        ),
        stiff,
    )
