"""A round with the four services as processes: what other systems publish, and what they and people get back.

The services run once for the module; every test files as institutions of its own, so none sees another's.
"""

import asyncio
import email
import email.policy
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client

from services.cli.local import Local
from services.intake.parse import case_of
from shared.contracts import registry
from shared.contracts.registry import EventType
from shared.notices.directory import Directory, unlisted
from shared.runtime.accounts import PROVISIONER
from shared.runtime.embedded import eventually
from shared.runtime.streams import EVT, IN, OUT

Hpub = Callable[..., None]

NOTICE = "gz-collection-2025q1"
CITY, DISTRICT, OTHER_DISTRICT = "440100", "440106", "440103"
DURING = datetime(2025, 3, 3, 2, 0, tzinfo=UTC)  # a Monday before the deadline, ten in the morning
DIRECTORY = Directory.load()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    here = Local(tmp_path_factory.mktemp("flow"), sync_always=False)
    here.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    with here:
        yield here


def lecture(name: str, **more: Any) -> dict[str, Any]:
    return {
        "service_domain": "法律服务",
        "organizer": "某机构",
        "activity_name": name,
        "activity_time": "2025年6月10日",
        "venue": "线上",
        "content": "讲解合同风险",
        "participants": "约100人",
        "contact": "张三 83726619",
        **more,
    }


@dataclass
class Institution:
    """A K6 applicant of its own, or a listed agency."""

    name: str
    code: str = ""
    kind: str = "K6"
    email: str | None = field(default=None)

    def __post_init__(self) -> None:
        listed = DIRECTORY.find(self.code)
        if listed:
            self.name, self.kind = listed.name, listed.kind
        self.code = self.code or unlisted(self.name).code

    @property
    def filer(self) -> dict[str, Any]:
        told = {"code": self.code, "kind": self.kind, "name": self.name}
        return {**told, "email": self.email} if self.email else told

    def filing(self, values: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"notice": NOTICE, "form": "F3", "filer": self.filer, "values": values, **more}


@dataclass
class Bus:
    """What another system does: publish on its own subject and read the answers on its own subject."""

    local: Local
    client: Client
    """The operator's: it sees everything and says nothing."""
    db: asyncpg.Connection
    clients: dict[str, Client] = field(default_factory=dict)

    async def speaker(self, publisher: str) -> Client:
        """The publisher's own connection."""
        if publisher not in self.clients:
            self.clients[publisher] = await self.local.connect(publisher)
        return self.clients[publisher]

    async def publish(
        self, type_: EventType, publisher: str, data: Any, *, id_: str = "", **envelope: Any
    ) -> str:
        document = {
            "specversion": "1.0",
            "id": id_ or str(uuid4()),
            "source": f"urn:cn:gov:gz:{publisher}:oa",
            "type": type_.ce_type,
            "time": "2025-03-03T09:00:00+08:00",
            "data": data,
            **envelope,
        }
        client = await self.speaker(publisher)
        await client.jetstream().publish(
            type_.subject(publisher), json.dumps(document, ensure_ascii=False).encode(), stream=IN
        )
        return str(document["id"])

    async def ask(self, type_: EventType, publisher: str, data: Any, **more: Any) -> dict[str, Any]:
        """Publish and wait for the answer to this very event."""
        client = await self.speaker(publisher)
        answers = await client.subscribe(f"sme.out.v1.{publisher}.event.*")
        id_ = await self.publish(type_, publisher, data, **more)
        try:
            async with asyncio.timeout(15):
                async for message in answers.messages:
                    answer: dict[str, Any] = json.loads(message.data)["data"]
                    if id_ in (answer.get("accepted"), (answer.get("rejected") or {}).get("id")):
                        return answer
        finally:
            await answers.unsubscribe()
        raise AssertionError("the answers ended")

    async def file(self, who: Institution, values: dict[str, Any], **more: Any) -> dict[str, Any]:
        answer = await self.ask(registry.SUBMISSION_FILED, who.code, who.filing(values, **more))
        if answer.get("case"):
            await self.until_case(answer["case"], min_revision=1)
        return answer

    async def decide(self, publisher: str, case: str, outcome: str, **more: Any) -> dict[str, Any]:
        data = {"case": case, "outcome": outcome, "reason": "理由", **more}
        return await self.ask(registry.DECISION_MADE, publisher, data)

    async def case(self, case: str) -> dict[str, Any] | None:
        row = await self.db.fetchrow('select * from review."case" where "case" = $1', UUID(case))
        return dict(row) if row else None

    async def until_case(self, case: str, *, min_revision: int = 1, stage: str = "") -> dict[str, Any]:
        async def there() -> dict[str, Any] | None:
            row = await self.case(case)
            fits = row and row["revision"] >= min_revision and stage in ("", row["stage"])
            return row if fits else None

        found: dict[str, Any] | None = await eventually(
            there, 15, f"case {case} at {stage or 'revision'} {min_revision}"
        )
        assert found
        return found

    async def events(self, name: str, case: str) -> list[dict[str, Any]]:
        """What was said between the services about one case, in order."""
        return [
            d
            for e in await self.stream(EVT)
            if e["type"].split("sme.")[1].startswith(name) and (d := e["data"]).get("case") == case
        ]

    async def stream(self, name: str) -> list[dict[str, Any]]:
        js = self.client.jetstream()
        last = (await js.stream_info(name)).state.last_seq
        return [json.loads((await js.get_msg(name, seq)).data or b"{}") for seq in range(1, last + 1)]

    async def used(self, unit: str, name: str) -> int:
        return (
            await self.db.fetchval(
                "select coalesce(sum(used), 0) from intake.tally where unit = $1 and name = $2", unit, name
            )
            or 0
        )


