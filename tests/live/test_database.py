"""The migrated schema is the declared one, a role sees its own schema only, and stores take the newest version."""

import asyncio
import itertools
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.engine import Connection as Synchronous
from sqlalchemy.ext.asyncio import create_async_engine

from services.export import store as export
from services.intake import store as intake
from services.notify import store as notify
from services.notify.owed import Owed
from services.review import holding
from services.review import store as review
from services.review.mirror import Broken, Message, Mirror
from services.review.store import as_line
from shared.contracts import registry
from shared.notices.load import load_all
from shared.runtime import SERVICES
from shared.runtime.database import (
    Again,
    Connection,
    _alembic,
    async_url,
    connect,
    head,
    metadata_of,
    migrate,
    passes,
    put,
    put_later,
)
from shared.runtime.embedded import Postgres, eventually
from shared.runtime.logs import JsonFormatter
from shared.runtime.streams import AUDIT

A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)
F3 = load_all()["gz-collection-2025q1"].notice.by_form["F3"]


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[Connection]:
    engine = connect(url, "test")
    try:
        async with engine.begin() as conn:
            yield conn
    finally:
        await engine.dispose()


# --- migrations --------------------------------------------------------------------------------------


def differences(conn: Synchronous, service: str) -> list[Any]:
    context = MigrationContext.configure(
        conn,
        opts={
            "include_schemas": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == service,
            "version_table_schema": service,
            "compare_type": True,
        },
    )
    return list(compare_metadata(context, metadata_of(service)))


async def compared(url: str, service: str, change: str = "") -> list[Any]:
    engine = create_async_engine(async_url(url))
    try:
        async with engine.begin() as conn:
            if change:
                await conn.execute(text(change))
            return await conn.run_sync(differences, service)
    finally:
        await engine.dispose()


@pytest.mark.parametrize("service", SERVICES)
async def test_the_migrated_schema_is_the_declared_one(
    postgres: Postgres, database: str, service: str
) -> None:
    assert await compared(postgres.dsn(database), service) == []
    found = postgres.sql(f"select version_num from {service}.alembic_version", database)
    assert found.strip() == head(service)


@pytest.mark.parametrize(
    "change",
    [
        "alter table intake.submission drop column late",
        "alter table intake.submission alter column late drop not null",
        "alter table intake.submission alter column revision type text",
        "drop index intake.intake_submission_unit",
        "create table intake.other (n int)",
    ],
)
async def test_a_difference_would_be_seen(postgres: Postgres, database: str, change: str) -> None:
    assert len(await compared(postgres.dsn(database), "intake", change)) == 1


def upgrade(conn: Synchronous, revision: str) -> None:
    conn.execute(text("create schema if not exists review"))
    command.upgrade(_alembic("review", conn), revision)


BEFORE_0004 = """
insert into review."case" ("case", number, notice, form, stage, version, revision, filer, recommender, unit, district,
    item_kind, title, "values", findings, late, filed, entered, provisional) values
  ('{a}', 'F3-A', 'n', 'F3', 's', 4, 2, '{{"code": "k6-a", "kind": "K6", "name": "a"}}', '440104', '440104', '440104',
    'activity', 't', '{{}}', '[]', false, now(), now(), false);
insert into review.filing values ('{a}', 1, '{{"recommender": "440106", "district": "440106"}}');
insert into review.inbox (key, digest) values ('{a}', '{a}');
insert into review.refusal values ('{a}', 0, '{a}', now(), '440103', 'recommend', 'authority', '');
insert into review.held (publisher, held, key, at, decisions, state, reason)
  values ('440104', 'h', '{b}', now(), '[]', 'held', '');
"""


