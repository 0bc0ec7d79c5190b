"""Credentials, quantities, supply and logs. No cluster."""

import base64
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.harness import QUICK
from yunhe.cli.engine_kubernetes import KubernetesOptions
from yunhe.cli.engines import Engine
from yunhe.core.errors import InvalidInput
from yunhe.site.drivers.kubernetes import access
from yunhe.site.drivers.kubernetes.logs import _Lines, _Mark
from yunhe.site.drivers.kubernetes.supply import check_settings, held_by_others, pools
from yunhe.site.drivers.kubernetes.views import Claim, NodeView, quantity, utc_ms
from yunhe.site.settings import KubernetesSettings

GIB = 1 << 30
TOKEN = "abc-secret-xyz"


# --- credentials ----------------------------------------------------------------------------------------------------


def kubeconfig(folder: Path, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> Path:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": {"token": TOKEN} if user is None else user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "config"
    path.write_text(json.dumps(config))
    return path


def test_a_token_is_sent_and_never_shown(tmp_path: Path) -> None:
    found = access.find(kubeconfig(tmp_path), None)
    assert found.server == "https://10.0.0.1:6443"
    assert found.headers() == {"Authorization": f"Bearer {TOKEN}"}
    assert TOKEN not in repr(found)


def test_a_token_file_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    found = access.find(kubeconfig(tmp_path, user={"tokenFile": "token"}), "x")
    assert found.headers()["Authorization"] == "Bearer first"
    (tmp_path / "token").write_text("second\n")
    assert found.headers()["Authorization"] == "Bearer second"


@pytest.mark.parametrize(
    "cluster, user, words",
    [
        ({"server": "http://10.0.0.1"}, None, "https://"),
        ({"insecure-skip-tls-verify": True}, None, "insecure-skip-tls-verify"),
        ({"certificate-authority-data": "!!"}, None, "certificate-authority"),
        ({"certificate-authority-data": base64.b64encode(b"x").decode()}, None, "cannot be used"),
        ({}, {"exec": {"command": "aws"}}, "'exec' is not supported"),
        ({}, {"username": "a", "password": TOKEN}, "not supported"),
        ({}, {"client-certificate": "nowhere", "client-key": "nowhere"}, "client-certificate cannot be read"),
    ],
)
def test_what_is_refused_and_why(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any] | None, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        access.find(kubeconfig(tmp_path, cluster, user), None)
    assert TOKEN not in str(caught.value)


def test_a_file_that_is_not_yaml_is_not_quoted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "config"
    path.write_text(f"token: [{TOKEN}")
    with pytest.raises(InvalidInput) as caught:
        access.find(path, None)
    assert TOKEN not in str(caught.value) + caplog.text


def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no context 'y'"):
        access.find(kubeconfig(tmp_path), "y")


def test_whose_token_it_is(tmp_path: Path) -> None:
    claims = base64.urlsafe_b64encode(b'{"sub": "system:serviceaccount:yunhe-system:yunhe-agent"}').decode().rstrip("=")
    found = access.find(kubeconfig(tmp_path, user={"token": f"e30.{claims}.sig"}), None)
    assert found.account() == ("yunhe-system", "yunhe-agent")
    assert access.find(kubeconfig(tmp_path), None).account() is None


# --- quantities and supply --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, value",
    [("250m", 0.25), ("2", 2), ("64Gi", 64 * GIB), ("1e3", 1000), ("1k", 1000), ("500n", 5e-7), ("", 0), ("odd", 0)],
)
def test_quantities(text: str, value: float) -> None:
    assert float(quantity(text)) == pytest.approx(value)


def test_times() -> None:
    assert utc_ms("2026-01-01T00:00:01Z") - utc_ms("2026-01-01T00:00:00Z") == 1000
    assert utc_ms(None) == utc_ms("") == utc_ms("0001-01-01T00:00:00Z") == 0


def node(name: str, cards: dict[str, str] | None = None, ready: str = "True", **spec: Any) -> NodeView:
    labels = {"nvidia.com/gpu.product": "NVIDIA-H20"} if cards and "nvidia.com/gpu" in cards else {}
    status = {
        "allocatable": {"cpu": "64", "memory": "512Gi", **(cards or {})},
        "conditions": [{"type": "Ready", "status": ready}],
    }
    return NodeView.of(
        {"metadata": {"name": name, "labels": {**labels, "lend": "yes"}}, "spec": spec, "status": status}
    )


def test_each_core_and_card_counts_once() -> None:
    cpu, cards = pools([node("a", {"nvidia.com/gpu": "8"}), node("b")], KubernetesSettings(), QUICK)
    assert (cards.report.name, cards.report.chip, cards.report.stack) == ("nvidia-h20", "h20", "cuda")
    assert (cards.report.capacity_milli, cards.cores_per_card) == (8_000, 4)
    assert cpu.report.capacity_milli == (64 - 8 * 4 + 64) * 1000
    assert cpu.report.memory_bytes + cards.report.memory_bytes == 1024 * GIB


@pytest.mark.parametrize("device", ["huawei.com/Ascend910", "cambricon.com/mlu", "hygon.com/dcu", "amd.com/gpu"])
def test_every_vendors_device_is_a_pool_and_no_chip_is_guessed(device: str) -> None:
    cards = pools([node("a", {device: "8"})], KubernetesSettings(), QUICK)[1]
    assert (cards.device, cards.report.chip, cards.report.stack) == (device, "unknown", "unknown")


