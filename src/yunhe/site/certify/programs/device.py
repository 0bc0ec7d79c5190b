"""How a software stack is used through PyTorch; put beside the other programs."""

import importlib
from typing import Any

# Stack -> (device of PyTorch, module that adds it, backend of torch.distributed).
DEVICES = {
    "cuda": ("cuda", "", "nccl"),
    "rocm": ("cuda", "", "nccl"),
    "dtk": ("cuda", "", "nccl"),
    "maca": ("cuda", "", "nccl"),
    "corex": ("cuda", "", "nccl"),
    "cann": ("npu", "torch_npu", "hccl"),
    "musa": ("musa", "torch_musa", "mccl"),
    "neuware": ("mlu", "torch_mlu", "cncl"),
    "xpu": ("xpu", "", "ccl"),
    "synapse": ("hpu", "habana_frameworks.torch.core", "hccl"),
    "cpu": ("cpu", "", "gloo"),
}


def open_torch(stack: str) -> tuple[Any, str]:
    """(torch, device). Raises ImportError or RuntimeError with the reason why the stack cannot be used."""
    if stack not in DEVICES:
        raise RuntimeError(f"no way to use the stack {stack} through PyTorch is known")
    device, plugin, _ = DEVICES[stack]
    torch = importlib.import_module("torch")
    if plugin:
        importlib.import_module(plugin)
    if device != "cpu" and not getattr(torch, device).is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} finds no {device} device")
    return torch, device


def wait(torch: Any, device: str) -> None:
    """Until the device has done what it was given."""
    if device != "cpu":
        getattr(torch, device).synchronize()