async def test_what_was_decided_before_the_locks_stays_and_is_copied(postgres: Postgres) -> None:
    """From 0003 with a case that has gone another way: its lines are as they were, and say the same hash."""
    postgres.sql("create database older")
    engine = create_async_engine(async_url(postgres.dsn("older")))
    try:
        lines: list[dict[str, Any]] = []
        async with engine.begin() as conn:
            await conn.run_sync(upgrade, "0003")
            for statement in BEFORE_0004.format(a=A, b=B).strip().split(";\n"):
                await conn.exec_driver_sql(statement.removesuffix(";"))
            for version, (actor, outcome) in enumerate(
                (("k6-a", "file"), ("440106", "return"), ("k6-a", "resubmit"), ("990001", "fact"), ("clock", "missed")), 1
            ):  # fmt: skip
                line = {
                    "case": str(A), "version": version, "at": f"2025-03-0{version}T01:00:00+00:00", "actor": actor,
                    "officer": None, "stage": "s", "outcome": outcome, "reason": "", "rules": [], "acknowledges": [],
                    "fixes": [], "cause": "e", "data": {},
                }  # fmt: skip
                said = {k: v for k, v in line.items() if k != "data"}
                previous = lines[-1]["hash"] if lines else ""
                made = json.dumps([previous, said], sort_keys=True, ensure_ascii=False)
                lines.append({**line, "hash": sha256(made.encode()).hexdigest()})
            await conn.execute(
                text("insert into review.history select * from json_populate_recordset(null::review.history, :rows)"),
                {"rows": json.dumps(lines)},
            )  # fmt: skip
        await engine.dispose()
        await migrate(postgres.dsn("older"))
        async with connection(postgres.dsn("older")) as older:
            found = await older.read("select agency, roles, until from review.party order by agency")
            assert [(r.agency, sorted(r.roles), r.until) for r in found] == [
                ("440104", ["district", "recommender"], None),
                ("440106", ["district", "recommender"], 4),  # may not decide any more
                ("k6-a", ["filer"], None),
            ]
            await review.introduce(
                older, {"n": {"440100": ["city"], "440106": ["station"]}}, {"x-1": "440104"}
            )
            assert await review.introduce(older, {}, {"x-1": "440106"}) == ["x-1"]
            found = await older.read("select agency, until from review.party order by agency")
            assert [tuple(r) for r in found] == [
                ("440100", None), ("440104", None), ("440106", None), ("k6-a", None)
            ]  # fmt: skip
            kept = [as_line(r) for r in await older.read("select * from review.history order by version")]
            assert [(r["hash"], r["key"], r["publisher"]) for r in kept] == [
                (r["hash"], None, None) for r in lines
            ]
            mirror = Mirror()
            (said,) = await older.read("select * from review.outbox")
            mirror.hear(Message(1, said.body.encode(), None))
            assert (said.stream, said.subject) == (AUDIT, registry.HISTORY_WRITTEN.subject("review"))
            assert mirror.compare(A, kept) is None
            assert list(mirror.left(1)) == []
            # The control: the copy is of all of them.
            mirror.hear(Message(1, said.body.encode(), None))
            assert mirror.compare(A, kept[:-1]) == Broken(A, 5, "这一行已不在，审计流第1条记有")
            # What was held by then can still be settled.
            assert await holding.settle(older, "440104", "h", "released", said.at, None, "") == []
    finally:
        await engine.dispose()
        postgres.sql("drop database older with (force)")


async def test_migrating_again_and_at_the_same_time_changes_nothing(postgres: Postgres) -> None:
    postgres.sql("create database migrators")
    try:
        url = postgres.dsn("migrators")
        await asyncio.gather(migrate(url), migrate(url))
        before = postgres.sql("select count(*) from pg_class", "migrators")
        await migrate(url)
        assert postgres.sql("select count(*) from pg_class", "migrators") == before
    finally:
        postgres.sql("drop database migrators with (force)")


# --- roles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("select count(*) from intake.submission", True),
        ("insert into intake.tally values ('n', 'u', 'x', '', 1)", True),
        ("delete from intake.outbox", True),
        ('select count(*) from review."case"', False),
        ("select count(*) from notify.mail", False),
        (
            "insert into export.outbox (id, stream, subject, body) values (gen_random_uuid(), '', '', '')",
            False,
        ),
        ("create table intake.mine (n int)", False),
        ("create table public.mine (n int)", False),
        ("alter table intake.submission add column n int", False),
        ("drop table intake.submission", False),
        ("create schema mine", False),
        ("create role mine", False),
    ],
)
async def test_a_role_reads_and_writes_its_own_schema_only(
    postgres: Postgres, database: str, statement: str, allowed: bool
) -> None:
    postgres.sql("alter role yiqi_intake password 'test'")
    async with connection(postgres.dsn(database, "yiqi_intake", "test")) as conn:
        if allowed:
            await conn.execute(statement)
            return
        with pytest.raises(asyncpg.PostgresError) as refused:
            await conn.execute(statement)
        assert refused.value.sqlstate == "42501"
        assert not passes(refused.value)


