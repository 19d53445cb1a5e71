"""PostgreSQL: engines, the tables of delivery, migrations, and which errors pass by themselves.

What a service stores is not here: that is its `store.py`.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any

import asyncpg
from pydantic_core import from_json, to_json
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection as Synchronous

from shared.runtime import SERVICES

if TYPE_CHECKING:
    from alembic.config import Config

OLDEST_SERVER = 160000
"""server_version_num: what this code is tested on begins at PostgreSQL 16."""


RIGHTS = "select, insert, update, delete"
"""What a service may do to a table of its own that says nothing else."""
ADDED_TO = {"rights": "select, insert"}
"""`info` of a table whose rows stay as they are."""

PERSONAL, ALL = "personal", "*"
"""In the `info` of a table: which of its columns hold, or may hold, what says who a person is. Whoever may read the
other columns (`READER`) may not read these (`CONTACTS` may)."""
READER, CONTACTS = "yiqi_reader", "yiqi_contacts"


def delivery_tables(metadata: MetaData, *, proven: bool = False) -> None:
    """Inbox, outbox and dead rows of one service, in its own schema.

    inbox: the identity of every event that had its effect, kept for ever (it is what makes effects happen
    once); `proven`, with its publisher, for other tables to refer to. outbox: what was decided and is not yet
    on the bus, empty when all is well. dead: what cannot be handled, with the reason, until a person replays
    or discards it. suspect: what was being handled alone when a process ended, if it did.
    """
    inbox = Table(
        "inbox",
        metadata,
        Column("key", Uuid, primary_key=True),
        Column("digest", Uuid, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        info=ADDED_TO,
    )
    if proven:
        inbox.append_column(Column("token", String, nullable=True))  # older rows have none
        inbox.append_constraint(UniqueConstraint("key", "token", name="inbox_token"))
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
        info={PERSONAL: ALL},
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
        info={PERSONAL: ("subject", "headers", "body", "by")},
    )
    Table(
        "suspect",
        metadata,
        Column("stream", String, primary_key=True),
        Column("seq", BigInteger, primary_key=True),
        Column("tries", Integer, nullable=False),
    )


def async_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+asyncpg://", 1)


class Row(asyncpg.Record):  # type: ignore[misc]  # asyncpg has no types
    """A row whose columns are attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


class Result(list[Any]):
    """The rows of a statement; `rowcount` of one that returns none."""

    rowcount = 0

    def all(self) -> list[Any]:
        return self

    def one_or_none(self) -> Any:
        return self[0] if self else None

    def scalar(self) -> Any:
        return self[0][0] if self else None


_NAMED = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")
_RETURNS = re.compile(r"^\s*(select|with|show|values)\b|\breturning\b", re.IGNORECASE)


@lru_cache(maxsize=512)
def _positional(sql: str) -> tuple[str, tuple[str, ...], bool]:
    """`:name` as asyncpg's `$n`, the names in order, and whether rows come back."""
    names = tuple(dict.fromkeys(_NAMED.findall(sql)))
    return _NAMED.sub(lambda m: f"${names.index(m[1]) + 1}", sql), names, bool(_RETURNS.search(sql))


@lru_cache(maxsize=512)
def _together(statements: tuple[str, ...]) -> str:
    """Many statements as one, which fails as a whole, by a division by zero, when one of them wrote fewer rows
    than the number that follows its own parameters."""
    parts, enough, before = [], [], 0
    for i, sql in enumerate(statements):
        positional, names, _ = _positional(sql)
        shifted = re.sub(r"\$(\d+)", lambda m, by=before: f"${int(m[1]) + by}", positional)  # type: ignore[misc]
        before += len(names) + 1
        parts.append(f"p{i} as ({shifted} returning 1)")
        enough.append(f"(select count(*) from p{i}) >= ${before}")
    return f"with {', '.join(parts)} select 1 / cast({' and '.join(enough)} as int)"


