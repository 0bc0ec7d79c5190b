"""GEMM by the vendor's library alone, and by the certification program, in the same run: how much is lost.

    python benchmarks/bare_gemm.py                 one core by numpy's BLAS
    python benchmarks/bare_gemm.py --stack cuda    one card by PyTorch (also rocm, cann, ...)

The bare script is a loop of matrix products and a clock, nothing else.  Both take turns, and on a CPU both count CPU
time (the program's way with less than a whole core), so that other load on the machine hits both.  Prints one JSON
object: medians in FLOP/s and their ratio; the budget is 0.95.
"""

import argparse
import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parents[1] / "src/yunhe/site/certify/programs"
BUDGET = 0.95
ROUNDS = 5
SECONDS = 0.5


def bare_numpy(name: str) -> float:
    np = importlib.import_module("numpy")
    kind = {"fp64": np.float64, "fp32": np.float32}[name]
    a = np.random.default_rng(1).random((512, 512)).astype(kind)
    c = np.empty_like(a)
    return _rate(lambda: np.matmul(a, a, out=c), 512, lambda: None, time.process_time)


def bare_torch(name: str, stack: str) -> float:
    sys.path.insert(0, str(PROGRAMS))
    module = importlib.import_module("device")
    torch, device = module.open_torch(stack)
    n = 4096 if name == "fp64" else 8192
    kinds = {"fp64": "float64", "fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    a, b = (torch.randn(n, n, device=device, dtype=getattr(torch, kinds[name])) for _ in range(2))
    c = torch.empty_like(a)
    return _rate(lambda: torch.mm(a, b, out=c), n, lambda: module.wait(torch, device), time.perf_counter)


def _rate(work: Any, n: int, wait: Any, clock: Any) -> float:
    for _ in range(3):
        work()
    wait()
    done, start = 0, clock()
    while clock() - start < SECONDS:
        for _ in range(4):
            work()
        wait()
        done += 4
    took: float = clock() - start
    return 2.0 * n**3 * done / took


def certified(names: list[str], stack: str) -> dict[str, list[float]]:
    """All repeats of one run of the certification program."""
    with tempfile.TemporaryDirectory() as folder:
        for program in ("bench.py", "device.py"):
            (Path(folder) / program).write_text((PROGRAMS / program).read_text())
        done = subprocess.run(
            [sys.executable, "bench.py", "999" if stack == "cpu" else "1000", stack, *names],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        )
    samples: dict[str, list[float]] = json.loads(done.stdout)["samples"]
    return samples


def main() -> int:
    parser = argparse.ArgumentParser(description="How near certification comes to the vendor's library.")
    parser.add_argument("--stack", default="cpu")
    parser.add_argument("--precisions", default="")
    args = parser.parse_args()
    if args.stack == "cpu":
        with contextlib.suppress(AttributeError):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    names = (args.precisions or ("fp64,fp32" if args.stack == "cpu" else "fp64,fp32,tf32,bf16,fp16")).split(",")
    bare: dict[str, list[float]] = {name: [] for name in names}
    ours: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        samples = certified(names, args.stack)
        for name in names:
            ours[name] += samples.get(f"gemm_{name}", [])
            bare[name].append(bare_numpy(name) if args.stack == "cpu" else bare_torch(name, args.stack))
    found = {}
    for name in names:
        if not ours[name]:
            continue
        ratio = statistics.median(ours[name]) / statistics.median(bare[name])
        found[name] = {
            "bare": round(statistics.median(bare[name])),
            "certified": round(statistics.median(ours[name])),
            "ratio": round(ratio, 3),
            "within_budget": ratio >= BUDGET,
        }
    print(json.dumps(found, indent=2))
    return 0 if found and all(entry["within_budget"] for entry in found.values()) else 1


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
