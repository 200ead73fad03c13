"""Many rows for one statement, as directly to the driver as it can be.

SQLAlchemy compiles a statement once, but builds a context, a result and a dictionary of parameters
for every call and for every row. Where a device's check-in is one row, that costs more than the
database itself does. So the text that SQLAlchemy compiled is kept here, with the order of its
parameters. SQLite's driver is called with it; asyncpg can only be called through SQLAlchemy, which
then has nothing left to do for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import Connection, Executable
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

Row = Mapping[str, Any]

MOST_PREPARED = 512
"""Statements are module constants; who makes them up as he goes must not fill the memory."""


class _Prepared:
    """A statement as the driver takes it, for rows with the same columns."""

    __slots__ = ("_processors", "_values", "text")

    def __init__(
        self, text: str, names: Sequence[str], processors: Sequence[Callable[[Any], Any] | None]
    ) -> None:
        self.text = text
        take = itemgetter(*names) if names else lambda _row: ()
        self._values: Callable[[Row], tuple[Any, ...]] = (
            take if len(names) != 1 else lambda row: (take(row),)
        )
        self._processors = tuple(
            (position, process) for position, process in enumerate(processors) if process
        )

    def values(self, row: Row) -> Sequence[Any]:
        values = self._values(row)
        if not self._processors:
            return values
        processed = list(values)
        for position, process in self._processors:
            processed[position] = process(processed[position])
        return processed


_known: dict[tuple[str, Executable, tuple[str, ...]], _Prepared | None] = {}


def execute_rows(connection: Connection, statement: Executable, rows: Sequence[Row]) -> None:
    """Execute `statement`, which returns nothing, once for each row; all rows have the columns of
    the first one. Raises what the driver raises, or SQLAlchemy's DBAPIError around it."""
    dialect = connection.dialect
    key = (dialect.name, statement, tuple(rows[0]))
    try:
        prepared = _known[key]
    except KeyError:
        if len(_known) >= MOST_PREPARED:
            _known.clear()
        prepared = _known[key] = _prepare(dialect, statement, key[2])
    if prepared is None:
        connection.execute(statement, rows)
    elif dialect.name == "sqlite":
        driver = cast(Any, connection.connection.driver_connection)
        if len(rows) == 1:
            driver.execute(prepared.text, prepared.values(rows[0]))
        else:
            driver.executemany(prepared.text, map(prepared.values, rows))
    else:
        connection.exec_driver_sql(prepared.text, [tuple(prepared.values(row)) for row in rows])


def _prepare(dialect: Dialect, statement: Executable, columns: tuple[str, ...]) -> _Prepared | None:
    """None where values come from elsewhere than the row (a default in Python, a constant in the
    statement, a list of values): SQLAlchemy has to do it then."""
    compiled = cast(ClauseElement, statement).compile(dialect=dialect, column_keys=list(columns))
    if not isinstance(compiled, SQLCompiler) or compiled.positiontup is None:
        return None
    names = compiled.positiontup
    if compiled.post_compile_params or not set(names).issubset(columns):
        return None
    processors = [
        compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names
    ]
    return _Prepared(str(compiled), names, processors)
