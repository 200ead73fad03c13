"""The schema as it was before there were revisions: `counters` says 2 there."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Integer = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""64 bits on both."""


def text(length: int | None = None) -> sa.types.TypeEngine[str]:
    """PostgreSQL holds nobody to a length, as SQLite does not."""
    return sa.String(length).with_variant(sa.String(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", text(32), primary_key=True),
        sa.Column("value", sa.Float, nullable=False),
    )
    op.create_table(
        "accounts",
        sa.Column("name", text(32), primary_key=True),
        sa.Column("secret", text(128), nullable=False),
        sa.Column("pilot_waived", sa.Boolean, nullable=False),
    )
    op.create_table(
        "devices",
        sa.Column("name", text(255), primary_key=True),
        sa.Column("account", text(32), nullable=False),
        sa.Column("device_id", text(15), nullable=False, unique=True),
        sa.Column("make", text(64), nullable=False),
        sa.Column("model", text(64), nullable=False),
        sa.Column("firmware", text(255), nullable=False),
        sa.Column("delivery", text(8), nullable=False),
        sa.Column("protocol", text(16), nullable=False),
        sa.Column("token", text(64), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("updated", sa.Float, nullable=False),
        sa.Column("upgraded", sa.Float),
    )
    op.create_index("devices_by_account", "devices", ["account", "device_id"])
    op.create_table(
        "registrations",
        sa.Column("name", text(255), primary_key=True),
        sa.Column("face", text(16), nullable=False),
        sa.Column("location", text(32), nullable=False, unique=True),
        sa.Column("host", text(255), nullable=False),
        sa.Column("port", Integer, nullable=False),
        sa.Column("lifetime", Integer, nullable=False),
        sa.Column("version", text(8), nullable=False),
        sa.Column("binding", text(8), nullable=False),
        sa.Column("queue", sa.Boolean, nullable=False),
        sa.Column("objects", text(), nullable=False),
        sa.Column("registered", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
    )
    op.create_table(
        "contents",
        sa.Column("digest", text(64), primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "packages",
        sa.Column("account", text(32), primary_key=True),
        sa.Column("name", text(128), primary_key=True),
        sa.Column("version_from", text(255), nullable=False),
        sa.Column("version_to", text(255), nullable=False),
        sa.Column("make", text(64), nullable=False),
        sa.Column("model", text(64), nullable=False),
        sa.Column("protocol", text(16), nullable=False),
        sa.Column("release_note", text(512), nullable=False),
        sa.Column("launched", sa.Float, nullable=False),
        sa.Column("digest", text(64), nullable=False),
        sa.Column("size", Integer, nullable=False),
    )
    op.create_table(
        "files",
        sa.Column("account", text(32), primary_key=True),
        sa.Column("name", text(300), primary_key=True),
        sa.Column("version_to", text(255), nullable=False),
        sa.Column("make", text(64), nullable=False),
        sa.Column("model", text(64), nullable=False),
        sa.Column("protocol", text(16), nullable=False),
        sa.Column("path", text(255), nullable=False),
        sa.Column("launched", sa.Float, nullable=False),
        sa.Column("digest", text(64), nullable=False),
        sa.Column("size", Integer, nullable=False),
    )
    op.create_table(
        "campaigns",
        sa.Column("id", text(36), primary_key=True),
        sa.Column("number", Integer, nullable=False, unique=True),
        sa.Column("account", text(32), nullable=False),
        sa.Column("kind", text(16), nullable=False),
        sa.Column("title", text(128), nullable=False),
        sa.Column("protocol", text(16), nullable=False),
        sa.Column("package", text(300), nullable=False),
        sa.Column("digest", text(64), nullable=False),
        sa.Column("version_from", text(255), nullable=False),
        sa.Column("version_to", text(255), nullable=False),
        sa.Column("make", text(64), nullable=False),
        sa.Column("model", text(64), nullable=False),
        sa.Column("start_date", text(10), nullable=False),
        sa.Column("end_date", text(10), nullable=False),
        sa.Column("windows", text(512), nullable=False),
        sa.Column("install_windows", text(512), nullable=False),
        sa.Column("download_after", text(10), nullable=False),
        sa.Column("install_after", text(10), nullable=False),
        sa.Column("path", text(255), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("starts", sa.Float, nullable=False),
        sa.Column("ends", sa.Float, nullable=False),
        sa.Column("concurrency", Integer, nullable=False),
        sa.Column("auto_assign", sa.Boolean, nullable=False),
        sa.Column("auto_add", sa.Boolean, nullable=False),
        sa.Column("status", text(32), nullable=False),
    )
    op.create_index("campaigns_by_account", "campaigns", ["account", "number"])
    op.create_table(
        "campaign_devices",
        sa.Column("campaign", text(36), primary_key=True),
        sa.Column("device", text(255), primary_key=True),
        sa.Column("device_id", text(15), nullable=False),
        sa.Column("delivery", text(8), nullable=False),
        sa.Column("status", text(40), nullable=False),
        sa.Column("position", Integer, nullable=False),
        sa.Column("attempts", Integer, nullable=False),
        sa.Column("executed", sa.Boolean, nullable=False),
        sa.Column("outcome", text(32)),
        sa.Column("said", text(255), nullable=False),
        sa.Column("reason", text(512), nullable=False),
        sa.Column("updated", sa.Float, nullable=False),
        sa.Column("recent_attempt", sa.Float),
        sa.Column("next_attempt", sa.Float),
    )
    op.create_table(
        "reports",
        sa.Column("device", text(255), primary_key=True),
        sa.Column("campaign", text(36), primary_key=True),
        sa.Column("seq", Integer, nullable=False),
        sa.Column("time", sa.Float, nullable=False),
    )
    op.create_table(
        "check_ins",
        sa.Column("number", Integer, primary_key=True, autoincrement=True),
        sa.Column("device", text(255), nullable=False),
        sa.Column("client_type", text(64), nullable=False),
        sa.Column("result", text(32), nullable=False),
        sa.Column("failure", text(32), nullable=False),
        sa.Column("time", sa.Float, nullable=False),
    )
    op.create_index("check_ins_by_device", "check_ins", ["device", "time"])
    op.create_index("check_ins_by_time", "check_ins", ["time"])
    op.create_table(
        "logging",
        sa.Column("device", text(255), primary_key=True),
        sa.Column("expires", sa.Float, nullable=False),
    )
    op.create_table(
        "logs",
        sa.Column("number", Integer, primary_key=True, autoincrement=True),
        sa.Column("device", text(255), nullable=False),
        sa.Column("log_time", text(32), nullable=False),
        sa.Column("log_type", text(32), nullable=False),
        sa.Column("event", text(), nullable=False),
        sa.Column("binary", text(), nullable=False),
        sa.Column("filename", text(128), nullable=False),
        sa.Column("stored", sa.Float, nullable=False),
    )
    op.create_index("logs_by_device", "logs", ["device", "stored"])
    op.create_table(
        "attachments",
        sa.Column("device_id", text(15), primary_key=True),
        sa.Column("cell", text(64), nullable=False),
        sa.Column("host", text(64), nullable=False),
        sa.Column("port", Integer, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
    )
    op.create_table(
        "short_messages",
        sa.Column("number", Integer, primary_key=True, autoincrement=False),
        sa.Column("device_id", text(15), nullable=False),
        sa.Column("pdu", sa.LargeBinary, nullable=False),
        sa.Column("accepted", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
    )
    op.create_table(
        "dm_accounts",
        sa.Column("device", text(255), primary_key=True),
        sa.Column("auth", text(8), nullable=False),
        sa.Column("server_id", text(64), nullable=False),
        sa.Column("username", text(64), nullable=False),
        sa.Column("password", text(64), nullable=False),
        sa.Column("server_password", text(64), nullable=False),
        sa.Column("client_nonce", sa.LargeBinary, nullable=False),
        sa.Column("server_nonce", sa.LargeBinary, nullable=False),
        sa.Column("root", text(255), nullable=False),
        sa.Column("session", Integer, nullable=False),
        sa.Column("result", text(255), nullable=False),
        sa.Column("seen", sa.Float, nullable=False),
    )
