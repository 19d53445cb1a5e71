"""Nobody decides elsewhere, not even by a bug of ours, and nobody changes what was decided without being found (T23 in
SQL, T32): the locks of the database one by one, a broken service, and a superuser with time.

Who may decide what is tested with `decide.py`; accounts of the bus are not here.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import pytest

from services.cli import auditing, common
from services.notify.handlers import Notify
from services.review import decide, mirror
from services.review.case import chained
from services.review.store import as_line
from shared.contracts import registry
from shared.contracts.case import DecisionsMade, DecisionsSettled
from shared.contracts.envelope import YIQI
from shared.runtime.clock import Clock
from shared.runtime.database import connect
from shared.runtime.decode import Raw
from shared.runtime.delivery import Delivery
from shared.runtime.embedded import Nats, Postgres
from shared.runtime.settings import Settings
from shared.runtime.streams import AUDIT, EVT, STREAMS
from tests.chaos.oracle import Verdict
from tests.chaos.review_lab import CITY, FOREIGN, OWN, World, events, stream, world

Tell = Callable[[Verdict], Verdict]

LISTED = """\
- code: "440106"
  kind: K2
  name: 天河区商务金融局
  short: 天河区
  district: "440106"
  officers: ["440106-03"]
  source: 测试
- code: "440104"
  kind: K2
  name: 越秀区商务局
  short: 越秀区
  district: "440104"
  officers: ["440104-01"]
  source: 测试
"""


# --- the role of the service -------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["history", "inbox", "refusal", "head", "officer"])
@pytest.mark.parametrize("change", ["update {0} set {1} = {1}", "delete from {0}", "truncate {0} cascade"])
async def test_the_service_may_only_add(
    nats_server: Nats, postgres: Postgres, database: str, table: str, change: str
) -> None:
    async with world(nats_server, postgres, database) as here:
        await here.opened(1)
        service = await asyncpg.connect(here.dsn)
        assert await service.fetchval("select not rolsuper from pg_roles where rolname = current_user")
        column = {"history": "reason", "inbox": "token", "refusal": "why", "head": "hash"}.get(
            table, "agency"
        )
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await service.execute(change.format(f"review.{table}", column))
            assert await service.fetchval("select count(*) from review.history") == 1
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await service.execute("alter table review.history disable trigger all")
        finally:
            await service.close()
        if table in ("history", "refusal"):
            # Also whoever may everything is refused, until he takes the lock away.
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only added to"):
                await here.admin.execute(change.format(f"review.{table}", column))


LINE = """
insert into review.history ("case", version, at, actor, officer, stage, outcome, reason, rules, acknowledges, fixes, cause,
    data, hash, key, publisher)
