"""Which schema a database has, and how it gets the one of this program.

A new database is made from `tables.metadata` and marked with HEAD. One of an older revision is
brought there by Alembic, in the transaction that opens it: killed in the middle, it stays what it
was. Alembic itself is imported for that alone; it would slow down every start.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select

from tools.backend.errors import StoreError
from tools.backend.store import tables

if TYPE_CHECKING:
    from alembic.config import Config

FIRST = "0001"
"""The revision of databases that were made before there were revisions."""

HEAD = "0003"
"""The newest revision: what `tables.metadata` is. A test holds it against the scripts."""

UNMARKED_VERSION = 2
"""What such an early database says of itself, in `counters`."""

MIGRATIONS = Path(__file__).parent / "migrations"

# As Alembic has it.
_mark = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


def open_schema(connection: Connection) -> None:
    """Give the database the schema of this program: make it, bring it up to date, or find it so.
    Raises StoreError, with nothing changed, for one that is not ours or newer than we are."""
    found = set(inspect(connection).get_table_names())
    if not found:
        tables.metadata.create_all(connection)
        _mark.create(connection)
        connection.execute(insert(_mark).values(version_num=HEAD))
        return
    revision = _revision(connection, found)
    if revision == HEAD:
        return
    _check_known(revision)
    if _mark.name not in found:
        _mark.create(connection)
        connection.execute(insert(_mark).values(version_num=revision))
    migrate(connection, HEAD)


def _revision(connection: Connection, found: set[str]) -> str:
    if _mark.name in found:
        revisions = connection.execute(select(_mark.c.version_num)).scalars().all()
        if len(revisions) == 1:
            return str(revisions[0])
    elif tables.counters.name in found:
        query = select(tables.counters.c.value).where(tables.counters.c.name == "schema")
        version = connection.execute(query).scalar_one_or_none()
        if version == UNMARKED_VERSION:
            return FIRST
        if version is not None:
            raise StoreError(f"its schema version {version:g} is unknown to this program")
    raise StoreError("it has tables, but they are not of this program")


def _check_known(revision: str) -> None:
    from alembic.script import ScriptDirectory

    known = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
    if revision not in known:
        raise StoreError(
            f"its schema revision {revision[:32]!r} is unknown to this program, which knows "
            f"{', '.join(sorted(known))}: it was written by a newer one"
        )


def config(connection: Connection) -> Config:
    """Alembic's configuration for that connection."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def migrate(connection: Connection, revision: str) -> None:
    """Bring a marked or empty database to `revision`, in the transaction that is open."""
    from alembic import command

    command.upgrade(config(connection), revision)
