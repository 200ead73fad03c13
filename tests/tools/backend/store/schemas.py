"""Databases of other revisions, and what differs between two schemas."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, inspect

from tools.backend.backend import Backend
from tools.backend.store import tables

assert Backend  # with it come all modules that have tables

OLD = Path(__file__).parent / "before_revisions.sql"
"""Written by the code of the release before there were revisions, and killed: an LwM2M device that
was updated, one that installs, one that never came; an HTTP device that downloads, one that logs;
OMA-DM accounts, one with a message that waits; a campaign for each."""


def old_database(path: Path) -> None:
    """Make the database that OLD describes."""
    with sqlite3.connect(path) as connection:
        connection.executescript(OLD.read_text())
    connection.close()


def differences(connection: Connection) -> list[Any]:
    """What Alembic would change to make the database what `tables.metadata` is."""
    options = {"compare_type": True, "compare_server_default": True}
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, tables.metadata))


def outline(connection: Connection) -> dict[str, Any]:
    """All tables with their columns, keys and indexes, without the order of columns: what Alembic
    does not compare is in it too."""
    inspector = inspect(connection)
    found: dict[str, Any] = {}
    for name in inspector.get_table_names():
        columns = {
            column["name"]: (str(column["type"]), column["nullable"], column["default"])
            for column in inspector.get_columns(name)
        }
        key = inspector.get_pk_constraint(name)["constrained_columns"]
        unique = sorted(tuple(i["column_names"]) for i in inspector.get_unique_constraints(name))
        indexes = sorted(
            (str(i["name"]), tuple(i["column_names"]), bool(i["unique"]))
            for i in inspector.get_indexes(name)
        )
        found[name] = (columns, key, unique, indexes)
    return found


def contents(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table."""
    found = MetaData()
    found.reflect(connection)
    return {
        name: sorted((dict(row) for row in connection.execute(table.select()).mappings()), key=repr)
        for name, table in found.tables.items()
    }
