"""round_100_sites_p99: see `round_scale`, which measures it in this process."""

from benchmarks import round_scale
from benchmarks.figure import Figure
from benchmarks.scene import Scene


def measure(scene: Scene) -> Figure:
    found = round_scale.run(scene.seed)
    extra = {
        name: value for name, value in found.items() if name not in ("id", "value", "unit", "better", "budget", "goal")
    }
    return Figure(float(found["value"]), extra=dict(extra))
