"""hub_under_hub: orders per second through a hub under a hub, as a share of the lower hub alone.

Two hubs on SQLite, each a process; the lower one has a site whose engine ends every job at once, and is itself the site
`node` of the upper one. The same batch of orders is given to the lower hub and to the upper hub in turns, from an empty
network, and counted until the last one is settled, in the database. All five processes share this machine's cores, and
each order of the upper hub goes through both hubs and both agents: with two cores the share cannot come near 1.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import httpx
import psutil
import sqlalchemy as sa

from benchmarks import hubs
from benchmarks.figure import Extra, Figure
from benchmarks.hubs import HubProcess
from benchmarks.scene import Scene
from yunhe.apps.site import JoinRequest, join
from yunhe.site.settings import LowerHubSettings

ORDERS, QUICK_ORDERS = 400, 100
TURNS, QUICK_TURNS = 3, 1
ENDED_S, ACTIVE_S, STOP_S = 120.0, 30.0, 10.0


def share(scene: Scene) -> Figure:
    turns, count = (QUICK_TURNS, QUICK_ORDERS) if scene.quick else (TURNS, ORDERS)
    folder = scene.subfolder("hub-under-hub")
    with ExitStack() as stack:
        lower, upper = (stack.enter_context(_hub(folder / name)) for name in ("lower", "upper"))
        hall = stack.enter_context(_site(lower, folder / "hall", engine="fake"))
        key = lower.customer("node")
        path = folder / "lower.key"
        path.touch(mode=0o600)
        path.write_text(key)
        settings = LowerHubSettings(url=lower.url, key_file=path)
        node = stack.enter_context(_site(upper, folder / "node", engine="hub", engine_settings=settings))
        direct, through = _customer(lower), _customer(upper)
        alone, below, spent = [], [], 0.0
        for _ in range(turns):
            alone.append(count / _settled(lower, direct, count))
            before = _cpu_s(hall) + _cpu_s(node)
            below.append(count / _settled(upper, through, count))
            spent = _cpu_s(hall) + _cpu_s(node) - before
            scene.say(f"one hub {alone[-1]:.0f} orders/s, through two {below[-1]:.0f}")
    extra: dict[str, Extra] = {
        "through_per_s": round(median(below), 1),
        "one_hub_per_s": round(median(alone), 1),
        "agents_cpu_ms_per_order": round(1000 * spent / count, 2),
    }
    return Figure(median(below) / median(alone), extra=extra)


@contextmanager
def _hub(folder: Path) -> Iterator[HubProcess]:
    folder.mkdir()
    with hubs.hub(f"sqlite:///{folder}/hub.db", folder, certify_prove_ms=0) as running:
        yield running


@contextmanager
def _site(hub: HubProcess, home: Path, **engine: object) -> Iterator[psutil.Process]:
    """An agent of its own that is certified."""
    hub.organisation("centre")
    token = str(hub.call("POST", "/v1/enrolment-tokens", {"provider": "centre"})["token"])
    request = JoinRequest(hub.url, token, home.name, home, cluster="zhangjiakou", **engine)  # type: ignore[arg-type]
    site_id = join(request).site_id
    hub.call("POST", f"/v1/sites/{site_id}/approve", {})
    words = [sys.executable, "-m", "yunhe.apps.site", "--data-dir", str(home)]
    with (home / "agent.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        until = time.monotonic() + ACTIVE_S
        while hub.call("GET", f"/v1/sites/{site_id}")["state"] != "active":
            if time.monotonic() > until or process.poll() is not None:
                raise RuntimeError(f"{home.name} is not active: {(home / 'agent.log').read_text()[-1000:]}")
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _customer(hub: HubProcess) -> httpx.Client:
    key = hub.customer()
    return httpx.Client(base_url=hub.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def _settled(hub: HubProcess, customer: httpx.Client, count: int) -> float:
    """Seconds from the submit of `count` orders in one call until the last is settled."""
    spec = {
        "run": {"command": ["true"]},
        "requirement": {"cores": 1, "memory": "64MiB"},
        "duration": "1m",
    }
    engine = sa.create_engine(hub.database_url, poolclass=sa.pool.NullPool)

    def settled() -> int:
        with engine.connect() as conn:
            return int(conn.exec_driver_sql("SELECT count(*) FROM order_ WHERE settled").scalar_one())

    before, since = settled(), time.monotonic()
    customer.post("/v1/orders:batch", json={"orders": [spec] * count}).raise_for_status()
    while settled() - before < count:
        if time.monotonic() - since > ENDED_S:
            raise RuntimeError(f"only {settled() - before} of {count} orders are settled after {ENDED_S:.0f} s")
        time.sleep(0.02)
    return time.monotonic() - since
