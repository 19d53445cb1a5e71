"""Nothing that says who a person is lies where it should not (T31): a small round with names, numbers and addresses
planted in every contact column and in hostile places; then everything that it left behind is searched for them.

What is contact data, and who may read it in the database, is in `tests/{unit,live}/test_personal.py`.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from io import BytesIO, StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import nats
import pytest
from nats.aio.client import Client
from prometheus_client.parser import text_string_to_metric_families
from python_calamine import CalamineWorkbook

from services.cli import common, main
from services.cli.filing import publish
from services.cli.local import Local
from shared.contracts import registry
from shared.contracts.case import DecisionMade, FactReported, Fix
from shared.contracts.catalogue import CatalogueRequested
from shared.contracts.contact import ContactChanged
from shared.contracts.registry import EventType
from shared.contracts.submission import Filer, PackageFiled, SubmissionFiled
from shared.contracts.types import FileRef
from shared.notices.directory import Directory
from shared.notices.load import load_all
from shared.runtime import SERVICES, files
from shared.runtime.database import ALL, PERSONAL, metadata_of
from shared.runtime.embedded import eventually, wait_until
from shared.runtime.streams import CONSUMERS, IN, OUT
from tests.chaos.oracle import Verdict
from tests.chaos.process import Nursed
from tests.items import APPLICATION, COMPANY, LECTURE
from tests.planted import SHAPED, named_in_logs
from tests.scans import pdf
from tests.workbooks import head, xlsx

NOTICE, CITY, DISTRICT = "gz-collection-2025q1", "440100", "440106"
DURING = datetime(2025, 3, 3, 2, 0, tzinfo=UTC)
NAMES = ("欧阳植入", "司徒藏名", "PlantedSurname")
PHONES = ("13912340001", "18612340002", "139-1234-0003", "020-83720004")
IDS = ("440106199003070011",)
MAILS = ("ouyang@planted.example", "situ.cang@planted.example")
SECRETS = (*NAMES, *PHONES, "13912340003", *IDS, "@planted")
PLANTED = re.compile("|".join(map(re.escape, SECRETS)), re.IGNORECASE)
CONTACT = f"{NAMES[0]} {PHONES[0]} {MAILS[0]}"
HOSTILE = f"请找{NAMES[0]}，电话{PHONES[0]}，{MAILS[0]}，身份证{IDS[0]}"

Left = dict[str, str]
"""What was left behind: where, and the text of it."""


def found(left: Mapping[str, str]) -> list[str]:
    """Where a planted person is told, or anything that has the shape of one's number or address."""
    return [
        f"{where}: …{text[max(0, hit.start() - 60) : hit.end() + 20]}…"
        for where, text in left.items()
        for pattern in (PLANTED, SHAPED)
        if (hit := pattern.search(text))
    ]


@dataclass
class Round:
    """The round as it was played: what was sent, what was answered, where its cases stand."""

    local: Local
    answers: list[dict[str, Any]] = field(default_factory=list)
    cases: dict[str, UUID] = field(default_factory=dict)
    sent: int = 0

    async def ask(self, client: Client, who: str, type_: EventType, data: Any) -> dict[str, Any]:
        self.sent += 1
        answer = await publish(client, who, type_, data, data.model_dump_json())
        self.answers.append(answer)
        return answer

    def sql(self, statement: str) -> str:
        return self.local.postgres.sql(statement, "yiqi").strip()

    def until(self, statement: str, what: str) -> None:
        wait_until(lambda: self.sql(statement) == "t", 60, what)


def filer(code: str, name: str, mail: str = "") -> Filer:
    listed = Directory.load().find(code)
    return Filer(code=code, kind=listed.kind if listed else "K6", name=name, email=mail or None)


def planted(values: Mapping[str, Any], form: str) -> dict[str, Any]:
    """The item with a planted person in each of its contact columns."""
    shape = load_all()[NOTICE].notice.by_form[form]
    types = {**{k: c.type for k, c in shape.by_key.items()}, **{one.key: one.type for one in shape.lines}}
    of_type = {"contact": CONTACT, "person": NAMES[1], "phone": PHONES[1], "email": MAILS[1]}
    assert shape.personal <= values.keys()
    return {**values, **{key: of_type[types[key]] for key in shape.personal}}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Round]:
    here = tmp_path_factory.mktemp("personal")
    local = Nursed(
        here / "run", sync_always=False, extra={"YIQI_CATALOGUES": str(here / "catalogues")}, accounts=False
    )
    local.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    try:
        one = Round(local.start(timeout=90))
        asyncio.run(play(one))
        yield one
    finally:
        local.stop()