# --- what passes by itself ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "waits"),
    [
        ("do $$ begin raise exception using errcode = '40001'; end $$", True),  # serialization
        ("do $$ begin raise exception using errcode = '40P01'; end $$", True),  # deadlock
        ("do $$ begin raise exception using errcode = '53100'; end $$", True),  # disk full
        ("do $$ begin raise exception using errcode = '53300'; end $$", True),  # too many connections
        ("do $$ begin raise exception using errcode = '55P03'; end $$", True),  # lock not available
        ("do $$ begin raise exception using errcode = '57014'; end $$", True),  # cancelled by an operator
        ("do $$ begin raise exception using errcode = '57P01'; end $$", True),  # shutting down
        ("begin read only; delete from intake.tally", True),  # a standby after a failover
        ("select pg_terminate_backend(pg_backend_pid())", True),
        ("select 1 / 0", False),
        ("select * from nowhere", False),
        ("select 'x'::int", False),
        ("insert into intake.tally values (null, 'u', 'x', '', 1)", False),
        ("do $$ begin raise exception using errcode = '22021'; end $$", False),  # NUL
        ("do $$ begin raise exception using errcode = '23505'; end $$", False),
    ],
)
async def test_an_outage_is_waited_for_and_a_fault_is_not(
    postgres: Postgres, database: str, statement: str, waits: bool
) -> None:
    engine = connect(postgres.dsn(database), "test")
    try:
        async with engine.connect() as conn:
            with pytest.raises(asyncpg.PostgresError) as failed:
                await conn.execute(statement)
    finally:
        await engine.dispose()
    assert passes(failed.value) is waits


async def test_a_lock_that_is_held_too_long_is_waited_for(postgres: Postgres, database: str) -> None:
    engine = connect(postgres.dsn(database), "test")
    try:
        async with engine.begin() as holder, engine.connect() as waiter:
            await holder.execute("lock table intake.tally")
            with pytest.raises(asyncpg.PostgresError) as failed:
                await waiter.execute("set lock_timeout = '50ms'; lock table intake.tally")
    finally:
        await engine.dispose()
    assert passes(failed.value)


def test_other_errors_do_not_pass() -> None:
    assert [passes(e) for e in (ValueError(), KeyError(), AssertionError(), Exception())] == [False] * 4
    assert [passes(e) for e in (Again(), ConnectionResetError(), TimeoutError())] == [True] * 3


async def test_a_log_never_holds_the_row_that_failed(postgres: Postgres, database: str) -> None:
    """PostgreSQL quotes it in its message, so the message is not logged."""
    async with connection(postgres.dsn(database)) as conn:
        with pytest.raises(asyncpg.PostgresError) as failed:
            await conn.execute("insert into intake.tally values (:n, null, '', '', 1)", {"n": "李四的号码"})
        assert "李四的号码" in str(failed.value)
        record = logging.LogRecord("yiqi", logging.ERROR, "", 0, "batch failed", (), failed._excinfo)
        line = JsonFormatter("intake").format(record)
        assert "NotNullViolationError" in line
        assert "李四" not in line


# --- stores ------------------------------------------------------------------------------------------


def orders(changes: Sequence[Any]) -> list[list[list[Any]]]:
    """Every order of the changes, each alone, together, and with a stale repeat at the end."""
    return [
        split
        for order in map(list, itertools.permutations(changes))
        for split in ([[c] for c in order], [order], [*([c] for c in order), [changes[0]]])
    ]


async def test_published_rows_end_the_same_in_every_order(postgres: Postgres, database: str) -> None:
    def change(case: UUID, version: int, shown: bool) -> dict[str, Any]:
        return {
            "case": case,
            "version": version,
            "notice": "n",
            "form": "F3",
            "shown": shown,
            "filed": "2025-03-05T01:30:00Z" if shown else None,
            "values": {"name": str(version), "contact": {"name": str(version)}} if shown else None,
        }

    changes = [change(A, 4, True), change(A, 5, False), change(A, 6, True), change(B, 2, True)]
    async with connection(postgres.dsn(database)) as conn:
        for order in orders(changes):
            await conn.execute('delete from export."row"')
            await conn.execute("delete from export.contact")
            for batch in order:
                export.follow(conn, batch, lambda *_: F3)
                await conn.commit()
            rows = await export.shown(conn, "n", "F3")
            assert sorted((r.case, r.values["name"]) for r in rows) == [(str(A), "6"), (str(B), "2")], order
            assert all(r.values["contact"] == {"name": r.values["name"]} for r in rows)
            apart = await conn.read(
                'select "values" ? \'contact\' from export."row" where "values" is not null'
            )
            assert not any(row[0] for row in apart)


