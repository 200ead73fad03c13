"""The tables of the store, as SQLAlchemy Core metadata.

All instants are seconds since the epoch in the backend's own time (`BackendTime`), so that they
mean the same after a restart. Core and not the ORM: the paths that write a row per device cost a
quarter of the ORM's time there.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

SCHEMA_VERSION = 2
"""Written into every database; another number there is refused instead of misread."""

metadata = MetaData()

# One row each of: schema, clock (last committed instant), starts (of the backend, on this
# database), location (first free registration number).
counters = Table(
    "counters",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Float, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("name", String(32), primary_key=True),
    # In clear: the ready file of a restarted backend must name the same secret again. The file
    # of the database is therefore made with mode 0600.
    Column("secret", String(128), nullable=False),
    Column("pilot_waived", Boolean, nullable=False, default=False),
)

devices = Table(
    "devices",
    metadata,
    # The protocol identity: the LwM2M endpoint name.
    Column("name", String(255), primary_key=True),
    Column("account", String(32), nullable=False),
    Column("device_id", String(15), nullable=False, unique=True),
    Column("make", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("firmware", String(255), nullable=False),
    Column("delivery", String(8), nullable=False),
    Column("protocol", String(16), nullable=False),
    # SHA-256 of the bearer token of a device that comes over HTTP; empty without one. The token
    # itself is never stored.
    Column("token", String(64), nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("upgraded", Float, nullable=True),
)
Index("devices_by_account", devices.c.account, devices.c.device_id)

registrations = Table(
    "registrations",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("face", String(16), nullable=False),
    Column("location", String(32), nullable=False, unique=True),
    Column("host", String(255), nullable=False),
    Column("port", Integer, nullable=False),
    Column("lifetime", Integer, nullable=False),
    Column("version", String(8), nullable=False),
    Column("binding", String(8), nullable=False),
    Column("queue", Boolean, nullable=False),
    Column("objects", String, nullable=False),
    Column("registered", Float, nullable=False),
    Column("expires", Float, nullable=False),
)

# Content-addressed: many packages, campaigns and uploads may name the same bytes.
contents = Table(
    "contents",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

packages = Table(
    "packages",
    metadata,
    Column("account", String(32), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("version_from", String(255), nullable=False),
    Column("version_to", String(255), nullable=False),
    Column("make", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("protocol", String(16), nullable=False),
    Column("release_note", String(512), nullable=False),
    Column("launched", Float, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size", Integer, nullable=False),
)

# Configuration files, by the name that the upload was given.
files = Table(
    "files",
    metadata,
    Column("account", String(32), primary_key=True),
    Column("name", String(300), primary_key=True),
    Column("version_to", String(255), nullable=False),
    Column("make", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("protocol", String(16), nullable=False),
    Column("path", String(255), nullable=False),
    Column("launched", Float, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size", Integer, nullable=False),
)

campaigns = Table(
    "campaigns",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("number", Integer, nullable=False, unique=True),
    Column("account", String(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("title", String(128), nullable=False),
    Column("protocol", String(16), nullable=False),
    Column("package", String(300), nullable=False),
    # The content is pinned when the campaign is made; a later upload under the same name does
    # not change what is running.
    Column("digest", String(64), nullable=False),
    Column("version_from", String(255), nullable=False),
    Column("version_to", String(255), nullable=False),
    Column("make", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("start_date", String(10), nullable=False),
    Column("end_date", String(10), nullable=False),
    Column("windows", String(512), nullable=False),
    # v2 only: windows of the installation, the two dates, and where on the device a file goes.
    Column("install_windows", String(512), nullable=False),
    Column("download_after", String(10), nullable=False),
    Column("install_after", String(10), nullable=False),
    Column("path", String(255), nullable=False),
    Column("created", Float, nullable=False),
    Column("starts", Float, nullable=False),
    Column("ends", Float, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("auto_assign", Boolean, nullable=False),
    Column("auto_add", Boolean, nullable=False),
    Column("status", String(32), nullable=False),
)
Index("campaigns_by_account", campaigns.c.account, campaigns.c.number)

campaign_devices = Table(
    "campaign_devices",
    metadata,
    Column("campaign", String(36), primary_key=True),
    Column("device", String(255), primary_key=True),
    # As the request named it; a device that was not found has no other name.
    Column("device_id", String(15), nullable=False),
    Column("delivery", String(8), nullable=False),
    Column("status", String(40), nullable=False),
    Column("position", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    # True from the commit before the device is told to install, until the end.
    Column("executed", Boolean, nullable=False),
    Column("outcome", String(32), nullable=True),
    # What the device itself said last, in the words of its protocol, for the report.
    Column("said", String(255), nullable=False),
    Column("reason", String(512), nullable=False),
    Column("updated", Float, nullable=False),
    Column("recent_attempt", Float, nullable=True),
    Column("next_attempt", Float, nullable=True),
)

# The last report of a device in a campaign: a repetition of it, perhaps after a restart of ours, is
# accepted again and changes nothing.
reports = Table(
    "reports",
    metadata,
    Column("device", String(255), primary_key=True),
    Column("campaign", String(36), primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("time", Float, nullable=False),
)

check_ins = Table(
    "check_ins",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("device", String(255), nullable=False),
    Column("client_type", String(64), nullable=False),
    Column("result", String(32), nullable=False),
    Column("failure", String(32), nullable=False),
    Column("time", Float, nullable=False),
)
Index("check_ins_by_device", check_ins.c.device, check_ins.c.time)
Index("check_ins_by_time", check_ins.c.time)

# Verbose logging that is switched on.
logging = Table(
    "logging",
    metadata,
    Column("device", String(255), primary_key=True),
    Column("expires", Float, nullable=False),
)

logs = Table(
    "logs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("device", String(255), nullable=False),
    Column("log_time", String(32), nullable=False),
    Column("log_type", String(32), nullable=False),
    Column("event", String, nullable=False),
    Column("binary", String, nullable=False),
    Column("filename", String(128), nullable=False),
    Column("stored", Float, nullable=False),
)
Index("logs_by_device", logs.c.device, logs.c.stored)