async def play(one: Round) -> None:
    client = await nats.connect(one.local.nats.url)
    try:
        await _refused_mail(one, client)
        await _good(one, client)
        await _hostile(one, client)
        await _broken(one, client)
        await eventually(lambda: _quiet(client), 60, "everything to be handled")
        one.until("select bool_and(state in ('sent', 'failed')) from notify.mail", "the mails to be settled")
    finally:
        await client.close()


async def _refused_mail(one: Round, client: Client) -> None:
    """A relay that quotes the address in its answer, as they do."""
    one.local.mails.refusal = f"550 5.1.1 <{MAILS[1]}> {MAILS[1]} user unknown"
    values = {**LECTURE, "activity_name": "退信的讲座", "contact": CONTACT}
    who = _unlisted("退信测试机构")
    data = SubmissionFiled(
        notice=NOTICE,
        form="F3",
        filer=filer(who, "退信测试机构", MAILS[1]),
        recommender=DISTRICT,
        values=values,
    )
    await one.ask(client, who, registry.SUBMISSION_FILED, data)
    one.until(
        "select count(*) > 0 from notify.mail where state = 'failed' and why like '550%'", "the refused mail"
    )
    one.local.mails.refusal = None


async def _quiet(client: Client) -> bool:
    js = client.jetstream()
    for consumer in CONSUMERS:
        info = await js.consumer_info(consumer.stream, consumer.durable)
        if info.num_pending or info.num_ack_pending:
            return False
    return True


async def _good(one: Round, client: Client) -> None:
    """What is in order: filed, returned with planted reasons, filed again, published, printed."""
    notice, k6 = load_all()[NOTICE].notice, "k6-planted"
    k6 = _unlisted("植入测试机构")
    for title, form, values in (
        ("published", "F3", {**LECTURE, "activity_name": "发布的讲座"}),
        ("returned", "F3", {**LECTURE, "activity_name": "补正的讲座"}),
        ("rejected", "F3", {**LECTURE, "activity_name": "驳回的讲座"}),
        ("card", "F10-1", APPLICATION),
        ("company", "F9-2", COMPANY),
    ):
        who = filer(DISTRICT, "天河区") if form == "F9-2" else filer(k6, "植入测试机构", MAILS[0])
        data = SubmissionFiled(
            notice=NOTICE, form=form, filer=who, recommender=DISTRICT if title == "returned" else None,
            values=planted(values, form),
        )  # fmt: skip
        answer = await one.ask(client, who.code, registry.SUBMISSION_FILED, data)
        if "case" in answer:
            one.cases[title] = UUID(answer["case"])
    assert one.cases.keys() >= {"published", "returned", "rejected"}, one.answers
    for title in one.cases:
        one.until(
            f"""select count(*) = 1 from review."case" where "case" = '{one.cases[title]}'""", "the cases"
        )

    async def decide(title: str, who: str, outcome: str, **more: Any) -> None:
        data = DecisionMade(case=one.cases[title], outcome=outcome, reason=HOSTILE, **more)
        assert "accepted" in await one.ask(client, who, registry.DECISION_MADE, data), one.answers[-1]

    fixes = (Fix(field="contact", detail=f"请补充{NAMES[0]}的手机{PHONES[2]}"),)
    await decide("returned", DISTRICT, "return", fixes=fixes)
    one.until(
        f"""select state = 'returned' from intake.submission where "case" = '{one.cases["returned"]}'""",
        "intake",
    )
    again = {**LECTURE, "activity_name": "补正的讲座", "contact": f"{NAMES[1]} {PHONES[1]} {PHONES[3]}"}
    data = SubmissionFiled(
        notice=NOTICE,
        form="F3",
        filer=filer(k6, "植入测试机构", MAILS[0]),
        recommender=DISTRICT,
        values=again,
    )
    assert "accepted" in await one.ask(client, k6, registry.SUBMISSION_FILED, data)
    await decide("rejected", CITY, "reject")
    for outcome in ("accept", "select", "publish"):
        await decide("published", CITY, outcome)
    shown = f"""select count(*) = 1 from export."row" where shown and notice = '{NOTICE}'"""
    one.until(shown, "the published row")
    for public in (False, True):
        data_ = CatalogueRequested(notice=NOTICE, form="F3", public=public)
        assert "accepted" in await one.ask(client, CITY, registry.CATALOGUE_REQUESTED, data_)
    # A package in a file that is named after a person, with faults to be marked in their cells.
    header = [*head(notice.by_form["F3"]), "备用电话"]
    row = [1, "法律服务", "植入测试机构", "打包的讲座", "2025年6月10日", "线上", "内容", "约100人"]
    row += [CONTACT, PHONES[3]]
    bad = [
        2,
        "法律服务",
        "植入测试机构",
        "坏的讲座",
        "2025年6月10日",
        "线上",
        "内容",
        "约100人",
        f"{NAMES[0]}1391234000",
        HOSTILE,
    ]
    name = f"{NAMES[1]}{PHONES[1]}.xlsx"
    body = xlsx({NAMES[1]: [["附件3"], header, row, bad]})
    scan = pdf(say=f"{NAMES[1]} {PHONES[1]}")
    refs = []
    for role, content, called in (("workbook", body, name), ("scan", scan, f"{NAMES[1]}.pdf")):
        sha256 = await files.send(client, k6, content)
        refs.append(FileRef(role=role, sha256=sha256, size=len(content), name=called))
    package = PackageFiled(notice=NOTICE, filer=filer(k6, "植入测试机构", MAILS[0]), files=tuple(refs))
    await one.ask(client, k6, registry.PACKAGE_FILED, package)


