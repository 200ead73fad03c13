"""Runs the revisions in this folder, on the connection and in the transaction of the caller."""

from alembic import context

from tools.backend.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite changes a column by copying the table.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
