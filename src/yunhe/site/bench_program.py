"""The certification benchmark: runs as a job, inside the limits of a lease, needs numpy, prints one JSON object.

    bench_program.py MILLI    CPU share of this lease, 1000: a whole core

Each entry is a list of repeats in units per second. With a whole core the wall clock counts. With less, the
kernel holds the process back in slices of 100 ms, so CPU time counts: the rate of one whole core in use.
"""

import json
import os
import sys
import time
from collections.abc import Callable

import numpy as np

REPEATS = 5
SECONDS = 0.12  # of one repeat with a whole core
COPY_BYTES = 32 * 1024 * 1024
DISK_BYTES = 8 * 1024 * 1024
N = 512  # three matrices of 2 MiB at FP64: past the first caches, short enough for a small share


def timed(clock: Callable[[], float], work: Callable[[], object], times: int) -> float:
    start = clock()
    for _ in range(times):
        work()
    return clock() - start


def repeats(clock: Callable[[], float], work: Callable[[], object], amount: float, seconds: float) -> list[float]:
    """Units per second of each repeat, after a warm-up that also says how much fits the time."""
    work()
    times = max(1, int(seconds / max(timed(clock, work, 1), 1e-6)))
    return [amount * times / timed(clock, work, times) for _ in range(REPEATS)]


def gemm(kind: type[np.float64] | type[np.float32], clock: Callable[[], float], seconds: float) -> list[float]:
    """FLOP/s of C = A B, dense; a wrong product is an error (Freivalds: C v against A (B v))."""
    random = np.random.default_rng(7)
    a, b = (random.standard_normal((N, N)).astype(kind) for _ in range(2))
    c = np.empty((N, N), dtype=kind)
    rates = repeats(clock, lambda: np.matmul(a, b, out=c), 2.0 * N**3, seconds)
    v = random.standard_normal(N)
    expected = a.astype(np.float64) @ (b.astype(np.float64) @ v)
    if not np.allclose(c.astype(np.float64) @ v, expected, rtol=1e-3, atol=1e-2 * N**0.5):
        raise ArithmeticError(f"{kind.__name__}: the product is wrong")
    return rates


def memory_bandwidth(clock: Callable[[], float], seconds: float) -> list[float]:
    """Bytes read plus bytes written per second of a copy far larger than the caches of one core."""
    source = np.ones(COPY_BYTES // 8)
    target = np.empty_like(source)
    return repeats(clock, lambda: np.copyto(target, source), 2.0 * COPY_BYTES, seconds)


def disk_write() -> list[float]:
    """Bytes per second of a write with fsync in the job's folder, by the wall clock."""
    data, rates = os.urandom(DISK_BYTES), []
    for _ in range(3):
        start = time.perf_counter()
        with open("bench.tmp", "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        rates.append(DISK_BYTES / (time.perf_counter() - start))
    os.unlink("bench.tmp")
    return rates


def main() -> None:
    milli = int(sys.argv[1])
    clock = time.perf_counter if milli >= 1000 else time.process_time
    seconds = SECONDS * min(milli, 1000) / 1000
    result = {
        "gemm_fp64": gemm(np.float64, clock, seconds),
        "gemm_fp32": gemm(np.float32, clock, seconds),
        "memory_bandwidth": memory_bandwidth(clock, seconds),
        "disk_write": disk_write(),
    }
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