def _unlisted(name: str) -> str:
    from shared.notices.directory import unlisted

    return unlisted(name).code


async def _hostile(one: Round, client: Client) -> None:
    """Well formed, and refused: what was written in the wrong place is not repeated."""
    k6 = _unlisted("植入测试机构")
    me = filer(k6, "植入测试机构", MAILS[0])
    case = one.cases["card"] if "card" in one.cases else one.cases["returned"]
    wrong: list[tuple[str, EventType, Any]] = [
        (k6, registry.SUBMISSION_FILED, SubmissionFiled(notice=NOTICE, form=PHONES[0], filer=me, values={})),
        (k6, registry.SUBMISSION_FILED, SubmissionFiled(notice=PHONES[0], form="F3", filer=me, values={})),
        (DISTRICT, registry.DECISION_MADE, DecisionMade(case=case, outcome=PHONES[0], reason=HOSTILE)),
        (CITY, registry.DECISION_MADE, DecisionMade(case=case, outcome=PHONES[0], reason=HOSTILE)),
        (CITY, registry.DECISION_MADE, DecisionMade(case=case, outcome="return", reason=HOSTILE,
                                                    fixes=(Fix(field=PHONES[0], detail=HOSTILE),))),
        (CITY, registry.FACT_REPORTED, FactReported(case=case, kind="incident", occurred_on=DURING.date(),
                                                    detail=HOSTILE, ground=PHONES[0], reference=HOSTILE)),
        (CITY, registry.CATALOGUE_REQUESTED, CatalogueRequested(notice=NOTICE, form=PHONES[0])),
        (CITY, registry.CATALOGUE_REQUESTED, CatalogueRequested(notice=PHONES[0])),
        (k6, registry.CONTACT_CHANGED, ContactChanged(agency=k6, contact="a", version=1, posts=("filing",),
                                                      email=HOSTILE[:200])),
        (k6, registry.CONTACT_CHANGED, ContactChanged(agency=DISTRICT, contact="a", version=1, posts=("filing",),
                                                      email=MAILS[0])),
        (k6, registry.CONTACT_CHANGED, ContactChanged(agency=k6, contact="a", version=1, posts=("filing",),
                                                      email=MAILS[0])),
    ]  # fmt: skip
    lecture = {**LECTURE, "activity_name": "敌意的讲座"}
    for values in (
        {**lecture, "contact": f"{NAMES[0]} 1391234000"},
        {
            **lecture,
            "contact": {"name": NAMES[0], "phones": ["1391234000"], "email": "ouyang@@planted.example"},
        },
        {**lecture, "contact": {"name": NAMES[0], "phones": PHONES[:1], PHONES[0]: HOSTILE}},
        {**lecture, "contact": [HOSTILE]},
        # What a filer writes into a column that is printed is printed: only what is refused can be kept from it.
        {**lecture, "venue": HOSTILE * 40, "contact": NAMES[0]},
        {
            **lecture,
            "participants": HOSTILE,
            "activity_time": HOSTILE,
            "service_domain": HOSTILE,
            "contact": "",
        },
        {**lecture, PHONES[0]: NAMES[0]},
        {**lecture, "direction": HOSTILE},
    ):
        data = SubmissionFiled(notice=NOTICE, form="F3", filer=me, values=values)
        wrong.append((k6, registry.SUBMISSION_FILED, data))
    card = {
        **planted(APPLICATION, "F10-1"),
        "contact_phone": NAMES[0],
        "contact_email": HOSTILE,
        "uscc": IDS[0],
    }
    data = SubmissionFiled(notice=NOTICE, form="F10-1", filer=me, values=card)
    wrong.append((k6, registry.SUBMISSION_FILED, data))
    for who, type_, data in wrong:
        await one.ask(client, who, type_, data)


