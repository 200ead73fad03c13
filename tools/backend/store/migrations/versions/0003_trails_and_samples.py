"""What campaigns and their devices went through, and the state of campaigns over time."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def text(length: int | None = None) -> sa.types.TypeEngine[str]:
    """PostgreSQL holds nobody to a length, as SQLite does not."""
    return sa.String(length).with_variant(sa.String(), "postgresql")


def upgrade() -> None:
    for name in ("campaigns", "campaign_devices"):
        op.add_column(name, sa.Column("trail", text(), nullable=True))
        table = sa.table(name, sa.column("trail", text()))
        op.execute(table.update().values(trail=""))
        with op.batch_alter_table(name) as batch:
            batch.alter_column("trail", nullable=False)
    op.create_table(
        "state_samples",
        sa.Column("campaign", text(36), primary_key=True),
        sa.Column("time", sa.Float, primary_key=True),
        sa.Column("counts", text(), nullable=False),
    )
    # Of what was before, nothing was written: it is known from the last instant on.
    counters = sa.table("counters", sa.column("name", text(32)), sa.column("value", sa.Float))
    last = sa.select(sa.literal("history", text(32)), counters.c.value).where(
        counters.c.name == "clock"
    )
    op.execute(counters.insert().from_select(["name", "value"], last))
