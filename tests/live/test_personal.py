"""Who may read contact data in PostgreSQL, what a migration does with old rows, and what the bus forgets."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import nats
import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from services.review import store
from services.review.case import Case, filing_of
from services.review.contacts import filings_of
from services.review.decide import file_again, open_case
from services.review.replay import audit
from shared.contracts.submission import SubmissionAccepted
from shared.contracts.types import Party
from shared.notices.calendar import Calendar
from shared.notices.load import load_all
from shared.runtime import SERVICES
from shared.runtime.database import (
    ALL,
    PERSONAL,
    _alembic,
    async_url,
    connect,
    metadata_of,
    migrate,
    put,
)
from shared.runtime.embedded import Nats, Postgres
from shared.runtime.streams import DAY, FORGETS, STREAMS, Drift, provision

TABLES = [(s, t) for s in SERVICES for t in metadata_of(s).sorted_tables]
NOTICE = load_all()["gz-collection-2025q1"].notice
LATER = ("key", "publisher")
"""Columns of the history that came after the old rows."""


@pytest.fixture(scope="module")
def logins(postgres: Postgres, template: str) -> Iterator[dict[str, str]]:
    """Two people, each granted one of the roles."""
    for role in ("reader", "contacts"):
        postgres.sql(f"create role test_{role} login password 'test' in role yiqi_{role}")
    yield {"reader": "test_reader", "contacts": "test_contacts"}
    postgres.sql("drop role test_reader; drop role test_contacts")


async def may(conn: asyncpg.Connection, sql: str) -> bool:
    try:
        await conn.execute(sql)
    except asyncpg.InsufficientPrivilegeError:
        return False
    return True


@pytest.mark.parametrize("role", ["reader", "contacts"])
async def test_a_reader_reads_every_column_but_contact_data_and_writes_nothing(
    postgres: Postgres, database: str, logins: dict[str, str], role: str
) -> None:
    conn = await asyncpg.connect(postgres.dsn(database, logins[role], "test"))
    try:
        for schema, table in TABLES:
            personal = table.info.get(PERSONAL, ())
            for column in table.columns:
                hidden = role == "reader" and (personal == ALL or column.name in personal)
                name = f'{schema}."{table.name}"'
                assert await may(conn, f'select "{column.name}" from {name}') is not hidden, (
                    name,
                    column.name,
                )
            assert not await may(conn, f'delete from {schema}."{table.name}"')
            assert not await may(
                conn, f'update {schema}."{table.name}" set "{next(iter(table.columns)).name}" = null'
            )
            assert await may(conn, f'select * from {schema}."{table.name}"') is (
                role == "contacts" or not personal
            )
        assert not await may(conn, "create table public.mine (n int)")
    finally:
        await conn.close()


async def test_what_was_readable_is_so_no_more_when_a_table_says_otherwise(
    postgres: Postgres, database: str, logins: dict[str, str]
) -> None:
    """The next migrate takes away what somebody, or an earlier release, has granted."""
    postgres.sql(
        "grant select on notify.mail to yiqi_reader; grant delete on intake.file to yiqi_contacts", database
    )
    conn = await asyncpg.connect(postgres.dsn(database, logins["reader"], "test"))
    try:
        assert await may(conn, "select address from notify.mail")  # control
        await migrate(postgres.dsn(database))
        assert not await may(conn, "select address from notify.mail")
        assert await may(conn, "select state from notify.mail")
    finally:
        await conn.close()


def test_no_column_that_is_named_like_a_contact_is_readable() -> None:
    shown = {
        f"{s}.{t.name}.{c.name}"
        for s, t in TABLES
        for c in t.columns
        if t.info.get(PERSONAL, ()) != ALL and c.name not in t.info.get(PERSONAL, ())
    }
    kept = ("body", "headers", "address", "params", "email", "reason", "change", "decisions", "cause", "why")
    assert {name for name in shown if name.rsplit(".")[-1] in kept} <= {
        *(f"{s}.dead.why" for s in SERVICES),  # code and place, never a value
        "review.refusal.why",  # our own sentences
    }


# --- rows of before ------------------------------------------------------------------------------------


def upgrade_to(url: str, service: str, revision: str) -> None:
    async def run() -> None:
        engine = create_async_engine(async_url(url))
        async with engine.begin() as conn:
            await conn.execute(text(f"create schema if not exists {service}"))
            await conn.run_sync(lambda sync: command.upgrade(_alembic(service, sync), revision))
        await engine.dispose()

    asyncio.run(run())


def old_row(case: Case) -> dict[str, Any]:
    """As it was stored when contact data still lay among the values."""
    row = {name: getattr(case, name) for name in store.COLUMNS}
    row |= {"filer": case.filer.model_dump(exclude_none=True), "findings": [], "assessments": []}
    return row


def test_contact_data_of_before_is_put_apart_and_the_history_still_fits(postgres: Postgres) -> None:
    postgres.create_database("before_contacts")
    url = postgres.dsn("before_contacts")
    try:
        upgrade_to(url, "review", "0003")
        upgrade_to(url, "export", "0001")
        person = {"name": "欧阳植入", "phones": ["13900001111"]}
        calendar, now = Calendar.load(), datetime(2025, 3, 3, 2, tzinfo=UTC)
        filed = SubmissionAccepted(
            case=UUID(int=7), number="F3-X", revision=1, notice=NOTICE.id, form="F3", item_kind="activity",
            filer=Party(code="k6-abc", kind="K6", name="某机构", email="planted@example.com"), unit="k6-abc",
            district="440106", findings=(), title="讲座", late=False, received=now,
            values={"activity_name": "讲座", "content": "一", "contact": person, "foreman": person},
        )  # fmt: skip
        first = open_case(NOTICE, filed, now, calendar)
        later = filed.model_copy(update={"revision": 2, "values": {**filed.values, "content": "二"}})
        second = file_again(NOTICE, first.case, later, now, calendar)
        assert second
        assert second.replaces
        lines = [one := first.line(""), second.line(one["hash"])]

        async def fill() -> None:
            engine = connect(url, "test")
            async with engine.begin() as conn:
                await put(conn, 'review."case"', [old_row(second.case)])
                await put(conn, "review.filing", [{"case": filed.case, **(second.replaces or {})}])
                await put(
                    conn,
                    "review.history",
                    [{k: v for k, v in one.items() if k not in LATER} for one in lines],
                )
                row = {"case": filed.case, "version": 3, "notice": NOTICE.id, "form": "F3", "shown": True}
                await put(conn, 'export."row"', [{**row, "filed": now.isoformat(), "values": filed.values}])
            await engine.dispose()

        asyncio.run(fill())
        asyncio.run(migrate(url))

        async def look() -> tuple[Case, list[Any], list[Any], list[Any]]:
            engine = connect(url, "test")
            async with engine.connect() as conn:
                cases = await store.cases(conn, [filed.case], ())
                contacts = await conn.read("select * from review.contact order by revision")
                filings = await conn.read("select * from review.filing")
                printed = await conn.read('select r."values", p."values" as apart from export."row" r '
                                          'join export.contact p using ("case")')  # fmt: skip
            await engine.dispose()
            return cases[filed.case], contacts, filings, printed

        case, contacts, filings, printed = asyncio.run(look())
        assert (case.values, case.filer) == (second.case.values, filed.filer)
        assert filing_of(case) == filing_of(second.case)
        apart = {"contact": person, "foreman": person}
        assert [(c.revision, c["values"], c.email) for c in contacts] == [
            (1, apart, None),
            (2, apart, "planted@example.com"),
        ]
        whole, let_go = filings_of(filings, contacts)
        assert whole == {1: filing_of(first.case)}
        assert audit(NOTICE, case, whole, lines, let_go) == []
        assert [(p["values"], p["apart"]) for p in printed] == [
            ({"activity_name": "讲座", "content": "一"}, apart)
        ]
        for table in ('review."case"', "review.filing", 'export."row"', "review.history"):
            dump = postgres.sql(f"select t::text from {table} t", "before_contacts")
            assert "讲座" in dump or table == "review.history"
            assert "欧阳植入" not in dump
            assert "planted@" not in dump
    finally:
        postgres.sql("drop database before_contacts with (force)")


# --- what the bus forgets ------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [400, 30])
async def test_streams_of_before_forget_only_when_somebody_wants_it(tmp_path: Path, days: int) -> None:
    """On a server of its own: others leave streams behind, of this release."""
    with Nats(tmp_path, sync_always=False) as server:
        client = await nats.connect(server.url)
        js = client.jetstream()
        for stream in STREAMS:  # as an earlier release made them
            await js.add_stream(stream)
        ack = await js.publish("sme.evt.v1.case.opened.440106", b"x")
        with pytest.raises(Drift, match="max_age"):
            await provision(js, days=days)
        with pytest.raises(Drift, match="max_age"):
            await provision(js, days=days, age=True, check=True)
        made = await provision(js, days=days, age=True)
        assert f"stream SME_IN forgets after {days} days" in made
        assert await provision(js, days=days) == await provision(js, days=days, check=True) == []
        for stream in STREAMS:
            assert stream.name
            info = await js.stream_info(stream.name)
            assert info.config.max_age == (days * DAY if stream.name in FORGETS else 0)
            assert (info.config.deny_purge, info.config.deny_delete) == (True, True)
        assert (await js.get_msg(ack.stream, ack.seq)).data == b"x"
        # Nothing else is changed on the way.
        await js.update_stream(info.config.evolve(max_bytes=1))
        with pytest.raises(Drift, match="max_bytes"):
            await provision(js, days=days, age=True)
        await client.close()