async def _broken(one: Round, client: Client) -> None:
    """What is no event at all, with persons in its body, its keys, its id, its headers."""
    js = client.jetstream()
    k6 = _unlisted("植入测试机构")
    subject = registry.SUBMISSION_FILED.subject(k6)
    good = {
        "specversion": "1.0", "id": str(uuid4()), "source": f"urn:cn:gov:gz:{k6}:oa",
        "type": registry.SUBMISSION_FILED.ce_type, "time": "2025-03-03T09:00:00+08:00",
        "data": {"notice": NOTICE, "form": "F3", "filer": {"code": k6, "kind": "K6", "name": "x"}, "values": {}},
    }  # fmt: skip
    bodies = [
        HOSTILE.encode(),
        json.dumps(HOSTILE).encode(),
        json.dumps({**good, "data": HOSTILE}).encode(),
        json.dumps({**good, PHONES[0]: HOSTILE, "time": HOSTILE}).encode(),
        json.dumps({**good, "source": f"urn:cn:gov:gz:{k6}:{NAMES[0]}{PHONES[0]}", "type": HOSTILE}).encode(),
        json.dumps({**good, "data": {**good["data"], HOSTILE: HOSTILE}}).encode(),  # type: ignore[dict-item]
        json.dumps({**good, "data": {"filer": {"email": NAMES[0], PHONES[0]: 1, "kind": NAMES[0]}}}).encode(),
        HOSTILE.encode("gbk"),
    ]
    for n, body in enumerate(bodies):
        headers = {"Nats-Msg-Id": f"{PHONES[0]}-{n}", "X-Contact": MAILS[0], "Reply-To": MAILS[1]}
        await js.publish(subject, body, stream=IN, headers=headers)
        one.sent += 1
    one.until(f"select count(*) >= {len(bodies)} from intake.dead", "the dead rows")
    conn = await asyncpg.connect(one.local.postgres.dsn("yiqi"))
    with pytest.raises(asyncpg.NotNullViolationError, match=NAMES[0]):
        # PostgreSQL tells its client the row that failed; its log must not.
        await conn.execute("insert into intake.tally values ($1, null, '', '', 1)", NAMES[0])
    await conn.close()


# --- what is left behind --------------------------------------------------------------------------------


def logs(one: Round) -> Left:
    """Of the services and of the servers."""
    names = [p for p in one.local.directory.rglob("*") if p.name == "log" or p.suffix == ".log"]
    assert {p.name for p in names} >= {*(f"{s}.log" for s in SERVICES), "log"}
    return {f"log {p.relative_to(one.local.directory)}": p.read_text(errors="replace") for p in names}


