"""Licences, callbacks, histories, cells; what version 1 publishes daily; plans of campaigns."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Integer = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""64 bits on both."""


def text(length: int | None = None) -> sa.types.TypeEngine[str]:
    """PostgreSQL holds nobody to a length, as SQLite does not."""
    return sa.String(length).with_variant(sa.String(), "postgresql")


# What the columns that every row must have say in rows that are there already: the subscription
# that asks for no licence, and what campaigns of each kind did without being told.
ADDED = {
    "accounts": (
        ("purchase_type", text(128), "TS-HFOTA-EVNT"),
        ("licence_count", Integer, 0),
        ("subscribed", sa.Float(), 0.0),
        ("omadm_mode", text(16), "network_aware"),
        ("v3_abort", sa.Boolean(), True),
    ),
    "devices": (("mdn", text(16), ""), ("line", text(16), "active")),
    "campaigns": (("plan", text(16), "windows"),),
    "campaign_devices": (
        ("shown_status", text(40), ""),
        ("shown_reason", text(512), ""),
        ("queued", sa.Boolean(), False),
    ),
}
PLANS = {"v1 firmware": "network_aware", "v2 software": "pull", "v2 file": "pull"}


def upgrade() -> None:
    for name, columns in ADDED.items():
        for column, kind, _value in columns:
            op.add_column(name, sa.Column(column, kind, nullable=True))
        table = sa.table(name, *(sa.column(column, kind) for column, kind, _value in columns))
        op.execute(table.update().values({column: value for column, _kind, value in columns}))
        with op.batch_alter_table(name) as batch:
            for column, _kind, _value in columns:
                batch.alter_column(column, nullable=False)
    campaigns = sa.table("campaigns", sa.column("kind", text(16)), sa.column("plan", text(16)))
    for campaign_kind, plan in PLANS.items():
        op.execute(campaigns.update().where(campaigns.c.kind == campaign_kind).values(plan=plan))
    # What used to say the revision; and builds between the two may have made tables too early.
    counters = sa.table("counters", sa.column("name", text(32)))
    op.execute(counters.delete().where(counters.c.name == "schema"))
    op.create_table(
        "licences",
        sa.Column("device_id", text(15), primary_key=True),
        sa.Column("account", text(32), nullable=False),
        sa.Column("number", Integer, nullable=False),
        sa.Column("assigned", sa.Float, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "cancellations",
        sa.Column("account", text(32), primary_key=True),
        sa.Column("device_id", text(15), primary_key=True),
        sa.Column("number", Integer, nullable=False),
        sa.Column("listed", sa.Float, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "listeners",
        sa.Column("account", text(32), primary_key=True),
        sa.Column("version", Integer, primary_key=True),
        sa.Column("url", text(2048), nullable=False),
        sa.Column("registered", sa.Float, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "outbox_changes",
        sa.Column("number", Integer, primary_key=True),
        sa.Column("account", text(32), nullable=False),
        sa.Column("version", Integer, nullable=False),
        sa.Column("campaign", text(36), nullable=False),
        sa.Column("device_id", text(15), nullable=False),
        sa.Column("status", text(40), nullable=False),
        sa.Column("reason", text(512), nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("recent_attempt", sa.Float),
        sa.Column("next_attempt", sa.Float),
        if_not_exists=True,
    )
    op.create_table(
        "outbox",
        sa.Column("number", Integer, primary_key=True),
        sa.Column("account", text(32), nullable=False),
        sa.Column("version", Integer, nullable=False),
        sa.Column("kind", text(32), nullable=False),
        sa.Column("campaign", text(36), nullable=False),
        sa.Column("body", text(), nullable=False),
        sa.Column("state", text(16), nullable=False),
        sa.Column("tries", Integer, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("due", sa.Float, nullable=False),
        sa.Column("finished", sa.Float),
        sa.Column("error", text(255), nullable=False),
        if_not_exists=True,
    )
    op.create_index("outbox_by_state", "outbox", ["state", "number"], if_not_exists=True)
    op.create_table(
        "attempts",
        sa.Column("campaign", text(36), primary_key=True),
        sa.Column("device", text(255), primary_key=True),
        sa.Column("number", Integer, primary_key=True),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("finished", sa.Float),
        sa.Column("status", text(40), nullable=False),
        sa.Column("outcome", text(32), nullable=False),
        sa.Column("version_from", text(255), nullable=False),
        if_not_exists=True,
    )
    op.create_index("attempts_by_device", "attempts", ["device", "started"], if_not_exists=True)
    op.create_table(
        "firmware_syncs",
        sa.Column("device_id", text(15), primary_key=True),
        sa.Column("account", text(32), nullable=False),
        sa.Column("request", text(36), nullable=False),
        sa.Column("status", text(40), nullable=False),
        sa.Column("reason", text(512), nullable=False),
        sa.Column("requested", sa.Float, nullable=False),
        sa.Column("finished", sa.Float),
        if_not_exists=True,
    )
    op.create_table(
        "cells",
        sa.Column("name", text(64), primary_key=True),
        sa.Column("capacity", Integer, nullable=False),
        if_not_exists=True,
    )
