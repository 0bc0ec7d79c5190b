"""`hub serve` as an operator meets it: TLS with an authority of one's own, a taken port, files that are not there."""

import datetime
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.hub.running import free_port
from yunhe.core.errors import Unavailable
from yunhe.sdk import Client

YUNHE = [sys.executable, "-c", "import sys; from yunhe.cli.main import main; sys.exit(main())"]


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hub")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, key_file = folder / "hub.pem", folder / "hub.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    no_password = serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password))
    return pem, key_file


def _serve(folder: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*YUNHE, "hub", "serve", "--data-dir", str(folder / "hub"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "YUNHE_DATABASE_URL": ""},
    )


def test_clients_trust_an_authority_of_the_networks_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem, key_file = _certificate(tmp_path)
    port = free_port()
    hub = _serve(tmp_path, "--port", str(port), "--tls-certificate", str(pem), "--tls-key", str(key_file))
    url = f"https://127.0.0.1:{port}"
    try:
        monkeypatch.setenv("YUNHE_CA_FILE", str(pem))
        until = time.monotonic() + 60
        while True:
            try:
                key = (tmp_path / "hub" / "operator.key").read_text().strip()
                with Client(url, key, retries=0) as client:
                    assert client.whoami().role == "operator"
                break
            except (OSError, Unavailable):
                assert time.monotonic() < until
                time.sleep(0.1)
        monkeypatch.delenv("YUNHE_CA_FILE")
        with Client(url, key, retries=0) as client, pytest.raises(Unavailable) as refusal:
            client.whoami()
        assert "YUNHE_CA_FILE" in refusal.value.hint
    finally:
        hub.send_signal(signal.SIGINT)
        said, _ = hub.communicate(timeout=30)
    assert "Traceback" not in said


def test_a_taken_port_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        hub = _serve(tmp_path, "--port", str(other.getsockname()[1]))
        said, _ = hub.communicate(timeout=60)
    assert hub.returncode == 3
    assert "is taken" in said and "--port" in said and "Traceback" not in said
    assert not (tmp_path / "hub" / "operator.key").exists()


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    hub = _serve(tmp_path, "--port", "0", "--tls-certificate", "nowhere.pem", "--tls-key", "nowhere.key")
    said, _ = hub.communicate(timeout=60)
    assert hub.returncode == 2
    assert "tls_certificate: nowhere.pem cannot be read" in said and "Traceback" not in said
