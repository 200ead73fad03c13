"""The database of a backend that is killed, looked at past the backend."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from tests.tools.backend.callbacks.test_callback_campaigns import AUDIT

AUDIT_POSTGRES = """
CREATE TABLE audit (number SERIAL PRIMARY KEY, campaign TEXT, device_id TEXT, status TEXT);
CREATE FUNCTION audit_device() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO audit (campaign, device_id, status) VALUES (new.campaign, new.device_id, new.status);
  RETURN NULL;
END $$;
CREATE FUNCTION audit_campaign() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO audit (campaign, device_id, status) VALUES (new.id, '', new.status);
  RETURN NULL;
END $$;
CREATE TRIGGER audit_devices AFTER UPDATE ON campaign_devices FOR EACH ROW
WHEN (old.status IS DISTINCT FROM new.status) EXECUTE FUNCTION audit_device();
CREATE TRIGGER audit_campaigns AFTER UPDATE ON campaigns FOR EACH ROW
WHEN (old.status IS DISTINCT FROM new.status) EXECUTE FUNCTION audit_campaign();
CREATE TRIGGER audit_rejected AFTER INSERT ON campaign_devices FOR EACH ROW
WHEN (new.status = 'DeviceRejected') EXECUTE FUNCTION audit_device();
CREATE TRIGGER audit_failed AFTER INSERT ON campaigns FOR EACH ROW
WHEN (new.status = 'CampaignRequestFailed') EXECUTE FUNCTION audit_campaign();
"""

Row = tuple[Any, ...]


class Store(Protocol):
    """A database; `audit` in it gets a row for each change of a status, from the database itself,
    in the transaction of the change."""

    name: str
    """What `fotilla backend --database` is given."""

    async def watch(self) -> None:
        """Make that table. The backend has made its own."""

    async def rows(self, query: str) -> list[Row]:
        """What a query finds."""


class SqliteStore:
    """A file."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)

    async def watch(self) -> None:
        with closing(self._connected()) as connection:
            connection.executescript(";".join(AUDIT))

    async def rows(self, query: str) -> list[Row]:
        with closing(self._connected()) as connection:
            return connection.execute(query).fetchall()

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self.name, timeout=10)


class PostgresStore:
    """A schema of its own in a cluster."""

    def __init__(self, url: str) -> None:
        self.name = url
        self._url = url.replace("+asyncpg", "")

    async def watch(self) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(AUDIT_POSTGRES)
        finally:
            await connection.close()

    async def rows(self, query: str) -> list[Row]:
        async with asyncio.timeout(10):
            connection = await asyncpg.connect(self._url)
        try:
            return [tuple(record) for record in await connection.fetch(query)]
        finally:
            await connection.close()
