"""A private Kubernetes: etcd, a real API server, controller manager and scheduler, and the test kubelet. One host, one
folder, 127.0.0.1 alone, certificates of its own."""

import datetime
import ipaddress
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).parents[2]
FOLDER_VARIABLE = "YUNHE_KUBERNETES_BIN"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
BUILD = "tools/build-kubernetes.sh (make test-kubernetes does that)"
UP_S, STOP_S = 60.0, 10.0
CONTROLLERS = (
    "job,namespace,garbagecollector,resourcequota,ttl-after-finished,podgc,nodelifecycle,serviceaccount,"
    "serviceaccount-token,root-ca-cert-publisher"
)


def binaries() -> Path:
    """Where the programs are built to; see tools/build-kubernetes.sh."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yunhe" / "kubernetes" / "bin"
    return Path(os.environ.get(FOLDER_VARIABLE) or default)


def missing() -> str:
    """Why Kubernetes cannot be started here; empty when it can."""
    lacking = [name for name in PROGRAMS if not os.access(binaries() / name, os.X_OK)]
    if lacking:
        return f"{', '.join(lacking)} not in {binaries()}: {BUILD}"
    for program, package in (("etcd", "etcd-server"), ("bwrap", "bubblewrap")):
        if shutil.which(program) is None:
            return f"{program} is not installed: sudo apt-get install -y --no-install-recommends {package}"
    return ""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the nodes claim to be. `cards`: a resource and how many each node has."""

    nodes: int = 3
    cpus: int = 8
    memory_mib: int = 16_000
    cards: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    metrics: bool = False


