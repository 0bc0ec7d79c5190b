"""The whole way: a cluster joined by the command line, an order placed on it, run, measured and settled."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.engines.kubernetes import Cluster
from tests.hub.running import RunningHub, running_hub
from tests.kubernetes.kube_harness import IMAGE
from yunhe.apps.children import Child


def join(hub: RunningHub, home: Path, *options: str) -> Any:
    hub.operator.post("/v1/organisations", json={"id": "centre", "name": "centre"})
    token = hub.operator.post("/v1/enrolment-tokens", json={"provider": "centre"}).json()["token"]
    words = ["join", hub.url, "--name", "hall", "--cluster", "zhangjiakou", "--token", token]
    words += ["--engine", "kubernetes", "--data-dir", str(home), *options]
    program = Path(sys.executable).with_name("yunhe")
    return subprocess.run([program, "site", *words], capture_output=True, text=True, timeout=60, check=False)


def test_an_order_from_join_to_charge(cluster: Cluster, kubeconfig: Path, tmp_path: Path) -> None:
    home = tmp_path / "hall"
    with running_hub(f"sqlite:///{tmp_path}/hub.db", tmp_path / "hub") as hub:
        wrong = join(hub, home, "--kubeconfig", str(kubeconfig), "--context", "elsewhere")
        assert wrong.returncode != 0 and "no context 'elsewhere'" in wrong.stderr and not (home / "site.toml").exists()
        joined = join(
            hub, home, "--kubeconfig", str(kubeconfig), "--context", "test",
            "--namespace-prefix", "yunhe-e2e", "--image", f"cpu={IMAGE}",
        )  # fmt: skip
        assert joined.returncode == 0, joined.stderr
        site_id = joined.stdout.split()[0]
        hub.operator.post(f"/v1/sites/{site_id}/approve", json={}).raise_for_status()
        agent = Child("hall", "yunhe.apps.site:main", ["--data-dir", str(home)], home / "agent.log", {})
        try:
            wait(agent, lambda: hub.operator.get(f"/v1/sites/{site_id}").json()["state"] == "active")
            customer = hub.customer()
            spec = {
                "requirement": {"cores": 1, "memory": "64MiB"},
                "duration": "1m",
                "run": {"command": ["sh", "-c", "cat hello.txt; sleep 2"], "files": {"hello.txt": "from the order\n"}},
            }
            order = customer.post("/v1/orders", json=spec).raise_for_status().json()["id"]
            ended: dict[str, Any] = {}

            def settled() -> bool:
                ended.update(customer.get(f"/v1/orders/{order}/wait", params={"timeout_ms": 5_000}).json())
                return bool(ended["settled"])

            wait(agent, settled)
            assert ended["state"] == "succeeded", (ended, agent.tail())
            used = customer.get(f"/v1/orders/{order}/usage").json()
            assert 1_000 <= used["usage"][-1]["wall_ms"] < 10_000 and used["usage"][-1]["sampled"]
            assert sum(charge["price"]["total_microcny"] for charge in used["charges"]) == ended["charged_microcny"] > 0
            found = cluster.call("GET", "/api/v1/namespaces")["items"]
            assert any(one["metadata"]["name"].startswith("yunhe-e2e-") for one in found)
        finally:
            agent.ask_to_stop()
            agent.wait(time.monotonic() + 10)


def wait(agent: Child, reached: Any) -> None:
    until = time.monotonic() + 60
    while not reached():
        agent.check()
        assert time.monotonic() < until, agent.tail()
        time.sleep(0.1)
