"""Answers of a hub, complete and small."""

from yunhe.core.lifecycle import OrderState
from yunhe.wire.api import OrderView


def order(state: OrderState = OrderState.OPEN, *, settled: bool = False, order_id: str = "o-1") -> OrderView:
    return OrderView(
        id=order_id,
        name="order",
        account="acme",
        state=state,
        submitted_utc_ms=1_790_000_000_000,
        ended_utc_ms=1_790_000_003_200 if settled else None,
        array=1,
        tasks={"pending": 1} if state is OrderState.OPEN else {state.value: 1},
        hold_microcny=50_000,
        charged_microcny=12_000 if settled else 0,
        settled=settled,
    )