async def test_a_closed_row_stays_closed_whatever_comes_late(postgres: Postgres, database: str) -> None:
    published = {"case": A, "version": 5, "notice": "n", "form": "F3", "shown": True}
    published |= {"filed": "2025-03-05T01:30:00Z", "values": {}}
    closed = {**published, "version": 6, "shown": False, "filed": None, "values": None}
    async with connection(postgres.dsn(database)) as conn:
        for order in ([published, closed], [closed, published]):
            await conn.execute('delete from export."row"')
            for change in order:
                export.follow(conn, [change], lambda *_: F3)
                await conn.commit()
            assert await export.shown(conn, "n", "F3") == []


def submission(case: UUID) -> dict[str, Any]:
    return {
        "notice": "n", "form": "F3", "unit": "u", "filer": "f", "title": "t", "direction": None,
        "item_kind": "activity", "revision": 1, "digest": A, "state": "open", "version": 0,
        "tallies": [["x", ""]], "late": False, "package": None, "received": "2025-03-05T01:30:00Z",
        "case": case, "number": str(case),
    }  # fmt: skip


async def submitted(conn: Connection) -> None:
    await conn.execute("delete from intake.submission")
    await intake.accept(conn, [submission(A), submission(B)])
    await conn.commit()


async def test_an_item_stops_counting_once_in_every_order(postgres: Postgres, database: str) -> None:
    changes = [(A, (2, "returned")), (A, (4, "closed")), (B, (3, "published"))]
    async with connection(postgres.dsn(database)) as conn:
        for order in orders(changes):
            await submitted(conn)
            gone: list[UUID] = []
            for batch in order:
                newest: dict[UUID, tuple[int, str]] = {}
                for case, change in batch:
                    newest[case] = max(newest.get(case, change), change)
                gone += [row.case for row in await intake.follow(conn, newest)]
            rows = await conn.execute("select submission.case, state from intake.submission")
            assert {row.case: row.state for row in rows} == {A: "closed", B: "published"}, order
            assert gone == [A], order


async def test_two_replicas_that_accept_the_same_item_do_not_both(postgres: Postgres, database: str) -> None:
    async with connection(postgres.dsn(database)) as conn:
        await submitted(conn)
        await intake.accept(conn, [submission(A), submission(C)])
        with pytest.raises(Again):
            await conn.commit()
        rows = await conn.read("select submission.case from intake.submission")
        assert {row.case for row in rows} == {A, B}  # the new one was not written either


async def test_counts_of_replicas_that_add_at_once_add_up(postgres: Postgres, database: str) -> None:
    url = postgres.dsn(database)
    keys = [("n", "u", "a", ""), ("n", "u", "b", ""), ("n", "u", "c", "")]

    async def add(order: Sequence[tuple[str, str, str, str]]) -> None:
        async with connection(url) as conn:
            await intake.tally(conn, dict.fromkeys(order, 1))

    for _ in range(5):
        await asyncio.gather(*(add(order) for order in itertools.permutations(keys)))
    async with connection(url) as conn:
        assert await intake.tallies(conn, "n", "u") == {"a": 30, "b": 30, "c": 30}
        await intake.tally(conn, {keys[0]: -31})
        assert (await intake.tallies(conn, "n", "u"))["a"] == 0


async def test_put_writes_what_it_is_given(postgres: Postgres, database: str) -> None:
    """Through JSON text, so quotes, backslashes, Chinese and null must survive."""
    strange = "引号\"'\\ \\n\n\t;--%s:x $1 😀"
    async with connection(postgres.dsn(database)) as conn:
        await put(
            conn,
            "intake.published",
            [
                {"form": "F3", "key": strange, "where": strange, "case": None},
                {"form": "F4", "key": "", "where": "", "case": A},
            ],
        )
        found = await intake.published(conn, [("F3", strange), ("F4", ""), ("F5", strange)])
        assert {k: (r.where, r.case) for k, r in found.items()} == {
            ("F3", strange): (strange, None),
            ("F4", ""): ("", A),
        }


async def _keys(url: str) -> list[str]:
    async with connection(url) as conn:
        return sorted(row.key for row in await conn.read("select key from intake.published"))


def _published(key: str) -> list[dict[str, Any]]:
    return [{"form": "F3", "key": key, "where": "", "case": None}]


