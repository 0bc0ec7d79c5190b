"""Whether a new order may be decided at once while others wait."""

from yunhe.core.policy import Policy


def passes(policy: Policy, oldest_waiting_ms: int | None, now_ms: int) -> bool:
    """As a round has it: with backfill an order that waits holds up nobody until it is so old that what is free is
    kept for it; then, and without backfill, everybody takes turns in rounds.

    `oldest_waiting_ms`: when the oldest order that waits was submitted, None where none does.
    """
    if oldest_waiting_ms is None:
        return True
    return policy.backfill and oldest_waiting_ms > now_ms - policy.reserve_after_ms
