"""submit_batch: one batch call of 10,000 orders of 20 shapes, PostgreSQL.

The best of three calls is not taken but their median; the first call of all warms the hub up and is not counted.
"""

import statistics
import time

from benchmarks import hubs, orders
from benchmarks.figure import Figure
from benchmarks.scene import Scene

ORDERS = 10_000
CALLS, QUICK_CALLS = 3, 1
TIMEOUT_S = 120.0


def measure(scene: Scene) -> Figure:
    folder = scene.subfolder("submit-batch")
    with hubs.postgresql(scene.postgresql()) as url, hubs.hub(url, folder) as running:
        key = running.customer(deposit="10000000CNY")
        running.active_sites(3, 64)
        headers = {"Authorization": f"Bearer {key}", **hubs.JSON}
        body = orders.batch(ORDERS)
        rates = []
        calls = QUICK_CALLS if scene.quick else CALLS
        for call in range(calls + 1):
            before = time.perf_counter()
            answer = running.operator.post(
                "/v1/orders:batch",
                content=orders.batch(100) if call == 0 else body,
                headers={**headers, "Idempotency-Key": f"batch-{call}"},
                timeout=TIMEOUT_S,
            )
            spent = time.perf_counter() - before
            if answer.status_code != 201:
                raise RuntimeError(f"the batch was refused: {answer.text[:500]}")
            if call:
                assert len(answer.json()["ids"]) == ORDERS
                rates.append(ORDERS / spent)
                scene.say(f"call {call} of {calls}: {spent:.2f} s, {rates[-1]:.0f} orders/s")
        return Figure(
            statistics.median(rates), extra={"orders": ORDERS, "calls": calls, "body_mib": round(len(body) / 2**20, 2)}
        )
