"""Ed25519 signatures of the hub-site link.

A request is signed as a whole, method and target included, so that a body cannot be replayed at another address.
Replay of the same request is caught by (epoch, poll_no), chunks by their offset.
"""

import base64
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from yunhe.core.errors import InvalidInput, Unauthenticated

SITE_HEADER = "Yunhe-Site"
EPOCH_HEADER = "Yunhe-Epoch"
SIGNATURE_HEADER = "Yunhe-Signature"


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def new_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def dump_key(key: Ed25519PrivateKey) -> bytes:
    """Raw 32 bytes, for a file of mode 0600."""
    return key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def load_key(raw: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(raw)


def public_text(key: Ed25519PrivateKey) -> str:
    return _b64(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def load_public(text: str) -> Ed25519PublicKey:
    """Raises InvalidInput when `text` is not a base64url Ed25519 public key."""
    try:
        return Ed25519PublicKey.from_public_bytes(_unb64(text))
    except ValueError as error:
        raise InvalidInput("not an Ed25519 public key in base64url", field="public_key") from error


def signed_bytes(method: str, target: str, site_id: str, epoch: int, body: bytes) -> bytes:
    """What a site signs: `target` is the path with its query string."""
    digest = hashlib.sha256(body).hexdigest()
    return f"yunhe-link-1\n{method.upper()}\n{target}\n{site_id}\n{epoch}\n{digest}".encode()


def sign(key: Ed25519PrivateKey, message: bytes) -> str:
    return _b64(key.sign(message))


def verify(public: Ed25519PublicKey, message: bytes, signature: str) -> None:
    """Raises Unauthenticated when the signature is missing, malformed or wrong."""
    try:
        public.verify(_unb64(signature), message)
    except (InvalidSignature, ValueError) as error:
        raise Unauthenticated("the site's signature does not verify", field=SIGNATURE_HEADER, hint="") from error