class Cluster:
    """`start`, use, `stop`. Raises RuntimeError when a part does not come up."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.folder, self.shape = folder, shape
        self.etcd_port, self.peer_port, self.port, self.cm_port, self.scheduler_port = _free_ports(5)
        self.server = f"https://127.0.0.1:{self.port}"
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.kubeconfig = folder / "admin.kubeconfig"
        self.nodes = [f"n{i + 1}" for i in range(shape.nodes)]
        self._tls: ssl.SSLContext | None = None

    # --- start and stop -----------------------------------------------------------------------------------------

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "kubelet").mkdir()
        self._certificates()
        self.start_etcd()
        self.start_server()
        kubeconfig = f"--kubeconfig={self.kubeconfig}"
        common = [
            kubeconfig, f"--authentication-{kubeconfig[2:]}", f"--authorization-{kubeconfig[2:]}", "--port=0",
            "--bind-address=127.0.0.1", "--leader-elect=false", "--kube-api-qps=200", "--kube-api-burst=400",
        ]  # fmt: skip
        self._run(
            "kube-controller-manager", *common, f"--secure-port={self.cm_port}", f"--cert-dir={self.folder}/cm",
            f"--service-account-private-key-file={self.folder}/sa.key", f"--root-ca-file={self.folder}/ca.crt",
            f"--controllers={CONTROLLERS}", "--feature-gates=TTLAfterFinished=true", "--node-monitor-period=1s",
            "--node-monitor-grace-period=4s", "--concurrent-gc-syncs=4",
        )  # fmt: skip
        self._run("kube-scheduler", *common, f"--secure-port={self.scheduler_port}", f"--cert-dir={self.folder}/sch")
        if self.shape.metrics:
            self.apply(custom("metrics.k8s.io", "v1beta1", "PodMetrics", "pods"))
        self.start_kubelet()
        self.until(lambda: len(self._ready_nodes()) == len(self.nodes), "have its nodes ready")

    def start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.peer_port}"
        self._run(
            "etcd", f"--data-dir={self.folder}/etcd", f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}", "--unsafe-no-fsync",
        )  # fmt: skip

    def start_server(self) -> None:
        folder = self.folder
        self._run(
            "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self.etcd_port}", f"--secure-port={self.port}",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--insecure-port=0",
            f"--tls-cert-file={folder}/server.crt", f"--tls-private-key-file={folder}/server.key",
            f"--client-ca-file={folder}/ca.crt", "--service-cluster-ip-range=10.99.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={folder}/sa.key", f"--service-account-signing-key-file={folder}/sa.key",
            "--authorization-mode=RBAC", "--feature-gates=TTLAfterFinished=true",
            "--kubelet-preferred-address-types=InternalIP", "--default-not-ready-toleration-seconds=2",
            "--default-unreachable-toleration-seconds=2", "--watch-cache=true", "--event-ttl=10m",
            f"--kubelet-client-certificate={folder}/admin.crt", f"--kubelet-client-key={folder}/admin.key",
        )  # fmt: skip
        self.until(self._up, "answer")

    def start_kubelet(self) -> None:
        shape, folder = self.shape, self.folder
        settings = {
            "server": self.server, "ca": f"{folder}/ca.crt", "certificate": f"{folder}/admin.crt",
            "key": f"{folder}/admin.key", "folder": f"{folder}/kubelet", "nodes": self.nodes, "cpus": shape.cpus,
            "memory_mib": shape.memory_mib, "cards": dict(shape.cards), "labels": dict(shape.labels),
            "tls": [f"{folder}/server.crt", f"{folder}/server.key"], "metrics": shape.metrics,
        }  # fmt: skip
        (folder / "kubelet.json").write_text(json.dumps(settings))
        self._run("kubelet", f"{folder}/kubelet.json")

    def _run(self, name: str, *arguments: str) -> None:
        program = {
            "etcd": [shutil.which("etcd") or "etcd"],
            "kubelet": [sys.executable, str(Path(__file__).with_name("kubelet.py"))],
        }.get(name, [str(binaries() / name)])
        with open(self.folder / f"{name}.log", "ab") as output:
            self.running[name] = subprocess.Popen(
                [*program, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def end(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        process = self.running.pop(name)
        process.send_signal(how)
        process.wait(STOP_S)

    def stop(self) -> None:
        """Every process that was started, by its number."""
        for name in list(self.running):
            if name == "kubelet":
                self.end(name)
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait(STOP_S)
        self.running.clear()

    # --- certificates -------------------------------------------------------------------------------------------

    def _certificates(self) -> None:
        authority = _key(self.folder / "ca.key")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "yunhe-test")])
        ca = _certificate(self.folder / "ca.crt", name, authority, name, authority, authority=True)
        for role, organisation in (("server", "server"), ("admin", "system:masters")):
            subject = x509.Name(
                [
                    x509.NameAttribute(NameOID.COMMON_NAME, role),
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
                ]
            )
            _certificate(self.folder / f"{role}.crt", subject, _key(self.folder / f"{role}.key"), ca.subject, authority)
        _key(self.folder / "sa.key")
        user = {"client-certificate": "admin.crt", "client-key": "admin.key"}
        self.write_kubeconfig(self.kubeconfig, user)

    def write_kubeconfig(self, path: Path, user: dict[str, Any]) -> None:
        cluster = {"server": self.server, "certificate-authority": str(self.folder / "ca.crt")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "user", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
            "current-context": "test",
        }
        path.write_text(json.dumps(config))  # JSON is YAML
        path.chmod(0o600)

    # --- use ----------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> dict[str, Any]:
        """As the cluster's administrator. Raises urllib.error.HTTPError."""
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
            self._tls.load_cert_chain(self.folder / "admin.crt", self.folder / "admin.key")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server + path, method=method, data=data, headers={"Content-Type": kind})
        with urllib.request.urlopen(request, context=self._tls, timeout=30) as answer:
            value: dict[str, Any] = json.loads(answer.read())
            return value

    def apply(self, body: Mapping[str, Any]) -> None:
        """Make an object of a kind without a namespace, or of the one it names; one that is there is left."""
        kinds = {"ServiceAccount": "serviceaccounts", "Namespace": "namespaces", "ClusterRole": "clusterroles"}
        kinds |= {"ClusterRoleBinding": "clusterrolebindings", "CustomResourceDefinition": "customresourcedefinitions"}
        version, namespace = body["apiVersion"], body["metadata"].get("namespace")
        base = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        path = f"{base}/namespaces/{namespace}" if namespace else base
        try:
            self.call("POST", f"{path}/{kinds[body['kind']]}", body)
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise RuntimeError(error.read().decode()) from error

    def _up(self) -> bool:
        if self.running["kube-apiserver"].poll() is not None:
            raise RuntimeError(f"kube-apiserver ended: see {self.folder}/kube-apiserver.log")
        try:
            return self.call("GET", "/api/v1/namespaces/default")["status"]["phase"] == "Active"
        except OSError:  # also of a server that answers that it is not ready
            return False

    def _ready_nodes(self) -> list[str]:
        nodes = self.call("GET", "/api/v1/nodes")["items"]
        return [
            node["metadata"]["name"]
            for node in nodes
            if not node["spec"].get("taints")
            and any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ()))
        ]

    def silence(self, node: str) -> None:
        (self.folder / "kubelet" / f"silent-{node}").touch()

    def unsilence(self, node: str) -> None:
        (self.folder / "kubelet" / f"silent-{node}").unlink(missing_ok=True)
        self.until(lambda: len(self._ready_nodes()) == len(self.nodes), "have its nodes ready")

    def until(self, reached: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + UP_S
        while not reached():
            if time.monotonic() > until:
                raise RuntimeError(f"Kubernetes did not {what} in {UP_S:.0f} s; logs are in {self.folder}")
            time.sleep(0.05)


def custom(group: str, version: str, kind: str, plural: str) -> dict[str, Any]:
    """A custom resource that takes anything, in the place of an add-on that is not installed here."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests alone"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


def _key(path: Path) -> rsa.RSAPrivateKey:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    )
    path.chmod(0o600)
    return key


def _certificate(
    path: Path,
    subject: x509.Name,
    key: rsa.RSAPrivateKey,
    issuer: x509.Name,
    signer: rsa.RSAPrivateKey,
    *,
    authority: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if not authority:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        made = made.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    certificate = made.sign(signer, hashes.SHA256())
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
