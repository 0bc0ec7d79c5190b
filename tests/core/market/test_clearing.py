"""The market on a network: no feasible dispatch is cheaper, prices prove the optimum, what cannot be is named."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from yunhe.core import errors
from yunhe.core.market import feasible
from yunhe.core.market.clearing import clear
from yunhe.core.market.network import Line, Network, Node, Offer, columns

NODES = ("a", "b", "c", "d")
quantities = st.integers(-50, 50).map(float)
room = st.integers(0, 40).map(float)


@st.composite
def feasible_networks(draw: st.DrawFn) -> tuple[Network, float]:
    """A network, and what some dispatch of it costs: flows and quantities are drawn first, limits and demand around."""
    angles = {node: draw(st.integers(-3, 3)) / 10 for node in NODES}
    balance = dict.fromkeys(NODES, 0.0)
    offers, lines, cost = [], [], 0.0
    for number in range(draw(st.integers(1, 6))):
        node, taken, price = draw(st.sampled_from(NODES)), draw(quantities), draw(quantities)
        rising = draw(st.sampled_from([0.0, 0.0, 0.5, 2.0]))
        offers.append(Offer(f"o{number}", node, price, taken + draw(room), taken - draw(room), rising))
        balance[node] += taken
        cost += price * taken + rising * taken**2
    for number in range(draw(st.integers(0, 6))):
        tail, head = draw(st.permutations(NODES))[:2]
        susceptance = draw(st.sampled_from([None, 100.0, 30.0, -80.0]))
        flow = draw(quantities) if susceptance is None else susceptance * (angles[tail] - angles[head])
        price = draw(st.integers(0, 5)) if susceptance is None else 0
        lines.append(Line(f"l{number}", tail, head, flow + draw(room), flow - draw(room), price, susceptance))
        balance[tail] -= flow
        balance[head] += flow
        cost += price * flow
    return Network([Node(node, balance[node]) for node in NODES], offers, lines), cost


@settings(deadline=None)
@given(feasible_networks())
def test_nothing_feasible_is_cheaper_and_the_prices_prove_it(drawn: tuple[Network, float]) -> None:
    network, cost = drawn
    found, made = clear(network), columns(network)
    scale = 1 + abs(cost) + abs(found.cost)
    assert found.cost <= cost + 1e-6 * scale
    assert found.bound == pytest.approx(found.cost, abs=1e-6 * scale)
    assert feasible.violations(made, found.taken, found.flows, found.angles) == []
    assert found.cost == pytest.approx(feasible.cost(made, found.taken, found.flows), abs=1e-9 * scale)
    # What demand pays is what offers earn, what the lines cost, and the lines' rents.
    paid = found.prices @ made.demand
    earned = found.prices[made.offer_at] @ found.taken + made.line_price @ found.flows + found.rents.sum()
    assert paid == pytest.approx(earned, abs=1e-5 * scale)


@settings(deadline=None)
@given(feasible_networks(), st.sampled_from(range(len(NODES))), st.sampled_from([-5.0, -1.0, 1.0, 5.0]))
def test_a_price_is_what_more_demand_costs_at_least(drawn: tuple[Network, float], at: int, more: float) -> None:
    network, _ = drawn
    before = clear(network)
    nodes = list(network.nodes)
    nodes[at] = nodes[at]._replace(demand=nodes[at].demand + more)
    try:
        after = clear(network._replace(nodes=nodes))
    except errors.Infeasible:
        assume(False)
    assert after.cost >= before.cost + before.prices[at] * more - 1e-5 * (1 + abs(before.cost) + abs(after.cost))


def test_the_same_network_clears_the_same_to_the_last_bit() -> None:
    one, two = clear(pjm()), clear(pjm())
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def pjm(limit: float = 240.0) -> Network:
    """The five buses of Li and Bo (2010): quantities in MW, prices in USD/MWh, branches by their x (r is x / 10)."""
    ends = (("1", "2", 0.0281, 400.0), ("1", "4", 0.0304, 426.0), ("1", "5", 0.0064, 426.0))
    ends += (("2", "3", 0.0108, 426.0), ("3", "4", 0.0297, 426.0), ("4", "5", 0.0297, limit))
    return Network(
        nodes=[Node("1"), Node("2", 300.0), Node("3", 300.0), Node("4", 400.0), Node("5")],
        offers=[
            Offer("alta", "1", 14, 40),
            Offer("park city", "1", 15, 170),
            Offer("solitude", "3", 30, 520),
            Offer("sundance", "4", 40, 200),
            Offer("brighton", "5", 10, 600),
        ],
        lines=[Line(f"{a}-{b}", a, b, most, -most, susceptance=100 / (1.01 * x)) for a, b, x, most in ends],
    )


def test_nodal_prices_of_five_buses() -> None:
    found = clear(pjm())
    assert found.cost == pytest.approx(17479.9, abs=0.05)
    assert np.round(found.prices, 2) == pytest.approx([16.98, 26.38, 30.00, 39.94, 10.00])
    assert found.flows[5] == pytest.approx(-240)
    # One MW more on the line that is full saves what it is said to be worth.
    assert found.cost - clear(pjm(241.0)).cost == pytest.approx(found.limit_worth[5], rel=1e-6)
    assert np.flatnonzero(found.limit_worth).tolist() == [5]


def test_transport_fills_the_cheap_way_first_and_the_line_earns_the_difference() -> None:
    nodes, offers = [Node("a"), Node("b", 100)], [Offer("near", "b", 20, 200), Offer("far", "a", 5, 200)]
    found = clear(Network(nodes, offers, [Line("way", "a", "b", 70, price=1)]))
    assert found.taken.tolist() == [30, 70]
    assert found.prices.tolist() == [5, 20]
    assert (found.rents.tolist(), found.limit_worth.tolist()) == ([70 * 14], [14])


def test_a_price_that_rises_with_the_quantity_is_met_where_both_cost_the_same() -> None:
    offers = [Offer("steep", "a", 0, 100, rising=1.0), Offer("flat", "a", 10, 100, rising=0.25)]
    found = clear(Network([Node("a", 45)], offers, []))
    assert found.taken == pytest.approx([13, 32], abs=1e-2)  # 2 q = 10 + q'/2, q + q' = 45
    assert found.prices == pytest.approx([26], abs=1e-2)
    assert found.cost == pytest.approx(13**2 + 320 + 32**2 / 4, rel=1e-6)


def test_flexible_demand_is_an_offer_that_takes() -> None:
    found = clear(Network([Node("a")], [Offer("sells", "a", 3, 10), Offer("buys", "a", 8, 0, least=-6)], []))
    assert found.taken.tolist() == [6, -6]
    assert found.cost == 6 * 3 - 6 * 8


@settings(deadline=None, max_examples=30)
@given(st.integers(10, 90), st.integers(0, 9), st.integers(100, 200))
def test_what_cannot_be_served_is_named_with_what_stands_in_the_way(line: int, near: int, demand: int) -> None:
    nodes, offers = [Node("a"), Node("b", demand)], [Offer("far", "a", 5, 500), Offer("near", "b", 20, near)]
    network = Network(nodes, offers, [Line("way", "a", "b", line)])
    with pytest.raises(errors.Infeasible) as caught:
        clear(network)
    missing = demand - near - line
    assert caught.value.field == "nodes.b.demand"
    assert f"{missing} cannot be served" in caught.value.message
    assert "line way" in caught.value.hint and "offer near" in caught.value.hint and "far" not in caught.value.hint
    # Exactly that much more of what is named serves it.
    assert clear(network._replace(lines=[Line("way", "a", "b", line + missing)])).flows.tolist() == [line + missing]


def test_too_much_that_must_be_taken_is_named() -> None:
    with pytest.raises(errors.Infeasible, match="30 too much must be taken there") as caught:
        clear(Network([Node("a", 20)], [Offer("must run", "a", 1, 80, least=50)], []))
    assert caught.value.hint == "limits in the way: offer must run"


def test_a_node_that_nothing_feeds_is_named() -> None:
    with pytest.raises(errors.Infeasible, match="node a, demand 1: 1 cannot be served") as caught:
        clear(Network([Node("a", 1)], [], []))
    assert "nothing feeds it" in caught.value.hint


def test_limits_that_contradict_the_flow_laws_are_named() -> None:
    """Around a loop the angles come back to where they were, so the flows cannot all go round."""
    sides = (("a", "b"), ("b", "c"), ("c", "a"))
    round_trip = [Line(tail + head, tail, head, 20, 10, susceptance=1.0) for tail, head in sides]
    with pytest.raises(errors.Infeasible, match=r"line \w\w cannot keep its limits 10 to 20") as caught:
        clear(Network([Node("a"), Node("b"), Node("c")], [], round_trip))
    assert caught.value.field.startswith("lines.")


@pytest.mark.parametrize(
    ("network", "field"),
    [
        (Network([], [], []), "nodes"),
        (Network([Node("a"), Node("a")], [], []), "nodes.a"),
        (Network([Node("a", float("nan"))], [], []), "nodes.a.demand"),
        (Network([Node("a", 1e13)], [], []), "nodes.a.demand"),
        (Network([Node("a")], [Offer("o", "b", 1, 1)], []), "offers.o.node"),
        (Network([Node("a")], [Offer("o", "a", 1, float("inf"))], []), "offers.o.most"),
        (Network([Node("a")], [Offer("o", "a", 1, 1, least=2)], []), "offers.o.least"),
        (Network([Node("a")], [Offer("o", "a", 1, 1, rising=-1)], []), "offers.o.rising"),
        (Network([Node("a")], [], [Line("l", "a", "x", 1)]), "lines.l.head"),
        (Network([Node("a")], [], [Line("l", "a", "a", 1)]), "lines.l.head"),
        (Network([Node("a"), Node("b")], [], [Line("l", "a", "b", 1, least=2)]), "lines.l.least"),
        (Network([Node("a"), Node("b")], [], [Line("l", "a", "b", 1, susceptance=0.0)]), "lines.l.susceptance"),
    ],
)
def test_bad_input_is_refused_naming_the_field(network: Network, field: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        clear(network)
    assert caught.value.field == field


def test_the_check_sees_what_does_not_hold() -> None:
    network = pjm()
    made, found = columns(network), clear(network)
    more = found.taken + np.array([0, 0, 1, 0, 0])
    assert feasible.violations(made, more, found.flows, found.angles) == ["balance of node 2"]
    turned = found.angles + np.array([0, 0, 0, 0, 0.01])
    assert "flow law of line 2" in feasible.violations(made, found.taken, found.flows, turned)
    assert "limits of line 5" in feasible.violations(made, found.taken, found.flows * 1.01, found.angles)
    assert "limits of offer 4" in feasible.violations(made, found.taken * 2, found.flows, found.angles)


def test_prices_that_no_optimum_has_prove_less() -> None:
    network = pjm()
    made, found = columns(network), clear(network)
    assert feasible.bound(made, found.prices, found.loop_prices) == pytest.approx(found.cost)
    assert feasible.bound(made, np.zeros(5), np.zeros(6)) < found.cost
    assert feasible.bound(made, found.prices, np.arange(6.0)) == -np.inf
