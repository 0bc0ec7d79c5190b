"""A lease as a request to Ray's job API, and as the specification that the supervisor on the node reads."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from yunhe.site.drivers.contract import Job, SpawnFailed
from yunhe.site.drivers.nodes.chips import UNIT
from yunhe.site.drivers.nodes.program import Program
from yunhe.site.drivers.nodes.spec import environment, node_spec, path_of
from yunhe.site.drivers.ray.supply import LEAST, TYPE, RayPool
from yunhe.site.settings import DriverSettings, RaySettings
from yunhe.site.supervisor.records import Spec

NODE, GANG = "site/supervisor/node.py", "site/supervisor/gang.py"
# Which cards Ray has given to the job; nothing else of Ray's environment reaches it, its token least of all.
GIVEN = (
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ASCEND_RT_VISIBLE_DEVICES",
    "HABANA_VISIBLE_MODULES",
    "NEURON_RT_VISIBLE_CORES",
    "TPU_VISIBLE_CHIPS",
    "ONEAPI_DEVICE_SELECTOR",
    "MLU_VISIBLE_DEVICES",
)
ENVIRONMENT = ("PATH", "VIRTUAL_ENV", "CONDA_PREFIX")  # how a runtime environment shows


@dataclass(frozen=True, slots=True)
class Size:
    """Of a whole lease: all its slots are on one node."""

    cores: float
    cards: float
    memory_bytes: int

    def resources(self, pool: RayPool, lent: str | None) -> dict[str, float]:
        """As Ray counts them."""
        asked = {"CPU": self.cores, "memory": float(self.memory_bytes)}
        if pool.card:
            asked[pool.card] = self.cards
        if pool.kind:
            asked[f"{TYPE}{pool.kind}"] = LEAST
        if lent is not None:
            asked[lent] = LEAST
        return asked


def size_of(job: Job, pool: RayPool) -> Size:
    """Raises SpawnFailed for what Ray would let wait for ever: a job of Ray's lies on one node."""
    lease, report = job.lease, pool.report
    milli = lease.slots * lease.slot_milli
    if lease.slot_milli > report.max_slot_milli or milli > report.capacity_milli:
        raise SpawnFailed(f"{lease.slots} x {lease.slot_milli} milli-units are more than the pool has")
    if milli > report.max_slot_milli:
        raise SpawnFailed(f"a gang lies on one node of Ray, and {milli} milli-units are more than any has")
    memory = lease.slots * lease.slot_memory_bytes or report.memory_bytes * milli // report.capacity_milli
    if memory > pool.largest_memory_bytes:
        raise SpawnFailed(f"{memory} bytes of memory are more than any node has")
    if not pool.card:
        return Size(milli / UNIT, 0.0, memory)
    cards = milli / UNIT
    if cards > 1 and milli % UNIT:
        raise SpawnFailed("Ray gives a part of one card, or whole cards")
    return Size(round(min(cards * pool.cores_per_card, pool.largest), 3), cards, memory)


@dataclass(frozen=True, slots=True)
class Planner:
    """Everything that is the same for all leases of a site."""

    driver: DriverSettings
    ray: RaySettings
    program: Program
    news: Path
    beacon: Path

    @property
    def python(self) -> str:
        return self.ray.python or sys.executable

    @property
    def runtime_env(self) -> dict[str, object]:
        value: dict[str, object] = json.loads(self.ray.runtime_env or "{}")
        return value

    @property
    def given(self) -> tuple[str, ...]:
        """What the job is told of Ray's environment. Where the site has a runtime environment, that is meant for it."""
        variables = self.runtime_env.get("env_vars", {})
        stated = tuple(variables) if isinstance(variables, dict) else ()
        return (*GIVEN, *ENVIRONMENT, *stated) if self.ray.runtime_env else GIVEN

    def request(self, job: Job, pool: RayPool, folder: Path) -> dict[str, object]:
        """The body of POST /api/jobs/, but for the id."""
        asked = size_of(job, pool).resources(pool, self.ray.lent)
        words = [self.python, "-I", "-S", str(self.program.path(NODE)), str(folder), str(self.news), "Ray", *self.given]
        named = {"CPU": "entrypoint_num_cpus", "GPU": "entrypoint_num_gpus", "memory": "entrypoint_memory"}
        fields: dict[str, object] = {named[name]: value for name, value in asked.items() if name in named}
        fields["entrypoint_memory"] = int(asked["memory"])
        other = {name: value for name, value in asked.items() if name not in named}
        return {
            "entrypoint": f"exec {shlex.join(words)}",
            "metadata": {"yunhe_lease": str(job.key), "yunhe_resources": json.dumps(asked)},
            **fields,
            **({"entrypoint_resources": other} if other else {}),
            **({"runtime_env": self.runtime_env} if self.ray.runtime_env else {}),
        }

    def spec(self, job: Job, pool: RayPool, folder: Path) -> Spec:
        size, slots = size_of(job, pool), job.lease.slots
        argv = list(job.lease.command)
        if slots > 1:
            argv = [self.python, "-I", "-S", str(self.program.path(GANG)), str(slots), "--", *argv]
        # A runtime environment brings a PATH of its own.
        env = {} if self.ray.runtime_env else {"PATH": path_of(self.python)}
        env |= environment(job, folder, max(1, int(size.cores / slots)))
        return node_spec(job, self.driver, folder, argv, env, size.memory_bytes, self.beacon)
