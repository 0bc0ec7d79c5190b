"""Runs of the simulator as files in a folder: state, result, report. Ctrl-C leaves a state to go on from."""

import fcntl
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import orjson

from yunhe.core.errors import Conflict, InvalidInput, YunheError
from yunhe.simulator.compare import check
from yunhe.simulator.result import Document, to_bytes
from yunhe.simulator.run import Run
from yunhe.simulator.scenario import Scenario, changed, load, load_edits, located, read_text
from yunhe.simulator.what_if import Edit

RESULT = "result.json"
STATE = "state.bin"
REPORT = "report.html"
CHUNK = 1_000  # events between two looks at the clock and at Ctrl-C
CHECKPOINT_S = 30.0  # between two states at least,
CHECKPOINT_SHARE = 0.05  # and of the time no more than this for writing them
MAX_RESULT_BYTES = 1 << 30
MAX_ROUND_BYTES = 1 << 30  # of a recorded round; one over the nation has 20 MiB
_OWN = 0o600
_WRITE_OF_OTHERS = 0o022

Progress = Callable[[float, Run], None]  # share done, 0 to 1


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scenario with its edits, and where its traces lie."""

    scenario: Scenario
    text: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """`result` None: it was interrupted, and the state is in `folder`."""

    folder: Path
    result: Document | None
    cpu_s: float
    found: bool = False  # it had been run before


def prepare(path: Path, edits: Sequence[str] = (), seed: int | None = None) -> Prepared:
    """Read a scenario and what is changed of it. Raises InvalidInput with field and line."""
    text = read_text(path)
    scenario = load(text)
    for given in edits:
        scenario = changed(scenario, read_edits(given))
    if seed is not None:
        scenario = scenario.model_copy(update={"seed": seed})
    return Prepared(scenario, text, path.parent)


def read_edits(given: str) -> tuple[Edit, ...]:
    """From a file, or written out: `price: {centre: guian, compute: 5CNY/h}`."""
    if ":" not in given or given.endswith((".yaml", ".yml")):
        return load_edits(read_text(Path(given)))
    return load_edits(given)


def simulate(
    prepared: Prepared, out: Path, *, fresh: bool = False, progress: Progress | None = None, report: bool = True
) -> Outcome:
    """Run to the end, from the state that is there unless `fresh`. Raises InvalidInput for a scenario or a trace that
    is wrong, or a folder that has another scenario's run."""
    scenario = prepared.scenario
    done = None if fresh else _done(out, scenario)
    if done is not None:
        if report and can_report() and not (out / REPORT).exists():
            write_report(done, out)
        return Outcome(out, done, 0.0, found=True)
    began_s = time.process_time()
    with _interrupts() as interrupted, _alone(out):
        run = _run(prepared, out, fresh)
        due_s = time.monotonic() + CHECKPOINT_S
        try:
            while run.go_on(CHUNK):
                if progress is not None:
                    progress(run.share_done, run)
                if interrupted() or time.monotonic() > due_s:
                    due_s = _save(run, out)
                if interrupted():
                    return Outcome(out, None, time.process_time() - began_s)
        except YunheError as error:
            raise located(error, prepared.text) from error
    found = run.result()
    write_whole(out / RESULT, to_bytes(found))
    (out / STATE).unlink(missing_ok=True)
    if report and can_report():
        write_report(found, out)
    return Outcome(out, found, time.process_time() - began_s)


def read_result(path: Path) -> Document:
    """The result in a file, or in a run's folder. Raises InvalidInput for what is none, or is damaged."""
    file = path / RESULT if path.is_dir() else path
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_RESULT_BYTES + 1)
        found: Any = orjson.loads(content) if len(content) <= MAX_RESULT_BYTES else None
    except FileNotFoundError as error:
        raise InvalidInput("has no result", field=str(path), hint="run it first: yunhe sim run") from error
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", field=str(file)) from error
    except orjson.JSONDecodeError as error:
        raise InvalidInput("is no result of a run", field=str(file)) from error
    if not isinstance(found, dict) or "scenario_sha256" not in found or not isinstance(found.get("seed"), int):
        raise InvalidInput("is no result of a run", field=str(file))
    try:
        check(found)
    except InvalidInput as error:
        raise InvalidInput(error.message, field=str(file), hint="yunhe sim run --fresh makes another") from error
    return found


