"""Orders that wait for a better hour: rounds do not look at them until they are to be asked again.

It is a column of the order's row, so it holds whatever restarts; the first look after that time asks anew.  What else
changes meanwhile (a tariff, a site that joins) counts from then on.
"""

from collections.abc import Sequence

from yunhe.core.round import Delay
from yunhe.hub.orders import store
from yunhe.hub.platform import bulk
from yunhe.hub.platform.writer import Tx


def delay(tx: Tx, plans: Sequence[tuple[Delay, ...]]) -> list[int]:
    """Writer handler: how many orders of each plan wait; one that changed since the plan's snapshot does not."""
    done = []
    for delays in plans:
        rows = [{"id": d.order_id, "version": d.version, "not_before_ms": d.until_ms} for d in sorted(delays)]
        done.append(bulk.update(tx.conn, store.order, ("id", "version"), rows))
    return done
