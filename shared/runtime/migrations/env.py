"""How Alembic runs the migrations of one service: on a given connection, in that service's schema.

The migrations themselves are in `services/<service>/migrations`.
"""

from alembic import context

from shared.runtime.database import metadata_of

config = context.config
service = config.attributes["service"]
metadata = metadata_of(service)
context.configure(
    connection=config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=service,
    include_schemas=True,
    include_name=lambda name, kind, _parents: kind != "schema" or name == service,
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