@pytest.mark.parametrize("begun", [False, True])
async def test_what_is_written_later_is_written_whole_or_not_at_all(
    postgres: Postgres, database: str, begun: bool
) -> None:
    """Also without a transaction: it is one statement."""
    url = postgres.dsn(database)
    async with connection(url) as conn:
        if begun:
            await conn.execute("select 1")
        for key in ("a", "b"):
            put_later(conn, "intake.published", _published(key), all_new=True)
        assert await _keys(url) == []
    assert await _keys(url) == ["a", "b"]

    async def taken() -> None:
        async with connection(url) as conn:
            if begun:
                await intake.publish(conn, _published("now"))
            put_later(conn, "intake.published", _published("c"))
            put_later(conn, "intake.published", _published("a"), all_new=True)

    with pytest.raises(Again):
        await taken()
    assert await _keys(url) == ["a", "b"]
    async with connection(url) as conn:
        put_later(conn, "intake.published", _published("a"))  # there already, and may be
    assert await _keys(url) == ["a", "b"]


async def test_only_what_must_opens_a_transaction(postgres: Postgres, database: str) -> None:
    engine = connect(postgres.dsn(database), "test")
    async with engine.begin() as conn:
        await conn.read("select 1")
        assert not conn.driver.is_in_transaction()
        await conn.execute("select 1")
        assert conn.driver.is_in_transaction()
    async with engine.connect() as conn:
        await conn.execute("select 1")
        assert not conn.driver.is_in_transaction()
    await engine.dispose()


