"""`yunhe sim sweep --ray`: the runs go to a real Ray, and come back the same to the last byte."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Ran, Run
from tests.engines import ray
from tests.simulator.scenes import TEXT
from yunhe.cli.failure import OK, UNAVAILABLE, USAGE

DEARER = "price: {centre: west, compute: 50CNY/h}"


@pytest.fixture(scope="module")
def head() -> Iterator[ray.Head]:
    if why := ray.missing():
        pytest.skip(why)
    # Its sockets want a short path.
    with tempfile.TemporaryDirectory(prefix="yunhe-ray-") as folder:
        made = ray.Head(Path(folder), ray.Shape(cpus=2, memory_bytes=2_000_000_000))
        try:
            made.start()
            yield made
        finally:
            made.stop()


def sweep(scenario: Path, out: str, address: str, token: str, *more: str) -> Ran:
    """In a process of its own: Ray leaves threads behind."""
    command = [sys.executable, "-m", "yunhe.cli.main", "sim", "sweep", str(scenario), "--out", out, "--seeds", "1-2"]
    # The head of the test listens on 127.0.0.1 alone, which Ray takes for another address of the machine otherwise.
    ray_says = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    done = subprocess.run(
        [*command, "--ray", address, *more],
        env={**os.environ, **ray_says},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def test_a_sweep_on_a_cluster_is_the_sweep_here(head: ray.Head, folder: Path, yunhe: Run) -> None:
    scenario = folder / "three.yaml"
    scenario.write_text(TEXT)
    there = sweep(scenario, "there", head.cluster_address, head.token, "--json", "--what-if", DEARER)
    assert there.code == OK, there.err
    assert "4/4" in there.err
    here = yunhe("sim", "sweep", str(scenario), "--out", "here", "--seeds", "1-2", "--json", "--what-if", DEARER)
    assert there.out == here.out
    runs = sorted(path.relative_to("here") for path in Path("here").rglob("result.json"))
    assert len(runs) == 4
    assert all((Path("there") / run).read_bytes() == (Path("here") / run).read_bytes() for run in runs)
    # They are tasks of that cluster.
    assert "_result_of" in head.get("/api/v0/tasks").text
    # What is there already is not run again.
    stamps = {path: path.stat().st_mtime_ns for path in Path("there").rglob("result.json")}
    again = sweep(scenario, "there", head.cluster_address, head.token, "--json", "--what-if", DEARER)
    assert again.out == there.out
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_what_a_run_there_refuses_is_said_here(head: ray.Head, folder: Path) -> None:
    scenario = folder / "three.yaml"
    scenario.write_text(
        TEXT.replace("fitted: {like: venus, jobs_per_day: 800}", "trace: {format: venus, path: no.csv}")
    )
    ran = sweep(scenario, "out", head.cluster_address, head.token)
    assert ran.code == USAGE, ran.err
    assert "no.csv: cannot be read" in ran.err and "Traceback" not in ran.err


def test_a_cluster_that_does_not_answer_is_named(folder: Path) -> None:
    scenario = folder / "three.yaml"
    scenario.write_text(TEXT)
    ran = sweep(scenario, "out", "127.0.0.1:9", "none")
    assert ran.code == UNAVAILABLE, ran.err
    assert "127.0.0.1:9" in ran.err and "Traceback" not in ran.err
    assert sweep(scenario, "out", "nonsense", "none").code == USAGE
