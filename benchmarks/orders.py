"""Orders to load a hub with: 20 shapes that every site of `hubs` can run."""

import json
from itertools import product

SHAPES = 20


def bodies() -> list[bytes]:
    """20 request bodies, each an order of another shape."""
    sizes = product((0.5, 1), ("64MiB", "128MiB"), ("1m", "2m", "5m", "10m", "30m"))
    preferences = ("cost", "speed", "carbon")
    made = []
    for index, (cores, memory, duration) in enumerate(sizes):
        spec = {
            "name": f"load-{index:02d}",
            "run": {"command": ["python3", "-c", f"print({index})"]},
            "requirement": {"cores": cores, "memory": memory},
            "duration": duration,
            "budget": "5CNY",
            "preference": preferences[index % len(preferences)],
        }
        made.append(json.dumps(spec).encode())
    assert len(made) == SHAPES
    return made


def batch(count: int) -> bytes:
    """One call with `count` orders, the shapes in turn."""
    shapes = bodies()
    return b'{"orders":[' + b",".join(shapes[i % SHAPES] for i in range(count)) + b"]}"
