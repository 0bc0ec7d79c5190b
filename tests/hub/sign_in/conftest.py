"""Replicas of a hub whose people come through a provider."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.oidc import FakeProvider, fake_provider
from tests.hub.conftest import FakeClock, MakeKey
from tests.hub.sign_in.door import Door, MakeDoor, link, settings_of
from yunhe.hub.platform.context import Platform, open_platform
from yunhe.hub.platform.settings import HubSettings
from yunhe.hub.platform.writer import no_crash


@pytest.fixture
def provider(clock: FakeClock) -> Iterator[FakeProvider]:
    with fake_provider(now_s=lambda: clock.ms / 1000) as running:
        yield running


@pytest.fixture
def door_with(
    platform: Platform, database_url: str, tmp_path: Path, clock: FakeClock, provider: FakeProvider
) -> Iterator[MakeDoor]:
    """Doors of hubs with one database: each is another replica."""
    opened: list[Platform] = []

    def make(**chosen: object) -> Door:
        sign_in = settings_of(provider, tmp_path / "secret", **chosen)
        settings = HubSettings(database_url=database_url, data_dir=tmp_path / "data", sign_in=sign_in)
        another = open_platform(settings, clock, no_crash)
        another.writer.start()
        opened.append(another)
        return Door(another)

    yield make
    for each in opened:
        each.writer.stop()
        each.readers.shutdown()
        each.db.close()


@pytest.fixture
def door(door_with: MakeDoor) -> Door:
    return door_with()


@pytest.fixture
def operator(as_role: MakeKey) -> dict[str, str]:
    return as_role("operator", "operator")


@pytest.fixture
def linked(door: Door, provider: FakeProvider, operator: dict[str, str], as_role: MakeKey) -> dict[str, str]:
    """The provider's person acts for acme; the answer of the link."""
    as_role("acme", "customer")
    return link(door, operator, provider.subject)
