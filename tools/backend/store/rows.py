"""Reading and writing the tables: plain functions over a synchronous Connection.

Statements that write one row are module constants, so that the writer can join neighbours of the
same kind into one executemany.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    RowMapping,
    Select,
    bindparam,
    delete,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql

from tools.backend.errors import StoreError
from tools.backend.inventory import Account, ConfigFile, Device, Firmware
from tools.backend.store import tables
from tools.backend.store.statements import execute_rows
from tools.backend.store.types import String
from tools.backend.timing import Origin

INSERT = postgresql.insert
"""`INSERT` with `ON CONFLICT`, for both databases: SQLite took the syntax over from PostgreSQL, and
PostgreSQL's construct compiles on SQLite; the reverse is not so."""


CHUNK = 2_000
"""Rows that are fetched at once when everything is loaded."""


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
DROP_MEMBERS = delete(tables.campaign_devices).where(
    tables.campaign_devices.c.campaign == bindparam("b_campaign")
)
DROP_ORPHANS = delete(tables.campaign_devices).where(
    tables.campaign_devices.c.campaign.not_in(select(tables.campaigns.c.id))
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
    .values(status=bindparam("b_status"), trail=bindparam("b_trail"))
)

STEP = 13
"""Characters of one step of a trail, see `campaigns.trail`."""

MAX_STEPS = 256
"""Steps that are kept of a device in a campaign, the newest: those of a year in which it was tried
and failed every other day. Each change writes the row anew, so it must not grow for ever."""

# Texts and no parameters: a statement with constants of its own takes the slow way to the driver.
_SHORTENED: ColumnElement[str] = literal_column(
    f"CASE WHEN length(trail) < {STEP * MAX_STEPS} THEN trail ELSE substr(trail, {STEP + 1}) END",
    String(),
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
MOVE_MEMBER = SET_MEMBER.values(trail=_SHORTENED + bindparam("b_step", type_=String()))
"""The same, where the status is another one."""


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
    execute_rows(connection, PUT_COUNTER, [{"name": name, "value": value}])


CAMPAIGNS = "campaigns"
"""The counter of the highest number of a campaign whose row is gone."""


def campaign_number(connection: Connection) -> int:
    """The highest number that a campaign had which is not there any more."""
    return int(counter(connection, CAMPAIGNS) or 0)


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


def _rows(
    connection: Connection, query: Select[Any], shared: Collection[str] = ()
) -> Iterator[dict[str, Any]]:
    """The rows of a query as they come. Columns in `shared` say the same in very many rows, so that
    each text is held in memory once."""
    result = connection.execute(query, execution_options={"yield_per": CHUNK})
    names = list(result.keys())
    positions = [names.index(name) for name in shared]
    memo: dict[Any, Any] = {}
    for row in result:
        values = list(row)
        for position in positions:
            value = values[position]
            values[position] = memo.setdefault(value, value)
        # Plain dicts: looking up a column in a row of SQLAlchemy costs ten times as much.
        yield dict(zip(names, values, strict=True))


def drop_unused(connection: Connection, digest: str) -> None:
    """Delete a content, unless something is left that has it."""
    for table in (tables.packages, tables.files, tables.campaigns):
        users = select(table.c.digest).where(table.c.digest == digest).limit(1)
        if connection.execute(users).first() is not None:
            return
    connection.execute(delete(tables.contents).where(tables.contents.c.digest == digest))


def load_accounts(connection: Connection) -> Iterator[Account]:
    for row in _rows(connection, select(tables.accounts)):
        yield Account(**row)


SHARED_DEVICE = ("account", "make", "model", "firmware", "delivery", "protocol", "token", "line")


def load_devices(connection: Connection) -> Iterator[Device]:
    for row in _rows(connection, select(tables.devices), SHARED_DEVICE):
        yield Device(**row)


def load_packages(connection: Connection) -> Iterator[Firmware]:
    for row in _rows(connection, select(tables.packages)):
        yield Firmware(**row)


def load_files(connection: Connection) -> Iterator[ConfigFile]:
    for row in _rows(connection, select(tables.files)):
        yield ConfigFile(**row)


SHARED_REGISTRATION = ("face", "host", "version", "binding", "objects")


def load_registrations(connection: Connection, face: str) -> list[Registration]:
    query = select(tables.registrations).where(tables.registrations.c.face == face)
    return [Registration(**row) for row in _rows(connection, query, SHARED_REGISTRATION)]


def load_content(connection: Connection, digest: str) -> bytes:
    """The bytes of a package."""
    query = select(tables.contents.c.body).where(tables.contents.c.digest == digest)
    body: bytes | None = connection.execute(query).scalar_one_or_none()
    if body is None:
        raise StoreError(f"the content {digest} is missing from the database")
    return body


def load_campaigns(connection: Connection) -> Iterator[Mapping[str, Any]]:
    """In the order of creation."""
    return _rows(connection, select(tables.campaigns).order_by(tables.campaigns.c.number))


# Without the trails: they are many, and read for one device at a time.
MEMBER_COLUMNS = [item for item in tables.campaign_devices.columns if item.name != "trail"]
SHARED_MEMBER = ("campaign", "delivery", "status", "said", "reason", "shown_status", "shown_reason")


def load_members(connection: Connection) -> Iterator[Mapping[str, Any]]:
    """By campaign and device."""
    query = select(*MEMBER_COLUMNS).order_by(
        tables.campaign_devices.c.campaign, tables.campaign_devices.c.device
    )
    return _rows(connection, query, SHARED_MEMBER)


def load_trails(connection: Connection, device: str, campaigns: Collection[str]) -> dict[str, str]:
    """What a device went through in each of these campaigns; empty where that is not known."""
    members = tables.campaign_devices.c
    found = {}
    for campaign in campaigns:
        query = select(members.trail).where(members.campaign == campaign, members.device == device)
        found[campaign] = connection.execute(query).scalar_one_or_none() or ""
    return found


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
