"""What must not get in: ID tokens that say or are signed otherwise than they must."""

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey, RSAKey

from tests.fakes.oidc import CLIENT_ID, FakeProvider
from tests.hub.sign_in.door import Door, MakeDoor, refused


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda claims: claims.pop(name)  # type: ignore[return-value]


def with_(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda claims: claims.update(changes)


def later(name: str, seconds: int) -> Callable[[dict[str, Any]], None]:
    return lambda claims: claims.update({name: claims["iat"] + seconds})


SAYING: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (with_(nonce="other"), "nonce"),
    (with_(nonce=None), "nonce"),
    (with_(nonce=["a"]), "nonce"),
    (without("nonce"), "nonce"),
    (with_(iss="https://evil.example"), "iss"),
    (without("iss"), "iss"),
    (with_(aud="another"), "aud"),
    (with_(aud=[]), "aud"),
    (with_(aud={"yunhe": 1}), "aud"),
    (without("aud"), "aud"),
    (with_(aud=[CLIENT_ID, "another"], azp=CLIENT_ID), "aud"),
    (with_(azp="another"), "azp"),
    (later("exp", -31), "exp"),
    (with_(exp=float("inf")), "exp"),
    (with_(exp=True), "exp"),
    (with_(exp="9999999999"), "exp"),
    (without("exp"), "exp"),
    (later("iat", 31), "iat"),
    (without("iat"), "iat"),
    (later("nbf", 31), "iat"),
    (with_(nbf="now"), "iat"),
    (without("sub"), "sub"),
    (with_(sub=""), "sub"),
    (with_(sub=7), "sub"),
    (with_(sub="x" * 256), "sub"),
    (with_(sub="a\x00b"), "sub"),
]


def test_a_token_that_does_not_say_what_it_must(door: Door, linked: dict[str, str], provider: FakeProvider) -> None:
    for provider.changed, says in SAYING:
        refused(door.enter(), says)


def test_a_clock_may_differ_a_little(door: Door, linked: dict[str, str], provider: FakeProvider) -> None:
    for provider.changed in (later("exp", -29), later("iat", 29), later("nbf", 29)):
        assert door.enter().status_code == 201


def test_another_audience_that_the_operator_named(
    door_with: MakeDoor, linked: dict[str, str], provider: FakeProvider
) -> None:
    door = door_with(audiences=["api"])
    provider.changed = with_(aud=[CLIENT_ID, "api"], azp=CLIENT_ID)
    assert door.enter().status_code == 201
    provider.changed = with_(aud=[CLIENT_ID, "api"])
    refused(door.enter(), "azp")


def compact(header: dict[str, object], claims: dict[str, Any]) -> str:
    """Without a signature."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), b"")
    return b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts).decode()


def test_a_token_without_a_signature(door: Door, linked: dict[str, str], provider: FakeProvider) -> None:
    for name in ("none", "None", "NONE", "", None, "HS256", "RS512", 7, ["EdDSA"]):
        header = {"alg": name, "kid": provider.keys[0].kid}
        provider.signed = lambda claims, header=header: compact(header, claims)  # type: ignore[misc]
        refused(door.enter(), "not accepted")


def test_a_token_signed_with_the_public_key_as_a_password(
    door: Door, linked: dict[str, str], provider: FakeProvider
) -> None:
    """HS256 by what everybody reads at the JWKS: the oldest trick."""
    shown = RSAKey.generate_key(2048, auto_kid=True)
    provider.keys, provider.algorithm = [shown], "RS256"
    for password in (shown.as_pem(private=False), json.dumps(shown.as_dict(private=False)).encode()):
        provider.signed = partial(by_password, {"alg": "HS256", "kid": shown.kid}, password)
        refused(door.enter(), "not accepted")


def by_password(header: dict[str, object], password: bytes, claims: dict[str, Any]) -> str:
    signed = compact(header, claims).rstrip(".")
    signature = hmac.digest(password, signed.encode(), "sha256")
    return f"{signed}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_a_provider_that_shows_a_password_as_a_key(door: Door, linked: dict[str, str], provider: FakeProvider) -> None:
    password = OctKey.generate_key(256, auto_kid=True)
    provider.keys = [password]
    provider.signed = lambda claims: jwt.encode({"alg": "HS256", "kid": password.kid}, claims, password)
    refused(door.enter(), "not accepted")


def test_a_token_of_a_key_that_the_provider_does_not_show(
    door: Door, linked: dict[str, str], provider: FakeProvider
) -> None:
    own = OKPKey.generate_key("Ed25519", auto_kid=True)
    provider.signed = lambda claims: jwt.encode({"alg": "EdDSA", "kid": own.kid}, claims, own, algorithms=["EdDSA"])
    refused(door.enter(), "kid")
    # The key in the token's own header proves nothing, nor does a name that is the provider's.
    header = {"alg": "EdDSA", "kid": own.kid, "jwk": own.as_dict(private=False)}
    provider.signed = lambda claims: jwt.encode(header, claims, own, algorithms=["EdDSA"])
    refused(door.enter(), "kid")
    named = {"alg": "EdDSA", "kid": provider.keys[0].kid}
    provider.signed = lambda claims: jwt.encode(named, claims, own, algorithms=["EdDSA"])
    refused(door.enter(), "signature")


def test_a_token_that_was_changed_or_is_none(door: Door, linked: dict[str, str], provider: FakeProvider) -> None:
    def tampered(claims: dict[str, Any]) -> str:
        head, _, signature = provider.token(claims).split(".")
        return (
            compact(json.loads("{}"), {**claims, "sub": "operator"}).split(".")[1].join((head + ".", "." + signature))
        )

    for make in (
        tampered,
        lambda claims: "",
        lambda claims: "a.b.c",
        lambda claims: "é.é.é",
        lambda claims: "." * 1000,
        lambda claims: provider.token({**claims, "more": "x" * 20_000}),
        lambda claims: provider.token(claims) + "A",
    ):
        provider.signed = make
        refused(door.enter(), "not accepted")


def test_weak_keys_and_broken_keys_sign_nothing(door: Door, linked: dict[str, str], provider: FakeProvider) -> None:
    with pytest.warns(match="2048"):
        small = RSAKey.generate_key(1024, auto_kid=True)
    provider.keys, provider.algorithm = [small], "RS256"
    refused(door.enter(), "kid")

    def broken(handler: Any) -> None:
        keys = [7, {}, {"kty": "EC"}, {"kty": "RSA", "n": "AA", "e": ""}, {"kty": "OKP", "crv": "Ed25519", "x": "!"}]
        handler.answer(200, {"keys": [*keys, {**small.as_dict(private=False), "use": "enc"}]})

    provider.spoilt["/jwks"] = broken
    refused(door.enter(), "kid")