values ($1, $2, now(), $3, $4, 'formal_check', 'recommend', '', '[]', '[]', '[]', 'e', '{}', 'h', $5, $6)
"""
REFUSAL = """
insert into review.refusal (key, n, "case", at, publisher, what, code, why) values ($1, 7, $2, now(), $3, '', '', '')
"""
HELD = """
insert into review.held (publisher, held, key, at, decisions, state, reason) values ($1, 'h', $2, now(), '[]', 'held', '')
"""


async def test_each_lock_refuses_by_its_name(
    nats_server: Nats, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    (tmp_path / "listed.yaml").write_text(LISTED)
    async with world(nats_server, postgres, database, tmp_path) as here:
        case, moved = await here.opened(2)
        # Both have published something, so both have events in the inbox: one went back, one was refused.
        await here.hear(
            here.decision(OWN, moved, "return", fixes=({"field": "contact", "detail": "请补充"},)),
            here.decision(FOREIGN, case),
        )
        await here.hear(here.filing(moved, 2, FOREIGN))
        rows = await here.admin.fetch("select token, key from review.inbox where token <> 'yiqi:intake'")
        key = {row["token"]: row["key"] for row in rows}
        filed = await here.admin.fetchval(
            "select key from review.inbox where token = 'yiqi:intake' order by at"
        )
        assert await here.outcomes(moved) == ["file", "return", "resubmit"]
        service = await asyncpg.connect(here.dsn)

        async def refused(kind: type[Exception], name: str, sql: str, *values: Any) -> None:
            with pytest.raises(kind) as met:
                await service.execute(sql, *values)
            assert name in (getattr(met.value, "constraint_name", None) or str(met.value))

        fk, policy = asyncpg.ForeignKeyViolationError, asyncpg.InsufficientPrivilegeError
        try:
            for actor, officer, key_, publisher, kind, name in (
                (FOREIGN, None, key[FOREIGN], FOREIGN, fk, "history_party"),
                (FOREIGN, None, filed, "yiqi:intake", fk, "history_party"),
                # An agency that plays a role, by another's event, by none, by one that there is not.
                (OWN, None, key[FOREIGN], OWN, fk, "history_event"),
                (OWN, None, UUID(int=9), OWN, fk, "history_event"),
                (OWN, None, key[FOREIGN], FOREIGN, policy, "row-level security"),
                (OWN, None, key[OWN], None, policy, "row-level security"),
                (OWN, None, None, None, policy, "row-level security"),
                ("clock", None, key[FOREIGN], FOREIGN, policy, "row-level security"),
                (OWN, "440104-01", key[OWN], OWN, fk, "history_officer"),
                (OWN, "440106-04", key[OWN], OWN, fk, "history_officer"),
                # A body without a list, by an officer of another's.
                (CITY, "440104-01", filed, "yiqi:intake", fk, "history_officer"),
            ):
                await refused(kind, name, LINE, case, 2, actor, officer, key_, publisher)
            await refused(fk, "history_former", LINE, moved, 4, OWN, None, key[OWN], OWN)
            await refused(fk, "refusal_event", REFUSAL, key[FOREIGN], case, OWN)
            await refused(fk, "held_event", HELD, OWN, key[FOREIGN])
            # The negative control: those whom nothing is wrong with.
            for id_, version, actor, officer in (
                (case, 2, OWN, "440106-03"),
                (moved, 4, FOREIGN, "440104-01"),
            ):
                await service.execute(LINE, id_, version, actor, officer, key[actor], actor)
            await service.execute(REFUSAL, key[FOREIGN], case, FOREIGN)  # a stranger's refusal is no decision
            await service.execute(HELD, OWN, key[OWN])
        finally:
            await service.close()


async def test_an_officer_of_another_agency_is_told_so(
    nats_server: Nats, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    (tmp_path / "listed.yaml").write_text(LISTED)
    async with world(nats_server, postgres, database, tmp_path) as here:
        one, two, three = await here.opened(3)
        await here.hear(
            here.decision(OWN, one, officer="440104-01"),
            here.decision(OWN, two, officer="440106-03"),
            here.decision(OWN, three),
        )
        assert [await here.outcomes(c) for c in (one, two, three)] == [
            ["file"],
            ["file", "recommend"],
            ["file", "recommend"],
        ]
        assert [r["code"] for r in await here.admin.fetch("select code from review.refusal")] == ["officer"]
        assert await here.dead() == []


# --- a bug of ours -----------------------------------------------------------------------------------


def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug: nobody asks any more who decides."""
    monkeypatch.setattr(decide, "no_party", lambda *_: None)
    monkeypatch.setattr(decide, "stranger", lambda *_: None)


async def single(here: World, case: UUID) -> Raw:
    return here.decision(FOREIGN, case)


async def many(here: World, case: UUID) -> Raw:
    made = DecisionsMade.model_validate(
        {"decisions": [{"case": case, "outcome": "recommend", "reason": "理由"}]}
    )
    return here.said(registry.DECISIONS_MADE, FOREIGN, "many", made)


async def released(here: World, case: UUID) -> Raw:
    """Held first, in good order; what it does, it does when its publisher releases it."""
    held = DecisionsMade.model_validate(
        {"decisions": [{"case": case, "outcome": "recommend", "reason": "理由"}], "hold": True}
    )
    await here.hear(here.said(registry.DECISIONS_MADE, FOREIGN, "held", held))
    settled = DecisionsSettled(held="held", action="release", reason="核")
    return here.said(registry.DECISIONS_SETTLED, FOREIGN, "release", settled)