class Connection:
    """asyncpg with named parameters. SQLAlchemy declares the tables and runs the migrations; its asyncio
    execution cost three times the CPU of a small transaction (`tests/bench`), and latency with it.

    A transaction begins with the first `execute`. One that only reads and then writes `later` needs none:
    its writes are a single statement, which holds by itself.
    """

    def __init__(self, driver: Any, *, begins: bool) -> None:
        self.driver = driver
        self._begins = begins
        self._begun = False
        self._later: list[tuple[str, Mapping[str, Any], int]] = []

    async def execute(self, sql: str, values: Mapping[str, Any] | None = None) -> Result:
        if self._begins and not self._begun:
            # Not asyncpg's own transactions: one whose BEGIN timed out would make the next a savepoint of it.
            await self.driver.execute("begin")
            self._begun = True
        return await self.read(sql, values)

    async def read(self, sql: str, values: Mapping[str, Any] | None = None) -> Result:
        """A statement that need not be in the transaction: what is written because of it is checked again when
        it is written."""
        positional, names, returns = _positional(sql)
        arguments = [(values or {})[name] for name in names]
        if returns:
            return Result(await self.driver.fetch(positional, *arguments))
        result = Result()
        done = (await self.driver.execute(positional, *arguments)).rsplit(" ", 1)[-1]
        result.rowcount = int(done) if done.isdigit() else 0  # SET and LOCK TABLE count nothing
        return result

    def later(self, sql: str, values: Mapping[str, Any], at_least: int = 0) -> None:
        """A statement whose rows nobody reads before the commit: all of them travel as one at the end of the
        transaction. `Again` when it writes fewer rows than `at_least`."""
        self._later.append((sql, values, at_least))

    async def commit(self) -> None:
        """Write what waits, and commit."""
        later, self._later = self._later, []
        if later:
            arguments: list[Any] = []
            for sql, values, at_least in later:
                arguments += [values[name] for name in _positional(sql)[1]]
                arguments.append(at_least)
            try:
                await self.driver.fetch(_together(tuple(sql for sql, _, _ in later)), *arguments)
            except asyncpg.DivisionByZeroError:
                raise Again("what was to be written has been written by another") from None
        if self._begun:
            await self.driver.execute("commit")
            self._begun = False

    async def rollback(self) -> None:
        self._later.clear()
        if self._begun and not self.driver.is_closed():
            await self.driver.execute("rollback")
            self._begun = False

    def end(self) -> None:
        """Close it at once, with every lock that it holds."""
        self.driver.terminate()


class Database:
    """The connections of one service, made when first needed and kept. asyncpg's own pool answers for every
    way in which a connection can be handed over; its proxies cost a third of a short transaction."""

    def __init__(self, url: str, service: str, most: int, patience: float) -> None:
        self._url, self._service, self._patience = url, service, patience
        self._open: set[Any] = set()
        self._idle: list[Any] = []
        self._room = asyncio.Semaphore(most)

    @asynccontextmanager
    async def _driver(self) -> AsyncIterator[Any]:
        """A connection for one user at a time. After an error of PostgreSQL's own it is as before; after any
        other (a time limit, a cancellation) nobody knows what still runs on it, so it is not used again."""
        async with self._room:
            driver = self._idle.pop() if self._idle else None
            if driver is None or driver.is_closed():
                driver = await self._connect()
            try:
                yield driver
            except (asyncpg.PostgresError, Again):
                raise
            except BaseException as error:
                driver.terminate()
                if isinstance(error, TimeoutError):
                    # The way there may be dead without a word: whatever was connected on it would cost as much again.
                    while self._idle:
                        self._idle.pop().terminate()
                raise
            finally:
                if not driver.is_closed():
                    if driver.is_in_transaction():
                        driver.terminate()
                    else:
                        self._idle.append(driver)

    async def _connect(self) -> Any:
        driver = await asyncpg.connect(
            self._url,
            timeout=5,
            command_timeout=self._patience,
            record_class=Row,
            server_settings={"application_name": f"yiqi-{self._service}"},
        )
        self._open.add(driver)
        driver.add_termination_listener(self._open.discard)
        try:
            for name in ("json", "jsonb"):
                await driver.set_type_codec(name, schema="pg_catalog", encoder=str, decoder=from_json)
        except BaseException:
            driver.terminate()
            raise
        return driver

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """A connection on which every statement stands alone."""
        async with self._driver() as driver:
            yield Connection(driver, begins=False)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Connection]:
        """A transaction: committed at the end, rolled back by whatever is raised."""
        async with self._driver() as driver:
            conn = Connection(driver, begins=True)
            try:
                yield conn
                await conn.commit()
            except (asyncpg.PostgresError, Again):
                await conn.rollback()
                raise

    async def dispose(self) -> None:
        """End every connection, also one that is in use."""
        for driver in list(self._open):
            driver.terminate()


def connect(url: str, service: str, *, most: int = 8, patience: float = 30) -> Database:
    """Opens nothing yet; at most `most` connections at a time, `patience` seconds for a statement."""
    return Database(url, service, most, patience)


class Again(Exception):
    """Two replicas touched the same thing at once; the transaction starts again."""


# SQLSTATE classes that pass by themselves or by an operator: connection, resources, intervention,
# rollback (serialization, deadlock), lock not available, read-only after a failover.
_PASSING = ("08", "53", "57", "40", "55P03", "25006")


