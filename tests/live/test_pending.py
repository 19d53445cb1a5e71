"""Mails that wait, in a real database: the mail of a morning once, held mails once or never, whatever crashes.

The same by the service as processes is in `test_mornings.py`; the rules alone are in `tests/unit/test_hours.py`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest

from services.notify import digest, pending, store
from services.notify.hours import Hours
from services.notify.owed import Owed
from services.notify.quotes import plain
from services.notify.store import Gate
from shared.contracts.mail import MailsSettled
from shared.notices.calendar import SHANGHAI, Calendar
from shared.runtime.database import Connection, Database, connect, put
from shared.runtime.embedded import Postgres

HOURS = Hours((time(8, 30), time(18)), Calendar.load())
GATE = Gate(HOURS)
CITY = "440100"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI)


NIGHT, MORNING = at("2025-03-04T22:00"), at("2025-03-05T09:00")  # a Wednesday
LATER, NEXT = at("2025-03-05T14:00"), at("2025-03-06T09:00")


def owed(n: int, due: str = "2025-03-20", **fields: Any) -> Owed:
    day = {"date": due, "from": None, "at": None, "derived": False, "provisional": False, "rest_day": False}
    params = {
        **plain("某通知", None, "广州市工业和信息化局", "", "某处"),
        "notice_id": "n",
        "name": f"第{n}事",
    }
    known: dict[str, Any] = {
        "key": f"deadline/n/{n}",
        "letter": "deadline",
        "to": "440106",
        "to_name": "某局",
        "address": "a@th.example",
        "params": {**params, "due": day},
        "when": "morning",
    }
    return Owed(**{**known, **fields})


@asynccontextmanager
async def ledger(postgres: Postgres, database: str) -> AsyncIterator[Database]:
    engine = connect(postgres.dsn(database), "notify")
    try:
        yield engine
    finally:
        await engine.dispose()


async def owe(engine: Database, now: datetime, *letters: Owed, gate: Gate = GATE) -> None:
    async with engine.begin() as conn:
        store.owe(conn, letters, gate, now)


async def merge(engine: Database, now: datetime) -> int:
    async with engine.begin() as conn:
        return await pending.merge(conn, now, HOURS)


async def rows(engine: Database, where: str = "true") -> list[Any]:
    async with engine.connect() as conn:
        return await conn.read(f"select * from notify.mail where {where} order by key")


async def states(engine: Database) -> dict[str, str]:
    return {row.key: row.state for row in await rows(engine)}


async def told(engine: Database) -> list[str]:
    """What the mails that may leave say, item by item: twice in here is twice in somebody's mailbox."""
    found = []
    for row in await rows(engine, "state in ('queued', 'sent')"):
        items = row.params.get("items") or [{"params": row.params}]
        found += [item["params"]["name"] for item in items]
    return sorted(found)


# --- the mail of the morning --------------------------------------------------------------------------


async def test_what_has_come_is_one_mail_of_the_morning_for_each_address(
    postgres: Postgres, database: str
) -> None:
    async with ledger(postgres, database) as engine:
        others = [
            owed(4, address="b@th.example"),
            owed(5, to="440103"),
            owed(6, to="440103", due="2025-03-11"),
        ]
        await owe(engine, NIGHT, owed(1), owed(2, "2025-03-12"), owed(3, "2025-03-14"), *others)
        assert await merge(engine, NIGHT) == 0
        assert await merge(engine, MORNING - timedelta(seconds=1)) == 0
        assert await merge(engine, MORNING) == 3
        assert await merge(engine, MORNING) == 0
        mails = {row.to_code: row for row in await rows(engine, "letter = 'digest'")}
        assert {code: [i["params"]["name"] for i in row.params["items"]] for code, row in mails.items()} == {
            "440106": ["第2事", "第3事", "第1事"],
            "440103": ["第6事", "第5事"],
        }
        assert {row.state for row in mails.values()} == {"queued"}
        (alone,) = await rows(engine, "address = 'b@th.example'")
        assert (alone.state, alone.letter, alone.when) == ("queued", "deadline", "morning")
        merged = await rows(engine, "state = 'merged'")
        assert {row.digest for row in merged} == {row.id for row in mails.values()}
        assert {row.settled_at for row in merged} == {MORNING}
        assert await told(engine) == [f"第{n}事" for n in range(1, 7)]