@pytest.mark.parametrize("way", [single, many, released])
@pytest.mark.parametrize("locked", [True, False], ids=["locked", "control: without the locks"])
async def test_a_bug_stores_no_decision_of_another_district(
    nats_server: Nats, postgres: Postgres, database: str, oracle: Tell, monkeypatch: pytest.MonkeyPatch,
    way: Callable[[World, UUID], Awaitable[Raw]], locked: bool,
) -> None:  # fmt: skip
    async with world(nats_server, postgres, database) as here:
        if not locked:
            await here.admin.execute("alter table review.history drop constraint history_party")
        before, middle, after = await here.opened(3)
        blind(monkeypatch)
        bad = await way(here, middle)
        await here.hear(here.decision(OWN, before), bad, here.decision(OWN, after))
        done = [await here.outcomes(c) for c in (before, middle, after)]
        dead = await here.dead()
        name = f"tamper-bug-{way.__name__}" if locked else f"tamper-bug-{way.__name__}-control"
        found = oracle(
            Verdict(
                name,
                sent=3,
                ok=3 - len(dead),
                dead=len(dead),
                foreign_decisions=await here.foreign(),
            )
        )
        assert found.clean == locked
        assert done[0] == done[2] == ["file", "recommend"]  # its neighbours are done in any case
        assert done[1] == (["file"] if locked else ["file", "recommend"])
        assert dead == ([("internal", "ForeignKeyViolationError")] if locked else [])


async def test_a_bug_lets_no_former_district_decide(
    nats_server: Nats, postgres: Postgres, database: str, oracle: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a party once, its own line stands: what it says after the case has gone elsewhere does not."""
    async with world(nats_server, postgres, database) as here:
        (case,) = await here.opened(1)
        fixes = ({"field": "contact", "detail": "请补充"},)
        await here.hear(here.decision(OWN, case, "return", fixes=fixes))
        await here.hear(here.filing(case, 2, FOREIGN))
        blind(monkeypatch)
        await here.hear(here.decision(OWN, case))
        dead = await here.dead()
        assert dead == [("internal", "ForeignKeyViolationError")]
        # Whose it is now; and back again, to whom it was a party before.
        await here.hear(here.decision(FOREIGN, case, "return", fixes=fixes))
        await here.hear(here.filing(case, 3, OWN))
        await here.hear(here.decision(OWN, case))
        done = ["file", "return", "resubmit", "return", "resubmit", "recommend"]
        assert await here.outcomes(case) == done
        assert await here.dead() == dead
        oracle(Verdict("tamper-former-district", sent=7, ok=6, dead=1))


# --- a superuser with time ---------------------------------------------------------------------------


@pytest.fixture
def reach(
    nats_server: Nats, postgres: Postgres, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The command line, here and as a process, on this bus and this database."""
    found = {"YIQI_NATS_URL": nats_server.url, "YIQI_DATABASE_URL": postgres.dsn(database)}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)  # where no `yiqi up` has left its address
    common.settings.cache_clear()
    return found


async def compared(seq: int = 0, head: str = "") -> list[tuple[str, int, str]]:
    _, _, wrong = await auditing._compare((seq, head))
    return [(w["number"], w["version"], w["why"]) for w in wrong]


