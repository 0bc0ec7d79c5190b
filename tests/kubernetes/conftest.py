"""The tests named test_live_* need a real Kubernetes (tools/build-kubernetes.sh); without it they are not collected."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import kubernetes
from tests.kubernetes.kube_harness import KubeHarness, install

WHY_NOT = kubernetes.missing()
if WHY_NOT:
    collect_ignore_glob = ["test_live_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if WHY_NOT:
        terminalreporter.write_line(f"NOT RUN: tests/kubernetes/test_live_*.py: {WHY_NOT}")


@pytest.fixture(scope="session")
def cluster() -> Iterator[kubernetes.Cluster]:
    """A real control plane with three nodes that run processes, for all tests of the session."""
    with tempfile.TemporaryDirectory(prefix="yunhe-kube-") as folder:
        made = kubernetes.Cluster(Path(folder), kubernetes.Shape(metrics=True))
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="session")
def kubeconfig(cluster: kubernetes.Cluster) -> Path:
    return install(cluster)


@pytest.fixture
def kube(cluster: kubernetes.Cluster, kubeconfig: Path, tmp_path: Path) -> Iterator[KubeHarness]:
    made = KubeHarness(cluster, kubeconfig, tmp_path)
    yield made
    made.close()


@pytest.fixture
def harness(cluster: kubernetes.Cluster, kubeconfig: Path, tmp_path: Path) -> Iterator[KubeHarness]:
    """For the contract suite: a site that shares a folder with its nodes, so that there are outputs."""
    shared = tmp_path / "shared"
    shared.mkdir()
    made = KubeHarness(cluster, kubeconfig, tmp_path, shared_dir=shared, shared_volume=f"host:{shared}")
    yield made
    made.close()