async def test_what_comes_after_the_mail_of_the_morning_goes_with_the_next(
    postgres: Postgres, database: str
) -> None:
    async with ledger(postgres, database) as engine:
        await owe(engine, NIGHT, owed(1), owed(2))
        await owe(engine, NIGHT, owed(3, to="440103"))  # the only one of its morning: it goes as itself
        await merge(engine, MORNING)
        await owe(engine, LATER, owed(4), owed(5, to="440103"), owed(6, to="440104"))
        # An agency that has had none today need not wait: only an outage makes a reminder so late.
        assert await merge(engine, LATER) == 1
        assert (await states(engine))["deadline/n/6"] == "queued"
        assert {row.not_before for row in await rows(engine, "state = 'gathered'")} == {NEXT}
        assert await merge(engine, at("2025-03-05T17:00")) == 0
        assert await merge(engine, NEXT) == 2
        assert await told(engine) == [f"第{n}事" for n in range(1, 7)]


async def test_what_would_be_too_late_tomorrow_goes_by_itself(postgres: Postgres, database: str) -> None:
    async with ledger(postgres, database) as engine:
        await owe(engine, NIGHT, owed(1))
        await merge(engine, MORNING)
        await owe(engine, LATER, owed(2, "2025-03-07"))
        assert (await states(engine))["deadline/n/2"] == "gathered"  # for today's mail, had there been none
        assert await merge(engine, LATER) == 1
        assert (await states(engine))["deadline/n/2"] == "queued"


async def test_an_outage_over_the_morning_does_not_make_mails_at_night(
    postgres: Postgres, database: str
) -> None:
    async with ledger(postgres, database) as engine:
        await owe(engine, NIGHT, owed(1), owed(2))
        assert await merge(engine, at("2025-03-05T21:00")) == 0
        assert await merge(engine, at("2025-03-08T10:00")) == 0  # a Saturday
        assert await merge(engine, at("2025-03-10T09:00")) == 1


async def test_the_mail_of_the_morning_waits_until_all_is_recalled(postgres: Postgres, database: str) -> None:
    """Another process may be in the middle of it: what it recalls belongs to the same mail."""
    async with ledger(postgres, database) as engine:
        await owe(engine, NIGHT, owed(1))
        row = f"'{uuid4()}', 1, 'n', 's', timestamptz '{MORNING.isoformat()}'"
        async with engine.begin() as conn:
            await conn.execute(
                f'insert into notify.waiting ("case", version, notice, stage, next_at) values ({row})'
            )
        async with engine.connect() as conn:
            assert not await pending.any_gathered(conn, MORNING)
            await conn.execute("update notify.waiting set next_at = null")
            assert await pending.any_gathered(conn, MORNING)
            assert not await pending.any_gathered(conn, NIGHT)


class Crash(Exception):
    pass


