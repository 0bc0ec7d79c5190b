"""Real engines of this machine as sites of the demo: each is started for it, private, and stopped with it."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import BaseModel

from yunhe.apps.embedded import SITES, EngineSite, Say
from yunhe.apps.local_engines import ray, slurm
from yunhe.core.errors import InvalidInput
from yunhe.site.settings import RaySettings, SlurmSettings

NODES = 2  # of the private Slurm
CORES_PER_NODE = 2  # claimed: Slurm gives whole cores only, and the examples ask for parts of one
MEMORY_PERMILLE = 200  # of this machine's, for each cluster


@dataclass(frozen=True, slots=True)
class _Private:
    """How an engine is had. `missing`: why it is not to be had, with the line that installs it."""

    missing: Callable[[], str]
    start: Callable[[ExitStack], BaseModel]  # its settings as a site; what is entered is stopped in the end


def missing(engines: Sequence[str]) -> list[str]:
    """For each engine that is not installed, why not and the line that installs it."""
    return [why for name in engines if name in _PRIVATE and (why := _PRIVATE[name].missing())]


def checked(engines: Sequence[str]) -> tuple[str, ...]:
    """The engines of the demo's sites, in their order. Raises InvalidInput."""
    known = ("process", *_PRIVATE)
    for name in engines:
        if name not in known:
            raise InvalidInput(f"{name!r} is none", field="--engines", hint=f"of {', '.join(known)}")
        if name != "process" and engines.count(name) > 1:
            raise InvalidInput(f"{name!r} twice: it is one site", field="--engines")
    if not 1 <= len(engines) <= len(SITES):
        raise InvalidInput(f"names {len(engines)} engines", field="--engines", hint=f"one to {len(SITES)}")
    return tuple(engines)


@contextmanager
def running(engines: Sequence[str], say: Say) -> Iterator[Mapping[str, EngineSite]]:
    """The engines by the site that is theirs; sites without one are processes of this machine."""
    found = {}
    with ExitStack() as stack:
        for share, name in zip(SITES, engines, strict=False):
            if name == "process":
                continue
            say(f"Starting a private {name.capitalize()} ...")
            found[share.name] = EngineSite(name, _PRIVATE[name].start(stack))
        yield found


def _folder(stack: ExitStack, name: str) -> Path:
    """Short, for sockets, and on a way that is open: munge asks for that."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"yunhe-{name}-")))


def _memory_bytes() -> int:
    return psutil.virtual_memory().total * MEMORY_PERMILLE // 1000


def _slurm(stack: ExitStack) -> SlurmSettings:
    shape = slurm.Shape(NODES, CORES_PER_NODE, partition="cpu", memory_mib=_memory_bytes() // NODES // 2**20)
    cluster = slurm.Cluster(_folder(stack, "slurm"), shape)
    stack.callback(cluster.stop)
    cluster.start()
    return SlurmSettings(conf=cluster.folder / "slurm.conf")


def _ray(stack: ExitStack) -> RaySettings:
    cores = max(1, len(os.sched_getaffinity(0)) // 2)
    head = ray.Head(_folder(stack, "ray"), ray.Shape(cores, _memory_bytes()))
    stack.callback(head.stop)
    head.start()
    return RaySettings(address=head.address, token_file=head.token_file)


_PRIVATE = {"slurm": _Private(slurm.missing, _slurm), "ray": _Private(ray.missing, _ray)}
