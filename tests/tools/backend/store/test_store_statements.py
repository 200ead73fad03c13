"""Rows that go straight to the driver arrive as those that SQLAlchemy takes there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    bindparam,
    create_engine,
    insert,
    select,
    update,
)
from sqlalchemy.pool import StaticPool

from tools.backend.store.rows import upsert
from tools.backend.store.statements import execute_rows
from tools.backend.store.types import String

THINGS = Table(
    "things",
    MetaData(),
    Column("name", String(32), primary_key=True),
    Column("size", Integer, nullable=False),
    Column("weight", Float),
    Column("good", Boolean, nullable=False, default=True),
    Column("body", LargeBinary),
)
ADD = insert(THINGS)
PUT = upsert(THINGS, "name")
RESIZE = (
    update(THINGS)
    .where(THINGS.c.name == bindparam("b_name"))
    .values(size=THINGS.c.size + bindparam("b_more", type_=Integer))
)
CLEAR = update(THINGS).values(size=0)

ROWS = [
    {"name": "a", "size": 1, "weight": 0.5, "good": False, "body": b"\0"},
    {"name": "b", "size": 2**40, "weight": None, "good": True, "body": None},
]


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        THINGS.metadata.create_all(connection)
        yield connection
    engine.dispose()


def stored(connection: Connection) -> list[dict[str, object]]:
    return [dict(row) for row in connection.execute(select(THINGS)).mappings()]


def test_one_row_and_several_arrive_as_they_are(connection: Connection) -> None:
    execute_rows(connection, ADD, ROWS[:1])
    execute_rows(connection, ADD, ROWS[1:])
    assert stored(connection) == ROWS
    execute_rows(connection, PUT, [{**row, "size": 7} for row in ROWS])
    assert [row["size"] for row in stored(connection)] == [7, 7]


def test_the_order_of_the_columns_is_the_rows_own(connection: Connection) -> None:
    execute_rows(connection, ADD, [dict(reversed(row.items())) for row in ROWS])
    execute_rows(connection, RESIZE, [{"b_more": 3, "b_name": "a"}])
    assert [row["size"] for row in stored(connection)] == [4, 2**40]


def test_a_default_and_a_constant_of_the_statement_are_kept(connection: Connection) -> None:
    execute_rows(connection, ADD, [{"name": "a", "size": 1}])
    assert stored(connection)[0]["good"] is True
    execute_rows(connection, CLEAR, [{}])
    assert stored(connection)[0]["size"] == 0


def test_what_the_database_refuses_is_its_own_error(connection: Connection) -> None:
    execute_rows(connection, ADD, ROWS)
    with pytest.raises(sqlite3.IntegrityError):
        execute_rows(connection, ADD, ROWS[:1])