def passes(error: BaseException) -> bool:
    """Whether an error is the outage of a dependency, to be waited for, rather than the fault of a message."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate or "").startswith(_PASSING)
    # The internal one: a connection that is cut while its answer is read leaves the driver in no known state.
    return isinstance(
        error, (Again, OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    )


async def put(
    conn: Connection, table: str, rows: Sequence[Mapping[str, Any]], then: str = "on conflict do nothing"
) -> Sequence[Any]:
    """Insert many rows in one statement; `then` is what follows `insert … select …`, and may return rows.

    The rows travel as one JSON text, so a statement has one parameter however many columns there are.
    Values are JSON types or what `str()` makes PostgreSQL read (dates, UUIDs, Decimals).
    """
    return await conn.execute(*_insertion(table, rows, then)) if rows else ()


def put_later(
    conn: Connection,
    table: str,
    rows: Sequence[Mapping[str, Any]],
    then: str = "on conflict do nothing",
    *,
    all_new: bool = False,
) -> None:
    """`put` at the end of the transaction, in one round trip with whatever else waits for it; with `all_new`,
    `Again` when another has written one of the rows."""
    if rows:
        conn.later(*_insertion(table, rows, then), at_least=len(rows) if all_new else 0)


def _insertion(table: str, rows: Sequence[Mapping[str, Any]], then: str) -> tuple[str, dict[str, Any]]:
    columns = ", ".join(f'"{c}"' for c in rows[0])
    return (
        f"insert into {table} ({columns}) select {columns} "
        f"from json_populate_recordset(null::{table}, cast(:rows as json)) {then}",
        {"rows": to_json(list(rows)).decode()},
    )


# --- migrations --------------------------------------------------------------------------------------


def _alembic(service: str, connection: Synchronous) -> "Config":
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

    One migrator at a time (advisory lock). A role may do to each of its tables what the table's `rights` say, and
    create none.
    """
    from sqlalchemy.ext.asyncio import create_async_engine  # the migrator's, with alembic

    engine = create_async_engine(async_url(url), hide_parameters=True)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_migrate, tuple(services), passwords or {})
    finally:
        await engine.dispose()


def _migrate(connection: Synchronous, services: Sequence[str], passwords: Mapping[str, str]) -> None:
    from alembic import command

    version = connection.execute(text("show server_version_num")).scalar_one()
    if int(version) < OLDEST_SERVER:
        raise RuntimeError(f"PostgreSQL 16 or newer is needed, this is {version}")
    connection.execute(text("select pg_advisory_xact_lock(hashtext('yiqi-migrate'))"))
    for service in services:
        connection.execute(text(f"create schema if not exists {service}"))
        command.upgrade(_alembic(service, connection), "head")
        _grant(connection, service, passwords.get(service))
        _let_read(connection, metadata_of(service))


def _grant(connection: Synchronous, service: str, password: str | None) -> None:
    role = f"yiqi_{service}"
    exists = connection.execute(text("select 1 from pg_roles where rolname = :r"), {"r": role}).scalar()
    if not exists:
        connection.execute(text(f"create role {role} login"))
    if password:
        quoted = password.replace("'", "''")
        connection.execute(text(f"alter role {role} password '{quoted}'"))
    connection.execute(text(f"grant usage on schema {service} to {role}"))
    connection.execute(text(f"revoke all on all tables in schema {service} from {role}"))
    connection.execute(text(f"grant select on {service}.alembic_version to {role}"))
    for table in metadata_of(service).sorted_tables:
        name = connection.dialect.identifier_preparer.format_table(table)
        connection.execute(text(f"grant {table.info.get('rights', RIGHTS)} on {name} to {role}"))
    connection.execute(text(f"grant usage on all sequences in schema {service} to {role}"))
    connection.execute(text(f"alter role {role} set search_path = {service}"))


def _let_read(connection: Synchronous, metadata: MetaData) -> None:
    """The roles of people and of their reports, which nobody logs in as: granted to whoever may read, with or without
    contact data. What a table says of its columns is all that is needed; a new table is readable at the next migrate."""
    schema = metadata.schema
    for role in (READER, CONTACTS):
        if not connection.execute(text("select 1 from pg_roles where rolname = :r"), {"r": role}).scalar():
            connection.execute(text(f"create role {role} nologin"))
        connection.execute(text(f"grant usage on schema {schema} to {role}"))
        connection.execute(text(f"revoke all on all tables in schema {schema} from {role}"))
    for table in metadata.sorted_tables:
        connection.execute(text(f'grant select on {schema}."{table.name}" to {CONTACTS}'))
        personal = table.info.get(PERSONAL, ())
        shown = [] if personal == ALL else [f'"{c.name}"' for c in table.columns if c.name not in personal]
        if shown:
            columns = ", ".join(shown)
            connection.execute(text(f'grant select ({columns}) on {schema}."{table.name}" to {READER}'))


def head(service: str) -> str:
    """The newest migration of a service, as shipped: migrations are named `NNNN_what.py`."""
    folder = resources.files(f"services.{service}") / "migrations"
    return max(f.name[:4] for f in folder.iterdir() if f.name[:4].isdigit())
