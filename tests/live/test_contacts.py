"""Contact persons over the bus and in the ledger: who may change them, whom that moves mails to, what the database itself
refuses. Who gets which letter is proven in tests/unit/test_recipients.py."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.cli import common, main
from services.cli.local import Local
from services.notify import contacts, store
from services.notify.owed import Owed
from services.notify.recipients import People, Person, addressed
from services.notify.store import Gate
from shared.contracts import registry
from shared.contracts.case import CaseReturned
from shared.contracts.contact import ContactChanged
from shared.notices.directory import Directory, unlisted
from shared.runtime.database import Connection, connect
from shared.runtime.decode import Item, Raw, decode
from shared.runtime.delivery import Tx
from shared.runtime.embedded import Postgres, eventually
from shared.runtime.streams import IN
from tests.goldens import golden

CITY, TIANHE, LIWAN, INSTITUTION = "440100", "440106", "440103", "inst-a"
APPLICANT = unlisted("联系人测试机构").code
DAY = date(2025, 3, 3)
DURING = datetime(2025, 3, 3, 2, tzinfo=UTC)  # a Monday, ten in the morning
AGENCIES = """
- code: "440106"
  kind: K2
  name: 天河区商务金融局
  short: 天河区
  district: "440106"
  email: office@tianhe.example
  contacts:
    - {code: filing-0, posts: [filing], email: listed@tianhe.example}
  source: 试验
