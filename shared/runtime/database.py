"""PostgreSQL: engines, the tables of delivery, migrations, and which errors pass by themselves.

What a service stores is not here: that is its `store.py`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any

import asyncpg
from pydantic_core import to_json
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared.runtime import SERVICES

if TYPE_CHECKING:
    from alembic.config import Config


if TYPE_CHECKING:
    from alembic.config import Config

OLDEST_SERVER = 160000
"""server_version_num: what this code is tested on begins at PostgreSQL 16."""


def delivery_tables(metadata: MetaData) -> None:
    """Inbox, outbox and dead rows of one service, in its own schema.

    inbox: the identity of every event that had its effect, kept for ever (it is what makes effects happen
    once). outbox: what was decided and is not yet on the bus, empty when all is well. dead: what cannot
    be handled, with the reason, until a person replays or discards it.
    """
    Table(
        "inbox",
        metadata,
        Column("key", Uuid, primary_key=True),
        Column("digest", Uuid, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    )
    Table(
        "outbox",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("n", BigInteger, Identity(), nullable=False),
        Column("stream", String, nullable=False),
        Column("subject", String, nullable=False),
        Column("body", Text, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Index(f"{metadata.schema}_outbox_n", "n"),
    )
    Table(
        "dead",
        metadata,
        Column("n", BigInteger, Identity(), primary_key=True),
        Column("stream", String, nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("subject", String, nullable=False),
        Column("headers", JSONB, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("received", DateTime(timezone=True), nullable=False),
        Column("code", String, nullable=False),
        Column("why", String, nullable=False),
        Column("state", String, nullable=False, server_default="dead"),
        Column("by", String, nullable=True),
        Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Index(f"{metadata.schema}_dead_state", "state", "n"),
    )


def async_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+asyncpg://", 1)


def connect(url: str, service: str, *, pool: int = 4) -> AsyncEngine:
    """A pool for one service. `hide_parameters` keeps personal data out of every error text."""
    return create_async_engine(
        async_url(url),
        pool_size=pool,
        max_overflow=0,
        pool_pre_ping=False,
        hide_parameters=True,
        json_serializer=lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
        connect_args={
            "server_settings": {"application_name": f"yiqi-{service}"},
            "timeout": 5,
            "command_timeout": 60,
        },
    )


class Again(Exception):
    """Two replicas touched the same thing at once; the transaction starts again."""


# SQLSTATE classes that pass by themselves or by an operator: connection, resources, intervention,
# rollback (serialization, deadlock), lock not available, read-only after a failover.
_PASSING = ("08", "53", "57", "40", "55P03", "25006")


def passes(error: BaseException) -> bool:
    """Whether an error is the outage of a dependency, to be waited for, rather than the fault of a message."""
    if isinstance(
        error, (Again, OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError)
    ):
        return True
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
        if state:
            return str(state).startswith(_PASSING)
        return isinstance(error, (InterfaceError, OperationalError)) or error.connection_invalidated
    return isinstance(error, SQLAlchemyError) and "QueuePool limit" in str(error)


async def put(
    conn: AsyncConnection, table: str, rows: Sequence[Mapping[str, Any]], then: str = "on conflict do nothing"
) -> Sequence[Any]:
    """Insert many rows in one statement; `then` is what follows `insert … select …`, and may return rows.

    The rows travel as one JSON text, so a statement has one parameter however many columns there are.
    Values are JSON types or what `str()` makes PostgreSQL read (dates, UUIDs, Decimals).
    """
    if not rows:
        return ()
    columns = ", ".join(f'"{c}"' for c in rows[0])
    returning = await conn.execute(
        text(
            f"insert into {table} ({columns}) select {columns} "
            f"from json_populate_recordset(null::{table}, cast(:rows as json)) {then}"
        ),
        {"rows": to_json(list(rows)).decode()},
    )
    return returning.all() if returning.returns_rows else ()


# --- migrations --------------------------------------------------------------------------------------


def _alembic(service: str, connection: Connection) -> "Config":
    from alembic.config import Config  # the migrator needs it; in a service it would be 15 MB for nothing

    config = Config()
    config.set_main_option("script_location", str(resources.files("shared.runtime") / "migrations"))
    config.set_main_option("version_locations", str(resources.files(f"services.{service}") / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, service=service)
    return config


def metadata_of(service: str) -> MetaData:
    """The declared tables of a service; imported only here, where the runtime must know all four."""
    metadata: MetaData = import_module(f"services.{service}.store").METADATA
    return metadata


async def migrate(
    url: str, services: Iterable[str] = SERVICES, *, passwords: Mapping[str, str] | None = None
) -> None:
    """Bring every schema to its head as the owner, and give each service's role its own schema only.

    One migrator at a time (advisory lock). A role may read and write its tables, and create none.
    """
    engine = create_async_engine(async_url(url), hide_parameters=True)
    async with engine.begin() as connection:
        await connection.run_sync(_migrate, tuple(services), passwords or {})
    await engine.dispose()


def _migrate(connection: Connection, services: Sequence[str], passwords: Mapping[str, str]) -> None:
    from alembic import command

    version = connection.execute(text("show server_version_num")).scalar_one()
    if int(version) < OLDEST_SERVER:
        raise RuntimeError(f"PostgreSQL 16 or newer is needed, this is {version}")
    connection.execute(text("select pg_advisory_xact_lock(hashtext('yiqi-migrate'))"))
    for service in services:
        connection.execute(text(f"create schema if not exists {service}"))
        command.upgrade(_alembic(service, connection), "head")
        _grant(connection, service, passwords.get(service))


def _grant(connection: Connection, service: str, password: str | None) -> None:
    role = f"yiqi_{service}"
    exists = connection.execute(text("select 1 from pg_roles where rolname = :r"), {"r": role}).scalar()
    if not exists:
        connection.execute(text(f"create role {role} login"))
    if password:
        quoted = password.replace("'", "''")
        connection.execute(text(f"alter role {role} password '{quoted}'"))
    connection.execute(text(f"grant usage on schema {service} to {role}"))
    connection.execute(
        text(f"grant select, insert, update, delete on all tables in schema {service} to {role}")
    )
    connection.execute(text(f"grant usage on all sequences in schema {service} to {role}"))
    connection.execute(text(f"alter role {role} set search_path = {service}"))


def head(service: str) -> str:
    """The newest migration of a service, as shipped: migrations are named `NNNN_what.py`."""
    folder = resources.files(f"services.{service}") / "migrations"
    return max(f.name[:4] for f in folder.iterdir() if f.name[:4].isdigit())
