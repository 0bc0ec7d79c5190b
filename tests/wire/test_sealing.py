"""What is sealed for one lease of one site opens there and nowhere else."""

import pytest

from yunhe.core.errors import InvalidInput
from yunhe.wire import sealing

HERE = sealing.context("north", "ord_1.0", 2)


def test_it_opens_for_its_key_and_lease() -> None:
    key = sealing.new_key()
    assert sealing.unseal(key, sealing.seal(sealing.public_text(key), b"hunter2", HERE), HERE) == b"hunter2"


@pytest.mark.parametrize(
    "other", [("south", "ord_1.0", 2), ("north", "ord_1.1", 2), ("north", "ord_1.0", 1), ("north", "ord_1.0", 3)]
)
def test_it_opens_for_no_other_lease(other: tuple[str, str, int]) -> None:
    key = sealing.new_key()
    sealed = sealing.seal(sealing.public_text(key), b"hunter2", HERE)
    with pytest.raises(InvalidInput, match="not sealed for this lease"):
        sealing.unseal(key, sealed, sealing.context(*other))


def test_it_opens_for_no_other_key_and_not_when_it_was_changed() -> None:
    key = sealing.new_key()
    sealed = sealing.seal(sealing.public_text(key), b"hunter2", HERE)
    for wrong in (sealed[:-8] + "AAAAAAA=", sealed[:40], "", "not base64!"):
        with pytest.raises(InvalidInput):
            sealing.unseal(key, wrong, HERE)
    with pytest.raises(InvalidInput):
        sealing.unseal(sealing.new_key(), sealed, HERE)


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "A" * 43 + "="])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not an X25519 public key"):
        sealing.seal(text, b"hunter2", HERE)
