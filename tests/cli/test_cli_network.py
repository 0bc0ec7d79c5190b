"""The command line as a newcomer meets it: `yunhe up` in a folder, and real work in that folder, without any setup."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

YUNHE = [sys.executable, "-m", "yunhe.cli.main"]
START_S = 110.0  # three sites measure themselves, one at a time


@dataclass(frozen=True)
class Newcomer:
    """Somebody at a shell in a folder, with a configuration of their own."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*YUNHE, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def yunhe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    """Runs command lines in a folder with a running network, which stops in order afterwards."""
    folder = tmp_path_factory.mktemp("newcomer")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("YUNHE_")}
    newcomer = Newcomer(folder, environment | {"XDG_CONFIG_HOME": str(tmp_path_factory.mktemp("config"))})
    log = folder / "up.log"
    with log.open("wb") as output:
        network = subprocess.Popen([*YUNHE, "up"], cwd=folder, env=newcomer.environment, stdout=output, stderr=output)
    try:
        end = time.monotonic() + START_S
        while "network is up" not in log.read_text():
            assert network.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield newcomer
        network.send_signal(signal.SIGTERM)
        assert network.wait(30) == 0, log.read_text()
        assert not (folder / ".yunhe" / "client.toml").exists()
        assert newcomer("--url", "http://127.0.0.1:1", "orders").returncode == 5
    finally:
        network.kill()
        network.wait(10)


@pytest.mark.timeout(240)
def test_a_first_order_in_one_line(yunhe: Newcomer) -> None:
    done = yunhe("submit", "--cores", "0.1", "--budget", "1CNY", "--follow", "--", "python3", "-c", "print(6 * 7)")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "42\n"
    assert "succeeded after" in done.stderr
    assert "charged" in done.stderr


@pytest.mark.timeout(240)
def test_each_attempt_has_its_log_and_a_followed_log_has_all(yunhe: Newcomer) -> None:
    (yunhe.folder / "broken.py").write_text("import os, sys\nprint('try', os.getpid() and 'x' * 50)\nsys.exit(3)\n")
    done = yunhe("submit", "--cores", "0.1", "--retries", "1", "--follow", "--", "python3", "broken.py")
    assert done.returncode == 1
    assert done.stdout.count("try xxx") == 2
    assert "exit code 3" in done.stderr
    order_id = json.loads(yunhe("orders", "--limit", "1", "--json").stdout)["orders"][0]["id"]
    for attempt in ("1", "2"):
        assert yunhe("logs", order_id, "--attempt", attempt).stdout.count("try xxx") == 1
    late = yunhe("logs", order_id, "--attempt", "3")
    assert (late.returncode, "attempt" in late.stderr) == (4, True)


@pytest.mark.timeout(240)
def test_outputs_of_an_array_come_into_a_folder_per_task(yunhe: Newcomer) -> None:
    folder = yunhe.folder
    (folder / "squares.py").write_text("open('out.json', 'w').write('[1, 4, 9]')\n")
    done = yunhe(
        *("submit", "--cores", "0.1", "--array", "3", "--output", "out.json", "--wait", "--json"),
        *("--", "python3", "squares.py"),
    )
    assert done.returncode == 0, done.stderr
    order_id = json.loads(done.stdout)["orders"][0]["id"]
    got = yunhe("outputs", "get", order_id, "--to", "results")
    assert got.returncode == 0, got.stderr
    found = sorted((folder / "results").rglob("out.json"))
    assert len(found) == 3
    assert {path.read_text() for path in found} == {"[1, 4, 9]"}
    assert yunhe("outputs", "get", order_id, "--to", "results").returncode == 3
    assert yunhe("outputs", "get", order_id, "--to", "results", "--force").returncode == 0
    charges = json.loads(yunhe("usage", order_id, "--json").stdout)["charges"]
    assert len(charges) == 3
    assert not any(charge["disputed"] for charge in charges)


@pytest.mark.timeout(240)
def test_a_killed_job_says_why_in_words(yunhe: Newcomer) -> None:
    program = "x = bytearray(400 * 2**20); print(sum(x[::4096]))"
    done = yunhe("submit", "--cores", "0.1", "--memory", "64MiB", "--wait", "--", "python3", "-c", program)
    assert done.returncode == 1
    assert "killed at its memory limit" in done.stderr


@pytest.mark.timeout(240)
def test_an_order_for_later_is_booked_and_begins_then(yunhe: Newcomer) -> None:
    small = ("submit", "--cores", "0.1", "--duration", "1m")
    program = ("--", "python3", "-c", "print(6 * 7)")
    assert yunhe(*small, "--start-at", "in 1h", *program).returncode == 0
    order_id = json.loads(yunhe("orders", "--limit", "1", "--json").stdout)["orders"][0]["id"]
    shown = yunhe("show", order_id).stdout
    assert re.search(r"booked +at \S+ from 20\S+ \S+Z to 20\S+ \S+Z", shown), shown
    assert "booked at" in yunhe("why", order_id).stdout
    assert "withdrawn" in yunhe("cancel", order_id).stdout
    done = yunhe(*small, "--start-at", "in 2s", "--wait", *program)
    assert done.returncode == 0, done.stderr
    assert re.search(r"booked +\S+ from 20", yunhe("show", "last").stdout)
    assert yunhe("logs", "last").stdout == "42\n"


@pytest.mark.timeout(240)
def test_a_second_network_in_the_folder_is_refused(yunhe: Newcomer) -> None:
    done = yunhe("up")
    assert done.returncode == 3
    assert "runs in this folder already" in done.stderr