@asynccontextmanager
async def bus(local: Local) -> AsyncIterator[Bus]:
    client = await local.connect()
    db = await asyncpg.connect(local.postgres.dsn("yiqi"))
    here = Bus(local, client, db)
    try:
        yield here
    finally:
        await db.close()
        for one in (client, *here.clients.values()):
            await one.close()


def errors(answer: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """(rule, code, severity, pointer)"""
    return [(e["rule"], e["code"], e["severity"], e["pointer"]) for e in answer["errors"]]


def mails(local: Local, address: str) -> list[Any]:
    """The mails that one address got, in order."""
    return [
        email.message_from_bytes(p.read_bytes(), policy=email.policy.default)
        for p in local.mails.messages()
        if p.name.split("-", 1)[1] == f"{address}.eml"
    ]


# --- a filing ----------------------------------------------------------------------------------------


async def test_an_accepted_filing_becomes_a_case_and_two_mails(local: Local) -> None:
    who = Institution("流程测试机构一", email="one@flow.example")
    async with bus(local) as b:
        answer = await b.file(who, lecture("讲座一"), recommender=DISTRICT, direction="D05")
        assert answer["errors"] == []
        case = await b.until_case(answer["case"])
        assert (case["number"], case["stage"], case["version"], case["revision"], case["late"]) == (
            answer["number"],
            "recommendation",
            1,
            1,
            False,
        )
        # The address is kept apart, with the contact data.
        named = {key: value for key, value in who.filer.items() if key != "email"}
        assert (case["unit"], case["district"], json.loads(case["filer"])) == (DISTRICT, DISTRICT, named)
        email_ = await b.db.fetchval(
            'select email from review.contact where "case" = $1', UUID(answer["case"])
        )
        assert email_ == who.email
        (opened,) = await b.events("case.opened", answer["case"])
        assert (opened["stage"], opened["outcome"], opened["counts"]) == (
            "recommendation",
            "file",
            ["direction_items", "direction_activities", "june_activities", "service_month"],
        )
        await eventually(lambda: mails(local, "one@flow.example"), 15, "the mail to the filer")
        (mail,) = mails(local, "one@flow.example")
        assert answer["number"] in mail.get_body().get_content()
        assert "讲座一" in mail.get_body().get_content()
        row = await b.db.fetch(
            'select letter, to_code, state from notify.mail where "case" = $1 order by to_code',
            UUID(answer["case"]),
        )
        letters = {(r["letter"], r["to_code"]) for r in row}
        assert letters == {("accepted", who.code), ("recommend_wanted", DISTRICT)}


async def test_a_refused_filing_gets_every_finding_on_its_own_subject_only(local: Local) -> None:
    who = Institution("流程测试机构二", email="two@flow.example")
    values = lecture("讲座二", contact="张三 123", service_domain="", activty_name="x")
    async with bus(local) as b:
        everything = await b.client.subscribe("sme.out.v1.*.event.*")
        answer = await b.ask(
            registry.SUBMISSION_FILED, who.code, who.filing(values, recommender=DISTRICT, direction="D02")
        )
        assert (answer["status"], answer["type"]) == (422, "urn:cn:gov:gz:sme:problem:refused")
        assert [
            (e["rule"], e["code"], e["severity"], e["clause"], e["pointer"]) for e in answer["errors"]
        ] == [
            ("F3.02", "missing", "hard", "附件3", "#/data/values/service_domain"),
            ("R-GEN-003", "R-GEN-003", "hard", "附件3", "#/data/values/contact"),
            ("F3", "schema.extra", "hard", "附件3", "#/data/values/activty_name"),
        ]
        assert answer["errors"][0]["detail"] == "“服务领域”：不能为空"
        assert answer["rejected"]["stream"] == IN
        assert answer["rejected"]["subject"] == registry.SUBMISSION_FILED.subject(who.code)
        told = await everything.next_msg(5)
        assert told.subject == registry.EVENT_REJECTED.subject(who.code)
        with pytest.raises(nats.errors.TimeoutError):
            await everything.next_msg(0.2)
        assert await b.db.fetchval("select count(*) from intake.submission where filer = $1", who.code) == 0
        await eventually(lambda: mails(local, "two@flow.example"), 15, "the mail about the refusal")
        assert "123" not in json.dumps(answer["errors"])


IDENTITY: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "another code": ({"code": "440103"}, [("identity.code", "#/data/filer/code")]),
    "another kind": ({"kind": "K5"}, [("identity.unknown", "#/data/filer/code")]),
    "another name": ({"name": "另一家机构"}, [("identity.unknown", "#/data/filer/code")]),
}


