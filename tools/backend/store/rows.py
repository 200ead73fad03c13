"""Reading and writing the tables: plain functions over a synchronous Connection.

Statements that write one row are module constants, so that the writer can join neighbours of the
same kind into one executemany.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Float, RowMapping, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql

from tools.backend.errors import StoreError
from tools.backend.inventory import Account, ConfigFile, Device, Firmware
from tools.backend.store import tables
from tools.backend.timing import Origin

INSERT = postgresql.insert
"""`INSERT` with `ON CONFLICT`, for both databases: SQLite took the syntax over from PostgreSQL, and
PostgreSQL's construct compiles on SQLite; the reverse is not so."""


def upsert(table: Any, *keys: str) -> Any:
    """`INSERT` of one row of `table`, or `UPDATE` of the one with the same `keys`."""
    statement = INSERT(table)
    columns = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.name not in keys
    }
    return statement.on_conflict_do_update(index_elements=list(keys), set_=columns)


ORIGIN = ("instant", "utc", "rate")
"""Counters of an Origin, each after `clock_`."""

PUT_COUNTER = upsert(tables.counters, "name")
PUT_ACCOUNT = upsert(tables.accounts, "name")
PUT_DEVICE = upsert(tables.devices, "name")
PUT_REGISTRATION = upsert(tables.registrations, "name")
PUT_PACKAGE = upsert(tables.packages, "account", "name")
PUT_FILE = upsert(tables.files, "account", "name")
PUT_REPORT = upsert(tables.reports, "device", "campaign")
PUT_LOGGING = upsert(tables.logging, "device")
ADD_CHECK_IN = insert(tables.check_ins)
ADD_LOG = insert(tables.logs)
PUT_CONTENT = INSERT(tables.contents).on_conflict_do_nothing(index_elements=["digest"])
ADD_CAMPAIGN = insert(tables.campaigns)
ADD_MEMBER = insert(tables.campaign_devices)
PUT_MEMBER = upsert(tables.campaign_devices, "campaign", "device")
PUT_ATTEMPT = upsert(tables.attempts, "campaign", "device", "number")
DROP_MEMBER = (
    delete(tables.campaign_devices)
    .where(tables.campaign_devices.c.campaign == bindparam("b_campaign"))
    .where(tables.campaign_devices.c.device == bindparam("b_device"))
)
SET_CAMPAIGN_DATES = (
    update(tables.campaigns)
    .where(tables.campaigns.c.id == bindparam("b_id"))
    .values(
        start_date=bindparam("b_start_date"),
        end_date=bindparam("b_end_date"),
        windows=bindparam("b_windows"),
        install_windows=bindparam("b_install_windows"),
        download_after=bindparam("b_download_after"),
        install_after=bindparam("b_install_after"),
        starts=bindparam("b_starts"),
        ends=bindparam("b_ends"),
    )
)

REFRESH_REGISTRATION = (
    update(tables.registrations)
    .where(tables.registrations.c.location == bindparam("b_location"))
    .values(
        host=bindparam("b_host"),
        port=bindparam("b_port"),
        lifetime=bindparam("b_lifetime"),
        binding=bindparam("b_binding"),
        objects=bindparam("b_objects"),
        expires=bindparam("b_expires"),
    )
)
SHIFT_REGISTRATIONS = (
    update(tables.registrations)
    .where(tables.registrations.c.face == bindparam("b_face"))
    .values(
        expires=bindparam("b_after", type_=Float)
        + (tables.registrations.c.expires - bindparam("b_before", type_=Float))
        * bindparam("b_factor", type_=Float)
    )
)
DROP_REGISTRATION = delete(tables.registrations).where(
    tables.registrations.c.location == bindparam("b_location")
)
SET_CAMPAIGN_STATUS = (
    update(tables.campaigns)
    .where(tables.campaigns.c.id == bindparam("b_id"))
    .values(status=bindparam("b_status"))
)
SET_MEMBER = (
    update(tables.campaign_devices)
    .where(tables.campaign_devices.c.campaign == bindparam("b_campaign"))
    .where(tables.campaign_devices.c.device == bindparam("b_device"))
    .values(
        status=bindparam("b_status"),
        position=bindparam("b_position"),
        attempts=bindparam("b_attempts"),
        executed=bindparam("b_executed"),
        outcome=bindparam("b_outcome"),
        said=bindparam("b_said"),
        reason=bindparam("b_reason"),
        updated=bindparam("b_updated"),
        recent_attempt=bindparam("b_recent_attempt"),
        next_attempt=bindparam("b_next_attempt"),
        shown_status=bindparam("b_shown_status"),
        shown_reason=bindparam("b_shown_reason"),
        queued=bindparam("b_queued"),
    )
)


