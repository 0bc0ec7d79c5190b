"""Cards of several kinds, shared by time slices: which job runs on which kind next, so that jobs end early on average.

Prices: the work that arrives is served by a linear program with the fewest jobs in service at a time; by Little's law
that is the least mean time in service.  Its dual is what an hour of a card of each kind is worth, in hours of waiting
of others: nothing while there are cards enough, more and more as work nears what the cards can do.  So a job's hour
costs one hour of its own and the price of its card.  Order: jobs go by what their remaining work costs on the kind
where it is cheapest, least first, each to the cheapest kind that is free.  With one kind of card this is shortest
remaining time first, which is optimal there (Schrage 1968); the prices keep a card from work that hardly gains by it.
"""

from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog  # type: ignore[import-untyped]

from yunhe.core.errors import InvalidInput

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NOWHERE = -1  # a job that waits


MAX_RATE = 1e12  # of an entry: HiGHS takes 1e20 for infinite
UNSERVED_HOURS = 100.0  # what an hour of work costs that cannot be served at all: long against a queue, and finite


def kind_prices(arriving: Floats, speed: Floats, cards: Ints) -> Floats:
    """What an hour of each kind of card is worth, in hours of waiting.

    `arriving[c]`: work of class c that comes in an hour, in hours on one card of the first kind.  `speed[c, k]`: of
    class c on kind k, in such hours of work per hour (0: it does not run there).  `cards[k]`: cards of each kind.
    Raises InvalidInput for a class that runs nowhere, for what is negative, not finite or more than MAX_RATE, and for
    sizes that do not agree.
    """
    _agree("speed", speed, len(cards))
    classes, kinds = speed.shape
    if len(arriving) != classes:
        raise InvalidInput(f"{len(arriving)} figures for {classes} classes", field="arriving")
    for field, values in (("arriving", arriving), ("speed", speed), ("cards", cards)):
        if not ((values >= 0) & (values <= MAX_RATE)).all():
            raise InvalidInput(f"must be 0 to {MAX_RATE:g}", field=field)
    if not classes:
        return np.zeros(kinds)
    if not (speed > 0).any(axis=1).all():
        raise InvalidInput("a class of work runs on no kind of card", field="speed")
    hours = classes * kinds
    # Variables: hours of class c on kind k, then what is left unserved of class c; both per hour.
    bounds = np.zeros((classes + kinds, hours + classes))
    for c in range(classes):
        bounds[c, c * kinds : (c + 1) * kinds] = -speed[c]
        bounds[c, hours + c] = -1
    for k in range(kinds):
        bounds[classes + k, k:hours:kinds] = 1
    limits = np.concatenate([-arriving, cards.astype(float)])
    cost = np.concatenate([np.ones(hours), np.full(classes, UNSERVED_HOURS)])
    duals = cast(Floats, linprog(cost, bounds, limits, method="highs-ds").ineqlin.marginals)
    return cast(Floats, np.maximum(-duals[classes:], 0))


def next_slice(hours_left: Floats, prices: Floats, cards: Ints) -> Ints:
    """The kind that each job gets for the next slice, or NOWHERE.

    `hours_left[j, k]`: hours that job j still takes on one card of kind k (inf: it does not run there).  `prices` are
    those of `kind_prices`.  No card stays free while a job could run on it.  Ties go to the job that comes first.
    Raises InvalidInput for no kinds, for what is negative or not a number, and for sizes that do not agree.
    """
    _agree("hours_left", hours_left, len(cards))
    if len(prices) != len(cards):
        raise InvalidInput(f"{len(prices)} prices for {len(cards)} kinds of cards", field="prices")
    bounds = (("hours_left", hours_left, np.inf), ("prices", prices, MAX_RATE), ("cards", cards, MAX_RATE))
    for field, values, most in bounds:
        if not ((values >= 0) & (values <= most)).all():
            raise InvalidInput("must be a number and not negative", field=field)
    cost = hours_left * (1 + prices)
    order = np.argsort(cost.min(axis=1), kind="stable")
    kinds = np.argsort(cost, axis=1, kind="stable")
    found = np.full(len(cost), NOWHERE)
    free = cards.tolist()
    for job in order.tolist():
        for kind in kinds[job].tolist():
            if free[kind] and np.isfinite(hours_left[job, kind]):
                found[job] = kind
                free[kind] -= 1
                break
        if not any(free):
            break
    return found


def _agree(field: str, values: Floats, kinds: int) -> None:
    if not kinds:
        raise InvalidInput("there is no kind of card", field="cards")
    if values.ndim != 2 or values.shape[1] != kinds:
        raise InvalidInput(f"{values.shape} figures, not a row of {kinds} kinds for each", field=field)
