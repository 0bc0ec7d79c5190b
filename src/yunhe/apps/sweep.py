"""Many runs at once: seeds times changes, in parallel processes, or on a Ray cluster where one is named.

Each run is a folder of its own as `apps.simulator` writes it, so a sweep that was stopped goes on with what is left.
"""

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from yunhe.apps.simulator import RESULT, Prepared, prepare, read_result, simulate, write_whole
from yunhe.core.errors import InvalidInput, Unavailable, YunheError
from yunhe.simulator.result import Document, to_bytes

BASE = "base"
MAX_RUNS = 10_000
RAY_RETRIES = 3  # of a run whose machine is lost
RAY_LOOK_S = 60.0
RAY_KNOCK_S = 10.0

Done = Callable[[str, int, int], None]  # (name of the run, how many are done, of how many)


@dataclass(frozen=True, slots=True)
class Variant:
    """`edits` on top of the scenario, under a name."""

    name: str
    edits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Work:
    """One run, as it is sent to another process or machine."""

    prepared: Prepared
    out: Path


def variants(edits: Sequence[str]) -> list[Variant]:
    """The scenario as it is, and with each of the edits by itself; one in a file is called after it.

    Raises InvalidInput for two of one name.
    """
    found = [Variant(BASE, ())]
    for i, edit in enumerate(edits, 1):
        path = Path(edit)
        found.append(Variant(path.stem if path.suffix in (".yaml", ".yml") else f"change-{i}", (edit,)))
    names = [variant.name for variant in found]
    if len(set(names)) < len(names):
        raise InvalidInput("two have one name; the names of the files make it", field="--what-if")
    return found


def sweep(
    path: Path,
    chosen: Sequence[Variant],
    seeds: Sequence[int],
    out: Path,
    *,
    processes: int,
    ray: str | None = None,
    done: Done = lambda name, n, total: None,
) -> dict[str, list[Document]]:
    """Results by variant, each in the order of the seeds; the folders are OUT/VARIANT/seed-N.

    `ray`: address of a cluster (`auto` for the one this machine belongs to); its machines need Yunhe installed and the
    traces under the same paths.  Raises what a run raises; Unavailable when no cluster answers.
    """
    if len(chosen) * len(seeds) > MAX_RUNS:
        raise InvalidInput(f"that would be more than {MAX_RUNS} runs", field="seeds")
    works: dict[str, _Work] = {}
    for variant in chosen:
        for seed in seeds:
            prepared = prepare(path, variant.edits, seed)
            works[f"{variant.name}/seed-{seed}"] = _Work(_absolute(prepared), out / variant.name / f"seed-{seed}")
    run = _on_ray(works, ray) if ray is not None else _here(works, processes)
    for n, name in enumerate(run, 1):
        done(name, n, len(works))
    return {
        variant.name: [read_result(works[f"{variant.name}/seed-{seed}"].out) for seed in seeds] for variant in chosen
    }


def _absolute(prepared: Prepared) -> Prepared:
    return Prepared(prepared.scenario, prepared.text, prepared.folder.absolute())


def _here(works: dict[str, _Work], processes: int) -> Iterator[str]:
    """Names as they are done. Processes are made anew: a fork would share the parent's locks and signal handlers."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        under_way = {pool.submit(_simulate, work): name for name, work in works.items()}
        try:
            for future in as_completed(under_way):
                future.result()
                yield under_way[future]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _simulate(work: _Work) -> None:
    """In a process of its own."""
    outcome = simulate(work.prepared, work.out, report=False)
    if outcome.result is None:
        raise KeyboardInterrupt


def _on_ray(works: dict[str, _Work], address: str) -> Iterator[str]:
    """The runs go to the cluster, and their results come back into the folders here."""
    _knock(address)
    import ray  # noqa: PLC0415 - it starts threads and takes a second to import; only a sweep on a cluster needs it

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        message = f"no Ray cluster answers at {address}: {str(error)[:200]}"
        raise Unavailable(message, hint="start one, or leave out --ray") from error
    try:
        remote: Any = ray.remote(num_cpus=1, max_retries=RAY_RETRIES)(_result_of)
        waiting = {remote.remote(work.prepared): name for name, work in works.items() if not _known(work)}
        yield from (name for name, work in works.items() if _known(work))
        while waiting:
            for ready in ray.wait(list(waiting), num_returns=1, timeout=RAY_LOOK_S)[0]:
                name = waiting.pop(ready)
                found = _fetched(ray, ready)
                works[name].out.mkdir(parents=True, exist_ok=True)
                write_whole(works[name].out / RESULT, found)
                yield name
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself tries for minutes where nobody listens. Raises Unavailable, InvalidInput."""
    if address == "auto":
        return
    found = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = found.hostname, found.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        raise InvalidInput(f"{address[:80]!r} is no address", field="--ray", hint="as 10.0.0.5:6379, or auto")
    try:
        socket.create_connection((host, port), RAY_KNOCK_S).close()
    except OSError as error:
        message = f"no Ray cluster answers at {address}: {error}"
        raise Unavailable(message, hint="start one, or leave out --ray") from error


def _fetched(ray: Any, ready: Any) -> bytes:
    try:
        found: bytes = ray.get(ready, timeout=RAY_LOOK_S)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, YunheError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        raise Unavailable(
            f"a run was lost on the cluster: {str(error)[:200]}", hint="the same command goes on"
        ) from error
    return found


def _known(work: _Work) -> bool:
    return (work.out / RESULT).exists()


def _result_of(prepared: Prepared) -> bytes:
    """On a machine of the cluster: no folder, the result alone."""
    from yunhe.simulator.run import Run  # noqa: PLC0415 - imported where it runs

    run = Run.fresh(prepared.scenario, prepared.folder)
    while run.go_on(100_000):
        pass
    return to_bytes(run.result())


def seeds_of(text: str) -> tuple[int, ...]:
    """`1-5`, `3,7,11` or both. Raises InvalidInput."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or len(first) > 18 or len(last) > 18:
            raise InvalidInput(f"{part[:40]!r} is no seed", field="--seeds", hint="for example 1-5 or 3,7,11")
        low, high = int(first), int(last or first)
        if high < low or high - low >= MAX_RUNS:
            raise InvalidInput(f"{part[:40]!r} is no range of at most {MAX_RUNS} seeds", field="--seeds")
        found += range(low, high + 1)
    if len(set(found)) < len(found):
        raise InvalidInput("names one seed twice", field="--seeds")
    return tuple(found)
