"""A signature covers the whole request: whoever changes any part of it is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yunhe.core.errors import InvalidInput, Unauthenticated
from yunhe.wire import signing

KEY = signing.new_key()
PUBLIC = signing.load_public(signing.public_text(KEY))
REQUEST = {"method": "POST", "target": "/v1/agent/sync?x=1", "site_id": "site-1", "epoch": 7, "body": b'{"poll_no":3}'}


def message(**changes: object) -> bytes:
    return signing.signed_bytes(**{**REQUEST, **changes})  # type: ignore[arg-type]


def test_an_untouched_request_verifies() -> None:
    signing.verify(PUBLIC, message(), signing.sign(KEY, message()))
    signing.verify(PUBLIC, message(method="post"), signing.sign(KEY, message()))


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"target": "/v1/agent/sync?x=2"},
        {"target": "/v1/agent/hello"},
        {"site_id": "site-2"},
        {"epoch": 8},
        {"body": b'{"poll_no":4}'},
        {"body": b""},
    ],
    ids=str,
)
def test_any_change_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Unauthenticated) as caught:
        signing.verify(PUBLIC, message(**change), signing.sign(KEY, message()))
    assert caught.value.field == signing.SIGNATURE_HEADER


@given(st.binary(max_size=200), st.integers(0, 10**6), st.integers(1, 255))
def test_any_flipped_bits_of_the_body_are_refused(body: bytes, at: int, mask: int) -> None:
    body += b"."
    at %= len(body)
    touched = body[:at] + bytes([body[at] ^ mask]) + body[at + 1 :]
    with pytest.raises(Unauthenticated):
        signing.verify(PUBLIC, message(body=touched), signing.sign(KEY, message(body=body)))


@given(st.text(max_size=120))
def test_a_made_up_signature_is_refused(text: str) -> None:
    with pytest.raises(Unauthenticated):
        signing.verify(PUBLIC, message(), text)


def test_the_key_of_another_site_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        signing.verify(PUBLIC, message(), signing.sign(signing.new_key(), message()))


def test_a_key_survives_its_file() -> None:
    again = signing.load_key(signing.dump_key(KEY))
    assert signing.public_text(again) == signing.public_text(KEY)
    assert len(signing.dump_key(KEY)) == 32


@given(st.text(max_size=64))
def test_what_is_no_key_is_told(text: str) -> None:
    """Almost every text is refused; 32 bytes in base64url are a key by form."""
    try:
        signing.load_public(text)
    except InvalidInput as error:
        assert error.field == "public_key"
    else:
        assert len(text) >= 43
