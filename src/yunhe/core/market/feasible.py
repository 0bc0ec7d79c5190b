"""Is a clearing what it says? Checked from its figures alone, without the solver that found them."""

import numpy as np

from yunhe.core.market.network import Columns, Floats

RELATIVE = 1e-9  # of the largest quantity of the network
ABSOLUTE = 1e-5  # in units; HiGHS holds rows to 1e-7


def cost(columns: Columns, taken: Floats, flows: Floats) -> float:
    """What the offers that are taken and the use of the lines cost."""
    return float((columns.price + columns.rising * taken) @ taken + columns.line_price @ flows)


def violations(columns: Columns, taken: Floats, flows: Floats, angles: Floats) -> list[str]:
    """Every constraint that does not hold, in words with indices; empty when the clearing can be carried out."""
    far = tolerance(columns)
    law = flows - columns.susceptance * (angles[columns.tail] - angles[columns.head])
    held = np.isin(np.arange(len(flows)), columns.grid)
    checks = (
        ("balance of node", np.abs(balance(columns, taken, flows)) > far),
        ("limits of offer", (taken < columns.offer_least - far) | (taken > columns.offer_most + far)),
        ("limits of line", (flows < columns.line_least - far) | (flows > columns.line_most + far)),
        ("flow law of line", held & (np.abs(law) > far)),
    )
    return [f"{what} {place}" for what, broken in checks for place in np.flatnonzero(broken)]


def balance(columns: Columns, taken: Floats, flows: Floats) -> Floats:
    """Per node: what is fed in plus what arrives, less what leaves and what is demanded."""
    nodes = len(columns.demand)
    fed = np.bincount(columns.offer_at, taken, nodes)
    return fed + np.bincount(columns.head, flows, nodes) - np.bincount(columns.tail, flows, nodes) - columns.demand


def bound(columns: Columns, prices: Floats, loop_prices: Floats) -> float:
    """A cost that no clearing can go below, proved by prices alone (weak duality); minus infinity when they prove none.

    Whatever the prices: each offer and each line takes what it likes best at them, and their gains with the demand's
    payments are a lower bound. It equals the cost at the optimum's prices and only there.
    """
    law = columns.susceptance * loop_prices
    nodes = len(columns.demand)
    turned = np.bincount(columns.tail, law, nodes) - np.bincount(columns.head, law, nodes)
    if np.abs(turned).max(initial=0.0) > 1e-6 * max(1.0, float(np.abs(law).max(initial=0.0))):
        return -np.inf  # an angle, which has no limits, would gain without end
    offers = _least(columns.price - prices[columns.offer_at], columns.rising, columns.offer_least, columns.offer_most)
    earned = columns.line_price + prices[columns.tail] - prices[columns.head] - loop_prices
    lines = _least(earned, np.zeros_like(earned), columns.line_least, columns.line_most)
    return float(prices @ columns.demand + offers.sum() + lines.sum())


def tolerance(columns: Columns) -> float:
    """How far a sum of quantities may be off, in units."""
    parts = (columns.demand, columns.offer_least, columns.offer_most, columns.line_least, columns.line_most)
    return ABSOLUTE + RELATIVE * max(float(np.abs(part).max(initial=0.0)) for part in parts)


def _least(slope: Floats, rising: Floats, least: Floats, most: Floats) -> Floats:
    """Least of slope x q + rising x q^2 for q between `least` and `most`, elementwise."""
    bottom = np.divide(-slope, 2 * rising, out=np.where(slope > 0, least, most), where=rising > 0)
    q = np.clip(bottom, least, most)
    gained: Floats = (slope + rising * q) * q
    return gained
