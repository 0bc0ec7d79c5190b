"""Many rows in one statement, in the words of both databases.

PostgreSQL gets the rows as one JSON parameter: one parse, one plan and one round trip whatever their number, and the
unpacking is done by the server instead of by this process, whose interpreter is what a hub runs out of first.  SQLite,
in the same process, takes them row by row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles

Rows = Sequence[Mapping[str, object]]

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
MAX_ROWS = 20_000  # of one statement: bounds its parameter


def insert(conn: sa.Connection, table: sa.Table, rows: Rows, *, ignore: bool = False) -> int:
    """Insert rows that all have the same columns; `ignore` leaves out those whose key is there. Returns how many.

    Columns that are not named get their server defaults. Not for binary columns.
    """
    if not rows:
        return 0
    columns = tuple(rows[0])
    if conn.dialect.name == "sqlite":
        return _executed(conn, _sqlite_insert(table, columns, ignore), list(rows))
    text = _postgresql_insert(table, columns, ignore)
    return sum(_executed(conn, text, (_json(part),)) for part in _parts(rows))


def update(conn: sa.Connection, table: sa.Table, key: Sequence[str], rows: Rows) -> int:
    """Set every column of each row but the `key` columns, where the key columns have the row's values.

    Returns how many rows were changed. The order in which they are locked is not stated, so where it matters they are
    locked before; then also no other writer has changed them since they were read.
    """
    if not rows:
        return 0
    columns = tuple(rows[0])
    if conn.dialect.name == "sqlite":
        return _executed(conn, _sqlite_update(table, tuple(key), columns), list(rows))
    text = _postgresql_update(table, tuple(key), columns)
    return sum(_executed(conn, text, (_json(part),)) for part in _parts(rows))


@dataclass(frozen=True, slots=True)
class Insert:
    """What `insert` does, as a part of `write`."""

    table: sa.Table
    rows: Rows
    ignore: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """What `update` does, as a part of `write`."""

    table: sa.Table
    key: tuple[str, ...]
    rows: Rows


def write(conn: sa.Connection, *changes: Insert | Update) -> None:
    """Changes of different tables in one round trip (on PostgreSQL), in no stated order."""
    todo = [change for change in changes if change.rows]
    assert len({change.table.name for change in todo}) == len(todo), "one statement cannot change a table twice"
    if conn.dialect.name != "sqlite" and len(todo) > 1 and all(len(change.rows) <= MAX_ROWS for change in todo):
        text = _postgresql_write(tuple(_shape(change) for change in todo))
        conn.exec_driver_sql(text, tuple(_json(change.rows) for change in todo))
        return
    for change in todo:
        if isinstance(change, Insert):
            insert(conn, change.table, change.rows, ignore=change.ignore)
        else:
            update(conn, change.table, change.key, change.rows)


_Shape = tuple[sa.Table, tuple[str, ...], tuple[str, ...] | bool]


def _shape(change: Insert | Update) -> _Shape:
    """(table, columns, key of an update or whether an insert ignores)."""
    how = change.ignore if isinstance(change, Insert) else change.key
    return change.table, tuple(change.rows[0]), how


@lru_cache(maxsize=256)
def _postgresql_write(shapes: tuple[_Shape, ...]) -> str:
    texts = [
        _postgresql_insert(table, columns, how) if isinstance(how, bool) else _postgresql_update(table, how, columns)
        for table, columns, how in shapes
    ]
    first = ", ".join(f"c{n} AS ({text})" for n, text in enumerate(texts[:-1]))
    return f"WITH {first} {texts[-1]}"


def _executed(conn: sa.Connection, text: str, values: Any) -> int:
    return int(conn.exec_driver_sql(text, values).rowcount)


def _json(rows: Rows) -> str:
    return orjson.dumps(rows).decode()


def _parts(rows: Rows) -> list[Rows]:
    return [rows[start : start + MAX_ROWS] for start in range(0, len(rows), MAX_ROWS)]


@lru_cache(maxsize=256)
def _sqlite_insert(table: sa.Table, columns: tuple[str, ...], ignore: bool) -> str:
    names, values = ", ".join(map(_quoted, columns)), ", ".join(f":{name}" for name in columns)
    return f"INSERT INTO {_quoted(table.name)} ({names}) VALUES ({values}){_tail(ignore)}"


@lru_cache(maxsize=256)
def _postgresql_insert(table: sa.Table, columns: tuple[str, ...], ignore: bool) -> str:
    names = ", ".join(map(_quoted, columns))
    return (
        f"INSERT INTO {_quoted(table.name)} ({names}) SELECT {names} FROM {_recordset(table, columns)}{_tail(ignore)}"
    )


@lru_cache(maxsize=256)
def _sqlite_update(table: sa.Table, key: tuple[str, ...], columns: tuple[str, ...]) -> str:
    changes = ", ".join(f"{_quoted(name)} = :{name}" for name in columns if name not in key)
    where = " AND ".join(f"{_quoted(name)} = :{name}" for name in key)
    return f"UPDATE {_quoted(table.name)} SET {changes} WHERE {where}"


@lru_cache(maxsize=256)
def _postgresql_update(table: sa.Table, key: tuple[str, ...], columns: tuple[str, ...]) -> str:
    changes = ", ".join(f"{_quoted(name)} = x.{_quoted(name)}" for name in columns if name not in key)
    where = " AND ".join(f"t.{_quoted(name)} = x.{_quoted(name)}" for name in key)
    return f"UPDATE {_quoted(table.name)} AS t SET {changes} FROM {_recordset(table, columns)} WHERE {where}"


def _recordset(table: sa.Table, columns: tuple[str, ...]) -> str:
    typed = ", ".join(f"{_quoted(name)} {table.c[name].type.compile(dialect=_DIALECT)}" for name in columns)
    return f"json_to_recordset(%s) AS x({typed})"


def _tail(ignore: bool) -> str:
    return " ON CONFLICT DO NOTHING" if ignore else ""


def _quoted(name: str) -> str:
    return f'"{name}"'


# --- one of many --------------------------------------------------------------------------------------------------


class _Texts(sa.types.TypeDecorator[Sequence[str]]):
    """A list of texts as one parameter: JSON."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[str] | None, dialect: sa.Dialect) -> str:
        return orjson.dumps(value).decode()


class _AnyOf(sa.sql.functions.GenericFunction[bool]):
    type = sa.Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> "_AnyOf":
        return self  # it is a condition by itself: "... = 1" would keep SQLite from its index


@compiles(_AnyOf, "postgresql")
def _any_of_postgresql(element: _AnyOf, compiler: Any, **options: Any) -> str:
    column, values = element.clauses
    texts = f"SELECT json_array_elements_text(CAST({compiler.process(values, **options)} AS json))"
    return f"{compiler.process(column, **options)} = ANY(ARRAY({texts}))"


@compiles(_AnyOf, "sqlite")
def _any_of_sqlite(element: _AnyOf, compiler: Any, **options: Any) -> str:
    column, values = element.clauses
    texts = f"SELECT value FROM json_each({compiler.process(values, **options)})"
    return f"{compiler.process(column, **options)} IN ({texts})"


def any_of(column: sa.ColumnElement[str], name: str = "ids") -> sa.ColumnElement[bool]:
    """Whether `column` is one of the texts that the parameter `name` will be: one statement for any number of them.

    An IN with its values written out is another statement for each number of values, parsed anew every time.
    """
    return _AnyOf(column, sa.bindparam(name, type_=_Texts()))