def pages(one: Round) -> Left:
    told = {f"metrics {s}": one.local.page(s, "metrics") for s in one.local.names}
    assert all(told.values())
    return told


def catalogues(one: Round, *, public: bool = True) -> Left:
    folder = Path(one.local.extra["YIQI_CATALOGUES"])
    found_ = {}
    for path in folder.rglob("*.xlsx"):
        if ("（公开）" in path.name) is public:
            rows = (
                CalamineWorkbook.from_filelike(BytesIO(path.read_bytes())).get_sheet_by_index(0).to_python()
            )
            found_[f"catalogue {path.name}"] = "\n".join(str(cell) for row in rows for cell in row)
    assert found_
    return found_


def yiqi(one: Round, *arguments: str, status: int = 0) -> str:
    """What a command says. In this process: a fresh one takes seconds for its libraries."""
    told, ended = StringIO(), None
    with pytest.MonkeyPatch.context() as environment, redirect_stdout(told), redirect_stderr(told):
        for name, value in one.local.environment.items():
            environment.setenv(name, value)
        common.settings.cache_clear()
        try:
            main(arguments)
        except SystemExit as end:
            ended = end.code
        finally:
            common.settings.cache_clear()
    assert ended == status, told.getvalue()
    return told.getvalue()


def commands(one: Round) -> Left:
    """Those that say, or let one think, that they show no personal data."""
    number = one.sql("select min(n) from intake.dead")
    asked = [
        "case list", "case due", f"case count --notice {NOTICE}", "case verify", "mail list", "dead list --all",
        f"dead show intake {number}", "catalogue list", "ops retain --older-than 1 --check",
    ]  # fmt: skip
    return {f"yiqi {a}": yiqi(one, *a.split(), "--json") for a in asked}


def rows(one: Round) -> Left:
    """Every table as `yiqi_reader` reads it; the reasons of what is dead or refused besides."""
    one.local.postgres.sql("create role sweeper login password 'test' in role yiqi_reader", "yiqi")

    async def read() -> Left:
        conn = await asyncpg.connect(one.local.postgres.dsn("yiqi", "sweeper", "test"))
        told = {}
        try:
            for service in SERVICES:
                for table in metadata_of(service).sorted_tables:
                    personal = table.info.get(PERSONAL, ())
                    shown = [
                        f'"{c.name}"' for c in table.columns if personal != ALL and c.name not in personal
                    ]
                    if shown:
                        name = f'{service}."{table.name}"'
                        all_ = await conn.fetch(f"select {', '.join(shown)} from {name}")
                        told[f"rows {name}"] = "\n".join(str(tuple(row.values())) for row in all_)
        finally:
            await conn.close()
        return told

    try:
        told = asyncio.run(read())
    finally:
        one.local.postgres.sql("drop role sweeper", "yiqi")
    for name in ("intake.dead", "intake.file", "review.case", "review.history", "notify.mail", "export.row"):
        service, table = name.split(".")
        assert told[f'rows {service}."{table}"'], name
    told["why"] = "\n".join(one.sql(f"select why from {s}.dead") for s in SERVICES)
    told["why refused"] = one.sql("select why from review.refusal")
    return told


def answers(one: Round) -> Left:
    """What publishers were told back, but for the ids of their own making, by which they know what it answers."""

    async def read() -> list[dict[str, Any]]:
        client = await nats.connect(one.local.nats.url)
        js = client.jetstream()
        last = (await js.stream_info(OUT)).state.last_seq
        told = [json.loads((await js.get_msg(OUT, n)).data or b"") for n in range(1, last + 1)]
        await client.close()
        return told

    told = {}
    for n, event in enumerate(asyncio.run(read())):
        data = event["data"]
        data.pop("accepted", None)
        (data.get("rejected") or {}).pop("id", None)
        for finding in data.get("errors", ()):
            finding.pop("sheet", None)  # the filer's own name for it, by which the filer finds the place
        told[f"answer {n} {event['type']}"] = json.dumps(data, ensure_ascii=False)
    assert any("rejected" in where for where in told)
    return told


SWEEPS: dict[str, Callable[[Round], Left]] = {
    "logs": logs,
    "metrics": pages,
    "public catalogues": catalogues,
    "commands": commands,
    "rows": rows,
    "answers": answers,
}


