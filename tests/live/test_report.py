"""`yiqi report` beside a small round that was really filed, returned, refused and published by the services.

Each number is compared with what the tables say, asked in another way; no picture says who filed what.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import pytest
from sqlalchemy.exc import DBAPIError

from services.cli import common
from services.cli.demo import papers
from services.cli.filing import file_package, publish
from services.cli.local import Local
from services.cli.report import counts
from shared.contracts import registry
from shared.contracts.case import DecisionMade, Fix
from shared.contracts.submission import Filer, SubmissionFiled
from shared.notices.directory import Directory, unlisted
from shared.notices.load import load_all
from shared.runtime.embedded import wait_until

NOTICE = "gz-collection-2025q1"
CITY, DISTRICT, OTHER = "440100", "440106", "440103"
DURING = datetime(2025, 3, 5, 2, 0, tzinfo=UTC)
CASES = f"""(select * from review."case" where notice = '{NOTICE}') as cases"""
"""Of this notice: another one brings its own."""
PERSON, PHONE, MAILBOX, FIRM = "欧阳试验", "13800138000", "who@pictures.example", "图示试验机构"


def lecture(name: str, **more: Any) -> dict[str, Any]:
    return {
        "service_domain": "法律服务",
        "organizer": FIRM,
        "activity_name": name,
        "activity_time": "2025年6月10日",
        "venue": "线上",
        "content": "讲解合同风险",
        "participants": "约100人",
        "contact": f"{PERSON} {PHONE}",
        **more,
    }


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    here = Local(
        tmp_path_factory.mktemp("report"), sync_always=False, mail=False, services=("intake", "review")
    )
    here.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    with here:
        round_(here)
        yield here


def sql(local: Local, query: str) -> list[list[str]]:
    return [line.split("|", 1) for line in local.postgres.sql(query, "yiqi").splitlines()]


def round_(local: Local) -> None:
    """Five events and a workbook of three rows, one of them wrong."""
    who = unlisted(FIRM)
    firm = Filer(code=who.code, kind="K6", name=FIRM, email=MAILBOX)
    names = ("一", "二", "三", "四", "五")
    cases = [
        UUID(
            said(
                local,
                who.code,
                registry.SUBMISSION_FILED,
                SubmissionFiled(
                    notice=NOTICE,
                    form="F3",
                    filer=firm,
                    values=lecture(f"讲座{n}", service_domain=domain),
                    recommender=DISTRICT,
                    direction=direction,
                ),
            )["case"]
        )
        for n, domain, direction in zip(
            names,
            ("法律服务", "法律服务", "引才育才", "引才育才", "市场拓展（出海服务）"),
            ("D05", "D05", "D03", "D03", "D02"),
            strict=True,
        )
    ]
    district = Directory.load().by_code[OTHER]
    rows = tuple(tuple(lecture(name, **more).values()) for name, more in (
        ("课堂一", {}), ("课堂二", {"service_domain": "引才育才"}), ("课堂三", {"contact": f"{PERSON} 12"})
    ))  # fmt: skip
    book = papers.Book("附件3.xlsx", (papers.Table("F3", rows),))
    asyncio.run(package(local, district.code, district.name, papers.workbook(book, load_all()[NOTICE])))
    wait_until(lambda: len(sql(local, f"select 1 from {CASES}")) == 7, 30, "seven cases")
    for case in cases[:4]:
        decide(local, case, "recommend", DISTRICT)
    decide(local, cases[4], "return", DISTRICT, fixes=(Fix(field="content", detail="写明步骤"),))
    decide(local, cases[0], "accept", CITY)
    decide(local, cases[1], "return", CITY, fixes=(Fix(field="content", detail="写明步骤"),))
    decide(local, cases[2], "reject", CITY)
    decide(local, cases[0], "select", CITY)
    decide(local, cases[0], "publish", CITY)


async def package(local: Local, code: str, name: str, workbook: bytes) -> None:
    client = await local.connect(code)
    try:
        answer = await file_package(
            NOTICE,
            Filer(code=code, kind="K2", name=name),
            [
                ("附件3.xlsx", "workbook", workbook),
                ("盖章扫描件.pdf", "scan", papers.scan(name, "2025年3月5日")),
            ],
            client=client,
        )
    finally:
        await client.close()
    assert "accepted" in answer, answer


def said(local: Local, who: str, type_: registry.EventType, data: Any) -> dict[str, Any]:
    async def asked() -> dict[str, Any]:
        client = await local.connect(who)
        try:
            return await publish(client, who, type_, data, data.model_dump_json())
        finally:
            await client.close()

    answer = asyncio.run(asked())
    assert "accepted" in answer, answer
    return answer


def decide(local: Local, case: UUID, outcome: str, who: str, **more: Any) -> None:
    def now() -> tuple[int, list[dict[str, Any]]]:
        ((version, findings),) = sql(
            local, f"""select version, findings from review."case" where "case" = '{case}'"""
        )
        return int(version), json.loads(findings)

    before, findings = now()
    noted = tuple({f["rule"] for f in findings if f["severity"] == "soft"}) if outcome == "accept" else ()
    data = DecisionMade(case=case, outcome=outcome, reason="理由", acknowledges=noted, **more)
    said(local, who, registry.DECISION_MADE, data)
    wait_until(lambda: now()[0] > before, 15, outcome)


def yiqi(local: Local, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from services.cli import main; main()", *arguments],
        env={**{k: v for k, v in os.environ.items() if not k.startswith("YIQI_")}, **local.environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def told(local: Local, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("pictures")
    formats = [word for f in ("svg", "png", "html") for word in ("--format", f)]
    out = yiqi(local, "report", "all", "--notice", NOTICE, "--out", str(folder), *formats, "--json")
    return json.loads(out), folder


def test_the_funnel_is_what_the_tables_say(local: Local, told: tuple[dict[str, Any], Path]) -> None:
    ((rows, accepted),) = sql(local, "select sum(rows), sum(accepted) from intake.package")
    cases = len(sql(local, f"select 1 from intake.submission where notice = '{NOTICE}'"))
    assert (rows, accepted, cases) == ("3", "2", 7)

    def reached(*stages: str) -> int:
        named = ", ".join(f"'{s}'" for s in stages)
        return len(
            sql(
                local,
                f'select distinct "case" from review.history join {CASES} using ("case") where history.stage in ({named})',
            )
        )

    def stand(*stages: str) -> int:
        named = ", ".join(f"'{s}'" for s in stages)
        return len(sql(local, f"select 1 from {CASES} where stage in ({named})"))

    later = ("selection", "publication", "published", "not_selected")
    wanted = [
        ("报送", cases + 1, 0, 0, 1),
        ("受理", cases, stand("recommendation", "correction_for_recommender"), 1, 0),
        ("进入形式审查", reached("formal_check", *later), stand("formal_check", "correction"), 1, 1),
        ("进入择优遴选", reached(*later), 0, 0, 0),
        ("进入发布推介", reached("publication"), 0, 0, 0),
        ("已发布", stand("published"), 0, 0, 0),
    ]
    assert [tuple(row.values()) for row in told[0]["round"]] == wanted
    assert [row["到过"] for row in told[0]["round"]] == [8, 7, 6, 1, 1, 1]


def test_districts_and_dates_are_what_the_tables_say(local: Local, told: tuple[dict[str, Any], Path]) -> None:
    by_district = dict(sql(local, f"select district, count(*) from {CASES} group by district"))
    names = {a.short: a.district for a in Directory.load().of_kind("K2")}
    found = {names[row["区"]]: row["受理"] for row in told[0]["districts"]}
    assert {d: str(n) for d, n in found.items() if n} == by_district
    assert len(found) == 11
    assert sum(row["已列入或已发布"] for row in told[0]["districts"]) == 1
    due = sql(local, f"select due, count(*) from {CASES} where due is not null group by due order by due")
    waiting = [row for row in told[0]["ahead"] if row["类别"] == "办理期限"]
    assert sum(row["项目"] for row in waiting) == sum(int(n) for _, n in due) == 2
    assert sorted({row["日期"] for row in waiting}) == [day for day, _ in due]
    assert ("2025-03-07", "报送截止", "还有2天") in {
        (row["日期"], row["事项"], row["还有"]) for row in told[0]["ahead"]
    }


def test_the_pictures_are_there_and_say_the_same(told: tuple[dict[str, Any], Path]) -> None:
    figures, folder = told
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [
            *(f"{name}.{ext}" for name in ("round", "districts", "ahead") for ext in ("svg", "png")),
            "report.html",
        ]
    )
    root = ElementTree.fromstring((folder / "round.svg").read_text())  # noqa: S314  # our own picture
    written = {"".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {f"{row['步骤']}　{row['到过']}" for row in figures["round"]} <= written


def test_no_personal_data_and_no_applicant_is_in_any_of_it(
    local: Local, told: tuple[dict[str, Any], Path]
) -> None:
    """The negative control: the tables have them."""
    private = (PERSON, PHONE, MAILBOX, FIRM, "讲座一", "课堂一", unlisted(FIRM).code)
    kept = local.postgres.sql(
        "select string_agg(c.\"values\"::text || k.\"values\"::text || coalesce(k.email, '') || c.filer::text, '') "
        'from review."case" c join review.contact k using ("case")',
        "yiqi",
    )
    assert all(word in kept for word in private if word != PHONE)
    figures, folder = told
    everything = json.dumps(figures, ensure_ascii=False) + "".join(
        p.read_text(encoding="utf-8") for p in folder.iterdir() if p.suffix != ".png"
    )
    assert [word for word in private if word in everything] == []


def test_the_figures_are_read_by_whoever_may_not_see_personal_data_and_changes_nothing(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy import text

    for name, value in local.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(local.directory)
    common.settings.cache_clear()

    async def run(statement: str) -> Any:
        async with counts.reading() as conn:
            return (await conn.execute(text(statement))).scalar()

    try:
        assert asyncio.run(run("select current_user")) == "yiqi_reader"
        with pytest.raises(DBAPIError, match="permission denied"):
            asyncio.run(run("select email from review.contact"))
        with pytest.raises(DBAPIError, match=r"read-only transaction|permission denied"):
            asyncio.run(run('update review."case" set late = true'))
    finally:
        common.settings.cache_clear()


def test_in_a_terminal_it_is_a_table(local: Local) -> None:
    out = yiqi(local, "report", "round", "--notice", NOTICE)
    assert "截至2025年3月5日" in out
    rows = [[cell.strip() for cell in line.split("│")] for line in out.splitlines() if "│" in line]
    assert [row[:2] for row in rows] == [
        ["报送", "8"],
        ["受理", "7"],
        ["进入形式审查", "6"],
        ["进入择优遴选", "1"],
        ["进入发布推介", "1"],
        ["已发布", "1"],
    ]
