"""The round: one pure decision over a snapshot of the whole network.

`plan_round(snapshot, policy, now_ms, seed) -> Plan` and `quote(...)`, `explain(...)` beside it.
"""

from yunhe.core.placement.values import (
    AccountShare,
    Assignment,
    Offer,
    Plan,
    Queue,
    Quote,
    Reason,
    SiteReasons,
    Snapshot,
)
from yunhe.core.tariff import Price

__all__ = [
    "AccountShare",
    "Assignment",
    "Offer",
    "Plan",
    "Price",
    "Queue",
    "Quote",
    "Reason",
    "SiteReasons",
    "Snapshot",
]
