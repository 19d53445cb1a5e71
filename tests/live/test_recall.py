"""What cases wait for, in a real database: kept by version, moved with its date, looked at only when it is due."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import wraps
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid5

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection as Synchronous
from sqlalchemy.ext.asyncio import create_async_engine

from services.notify import recall, store
from services.notify.handlers import Notify
from services.notify.recipients import People
from shared.contracts.case import Awaited, CaseAdvanced, CaseChanged, CaseReturned, FixTold
from shared.contracts.types import Party
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.directory import Directory
from shared.notices.load import CompiledNotice, load_all
from shared.runtime.database import Database, _alembic, async_url, connect
from shared.runtime.embedded import Postgres

NOTICES = load_all()
DIRECTORY = Directory.load()
CALENDAR = Calendar.load()
ROUND = "gz-collection-2025q1"
A, B = UUID(int=1), UUID(int=2)
RETURNED_ON = date(2025, 3, 7)


def at(month: int, day: int, hour: int = 9, minute: int = 0) -> datetime:
    return datetime(2025, month, day, hour, minute, tzinfo=SHANGHAI)


def change(
    version: int, stage: str = "correction", due: date | None = date(2025, 3, 14), **more: Any
) -> CaseChanged:
    of = CaseReturned if more.get("outcome", "return") == "return" else CaseAdvanced
    known = {
        "case": A,
        "number": "F3-1",
        "version": version,
        "notice": ROUND,
        "form": "F3",
        "stage": stage,
        "outcome": "return",
        "actor": "440100",
        "filer": Party(code="440106", kind="K2", name="天河区商务金融局", email="th@th.example"),
        "unit": "440106",
        "district": "440106",
        "title": "讲座",
        "late": False,
        "fixes": (FixTold(field="venue", detail="请写明地点"),) if of is CaseReturned else (),
        "due": due,
        "awaits": (Awaited(began=RETURNED_ON, due=due),) if due else (),
    }
    return of(**{**known, **more})


async def told(
    engine: Database,
    changes: Sequence[CaseChanged],
    calendar: Calendar = CALENDAR,
    now: datetime | None = None,
) -> None:
    async with engine.begin() as conn:
        pairs = [(one, RETURNED_ON) for one in changes]
        recall.remember(conn, NOTICES, pairs, calendar, now or at(3, 7))


async def sent(engine: Database, now: datetime, calendar: Calendar = CALENDAR) -> list[str]:
    """The rungs that this turn enters into the ledger for the first time."""
    before = await rungs(engine)
    async with engine.begin() as conn:
        _, letters = await recall.recall(conn, NOTICES, DIRECTORY, calendar, now)
        store.owe(conn, letters, store.Gate(), now)
    return [key for key in await rungs(engine) if key not in before]


async def rungs(engine: Database) -> list[str]:
    async with engine.connect() as conn:
        rows = await conn.read("select key from notify.mail where key like 'case/%' order by owed_at, key")
    return [row.key.split("/", 2)[2] for row in rows]


@pytest.fixture
def engine(postgres: Postgres, database: str) -> Database:
    """Opens nothing before it is used; the loop of the test ends with its connections."""
    postgres.sql("delete from notify.waiting; delete from notify.mail", database)
    return connect(postgres.dsn(database), "test")


def ends(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """The connections of a test end in its own loop."""

    @wraps(test)
    async def run(engine: Database, **more: Any) -> None:
        try:
            await test(engine, **more)
        finally:
            await engine.dispose()

    return run


DONE = change(4, "formal_check", None, outcome="resubmit")
LADDER = [f"term/correction/2025-03-14/{rung}/440106" for rung in ("3", "1", "0", "missed")]
MORNINGS = (at(3, 11), at(3, 13), at(3, 14), at(3, 17))


@ends
async def test_every_rung_comes_on_its_morning_and_once(engine: Database) -> None:
    await told(engine, [change(3)])
    assert await sent(engine, at(3, 11, 8, 59)) == []
    for moment, rung in zip(MORNINGS, LADDER, strict=True):
        assert await sent(engine, moment) == [rung]
        assert await sent(engine, moment + timedelta(hours=1)) == []


@ends
async def test_whatever_the_order_the_newest_version_decides(engine: Database) -> None:
    for order in ([change(3), DONE], [DONE, change(3)], [change(3), DONE, change(3)]):
        async with engine.begin() as conn:
            await conn.execute("delete from notify.waiting")
        for one in order:
            await told(engine, [one])
        assert await sent(engine, at(3, 14)) == []
    async with engine.begin() as conn:
        await conn.execute("delete from notify.waiting")
    await told(engine, [DONE, change(3)])
    assert await sent(engine, at(3, 14)) == []


@ends
async def test_a_returned_case_gets_its_ladder_again(engine: Database) -> None:
    await told(engine, [change(3)])
    assert await sent(engine, at(3, 11)) == LADDER[:1]
    again = change(
        5, due=date(2025, 3, 21), awaits=(Awaited(began=date(2025, 3, 14), due=date(2025, 3, 21)),)
    )
    await told(engine, [DONE, again])
    assert await sent(engine, at(3, 18)) == ["term/correction/2025-03-21/3/440106"]


@ends
async def test_a_date_that_moves_moves_its_reminders_and_what_is_noted_leaves_the_letter(
    engine: Database,
) -> None:
    """A recount while the case waits: the letter still says what to correct."""
    await told(engine, [change(3)])
    assert await sent(engine, at(3, 11)) == LADDER[:1]
    later = (Awaited(began=RETURNED_ON, due=date(2025, 3, 20)),)
    await told(engine, [change(4, outcome="recount", due=date(2025, 3, 20), awaits=later)])
    assert await sent(engine, at(3, 14)) == []
    assert await sent(engine, at(3, 17)) == ["term/correction/2025-03-20/3/440106"]
    async with engine.connect() as conn:
        rows = await conn.read("select params from notify.mail where key like '%2025-03-20%'")
    assert [fix["detail"] for row in rows for fix in row.params["fixes"]] == ["请写明地点"]
    assert {row.params["due"]["date"] for row in rows} == {"2025-03-20"}


@ends
async def test_after_an_outage_only_the_newest_rung_is_sent(engine: Database) -> None:
    await told(engine, [change(3)])
    assert await sent(engine, at(3, 14, 20)) == ["term/correction/2025-03-14/0/440106"]
    assert await sent(engine, at(3, 16)) == []


@ends
async def test_what_is_rolled_back_is_done_by_the_next_turn(engine: Database) -> None:
    await told(engine, [change(3)])

    async def dies() -> None:
        async with engine.begin() as conn:
            _, letters = await recall.recall(conn, NOTICES, DIRECTORY, CALENDAR, at(3, 11))
            store.owe(conn, letters, store.Gate(), at(3, 11))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await dies()
    assert await sent(engine, at(3, 11)) == LADDER[:1]


@ends
async def test_a_calendar_that_arrives_moves_what_waits_at_the_next_start(
    engine: Database, tmp_path: Any
) -> None:
    """2035 has no arrangement: its Monday is taken to be worked until somebody says otherwise."""
    due = date(2035, 3, 14)
    waits = (Awaited(began=date(2035, 3, 1), due=due, provisional=True),)
    await told(engine, [change(3, due=due, awaits=waits)])
    day = {"name": "试验", "date": "2035-03-13", "isOffDay": True}
    (tmp_path / "2035.json").write_text(
        json.dumps({"year": 2035, "status": "official", "days": [day]}), encoding="utf-8"
    )
    known = Calendar.load(tmp_path)
    morning = datetime(2035, 3, 12, 9, tzinfo=SHANGHAI)
    await recall.look_again(engine, NOTICES, known, morning)
    assert await sent(engine, morning, known) == ["term/correction/2035-03-14/1/440106"]
    # What was told stays told, also when it is looked at again.
    await recall.look_again(engine, NOTICES, known, morning)
    assert await sent(engine, morning, known) == []


@ends
async def test_of_many_cases_only_what_is_due_is_read(engine: Database) -> None:
    """20,000 wait, three are due: the plan reads the index, and a turn takes no longer than a few rows take."""
    cases = [uuid5(A, str(n)) for n in range(20_000)]
    far = date(2027, 3, 12)
    waits = (Awaited(began=RETURNED_ON, due=far),)
    for first in range(0, len(cases), 5000):
        some = [change(3, due=far, awaits=waits, case=one) for one in cases[first : first + 5000]]
        await told(engine, some)
    await told(engine, [change(3, case=UUID(int=n)) for n in (7, 8, 9)])
    async with engine.connect() as conn:
        await conn.execute("analyze notify.waiting")
        lines = await conn.driver.fetch(
            "explain select * from notify.waiting "
            "where next_at <= '2025-03-11T09:00+08' order by next_at limit 200 for update skip locked"
        )
    plan = "\n".join(line[0] for line in lines)
    assert "notify_waiting_next" in plan
    assert "Seq Scan" not in plan
    assert len(await sent(engine, at(3, 11))) == 3


# --- dates that a notice prints ------------------------------------------------------------------------


@ends
async def test_a_printed_date_that_is_moved_is_recalled_anew(engine: Database) -> None:
    """A notice that is loaded again with another date: what had been told of the old one does not silence the new."""
    clock = SimpleNamespace(now=lambda: at(2, 28))

    async def printed(notices: Mapping[str, CompiledNotice]) -> set[str]:
        """What a new process enters for 天河."""
        service = Notify(notices, DIRECTORY, People(DIRECTORY), CALENDAR)
        await service.remind(cast(Any, SimpleNamespace(clock=clock, engine=engine)))
        async with engine.connect() as conn:
            rows = await conn.read("select key from notify.mail where key like 'deadline/%DL-01%/440106'")
        return {row.key for row in rows}

    round_ = NOTICES[ROUND]
    assert await printed({ROUND: round_}) == {f"deadline/{ROUND}/DL-01/2025-03-07/7/440106"}
    deadlines = tuple(
        d.model_copy(update={"on": date(2025, 3, 14)}) if d.id == "DL-01" else d
        for d in round_.notice.deadlines
    )
    moved = replace(round_, notice=round_.notice.model_copy(update={"deadlines": deadlines}))
    both = await printed({ROUND: moved})
    assert both - {f"deadline/{ROUND}/DL-01/2025-03-07/7/440106"} == {
        f"deadline/{ROUND}/DL-01/2025-03-14/14/440106"
    }
    assert await printed({ROUND: moved}) == both


# --- from the table of before --------------------------------------------------------------------------


def upgrade(conn: Synchronous, revision: str) -> None:
    from alembic import command

    conn.execute(text("create schema if not exists notify"))
    command.upgrade(_alembic("notify", conn), revision)


async def test_what_waited_before_the_migration_waits_after_it(postgres: Postgres) -> None:
    """A correction keeps its date and letter, of its rungs none comes twice; a printed date that was recalled is not
    recalled again under its new key."""
    name = "recall_before"
    postgres.sql(f"create database {name}")
    owner = create_async_engine(async_url(postgres.dsn(name)))
    returned = change(3).model_dump_json(exclude={"awaits"})
    async with owner.begin() as conn:
        await conn.run_sync(upgrade, "0002")
        await conn.execute(
            text(f"""
            insert into notify.correction values ('{A}', 3, '2025-03-14', cast(:change as jsonb)), ('{B}', 4, null, null);
            """),
            {"change": returned},
        )
        for n, (key, due) in enumerate(
            ((f"case/{A}/3/deadline-3/440106", "2025-03-14"), ("deadline/n/DL-01/7/440106", "2025-03-07"))
        ):
            await conn.execute(
                text(
                    "insert into notify.mail (id, key, letter, to_code, to_name, params, attachments, state, owed_at) "
                    "values (:id, :key, 'deadline', '440106', 'x', cast(:params as jsonb), '[]', 'sent', "
                    "'2025-03-11T09:00+08')"
                ),
                {"id": UUID(int=100 + n), "key": key, "params": f'{{"due": {{"date": "{due}"}}}}'},
            )
        await conn.run_sync(upgrade, "head")
    await owner.dispose()
    engine = connect(postgres.dsn(name), "test")
    try:
        async with engine.connect() as conn:
            keys = [row.key for row in await conn.read("select key from notify.mail order by id")]
            versions = await conn.read(
                'select "case", version, due, awaits from notify.waiting order by "case"'
            )
        assert keys == [f"case/{A}/3/deadline-3/440106", "deadline/n/DL-01/2025-03-07/7/440106"]
        assert [(r.case, r.version, r.due) for r in versions] == [(A, 3, date(2025, 3, 14)), (B, 4, None)]
        await recall.look_again(engine, NOTICES, CALENDAR, at(3, 12))
        assert await sent(engine, at(3, 12)) == []
        assert await sent(engine, at(3, 13)) == LADDER[1:2]
        async with engine.connect() as conn:
            (row,) = await conn.read("select params from notify.mail where key like '%correction%'")
        assert row.params["fixes"][0]["detail"] == "请写明地点"
    finally:
        await engine.dispose()
