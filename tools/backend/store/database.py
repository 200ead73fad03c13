"""Where the store is: an SQLite file or a PostgreSQL database, as `--database` names it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sqlalchemy import URL, make_url

from tools.backend.errors import StoreError

MEMORY = ":memory:"

DURABILITIES = ("normal", "full")
"""`normal`: what was committed survives the end of our process, however it comes. `full`: a power
cut of the machine as well. A PostgreSQL server decides that itself; `full` overrules one that was
set up to acknowledge commits early."""

POSTGRESQL = ("postgresql+asyncpg", "postgresql", "postgres")
SQLITE = "sqlite"
DRIVER = "postgresql+asyncpg"

# A URL that lost its slashes is no file name: it may hold a password.
MALFORMED = re.compile(r"(postgres|postgresql|sqlite)(\+\w+)?:")


@dataclass(frozen=True, slots=True)
class Database:
    """A database that was named. As text it has no password."""

    path: str = ""
    """The file of an SQLite database, or MEMORY."""
    url: URL | None = field(default=None, repr=False)
    """Of a PostgreSQL database, with its password."""

    def __str__(self) -> str:
        if self.url is None:
            return self.path
        return URL.create(
            self.url.drivername,
            username=self.url.username,
            host=self.url.host,
            port=self.url.port,
            database=self.url.database,
        ).render_as_string()


def parse_database(text: str) -> Database:
    """A database given as a path, as `sqlite:///PATH` or as
    `postgresql+asyncpg://USER:PASSWORD@HOST:PORT/NAME`. Raises StoreError, without the text: it may
    hold a password."""
    scheme, colon, rest = text.partition("://")
    if not colon:
        if MALFORMED.match(text):
            raise StoreError("the database's URL is malformed: there is no // after its scheme")
        if not text:
            raise StoreError("the database has an empty name")
        return Database(path=text)
    if scheme == SQLITE:
        if rest and not rest.startswith("/"):
            raise StoreError("an SQLite file as a URL is sqlite:///PATH")
        return Database(path=rest.removeprefix("/") or MEMORY)
    if scheme not in POSTGRESQL:
        raise StoreError(
            f"a database of kind {scheme[:32]!r} is not supported: "
            f"a file, sqlite:///PATH or {DRIVER}://USER:PASSWORD@HOST:PORT/NAME"
        )
    try:
        url = make_url(text).set(drivername=DRIVER)
    except Exception:
        raise StoreError(
            f"the database's URL is malformed: it is {DRIVER}://USER:PASSWORD@HOST:PORT/NAME, "
            "with %-escapes in user and password"
        ) from None
    if "sslmode" in url.query:
        # libpq's name for it; the driver has the same values under another one.
        query = dict(url.query)
        query["ssl"] = query.pop("sslmode")
        url = url.set(query=query)
    return Database(url=url)
