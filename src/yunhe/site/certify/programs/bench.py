"""The certification benchmark: runs as a job, inside the limits of a lease, and prints one JSON object.

    bench.py MILLI STACK PRECISION...    share of a unit in 1/1000 (1000: a whole one), software stack, what to measure

`samples`: repeats in units per second by name; `reasons`: why a precision was not measured; `versions`: of what did
it.  With a whole unit the wall clock counts.  With a part of a core the kernel holds the process back in slices of
100 ms, so CPU time counts: the rate of one whole core in use.
"""

import contextlib
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPEATS = 5
SECONDS = 0.12  # of one repeat with a whole unit
COPY_BYTES = 32 * 1024 * 1024
CARD_COPY_BYTES = 1024 * 1024 * 1024
DISK_BYTES = 8 * 1024 * 1024
N = 512  # three matrices of 2 MiB at FP64: past the first caches, short enough for a small share
CARD_N = {"fp64": 4096, "fp32": 8192}  # others 8192: large enough that the library reaches its best
NUMPY = {"fp64": np.float64, "fp32": np.float32}
TORCH = {"fp64": "float64", "fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# Flags of a CPU whose library multiplies this precision in hardware; without them it would only imitate.
IN_HARDWARE = {"bf16": ("amx_bf16", "avx512_bf16", "bf16"), "fp16": ("amx_fp16", "avx512_fp16")}
TOLERANCE = {"fp64": 1e-9, "fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2, "fp16": 1e-2, "fp8": 2e-1, "int8": 0.0}

Wait = Callable[[], None]
Clock = Callable[[], float]


def timed(clock: Clock, work: Callable[[], object], times: int, wait: Wait) -> float:
    start = clock()
    for _ in range(times):
        work()
    wait()
    return clock() - start


def repeats(
    clock: Clock, work: Callable[[], object], amount: float, seconds: float, wait: Wait = lambda: None
) -> list[float]:
    """Units per second of each repeat, after a warm-up that also says how much fits the time."""
    timed(clock, work, 1, wait)
    times = max(1, int(seconds / max(timed(clock, work, 1, wait), 1e-6)))
    return [amount * times / timed(clock, work, times, wait) for _ in range(REPEATS)]


def verify(name: str, c_v: Any, a_b_v: Any) -> None:
    """Freivalds: C v against A (B v); a wrong product is an error."""
    scale = float(np.abs(a_b_v).max()) or 1.0
    if not float(np.abs(c_v - a_b_v).max()) <= TOLERANCE[name] * scale:
        raise ArithmeticError(f"{name}: the product is wrong")


def gemm(name: str, clock: Clock, seconds: float) -> list[float]:
    """FLOP/s of C = A B by numpy's BLAS, dense."""
    kind, random = NUMPY[name], np.random.default_rng(7)
    a, b = (random.standard_normal((N, N)).astype(kind) for _ in range(2))
    c = np.empty((N, N), dtype=kind)
    rates = repeats(clock, lambda: np.matmul(a, b, out=c), 2.0 * N**3, seconds)
    v = random.standard_normal(N)
    verify(name, c.astype(np.float64) @ v, a.astype(np.float64) @ (b.astype(np.float64) @ v))
    return rates


def torch_gemm(torch: Any, device: str, wait: Wait, name: str, seconds: float) -> list[float]:
    """FLOP/s of C = A B by PyTorch's library for the device, dense; OP/s for INT8. Raises what the library says."""
    n = CARD_N.get(name, 8192) if device != "cpu" else N
    torch.manual_seed(7)
    product: Callable[[], Any]
    if hasattr(torch.backends, "cuda"):
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    if name == "int8":
        a, b = (torch.randint(-8, 8, (n, n), device=device, dtype=torch.int8) for _ in range(2))
        product = lambda: torch._int_mm(a, b)  # noqa: E731
    elif name == "fp8":
        one = torch.ones((), device=device)
        a, b = (torch.randn(n, n, device=device).to(torch.float8_e4m3fn) for _ in range(2))
        column = b.t().contiguous().t()
        product = lambda: torch._scaled_mm(a, column, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)  # noqa: E731
    else:
        a, b = (torch.randn(n, n, device=device, dtype=getattr(torch, TORCH[name])) for _ in range(2))
        c = torch.empty_like(a)
        product = lambda: torch.mm(a, b, out=c)  # noqa: E731
    rates = repeats(time.perf_counter, product, 2.0 * n**3, seconds, wait)
    found = product()
    v = torch.randn(n, dtype=torch.float64)
    numbers = [matrix.to("cpu").to(torch.float64) for matrix in (found, a, b)]
    verify(name, (numbers[0] @ v).numpy(), (numbers[1] @ (numbers[2] @ v)).numpy())
    return rates


def memory_bandwidth(clock: Clock, seconds: float) -> list[float]:
    """Bytes read plus bytes written per second of a copy far larger than the caches of one core."""
    source = np.ones(COPY_BYTES // 8)
    target = np.empty_like(source)
    return repeats(clock, lambda: np.copyto(target, source), 2.0 * COPY_BYTES, seconds)


def card_bandwidth(torch: Any, device: str, wait: Wait, seconds: float) -> list[float]:
    """Bytes read plus bytes written per second of a copy in the card's own memory."""
    source = torch.ones(CARD_COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return repeats(time.perf_counter, lambda: target.copy_(source), 2.0 * CARD_COPY_BYTES, seconds, wait)


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


def cpu_flags() -> set[str]:
    """Of the first processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.partition(":")[0].strip() in ("flags", "Features"):
                return set(line.partition(":")[2].split())
    return set()


def blas() -> str:
    """Name and version of numpy's BLAS."""
    with contextlib.suppress(Exception):
        show: Any = np.show_config
        build = show(mode="dicts")["Build Dependencies"]["blas"]
        return f"{build['name']} {build['version']}"
    return "unknown"


def on_cpu(names: list[str], milli: int, stack: str) -> dict[str, Any]:
    clock = time.perf_counter if milli >= 1000 else time.process_time
    seconds = SECONDS * min(milli, 1000) / 1000
    samples: dict[str, list[float]] = {}
    reasons: dict[str, str] = {}
    versions = {"python": platform.python_version(), "numpy": np.__version__, "blas": blas()}
    flags = cpu_flags()
    for name in names:
        if name in NUMPY:
            samples[f"gemm_{name}"] = gemm(name, clock, seconds)
        elif not flags & set(IN_HARDWARE.get(name, ())):
            reasons[name] = f"this processor does not multiply {name} in hardware"
        else:
            try:
                torch, device = importlib.import_module("device").open_torch(stack)
                versions["torch"] = torch.__version__
                samples[f"gemm_{name}"] = torch_gemm(torch, device, lambda: None, name, seconds)
            except Exception as error:  # noqa: BLE001 - whatever the library says is the reason
                reasons[name] = f"{type(error).__name__}: {error}"[:200]
    samples["memory_bandwidth"] = memory_bandwidth(clock, seconds)
    samples["disk_write"] = disk_write()
    return {"samples": samples, "reasons": reasons, "versions": versions}


def on_card(names: list[str], stack: str) -> dict[str, Any]:
    samples: dict[str, list[float]] = {}
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    try:
        device_module = importlib.import_module("device")
        torch, device = device_module.open_torch(stack)
    except Exception as error:  # noqa: BLE001 - as above
        reason = f"{type(error).__name__}: {error}"[:200]
        return {"samples": {"disk_write": disk_write()}, "reasons": dict.fromkeys(names, reason), "versions": versions}
    wait = lambda: device_module.wait(torch, device)  # noqa: E731
    versions["torch"] = torch.__version__
    for key in ("cuda", "hip", "cann"):
        if value := getattr(torch.version, key, None):
            versions[key] = str(value)
    reasons: dict[str, str] = {}
    for name in names:
        try:
            samples[f"gemm_{name}"] = torch_gemm(torch, device, wait, name, 4 * SECONDS)
        except Exception as error:  # noqa: BLE001 - as above
            reasons[name] = f"{type(error).__name__}: {error}"[:200]
    samples["memory_bandwidth"] = card_bandwidth(torch, device, wait, SECONDS)
    samples["disk_write"] = disk_write()
    return {"samples": samples, "reasons": reasons, "versions": versions}


def main() -> None:
    milli, stack, names = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    found = on_cpu(names, milli, stack) if stack == "cpu" else on_card(names, stack)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
