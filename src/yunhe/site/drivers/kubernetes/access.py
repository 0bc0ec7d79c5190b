"""How the API server is reached, and as whom: a kubeconfig, or the service account of the agent's own pod.

Nothing of it is ever logged, and credentials stay where they are: they are read, not copied.
"""

import base64
import binascii
import json
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from yunhe.core.errors import InvalidInput

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Access:
    """`token_file` is read again for every request: tokens of service accounts change every hour."""

    server: str
    tls: ssl.SSLContext = field(repr=False)
    token: str = field(default="", repr=False)
    token_file: Path | None = None

    def headers(self) -> dict[str, str]:
        token = self.token_file.read_text().strip() if self.token_file else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}

    def account(self) -> tuple[str, str] | None:
        """Namespace and name of the service account whose token this is, as the token itself says; else None."""
        token = self.headers().get("Authorization", "").removeprefix("Bearer ")
        try:
            part = token.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            kind, who, namespace, name = str(claims["sub"]).split(":")
        except (IndexError, KeyError, TypeError, ValueError):
            return None
        return (namespace, name) if (kind, who) == ("system", "serviceaccount") else None


def find(kubeconfig: Path | None, context: str | None) -> Access:
    """Raises InvalidInput for a configuration that is missing, incomplete, or of a kind that is not supported."""
    path = kubeconfig or next((p for p in _usual() if p.exists()), None)
    if path is not None:
        return _from_file(path, context)
    if (ACCOUNT / "token").exists():
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        tls = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        return Access(f"https://{f'[{host}]' if ':' in host else host}:{port}", tls, token_file=ACCOUNT / "token")
    raise InvalidInput("there is no kubeconfig", field="kubernetes.kubeconfig", hint="--kubeconfig, or $KUBECONFIG")


def _usual() -> list[Path]:
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)
    return [*(Path(name) for name in named if name), Path.home() / ".kube" / "config"]


def _from_file(path: Path, context: str | None) -> Access:
    try:
        text = path.read_bytes()
        config = yaml.safe_load(text) if len(text) <= MAX_CONFIG_BYTES else None
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}", field="kubernetes.kubeconfig") from error
    except yaml.YAMLError as error:
        # Not the error's own text: it quotes lines, and these may hold a token.
        raise InvalidInput(f"{path} is not YAML", field="kubernetes.kubeconfig") from error
    if not isinstance(config, dict):
        raise InvalidInput(f"{path} is not a kubeconfig", field="kubernetes.kubeconfig")
    name = context or config.get("current-context") or ""
    chosen = _named(config, "contexts", "context", name)
    cluster = _named(config, "clusters", "cluster", str(chosen.get("cluster", "")))
    user = _named(config, "users", "user", str(chosen.get("user", "")))
    return _access(cluster, user, path.parent)


def _named(config: dict[str, Any], many: str, one: str, name: str) -> dict[str, Any]:
    for entry in config.get(many) or ():
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(one), dict):
            found: dict[str, Any] = entry[one]
            return found
    raise InvalidInput(f"the kubeconfig has no {one} {name!r}", field="kubernetes.context", hint="--context NAME")


def _access(cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> Access:
    server = str(cluster.get("server", ""))
    if not server.startswith("https://"):
        raise InvalidInput("the cluster's server is not an https:// address", field="kubernetes.kubeconfig")
    if cluster.get("insecure-skip-tls-verify"):
        raise InvalidInput(
            "insecure-skip-tls-verify is not supported: anybody on the way could read the token",
            field="kubernetes.kubeconfig",
            hint="put the cluster's certificate-authority into the kubeconfig",
        )
    for kind in ("exec", "auth-provider", "username"):
        if kind in user:
            raise InvalidInput(
                f"the user's {kind!r} is not supported",
                field="kubernetes.kubeconfig",
                hint="use the token of a service account: deploy/kubernetes",
            )
    tls = _tls(cluster, user, folder)
    token_file = user.get("tokenFile")
    return Access(server.rstrip("/"), tls, str(user.get("token", "")), folder / token_file if token_file else None)


def _tls(cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> ssl.SSLContext:
    ca = _pem(cluster, "certificate-authority", folder)
    certificate, key = _pem(user, "client-certificate", folder), _pem(user, "client-key", folder)
    try:
        tls = ssl.create_default_context(cadata=ca.decode() if ca else None)
        if certificate and key:
            # The library reads these from files only; the folder is the owner's alone and gone right after.
            with tempfile.TemporaryDirectory() as safe:
                for name, pem in (("certificate", certificate), ("key", key)):
                    with open(os.open(f"{safe}/{name}", os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
                        file.write(pem)
                tls.load_cert_chain(f"{safe}/certificate", f"{safe}/key")
    except (ssl.SSLError, ValueError) as error:
        raise InvalidInput("a certificate or key cannot be used", field="kubernetes.kubeconfig") from error
    return tls


def _pem(entry: dict[str, Any], name: str, folder: Path) -> bytes:
    """From NAME-data (base64) or the file NAME; empty where there is neither."""
    try:
        if data := entry.get(f"{name}-data"):
            return base64.b64decode(str(data), validate=True)
        return (folder / str(entry[name])).read_bytes() if entry.get(name) else b""
    except (OSError, binascii.Error) as error:
        raise InvalidInput(f"{name} cannot be read", field="kubernetes.kubeconfig") from error
