"""slurm_agent_rss: memory of a site agent that holds 1,000 jobs of a Slurm cluster.

A hub and a site agent as processes of their own, as they are run, and a private Slurm. The jobs are one array order,
placed by the hub and given to Slurm; they wait there, since steps of 1,000 jobs at once are more than this machine has
room for. What the agent keeps of a lease is the same while it runs, but for its latest totals.
"""

import json
import time

import httpx
import psutil

from benchmarks import hubs, start
from benchmarks.figure import Figure
from benchmarks.scene import NotMeasurable, Scene
from tests.engines.slurm import Cluster, Shape, missing
from yunhe.site.settings import SlurmSettings

JOBS, QUICK_JOBS = 1_000, 200
SHAPE = Shape(nodes=6, cpus=32, memory_mib=64_000)
REST_S, HELD_S = 5.0, 90.0
MIB = 1 << 20


def measure(scene: Scene) -> Figure:
    if why := missing():
        raise NotMeasurable(why)
    folder = scene.subfolder("slurm-agent")
    cluster = Cluster(scene.subfolder("slurm"), SHAPE)
    try:
        cluster.start()
        slurm = SlurmSettings(conf=cluster.folder / "slurm.conf")
        with (
            hubs.hub(f"sqlite:///{folder}/hub.db", folder) as running,
            start.site(scene, running, folder / "site", engine="slurm", engine_settings=slurm) as agent,
        ):
            empty = psutil.Process(agent.pid).memory_info().rss / MIB
            cluster.call("scontrol", "update", f"PartitionName={SHAPE.partition}", "State=DOWN")
            count = QUICK_JOBS if scene.quick else JOBS
            _submit(running, count)
            _until_held(cluster, count)
            time.sleep(REST_S)
            held = psutil.Process(agent.pid).memory_info().rss / MIB
    finally:
        cluster.stop()
    return Figure(held, extra={"jobs": count, "without_jobs_mib": round(empty, 1)})


def _submit(running: hubs.HubProcess, count: int) -> None:
    order = {
        "name": "held",
        "run": {"command": ["sleep", "600"]},
        "requirement": {"cores": 0.1, "memory": "16MiB"},
        "duration": "10m",
        "array": count,
        "budget": "100000CNY",
    }
    headers = {"Authorization": f"Bearer {running.customer()}", **hubs.JSON}
    httpx.post(f"{running.url}/v1/orders", content=json.dumps(order), headers=headers, timeout=60).raise_for_status()


def _until_held(cluster: Cluster, count: int) -> None:
    until = time.monotonic() + HELD_S
    while (held := len(cluster.call("squeue", "-h", "-r", "-t", "PD", "-o", "%i").split())) < count:
        if time.monotonic() > until:
            raise RuntimeError(f"only {held} of {count} jobs are in Slurm")
        time.sleep(0.5)
