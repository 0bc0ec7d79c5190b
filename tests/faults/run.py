"""One fault run from start to verdict.

1. a network, healthy: certified sites, a customer with money
2. customers order while chaos does its worst
3. calm: everything runs again, every order has to end and be settled, every site has to have told all it knows
4. stop, and judge what is left: rows, witnessed runs, logs, processes, control groups
"""

import asyncio
import random
import signal
import sqlite3
import time
from pathlib import Path

from tests.faults import check
from tests.faults.chaos import Chaos
from tests.faults.customers import Customers
from tests.faults.network import FaultNetwork
from tests.faults.plan import FaultPlan, Summary
from tests.faults.witness import Witness

QUIET_S = 20.0  # after the last order is settled: for the sites to have told everything
EXPECTED_EXITS = {-signal.SIGKILL}


def fault_run(plan: FaultPlan) -> Summary:
    """Blocking. The summary says what went wrong; raises only when the network itself cannot be started."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    plan.folder.chmod(0o755)  # jobs and PostgreSQL run as other users
    return asyncio.run(_fault_run(plan))


async def _fault_run(plan: FaultPlan) -> Summary:
    began = time.monotonic()
    summary = Summary(plan.seed, "PostgreSQL, two replicas" if plan.postgresql else "SQLite")
    witness = Witness(plan.folder / "witness")
    witness.open()
    network = FaultNetwork(plan, witness, random.Random(plan.seed))
    try:
        await network.start()
        await _live(network, witness, summary)
    finally:
        await network.stop()
        await network.stop_database()
        witness.close()
    await asyncio.sleep(0.5)  # supervisors remove their groups after their last word
    summary.violations += check.leftovers(plan.folder, network)
    summary.seconds = time.monotonic() - began
    return summary


async def _live(network: FaultNetwork, witness: Witness, summary: Summary) -> None:
    plan = network.plan
    assert network.customers is not None
    dice = random.Random(f"{plan.seed}/customers")
    customers = Customers(network.customers.url, network.customer_key, str(witness.pipe), dice)
    chaos = Chaos(network, plan.seed)
    try:
        network.arm()
        for part in network.parts:
            part.kill()  # they come back with crash points
        chaos.start()
        await customers.order_all(plan.orders, plan.orders_per_s)
        await chaos.end()
        network.disarm()
        for part in network.parts:
            part.kill()  # and now without
        left = await customers.wait_all(plan.calm_s)
        summary.violations += [f"order {order_id} did not end and settle in time" for order_id in left]
        await _quiet(network)
        delivered = await customers.delivered()
        await network.stop()  # the database stays, for the check
        check.judge(network, customers, delivered, witness, summary)
        summary.violations += check.logs(network)
        _count(network, chaos, summary)
    finally:
        await customers.close()


async def _quiet(network: FaultNetwork) -> None:
    """Until no site has anything left to tell, or time is up (then the check tells what is left)."""
    until = time.monotonic() + QUIET_S
    while time.monotonic() < until and not all(_nothing_left(site.home) for site in network.sites):
        await asyncio.sleep(0.2)


def _nothing_left(home: Path) -> bool:
    spool = sqlite3.connect(f"file:{home}/spool.sqlite?mode=ro", uri=True)
    try:
        (left,) = spool.execute("SELECT (SELECT count(*) FROM report) + (SELECT count(*) FROM lease)").fetchone()
    finally:
        spool.close()
    return not left and not any((home / "leases").iterdir())


def _count(network: FaultNetwork, chaos: Chaos, summary: Summary) -> None:
    summary.kills.update(chaos.did)
    for part in network.parts:
        kind = part.name.partition(" ")[0]
        for status, times in part.exits.items():
            if status in EXPECTED_EXITS:
                summary.kills[f"{kind} in all"] += times
            else:
                summary.violations.append(f"{part.name} ended {times} times with status {status}; see {part.log}")
    for proxy in network.proxies:
        summary.mishaps.update(proxy.did)
