"""The hub's one SQL database: SQLite in one process, or PostgreSQL shared by several replicas. Same statements."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles

from yunhe.core.errors import StorageFull, Unavailable, YunheError

# Every room's store defines its tables here, so that one migration history covers them all.
metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

SQLITE_BUSY_S = 10
PG_CONNECT_S = 5
PG_STATEMENT_MS = 30_000
PG_LOCK_MS = 10_000
# A replica that was stopped in the middle of a transaction must not keep its locks from the others.
PG_IDLE_IN_TRANSACTION_MS = 5_000
POSTGRESQL_NOW_MS = "CAST(extract(epoch from clock_timestamp()) * 1000 AS BIGINT)"
PG_PREPARED = 500  # statements that one connection keeps prepared: more than the writer has
# The writer finds every row by its key. A plan that was made while a table was small is kept as long as the connection,
# so it must not be one that reads or hashes the whole table.
PG_BY_KEY = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
# A server whose host is gone is noticed in about 25 s instead of hours.
PG_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}


class Database:
    """Engines for writing and reading. On SQLite the write engine begins IMMEDIATE and has one connection."""

    def __init__(self, url: str, read_connections: int) -> None:
        self.url = _with_driver(url)
        self.is_sqlite = self.url.startswith("sqlite")
        # Server processes of our own writer: their NOTIFY tells this process nothing new.
        self.own_backends: set[int] = set()
        if self.is_sqlite:
            self.write_engine = _sqlite_engine(self.url, "BEGIN IMMEDIATE", 1)
            self.read_engine = _sqlite_engine(self.url, "BEGIN", read_connections)
        else:
            # The writer runs a group again when its connection was lost: it need not ask each time whether it is there.
            self.write_engine = _postgresql_engine(self.url, 2, PG_BY_KEY, ping=False)
            sa.event.listen(self.write_engine, "connect", self._note_backend)
            sa.event.listen(self.write_engine, "close", self._forget_backend)
            self.read_engine = _postgresql_engine(self.url, read_connections, {}, ping=True)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A read transaction: one consistent view on SQLite, per statement on PostgreSQL."""
        with translated(), self.read_engine.begin() as conn:
            yield conn

    def _note_backend(self, dbapi_connection: Any, record: Any) -> None:
        record.info["backend"] = dbapi_connection.info.backend_pid
        self.own_backends.add(record.info["backend"])
        dbapi_connection.prepared_max = PG_PREPARED

    def _forget_backend(self, _dbapi_connection: Any, record: Any) -> None:
        # The number may be another replica's next.
        self.own_backends.discard(record.info.get("backend"))

    def close(self) -> None:
        self.write_engine.dispose()
        self.read_engine.dispose()


class OwnTransaction(sa.sql.functions.FunctionElement[int]):
    """A column's server default: the number of the transaction that writes the row; 0 on SQLite, which has one writer.

    On PostgreSQL numbers are taken in the order in which transactions begin to write, not in which they commit.
    """

    type = sa.BigInteger()
    inherit_cache = True


@compiles(OwnTransaction, "postgresql")
def _own_transaction_postgresql(_element: OwnTransaction, _compiler: Any, **_options: Any) -> str:
    return "CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)"


@compiles(OwnTransaction, "sqlite")
def _own_transaction_sqlite(_element: OwnTransaction, _compiler: Any, **_options: Any) -> str:
    return "0"


def _with_driver(url: str) -> str:
    """`postgresql://` means psycopg 3; `postgres://` is what many tools print."""
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url[len(prefix) :]
    return url


def _sqlite_engine(url: str, begin: str, connections: int) -> sa.Engine:
    engine = sa.create_engine(
        url,
        connect_args={"timeout": SQLITE_BUSY_S, "check_same_thread": False},
        pool_size=connections,
        max_overflow=0,
        poolclass=sa.pool.QueuePool,
    )

    @sa.event.listens_for(engine, "connect")
    def _connect(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # the driver's own BEGIN comes too late; see _begin
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-16000"):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(conn: sa.Connection) -> None:
        conn.exec_driver_sql(begin)

    return engine


def _postgresql_engine(url: str, connections: int, planning: Mapping[str, str], *, ping: bool) -> sa.Engine:
    limits = {
        "statement_timeout": PG_STATEMENT_MS,
        "lock_timeout": PG_LOCK_MS,
        "idle_in_transaction_session_timeout": PG_IDLE_IN_TRANSACTION_MS,
        "timezone": "UTC",
        **planning,
    }
    options = " ".join(f"-c {name}={value}" for name, value in limits.items())
    return sa.create_engine(
        url,
        connect_args={
            "connect_timeout": PG_CONNECT_S,
            "options": options,
            "application_name": "yunhe-hub",
            **PG_KEEPALIVE,
        },
        pool_size=connections,
        max_overflow=2,
        pool_pre_ping=ping,
        isolation_level="READ COMMITTED",
    )


def database_now_ms(conn: sa.Connection) -> int:
    """UTC ms by the database's clock, which all replicas share."""
    if conn.dialect.name == "sqlite":
        text = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
    else:
        text = POSTGRESQL_NOW_MS
    return int(conn.exec_driver_sql(f"SELECT {text}").scalar_one())


def insert_ignore(table: sa.Table) -> Any:
    """INSERT ... ON CONFLICT DO NOTHING, in the words of both databases (SQLAlchemy picks by dialect at run time)."""
    return _Insert(table)


class _Insert:
    """Dialect-neutral insert-or-ignore: `execute(conn, rows) -> number of rows inserted`."""

    def __init__(self, table: sa.Table) -> None:
        self._table = table

    def execute(self, conn: sa.Connection, rows: list[dict[str, Any]]) -> int:
        if not rows:
            return 0
        insert = sqlite.insert if conn.dialect.name == "sqlite" else postgresql.insert
        # mypy: the two dialects' inserts have the same method without a shared protocol.
        statement: Any = insert(self._table)
        # psycopg forgets the count of an INSERT with its cursor, unless it is asked to be kept.
        options = {"preserve_rowcount": True}
        return int(conn.execute(statement.on_conflict_do_nothing(), rows, execution_options=options).rowcount)


def storage_error(error: sa.exc.DBAPIError) -> YunheError | None:
    """The error of our tree that a driver's error stands for, or None when it is not about storage or connection."""
    text = str(error.orig).lower()
    if getattr(error.orig, "sqlstate", None) == "53100" or "disk is full" in text or "no space left" in text:
        return StorageFull("the hub's storage is full: nothing was written")
    if "disk i/o error" in text or "readonly database" in text or "unable to open database" in text:
        return StorageFull(f"the hub's storage cannot be written: {error.orig}")
    if error.connection_invalidated or isinstance(error, sa.exc.OperationalError):
        return Unavailable("the database cannot be reached right now", hint="try again in a few seconds")
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Driver errors about storage and connection become errors of our tree; all others stay what they are."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        known = storage_error(error)
        if known is None:
            raise
        raise known from error
    except sa.exc.TimeoutError as error:
        raise Unavailable("the hub is busy: no database connection was free", hint="try again") from error
