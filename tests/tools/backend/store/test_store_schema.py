"""Revisions: a new database and a migrated one are the same, and foreign ones are left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from agent.runtime.runtime import Runtime
from tests.tools.backend.store.schemas import contents, differences, outline
from tools.backend.backend import Backend, BackendConfig
from tools.backend.errors import StoreError
from tools.backend.store import schema
from tools.backend.store.database import parse_database
from tools.backend.store.runners import open_runner
from tools.backend.store.schema import open_schema

NewDatabase = Callable[[], str]
"""A fixture that gives the name of a database that nobody has used yet."""


async def within(database: str, *works: Callable[[Connection], Any]) -> Any:
    """Run functions on a database, each in a transaction of its own; the last result."""
    runner = open_runner(parse_database(database), virtual=False)
    try:
        result = None
        for work in works:
            result = await runner.run(work)
        return result
    finally:
        await runner.close()


def test_the_head_is_the_newest_script() -> None:
    scripts = ScriptDirectory(str(schema.MIGRATIONS))
    assert scripts.get_heads() == [schema.HEAD]
    assert scripts.get_bases() == [schema.FIRST]


async def test_a_new_database_needs_no_migration(new_database: NewDatabase) -> None:
    assert await within(new_database(), open_schema, open_schema, differences) == []


async def test_a_migrated_schema_is_that_of_a_new_database(new_database: NewDatabase) -> None:
    def first(connection: Connection) -> None:
        schema.migrate(connection, schema.FIRST)

    migrated = new_database()
    assert await within(migrated, first, open_schema, differences) == []
    found = await within(migrated, outline)
    assert found == await within(new_database(), open_schema, outline)
    assert "alembic_version" in found and len(found) > 20


async def test_rows_of_an_earlier_revision_get_what_they_did_before(
    new_database: NewDatabase,
) -> None:
    def first(connection: Connection) -> None:
        schema.migrate(connection, schema.FIRST)
        connection.execute(text("INSERT INTO accounts VALUES ('a', 's', true)"))
        for number, kind in enumerate(("v1 firmware", "v2 file", "v3 firmware")):
            connection.execute(
                text(
                    "INSERT INTO campaigns VALUES (:kind, :number, 'a', :kind, '', '', '', '', '',"
                    " '', '', '', '', '', '[]', '[]', '', '', '', 0, 0, 0, 1, false, false, 'x')"
                ),
                {"number": number, "kind": kind},
            )

    found = await within(new_database(), first, open_schema, contents)
    plans = {row["kind"]: row["plan"] for row in found["campaigns"]}
    assert plans == {"v1 firmware": "network_aware", "v2 file": "pull", "v3 firmware": "windows"}
    [account] = found["accounts"]
    assert (account["secret"], account["licence_count"], account["v3_abort"]) == ("s", 0, True)
    assert account["purchase_type"] == "TS-HFOTA-EVNT"


NEWER = "UPDATE alembic_version SET version_num = '9999'"
TWICE = "INSERT INTO alembic_version VALUES ('9999')"
COUNTED = "DROP TABLE alembic_version; INSERT INTO counters VALUES ('schema', 99)"
UNMARKED = "DROP TABLE alembic_version"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (NEWER, "revision '9999' is unknown"),
        (TWICE, "not of this program"),
        (COUNTED, "version 99 is unknown"),
        (UNMARKED, "not of this program"),
    ],
)
async def test_an_unknown_revision_is_refused_and_untouched(
    new_database: NewDatabase, change: str, said: str
) -> None:
    def spoil(connection: Connection) -> None:
        for statement in change.split(";"):
            connection.execute(text(statement))

    await refused(new_database(), said, open_schema, spoil)


async def test_somebody_elses_database_is_refused_and_untouched(new_database: NewDatabase) -> None:
    def foreign(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE bookmarks (url VARCHAR)"))
        connection.execute(text("INSERT INTO bookmarks VALUES ('here')"))

    await refused(new_database(), "not of this program", foreign)


async def refused(database: str, said: str, *works: Callable[[Connection], Any]) -> None:
    before = await within(database, *works, contents), await within(database, outline)
    async with Runtime.real(seed=1) as runtime:
        backend = Backend(runtime, BackendConfig(db=database))
        with pytest.raises(StoreError, match=said):
            await backend.start()
    assert (await within(database, contents), await within(database, outline)) == before


async def test_a_migration_that_fails_in_the_middle_changes_nothing(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(connection: Connection) -> None:
        schema.migrate(connection, schema.FIRST)

    def broken(connection: Connection) -> None:
        open_schema(connection)
        raise StoreError("the power is gone")

    database = new_database()
    before = await within(database, first, outline)
    with pytest.raises(StoreError, match="the power is gone"):
        await within(database, broken)
    assert await within(database, outline) == before
    assert await within(database, open_schema, differences) == []