def test_a_stated_chip() -> None:
    settings = KubernetesSettings(chips=("huawei.com/Ascend910=ascend-910b3",))
    cards = pools([node("a", {"huawei.com/Ascend910": "8"})], settings, QUICK)[1]
    assert (cards.report.chip, cards.report.stack) == ("ascend-910b3", "cann")


def test_nodes_that_take_no_pods_are_not_offered() -> None:
    taint = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]
    away = [node("a", ready="False"), node("b", unschedulable=True), node("c", taints=taint)]
    assert pools(away, KubernetesSettings(), QUICK) == ()
    kept = node("d", {"nvidia.com/gpu": "8"}, taints=[{"key": "nvidia.com/gpu", "effect": "NoSchedule"}])
    (cards,) = pools([kept], KubernetesSettings(), QUICK)
    assert cards.device == "nvidia.com/gpu"
    assert pools([node("e")], KubernetesSettings(node_selector=("lend=no",)), QUICK) == ()


def pod(requests: dict[str, str], node_name: str = "a", phase: str = "Running", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "x", "resources": {"requests": requests}}]
    return {
        "metadata": {"name": "x", "uid": "u"},
        "spec": {"nodeName": node_name, "containers": containers, **spec},
        "status": {"phase": phase},
    }


def test_what_others_hold() -> None:
    nodes = [node("a", {"nvidia.com/gpu": "8"}), node("b")]
    told = pools(nodes, KubernetesSettings(), QUICK)
    first = [{"name": "i", "resources": {"requests": {"cpu": "9"}}}]
    claims = [
        Claim.of(pod({"cpu": "1500m", "memory": "1Gi"})),
        Claim.of(pod({"cpu": "2", "nvidia.com/gpu": "2", "memory": "8Gi"})),
        Claim.of(pod({"cpu": "1"}, node_name="b", initContainers=first)),
        Claim.of(pod({"cpu": "64"}, phase="Succeeded")),
        Claim.of(pod({"cpu": "64"}, node_name="")),
    ]
    cpu, cards = held_by_others(told, told, [claim for claim in claims if claim])
    assert (cpu.foreign_milli, cpu.foreign_memory_bytes) == (10_500, GIB)
    assert (cards.foreign_milli, cards.foreign_memory_bytes) == (2_000, 8 * GIB)
    gone = pools(nodes[1:], KubernetesSettings(), QUICK)
    cpu, cards = held_by_others(told, gone, [])
    assert (cpu.foreign_milli, cards.foreign_milli) == (32_000, 8_000)  # not there is not free


def test_settings_that_say_half() -> None:
    with pytest.raises(InvalidInput, match="go together"):
        check_settings(KubernetesSettings(shared_dir=Path("/x")))
    with pytest.raises(InvalidInput, match="no such processor"):
        check_settings(KubernetesSettings(cpu_chip="z80"))


# --- logs -----------------------------------------------------------------------------------------------------------


def line(fraction: str, text: str, zone: str = "Z") -> bytes:
    return f"2026-01-01T00:00:01{fraction}{zone} {text}\n".encode()


def test_each_line_is_taken_once() -> None:
    """The API gives everything of the last second again, and several lines may have one time."""
    mark = _Mark()
    first = line(".1", "a") + line(".2", "b") + line(".2", "c")
    lines = _Lines(mark, b"")
    assert lines.take(first[:40]) + lines.take(first[40:]) + lines.end() == b"a\nb\nc\n"
    again = _Lines(mark, b"")
    more = first + line(".2", "d") + line(".25", "e") + line(".3", "f")[:-1]
    assert again.take(more) + again.end() == b"d\ne\nf"
    assert _Lines(mark, b"").take(more + b"\n") == b""


def test_a_zone_and_a_rank() -> None:
    mark = _Mark()
    assert _Lines(mark, b"[1] ").take(line("", "x", "+08:00") + b"unable to retrieve container logs\n") == b"[1] x\n"
    assert (mark.second, mark.zone) == ("2026-01-01T00:00:01", "+08:00")


# --- the command line -------------------------------------------------------------------------------------------------


def test_options_make_settings_and_belong_to_their_engine() -> None:
    options = KubernetesOptions(
        None, "prod", "lent", (["lend=yes"], ["cpu=busybox"]), "host:/s", None, (["a=h20"], Path("/s"))
    )
    settings = options.settings(Engine.KUBERNETES)
    assert settings is not None and (settings.context, settings.namespace_prefix) == ("prod", "lent")
    assert (settings.images, settings.chips, settings.shared_dir) == (("cpu=busybox",), ("a=h20",), Path("/s"))
    with pytest.raises(InvalidInput, match="is for --engine kubernetes") as caught:
        options.settings(Engine.SLURM)
    assert caught.value.field == "--context"
    assert KubernetesOptions(None, None, None, (None, None), None, None, (["a=h20"], None)).settings(Engine.RAY) is None
    with pytest.raises(InvalidInput):
        KubernetesOptions(None, None, "Not A Label", (None, None), None, None, (None, None)).settings(Engine.KUBERNETES)
