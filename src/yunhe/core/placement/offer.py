"""Offers: what it takes, costs and emits to run a whole order at one pool, in exact integers."""

from yunhe.core.demand import Preference
from yunhe.core.placement.cost import carbon_of, hold_of, run_price_of, times
from yunhe.core.placement.feasible import Fit
from yunhe.core.placement.values import Offer
from yunhe.core.rounding import ceil_div


def offer_of(fit: Fit, pool: int, queue_ahead_ms: int) -> Offer:
    """The offer of a pool that passes every constraint, whether it is free now or not.

    It starts now where enough is free, and after `queue_ahead_ms` where it is not.  Tasks of an array that the pool
    cannot hold side by side follow each other; a round may also spread them over pools and end sooner.
    """
    look, board = fit.look, fit.look.board
    asked, at, site = look.shape, board.supply.pools[pool], board.columns.sites[pool]
    milli, memory = int(look.sizes.milli[pool]), int(look.sizes.memory[pool])
    run_ms = int(look.sizes.run_ms[pool])
    tasks = asked.terms.array
    start_ms = look.now_ms + (0 if fit.now[pool] else queue_ahead_ms)
    side_by_side = at.capacity_milli // max(milli, 1)
    if memory:
        side_by_side = min(side_by_side, at.memory_bytes // memory)
    bounds = [look.latency_us(bound, pool) for bound in asked.requirement.latency]
    return Offer(
        site_id=site.id,
        pool_id=at.id,
        units_milli=milli,
        memory_bytes=memory,
        run_ms=run_ms,
        start_ms=start_ms,
        finish_ms=start_ms + run_ms * ceil_div(tasks, max(side_by_side, 1)),
        price=times(run_price_of(asked, at, site, milli, run_ms, board.policy, start_ms), tasks),
        hold=hold_of(asked, at, site, milli, board.policy),
        carbon_mg=carbon_of(at, site, milli, run_ms, start_ms) * tasks,
        latency_us=tuple(us for us in bounds if us is not None),
    )


def best_first(offers: list[Offer], preference: Preference) -> tuple[Offer, ...]:
    """Offers ranked by a preference: cost = price, then finish; speed = finish, then price; carbon = carbon, then
    price.  Equal ones follow the order of their pool ids."""

    def key(offer: Offer) -> tuple[int, int, str]:
        match preference:
            case Preference.COST:
                return offer.price.total, offer.finish_ms, offer.pool_id
            case Preference.SPEED:
                return offer.finish_ms, offer.price.total, offer.pool_id
            case Preference.CARBON:
                return offer.carbon_mg, offer.price.total, offer.pool_id

    return tuple(sorted(offers, key=key))