- {code: "440103", kind: K2, name: 荔湾区局, short: 荔湾区, district: "440103", email: office@liwan.example, source: 试验}
- {code: inst-a, kind: K4, name: 天河某平台, short: 某平台, district: "440106", source: 试验}
"""
EXAMPLE = json.loads(golden("cn.gov.gz.sme.case.returned.v1").read_text(encoding="utf-8"))


def changed(code: str, version: int, email: str, agency: str = TIANHE, **more: Any) -> ContactChanged:
    return ContactChanged(
        agency=agency, contact=code, version=version, email=email, **{"posts": ("filing",), **more}
    )


# --- over the bus ---------------------------------------------------------------------------------------


def set_clock(local: Local, moment: datetime) -> None:
    draft = local.clock.with_suffix(".new")
    draft.write_text(str((moment - datetime.now(UTC)).total_seconds()))
    draft.replace(local.clock)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    here = tmp_path_factory.mktemp("contacts")
    (here / "agencies.yaml").write_text(AGENCIES, encoding="utf-8")
    running = Local(
        here / "run",
        extra={"YIQI_AGENCIES": str(here / "agencies.yaml")},
        services=("notify",),
        sync_always=False,
    )
    set_clock(running, DURING)
    with running:
        yield running


async def tell(local: Local, publisher: str, data: Any, id_: str = "") -> dict[str, Any] | None:
    """Publish it and wait for the answer; None if the event had been answered before."""
    client = await local.connect(publisher)
    try:
        answers = await client.subscribe(f"sme.out.v1.{publisher}.event.*")
        event = registry.CONTACT_CHANGED.event(
            changed("x", 1, "x@x.example"), id_ or uuid4(), at=DURING, source=f"urn:cn:gov:gz:{publisher}:oa"
        )
        body = {
            **json.loads(event.wire()),
            "data": data if isinstance(data, dict) else json.loads(data.model_dump_json()),
        }
        subject = registry.CONTACT_CHANGED.subject(publisher)
        ack = await client.jetstream().publish(subject, json.dumps(body).encode(), stream=IN)
        while True:
            try:
                message = await answers.next_msg(2 if id_ else 15)
            except TimeoutError:
                handled = local.postgres.sql("select count(*) from notify.inbox", "yiqi")
                assert id_, f"no answer to message {ack.seq}, {handled} handled"
                return None
            answer: dict[str, Any] = json.loads(message.data)["data"]
            if event.id in (answer.get("accepted"), (answer.get("rejected") or {}).get("id")):
                return {**answer, "raw": message.data.decode()}
    finally:
        await client.close()


async def returned(local: Local, filer: dict[str, Any], version: int = 3) -> UUID:
    """Review says that a case was returned."""
    case = uuid4()
    data = CaseReturned.model_validate(
        {
            **EXAMPLE["data"],
            "case": str(case),
            "filer": filer,
            "package": None,
            "version": version,
            "due": None,
        }
    )
    client = await local.connect("review")
    try:
        event = registry.CASE_RETURNED.event(data, case, version, at=DURING)
        await client.jetstream().publish(
            registry.CASE_RETURNED.subject(TIANHE), event.wire(), stream="SME_EVT"
        )
    finally:
        await client.close()
    return case


async def mails(local: Local, case: UUID) -> dict[str, tuple[str, str, str]]:
    """What follows the agency in the key, with the address, the state and the reason of each mail of a case."""

    async def there() -> dict[str, tuple[str, str, str]]:
        conn = await asyncpg.connect(local.postgres.dsn("yiqi"))
        try:
            rows = await conn.fetch('select * from notify.mail where "case" = $1 order by key', case)
        finally:
            await conn.close()
        if not rows or any(r["state"] in ("queued", "claimed", "data") for r in rows):
            return {}
        return {
            r["key"].split(r["to_code"], 1)[1]: (r["address"] or "", r["state"], r["why"] or "") for r in rows
        }

    return await eventually(there, 30, "the mails of the case")


def got(local: Local, address: str) -> int:
    return sum(p.name.split("-", 1)[1] == f"{address}.eml" for p in local.mails.messages())


K2 = {"code": TIANHE, "kind": "K2", "name": "天河区商务金融局"}


@pytest.mark.parametrize(
    ("publisher", "agency", "code"),
    [
        (INSTITUTION, INSTITUTION, ""),
        (TIANHE, INSTITUTION, ""),
        (CITY, INSTITUTION, ""),
        (CITY, LIWAN, ""),
        (APPLICANT, APPLICANT, ""),
        (CITY, APPLICANT, ""),
        (LIWAN, INSTITUTION, "authority"),
        (LIWAN, TIANHE, "authority"),
        (INSTITUTION, TIANHE, "authority"),
        (INSTITUTION, CITY, "authority"),
        (TIANHE, CITY, "authority"),
        (TIANHE, APPLICANT, "authority"),
        (APPLICANT, INSTITUTION, "authority"),
        (CITY, "nobody", "agency"),
    ],
)
async def test_who_may_change_whose_contacts(local: Local, publisher: str, agency: str, code: str) -> None:
    contact = f"by-{publisher}"
    answer = await tell(local, publisher, changed(contact, 1, f"{contact}@{agency}.example", agency))
    assert answer
    if code:
        assert answer["type"] == f"urn:cn:gov:gz:sme:problem:{code}"
    else:
        assert "accepted" in answer, answer
    sql = f"select count(*) from notify.contact where agency = '{agency}' and code = '{contact}' and by = '{publisher}'"
    assert int(local.postgres.sql(sql, "yiqi")) == (not code)


async def test_the_highest_version_counts_whatever_comes_when(local: Local) -> None:
    def now() -> str:
        return local.postgres.sql(
            "select version || ' ' || address from notify.contact where code = 'order-1'", "yiqi"
        ).strip()

    two = changed("order-1", 2, "two@tianhe.example", INSTITUTION)
    answer = await tell(local, INSTITUTION, two, "twice")
    assert answer
    assert "accepted" in answer
    assert (
        await tell(local, INSTITUTION, two, "twice") is None
    )  # the same event has its effect, and its answer, once
    repeated = await tell(local, INSTITUTION, two)
    assert repeated
    assert "accepted" in repeated  # said again under another id: so it is
    for late in (
        changed("order-1", 1, "one@tianhe.example", INSTITUTION),
        two.model_copy(update={"email": "b@c.example"}),
    ):
        answer = await tell(local, INSTITUTION, late)
        assert answer
        assert (answer["type"].rsplit(":", 1)[1], answer["status"]) == ("version", 409)
    assert now() == "2 two@tianhe.example"
    answer = await tell(local, INSTITUTION, changed("order-1", 7, "Seven@Tianhe.example", INSTITUTION))
    assert answer
    assert "accepted" in answer
    assert now() == "7 seven@tianhe.example"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"email": "planted person@planted.example"}, "address"),
        ({"email": "planted@planted.example", "since": "2025-03-02", "until": "2025-03-01"}, "term"),
        ({"email": "office@liwan.example"}, "address"),
        ({"email": "planted@planted.example", "posts": ["boss"]}, "validation"),
        ({"email": "planted@planted.example", "name": "某人"}, "validation"),
        ({"email": "planted@planted.example", "version": 0}, "validation"),
    ],
)
async def test_a_refusal_says_why_and_not_whose_address(
    local: Local, change: dict[str, Any], code: str
) -> None:
    data = {"agency": INSTITUTION, "contact": "wrong-1", "version": 1, "posts": ["filing"], **change}
    answer = await tell(local, INSTITUTION, data)
    assert answer
    assert answer["type"].rsplit(":", 1)[1] == code
    assert "planted" not in answer["raw"]
    assert "liwan" not in answer["raw"]
    assert not int(local.postgres.sql("select count(*) from notify.contact where code = 'wrong-1'", "yiqi"))
    assert "planted" not in (local.directory / "notify.log").read_text()


async def test_who_begins_tomorrow_gets_tomorrows_mail(local: Local) -> None:
    begins = changed("filing-1", 1, "tomorrow@tianhe.example", since=DAY + timedelta(days=1))
    ends = changed("filing-0", 1, "listed@tianhe.example", until=DAY)
    for change in (begins, ends):
        answer = await tell(local, TIANHE, change)
        assert answer
        assert "accepted" in answer, answer
    today = await mails(local, await returned(local, K2))
    assert today == {"/filing-0": ("listed@tianhe.example", "sent", "")}
    set_clock(local, DURING + timedelta(days=1))
    tomorrow = await mails(local, await returned(local, K2))
    assert tomorrow == {"/filing-1": ("tomorrow@tianhe.example", "sent", "")}


async def test_what_waits_when_a_contact_changes_goes_to_the_new_address(local: Local) -> None:
    """Before anybody has begun to send it; and when its person is no more, to the agency. Each address has a domain of
    its own, as one that has refused several mails is left alone for a while."""
    await tell(local, TIANHE, changed("filing-0", 50, "listed@tianhe.example", active=False))
    await tell(local, TIANHE, changed("filing-1", 50, "clerk@old.example"))
    local.mails.refusal = "451 4.3.0 later"
    try:
        case = await returned(local, K2)

        def tried() -> bool:
            sql = f"""select count(*) from notify.mail where "case" = '{case}' and attempt > 0 and state = 'queued'"""
            return int(local.postgres.sql(sql, "yiqi")) == 1

        async def again() -> None:
            """The server takes mail, and nobody waits for the next attempt."""
            local.mails.refusal = None
            local.postgres.sql(
                "update notify.mail set not_before = '2000-01-01' where state = 'queued'", "yiqi"
            )
            await returned(local, {**K2, "email": "waker@waker.example"})

        await eventually(tried, 30, "a first attempt")
        answer = await tell(local, TIANHE, changed("filing-1", 51, "clerk@new.example"))
        assert answer
        assert "accepted" in answer
        await again()
        assert (await mails(local, case))["/filing-1"][:2] == ("clerk@new.example", "sent")
        assert not got(local, "clerk@old.example")
        there = got(local, "clerk@new.example")  # a reminder that waited has come along
        local.mails.refusal = "451 4.3.0 later"
        case = await returned(local, K2)
        await eventually(tried, 30, "a first attempt")
        await tell(local, TIANHE, changed("filing-1", 52, "clerk@new.example", active=False))
        await again()
        assert (await mails(local, case))["/filing-1"][:2] == ("office@tianhe.example", "sent")
        assert got(local, "clerk@new.example") == there
    finally:
        local.mails.refusal = None


async def test_a_filer_that_types_the_address_of_another_district_gets_no_mail_there(local: Local) -> None:
    await tell(local, LIWAN, changed("lead-1", 90, "person@liwan.example", LIWAN, posts=("lead",)))
    filer = {"code": APPLICANT, "kind": "K6", "name": "联系人测试机构", "email": "Person@liwan.example"}
    case = await returned(local, filer)
    assert await mails(local, case) == {"": ("", "failed", "foreign address")}
    assert not got(local, "person@liwan.example")
    # Of its own district it may.
    case = await returned(local, {**filer, "email": "office@tianhe.example"})
    assert await mails(local, case) == {"": ("office@tianhe.example", "sent", "")}


async def test_a_reminder_that_was_sent_is_not_sent_again_to_who_comes_later(local: Local) -> None:
    """A service that starts enters the rungs of now once more: what keeps them from being owed twice is the occasion."""
    set_clock(local, DURING + timedelta(days=2))
    keys = "select key from notify.mail where key like 'deadline/%/3/{}%' order by key"
    ours, theirs = keys.format(TIANHE), keys.format(LIWAN)
    before = await eventually(lambda: local.postgres.sql(ours, "yiqi"), 20, "the reminder")
    await tell(local, TIANHE, changed("later-1", 1, "later@tianhe.example"))
    local.kill("notify")
    # What is entered again at once, by the same transaction, tells that the sweep has been at it.
    local.postgres.sql(f"delete from notify.mail where key in ({theirs})", "yiqi")
    local.launch("notify")
    local.ready()
    await eventually(lambda: local.postgres.sql(theirs, "yiqi"), 20, "the reminders to be entered again")
    assert local.postgres.sql(ours, "yiqi") == before
    assert "/later-1" in await mails(local, await returned(local, K2))  # who would be chosen now


def test_people_are_listed_set_and_ended_by_command(
    local: Local, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def yiqi(*arguments: str, status: int = 0, said: str = "", of: str = "contact") -> str:
        monkeypatch.setattr(sys, "stdin", StringIO(said))
        with pytest.raises(SystemExit) as ended:
            main([of, *arguments])
        told = capsys.readouterr()
        assert (ended.value.code or 0) == status, told
        return str(told.out + told.err)

    for name, value in {**local.environment, "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(local.directory)
    common.settings.cache_clear()
    common.directory.cache_clear()
    who = (INSTITUTION, "cli-1", "--as", TIANHE)
    assert "须写明" in yiqi("set", *who, "--post", "review", status=2)
    yiqi(
        "set", *who, "--post", "review", "--email", "-", "--until", "2030-01-01", said="cli@tianhe.example\n"
    )
    assert "第2次" in yiqi("set", *who, "--post", "lead", "--post", "review")
    assert "cli@tianhe.example" not in yiqi("list") + yiqi("show", INSTITUTION, "cli-1") + yiqi(
        "list", "--json"
    )
    (row,) = (r for r in json.loads(yiqi("list", "--json", "--addresses")) if r["contact"] == "cli-1")
    assert (row["posts"], row["until"], row["address"]) == (
        ["review", "lead"],
        "2030-01-01",
        "cli@tianhe.example",
    )
    assert "无权办理" in yiqi("end", INSTITUTION, "cli-1", "--as", LIWAN, status=1)
    yiqi("end", INSTITUTION, "cli-1", "--as", CITY)
    shown = json.loads(yiqi("show", INSTITUTION, "cli-1", "--json"))
    assert (shown["active"], shown["version"], shown["by"], "address" in shown) == (False, 3, CITY, False)
    assert "岗位只有" in yiqi("set", *who, "--post", "boss", status=2)
    # What is over can be let go; the row stays, so that an older change stays older.
    let_go = yiqi("retain", "--closed-before", "2099-01-01", "--json", of="ops")
    assert json.loads(let_go)["counts"]["people"] >= 1
    assert "邮箱已清除" in yiqi("end", INSTITUTION, "cli-1", "--as", CITY, status=2)
    common.settings.cache_clear()
    common.directory.cache_clear()


# --- in the ledger ----------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    (tmp_path / "agencies.yaml").write_text(AGENCIES, encoding="utf-8")
    return Directory.load(tmp_path / "agencies.yaml")


@asynccontextmanager
async def transaction(url: str) -> AsyncIterator[Connection]:
    engine = connect(url, "test")
    try:
        async with engine.begin() as conn:
            yield conn
    finally:
        await engine.dispose()


def item(change: ContactChanged, publisher: str = CITY) -> Item:
    event = registry.CONTACT_CHANGED.event(change, uuid4(), at=DURING, source=f"urn:cn:gov:gz:{publisher}:oa")
    subject = registry.CONTACT_CHANGED.subject(publisher)
    found = decode(
        Raw(subject, event.wire(), None, IN, 1, DURING), {"contact.changed": registry.CONTACT_CHANGED}
    )
    assert isinstance(found, Item)
    return found


async def change(url: str, directory: Directory, *changes: ContactChanged) -> None:
    async with transaction(url) as conn:
        tx = Tx(conn, DURING)
        await contacts.on_in(tx, [item(one) for one in changes], People(directory))
        assert [m.subject.rsplit(".", 1)[1] for m in tx.said] == ["accepted"] * len(changes), tx.said


def owed(n: int, to: str = TIANHE, address: str | None = None, letter: str = "returned") -> Owed:
    case = UUID(int=n)
    return Owed(
        f"case/{n}/1/{letter}/{to}", letter, to, "某单位", address, {}, case, parties=(to,), district=TIANHE
    )


async def enter(url: str, directory: Directory, *letters: Owed) -> None:
    async with transaction(url) as conn:
        store.owe(conn, await contacts.recipients(conn, People(directory), letters, DURING), Gate(), DURING)


def ledger(postgres: Postgres, database: str) -> list[str]:
    sql = "select key || ' ' || state || ' ' || coalesce(address, '') || ' ' || coalesce(why, '') from notify.mail order by key"
    return [line.strip() for line in postgres.sql(sql, database).strip().splitlines()]


async def test_the_database_lets_no_mail_in_to_a_person_of_another_district(
    postgres: Postgres, database: str, directory: Directory
) -> None:
    """Whatever the service believes; without the trigger it would be sent."""
    url = postgres.dsn(database)
    await change(url, directory, changed("lead-1", 1, "person@liwan.example", LIWAN))
    blind = addressed([owed(n, address="Person@liwan.example") for n in (1, 2)], People(directory), DAY)
    async with transaction(url) as conn:
        store.owe(conn, blind[:1], Gate(), DURING)
    assert ledger(postgres, database) == [f"{blind[0].key} failed  foreign address"]
    postgres.sql("drop trigger addressee on notify.mail", database)
    async with transaction(url) as conn:
        store.owe(conn, blind[1:], Gate(), DURING)
    assert ledger(postgres, database)[1] == f"{blind[1].key} queued Person@liwan.example"


async def test_an_address_that_turns_out_to_be_of_another_district_is_withdrawn(
    postgres: Postgres, database: str, directory: Directory
) -> None:
    url = postgres.dsn(database)
    letters = [owed(1, address="person@liwan.example"), owed(2, INSTITUTION, "person@liwan.example")]
    await enter(url, directory, *letters, owed(3, LIWAN, "person@liwan.example"))
    postgres.sql(f"update notify.mail set state = 'sent' where key = '{letters[1].key}'", database)
    await change(url, directory, changed("lead-1", 1, "person@liwan.example", LIWAN))
    assert ledger(postgres, database) == [
        f"{letters[0].key} failed  foreign address",
        f"{letters[1].key} sent person@liwan.example",  # it has left
        f"case/3/1/returned/{LIWAN} queued person@liwan.example",
    ]


async def test_who_is_no_more_hands_what_waits_to_who_has_not_got_it(
    postgres: Postgres, database: str, directory: Directory
) -> None:
    url = postgres.dsn(database)
    people = [
        changed("filing-0", 1, "zero@tianhe.example", active=False),
        changed("filing-1", 1, "one@tianhe.example"),
        changed("filing-2", 1, "two@tianhe.example"),
    ]
    await change(url, directory, *people)
    await enter(url, directory, owed(1))
    assert [line.split()[2] for line in ledger(postgres, database)] == [
        "one@tianhe.example",
        "two@tianhe.example",
    ]
    await change(url, directory, changed("filing-1", 2, "one@tianhe.example", active=False))
    assert [line.split()[1:3] for line in ledger(postgres, database)] == [
        ["queued", "office@tianhe.example"],
        ["queued", "two@tianhe.example"],
    ]
    await change(url, directory, changed("filing-2", 2, "two@tianhe.example", active=False))
    (first, second) = ledger(postgres, database)
    assert first.split()[1:] == ["queued", "office@tianhe.example"]
    assert second.endswith("failed  contact ended")  # the agency has it already


async def test_what_goes_to_the_agency_itself_stays_there(
    postgres: Postgres, database: str, directory: Directory
) -> None:
    """Also when one of its people used the same address and has another now."""
    url = postgres.dsn(database)
    await enter(
        url, directory, owed(1, letter="recommend_wanted"), owed(2, INSTITUTION, "typed@inst.example")
    )
    for version, email in ((1, "office@tianhe.example"), (2, "own@tianhe.example")):
        await change(url, directory, changed("filing-1", version, email))
    assert ledger(postgres, database)[0].split()[1:] == ["queued", "office@tianhe.example"]
    # What a filer typed follows the person whose address it was.
    for version, email in ((1, "typed@inst.example"), (2, "moved@inst.example")):
        await change(url, directory, changed("filing-1", version, email, INSTITUTION))
    assert ledger(postgres, database)[1].split()[1:] == ["queued", "moved@inst.example"]


async def test_a_mail_in_hand_is_taken_away_from_its_worker_before_the_first_byte(
    postgres: Postgres, database: str, directory: Directory
) -> None:
    """Else it would come back from a refusal, and go to who is no more the next time."""
    url = postgres.dsn(database)
    await enter(url, directory, owed(1), owed(2))
    async with transaction(url) as conn:
        mine, other = sorted(
            await store.claim(conn, 7, 2, DURING, open_=True), key=lambda claim: claim.owed.key
        )
        assert await store.begin_data(conn, 7, [(other.mail, other.attempt)])
    await change(url, directory, changed("filing-0", 1, "new@tianhe.example"))
    async with transaction(url) as conn:
        assert not await store.begin_data(conn, 7, [(mine.mail, mine.attempt)])
        lost = store.Settled(mine.mail, mine.owed, mine.attempt, "queued", "lease lost")
        await store.postpone(conn, [lost], DURING)
        (again,) = await store.claim(conn, 8, 2, DURING, open_=True)
        assert (again.owed.key, again.owed.address, again.attempt) == (mine.owed.key, "new@tianhe.example", 2)
    # The other may have been taken: it stays where it was sent to.
    assert ledger(postgres, database)[1].split()[1:] == ["data", "listed@tianhe.example"]


async def test_a_day_that_ends_a_term_moves_what_waits(
    postgres: Postgres, database: str, directory: Directory
) -> None:
    url = postgres.dsn(database)
    await change(url, directory, changed("filing-0", 1, "listed@tianhe.example", until=DAY))
    await enter(url, directory, owed(1))
    for days, address in ((0, "listed@tianhe.example"), (1, "office@tianhe.example")):
        async with transaction(url) as conn:
            await contacts.turn(conn, People(directory), DURING + timedelta(days=days))
        assert [line.split()[2] for line in ledger(postgres, database)] == [address]


async def test_a_change_and_a_mail_that_is_being_entered_wait_for_each_other(
    postgres: Postgres, database: str, directory: Directory
) -> None:
    """Else a mail chosen before a change, and entered after it, would go to who is no more."""
    url = postgres.dsn(database)
    await change(url, directory, changed("filing-0", 1, "first@tianhe.example"))
    async with transaction(url) as conn:
        chosen = await contacts.recipients(conn, People(directory), [owed(1)], DURING)
        await conn.execute("select 1")
        store.owe(conn, chosen, Gate(), DURING)
        # Enter it now, and commit later.
        later, conn._later = conn._later, []
        (sql, values, _) = later[0]
        await conn.execute(sql, values)
        changing = asyncio.create_task(
            change(url, directory, changed("filing-0", 2, "second@tianhe.example"))
        )
        waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        await eventually(lambda: int(postgres.sql(waits, database)) > 0, 10, "the change to wait")
        assert not changing.done()
    await changing
    assert [line.split()[2] for line in ledger(postgres, database)] == ["second@tianhe.example"]
    # Chosen before, entered after: it is chosen again.
    stale = addressed(
        [owed(2)],
        People(directory, [Person(TIANHE, "filing-0", ("filing",), "first@tianhe.example", version=1)]),
        DAY,
    )
    with pytest.raises(asyncpg.SerializationError):
        async with transaction(url) as conn:
            store.owe(conn, stale, Gate(), DURING)
    postgres.sql("drop trigger addressee on notify.mail", database)  # control
    async with transaction(url) as conn:
        store.owe(conn, stale, Gate(), DURING)
    assert ledger(postgres, database)[1].split()[2] == "first@tianhe.example"


async def test_an_occasion_is_owed_once_whoever_would_be_chosen_now(
    postgres: Postgres, database: str, directory: Directory
) -> None:
    """Also what was entered before there were contact persons, under the key of the agency."""
    url = postgres.dsn(database)
    async with transaction(url) as conn:
        store.owe(conn, [owed(1, address="office@tianhe.example")], Gate(), DURING)
    await enter(url, directory, owed(1), owed(2))
    await change(url, directory, changed("filing-0", 1, "listed@tianhe.example", active=False))
    await enter(url, directory, owed(1), owed(2))
    await change(url, directory, changed("filing-9", 1, "nine@tianhe.example"))
    await enter(url, directory, owed(1), owed(2))
    assert [line.split()[0] for line in ledger(postgres, database)] == [
        f"case/1/1/returned/{TIANHE}",
        f"case/2/1/returned/{TIANHE}/filing-0",
    ]
