"""Secrets of orders, at rest: AES-256-GCM under a key of the hub that lies outside the database.

Whoever has only the database, or a backup of it, has nothing; so the file is backed up apart from it. Replicas share
the file as they share the hub's data folder. Without it the secrets of orders that wait are lost, and nothing else.
"""

import base64
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from yunhe.core.errors import Conflict, InvalidInput

KEY_FILE = "secrets.key"
KEY_BYTES = 32
NONCE_BYTES = 12


class Vault:
    """Seals and opens the secrets of one order at a time; the order's id is bound in."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cipher = AESGCM(key)

    @classmethod
    def open(cls, data_dir: Path) -> "Vault":
        """With the key in `data_dir`, made by whichever replica comes first. Raises InvalidInput for another file."""
        path = data_dir / KEY_FILE
        if not path.exists():
            _make(path)
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise InvalidInput(f"{path} is no key of {KEY_BYTES} bytes", hint="restore it from a backup")
        return cls(key)

    def seal(self, order_id: str, values: Mapping[str, str]) -> str:
        nonce = os.urandom(NONCE_BYTES)
        plain = json.dumps(dict(values)).encode()
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, plain, order_id.encode())).decode()

    def open_sealed(self, order_id: str, sealed: str) -> bytes:
        """A JSON object of name and text. Raises Conflict when the key is not the one that sealed it."""
        raw = base64.b64decode(sealed)
        try:
            return self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], order_id.encode())
        except InvalidTag as error:
            raise Conflict(
                f"the secrets of order {order_id} were sealed with another {KEY_FILE}", hint="submit the order again"
            ) from error

    def digest(self, known: str, values: Mapping[str, str]) -> str:
        """What tells a repeat of a submission from another one, and gives nobody a value to guess at."""
        text = json.dumps([known, sorted(values.items())])
        return hmac.new(self._key, text.encode(), "sha256").hexdigest()


def _make(path: Path) -> None:
    """Whole or not at all, and only by one of several replicas."""
    tmp = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with open(os.open(tmp, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(os.urandom(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(tmp, path)
    except FileExistsError:
        pass  # another replica was first: its key is the hub's
    finally:
        tmp.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
