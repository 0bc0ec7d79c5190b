"""What an order says of its data, checked as a whole and made ready for one task."""

import posixpath
from collections.abc import Iterable
from urllib.parse import quote

from yunhe.core import units
from yunhe.core.errors import InvalidInput
from yunhe.wire.api.orders import InputSpec, OutputSpec, RunSpec
from yunhe.wire.link import CHECKPOINT_PATH, DataInput, Delivery
from yunhe.wire.urls import TASK


def check_data(run: RunSpec, array: int) -> None:
    """Raises InvalidInput for inputs or outputs that stand in each other's way."""
    folders = {run.checkpoint.folder} if run.checkpoint else set()
    _check_places((*((path, "run.files") for path in run.files), *_input_places(run)), folders)
    for index, item in enumerate(run.inputs):
        size_of(item, f"run.inputs[{index}].size")
    sent = {posixpath.normpath(output.path) for output in run.outputs if isinstance(output, OutputSpec)}
    paths = [posixpath.normpath(path) for path in output_paths(run)]
    for index, output in enumerate(run.outputs):
        if paths[index] == CHECKPOINT_PATH:
            raise InvalidInput("is the name of checkpoints at the hub", field=f"run.outputs[{index}]")
        if not isinstance(output, OutputSpec):
            continue
        if any(_covers(paths[index], path) for path in sent - {paths[index]}) or paths.count(paths[index]) > 1:
            raise InvalidInput(f"{paths[index]!r} is named twice", field=f"run.outputs[{index}].path")
        if array > 1 and TASK not in output.url:
            raise InvalidInput(
                f"the {array} tasks would overwrite each other's file",
                field=f"run.outputs[{index}].url",
                hint=f"put {TASK} into it",
            )


def check_named_secrets(run: RunSpec) -> None:
    """Not part of `check_data`: a quote is asked for without the secrets. Raises InvalidInput."""
    for index, item in enumerate(run.inputs):
        if item.secret is not None and item.secret not in run.secrets:
            raise InvalidInput(f"run.secrets has no {item.secret!r}", field=f"run.inputs[{index}].secret")


def _covers(folder: str, path: str) -> bool:
    return folder == "." or path.startswith(folder + "/")


def _input_places(run: RunSpec) -> Iterable[tuple[str, str]]:
    return ((item.path, f"run.inputs[{index}].path") for index, item in enumerate(run.inputs))


def _check_places(places: Iterable[tuple[str, str]], folders: set[str]) -> None:
    """Each file at a place of its own, and none where another one needs a folder, or the job has one of `folders`."""
    taken: dict[str, str] = {}
    folders = folders | {"."}
    for path, field in places:
        normal = posixpath.normpath(path)
        above = {normal[:at] for at in range(len(normal)) if normal[at] == "/"}
        if normal != path and field != "run.files":
            raise InvalidInput(f"write it as {normal!r}", field=field)
        if normal in taken or normal in folders or above & taken.keys():
            raise InvalidInput(f"{path!r} is in the way of another file of the order", field=field)
        taken[normal] = field
        folders |= above


def size_of(item: InputSpec, field: str) -> int | None:
    """Bytes, as stated; None: not stated. Raises InvalidInput."""
    if item.size is None or isinstance(item.size, int):
        return item.size
    return units.parse_bytes(item.size, field, zero_ok=True)


def stated_bytes(run: RunSpec) -> int:
    """Of all inputs that state their size."""
    return sum(size_of(item, f"run.inputs[{index}].size") or 0 for index, item in enumerate(run.inputs))


def inputs_of(run: RunSpec, task: int) -> tuple[DataInput, ...]:
    """For the start instruction of one task."""
    return tuple(
        DataInput(
            url=item.url.replace(TASK, str(task)),
            path=item.path,
            size_bytes=size_of(item, f"run.inputs[{index}].size"),
            sha256=item.sha256 or "",
            secret=item.secret or "",
        )
        for index, item in enumerate(run.inputs)
    )


def deliveries_of(run: RunSpec, task: int) -> tuple[Delivery, ...]:
    """The outputs that are to be sent to a URL."""
    return tuple(
        Delivery(path=output.path, url=output.url.replace(TASK, str(task)))
        for output in run.outputs
        if isinstance(output, OutputSpec)
    )


def target_of(delivery: Delivery, path: str) -> str:
    """The URL of one file: a folder's files go below the folder's URL."""
    if path == delivery.path:
        return delivery.url
    inner = path.removeprefix(delivery.path.rstrip("/") + "/")
    return f"{delivery.url.rstrip('/')}/{quote(inner)}"


def url_of(run: RunSpec, task: int, path: str) -> str:
    """Where the order wants this output of a task; empty: nowhere."""
    for delivery in deliveries_of(run, task):
        if path == delivery.path or _covers(delivery.path.rstrip("/"), path):
            return target_of(delivery, path)
    return ""


def output_paths(run: RunSpec) -> tuple[str, ...]:
    """Of all outputs, those with a URL among them."""
    return tuple(output.path if isinstance(output, OutputSpec) else output for output in run.outputs)