@pytest.mark.parametrize("lie", IDENTITY)
async def test_an_applicant_files_under_the_code_of_its_name(local: Local, lie: str) -> None:
    who = Institution("身份测试机构")
    change, wanted = IDENTITY[lie]
    filing = who.filing(lecture("讲座"))
    filing["filer"] = {**who.filer, **change}
    async with bus(local) as b:
        answer = await b.ask(registry.SUBMISSION_FILED, who.code, filing)
        assert [(e["code"], e["pointer"]) for e in answer["errors"]] == wanted
        assert {e["rule"] for e in answer["errors"]} == {"R-GEN-011"}
        assert await b.db.fetchval("select count(*) from intake.submission where filer = $1", who.code) == 0


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"kind": "K1"}, [("identity.kind", "#/data/filer/kind")]),
        ({"name": "某机构"}, [("identity.name", "#/data/filer/name")]),
        (
            {"kind": "K6", "name": "某机构"},
            [("identity.kind", "#/data/filer/kind"), ("identity.name", "#/data/filer/name")],
        ),
    ],
)
async def test_a_listed_agency_is_what_the_directory_says(
    local: Local, change: dict[str, str], wanted: list[tuple[str, str]]
) -> None:
    who = Institution("", OTHER_DISTRICT)
    filing = who.filing(lecture("讲座"))
    filing["filer"] = {**who.filer, **change}
    async with bus(local) as b:
        answer = await b.ask(registry.SUBMISSION_FILED, OTHER_DISTRICT, filing)
        assert [(e["code"], e["pointer"]) for e in answer["errors"]] == wanted


async def test_a_source_that_is_not_the_subjects_publisher_is_dead(local: Local) -> None:
    who = Institution("冒名测试机构")
    async with bus(local) as b:
        answer = await b.ask(
            registry.SUBMISSION_FILED,
            who.code,
            who.filing(lecture("讲座")),
            source=f"urn:cn:gov:gz:{DISTRICT}:oa",
        )
        assert (answer["status"], answer["type"]) == (403, "urn:cn:gov:gz:sme:problem:identity")
        seq = answer["rejected"]["seq"]
        assert await b.db.fetchval("select code from intake.dead where seq = $1", seq) == "identity"


@pytest.mark.parametrize("recommender", ["gdgy", "440100", "k6-0123456789abcdef", "nobody"])
async def test_only_departments_districts_and_associations_recommend(local: Local, recommender: str) -> None:
    known = DIRECTORY.find(recommender)
    if known is not None and known.kind in ("K1", "K2", "K5"):
        pytest.fail("choose another code")
    who = Institution("推荐测试机构")
    async with bus(local) as b:
        answer = await b.ask(
            registry.SUBMISSION_FILED, who.code, who.filing(lecture("讲座"), recommender=recommender)
        )
        assert [(e["rule"], e["pointer"]) for e in answer["errors"]] == [("ST-COL-2", "#/data/recommender")]


# --- again -------------------------------------------------------------------------------------------