@dataclass(slots=True)
class Registration:
    """A registration as it is stored; `host` and `port` are where the device was heard last."""

    name: str
    face: str
    location: str
    host: str
    port: int
    lifetime: int
    version: str
    binding: str
    queue: bool
    objects: str
    registered: float
    expires: float


def counter(connection: Connection, name: str) -> float | None:
    """The value of a counter, None for one never written."""
    query = select(tables.counters.c.value).where(tables.counters.c.name == name)
    value: float | None = connection.execute(query).scalar_one_or_none()
    return value


def put_counter(connection: Connection, name: str, value: float) -> None:
    """Write a counter."""
    connection.execute(PUT_COUNTER, {"name": name, "value": value})


def load_origin(connection: Connection) -> Origin | None:
    """Where the time was set last; None on a database that never said so."""
    instant, utc, rate = (counter(connection, f"clock_{part}") for part in ORIGIN)
    if instant is None or utc is None or rate is None:
        return None
    return Origin(instant, utc, rate)


def put_origin(connection: Connection, origin: Origin) -> None:
    """Write where the time was set last."""
    for part in ORIGIN:
        put_counter(connection, f"clock_{part}", getattr(origin, part))


def row_of(record: Any) -> dict[str, Any]:
    """The columns of a slotted dataclass that mirrors a table."""
    return {name: getattr(record, name) for name in record.__slots__}


def load_accounts(connection: Connection) -> Iterator[Account]:
    for row in connection.execute(select(tables.accounts)).mappings():
        yield Account(**row)


def load_devices(connection: Connection) -> Iterator[Device]:
    for row in connection.execute(select(tables.devices)).mappings():
        yield Device(**row)


def load_packages(connection: Connection) -> Iterator[Firmware]:
    for row in connection.execute(select(tables.packages)).mappings():
        yield Firmware(**row)


def load_files(connection: Connection) -> Iterator[ConfigFile]:
    for row in connection.execute(select(tables.files)).mappings():
        yield ConfigFile(**row)


def load_registrations(connection: Connection, face: str) -> list[Registration]:
    query = select(tables.registrations).where(tables.registrations.c.face == face)
    return [Registration(**row) for row in connection.execute(query).mappings()]


def load_content(connection: Connection, digest: str) -> bytes:
    """The bytes of a package."""
    query = select(tables.contents.c.body).where(tables.contents.c.digest == digest)
    body: bytes | None = connection.execute(query).scalar_one_or_none()
    if body is None:
        raise StoreError(f"the content {digest} is missing from the database")
    return body


def load_campaigns(connection: Connection) -> Sequence[RowMapping]:
    query = select(tables.campaigns).order_by(tables.campaigns.c.number)
    return connection.execute(query).mappings().all()


def load_members(connection: Connection) -> Sequence[RowMapping]:
    query = select(tables.campaign_devices).order_by(
        tables.campaign_devices.c.campaign, tables.campaign_devices.c.device
    )
    return connection.execute(query).mappings().all()


def load_attempts(connection: Connection, device: str) -> Sequence[RowMapping]:
    query = (
        select(tables.attempts)
        .where(tables.attempts.c.device == device)
        .order_by(tables.attempts.c.started, tables.attempts.c.campaign, tables.attempts.c.number)
    )
    return connection.execute(query).mappings().all()


def windows_text(windows: tuple[tuple[int, int], ...]) -> str:
    """Time windows as the store keeps them: in the order they were sent."""
    return json.dumps(windows, separators=(",", ":"))


def windows_of(text: str) -> tuple[tuple[int, int], ...]:
    """The reverse of `windows_text`."""
    return tuple((start, end) for start, end in json.loads(text))