async def crashed(engine: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends between the digest and its items."""

    async def ends(*_: Any) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(pending, "_become", ends)
        with pytest.raises(Crash):
            await merge(engine, MORNING)


async def test_a_crash_in_the_middle_loses_nothing_and_tells_nothing_twice(
    postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ledger(postgres, database) as engine:
        await owe(engine, NIGHT, owed(1), owed(2))
        await crashed(engine, monkeypatch)
        assert await states(engine) == {"deadline/n/1": "gathered", "deadline/n/2": "gathered"}
        assert await merge(engine, MORNING) == 1
        assert await merge(engine, NEXT) == 0
        assert await told(engine) == ["第1事", "第2事"]


async def test_control_without_one_transaction_a_crash_tells_things_twice(
    postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ledger(postgres, database) as engine:

        async def at_once(_: Connection, *arguments: Any) -> Any:
            async with engine.begin() as conn:
                return await put(conn, *arguments)

        await owe(engine, NIGHT, owed(1), owed(2))
        monkeypatch.setattr(pending, "put", at_once)
        await crashed(engine, monkeypatch)
        await merge(engine, NEXT)
        assert await told(engine) == ["第1事", "第1事", "第2事", "第2事"]


async def race(engine: Database) -> list[int]:
    """Two processes at nine, and what another recalls while they are at it."""
    first = await asyncio.gather(merge(engine, MORNING), merge(engine, MORNING))
    await owe(engine, MORNING, owed(3), owed(4))
    return [*first, *await asyncio.gather(merge(engine, MORNING), merge(engine, MORNING))]


async def test_two_processes_make_one_mail_of_a_morning(postgres: Postgres, database: str) -> None:
    async with ledger(postgres, database) as engine, ledger(postgres, database) as other:
        await owe(engine, NIGHT, owed(1), owed(2))
        assert sorted(await asyncio.gather(merge(engine, MORNING), merge(other, MORNING))) == [0, 1]
        assert sum(await race(engine)) == 0
        assert len(await rows(engine, "letter = 'digest'")) == 1
        assert await told(engine) == ["第1事", "第2事"]


async def test_control_without_the_key_an_agency_gets_two_mails_of_a_morning(
    postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ledger(postgres, database) as engine:
        await owe(engine, NIGHT, owed(1), owed(2))
        monkeypatch.setattr(digest, "key", lambda *_: f"digest/{uuid4()}")
        await race(engine)
        assert len(await rows(engine, "letter = 'digest'")) == 2


async def test_a_newer_reminder_takes_the_place_of_an_older_that_has_not_left(
    postgres: Postgres, database: str
) -> None:
    async with ledger(postgres, database) as engine:
        gathered, urgent, other = (
            owed(1, ladder="l/1"),
            owed(2, "2025-03-05", ladder="l/2"),
            owed(3, ladder="l/3"),
        )
        await owe(engine, NIGHT, gathered, urgent, other)
        newer = [replace(o, key=f"{o.key}/newer") for o in (gathered, urgent)]
        await owe(engine, MORNING, *newer)
        await owe(engine, MORNING, *newer)  # by another process, or after a restart
        await owe(engine, NIGHT, gathered)  # by a clock that is behind
        assert await states(engine) == {
            "deadline/n/1": "replaced",
            "deadline/n/1/newer": "gathered",
            "deadline/n/2": "replaced",
            "deadline/n/2/newer": "queued",
            "deadline/n/3": "gathered",
        }
        async with engine.begin() as conn:
            claimed = await store.claim(conn, 7, 1, MORNING, open_=True)
            assert claimed
        await owe(engine, LATER, replace(urgent, key="deadline/n/2/newest"))
        found = await states(engine)  # what is on its way is not called back
        assert (found["deadline/n/2/newer"], found["deadline/n/2/newest"]) == ("claimed", "queued")


# --- hours --------------------------------------------------------------------------------------------


async def test_what_can_wait_is_not_sent_at_night_even_if_it_was_put_off_till_then(
    postgres: Postgres, database: str
) -> None:
    async with ledger(postgres, database) as engine:
        await owe(engine, MORNING, owed(1, when="hours"), owed(2, when="now"))

        async def claims(now: datetime) -> list[str]:
            found = []
            async with engine.begin() as conn:
                for one in await store.claim(conn, 7, 50, now, open_=HOURS.open(now)):
                    found.append(one.owed.key)
                    later = store.Settled(one.mail, one.owed, one.attempt, "queued", "451", 9 * 3600)
                    await store.postpone(conn, [later], now)
            found.sort()
            return found

        assert await claims(MORNING) == ["deadline/n/1", "deadline/n/2"]
        assert await claims(at("2025-03-05T18:00")) == ["deadline/n/2"]
        assert await claims(at("2025-03-06T08:30")) == ["deadline/n/1", "deadline/n/2"]


# --- held ---------------------------------------------------------------------------------------------

SELECTED = Gate(HOURS, frozenset({"selected"}))


def selected(n: int, **fields: Any) -> Owed:
    return owed(n, letter="selected", when="now", key=f"case/{n}/selected", **fields)


async def settle(
    engine: Database,
    action: Literal["release", "discard", "edit"],
    now: datetime = MORNING,
    **fields: Any,
) -> pending.Settled:
    said = MailsSettled(**{"notice": "n", "action": action, "reason": "审定", "officer": "A001", **fields})
    async with engine.begin() as conn:
        return await pending.settle(conn, said, CITY, f"e-{action}", SELECTED, now)


async def claimed(engine: Database, now: datetime = LATER) -> list[UUID]:
    async with engine.begin() as conn:
        return [one.mail for one in await store.claim(conn, 7, 50, now, open_=True)]


async def test_what_is_held_leaves_only_when_it_is_released_and_says_who_did(
    postgres: Postgres, database: str
) -> None:
    async with ledger(postgres, database) as engine:
        one, two, three = selected(1), selected(2), selected(3)
        await owe(engine, NIGHT, one, two, three, gate=SELECTED)
        assert await claimed(engine) == []
        assert await settle(engine, "edit", mails=(one.mail,), text="授牌另行通知。") == pending.Settled(
            (one.mail,), ()
        )
        assert await claimed(engine) == []
        assert (await settle(engine, "release", mails=(one.mail,))).done == (one.mail,)
        assert (await settle(engine, "discard", mails=(two.mail,))).done == (two.mail,)
        # Once: neither again, nor the other way round.
        again = await settle(engine, "release", mails=(one.mail, two.mail))
        assert again == pending.Settled((), (one.mail, two.mail))
        await owe(engine, LATER, one, two, three, gate=SELECTED)
        assert await claimed(engine) == [one.mail]
        assert (await settle(engine, "discard", mails=(one.mail,))).done == ()
        found = {row.id: row for row in await rows(engine)}
        assert [(a["action"], a["by"], a["officer"], a["reason"]) for a in found[one.mail].handled] == [
            ("edit", CITY, "A001", "审定"),
            ("release", CITY, "A001", "审定"),
        ]
        assert found[one.mail].handled[1]["at"] == MORNING.isoformat()
        assert found[one.mail].params == {**one.params, "note": "授牌另行通知。"}  # and no fact else
        assert (found[two.mail].state, found[two.mail].settled_at) == ("discarded", MORNING)
        assert found[three.mail].state == "held"


async def test_all_of_a_notice_or_of_one_letter_of_it_are_settled_together(
    postgres: Postgres, database: str
) -> None:
    async with ledger(postgres, database) as engine:
        mine = [selected(n) for n in range(3)]
        other = owed(8, letter="rejected", when="now", hold=True)
        foreign = owed(9, letter="selected", when="now")
        foreign = replace(foreign, params={**foreign.params, "notice_id": "m"})
        await owe(engine, NIGHT, *mine, other, foreign, gate=SELECTED)
        assert set((await settle(engine, "release", letter="selected")).done) == {o.mail for o in mine}
        assert (await settle(engine, "discard", mails=(foreign.mail,))).missing == (foreign.mail,)
        assert (await settle(engine, "discard")).done == (other.mail,)
        assert {row.id for row in await rows(engine, "state = 'held'")} == {foreign.mail}


async def test_what_is_released_at_night_waits_as_its_letter_does(postgres: Postgres, database: str) -> None:
    async with ledger(postgres, database) as engine:
        letters = [
            owed(1, when="now", hold=True),
            owed(2, when="hours", hold=True),
            owed(3, when="morning", hold=True),
            owed(4, "2025-03-05", when="morning", hold=True),
        ]
        await owe(engine, NIGHT, *letters)
        await settle(engine, "release", NIGHT)
        found = [(row.state, row.not_before) for row in await rows(engine)]
        eight = at("2025-03-05T08:30")
        assert found == [("queued", NIGHT), ("queued", eight), ("gathered", MORNING), ("queued", eight)]


async def test_two_who_settle_the_same_are_one_after_the_other(postgres: Postgres, database: str) -> None:
    async with ledger(postgres, database) as engine:
        letters = [selected(n) for n in range(20)]
        await owe(engine, NIGHT, *letters, gate=SELECTED)
        done = await asyncio.gather(
            *(settle(engine, a) for a in ("release", "discard", "release", "discard"))
        )
        assert sorted(id_ for one in done for id_ in one.done) == sorted(o.mail for o in letters)


async def test_control_without_the_lock_both_who_settle_have_done_it(
    postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ledger(postgres, database) as engine:
        await owe(engine, NIGHT, selected(1), gate=SELECTED)
        execute, both = Connection.execute, asyncio.Barrier(2)

        async def unlocked(self: Connection, sql: str, values: Any = None) -> Any:
            found = await execute(self, sql.replace(" for update", ""), values)
            if " for update" in sql:
                await both.wait()
            return found

        monkeypatch.setattr(Connection, "execute", unlocked)
        done = await asyncio.gather(settle(engine, "release"), settle(engine, "discard"))
        assert [len(one.done) for one in done] == [1, 1]