async def test_the_same_event_and_the_same_content_make_no_second_case(local: Local) -> None:
    who = Institution("重复测试机构")
    async with bus(local) as b:
        data = who.filing(lecture("讲座"), direction="D05")
        first = await b.ask(registry.SUBMISSION_FILED, who.code, data, id_="same")
        await b.publish(registry.SUBMISSION_FILED, who.code, data, id_="same")  # no Nats-Msg-Id: stored twice
        again = await b.ask(registry.SUBMISSION_FILED, who.code, data)
        assert (again["case"], again["number"], again["errors"]) == (first["case"], first["number"], [])
        await b.until_case(first["case"])
        accepted = [e["accepted"] for e in await self_answers(b, who.code)]
        assert accepted.count("same") == 1
        assert len(await b.events("submission.accepted", first["case"])) == 1
        assert [
            tuple(r)
            for r in await b.db.fetch(
                "select revision, title from intake.submission where filer = $1", who.code
            )
        ] == [(1, "讲座")]
        assert await b.used(who.code, "direction_items") == 1
        # The negative control: another title is another case.
        other = await b.ask(
            registry.SUBMISSION_FILED, who.code, who.filing(lecture("讲座乙"), direction="D05")
        )
        assert other["case"] != first["case"]
        assert await b.used(who.code, "direction_items") == 2


async def self_answers(b: Bus, publisher: str) -> list[dict[str, Any]]:
    js = b.client.jetstream()
    last = (await js.stream_info(OUT)).state.last_seq
    found = []
    for seq in range(1, last + 1):
        message = await js.get_msg(OUT, seq)
        if message.subject == registry.EVENT_ACCEPTED.subject(publisher):
            found.append(json.loads(message.data or b"")["data"])
    return found


async def test_the_same_id_with_other_content_is_told_and_dead(local: Local) -> None:
    who = Institution("同号测试机构")
    async with bus(local) as b:
        await b.ask(registry.SUBMISSION_FILED, who.code, who.filing(lecture("讲座")), id_="one")
        answers = await b.client.subscribe(registry.EVENT_REJECTED.subject(who.code))
        await b.publish(registry.SUBMISSION_FILED, who.code, who.filing(lecture("别的")), id_="one")
        told = json.loads((await answers.next_msg(15)).data)["data"]
        assert (told["status"], told["rejected"]["id"]) == (409, "one")


async def test_changed_content_is_a_revision_and_a_warning(local: Local) -> None:
    who = Institution("修改测试机构")
    async with bus(local) as b:
        first = await b.file(who, lecture("讲座"), recommender=DISTRICT)
        second = await b.file(who, lecture("讲座", content="换了内容"), recommender=DISTRICT)
        assert (second["case"], second["number"]) == (first["case"], first["number"])
        assert errors(second) == [("R-COL-040", "R-COL-040", "soft", "#/data/values")]
        case = await b.until_case(first["case"], min_revision=2)
        assert (case["version"], case["stage"]) == (2, "recommendation")
        assert json.loads(case["values"])["content"] == "换了内容"
        outcomes = [e["outcome"] for e in await b.events("case.", first["case"])]
        assert outcomes == ["file", "amend"]
        assert await b.used(DISTRICT, "activities") == 0


async def test_an_item_belongs_to_whoever_filed_it_first(local: Local) -> None:
    one, two = Institution("先报机构"), Institution("后报机构")
    async with bus(local) as b:
        first = await b.file(one, lecture("同名讲座"), recommender="440105")
        second = await b.ask(
            registry.SUBMISSION_FILED, two.code, two.filing(lecture("同名讲座"), recommender="440105")
        )
        assert ("R-GEN-011", "case.foreign", "hard", "#/data/values") in errors(second)
        direct = await b.ask(
            registry.SUBMISSION_FILED, two.code, two.filing(lecture("别的名"), case=first["case"])
        )
        assert ("R-GEN-011", "case.foreign", "hard", "#/data/values") in errors(direct)
        case = await b.until_case(first["case"])
        assert json.loads(case["filer"])["code"] == one.code


# --- quotas ------------------------------------------------------------------------------------------


async def test_over_the_quota_is_a_warning_that_the_city_must_acknowledge(local: Local) -> None:
    """T-COL-01, T-COL-05."""
    who = Institution("", "440113")
    async with bus(local) as b:
        answers = [await b.file(who, lecture(f"讲座{n}"), direction="D05") for n in range(3)]
        assert [errors(a) for a in answers] == [
            [],
            [],
            [("R-COL-010", "R-COL-010", "soft", "#/data/values")],
        ]
        case = answers[2]["case"]
        without = await b.decide(CITY, case, "accept")
        assert (without["status"], [e["pointer"] for e in without["errors"]]) == (
            422,
            ["#/data/acknowledges"],
        )
        assert (await b.until_case(case))["stage"] == "formal_check"
        waived = await b.decide(CITY, case, "accept", acknowledges=["R-COL-010"], rules=["R-COL-013"])
        assert waived["case"] == case
        assert (await b.until_case(case, stage="selection"))["version"] == 2
        line = await b.db.fetchrow(
            'select * from review.history where "case" = $1 and version = 2', UUID(case)
        )
        assert line is not None
        assert (json.loads(line["acknowledges"]), json.loads(line["rules"])) == (["R-COL-010"], ["R-COL-013"])


