"""A publisher that was away, by real processes and accounts: what became of an event, all answers in their order, and
nobody's but its own."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import uuid4

import nats.errors
import pytest
from nats.aio.client import Client

from services.cli.filing import file_package
from services.cli.local import Local
from services.intake.answers import key_of, on_out
from shared.contracts import registry
from shared.contracts.registry import EVENT_ANSWERS, EVENT_STATUS, Ask
from shared.contracts.submission import EventAccepted, EventRejected, Filer, Rejected
from shared.notices.directory import unlisted
from shared.notices.load import load_all
from shared.runtime.database import connect
from shared.runtime.decode import Item, Raw, decode
from shared.runtime.delivery import Tx
from shared.runtime.embedded import eventually, wait_until
from shared.runtime.streams import IN, OUT
from tests.scans import pdf
from tests.workbooks import head, xlsx

DURING = datetime(2025, 3, 3, 2, tzinfo=UTC)
TIANHE, YUEXIU, HAIZHU = "440106", "440104", "440105"
DESKS = unlisted("没有账户的机构").code
NOTICE = "gz-collection-2025q1"
VALUES = {
    "service_domain": "法律服务",
    "organizer": "某机构",
    "activity_name": "讲座",
    "activity_time": "2025年6月10日",
    "venue": "线上",
    "content": "讲解合同风险",
    "participants": "约100人",
    "contact": "张三 83726619",
}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    folder = tmp_path_factory.mktemp("answers")
    listening = folder / "agencies.yaml"
    listening.write_text(
        f'- {{code: "{HAIZHU}", kind: K2, name: 海珠区科技工业商务和信息化局, short: 海珠区, '
        f'district: "{HAIZHU}", listens: true, source: 试验}}\n'
    )
    here = Local(
        folder,
        processes=2,
        sync_always=False,
        mail=False,
        services=("intake", "review"),
        extra={"YIQI_AGENCIES": str(listening)},
    )
    here.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    with here:
        yield here


def filed(who: str, id_: str, kind: str = "K2", name: str = "天河区商务金融局", **more: Any) -> bytes:
    """One row, as another system writes it."""
    data = {
        "notice": NOTICE,
        "form": "F3",
        "filer": {"code": who, "kind": kind, "name": name},
        "direction": "D05",
        "values": {**VALUES, "activity_name": f"讲座{id_}", **more},
    }
    return event(who, id_, registry.SUBMISSION_FILED.ce_type, data)


def event(who: str, id_: str, type_: str, data: Any) -> bytes:
    head = {"specversion": "1.0", "id": id_, "source": f"urn:cn:gov:gz:{who}:oa", "type": type_}
    return json.dumps({**head, "time": "2025-03-03T10:00:00+08:00", "data": data}).encode()


async def say(client: Client, who: str, name: str, body: bytes) -> None:
    await client.jetstream(timeout=5).publish(f"sme.in.v1.{who}.{name}", body, stream=IN)


async def asked(client: Client, ask: Ask, who: str, body: Any = None, timeout: float = 5) -> Any:
    said = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    return json.loads((await client.request(ask.subject(who), said, timeout=timeout)).data)


async def status(client: Client, who: str, id_: str) -> Any:
    told = await asked(client, EVENT_STATUS, who, {"id": id_})
    registry.EVENT_STATUS.answer.model_validate(told)
    return told


async def judged(client: Client, who: str, *ids: str) -> None:
    async def all_of_them() -> bool:
        return all([(await status(client, who, id_))["state"] != "unanswered" for id_ in ids])

    await eventually(all_of_them, 15, f"answers to {ids}")


async def all_answers(client: Client, who: str, limit: int = 100) -> list[Any]:
    found: list[Any] = []
    after, more = 0, True
    while more:
        told = await asked(client, EVENT_ANSWERS, who, {"after": after, "limit": limit})
        assert len(told["answers"]) <= limit
        assert [a["seq"] for a in told["answers"]] == sorted(a["seq"] for a in told["answers"])
        assert all(after < a["seq"] <= told["last"] for a in told["answers"])
        found += told["answers"]
        after, more = told["last"], told["more"]
    return found


async def test_what_became_of_an_event_whoever_judged_it(local: Local) -> None:
    good, bad, warned, decision = (str(uuid4()) for _ in range(4))
    client = await local.connect(TIANHE)
    try:
        assert (await status(client, TIANHE, good)) == {"id": good, "state": "unanswered"}
        await say(client, TIANHE, "submission.filed", filed(TIANHE, good))
        await say(client, TIANHE, "submission.filed", filed(TIANHE, bad, contact=""))
        await say(client, TIANHE, "submission.filed", filed(TIANHE, warned, content="讲" * 600))
        wrong = event(TIANHE, decision, registry.DECISION_MADE.ce_type, {"outcome": "accept"})
        await say(client, TIANHE, "decision.made", wrong)
        await judged(client, TIANHE, good, bad, warned, decision)
        told = await status(client, TIANHE, good)
        assert (told["id"], told["state"], told["answer"]["data"]["accepted"]) == (good, "accepted", good)
        told = await status(client, TIANHE, bad)
        assert (told["state"], told["answer"]["data"]["rejected"]["id"]) == ("rejected", bad)
        # Refused by review, which intake only hears of.
        told = await status(client, TIANHE, decision)
        assert told["answer"]["data"]["rejected"]["type"] == registry.DECISION_MADE.ce_type
        assert {e["pointer"] for e in told["answer"]["data"]["errors"]} == {"#/data/case", "#/data/reason"}
        answered = [a["event"]["data"] for a in await all_answers(client, TIANHE, 2)]
        ids = [a.get("accepted") or a["rejected"]["id"] for a in answered]
        assert sorted(ids) == sorted([good, bad, warned, decision])
    finally:
        await client.close()


async def test_answers_that_came_while_a_publisher_was_away_are_those_of_the_stream(local: Local) -> None:
    ids = [str(uuid4()) for _ in range(30)]
    client = await local.connect(YUEXIU)
    name = "越秀区商务局"
    for id_ in ids:
        await say(client, YUEXIU, "submission.filed", filed(YUEXIU, id_, name=name))
    await client.close()  # and hears nothing
    again = await local.connect(YUEXIU)
    try:
        await judged(again, YUEXIU, *ids)
        found = await all_answers(again, YUEXIU, 7)
        answered = [a["event"]["data"] for a in found]
        assert sorted(a.get("accepted") or a["rejected"]["id"] for a in answered) == sorted(ids)
        nothing = await asked(again, EVENT_ANSWERS, YUEXIU, {"after": found[-1]["seq"]})
        assert nothing == {"answers": [], "last": found[-1]["seq"], "more": False}
    finally:
        await again.close()
    operator = await local.connect()
    try:
        js = operator.jetstream()
        stored = [json.loads((await js.get_msg(OUT, a["seq"])).data or b"") for a in found]
        assert [a["event"] for a in found] == stored
    finally:
        await operator.close()


async def test_every_fault_of_a_package_has_its_place_and_both_languages(local: Local) -> None:
    """Two workbooks with a sheet of the same name: a fault in each is told with file, sheet, cell, column and clause."""
    form = load_all()[NOTICE].notice.by_form["F3"]
    row = ["1", *(str(VALUES.get(c.key, "")) for c in form.columns)]
    column = next(n for n, c in enumerate(form.columns, 1) if c.key == "contact")
    bad = [*row[:column], "没有电话", *row[column + 1 :]]
    books = [xlsx({"Sheet1": [head(form), row, bad]}), xlsx({"Sheet1": [head(form), bad]})]
    client = await local.connect(TIANHE)
    filer = Filer(code=TIANHE, kind="K2", name="天河区商务金融局")
    files = [(f"附件3-{n}.xlsx", "workbook", body) for n, body in enumerate(books, 1)]
    files.append(("盖章扫描件.pdf", "scan", pdf()))
    try:
        answer = await file_package(NOTICE, filer, files, client=client)
        again = await file_package(NOTICE, filer, files, client=client)
    finally:
        await client.close()
    assert "accepted" in answer  # the sound row
    assert again == {**answer, "duplicate": True}  # asked for, as the bus knows it
    told = [e for e in answer["errors"] if e["code"] == "R-GEN-003"]
    cell = chr(ord("A") + column)
    assert [(e["file"], e["sheet"], e["row"], e["cell"], e["pointer"]) for e in told] == [
        (sha256(books[0]).hexdigest(), "Sheet1", 3, f"{cell}3", "#/data/rows/1/contact"),
        (sha256(books[1]).hexdigest(), "Sheet1", 2, f"{cell}2", "#/data/rows/2/contact"),
    ]
    for e in answer["errors"]:
        assert e["detail"]
        assert e["clause"]
        assert re.fullmatch(r"[A-Z].*\.", e["detail_en"]), e


async def test_a_system_that_listens_hears_of_its_cases_without_contact_data(local: Local) -> None:
    """Live and afterwards, of its own district only; whoever does not listen hears nothing but answers."""
    mine, other = str(uuid4()), str(uuid4())
    haizhu, tianhe = await local.connect(HAIZHU), await local.connect(TIANHE)
    try:
        live = await haizhu.subscribe(f"sme.out.v1.{HAIZHU}.case.moved")
        await haizhu.flush()
        said = filed(
            HAIZHU, mine, name="海珠区科技工业商务和信息化局", contact="李四 13800138000 a@b.example"
        )
        await say(tianhe, TIANHE, "submission.filed", filed(TIANHE, other))
        await say(haizhu, HAIZHU, "submission.filed", said)
        body = (await live.next_msg(15)).data
        event_ = registry.CASE_MOVED.envelope.model_validate_json(body)
        assert (event_.data.district, event_.data.filer.code, event_.data.version) == (HAIZHU, HAIZHU, 1)
        assert not re.search("李四|138|a@b|020", body.decode())
        await judged(haizhu, HAIZHU, mine)
        await judged(tianhe, TIANHE, other)
        told = [a["event"] for a in await all_answers(haizhu, HAIZHU)]
        types = [e["type"] for e in told]
        assert types.count(registry.EVENT_ACCEPTED.ce_type) == 1
        assert set(types) == {registry.EVENT_ACCEPTED.ce_type, registry.CASE_MOVED.ce_type}
        steps = [(e["data"]["case"], e["data"]["version"]) for e in told if "version" in e["data"]]
        assert len(set(steps)) == len(steps)
        assert json.loads(body) in told
        others = {a["event"]["type"] for a in await all_answers(tianhe, TIANHE)}
        assert registry.CASE_MOVED.ce_type not in others
    finally:
        await haizhu.close()
        await tianhe.close()


async def test_nobody_asks_for_another(local: Local) -> None:
    """Whoever tries hears that nobody listens: its account has no such subject. The desk asks for those without one."""
    id_ = str(uuid4())
    tianhe, desk = await local.connect(TIANHE), await local.connect(DESKS)
    try:
        for ask in (EVENT_STATUS, EVENT_ANSWERS):
            for other in (YUEXIU, DESKS):
                with pytest.raises(nats.errors.NoRespondersError):
                    await asked(tianhe, ask, other, {"id": id_})
        with pytest.raises(nats.errors.TimeoutError):  # denied to its user
            await asked(desk, EVENT_ANSWERS, TIANHE, timeout=1)
        await say(desk, DESKS, "submission.filed", filed(DESKS, id_, "K6", "没有账户的机构"))
        await judged(desk, DESKS, id_)
        assert [a["event"]["causationid"] for a in await all_answers(desk, DESKS)] == [id_]
        assert (await status(tianhe, TIANHE, id_))["state"] == "unanswered"
    finally:
        await tianhe.close()
        await desk.close()


@pytest.mark.parametrize(
    ("ask", "body", "code", "where"),
    [
        (EVENT_STATUS, b"", "schema.missing", "#/id"),
        (EVENT_STATUS, b"[]", "schema.model_type", "#"),
        (EVENT_STATUS, b"{", "schema.json_invalid", "#"),
        (EVENT_STATUS, b'{"id": "a b"}', "schema.string_pattern_mismatch", "#/id"),
        (EVENT_STATUS, b'{"id": "a", "source": "x"}', "schema.extra_forbidden", "#/source"),
        (EVENT_ANSWERS, b'{"limit": 101}', "schema.less_than_equal", "#/limit"),
        (EVENT_ANSWERS, b'{"after": "1"}', "schema.int_type", "#/after"),
    ],
)
async def test_a_question_that_is_none_is_told_why(
    local: Local, ask: Ask, body: bytes, code: str, where: str
) -> None:
    client = await local.connect(TIANHE)
    try:
        told = await asked(client, ask, TIANHE, body)
    finally:
        await client.close()
    assert (told["type"], told["status"]) == ("urn:cn:gov:gz:sme:problem:validation", 422)
    assert [(e["code"], e["pointer"]) for e in told["errors"]] == [(code, where)]


async def test_the_processes_of_intake_share_the_questions_and_one_is_enough(local: Local) -> None:
    client = await local.connect(TIANHE)
    try:
        local.kill("intake-2")
        for _ in range(20):
            assert (await status(client, TIANHE, "never-said"))["state"] == "unanswered"
        local.kill("intake")
        with pytest.raises(nats.errors.NoRespondersError):
            await asked(client, EVENT_STATUS, TIANHE, {"id": "never-said"})
    finally:
        await client.close()
        local.launch("intake")
        local.launch("intake-2")
    wait_until(lambda: local.page("intake", "readyz") == "ok\n", 30, "intake")
    wait_until(lambda: local.page("intake-2", "readyz") == "ok\n", 30, "intake-2")


# --- the index, whatever comes when -------------------------------------------------------------------


AT = datetime(2025, 3, 3, 2, tzinfo=UTC)


def feedback(seq: int, id_: str, kind: str = "", publisher: str = "x", after: int = 0) -> Item:
    """An answer as it comes from the bus: accepted, or refused by a problem of some kind."""
    data: EventRejected | EventAccepted
    if kind:
        told = Rejected(id=id_, type="t", subject="s", stream=IN, seq=seq)
        why = {"type": f"urn:cn:gov:gz:sme:problem:{kind}", "title": "t", "status": 409, "detail": "d"}
        type_, data = registry.EVENT_REJECTED, EventRejected.model_validate({**why, "rejected": told})
    else:
        type_, data = registry.EVENT_ACCEPTED, EventAccepted(accepted=id_, type="t")
    subject, body = type_.subject(publisher), type_.wire(data, seq, at=AT)[1]
    raw = Raw(subject, body, None, OUT, seq, AT + timedelta(seconds=after or seq))
    item = decode(raw, {type_.name: type_})
    assert isinstance(item, Item)
    return item


@pytest.mark.parametrize(
    ("batches", "state"),
    [
        ([[feedback(1, "a")]], (1, True)),
        ([[feedback(1, "a", "validation")], [feedback(2, "a")]], (2, True)),  # corrected, under the same id
        ([[feedback(2, "a")], [feedback(1, "a", "validation")]], (2, True)),  # heard the other way round
        ([[feedback(1, "a", "validation"), feedback(2, "a")]], (2, True)),
        ([[feedback(2, "a"), feedback(1, "a", "validation")]], (2, True)),
        ([[feedback(1, "a")], [feedback(2, "a", "conflict")]], (1, True)),  # other content is another matter
        ([[feedback(2, "a", "conflict")], [feedback(1, "a")]], (1, True)),
        ([[feedback(1, "a")], [feedback(1, "a")]], (1, True)),  # delivered again
        ([[feedback(1, "b"), feedback(2, "a", publisher="y")]], None),
        ([[feedback(1, "a", after=5)], [feedback(9, "a", "internal", after=1)]], (1, True)),  # by time
    ],
)
async def test_the_last_answer_of_an_event_stands(
    local: Local, batches: list[list[Item]], state: tuple[int, bool] | None
) -> None:
    publisher = f"x{uuid4().hex[:8]}"
    engine = connect(local.postgres.dsn("yiqi"), "intake")
    try:
        for batch in batches:
            async with engine.begin() as conn:
                tx = Tx(conn, AT)
                mine = [replace(i, token=publisher) if i.token == "x" else i for i in batch]
                await on_out(tx, mine)
                assert tx.without_effect == {i.key for i in mine}
        async with engine.connect() as conn:
            rows = await conn.read(
                "select seq, accepted from intake.answer where key = :key", {"key": key_of(publisher, "a")}
            )
        assert [tuple(row) for row in rows] == ([state] if state else [])
    finally:
        await engine.dispose()


async def test_two_processes_that_hear_the_same_answers_wait_for_each_other(local: Local) -> None:
    """In whatever order they have come: never both for each other."""
    engine = connect(local.postgres.dsn("yiqi"), "intake")

    async def hear(items: list[Item]) -> None:
        async with engine.begin() as conn:
            await on_out(Tx(conn, AT), items)

    batch = [feedback(n, f"both-{n}") for n in range(1, 200)]
    try:
        for _ in range(10):
            await asyncio.gather(hear(batch), hear(batch[::-1]))
    finally:
        await engine.dispose()
