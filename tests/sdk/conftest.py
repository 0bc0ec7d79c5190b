"""A scripted hub and a client of it."""

from collections.abc import Iterator

import pytest

from tests.sdk.scripted import Script, scripted_hub
from yunhe.sdk.client import Client


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted_hub() as running:
        yield running


@pytest.fixture
def client(script: Script) -> Iterator[Client]:
    with Client(script.url, "secret", timeout=5) as opened:
        yield opened