@pytest.mark.parametrize(
    ("outcome", "by"), [("withdraw", "filer"), ("reject", CITY)], ids=["withdrawn", "rejected"]
)
async def test_what_ended_without_success_stops_counting(local: Local, outcome: str, by: str) -> None:
    who = Institution(f"退出测试机构{outcome}")
    async with bus(local) as b:
        answers = [await b.file(who, lecture(f"讲座{n}"), direction="D05") for n in range(2)]
        assert await b.used(who.code, "direction_items") == 2
        actor = who.code if by == "filer" else by
        done = await b.decide(actor, answers[0]["case"], outcome)
        assert "accepted" in done, done

        async def freed() -> bool:
            return await b.used(who.code, "direction_items") == 1

        await eventually(freed, 15, "the count to fall")
        third = await b.file(who, lecture("讲座3"), direction="D05")
        assert errors(third) == []
        # The ended one cannot come back under its name.
        again = await b.ask(
            registry.SUBMISSION_FILED, who.code, who.filing(lecture("讲座0", content="新"), direction="D05")
        )
        assert ("R-COL-040", "case.ended", "hard", "#/data/values") in errors(again)


# --- decisions ---------------------------------------------------------------------------------------


async def test_a_returned_filing_comes_back_under_its_number(local: Local) -> None:
    who = Institution("补正测试机构", email="fix@flow.example")
    async with bus(local) as b:
        first = await b.file(who, lecture("待补正的讲座"), recommender="440111")
        fixes = [{"field": "content", "detail": "请写明内容"}]
        assert "accepted" in await b.decide("440111", first["case"], "return", fixes=fixes)
        returned = await b.until_case(first["case"], stage="correction_for_recommender")
        assert returned["due"].isoformat() == "2025-03-10"
        # Intake must know before the correction comes, else it is a repeat (R-COL-040).
        await eventually(
            lambda: b.db.fetchval(
                "select state = 'returned' from intake.submission where number = $1", first["number"]
            ),
            15,
        )
        second = await b.file(who, lecture("待补正的讲座", content="写明了"), recommender="440111")
        assert (second["case"], second["number"], second["errors"]) == (first["case"], first["number"], [])
        case = await b.until_case(first["case"], min_revision=2, stage="recommendation")
        assert (case["number"], case["due"], case["version"]) == (first["number"], None, 3)

        def told() -> bool:
            return any("请写明内容" in m.get_body().get_content() for m in mails(local, "fix@flow.example"))

        await eventually(told, 15, "the mail that says what to fix")


async def test_a_decision_that_is_earlier_than_its_case_waits_for_it(local: Local) -> None:
    """As after an outage, when the decision is read before the filing that it is about."""
    who = Institution("早到的决定机构")
    values = lecture("早到决定的讲座")
    case = case_of(NOTICE, "F3", DISTRICT, str(values["activity_name"]))
    async with bus(local) as b:
        deciding = asyncio.create_task(b.decide(DISTRICT, str(case), "recommend"))

        async def tried() -> bool:
            info = await b.client.jetstream().consumer_info(IN, "review-in")
            return bool(info.num_redelivered) and not deciding.done()

        await eventually(tried, 10, "the decision to be tried again")
        filed = await b.file(who, values, recommender=DISTRICT)
        assert filed["case"] == str(case)
        assert "accepted" in await deciding
        assert (await b.until_case(str(case), stage="formal_check"))["version"] == 2


async def test_a_decision_of_another_district_changes_nothing(local: Local) -> None:
    who = Institution("越权测试机构")
    async with bus(local) as b:
        filed = await b.file(who, lecture("越权的讲座"), recommender=DISTRICT)
        for actor, outcome in (
            (OTHER_DISTRICT, "recommend"),
            (OTHER_DISTRICT, "withdraw"),
            (CITY, "recommend"),
        ):
            answer = await b.decide(actor, filed["case"], outcome)
            assert (answer["status"], answer["type"]) == (403, "urn:cn:gov:gz:sme:problem:authority")
        assert (await b.until_case(filed["case"]))["version"] == 1
        assert (await b.decide(DISTRICT, filed["case"], "recommend", version=2))["status"] == 409
        assert "accepted" in await b.decide(DISTRICT, filed["case"], "recommend", version=1)
        assert (await b.until_case(filed["case"], stage="formal_check"))["version"] == 2


