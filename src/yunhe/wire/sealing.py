"""Secrets on their way from the hub to a site: HPKE (RFC 9180) with X25519, HKDF-SHA256 and AES-256-GCM.

The site makes a key for one delivery and sends its public half in a request that it signs with its own Ed25519 key; so
what is sealed is for that site, and a key that is stolen later opens no delivery of the past. Site, lease and epoch are
bound in: what was sealed for one lease cannot be opened as another's.
"""

import base64

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from yunhe.core.errors import InvalidInput

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def new_key() -> X25519PrivateKey:
    """For one delivery; it is kept in memory only."""
    return X25519PrivateKey.generate()


def public_text(key: X25519PrivateKey) -> str:
    """Base64 of the raw 32 bytes."""
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def context(site_id: str, lease_id: str, epoch: int) -> bytes:
    """What a delivery is bound to."""
    return f"yunhe-secrets-1\n{site_id}\n{lease_id}\n{epoch}".encode()


def seal(public_key: str, plain: bytes, bound_to: bytes) -> str:
    """Base64 of what only the holder of the key opens. Raises InvalidInput for what is no key."""
    try:
        key = X25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        return base64.b64encode(SUITE.encrypt(plain, key, bound_to)).decode()
    except ValueError as error:
        raise InvalidInput("not an X25519 public key in base64", field="public_key") from error


def unseal(key: X25519PrivateKey, sealed: str, bound_to: bytes) -> bytes:
    """Raises InvalidInput for what was not sealed to this key and for this lease."""
    try:
        return SUITE.decrypt(base64.b64decode(sealed, validate=True), key, bound_to)
    except (InvalidTag, ValueError) as error:
        raise InvalidInput("not sealed for this lease at this site", field="sealed") from error
