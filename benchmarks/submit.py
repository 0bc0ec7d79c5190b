"""submit_sqlite, submit_postgresql: orders accepted per second, one POST each.

32 kept connections, each with one request under way; every order has an Idempotency-Key as the SDK sends it, and is
answered after its commit.  The network is three sites whose 192 cores are soon taken, so most orders wait, and the
hub runs its rounds over them meanwhile: accepting must not suffer from planning.  The load is a process of its own
that writes raw bytes to sockets; it takes its share of the same cores, and says how much.
"""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from benchmarks import hubs
from benchmarks.figure import Figure
from benchmarks.generator import Generator
from benchmarks.scene import Scene

CONNECTIONS = 32
SITES, CORES = 3, 64
SECONDS, QUICK_S, WARM_S = 12.0, 4.0, 2.0


def on_sqlite(scene: Scene) -> Figure:
    folder = scene.subfolder("submit-sqlite")
    return _measure(scene, folder, nullcontext(f"sqlite:///{folder}/hub.db"))


def on_postgresql(scene: Scene) -> Figure:
    return _measure(scene, scene.subfolder("submit-postgresql"), hubs.postgresql(scene.postgresql()))


def _measure(scene: Scene, folder: Path, database: AbstractContextManager[str]) -> Figure:
    with database as url, hubs.hub(url, folder) as running:
        key = running.customer()
        running.active_sites(SITES, CORES)
        seconds = scene.seconds(SECONDS, QUICK_S)
        job = {
            "host": running.host,
            "port": running.port,
            "key": key,
            "connections": CONNECTIONS,
            "seconds": seconds,
            "warm_s": WARM_S,
        }
        scene.say(f"{CONNECTIONS} connections for {seconds:.0f} s after {WARM_S:.0f} s")
        cpu = running.cpu_s()
        with Generator("submit", job) as load:
            found = load.result(seconds + WARM_S + 30)
        if found["refused"]:
            raise RuntimeError(f"{found['refused']} orders were refused, the first: {found['first_refusal']}")
        whole_s = seconds + WARM_S
        return Figure(
            float(str(found["per_s"])),
            extra={
                "p50_ms": round(float(str(found["p50_ms"])), 1),
                "p99_ms": round(float(str(found["p99_ms"])), 1),
                "hub_cores": round((running.cpu_s() - cpu) / whole_s, 2),
                "load_cores": round(float(str(found["cpu_s"])) / whole_s, 2),
            },
        )