async def test_from_filing_to_the_catalogue(local: Local) -> None:
    who = Institution("发布测试机构", email="published@flow.example")
    async with bus(local) as b:
        filed = await b.file(who, lecture("要发布的讲座"))
        for outcome in ("accept", "select", "publish"):
            answer = await b.decide(CITY, filed["case"], outcome)
            assert "accepted" in answer, answer
        await b.until_case(filed["case"], stage="published")
        await eventually(
            lambda: b.db.fetchval('select shown from export."row" where "case" = $1', UUID(filed["case"])), 15
        )
        refused = await b.ask(registry.CATALOGUE_REQUESTED, DISTRICT, {"notice": NOTICE, "form": "F3"})
        assert (refused["status"], refused["type"]) == (403, "urn:cn:gov:gz:sme:problem:authority")
        wanted = await b.ask(registry.CATALOGUE_REQUESTED, CITY, {"notice": NOTICE, "form": "F3"})
        assert "accepted" in wanted
        made = await b.db.fetchrow(
            "select * from export.catalogue where notice = $1 and form = 'F3' and not public", NOTICE
        )
        assert made is not None
        store = await (await b.speaker(PROVISIONER)).jetstream().object_store("CATALOGUES")
        data = (await store.get(made["object"])).data or b""
        assert (sha256(data).hexdigest(), len(data)) == (made["sha256"], made["size"])

        async def told(*, public: bool) -> list[str]:
            return [
                e["data"]["sha256"]
                for e in await b.stream(EVT)
                if e["type"] == registry.CATALOGUE_PUBLISHED.ce_type
                and (e["data"]["notice"], e["data"]["form"], e["data"]["public"]) == (NOTICE, "F3", public)
            ]

        assert await told(public=False) == [made["sha256"]]

        async def followed() -> bool:
            return not await b.db.fetchval("select count(*) from export.stale")

        await eventually(followed, 30, "the catalogues of what was published, unasked")
        # The same rows again: the same bytes, and nothing new to tell.
        again = await b.ask(registry.CATALOGUE_REQUESTED, CITY, {"notice": NOTICE, "form": "F3"})
        assert "accepted" in again
        assert await told(public=False) == [made["sha256"]]
        assert len(await told(public=True)) == 1
        # What is published may not be filed again, by nobody.
        other = Institution("照抄机构")
        copy = await b.ask(registry.SUBMISSION_FILED, other.code, other.filing(lecture("要发布的讲座")))
        assert {e["rule"] for e in copy.get("errors", [])} <= {"R-COL-022"}

        def told_by_mail() -> bool:
            return len(mails(local, "published@flow.example")) >= 2

        await eventually(told_by_mail, 15, "accepted, selected, published")
        lines = await b.db.fetch(
            'select * from review.history where "case" = $1 order by version', UUID(filed["case"])
        )
        assert [r["outcome"] for r in lines] == ["file", "accept", "select", "publish"]
        assert verified([dict(r) for r in lines])
        assert not verified([{**dict(lines[0]), "reason": "tampered"}, *map(dict, lines[1:])])


def verified(lines: list[dict[str, Any]]) -> bool:
    """The chain as an auditor computes it, from the rows of the table alone."""
    previous = ""
    for line in lines:
        row = {k: v for k, v in line.items() if k not in ("hash", "party")}
        row |= {"case": str(row["case"]), "at": row["at"].isoformat(), "key": row["key"] and str(row["key"])}
        row |= {k: json.loads(row[k]) for k in ("rules", "acknowledges", "fixes", "data")}
        said = {k: v for k, v in row.items() if k not in ("data", "key", "publisher") or v}
        text = json.dumps([previous, said], sort_keys=True, ensure_ascii=False)
        if sha256(text.encode()).hexdigest() != line["hash"]:
            return False
        previous = line["hash"]
    return True


# --- broken ------------------------------------------------------------------------------------------


