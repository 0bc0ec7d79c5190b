"""An order as a command line: options where they can say it, else a file and the command that reads it. Pure."""

import shlex
from collections.abc import Iterator
from typing import Any

from yunhe.sdk.orderfile import dump_order
from yunhe.wire.api import OrderSpec

_OPTIONS = {
    "name": "--name",
    "duration": "--duration",
    "start_at": "--start-at",
    "deadline": "--deadline",
    "patience": "--patience",
    "budget": "--budget",
    "preference": "--prefer",
    "array": "--array",
    "priority": "--priority",
    "retries": "--retries",
}
_REQUIREMENT = {
    "cores": "--cores",
    "cards": "--cards",
    "compute": "--compute",
    "work": "--work",
    "chip": "--chip",
    "slots": "--slots",
    "memory": "--memory",
    "card_memory": "--card-memory",
    "latency": "--latency",
    "bandwidth": "--bandwidth",
    "residency": "--residency",
    "tier": "--tier",
    "max_carbon": "--max-carbon",
    "sites": "--site",
}


def command_line(order: OrderSpec) -> str:
    """What to type into a shell to submit this order."""
    words = list(_words(order))
    if None in words:
        return f"cat > order.yaml <<'EOF'\n{dump_order(order)}EOF\nyunhe submit order.yaml"
    return shlex.join(["yunhe", "submit", *(word for word in words if word is not None)])


def _words(order: OrderSpec) -> Iterator[str | None]:
    """None for each thing that no option says."""
    tree: dict[str, Any] = order.model_dump(mode="json", exclude_defaults=True)
    run, requirement = tree.pop("run"), tree.pop("requirement", {})
    yield from _option(_OPTIONS["name"], tree.pop("name", order.name))  # else one is made up of the command
    data = requirement.pop("data", None)
    if data is not None:
        yield from _option("--data", f"{data.get('size', '0B')}:{data['at']}")
    for values, options in ((requirement, _REQUIREMENT), (tree, _OPTIONS)):
        for name, value in values.items():
            yield from _option(options.get(name), value)
    command = run.pop("command", None)
    for name, value in run.pop("env", {}).items():
        yield from _option("--env", f"{name}={value}")
    for output in run.pop("outputs", ()):
        yield from _option("--output", output if isinstance(output, str) else f"{output['path']}={output['url']}")
    if run or command is None:
        yield None
    yield from ("--no-attach", "--", *(command or ()))


def _option(name: str | None, value: object) -> Iterator[str | None]:
    for one in value if isinstance(value, list) else [value]:
        yield name
        yield str(one).removesuffix(".0") if isinstance(one, str | int | float) else None
