"""Intake's side of what is told of titles, by two real processes: reports find their case, the items that a notice brings
are opened once, an application that went to the wrong district keeps its number."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from nats.aio.client import Client

from services.cli.filing import file_package, publish
from services.cli.local import Local
from shared.contracts import registry
from shared.contracts.case import CaseReturned
from shared.contracts.submission import Filer, SubmissionFiled
from shared.contracts.types import FileRef, Party
from shared.notices.directory import Directory, unlisted
from shared.notices.load import load_all
from shared.runtime.embedded import wait_until
from shared.runtime.files import send
from shared.runtime.streams import EVT
from tests.scans import pdf
from tests.unit.test_card_layouts import application
from tests.unit.test_stations import APPLICATION, PAPERS, YEAR

STATIONS = "gz-stations-2019"
TIANHE, YUEXIU = "440106", "440104"
DURING = datetime(2019, 6, 10, 2, tzinfo=UTC)
DIRECTORY = Directory.load()
SCAN = pdf()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    here = Local(
        tmp_path_factory.mktemp("reports"),
        processes=2,
        sync_always=False,
        mail=False,
        services=("intake",),
    )
    here.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    with here:
        yield here


def filer(name: str) -> Filer:
    agency = DIRECTORY.find(name)
    if agency:
        return Filer(code=agency.code, kind=agency.kind, name=agency.name)
    return Filer(code=unlisted(name).code, kind="K6", name=name)


async def asked(
    client: Client, who: Filer, form: str, values: dict[str, Any], notice: str = STATIONS, **more: Any
) -> dict[str, Any]:
    data = SubmissionFiled(notice=notice, form=form, filer=who, values=values, **more)
    return await publish(client, who.code, registry.SUBMISSION_FILED, data, str(uuid4()))


def ask(
    local: Local,
    name: str,
    form: str,
    values: dict[str, Any],
    papers: tuple[str, ...] = (),
    **more: Any,
) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        who = filer(name)
        client = await local.connect(who.code)
        try:
            sha256 = await send(client, who.code, SCAN)
            files = tuple(
                FileRef(role="scan", sha256=sha256, size=len(SCAN), name="扫描件.pdf", material=p)
                for p in papers
            )
            return await asked(client, who, form, values, files=files, **more)
        finally:
            await client.close()

    return asyncio.run(run())


def applied(local: Local, name: str, to: str = TIANHE, **more: Any) -> dict[str, Any]:
    return ask(
        local, name, "F12", {**APPLICATION, "station_name": f"{name}服务站"}, PAPERS, recommender=to, **more
    )


def events(local: Local, name: str = "submission.accepted") -> list[dict[str, Any]]:
    """What was said, in the order of the stream."""

    async def read() -> list[dict[str, Any]]:
        client = await local.connect()
        js = client.jetstream()
        last = (await js.stream_info(EVT)).state.last_seq
        found = [json.loads((await js.get_msg(EVT, n)).data or b"") for n in range(1, last + 1)]
        await client.close()
        return found

    return [e for e in asyncio.run(read()) if name in e["type"]]


def accepted(local: Local, number: str) -> list[dict[str, Any]]:
    wait_until(lambda: any(e["data"]["number"] == number for e in events(local)), 15, "the event")
    return [e["data"] for e in events(local) if e["data"]["number"] == number]


def returned(local: Local, answer: dict[str, Any], name: str) -> None:
    """What review says when a district finds that it is the wrong one."""
    who = filer(name)
    told = CaseReturned(
        case=answer["case"],
        number=answer["number"],
        version=2,
        notice=STATIONS,
        form="F12",
        stage="misdirected_filing",
        outcome="misdirected",
        actor=TIANHE,
        filer=Party(code=who.code, kind=who.kind, name=who.name),
        unit=TIANHE,
        district=TIANHE,
        title=f"{name}服务站",
        late=False,
    )

    async def say() -> None:
        client = await local.connect("review")
        _, body = registry.CASE_RETURNED.wire(told, answer["case"], 2, at=datetime.now(UTC))
        await client.jetstream().publish(registry.CASE_RETURNED.subject(TIANHE), body, stream=EVT)
        await client.close()

    asyncio.run(say())
    wait_until(
        lambda: (
            rows(local, f"select state from intake.submission where number = '{answer['number']}'")
            == ["returned"]
        ),
        15,
        "the return",
    )


def rows(local: Local, sql: str) -> list[str]:
    return local.postgres.sql(sql, "yiqi").split()


def test_given_items_are_opened_once_by_two_processes_and_again_by_none(local: Local) -> None:
    def given() -> list[dict[str, Any]]:
        return [e for e in events(local) if e["data"]["form"] == "F15-2"]

    wait_until(lambda: len(given()) == 12, 20, "the given items")
    names = {g.values["cluster_name"] for g in load_all()["gz-clusters"].notice.given}
    assert {e["data"]["title"] for e in given()} == names
    assert {e["data"]["filer"]["code"] for e in given()} == {"440100"}
    assert {e["subject"] for e in given()} == {e["data"]["number"] for e in given()}
    count = "select count(*) from intake.submission where form = 'F15-2'"
    assert rows(local, count) == ["12"]
    # Both start anew, and one item is missing: that one is opened again, under the ids that it had.
    before = {e["id"] for e in given()}
    for name in ("intake", "intake-2"):
        local.kill(name)
    rows(local, "delete from intake.submission where title = '智能家居产业集群'")
    for name in ("intake", "intake-2"):
        local.launch(name)
    local.ready()
    wait_until(lambda: rows(local, count) == ["12"], 15, "the missing item")
    assert rows(local, "select distinct revision from intake.submission where form = 'F15-2'") == ["1"]
    assert {e["id"] for e in given()} == before
    assert len(before) == 12


def test_a_report_finds_its_case_by_number_and_by_name(local: Local) -> None:
    station = applied(local, "示例机构一")
    assert "accepted" in station, station
    by_number = ask(local, "示例机构一", "F12-2", {**YEAR, "station": station["number"].lower()})
    assert by_number["number"].startswith("F12-2-")
    assert by_number["case"] != station["case"]
    (said,) = accepted(local, by_number["number"])
    assert (said["about"], said["period"], said["district"]) == (station["case"], "2019", TIANHE)
    # The same year again, by name, and again by the district: one report, filed three times.
    other = {**YEAR, "station": "示例机构一 服务站", "summary": "改过的总结"}
    assert ask(local, "示例机构一", "F12-2", other)["number"] == by_number["number"]
    other["summary"] = "区里代改的总结"
    assert ask(local, TIANHE, "F12-2", other)["number"] == by_number["number"]
    wait_until(lambda: len(accepted(local, by_number["number"])) == 3, 15, "the later filings")
    told = accepted(local, by_number["number"])
    assert [(e["about"], e["revision"]) for e in told] == [(station["case"], n) for n in (1, 2, 3)]
    # Named by the event instead of a column, a quarter is a report of its own.
    quarter = {
        "station": "—",
        "report_year": 2019,
        "report_quarter": "3",
        "industries": "情况",
        "demands": "需求",
    }
    third = ask(local, TIANHE, "F12-3", quarter, case=station["case"])
    (said,) = accepted(local, third["number"])
    assert (said["about"], said["period"], said["filer"]["code"]) == (station["case"], "2019-3", TIANHE)


def test_a_report_on_nothing_or_on_another_s_station_is_refused(local: Local) -> None:
    unknown = ask(local, "示例机构二", "F12-2", {**YEAR, "station": "没有这样的服务站"})
    assert [(e["code"], e["pointer"]) for e in unknown["errors"]] == [
        ("report.unknown", "#/data/values/station")
    ]
    station = applied(local, "示例机构三")
    for who in ("示例机构二", YUEXIU):
        foreign = ask(local, who, "F12-2", {**YEAR, "station": station["number"]})
        assert [(e["rule"], e["code"]) for e in foreign["errors"]] == [("R-GEN-011", "case.foreign")]
    assert "accepted" in ask(local, TIANHE, "F12-2", {**YEAR, "station": station["number"]})


def test_a_report_on_a_case_that_has_ended_is_accepted(local: Local) -> None:
    station = applied(local, "示例机构四")
    rows(local, f"update intake.submission set state = 'closed' where number = '{station['number']}'")
    again = applied(local, "示例机构四")
    assert [(e["rule"], e["code"]) for e in again["errors"]] == [("case", "case.ended")]
    answer = ask(local, "示例机构四", "F12-2", {**YEAR, "station": station["number"]})
    assert "accepted" in answer, answer


def test_a_misdirected_application_keeps_its_number(local: Local) -> None:
    first = applied(local, "示例机构五")
    early = applied(local, "示例机构五", YUEXIU)
    assert [e["code"] for e in early["errors"] if e["severity"] == "hard"] == ["case.elsewhere"]
    returned(local, first, "示例机构五")
    second = applied(local, "示例机构五", YUEXIU)  # word for word the same, to another district
    assert second["number"] == first["number"]
    wait_until(lambda: len(accepted(local, first["number"])) == 2, 15, "the second filing")
    one, two = accepted(local, first["number"])
    assert (one["recommender"], one["district"], two["recommender"], two["district"]) == (
        TIANHE,
        TIANHE,
        YUEXIU,
        YUEXIU,
    )
    assert (two["case"], two["revision"], two["unit"]) == (one["case"], 2, YUEXIU)
    sql = f"select unit || recommender || district || state from intake.submission where number = '{first['number']}'"
    assert rows(local, sql) == [YUEXIU * 3 + "open"]
    # Who it is with may tell of it; who it was with no longer.
    assert "accepted" in ask(local, YUEXIU, "F12-2", {**YEAR, "station": first["number"]})
    assert "rejected" in ask(
        local, TIANHE, "F12-2", {**YEAR, "station": first["number"], "report_year": 2020}
    )


def test_without_its_district_or_its_papers_an_application_is_refused(local: Local) -> None:
    values = {**APPLICATION, "station_name": "示例机构六服务站"}
    alone = ask(local, "示例机构六", "F12", values, PAPERS)
    assert [e["code"] for e in alone["errors"] if e["severity"] == "hard"] == ["route"]
    bare = ask(local, "示例机构六", "F12", values, ("licence", "x"), recommender=TIANHE)
    assert {e["code"] for e in bare["errors"]} == {
        "material.unknown", "R-STA-022", "R-STA-023", "R-STA-024", "R-STA-025",
    }  # fmt: skip


def test_in_a_package_the_names_of_the_scans_say_what_they_are(local: Local) -> None:
    names = ("营业执照.pdf", "学历证书.pdf", "租赁合同.pdf", "2018年财务报表.pdf", "相关服务照片.pdf")

    async def run(names: tuple[str, ...]) -> dict[str, Any]:
        client = await local.connect(filer("示例机构七").code)
        contents = [("申请表.docx", "workbook", application())]
        contents += [(name, "scan", pdf(say=name)) for name in names]
        try:
            return await file_package(STATIONS, filer("示例机构七"), contents, TIANHE, client=client)
        finally:
            await client.close()

    lacking = asyncio.run(run(names[1:]))
    assert [(e["code"], e["severity"]) for e in lacking["errors"] if e["severity"] == "hard"] == [
        ("R-STA-021", "hard")
    ]
    assert "accepted" in asyncio.run(run(names))