async def test_a_broken_event_is_dead_and_told_and_its_neighbours_are_done(local: Local) -> None:
    who = Institution("坏件测试机构")
    subject = registry.SUBMISSION_FILED.subject(who.code)
    async with bus(local) as b:
        answers = await b.client.subscribe(registry.EVENT_REJECTED.subject(who.code))
        js = (await b.speaker(who.code)).jetstream()
        await b.publish(registry.SUBMISSION_FILED, who.code, who.filing(lecture("前")), id_="before")
        bad = await js.publish(subject, b"{not JSON", stream=IN)
        await b.publish(registry.SUBMISSION_FILED, who.code, who.filing(lecture("后")), id_="after")
        told = json.loads((await answers.next_msg(15)).data)["data"]
        assert told["rejected"] == {"subject": subject, "stream": IN, "seq": bad.seq}

        async def both() -> bool:
            return {a["accepted"] for a in await self_answers(b, who.code)} == {"before", "after"}

        await eventually(both, 15, "both neighbours")
        rows = await b.db.fetch("select code, state, body from intake.dead where seq = $1", bad.seq)
        assert [tuple(r) for r in rows] == [("schema", "dead", b"{not JSON")]


STRANGE: dict[str, Any] = {
    "not a number": float("nan"),
    "infinite": float("inf"),
    "a number": 1,
    "a list": ["x"],
    "deep": {"a": {"b": [{}] * 50}},
    "900 kB": "长" * 300_000,
    "null": None,
}


@pytest.mark.parametrize("strange", STRANGE)
async def test_a_strange_value_is_refused_with_its_place(local: Local, strange: str) -> None:
    who = Institution("怪值测试机构")
    async with bus(local) as b:
        filing = who.filing(lecture("讲座", contact=STRANGE[strange]))
        answer = await b.ask(registry.SUBMISSION_FILED, who.code, filing)
        assert {e["pointer"] for e in answer["errors"]} == {"#/data/values/contact"}
        assert answer["status"] == 422


@pytest.mark.parametrize("form", ["F99", "F12"])
async def test_a_form_that_the_notice_has_not(local: Local, form: str) -> None:
    who = Institution("错表测试机构")
    async with bus(local) as b:
        filing = {**who.filing(lecture("讲座")), "form": form}
        answer = await b.ask(registry.SUBMISSION_FILED, who.code, filing)
        assert errors(answer) == [("R-COL-017", "form.unknown", "hard", "#/data/form")]
        unknown = await b.ask(registry.SUBMISSION_FILED, who.code, {**filing, "notice": "no-such-notice"})
        assert errors(unknown) == [("notice", "notice.unknown", "hard", "#/data/notice")]


async def test_hostile_headers_hold_up_nobody(local: Local, hpub: Hpub) -> None:
    """`tests/live/test_shim.py` shows what these do to a client that is not repaired."""
    who = Institution("敌意测试机构")
    subject = registry.SUBMISSION_FILED.subject(who.code)
    hostile = [b"NATS/1.0", *(b"NATS/1.0\r\nStatus: %d\r\n\r\n" % s for s in (100, 404, 408, 409, 500))]
    async with bus(local) as b:
        for n, header in enumerate(hostile):
            await b.publish(
                registry.SUBMISSION_FILED, who.code, who.filing(lecture(f"讲座{n}")), id_=f"good-{n}"
            )
            event = {
                "specversion": "1.0",
                "id": f"hostile-{n}",
                "source": f"urn:cn:gov:gz:{who.code}:oa",
                "type": registry.SUBMISSION_FILED.ce_type,
                "time": "2025-03-03T09:00:00+08:00",
                "data": who.filing(lecture(f"讲座{n}乙")),
            }
            await asyncio.to_thread(
                hpub,
                local.nats.port,
                subject.encode(),
                header,
                json.dumps(event).encode(),
                local.seed(who.code),
            )
        # A subject that is no text: nobody can be told, and nobody is held up.
        await asyncio.to_thread(
            hpub,
            local.nats.port,
            b"sme.in.v1.\xff\xfe.submission.filed",
            b"NATS/1.0\r\nA: b\r\n\r\n",
            b"{}",
            local.seed(who.code),
        )
        await b.publish(registry.SUBMISSION_FILED, who.code, who.filing(lecture("最后")), id_="last")
        wanted = {f"{kind}-{n}" for kind in ("good", "hostile") for n in range(len(hostile))} | {"last"}

        async def all_answered() -> bool:
            return {a["accepted"] for a in await self_answers(b, who.code)} == wanted

        await eventually(all_answered, 15, "an answer to every one of them")
        assert await b.db.fetchval("select count(*) from intake.dead where code = 'subject'") == 1


async def test_an_unknown_subject_has_no_stream_and_its_publisher_is_told_at_once(local: Local) -> None:
    async with bus(local) as b:
        for subject in ("sme.in.v1.440106.submission.field", "sme.in.v2.440106.submission.filed"):
            with pytest.raises(nats.js.errors.NoStreamResponseError):
                await (await b.speaker("440106")).jetstream().publish(subject, b"{}")