def test_nobody_is_named_in_what_a_round_leaves_behind(
    played: Round, oracle: Callable[[Verdict], Verdict]
) -> None:
    """T31."""
    hits = {name: found(sweep(played)) for name, sweep in SWEEPS.items()}
    dead = int(played.sql("select count(*) from intake.dead"))
    refused = sum("rejected" in a for a in played.answers)
    oracle(Verdict("T31 personal data", played.sent, played.sent - dead - refused, dead, refused))
    assert not any(hits.values()), hits


def test_control_a_round_does_name_people_where_they_belong(played: Round) -> None:
    """Else nothing would have been searched for: the contacts are there, in the tables that are for them."""
    for table in (
        "review.contact",
        "export.contact",
        "notify.contact",
        "notify.mail",
        "review.history",
    ):
        assert PLANTED.search(played.sql(f"select t::text from {table} t")), table
    assert set(played.sql("select revision from review.contact").split()) == {"1", "2"}
    assert found(catalogues(played, public=False))
    mails = "".join(p.read_text() for p in played.local.mails.messages())
    assert MAILS[0] in mails


@pytest.mark.parametrize(
    "planted_", [PHONES[0], MAILS[0], NAMES[0], IDS[0], "13700009999", "someone@else.cn"]
)
def test_control_one_log_line_with_a_person_is_found(played: Round, planted_: str) -> None:
    line = json.dumps({"level": "INFO", "message": f"filed by {planted_}"}, ensure_ascii=False)
    assert found({**logs(played), "log control": line})
    assert not found({"log": json.dumps({"seq": 13512340001123, "case": str(uuid4())})})