def yiqi(reach: dict[str, str], folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [Path(sys.executable).parent / "yiqi", *arguments], env={**os.environ, **reach}, cwd=folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


async def forged(here: World, case: UUID, version: int, **change: Any) -> dict[str, Any]:
    """A line as it would have to be: with a hash that follows rightly from the one before."""
    rows = await here.admin.fetch('select * from review.history where "case" = $1 order by version', case)
    lines = [as_line({**dict(r), **{k: json.loads(r[k]) for k in JSON}}) for r in rows]
    line = {**lines[min(version, len(lines)) - 1], "version": version, **change}
    previous = lines[version - 2]["hash"] if version > 1 else ""
    return {**line, "hash": chained(previous, {k: v for k, v in line.items() if k != "hash"})}


JSON = ("rules", "acknowledges", "fixes", "data")
EDIT = """update review.history set reason = '另有理由' where "case" = $1 and version = 2"""
ADD = (
    'insert into review.history ("case", version, at, actor, officer, stage, outcome, reason, rules, acknowledges, '
    "fixes, cause, data, key, publisher, hash) select h.\"case\", $2, at, actor, officer, stage, 'select', reason, "
    'rules, acknowledges, fixes, cause, data, key, publisher, $3 from review.history h where "case" = $1 and version = 2'
)


async def test_whatever_is_changed_is_found_and_named(
    nats_server: Nats, postgres: Postgres, database: str, oracle: Tell, reach: dict[str, str], tmp_path: Path
) -> None:
    async with world(nats_server, postgres, database) as here:
        cases = await here.opened(3)
        await here.hear(*(here.decision(OWN, case) for case in cases))
        case = cases[1]
        number = f"F3-{case.hex[:8].upper()}"
        assert len(await stream(here.js, AUDIT)) == 2  # one message a batch
        await here.context.delivery.sweep()  # what is published is forgotten
        assert await compared() == []
        tampered = found = 0

        async def after(
            sql: str, *values: Any, then: str = "", more: tuple[Any, ...] = ()
        ) -> list[tuple[str, int, str]]:
            """What is found after a change, which is then taken back."""
            nonlocal tampered, found
            await here.admin.execute("create table kept as select * from review.history")
            await here.admin.execute("set session_replication_role = replica")
            await here.admin.execute(sql, *values)
            if then:
                await here.admin.execute(then, *more)
            seen = await compared()
            tampered, found = tampered + 1, found + bool(seen)
            columns = ", ".join(f'"{c}"' for c in COLUMNS)
            await here.admin.execute("delete from review.history")
            await here.admin.execute(f"insert into review.history ({columns}) select {columns} from kept")
            await here.admin.execute("drop table kept")
            await here.admin.execute("set session_replication_role = origin")
            return seen

        assert await after(EDIT, case) == [(number, 2, "内容与其校验值不符")]
        # An edited line whose hash was computed anew, and so every one after it.
        line = await forged(here, case, 2, reason="另有理由")
        rehash = 'update review.history set hash = $2 where "case" = $1 and version = 2'
        ((which, version, why),) = await after(EDIT, case, then=rehash, more=(case, line["hash"]))
        assert (which, version) == (number, 2)
        assert line["hash"][:12] in why
        assert "审计流第2条" in why
        last = 'delete from review.history where "case" = $1 and version = 2'
        assert await after(last, case) == [(number, 2, "这一行已不在，审计流第2条记有")]
        first = 'delete from review.history where "case" = $1 and version = 1'
        assert await after(first, case) == [(number, 1, "这一行已不在，审计流第1条记有")]
        line = await forged(here, case, 3, outcome="select")
        assert await after(ADD, case, 3, line["hash"]) == [(number, 3, "审计流没有记这一行")]
        # A whole case, and every trace of it in this schema.
        await here.admin.execute('create table case_kept as select * from review."case"')
        seen = await after(
            'delete from review.history where "case" = $1', case,
            then='delete from review."case" where "case" = $1', more=(case,),
        )  # fmt: skip
        assert seen == [(str(case), 1, "整个项目已不在，审计流第1条起记有")]
        await here.admin.execute('insert into review."case" select * from case_kept where "case" = $1', case)
        assert await compared() == []

        # The other copy: no one may delete there, so somebody makes the stream anew, without the locks.
        assert (await here.js.stream_info(AUDIT)).config.deny_delete
        anchor = mirror.Head()
        async for message in mirror.messages(here.js):
            anchor = anchor.after(message)
        assert await compared(anchor.seq, anchor.hash) == []
        bodies = await stream(here.js, AUDIT)
        other = json.loads(bodies[1])
        for one in other["data"]["lines"]:
            if one["case"] == str(case):
                one["hash"] = "0" * 64
        await anew(here, [bodies[0], json.dumps(other).encode()])
        seen = await compared()
        assert len(seen) == 1, seen
        ((which, version, why),) = seen
        assert (which, version, "000000000000…" in why) == (number, 2, True)
        tampered, found = tampered + 1, found + 1
        # Both copies made to agree: only the head that was written down elsewhere tells.
        await anew(here, [bodies[0], bodies[1].replace(b'"time":', b'"time" :')])
        assert await compared() == []
        assert await compared(anchor.seq, anchor.hash) == [
            ("", 0, "审计流到第2条为止，与以前记下的审计锚不符")
        ]
        tampered, found = tampered + 1, found + 1
        await anew(here, bodies)
        assert await compared(anchor.seq, anchor.hash) == []
        # One message gone, as a superuser of a stream without locks might see to.
        await here.js.delete_msg(AUDIT, 1)
        seen = await compared()
        assert seen[0] == ("", 0, "审计流第1条已不在")
        assert (number, 1, "审计流没有记这一行") in seen
        await anew(here, bodies)
        oracle(Verdict("tamper-superuser", sent=tampered + 1, refused=found + 1, lost=tampered - found))

        # As an operator sees it.
        status, said = await asyncio.to_thread(yiqi, reach, tmp_path, "audit", "verify")
        assert (status, f"{anchor.seq}:{anchor.hash}" in said) == (0, True), said
        status, said = await asyncio.to_thread(yiqi, reach, tmp_path, "audit", "head")
        assert said.strip() == f"{anchor.seq}:{anchor.hash}（6行）"
        await here.admin.execute("set session_replication_role = replica")
        await here.admin.execute(EDIT, case)
        status, said = await asyncio.to_thread(yiqi, reach, tmp_path, "audit", "verify")
        assert (status, said.strip()) == (1, f"最先不符：{number} 第2行：内容与其校验值不符")
        status, said = await asyncio.to_thread(yiqi, reach, tmp_path, "audit", "verify", "--head", "12")
        assert (status, "序号:校验值" in said) == (2, True)


COLUMNS = (
    "case version at actor officer stage outcome reason rules acknowledges fixes cause data hash key publisher".split()  # noqa: SIM905  # one line
)


async def anew(here: World, bodies: list[bytes]) -> None:
    (config,) = (s for s in STREAMS if s.name == AUDIT)
    await here.js.delete_stream(AUDIT)
    await here.js.add_stream(config.evolve(deny_delete=False, deny_purge=False))
    for body in bodies:
        await here.js.publish(registry.HISTORY_WRITTEN.subject("review"), body)


async def test_what_is_not_on_the_stream_yet_is_not_missing(
    nats_server: Nats, postgres: Postgres, database: str, reach: dict[str, str]
) -> None:
    """The bus was away when it was said: it lies in the outbox. Taken from there, it is missing."""
    async with world(nats_server, postgres, database) as here:
        raws = [here.filing(uuid5(YIQI, "one"))]
        await here.context.delivery.commit("review-evt", raws)  # and no publishing
        assert await stream(here.js, AUDIT) == []
        assert await compared() == []
        await here.admin.execute("update review.outbox set at = at - interval '1 hour'")
        await here.context.delivery.sweep()
        assert len(await stream(here.js, AUDIT)) == 1
        assert await compared() == []
        await here.context.delivery.commit("review-evt", [here.filing(uuid5(YIQI, "two"))])
        await here.admin.execute("delete from review.outbox")
        assert [why for _, _, why in await compared()] == ["审计流没有记这一行"]


# --- once a day --------------------------------------------------------------------------------------


async def test_the_head_is_told_once_a_day_by_however_many_and_written_to_the_operators(
    nats_server: Nats, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    async with world(nats_server, postgres, database) as here:
        await here.opened(2)
        replicas = [await here.replica() for _ in range(3)]
        days = [mirror.Daily() for _ in replicas]

        async def turn() -> None:
            await asyncio.gather(*(d.tell(c) for d, c in zip(days, replicas, strict=True)))

        await turn()
        await turn()
        (first,) = await events(here.js, registry.AUDIT_HEADED)
        assert (first.seq, first.lines, first.dead) == (1, 2, 0)
        await here.opened(1)
        await turn()  # the same day
        later = tmp_path / "clock"
        later.write_text(str(timedelta(days=3).total_seconds()))
        replicas = [await here.replica(Clock(later)) for _ in replicas]
        await turn()
        days = [mirror.Daily() for _ in replicas]  # started again
        await turn()
        _, second = await events(here.js, registry.AUDIT_HEADED)
        assert (second.seq, second.lines, (second.day - first.day).days) == (2, 3, 3)
        # Counted from where the last one ended, it is the head of all.
        whole = mirror.Head()
        async for message in mirror.messages(here.js):
            whole = whole.after(message)
        assert (whole.seq, whole.hash) == (second.seq, second.head)
        assert await letters(here, postgres.dsn(database)) == {
            (f"daily/{one.day}/{to}", to)
            for one in (first, second)
            for to in ("a@gz.example", "b@gz.example")
        }


async def letters(here: World, dsn: str) -> set[tuple[str, str]]:
    """What notify makes of it, delivered twice."""
    engine = connect(dsn, "notify")
    notify = Notify()
    settings = Settings(operators="a@gz.example, b@gz.example")
    delivery = Delivery(
        "notify", engine, here.context.delivery.publisher, Clock(),
        {"notify-evt": ({registry.AUDIT_HEADED.name: registry.AUDIT_HEADED}, notify.on_evt)},
    )  # fmt: skip
    context = await here.replica()
    context.settings = settings
    try:
        await notify.setup(context)
        for _ in range(2):
            for seq, body in enumerate(await stream(here.js, EVT), 1):
                if b"audit.headed" in body:
                    found = await here.js.get_msg(EVT, seq)
                    assert found.time
                    raw = Raw(str(found.subject), body, None, EVT, seq, found.time)
                    await delivery.handle("notify-evt", [raw])
        rows = await here.admin.fetch("select key, address from notify.mail where letter = 'daily'")
        return {(row["key"], row["address"]) for row in rows}
    finally:
        await engine.dispose()
