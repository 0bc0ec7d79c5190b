"""A hub database of its own for each test: SQLite always, PostgreSQL too when YUNHE_TEST_DATABASE_URL names one."""

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from tests.hub.running import RunningHub, running_hub
from yunhe.core.errors import YunheError
from yunhe.hub.accounts import audit
from yunhe.hub.accounts import routes as account_routes
from yunhe.hub.accounts.service import Accounts, NewKey, Organisation, Role, create_keys, create_organisations
from yunhe.hub.catalogue import routes as catalogue_routes
from yunhe.hub.ledger import routes as ledger_routes
from yunhe.hub.platform.context import Platform, open_platform
from yunhe.hub.platform.db import metadata
from yunhe.hub.platform.http import install_problems
from yunhe.hub.platform.settings import HubSettings
from yunhe.hub.platform.writer import Tx, no_crash

TEST_DATABASE = "YUNHE_TEST_DATABASE_URL"
NOW_MS = 1_790_000_000_000


class FakeClock:
    """A clock that stands until it is moved."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    def observe(self, database_ms: int) -> None:
        """A fake clock follows nobody."""


@contextmanager
def fresh_database(kind: str, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database that is gone afterwards."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path}/hub.db"
        return
    server = sa.make_url(os.environ[TEST_DATABASE]).set(drivername="postgresql+psycopg")
    name = f"yunhe_test_{secrets.token_hex(6)}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with admin.connect() as conn:
        conn.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as conn:
            conn.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgresql" and TEST_DATABASE not in os.environ:
        pytest.skip(f"{TEST_DATABASE} is not set: run this by tools/with-postgresql.sh to test PostgreSQL too")
    with fresh_database(request.param, tmp_path) as url:
        yield url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """One real hub for all tests of a module; each makes organisations and sites of its own names."""
    if request.param == "postgresql" and TEST_DATABASE not in os.environ:
        pytest.skip(f"{TEST_DATABASE} is not set: run this by tools/with-postgresql.sh to test PostgreSQL too")
    folder = tmp_path_factory.mktemp("shared-hub")
    settings = {"poll_hold_ms": 2_000, "certify_turn_ms": 1_000}
    with fresh_database(request.param, folder) as url, running_hub(url, folder / "data", **settings) as hub:
        yield hub


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def platform(database_url: str, tmp_path: Path, clock: FakeClock) -> Iterator[Platform]:
    """A running platform on a database with every room's tables."""
    opened = open_platform(HubSettings(database_url=database_url, data_dir=tmp_path / "data"), clock, no_crash)
    metadata.create_all(opened.db.write_engine)
    opened.writer.start()
    try:
        yield opened
    finally:
        opened.writer.stop()
        opened.readers.shutdown()
        opened.db.close()


Begin = Callable[[], AbstractContextManager[Tx]]


@pytest.fixture
def begin(platform: Platform, clock: FakeClock) -> Begin:
    """Opens write transactions, each on a connection of its own: commit at the end, roll back on an exception."""

    @contextmanager
    def transaction() -> Iterator[Tx]:
        with platform.db.write_engine.begin() as conn:
            yield Tx(conn, clock.now_ms())

    return transaction


@pytest.fixture
def tx(begin: Begin) -> Iterator[Tx]:
    """One write transaction around the test."""
    with begin() as opened:
        yield opened


@pytest.fixture
def only_postgresql(platform: Platform) -> None:
    """For tests with two writers at once: on SQLite there is one writer by design."""
    if platform.db.is_sqlite:
        pytest.skip("two writers at once exist on PostgreSQL only")


class ApiClient:
    """Calls an application in this process, over the real ASGI interface."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def request(
        self, method: str, path: str, *, json: object = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
                return await client.request(method, path, json=json, headers=headers)

        return asyncio.run(call())

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, json: object = None, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self.request("POST", path, json=json, headers=headers)


@pytest.fixture
def client(platform: Platform) -> ApiClient:
    """The routes of the three lowest rooms, without a key of its own."""
    app = FastAPI()
    install_problems(app)
    accounts = Accounts(platform)
    for room in (audit, account_routes, ledger_routes, catalogue_routes):
        app.include_router(room.router(platform, accounts))
    return ApiClient(app)


MakeKey = Callable[[str, Role], dict[str, str]]


@pytest.fixture
def as_role(platform: Platform) -> MakeKey:
    """The headers of a fresh key: `as_role("acme", "customer")`. The organisation is made when it is not there."""

    def make(organisation: str, role: Role) -> dict[str, str]:
        def write(tx: Tx, items: Sequence[NewKey]) -> Sequence[NewKey | YunheError]:
            create_organisations(tx, [Organisation(item.organisation, item.organisation) for item in items])
            return create_keys(tx, items)

        made = platform.writer.do_blocking(write, NewKey(organisation, "tester", role))
        return {"Authorization": f"Bearer {made.secret}"}

    return make
