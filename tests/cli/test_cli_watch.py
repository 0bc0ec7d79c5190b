"""`yunhe watch` against a real hub: every event once, also when the hub is killed under it."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.test_cli_hub import YUNHE, Hub, free_port, wait_until_up
from yunhe.sdk import Client, Order, Requirement
from yunhe.sdk import Run as Job
from yunhe.wire.api import OrganisationRequest

WITHDRAWN = ["submitted", "withdrawn", "settled"]


@dataclass
class Serving:
    """A hub that can be killed and started again, at the same address."""

    data: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> str:
        """The operator's key."""
        with (self.data / "log").open("ab") as log:
            command = [*YUNHE, "hub", "serve", "--data-dir", str(self.data)]
            environment = os.environ | {"YUNHE_PORT": str(self.port)}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        key = (self.data / "operator.key").read_text().strip()
        with Client(self.url, key, retries=0) as client:
            wait_until_up(client, self.process, self.data / "log")
        return key

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    data = tmp_path / "hub"
    subprocess.run([*YUNHE, "hub", "init", "--data-dir", data], capture_output=True, timeout=60, check=True)
    hub = Serving(data, free_port())
    try:
        yield hub
    finally:
        if hub.process is not None:
            hub.kill()


@pytest.fixture
def hub(serving: Serving, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    operator = serving.start()
    with Client(serving.url, operator) as client:
        client.create_organisation(OrganisationRequest(id="acme", name="Acme"))
        client.deposit("acme", "10CNY", "first")
        customer = client.create_key("acme", "li.wei", "customer").key
    monkeypatch.setenv("YUNHE_URL", serving.url)
    monkeypatch.setenv("YUNHE_API_KEY", customer)
    return Hub(serving.url, operator, customer)


def withdrawn(hub: Hub) -> str:
    with Client(hub.url, hub.customer) as client:
        placed = client.submit(Order(run=Job(command=("true",)), requirement=Requirement(cores=1), budget="0.10CNY"))
        client.cancel(placed.id)
        return client.wait(placed.id, timeout=20).id


@contextlib.contextmanager
def watching(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A process, and the lines that it has printed; it watches when this begins."""
    command = [*YUNHE, "watch", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda flow: lines.extend(iter(flow.readline, "")), args=(process.stdout,))
    reader.start()
    try:
        yield process, lines
    finally:
        process.kill()
        process.wait(10)
        reader.join(10)


def until(lines: list[str], count: int) -> list[dict[str, str]]:
    end = time.monotonic() + 30
    while len(lines) < count and time.monotonic() < end:
        time.sleep(0.05)
    return [json.loads(line) for line in lines]


def test_a_hub_that_is_killed_doubles_and_loses_nothing(hub: Hub, serving: Serving) -> None:
    first = withdrawn(hub)
    with Client(hub.url, hub.customer) as client:
        begin = next(iter(client.events("0-0", first))).id
    with watching("--json", "--after", begin) as (process, lines):
        assert len(until(lines, 2)) == 2
        second = withdrawn(hub)
        serving.kill()
        serving.start()
        third = withdrawn(hub)
        seen = until(lines, 8)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr is not None and "Traceback" not in process.stderr.read()
    expected = [(order, kind) for order in (first, second, third) for kind in WITHDRAWN][1:]
    assert Counter((event["order_id"], event["kind"]) for event in seen) == Counter(expected)
    assert len({event["id"] for event in seen}) == 8


def test_one_order_is_watched_until_it_is_settled(hub: Hub, yunhe: Run) -> None:
    order = withdrawn(hub)
    shown = yunhe("watch", order)
    assert shown.code == 1  # it did not succeed
    assert [line.split("  ")[1:] for line in shown.out.splitlines()] == [
        ["submitted"],
        ["task 0", "withdrawn: withdrawn"],
        ["settled: charged 0.00CNY"],
    ]
    document = [json.loads(line) for line in yunhe("watch", "last", "--json").out.splitlines()]
    assert [event["kind"] for event in document] == WITHDRAWN
    rest = [json.loads(line) for line in yunhe("watch", order, "--after", document[0]["id"], "--json").out.splitlines()]
    assert rest == document[1:]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [(("--after", "yesterday"), 2, "error: after: 'yesterday' is no event's id"), (("ord_0",), 4, "not known")],
)
def test_what_cannot_be_watched(arguments: tuple[str, ...], code: int, says: str, hub: Hub, yunhe: Run) -> None:
    shown = yunhe("watch", *arguments)
    assert (shown.code, shown.out) == (code, "")
    assert says in shown.err
