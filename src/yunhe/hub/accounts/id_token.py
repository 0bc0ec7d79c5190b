"""ID tokens (OpenID Connect Core 1.0, 3.1.3.7): which signature and which claims are accepted."""

import hmac
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey

from yunhe.core.errors import Unauthenticated

# The provider signs with a key that it alone has. Never `none`, nor HS256: its key would be what everybody reads.
# `Ed25519` is what RFC 9864 calls EdDSA on that curve.
ALGORITHMS = ("RS256", "ES256", "EdDSA", "Ed25519")
MAX_TOKEN_CHARS = 16 * 1024
MAX_KEYS = 100
MAX_SUBJECT_CHARS = 255  # OpenID Connect Core 1.0, section 2
RSA_BITS = range(2048, 8193)  # smaller ones are weak, larger ones slow


class UnknownKey(Exception):
    """The token names a key that the provider had not shown when its keys were read."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the token of this one sign-in has to say. Times in ms UTC."""

    issuer: str
    client_id: str
    audiences: Sequence[str]
    nonce: str
    now_ms: int
    leeway_ms: int


def read_keys(document: object) -> tuple[Key, ...]:
    """The keys of a JWK set (RFC 7517) that may sign; those of other kinds are passed over."""
    found = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(found, list):
        return ()
    keys = []
    for each in found[:MAX_KEYS]:
        if not isinstance(each, dict) or each.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        if each.get("use", "sig") != "sig" or "verify" not in (each.get("key_ops") or ["verify"]):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # of small keys, which are refused below
                key = JWKRegistry.import_key({**each, "key_ops": ["verify"]})
        except (JoseError, ValueError, TypeError, KeyError):
            continue  # a key that is broken, or of a curve that nobody here knows, signs nothing
        if _fits(key):
            keys.append(key)
    return tuple(keys)


def _fits(key: Key) -> bool:
    if isinstance(key, RSAKey):
        return key.raw_value.key_size in RSA_BITS
    if isinstance(key, ECKey):
        return key.curve_name == "P-256"
    return isinstance(key, OKPKey) and key.curve_name == "Ed25519"


def verified(token: str, keys: Sequence[Key], expected: Expected) -> Mapping[str, Any]:
    """The claims. Raises Unauthenticated for a token that is not accepted, UnknownKey for one of an unknown key."""
    if len(token) > MAX_TOKEN_CHARS:
        raise refused("it is too long")

    def choose(signed: Any) -> Key:
        return _chosen(keys, signed.headers())

    registry = jws.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    registry.max_header_length = 4_096
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # of the name EdDSA, which providers still write
            claims = jwt.decode(token, choose, registry=registry).claims
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise refused("its signature does not hold") from error
    _check_parties(claims, expected)
    _check_times(claims, expected)
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), expected.nonce.encode()):
        raise refused("it was made for another sign-in (nonce)")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARS or not subject.isprintable():
        raise refused("it names nobody (sub)")
    return claims


def _chosen(keys: Sequence[Key], header: Mapping[str, Any]) -> Key:
    """The one key that the header can mean. An algorithm goes with its own kind of key, whatever the header says."""
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise refused("its algorithm is not allowed (alg)")
    kind = {"RS256": RSAKey, "ES256": ECKey}.get(algorithm, OKPKey)
    found = [
        key
        for key in keys
        if isinstance(key, kind) and key.get("alg", algorithm) == algorithm and kid in (None, key.get("kid"))
    ]
    if not found:
        raise UnknownKey
    if len(found) > 1:
        raise refused("it does not say which key signed it (kid)")
    return found[0]


def _check_parties(claims: Mapping[str, Any], expected: Expected) -> None:
    if claims.get("iss") != expected.issuer:
        raise refused("another provider made it (iss)")
    told = claims.get("aud")
    audiences = [told] if isinstance(told, str) else told
    if not isinstance(audiences, list) or expected.client_id not in audiences:
        raise refused("it was made for somebody else (aud)")
    if any(each not in (expected.client_id, *expected.audiences) for each in audiences):
        raise refused("it was made for others too (aud)")
    if "azp" in claims or len(audiences) > 1:
        if claims.get("azp") != expected.client_id:
            raise refused("it was handed to somebody else (azp)")


def _check_times(claims: Mapping[str, Any], expected: Expected) -> None:
    now, leeway = expected.now_ms / 1000, expected.leeway_ms / 1000
    expires, issued, begins = (_seconds(claims.get(name)) for name in ("exp", "iat", "nbf"))
    if expires is None or issued is None or ("nbf" in claims and begins is None):
        raise refused("it does not say when it holds (exp, iat)")
    if now >= expires + leeway:
        raise refused("it has run out (exp)")
    if issued > now + leeway or (begins is not None and begins > now + leeway):
        raise refused("it is of the future (iat)")


def _seconds(value: object) -> float | None:
    """A date as a number; None for what is none (infinities too: every comparison would let them pass)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        return None
    return float(value)


def refused(why: str) -> Unauthenticated:
    return Unauthenticated(
        f"what the provider sent is not accepted: {why}",
        hint="sign in again; if it fails again, tell the operator this sentence",
    )
