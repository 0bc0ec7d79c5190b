"""The command line against a real hub: a process of its own, started by `yunhe hub serve`, without any site."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from yunhe.core.errors import IdempotencyConflict, Unavailable
from yunhe.sdk import Client, Order, Requirement
from yunhe.sdk import Run as Job
from yunhe.wire.api import OrganisationRequest

START_S = 60.0
YUNHE = [sys.executable, "-m", "yunhe.cli.main"]


@dataclass(frozen=True)
class Hub:
    url: str
    operator: str
    customer: str


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    data = tmp_path_factory.mktemp("hub")
    port = free_port()
    made = subprocess.run([*YUNHE, "hub", "init", "--data-dir", data], capture_output=True, timeout=60, check=True)
    assert str(data / "operator.key").encode() in made.stdout
    key = (data / "operator.key").read_text().strip()
    with (data / "log").open("wb") as log:
        environment = os.environ | {"YUNHE_PORT": str(port)}
        process = subprocess.Popen(
            [*YUNHE, "hub", "serve", "--data-dir", data], stdout=log, stderr=log, env=environment
        )
    try:
        url = f"http://127.0.0.1:{port}"
        with Client(url, key, retries=0) as client:
            wait_until_up(client, process, data / "log")
            client.create_organisation(OrganisationRequest(id="acme", name="Acme"))
            client.deposit("acme", "10CNY", "first")
            customer = client.create_key("acme", "li.wei", "customer").key
        yield Hub(url, key, customer)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait(10)


def wait_until_up(client: Client, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            client.whoami()
            return
        except Unavailable:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)


@pytest.fixture
def customer(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("YUNHE_URL", hub.url)
    monkeypatch.setenv("YUNHE_API_KEY", hub.customer)
    return hub


@pytest.fixture
def operator(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("YUNHE_URL", hub.url)
    monkeypatch.setenv("YUNHE_API_KEY", hub.operator)
    return hub


def test_an_order_from_submit_to_withdrawn(customer: Hub, yunhe: Run, folder: Path) -> None:
    (folder / "job.py").write_text("print(42)\n")
    options = ("--compute", "0.05TFLOPS@fp64", "--latency", "20ms:shanghai", "--budget", "2CNY")
    placed = yunhe("submit", *options, "--", "python3", "job.py")
    assert placed.code == 0
    order_id = placed.out.split()[0]
    assert re.fullmatch(r"ord_[0-9a-f]+", order_id)
    assert "at most 2.00CNY (held)" in placed.out
    assert f"yunhe why {order_id}" in placed.err
    assert "2.00CNY" in yunhe("balance").out

    shown = json.loads(yunhe("show", order_id, "--json").out)
    assert shown["spec"]["run"]["command"] == ["python3", "job.py"]
    assert shown["state"] == "open"
    assert "no site" in yunhe("why", order_id).out
    assert yunhe("wait", order_id, "--timeout", "100ms").code == 124

    assert yunhe("cancel", order_id).out == f"{order_id} withdrawn\n"
    assert yunhe("cancel", order_id).code == 0
    waited = yunhe("wait", order_id)
    assert waited.code == 1
    assert "withdrawn" in waited.out
    assert yunhe("logs", "-f", order_id).out == ""
    assert yunhe("outputs", "get", order_id).code == 4
    assert json.loads(yunhe("balance", "--json").out)["held_microcny"] == 0
    assert order_id in yunhe("orders", "--state", "withdrawn").out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("submit", "--latency", "20ms:shangai", "--", "ls"), 2, "did you mean 'shanghai'?"),
        (("submit", "--compute", "5TFLOPS", "--", "ls"), 2, "error: requirement.compute: compute needs a precision"),
        (("submit", "--budget", "2RMB", "--", "ls"), 2, "did you mean 'CNY'?"),
        (("submit", "--cores", "1", "--cards", "1", "--", "ls"), 2, "use exactly one of"),
        (("submit", "--budget", "11CNY", "--", "ls"), 3, "error: "),
        (("show", "ord_0"), 4, "not known"),
        (("org", "create", "x"), 4, "operator"),
        (("ledger", "trial-balance"), 4, "operator"),
        (("invoice", "2026-13"), 2, "not a month"),
        (("site", "show", "nowhere"), 4, "nowhere"),
    ],
)
def test_what_the_hub_refuses_is_one_line_and_a_way_out(
    arguments: tuple[str, ...], code: int, says: str, customer: Hub, yunhe: Run
) -> None:
    shown = yunhe(*arguments)
    assert shown.code == code, shown
    assert shown.out == ""
    assert says in shown.err
    assert len(shown.err.splitlines()) <= 2


def test_a_wrong_key_says_how_to_log_in(customer: Hub, yunhe: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUNHE_API_KEY", "yk_wrong")
    shown = yunhe("orders")
    assert shown.code == 4
    assert "yunhe login" in shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("orders",),
        ("pools",),
        ("chips",),
        ("clusters",),
        ("factors",),
        ("places",),
        ("lines",),
        ("status",),
        ("balance",),
        ("invoice", "2026-11"),
        ("ledger", "trial-balance"),
        ("ledger", "postings"),
        ("site", "list"),
        ("site", "token", "acme"),
        ("org", "list"),
        ("key", "list"),
        ("quote", "--cores", "1"),
        ("deposit", "acme", "10CNY", "--reference", "first"),
    ],
    ids=" ".join,
)
def test_every_listing_is_a_table_and_one_json_document(arguments: tuple[str, ...], operator: Hub, yunhe: Run) -> None:
    table = yunhe(*arguments)
    assert table.code == 0, table
    assert table.out.strip()
    document = yunhe(*arguments, "--json")
    assert isinstance(json.loads(document.out), dict)
    assert document.err == ""


def test_a_key_is_made_used_and_revoked(operator: Hub, yunhe: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = json.loads(yunhe("key", "create", "acme", "--member", "b", "--json").out)
    monkeypatch.delenv("YUNHE_API_KEY")
    monkeypatch.delenv("YUNHE_URL")
    assert yunhe("login", operator.url, "--api-key", made["key"]).code == 0
    assert yunhe("status").code == 0
    monkeypatch.setenv("YUNHE_URL", operator.url)
    monkeypatch.setenv("YUNHE_API_KEY", operator.operator)
    assert yunhe("key", "revoke", made["id"]).code == 0
    monkeypatch.delenv("YUNHE_API_KEY")
    monkeypatch.delenv("YUNHE_URL")
    assert yunhe("status").code == 4


def test_the_same_key_is_the_same_order_and_never_another(hub: Hub) -> None:
    with Client(hub.url, hub.customer) as client:
        order = Order(name="once", run=Job(command=("true",)), requirement=Requirement(cores=1), budget="0.10CNY")
        first = client.submit(order, idempotency_key="k-1")
        assert client.submit(order, idempotency_key="k-1").id == first.id
        with pytest.raises(IdempotencyConflict):
            client.submit(order.model_copy(update={"name": "twice"}), idempotency_key="k-1")
        many = [order.model_copy(update={"name": f"n{i}"}) for i in range(3)]
        ids = client.submit_batch(many, idempotency_key="k-2")
        assert client.submit_batch(many, idempotency_key="k-2") == ids
        assert [client.order(order_id).name for order_id in ids] == ["n0", "n1", "n2"]
        for order_id in (first.id, *ids):
            client.cancel(order_id)
        assert {client.wait(order_id, timeout=20).state for order_id in (first.id, *ids)} == {"withdrawn"}
        assert client.balance().held_microcny == 0
