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
    LargeBinary,
    MetaData,
    Table,
)

from tools.backend.store.types import Integer, String

metadata = MetaData()

# One row each of: clock (last committed instant), starts (of the backend, on this database),
# location (first free registration number), commits (PostgreSQL only, see its runner), history
# (of a database that is older than the trails: since when there are any), campaigns (the highest
# number of one that was removed).
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
    # What the account has subscribed to, a comma list in the API's words; and how many licences.
    Column("purchase_type", String(128), nullable=False),
    Column("licence_count", Integer, nullable=False),
    Column("subscribed", Float, nullable=False),
    # `network_aware` or `one_attempt`; frozen into each campaign when it is made.
    Column("omadm_mode", String(16), nullable=False),
    # Whether DELETE aborts a v3 campaign that has started.
    Column("v3_abort", Boolean, nullable=False),
)

# A licence belongs to a device; the order of assignment decides which is released first.
licences = Table(
    "licences",
    metadata,
    Column("device_id", String(15), primary_key=True),
    Column("account", String(32), nullable=False),
    Column("number", Integer, nullable=False),
    Column("assigned", Float, nullable=False),
)

# The cancellation list: whose licences go first when the subscription shrinks.
cancellations = Table(
    "cancellations",
    metadata,
    Column("account", String(32), primary_key=True),
    Column("device_id", String(15), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("listed", Float, nullable=False),
)

# Where callback messages go: one listener for each account and version of the API.
listeners = Table(
    "listeners",
    metadata,
    Column("account", String(32), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("url", String(2048), nullable=False),
    Column("registered", Float, nullable=False),
)

# Status changes that no message holds yet; written before the change itself, so that a kill
# between the two repeats a message and loses none.
outbox_changes = Table(
    "outbox_changes",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("account", String(32), nullable=False),
    Column("version", Integer, nullable=False),
    Column("campaign", String(36), nullable=False),
    # Empty: the campaign itself has changed.
    Column("device_id", String(15), nullable=False),
    Column("status", String(40), nullable=False),
    Column("reason", String(512), nullable=False),
    Column("time", Float, nullable=False),
    Column("recent_attempt", Float, nullable=True),
    Column("next_attempt", Float, nullable=True),
)

outbox = Table(
    "outbox",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("account", String(32), nullable=False),
    Column("version", Integer, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("campaign", String(36), nullable=False),
    Column("body", String, nullable=False),
    # waiting, delivered or dropped.
    Column("state", String(16), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("due", Float, nullable=False),
    Column("finished", Float, nullable=True),
    Column("error", String(255), nullable=False),
)
Index("outbox_by_state", outbox.c.state, outbox.c.number)

# Each attempt to update a device, for the histories.
attempts = Table(
    "attempts",
    metadata,
    Column("campaign", String(36), primary_key=True),
    Column("device", String(255), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started", Float, nullable=False),
    Column("finished", Float, nullable=True),
    # The status and the outcome of the attempt; empty while it runs.
    Column("status", String(40), nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("version_from", String(255), nullable=False),
)
Index("attempts_by_device", attempts.c.device, attempts.c.started)

# The last request to read a device's firmware version.
firmware_syncs = Table(
    "firmware_syncs",
    metadata,
    Column("device_id", String(15), primary_key=True),
    Column("account", String(32), nullable=False),
    Column("request", String(36), nullable=False),
    Column("status", String(40), nullable=False),
    Column("reason", String(512), nullable=False),
    Column("requested", Float, nullable=False),
    Column("finished", Float, nullable=True),
)

# Cells whose limit of concurrent upgrades is not the default.
cells = Table(
    "cells",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("capacity", Integer, nullable=False),
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
    Column("mdn", String(16), nullable=False),
    # The status of the line of service: active or suspend.
    Column("line", String(16), nullable=False),
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
    # How failed devices are asked again: a name of `campaigns.plans.PLANS`.
    Column("plan", String(16), nullable=False),
    Column("status", String(32), nullable=False),
    # How it came there: a trail, see `campaigns.trail`. Likewise of the devices below.
    Column("trail", String, nullable=False),
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
    # What v1 shows until its next daily publication, and until when; empty when it shows the truth.
    Column("shown_status", String(40), nullable=False),
    Column("shown_reason", String(512), nullable=False),
    # Waits in the network for its next power-up, although its campaign is over.
    Column("queued", Boolean, nullable=False),
    Column("trail", String, nullable=False),
)

# How many devices of a campaign were in each status at the end of a step of time in which that
# changed, as JSON; a bounded number of rows for each campaign.
state_samples = Table(
    "state_samples",
    metadata,
    Column("campaign", String(36), primary_key=True),
    Column("time", Float, primary_key=True),
    Column("counts", String, nullable=False),
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
