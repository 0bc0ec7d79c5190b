"""Alembic's entry. The connection comes from `yunhe.hub.platform.migrate`; there is no URL in a file."""

from alembic import context

from yunhe.hub.platform.db import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
if connection.in_transaction():
    connection.commit()
