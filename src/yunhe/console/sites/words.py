"""What sites are made of, in the viewer's language. A newer hub may say what this console has no word for."""

from yunhe.console import wording
from yunhe.console.view import View
from yunhe.core.supply import SiteState
from yunhe.core.units import format_milli
from yunhe.wire.api import PoolView, SiteView

COLOURS = {"pending": "orange-9", "approved": "blue-8", "active": "green-8", "paused": "orange-9"}
OTHER_COLOUR = "grey-7"


def state(view: View, site: SiteView) -> str:
    """As the operator and the provider set it; a site's own pause is told as one."""
    name = site.state
    if name == SiteState.ACTIVE and not site.accepting:
        name = "own_pause"
    return wording.texts(view.session.language).get(f"site.{name}", name)


def colour(site: SiteView) -> str:
    if site.state == SiteState.ACTIVE and not site.accepting:
        return COLOURS["paused"]
    return COLOURS.get(site.state, OTHER_COLOUR)


def figure(view: View, name: str) -> str:
    """What a field of a site is called."""
    return wording.texts(view.session.language).get(f"figure.{name}", name)


def heard(view: View, site: SiteView) -> str:
    return view.say("site.connected" if site.connected else "site.silent")


def units(view: View, milli: int, unit: str) -> str:
    """`1.5 cores`."""
    return view.say("site.cores" if unit == "core" else "site.cards", count=format_milli(milli))


def capacity(view: View, pools: tuple[PoolView, ...]) -> str:
    """Cores and cards together, each by itself: they are never added."""
    sums = {unit: sum(pool.capacity_milli for pool in pools if pool.unit == unit) for unit in ("core", "card")}
    return ", ".join(units(view, milli, unit) for unit, milli in sums.items() if milli)
