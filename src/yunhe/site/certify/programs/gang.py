"""All-reduce across the processes of a gang on one host: ring of PyTorch's backend where it is there, else of sockets.

    gang.py STACK PROCESSES

`samples.allreduce`: bytes of the vector per second of each repeat (the algorithm's bandwidth, not the bus's); `means`.
"""

import importlib
import json
import os
import socket
import sys
import tempfile
import time
from typing import Any

import numpy as np

VALUES = 1 << 20  # float32: 4 MiB
REPEATS = 5


def exchange(out: socket.socket, into: socket.socket, data: Any, space: Any) -> None:
    """Send to the right while the left is received, in pieces, so that no buffer can fill up and block the ring."""
    out.setblocking(False)
    sent, got = memoryview(data).cast("B"), memoryview(space).cast("B")
    while sent or got:
        if sent:
            try:
                sent = sent[out.send(sent[: 1 << 16]) :]
            except BlockingIOError:
                pass
        if got:
            into.setblocking(not sent)
            try:
                count = into.recv_into(got)
            except BlockingIOError:
                continue
            if not count:
                raise ConnectionError("a process of the gang is gone")
            got = got[count:]


def ring(rank: int, size: int, out: socket.socket, into: socket.socket, x: Any) -> None:
    """Reduce-scatter, then all-gather: each process sends 2 (size - 1) / size of the vector."""
    parts = np.array_split(x, size)
    for step in range(size - 1):
        give, take = parts[(rank - step) % size], parts[(rank - step - 1) % size]
        space = np.empty_like(take)
        exchange(out, into, give, space)
        take += space
    for step in range(size - 1):
        exchange(out, into, parts[(rank + 1 - step) % size], parts[(rank - step) % size])


def by_sockets(rank: int, size: int, pairs: list[tuple[socket.socket, socket.socket]]) -> list[float]:
    out, into = pairs[rank][0], pairs[(rank - 1) % size][1]
    rates = []
    for _ in range(REPEATS + 1):
        x = np.full(VALUES, rank + 1, dtype=np.float32)
        start = time.perf_counter()
        ring(rank, size, out, into, x)
        rates.append(x.nbytes / (time.perf_counter() - start))
        if not (x == size * (size + 1) / 2).all():
            raise ArithmeticError("the sum is wrong")
    return rates[1:]


def by_torch(rank: int, size: int, stack: str, meet: str) -> list[float]:
    module = importlib.import_module("device")
    torch, device = module.open_torch(stack)
    if device != "cpu":
        getattr(torch, device).set_device(rank)
    torch.distributed.init_process_group(
        module.DEVICES[stack][2], init_method=f"file://{meet}", rank=rank, world_size=size
    )
    rates = []
    for _ in range(REPEATS + 1):
        x = torch.full((VALUES,), float(rank + 1), device=device)
        torch.distributed.barrier()
        module.wait(torch, device)
        start = time.perf_counter()
        torch.distributed.all_reduce(x)
        module.wait(torch, device)
        rates.append(VALUES * 4 / (time.perf_counter() - start))
        if not bool((x == size * (size + 1) / 2).all()):
            raise ArithmeticError("the sum is wrong")
    torch.distributed.destroy_process_group()
    return rates[1:]


def run(size: int, work: Any) -> list[float]:
    """The work in `size` processes; the first one's answer. Raises RuntimeError when one of them failed."""
    reader, writer = os.pipe()
    children = []
    for rank in range(size):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                found = work(rank)
                if rank == 0:
                    os.write(writer, json.dumps(found).encode())
                status = 0
            except Exception as error:  # noqa: BLE001 - as above
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
            finally:
                os._exit(status)
        children.append(pid)
    os.close(writer)
    failed = [pid for pid in children if os.waitpid(pid, 0)[1]]
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    if failed or not text:
        raise RuntimeError(f"{len(failed)} of {size} processes failed")
    rates: list[float] = json.loads(text)
    return rates


def main() -> None:
    stack, size = sys.argv[1], int(sys.argv[2])
    try:
        importlib.import_module("device").open_torch(stack)
        with tempfile.TemporaryDirectory(dir=".") as folder:
            meet = os.path.abspath(folder) + "/meet"
            samples, means = run(size, lambda rank: by_torch(rank, size, stack, meet)), "torch.distributed"
    except Exception as error:
        if stack != "cpu":
            raise
        sys.stderr.write(f"without torch: {error}\n")
        pairs = [socket.socketpair() for _ in range(size)]
        samples, means = run(size, lambda rank: by_sockets(rank, size, pairs)), "sockets"
    sys.stdout.write(json.dumps({"samples": {"allreduce": samples}, "means": means}))


if __name__ == "__main__":
    main()