def yiqi(local: Local, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YIQI_")}
    return subprocess.run(
        [sys.executable, "-c", "from services.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        env={**environment, **local.environment},
        cwd=Path(__file__).parents[2],
    )


async def test_an_operator_lists_shows_replays_and_discards_dead_messages(local: Local) -> None:
    who = Institution("死信测试机构")
    async with bus(local) as b:
        answers = await b.client.subscribe(registry.EVENT_REJECTED.subject(who.code))
        numbers = []
        for body in (b"{one", b"{two"):
            ack = (
                await (await b.speaker(who.code))
                .jetstream()
                .publish(registry.SUBMISSION_FILED.subject(who.code), body, stream=IN)
            )
            await answers.next_msg(15)
            numbers.append(await b.db.fetchval("select n from intake.dead where seq = $1", ack.seq))
        first, second = map(str, numbers)
        listed, shown, nothing = await asyncio.gather(
            asyncio.to_thread(yiqi, local, "dead", "list", "--json"),
            asyncio.to_thread(yiqi, local, "dead", "show", "intake", first, "--json"),
            asyncio.to_thread(yiqi, local, "dead", "show", "intake", "999999"),
        )
        assert (listed.returncode, shown.returncode, nothing.returncode) == (0, 0, 2)
        assert {first, second} <= {str(r["n"]) for r in json.loads(listed.stdout) if r["service"] == "intake"}
        assert json.loads(shown.stdout)["bytes"] == 4
        assert "{one" not in shown.stdout
        assert (await asyncio.to_thread(yiqi, local, "dead", "discard", "intake", second)).returncode == 0
        # Not twice.
        assert (await asyncio.to_thread(yiqi, local, "dead", "replay", "intake", second)).returncode == 1
        # Replayed, and still broken: dead again, under a new number.
        assert (await asyncio.to_thread(yiqi, local, "dead", "replay", "intake", first)).returncode == 0

        async def again() -> bool:
            rows = await b.db.fetch("select state from intake.dead where body = $1 order by n", b"{one")
            return [r["state"] for r in rows] == ["replayed", "dead"]

        await eventually(again, 15, "the replay")
        states = await b.db.fetch("select state, by from intake.dead where body = $1", b"{two")
        assert [tuple(r) for r in states] == [("discarded", "operator")]


@pytest.mark.parametrize("arguments", [["list", "--nonsense"], ["show", "nobody", "1"]])
def test_a_command_that_makes_no_sense_is_unusable_input(local: Local, arguments: list[str]) -> None:
    done = yiqi(local, "dead", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def test_without_a_server_the_command_line_says_so(local: Local) -> None:
    nowhere = {"YIQI_NATS_URL": "nats://127.0.0.1:1", "YIQI_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}
    done = subprocess.run(
        [sys.executable, "-c", "from services.cli import main; main()", "dead", "list"],
        capture_output=True,
        text=True,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("YIQI_")}, **nowhere},
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "没有连上服务" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("service", ["intake", "notify"])
def test_a_broken_notice_ends_the_start_with_every_error_and_its_line(
    local: Local, tmp_path: Path, service: str
) -> None:
    packaged = Path(__file__).parents[2] / "shared/notices/data/gz-collection-2025q1.yaml"
    broken = packaged.read_text().replace("status: in_force", "status: in-force", 1)
    broken = broken.replace("to: formal_check", "to: formal_chek", 1)
    (tmp_path / "broken.yaml").write_text(broken)
    lines = {
        n
        for n, line in enumerate(broken.splitlines(), 1)
        if "status: in-force" in line or "to: formal_chek," in line
    }
    done = subprocess.run(
        [sys.executable, "-m", "services.run", service],
        capture_output=True,
        text=True,
        timeout=60,
        env={
            **os.environ,
            **local.environment,
            "YIQI_NATS_SEED": str(local.seed(service)),
            "YIQI_NOTICES": str(tmp_path),
            "YIQI_PORT": "0",
        },
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode not in (0, -9)
    output = done.stdout + done.stderr
    assert {n for n in lines if f"第{n}行" in output} == lines, output[-3000:]
    assert "broken.yaml" in output


def test_no_log_holds_what_was_filed(local: Local) -> None:
    """Last in the module: everything above has been through these logs."""
    logs = "".join((local.directory / f"{name}.log").read_text() for name in local.names)
    assert logs.count("\n") >= len(local.names)
    for private in ("83726619", "flow.example", "张三", "119059997"):
        assert private not in logs
    assert local.restarts == 0
    assert all(process.poll() is None for process in local.running.values())