def read_record(path: Path) -> Iterator[bytes]:
    """The lines of a record of rounds. Raises InvalidInput for what cannot be read, or has a line without end."""
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_ROUND_BYTES + 1):
                if len(line) > MAX_ROUND_BYTES:
                    raise InvalidInput(f"has a line of more than {MAX_ROUND_BYTES >> 20} MiB", field=str(path))
                yield line
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", field=str(path)) from error


def read_results(path: Path) -> list[Document]:
    """One run's, or those of all runs in a folder, by name."""
    if path.is_dir() and not (path / RESULT).exists():
        folders = sorted(inner for inner in path.iterdir() if (inner / RESULT).exists())
        if folders:
            return [read_result(folder) for folder in folders]
    return [read_result(path)]


def can_report() -> bool:
    """Whether the extra `simulate` is installed."""
    return all(find_spec(name) is not None for name in ("matplotlib", "pyarrow"))


def write_report(found: Document, out: Path) -> None:
    """Raises InvalidInput for a result that lacks what a report shows."""
    from yunhe.simulator.report import tables, to_html  # noqa: PLC0415 - matplotlib and pyarrow, for a report alone

    try:
        page, files = to_html(found), tables(found)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        hint = "--fresh makes another"
        raise InvalidInput(f"the result is damaged: {error!r}"[:200], field=str(out / RESULT), hint=hint) from error
    write_whole(out / REPORT, page.encode())
    for name, table in files.items():
        write_whole(out / f"{name}.parquet", table)


def write_whole(path: Path, content: bytes, mode: int = 0o666) -> None:
    """The file is as it was or as it should be, also after a power failure. `mode` is cut down by the umask."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """The folder is this run's; two would write over each other's state. Raises Conflict where another is at work."""
    out.mkdir(parents=True, exist_ok=True)
    folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise Conflict("another run is at work in it", field=str(out), hint="name another with --out") from error
    finally:
        os.close(folder)


def _save(run: Run, out: Path) -> float:
    """Write the state. When the next one is due: one that takes long comes the more rarely."""
    began_s = time.monotonic()
    write_whole(out / STATE, run.saved(), _OWN)
    ended_s = time.monotonic()
    return ended_s + max(CHECKPOINT_S, (ended_s - began_s) / CHECKPOINT_SHARE)


def _own_state(file: Path) -> bytes:
    """Raises InvalidInput for a state that somebody else could have written: it would do what they like."""
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", field="state") from error
    with os.fdopen(opened, "rb") as state:
        found = os.fstat(state.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise InvalidInput("is no file", field="state")
        if found.st_uid != os.geteuid() or found.st_mode & _WRITE_OF_OTHERS:
            whose = "is another user's" if found.st_uid != os.geteuid() else "can be written by others"
            raise InvalidInput(f"is a Python pickle, which runs what it holds, and {whose}", field="state")
        return state.read()


def _run(prepared: Prepared, out: Path, fresh: bool) -> Run:
    state = out / STATE
    try:
        if state.exists() and not fresh:
            return Run.resumed(prepared.scenario, prepared.folder, _own_state(state))
        return Run.fresh(prepared.scenario, prepared.folder)
    except YunheError as error:
        if error.field == "state":
            raise InvalidInput(error.message, field=str(state), hint="--fresh begins anew") from error
        raise located(error, prepared.text) from error


def _done(out: Path, scenario: Scenario) -> Document | None:
    if not (out / RESULT).exists():
        return None
    found = read_result(out)
    if found["scenario_sha256"] != scenario.digest() or found["seed"] != scenario.seed:
        raise InvalidInput(
            "has the result of another scenario or seed", field=str(out), hint="name another with --out, or --fresh"
        )
    return found


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM are noted, so that a run stops between two events; the second one stops at once."""
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