def test_control_the_logs_of_all_other_tests_are_searched_too() -> None:
    """At the end of the session, by `tests/conftest.py`; so not in a folder of pytest's."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "intake.log").write_text('{"message": "started"}\n{"message": "13700009999"}\n')
        assert list(named_in_logs(Path(folder))) == ["intake.log:2"]


# --- labels ---------------------------------------------------------------------------------------------


def test_the_labels_of_metrics_come_from_closed_sets(played: Round) -> None:
    notices = [one.notice for one in load_all().values()]
    findings = {r.id for n in notices for r in n.rules} | {f.id for n in notices for f in n.forms}
    forms = [f for n in notices for f in n.forms]
    places = {c.field for f in forms for c in f.by_key.values()} | {c.field for f in forms for c in f.lines}
    places |= {b.field for f in forms for b in f.blocks.values()}
    letters = {p.name for p in (Path(__file__).parents[2] / "services/notify/letters").iterdir()}
    stages = {s.id: set(s.outcomes) for n in notices for s in n.procedure.stages}
    closed = {
        "event": {e.name for e in registry.EVENTS},
        "service": set(SERVICES),
        "code": {"schema", "type", "identity", "subject", "conflict", "internal", "waited", "parked"},
        "consumer": {c.durable for c in CONSUMERS},
        "letter": letters,
        "state": {"sent", "failed", "unknown", "postponed", "queued", "claimed", "data", "held"}
        | {"gathered", "bounced"},
        "notice": {n.id for n in notices},
        "kind": {"case", "duty"},
        "version": {version("yiqi")},
        "form": {f.id for n in notices for f in n.forms} | {"none"},
        "outcome": {"accepted", "refused", "fact", "score"}
        | {o for outcomes in stages.values() for o in outcomes},
        "rule": findings | places | {"schema"},
        "severity": {"hard", "soft", "info"},
        "stage": set(stages),
    }
    seen: dict[str, set[str]] = {}
    for service, page in pages(played).items():
        for family in text_string_to_metric_families(page):
            for sample in family.samples if family.name.startswith("yiqi_") else ():
                for label, value in sample.labels.items():
                    if label != "le":
                        seen.setdefault(label, set()).add(value)
        assert "yiqi_" in page, service
    strange = {label: values - closed.get(label, set()) for label, values in seen.items()}
    assert not any(strange.values()), strange
    assert seen.keys() >= {"event", "code", "form", "rule", "letter", "stage"}


# --- letting go (last: it takes away what the others look at) -------------------------------------------


def test_what_is_over_is_let_go_and_the_history_can_still_be_verified(played: Round) -> None:
    before = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    one = played
    open_, ended = one.cases["returned"], (one.cases["published"], one.cases["rejected"])
    one.sql("update intake.dead set state = 'discarded' where n = (select min(n) from intake.dead)")
    told = json.loads(yiqi(one, "ops", "retain", "--closed-before", before, "--check", "--json"))
    counts = told["counts"]
    assert (counts["contacts"], counts["catalogues"], counts["dead"], told["wrong"]) == (2, 1, 1, [])
    assert counts["mails"] > 3
    assert counts["files"] == 1  # the marked copy: what the package brought is of an open case
    assert one.sql("select count(*) from review.let_go") == "0"
    assert json.loads(yiqi(one, "case", "verify", "--json"))["let_go"] == []

    # A run that breaks off half-way needs another run and nothing else.
    one.sql("""create function notify.full_disk() returns trigger language plpgsql as
               $$ begin raise exception using errcode = '53100'; end $$""")
    one.sql("create trigger full_disk before update on notify.mail execute function notify.full_disk()")
    yiqi(one, "ops", "retain", "--closed-before", before, status=3)
    one.sql("drop trigger full_disk on notify.mail")
    assert (
        one.sql("select string_agg(kind, ' ' order by kind) from review.let_go")
        == "catalogues contacts files"
    )
    again = json.loads(yiqi(one, "ops", "retain", "--closed-before", before, "--by", "officer-7", "--json"))
    assert again["counts"] == {**counts, "contacts": 0, "catalogues": 0, "files": 0}
    third = json.loads(yiqi(one, "ops", "retain", "--closed-before", before, "--json"))
    assert set(third["counts"].values()) == {0}
    recorded = dict(
        line.split("|") for line in one.sql("select kind, sum(count) from review.let_go group by 1").split()
    )
    assert {kind: int(n) for kind, n in recorded.items()} == {k: n for k, n in counts.items() if n}
    assert one.sql("""select distinct "by" from review.let_go order by 1""").split() == [
        "officer-7",
        "operator",
    ]

    # What is over names nobody any more; what is not over still does.
    gone = one.sql(f"""select t::text from review.contact t where "case" in ('{ended[0]}', '{ended[1]}')""")
    assert gone
    assert not PLANTED.search(gone)
    assert PLANTED.search(one.sql(f"""select t::text from review.contact t where "case" = '{open_}'"""))
    for table in ("export.contact", "notify.mail"):
        assert not PLANTED.search(one.sql(f"select t::text from {table} t")), table
    assert one.sql("select length(body), headers from intake.dead where state = 'discarded'") == "0|{}"

    # Every history is still verified, and what was let go is told; a word that is changed afterwards is found.
    verified = json.loads(yiqi(one, "case", "verify", "--json"))
    assert (verified["wrong"], len(verified["let_go"])) == ([], 2)
    assert verified["cases"] == int(one.sql("select count(*) from review.case"))
    change = (
        """update review."case" set "values" = jsonb_set("values", '{venue}', '"别处"') where "case" = """
    )
    one.sql(f"{change}'{ended[0]}'")
    (wrong,) = json.loads(yiqi(one, "case", "verify", "--json", status=1))["wrong"]
    assert "报送的内容与经过不符" in wrong["why"]


def test_a_case_that_does_not_fit_its_history_is_not_touched(played: Round) -> None:
    one = played
    before = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    number = one.sql(f"""select number from review."case" where "case" = '{one.cases["returned"]}'""")
    one.sql(f"""update review."case" set stage = 'rejected', "values" = '{{}}' where number = '{number}'""")
    one.sql("update review.\"case\" set stage = 'withdrawn' where package is not null")
    told = json.loads(yiqi(one, "ops", "retain", "--closed-before", before, "--json", status=1))
    assert told["wrong"] == [number]
    # Its neighbour is let go, with the workbook and the scan that no open case needs any more.
    assert (told["counts"]["contacts"], told["counts"]["files"]) == (1, 2)
    assert PLANTED.search(
        one.sql(f"""select t::text from review.contact t where "case" = '{one.cases["returned"]}'""")
    )
