"""start_p50, start_p99: from submit to the first line of the job's code, on an idle network.

A hub on SQLite as it is embedded, one real site agent with the process driver and whatever sandbox this host allows,
one order after the other.  The clock starts before the order's POST is written to its socket; the job is
`python3 -I -S` and its first line prints the time, which is read from the order's log.  Both clocks are this host's.
Between two orders the network rests until the order is settled and for a drawn moment more.
"""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx

from benchmarks import hubs
from benchmarks.figure import Extra, Figure
from benchmarks.hubs import HubProcess
from benchmarks.scene import Scene
from yunhe.apps import site as site_app
from yunhe.apps.site import JoinRequest
from yunhe.site.settings import DriverSettings

ORDERS, QUICK_ORDERS, WARM = 100, 20, 3
CERTIFY_S, ENDED_S, STOP_S = 90.0, 30.0, 10.0
REST_S = (0.05, 0.25)
ORDER = {
    "name": "start",
    "run": {"command": ["python3", "-I", "-S", "-c", "import time;print(time.time_ns())"]},
    "requirement": {"cores": 0.1, "memory": "64MiB"},
    "duration": "1m",
    "budget": "1CNY",
}


def p50(scene: Scene) -> Figure:
    return _figure(scene, 50)


def p99(scene: Scene) -> Figure:
    return _figure(scene, 99)


def _figure(scene: Scene, percent: int) -> Figure:
    spent, isolation = _measured(scene)
    extra: dict[str, Extra] = {"orders": len(spent), "isolation": isolation, "slowest": round(spent[-1], 1)}
    return Figure(spent[min(len(spent) - 1, len(spent) * percent // 100)], extra=extra)


@lru_cache(maxsize=1)
def _measured(scene: Scene) -> tuple[tuple[float, ...], str]:
    """(milliseconds in ascending order, how the site holds its jobs), once per run."""
    folder = scene.subfolder("start")
    count = QUICK_ORDERS if scene.quick else ORDERS
    draw = random.Random(scene.seed)
    half = DriverSettings(cores_milli=500, memory_bytes=1 << 30)
    with hubs.hub(f"sqlite:///{folder}/hub.db", folder) as running, site(scene, running, folder / "site", driver=half):
        key = running.customer()
        isolation = str(running.call("GET", "/v1/sites/host")["isolation"])
        with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
            spent = []
            for number in range(WARM + count):
                spent.append(_one(client))
                if number % 25 == 24:
                    scene.say(f"{number + 1} of {WARM + count} orders, the last in {spent[-1]:.0f} ms")
                time.sleep(draw.uniform(*REST_S))
    return tuple(sorted(spent[WARM:])), isolation


def _one(client: httpx.Client) -> float:
    body = json.dumps(ORDER).encode()
    before = time.time_ns()
    answer = client.post("/v1/orders", content=body, headers=hubs.JSON)
    answer.raise_for_status()
    order = answer.json()["id"]
    until = time.monotonic() + ENDED_S
    while True:
        ended = client.get(f"/v1/orders/{order}/wait", params={"timeout_ms": 10_000}).json()
        if ended["settled"]:
            break
        if time.monotonic() > until:
            raise RuntimeError(f"an order did not end in {ENDED_S:.0f} s: {ended}")
    text = client.get(f"/v1/orders/{order}/logs").text
    if ended["state"] != "succeeded" or not text.strip().isdigit():
        raise RuntimeError(f"a job went wrong: {ended['state']}, it printed {text!r}")
    return (int(text) - before) / 1e6


@contextmanager
def site(scene: Scene, running: HubProcess, home: Path, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A site that has measured itself; `more` are further fields of JoinRequest."""
    running.organisation("centre")
    token = str(running.call("POST", "/v1/enrolment-tokens", {"provider": "centre"})["token"])
    enrolled = site_app.join(JoinRequest(running.url, token, "host", data_dir=home, cluster="zhangjiakou", **more))
    running.call("POST", f"/v1/sites/{enrolled.site_id}/approve", {})
    command = [str(Path(sys.executable).with_name("yunhe")), "site", "serve", "--data-dir", str(home)]
    log = home / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        until = time.monotonic() + CERTIFY_S
        scene.say("the site measures itself")
        while running.call("GET", f"/v1/sites/{enrolled.site_id}")["state"] != "active":
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the site did not become active: {log.read_text(errors='replace')[-1000:]}")
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
