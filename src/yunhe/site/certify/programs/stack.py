"""Is the framework ready here? Runs a few operators of a software stack and says which gave the right result.

    stack.py STACK

`operators`: ran and were right; `missing`: what the others said; `versions`.
"""

import contextlib
import importlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from typing import Any

SIZE = 64


def close(found: Any, wanted: Any) -> None:
    """Raises ArithmeticError for another result."""
    difference = float(abs(found - wanted).max())
    if not difference <= 1e-3:
        raise ArithmeticError(f"off by {difference:.3g}")


def numpy_gemm() -> None:
    np = importlib.import_module("numpy")
    a = np.arange(SIZE * SIZE, dtype=np.float64).reshape(SIZE, SIZE) % 7
    close(a @ a, np.einsum("ij,jk->ik", a, a))


def gemm(torch: Any, device: str) -> None:
    a = torch.arange(SIZE * SIZE, device=device, dtype=torch.float32).reshape(SIZE, SIZE) % 7
    close((a @ a).cpu(), (a.cpu()[:, :, None] * a.cpu()[None]).sum(1))


def conv2d(torch: Any, device: str) -> None:
    image = torch.arange(64.0, device=device).reshape(1, 1, 8, 8) / 64
    kernel = torch.ones(1, 1, 3, 3, device=device)
    found = torch.nn.functional.conv2d(image, kernel).cpu()
    windows = image.cpu().unfold(2, 3, 1).unfold(3, 3, 1).sum((-1, -2))
    close(found, windows)


def softmax(torch: Any, device: str) -> None:
    x = torch.arange(8.0, device=device)
    found = torch.nn.functional.softmax(x, 0).cpu()
    close(found, x.cpu().exp() / x.cpu().exp().sum())


def layernorm(torch: Any, device: str) -> None:
    x = torch.arange(8.0, device=device)
    found = torch.nn.functional.layer_norm(x, (8,)).cpu()
    y = x.cpu()
    close(found, (y - y.mean()) / (y.var(unbiased=False) + 1e-5).sqrt())


def attention(torch: Any, device: str) -> None:
    q = torch.arange(32.0, device=device).reshape(1, 1, 4, 8) / 32
    found = torch.nn.functional.scaled_dot_product_attention(q, q, q).cpu()
    p = q.cpu()
    close(found, (p @ p.transpose(-1, -2) / 8**0.5).softmax(-1) @ p)


def backward(torch: Any, device: str) -> None:
    x = torch.arange(8.0, device=device, requires_grad=True)
    (x * x).sum().backward()
    close(x.grad.cpu(), 2 * x.detach().cpu())


def allreduce(torch: Any, device: str, backend: str) -> None:
    """Of one process with itself: the library is there and takes the device."""
    dist = torch.distributed
    with tempfile.TemporaryDirectory(dir=".") as folder:
        dist.init_process_group(backend, init_method=f"file://{os.path.abspath(folder)}/meet", rank=0, world_size=1)
        x = torch.arange(8.0, device=device)
        dist.all_reduce(x)
        close(x.cpu(), torch.arange(8.0))
        dist.destroy_process_group()


def main() -> None:
    stack = sys.argv[1]
    found: dict[str, Any] = {"versions": {"python": platform.python_version()}, "operators": ["python"], "missing": {}}

    def attempt(name: str, work: Callable[[], object]) -> bool:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                work()
        except Exception as error:  # noqa: BLE001 - whatever the library says is the reason
            found["missing"][name] = f"{type(error).__name__}: {error}"[:200]
            return False
        found["operators"].append(name)
        return True

    def version(name: str) -> None:
        found["versions"][name] = str(importlib.import_module(name).__version__)

    opened: list[Any] = []
    if attempt("numpy", lambda: version("numpy")) and stack == "cpu":
        attempt("gemm", numpy_gemm)
    if attempt("torch", lambda: opened.extend(importlib.import_module("device").open_torch(stack))):
        torch, device = opened
        version("torch")
        backend = importlib.import_module("device").DEVICES[stack][2]
        works = [gemm, conv2d, softmax, layernorm, attention, backward]
        for work in works[stack == "cpu" :]:
            attempt(work.__name__, lambda work=work: work(torch, device))  # type: ignore[misc]
        attempt("allreduce", lambda: allreduce(torch, device, backend))
    else:
        said = found["missing"]["torch"]
        for name in ("gemm", "conv2d", "softmax", "layernorm", "attention", "backward", "allreduce"):
            if name not in found["operators"]:
                found["missing"].setdefault(name, f"needs torch ({said})"[:200])
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
