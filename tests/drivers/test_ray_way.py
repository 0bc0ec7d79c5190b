"""Orders on a Ray site, the whole way: the command line joins it, a real hub places, the agent's process runs it."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import ray
from tests.fakes.agent import order_json
from tests.hub.running import RunningHub, running_hub
from tests.site.conftest import SiteProcess, wait_for
from yunhe.apps import demo_engines
from yunhe.core.errors import InvalidInput

JSON = {"Content-Type": "application/json"}


def yunhe(head: ray.Head, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, where RAY_AUTH_TOKEN is set as for Ray's own commands."""
    return subprocess.run(
        [sys.executable, "-m", "yunhe.cli.main", *words],
        env=os.environ | {"RAY_AUTH_TOKEN": head.token},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RunningHub]:
    with running_hub(f"sqlite:///{tmp_path}/hub.db", tmp_path / "hub", poll_hold_ms=2_000) as running:
        yield running


@pytest.fixture
def site(hub: RunningHub, head: ray.Head, tmp_path: Path) -> Iterator[SiteProcess]:
    """Joined as a centre would, approved, measured by a job of its own, and active."""
    hub.operator.post("/v1/organisations", json={"id": "centre", "name": "centre"}).raise_for_status()
    token = hub.operator.post("/v1/enrolment-tokens", json={"provider": "centre"}).json()["token"]
    data_dir = tmp_path / "hall"
    words = ["site", "join", hub.url, "--name", "hall", "--token", token, "--cluster", "zhangjiakou"]
    words += ["--engine", "ray", "--address", head.address, "--data-dir", str(data_dir), "--json"]
    done = yunhe(head, *words)
    assert done.returncode == 0, done.stderr
    site_id = json.loads(done.stdout)["site_id"]
    hub.operator.post(f"/v1/sites/{site_id}/approve", json={}).raise_for_status()
    process = SiteProcess(data_dir).start()
    try:
        wait_for(lambda: hub.operator.get(f"/v1/sites/{site_id}").json()["state"] == "active", 90)
        yield process
    finally:
        process.stop()


@pytest.mark.timeout(300)  # a slow machine needs most of two minutes
def test_an_order_runs_on_ray_and_is_settled(
    hub: RunningHub, site: SiteProcess, head: ray.Head, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    customer = hub.customer()
    run = {"command": ["sh", "-c", f"echo $YUNHE_LEASE; env | grep -c RAY; echo once >> {witness}; sleep 2"]}
    order = customer.post("/v1/orders", content=order_json(run=run), headers=JSON).json()["id"]
    wait_for(witness.exists, 60)
    site.kill()  # its job goes on, and is taken up again
    site.start()
    view = customer.get(f"/v1/orders/{order}/wait", params={"timeout_ms": 60_000}).json()
    assert (view["state"], view["settled"]) == ("succeeded", True), view
    assert witness.read_text() == "once\n"
    assert customer.get(f"/v1/orders/{order}/logs").text == f"{order}.0.1\n0\n"
    [charge] = customer.get(f"/v1/orders/{order}/usage").json()["charges"]
    assert 0 < charge["price"]["total_microcny"] == view["charged_microcny"] <= view["hold_microcny"]
    assert hub.operator.get("/v1/stats").json()["usage_gaps"] == 0
    assert hub.operator.get("/v1/trial-balance").json()["balanced"]
    wait_for(lambda: not list((tmp_path / "hall" / "leases").iterdir()))
    kept = tmp_path / "hall" / "ray-token"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    elsewhere = [site.log, *(path for path in (tmp_path / "hall").rglob("*") if path.is_file() and path != kept)]
    assert not [path for path in elsewhere if head.token.encode() in path.read_bytes()]


def test_what_is_wrong_with_a_ray_site_is_said_before_the_token_is_used(head: ray.Head, tmp_path: Path) -> None:
    def join(*words: str) -> str:
        place = ["http://127.0.0.1:1", "--name", "hall", "--token", "t", "--data-dir", str(tmp_path / "x")]
        done = yunhe(head, "site", "join", *place, *words)
        assert done.returncode != 0 and head.token not in done.stderr
        return done.stderr

    assert "cannot be reached" in join("--engine", "ray", "--address", "http://127.0.0.1:9")
    assert "refuses the token" in join("--engine", "ray", "--address", head.address, "--ray-token", "0" * 64)
    assert "runtime_env" in join("--engine", "ray", "--runtime-env", "{")
    assert "--address" in join("--address", head.address)


def test_the_demo_says_at_once_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    [why] = demo_engines.missing(("process", "ray"))
    assert why.startswith("Ray is not installed: ") and "pip install" in why
    assert demo_engines.checked(("process", "slurm", "ray")) == ("process", "slurm", "ray")
    for wrong in ((), ("ray", "ray"), ("pbs",), ("process",) * 4):
        with pytest.raises(InvalidInput):
            demo_engines.checked(wrong)