async def test_a_connection_is_one_user_s_and_comes_back_clean(postgres: Postgres, database: str) -> None:
    engine = connect(postgres.dsn(database), "test", most=2)
    async with engine.begin() as one, engine.connect() as two:
        assert one.driver is not two.driver

        async def another() -> Any:
            async with engine.connect() as conn:
                return conn.driver

        third = asyncio.create_task(another())
        for _ in range(3):
            await (await asyncpg.connect(postgres.dsn(database))).close()
        assert not third.done()  # in this time it could have opened its own
        both = (one.driver, two.driver)
    assert await third in both

    async def fails() -> None:
        async with engine.begin() as conn:
            await intake.publish(conn, _published("gone"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fails()
    async with engine.connect() as conn:
        assert not conn.driver.is_in_transaction()
        assert await conn.read("select key from intake.published") == []
        conn.end()
    async with engine.connect() as conn:
        assert (await conn.read("select 1 as n"))[0].n == 1
    await engine.dispose()


async def test_a_database_that_stalls_gives_no_connection_back_with_work_on_it(
    postgres: Postgres, database: str
) -> None:
    """A statement that ran into its time limit may still be done, under whoever has the connection next."""
    url = postgres.dsn(database)
    engine = connect(url, "test", patience=0.3)
    async with engine.connect() as conn:
        pid = (await conn.read("select pg_backend_pid() as pid"))[0].pid

    async def stalls() -> None:
        async with engine.begin() as conn:
            await conn.execute("select 1")

    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError) as met:
            await stalls()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert passes(met.value)
    async with engine.begin() as conn:
        put_later(conn, "intake.published", _published("after"))
    async with engine.begin() as conn:
        await intake.publish(conn, _published("then"))
    assert await _keys(url) == ["after", "then"]
    await engine.dispose()


async def test_an_item_that_is_filed_again_in_its_first_batch_is_stored_as_filed_last(
    postgres: Postgres, database: str
) -> None:
    async with connection(postgres.dsn(database)) as conn:
        again = {**submission(A), "revision": 2, "digest": B, "title": "t2", "late": True}
        once_more = {**again, "revision": 3, "title": "t3", "late": False}
        await intake.accept(conn, [submission(A), submission(B), again])
        await conn.commit()
        await intake.accept(conn, [once_more])
        await conn.commit()
        rows = await conn.read("select submission.case, revision, title, late from intake.submission")
        assert {tuple(row) for row in rows} == {(A, 3, "t3", True), (B, 1, "t", False)}


async def test_the_clock_looks_only_at_what_is_due(postgres: Postgres, database: str) -> None:
    """Among 20,000 terms and 20,000 duties that are still to come, the few that are over are found by the indexes."""
    async with connection(postgres.dsn(database)) as conn:
        await conn.execute(
            'insert into review."case" ("case", number, notice, form, stage, version, revision, filer, unit, district, '
            'item_kind, title, "values", findings, late, filed, entered, provisional, wakes) '
            "select gen_random_uuid(), n::text, case when n = 5 then 'other' else 'n' end, 'F1', 's', 1, 1, "
            """'{"code": "x", "kind": "K6", "name": "x"}', 'u', 'd', 'product', 't', '{}', '[]', false, now(), now(), """
            "false, now() + make_interval(mins => n - 4) from generate_series(1, 20000) as n"
        )
        await conn.execute(
            "insert into review.duty select \"case\", 'DL-01', '2026', notice, now(), now(), false, 'owed', "
            'now() + make_interval(mins => 20000 - number::int) from review."case"'
        )
        await conn.execute('analyze review."case"')
        await conn.execute("analyze review.duty")
        now = (await conn.read("select now() + interval '2 minutes' as at"))[0].at
        found = await review.woken(conn, now, ["n"], {"n"})
        assert {case.number for case in found.values()} == {
            "1",
            "2",
            "3",
            "4",
            "6",
            "19998",
            "19999",
            "20000",
        }
        assert {len(case.owed) for case in found.values()} == {1}
        assert len(await review.woken(conn, now, ["n"], ["n"], most=3)) == 3
        assert await review.ripe(conn, now, ["n"], ["n"], ())
        assert not await review.ripe(conn, now, ["n"], ["n"], list(found))
        # A notice that has lost its duties: what is left of them finds nobody.
        assert len(await review.woken(conn, now, ["n"], ())) == 5
        sql = review.WOKEN.replace(":now", "$1").replace(":notices", "$2").replace(":owing", "$3")
        sql = sql.replace(":most", "$4").replace(":stuck", "$5")
        explained = await conn.driver.fetch(f"explain {sql}", now, ["n"], ["n"], 200, [])
        plan = "\n".join(row[0] for row in explained)
        assert "review_case_wakes" in plan
        assert "review_duty_wakes" in plan
        assert "Seq Scan on" not in plan


# --- the mail ledger ---------------------------------------------------------------------------------


async def test_claims_of_a_dead_worker_are_queued_again_or_unknown(postgres: Postgres, database: str) -> None:
    """A worker lives as long as its advisory lock; that goes with its connection."""
    url = postgres.dsn(database)
    letters = [Owed(str(n), "accepted", "x", "某单位", "a@b.example", {"n": n}) for n in range(3)]
    now = datetime(2025, 3, 5, 2, tzinfo=UTC)  # not the database's: mails wait by the clock of the service
    async with connection(url) as conn:
        notify.owe(conn, [*letters, *letters], notify.Gate(), now)
        notify.owe(conn, letters, notify.Gate(), now)  # owed once
    worker = await asyncpg.connect(url)
    await worker.execute("select pg_advisory_lock(77)")
    async with connection(url) as conn:
        past = now - timedelta(seconds=1)
        assert await notify.claim(conn, 77, 3, past, open_=True) == []
        assert await notify.claim(conn, 77, 3, now, open_=True, paused=["b.example"]) == []
        before, during = [
            *await notify.claim(conn, 77, 1, now, open_=True),
            *await notify.claim(conn, 77, 1, now, open_=True, paused=["c.example"]),
        ]
    assert before.owed.key != during.owed.key
    async with connection(url) as conn:
        mine = (during.mail, during.attempt)
        stale, foreign = (before.owed.mail, before.attempt + 1), (UUID(int=1), 1)
        assert await notify.begin_data(conn, 78, [mine]) == set()
        assert await notify.begin_data(conn, 77, [mine, stale, foreign]) == {during.mail}
        assert await notify.orphans(conn) == []  # it lives
        assert await states(conn) == {"queued": 1, "claimed": 1, "data": 1}
    await worker.close()

    async def gone() -> bool:
        async with connection(url) as conn:
            return await notify.orphans(conn) == [77]

    await eventually(gone, 10, "the lock to be free")
    async with connection(url) as conn:
        lost = await notify.recover(conn, await notify.orphans(conn), now)
        assert [(owed.mail, attempt) for owed, attempt in lost] == [(during.mail, 1)]
        assert await states(conn) == {"queued": 2, "unknown": 1}
        # It was not dead after all, and brings the server's answer.
        sent = notify.Settled(during.mail, during.owed, 1, "sent", None)
        assert await notify.settle(conn, [sent], now) == {(during.mail, "sent")}
        assert await notify.settle(conn, [sent], now) == set()
        assert await notify.settle(conn, [replace(sent, state="failed")], now) == set()
        assert await states(conn) == {"queued": 2, "sent": 1}


async def states(conn: Connection) -> dict[str, int]:
    rows = await conn.execute("select state, count(*) as n from notify.mail group by state")
    return {row.state: row.n for row in rows}
