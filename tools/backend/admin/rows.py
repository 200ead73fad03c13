"""Statements of the admin API alone: they write single columns, because the others of a row may be
changed by somebody else at the same time."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, update

from tools.backend.store import tables
from tools.backend.store.rows import drop_unused

_account = update(tables.accounts).where(tables.accounts.c.name == bindparam("b_name"))
SET_SECRET = _account.values(secret=bindparam("b_secret"))
SET_FLAGS = _account.values(
    pilot_waived=bindparam("b_pilot_waived"),
    omadm_mode=bindparam("b_omadm_mode"),
    v3_abort=bindparam("b_v3_abort"),
)

_DROP_PACKAGE = delete(tables.packages).where(
    (tables.packages.c.account == bindparam("b_account"))
    & (tables.packages.c.name == bindparam("b_name"))
)


_DROP_FILE = delete(tables.files).where(
    (tables.files.c.account == bindparam("b_account"))
    & (tables.files.c.name == bindparam("b_name"))
)


def drop_package(connection: Connection, account: str, name: str, digest: str) -> None:
    """Delete a package, and its bytes unless something else has the same."""
    connection.execute(_DROP_PACKAGE, {"b_account": account, "b_name": name})
    drop_unused(connection, digest)


def drop_file(connection: Connection, account: str, name: str, digest: str) -> None:
    """The same for a configuration file."""
    connection.execute(_DROP_FILE, {"b_account": account, "b_name": name})
    drop_unused(connection, digest)
