"""The stations' notice of 2019 as data: every rule that a machine judges, from both sides; its procedure, its dates, and
that a later round is a file alone. Vectors T-STA-01…11 of spec §15.3 are named beside the rows that try them."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.intake import parse, workbook
from services.intake.card_template import card_template
from services.intake.parse import Filing, Judged
from services.intake.sheets import RawRow
from services.notify import owed
from services.notify.reminders import concerns
from services.notify.templates import LETTERS
from shared.contracts.submission import Filer
from shared.contracts.types import FileRef, Kind
from shared.notices.calendar import SHANGHAI
from shared.notices.coverage import register
from shared.notices.directory import Directory
from shared.notices.load import CompiledNotice, load
from shared.notices.model import Notice
from shared.notices.procedure import NotAllowed, start, step, who_acts
from shared.notices.rules import Facts
from shared.notices.stages import CLOCK

ROOT = Path(__file__).parents[2]
STATIONS = load(ROOT / "shared/notices/data/gz-stations-2019.yaml")
LATER = load(ROOT / "tests/examples/gz-stations-2026.yaml")
NOTICE = STATIONS.notice
DIRECTORY = Directory.load()
TIANHE, YUEXIU, CITY, HEAD = "440106", "440104", "440100", "cyyqsh"
IN_TIME = datetime(2019, 6, 10, 10, tzinfo=SHANGHAI)

PAPERS = ("licence", "staff_evidence", "premises", "statements_2018", "service_evidence")
APPLICATION: dict[str, Any] = {
    "operator_name": "某商会",
    "office_address": "天河区某路1号",
    "operator_type": "商协会",
    "target_industry": "电子信息",
    "registered_on": "2017-12-31",
    "legal_nature": "社会团体法人",
    "legal_rep": "张三",
    "registered_address": "广州市天河区某路1号",
    "postcode": "510630",
    "contact_name": "李四",
    "contact_phones": ["020-83726619", "13800138000"],
    "contact_email": "a@example.cn",
    "enterprises_served": 120,
    "revenue_wan_y1": "100",
    "service_revenue_wan_y1": "80.5",
    "total_assets_wan_y1": "1000",
    "total_profit_wan_y1": "-3",
    "taxes_wan_y1": "2",
    "smes_served_y1": 30,
    "revenue_wan_y2": "100",
    "service_revenue_wan_y2": "100",
    "total_assets_wan_y2": "1000",
    "total_profit_wan_y2": "5",
    "taxes_wan_y2": "3",
    "smes_served_y2": 40,
    "station_name": "某商会服务站",
    "staff_fulltime": 3,
    "staff_qualified": 2,
    "staff_parttime": 0,
    "area_m2": "80",
    "location": "天河区某路1号二楼",
    "head_name": "王五",
    "head_phones": ["020-83726618", "13800138001"],
    "head_email": "b@example.cn",
    "head_education": "本科",
}
RESIDENT = {
    "institution_name": "某事务所",
    "uscc": "51440100MJ01234562",
    "station": "某商会服务站",
    "service_scope": "法律服务",
    "contact": "张三 83726619",
}
HEAD_RECORD = {
    "head_station": "广州市中小企业服务总站",
    "recorded_on": "2019-06-01",
    "premises": "广州市产业园区商会",
    "sign": "广州市中小企业服务总站",
    "staff_fulltime": 3,
    "contact": "张三 83726619",
}
YEAR = {
    "station": "F12-7K3M9QXA",
    "report_year": "2019年",
    "activities": "12场",
    "enterprises_served": 300,
    "summary": "总结",
    "next_plan": "计划",
}
QUARTER = {
    "station": "某商会服务站",
    "report_year": 2019,
    "report_quarter": "第三季度",
    "industries": "情况",
    "demands": "需求",
}
ROWS = {"F12": APPLICATION, "F12-5": RESIDENT, "F12-6": HEAD_RECORD, "F12-2": YEAR, "F12-3": QUARTER}


def filing(
    district: str = TIANHE,
    at: datetime = IN_TIME,
    *,
    code: str = "k6-1",
    recommender: str | None = "",
    papers: tuple[str, ...] = PAPERS,
    compiled: CompiledNotice = STATIONS,
) -> Filing:
    """An institution that asks the department of a district; the head station files for itself."""
    agency = DIRECTORY.find(code)
    filer = Filer(code=code, kind=agency.kind if agency else "K6", name=agency.name if agency else "某商会")
    by = DIRECTORY.find(recommender or district) if recommender is not None and not agency else None
    department = DIRECTORY.find(district)
    assert department
    return Filing(compiled, filer, by, district, at, None, department.short, papers)


def judged(form: str, change: dict[str, Any], by: Filing) -> Judged:
    row = parse.judge(by, form, {**ROWS[form], **change})
    parse.examine(by, row, Facts())
    return row


def broken(form: str, change: dict[str, Any], by: Filing) -> dict[str, str]:
    return {f.rule: f.severity for f in judged(form, change, by).findings}


def without(*papers: str) -> Filing:
    return filing(papers=tuple(p for p in PAPERS if p not in papers))


def test_a_sound_application_has_nothing_to_be_said_of_it() -> None:
    row = judged("F12", {}, filing())
    assert row.findings == []
    assert row.row.stored is not None
    assert row.row.stored["head_education"] == "大专、本科"  # AMB-10


# --- what a row says -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "form", "change", "expected"),
    [
        pytest.param("R-STA-002", "F12", {}, "met"),
        pytest.param("R-STA-002", "F12", {"legal_nature": "有限责任公司"}, "met"),
        pytest.param("R-STA-002", "F12", {"legal_nature": "个体工商户"}, "broken", id="T-STA-09"),
        pytest.param("R-STA-002", "F12", {"legal_nature": "某有限公司分公司"}, "broken", id="T-STA-09b"),
        pytest.param("R-STA-002", "F12", {"legal_nature": "合伙企业"}, "broken"),
        pytest.param("R-STA-003", "F12", {"registered_on": "2017年12月31日"}, "met", id="T-STA-01-pass"),
        pytest.param("R-STA-003", "F12", {"registered_on": "2018年1月1日"}, "broken", id="T-STA-01-fail"),
        pytest.param("R-STA-003a", "F12", {"registered_address": "天河区某路1号"}, "met"),
        pytest.param("R-STA-003a", "F12", {"registered_address": "佛山市某路1号"}, "broken"),
        pytest.param("R-STA-003a", "F12", {"registered_address": "贵阳市白云区某路1号"}, "broken"),
        pytest.param("R-STA-005", "F12", {"area_m2": "0.5"}, "met"),
        pytest.param("R-STA-005", "F12", {"area_m2": "0"}, "broken"),
        pytest.param("R-STA-006", "F12", {"staff_fulltime": 1, "staff_qualified": 1}, "met"),
        pytest.param("R-STA-006", "F12", {"staff_fulltime": 3}, "met"),
        pytest.param("R-STA-006", "F12", {"staff_fulltime": 0, "staff_qualified": 0}, "broken"),
        pytest.param("R-STA-006", "F12", {"staff_fulltime": 4}, "broken"),
        pytest.param("R-STA-006a", "F12", {"staff_qualified": 3}, "met"),
        pytest.param("R-STA-006a", "F12", {"staff_qualified": 4}, "broken"),
        pytest.param("R-STA-010", "F12-6", {"staff_fulltime": 1}, "broken", id="T-STA-03-1"),
        pytest.param("R-STA-010", "F12-6", {"staff_fulltime": 2}, "met", id="T-STA-03-2"),
        pytest.param("R-STA-010", "F12-6", {"staff_fulltime": 4}, "met", id="T-STA-03-4"),
        pytest.param("R-STA-010", "F12-6", {"staff_fulltime": 5}, "broken", id="T-STA-03-5"),
        pytest.param("R-STA-010", "F12-6", {"premises": "某写字楼"}, "broken"),
        pytest.param("R-STA-010", "F12-6", {"sign": "服务总站"}, "broken"),
        pytest.param("R-STA-020a", "F12", {}, "met"),
        pytest.param(
            "R-STA-020a", "F12", {"revenue_wan_y1": "100", "service_revenue_wan_y1": "120"}, "broken", id="T-STA-07"
        ),
        pytest.param("R-STA-020a", "F12", {"service_revenue_wan_y2": "100.01"}, "broken", id="T-STA-07b"),
        pytest.param("R-STA-020b", "F12", {"operator_type": "软件园区", "park_opened": "2016年5月"}, "met"),
        pytest.param("R-STA-020b", "F12", {"operator_type": "软件园区"}, "broken"),
        pytest.param("R-STA-020c", "F12", {"head_phones": "83726618、13800138001"}, "met"),
        pytest.param("R-STA-020c", "F12", {"contact_phones": "13800138000"}, "broken"),
        pytest.param("R-STA-020c", "F12", {"head_phones": "83726618"}, "broken"),
        pytest.param("R-GEN-002", "F12-5", {}, "met"),
        pytest.param("R-GEN-002", "F12-5", {"uscc": "91110000600037341L"}, "broken"),
    ],
)  # fmt: skip
def test_a_rule_about_what_the_row_says(rule: str, form: str, change: dict[str, Any], expected: str) -> None:
    by = filing() if form == "F12" else filing(CITY, code=HEAD)
    found = broken(form, change, by)
    assert (rule in found) is (expected == "broken")
    assert {one for one in found if found[one] == "hard"} <= {rule}
    assert all(severity == NOTICE.by_rule[one].severity for one, severity in found.items())


@pytest.mark.parametrize(
    ("rule", "form", "code", "expected"),
    [
        ("R-GEN-011a", "F12-5", HEAD, "met"),
        ("R-GEN-011a", "F12-5", "k6-1", "broken"),
        ("R-STA-010", "F12-6", HEAD, "met"),
        ("R-STA-010", "F12-6", "k6-1", "broken"),
    ],
)
def test_what_only_the_head_station_files(rule: str, form: str, code: str, expected: str) -> None:
    assert (rule in broken(form, {}, filing(CITY, code=code, recommender=None))) is (expected == "broken")


@pytest.mark.parametrize(
    ("rule", "change", "named", "expected"),
    [
        ("R-STA-020", {}, "F12.01", "met"),
        ("R-STA-020", {"operator_name": ""}, "F12.01", "broken"),
        ("R-STA-020", {"revenue_wan_y2": ""}, "F12.16", "broken"),
        ("R-STA-020", {"head_education": "博士后"}, "F12.31", "broken"),
        ("R-GEN-005", {"postcode": "５１０６３０"}, "R-GEN-005", "met"),
        ("R-GEN-005", {"postcode": "51063"}, "R-GEN-005", "broken"),
    ],
)
def test_a_rule_of_the_form(rule: str, change: dict[str, Any], named: str, expected: str) -> None:
    assert (named in broken("F12", change, filing())) is (expected == "broken")
    assert NOTICE.by_rule[rule].enforced_by == "form"


# --- what came with it, and where it went ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "papers", "expected"),
    [
        pytest.param("R-STA-021", PAPERS, "met"),
        pytest.param("R-STA-021", tuple(p for p in PAPERS if p != "licence"), "broken"),
        pytest.param("R-STA-022", PAPERS, "met"),
        pytest.param("R-STA-022", tuple(p for p in PAPERS if p != "staff_evidence"), "broken"),
        pytest.param("R-STA-023", PAPERS, "met"),
        pytest.param("R-STA-023", tuple(p for p in PAPERS if p != "premises"), "broken"),
        pytest.param("R-STA-024", PAPERS, "met"),
        pytest.param("R-STA-024", (*PAPERS[:3], "statements_2019", PAPERS[4]), "met", id="T-STA-05"),
        pytest.param("R-STA-024", (*PAPERS[:3], PAPERS[4]), "broken", id="T-STA-06"),
        pytest.param("R-STA-025", PAPERS, "met"),
        pytest.param("R-STA-025", PAPERS[:4], "broken"),
    ],
)
def test_a_paper_that_is_missing(rule: str, papers: tuple[str, ...], expected: str) -> None:
    assert broken("F12", {}, filing(papers=papers)) == ({rule: "hard"} if expected == "broken" else {})


@pytest.mark.parametrize(
    ("rule", "district", "recommender", "address", "expected"),
    [
        ("R-STA-030", TIANHE, TIANHE, "广州市天河区某路1号", "met"),
        ("R-STA-030", TIANHE, "gsl", "广州市天河区某路1号", "broken"),
        ("R-STA-030a", TIANHE, TIANHE, "广州市天河区某路1号", "met"),
        ("R-STA-030a", TIANHE, TIANHE, "广州市某路1号", "met"),
        ("R-STA-030a", TIANHE, TIANHE, "广州市天河区越秀区路1号", "met"),
        ("R-STA-030a", TIANHE, TIANHE, "广州市越秀区某路1号", "broken"),
        ("R-STA-030a", YUEXIU, YUEXIU, "广州市天河区某路1号", "broken"),
    ],
)
def test_the_district_of_the_registered_address(
    rule: str, district: str, recommender: str, address: str, expected: str
) -> None:
    found = broken("F12", {"registered_address": address}, filing(district, recommender=recommender))
    assert found == ({rule: NOTICE.by_rule[rule].severity} if expected == "broken" else {})


@pytest.mark.parametrize(
    ("rule", "forms", "scan", "editable", "expected"),
    [
        ("R-STA-030b", ["F12"], True, True, "met"),
        ("R-STA-030b", ["F12"], False, True, "broken"),
        ("R-STA-030b", ["F12"], True, False, "broken"),
        ("R-STA-030b", ["F12-2"], False, True, "met"),
    ],
)
def test_an_application_comes_as_a_scan_and_as_an_editable_file(
    rule: str, forms: list[str], scan: bool, editable: bool, expected: str
) -> None:
    known = {"filed.forms": forms, "facts.has_scan": scan, "facts.has_editable": editable}
    found = STATIONS.rules.package_findings(filing().names(), known, date(2019, 6, 1), tallied=False)
    assert [f.rule for f in found] == ([rule] if expected == "broken" else [])


def test_offline_nothing_is_said_of_papers_and_ways_that_a_workbook_cannot_show() -> None:
    by = replace(filing(papers=()), by=None, district_name="")
    (sheet,) = workbook.read(card_template(STATIONS.forms["F12"], NOTICE), "申请表.xlsx", STATIONS)
    sheet.rows.append(RawRow(1, APPLICATION, {}))
    assert [
        f for f in parse.offline(by, [sheet])[0].findings if f.severity == "hard" and f.rule != "F12"
    ] == []


# --- dates -----------------------------------------------------------------------------------------------

HOUR = datetime(2019, 6, 18, 17, tzinfo=SHANGHAI)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("district", "at", "late"),
    [
        (TIANHE, HOUR - SECOND, None),
        (TIANHE, HOUR, None),
        (TIANHE, HOUR + timedelta(microseconds=1), ("R-STA-032", "hard")),
        (TIANHE, HOUR + SECOND, ("R-STA-032", "hard")),
        (YUEXIU, HOUR + SECOND, None),
        (YUEXIU, datetime(2019, 6, 21, 23, 59, 59, tzinfo=SHANGHAI), None),
        (YUEXIU, datetime(2019, 6, 22, tzinfo=SHANGHAI), ("R-STA-034a", "soft")),
    ],
)
def test_the_deadline_of_a_district_to_the_second(
    district: str, at: datetime, late: tuple[str, str] | None
) -> None:
    address = f"广州市{'天河' if district == TIANHE else '越秀'}区某路1号"
    row = judged("F12", {"registered_address": address}, filing(district, at))
    assert [(f.rule, f.severity) for f in row.findings] == ([late] if late else [])
    assert row.hard is (late is not None and late[1] == "hard")


def test_a_deadline_is_told_with_its_hour_where_one_is_printed() -> None:
    (found,) = judged("F12", {}, filing(at=HOUR + SECOND)).findings
    assert (found.code, found.clause) == ("late", "天河转发·一")
    assert found.detail == "报送时间已过截止时间2019年6月18日17时，逾期不予受理"
    address = {"registered_address": "广州市越秀区某路1号"}
    (found,) = judged("F12", address, filing(YUEXIU, datetime(2019, 6, 22, tzinfo=SHANGHAI))).findings
    assert found.detail == "报送时间已过截止日2019年6月21日，是否受理由主管部门决定"


def test_what_is_told_of_a_station_has_no_date_of_the_round() -> None:
    year_end = datetime(2019, 12, 30, tzinfo=SHANGHAI)
    for form in ("F12-2", "F12-3"):
        assert judged(form, {}, filing(at=year_end)).findings == []
    assert judged("F12-5", {}, filing(CITY, year_end, code=HEAD)).findings == []


def test_a_correction_cannot_be_late() -> None:
    row = parse.judge(filing(at=HOUR + SECOND), "F12", APPLICATION)
    row.correction = True
    parse.examine(filing(at=HOUR + SECOND), row, Facts())
    assert (row.findings, row.late) == ([], False)


def test_reminders_of_a_district_go_to_that_district_only() -> None:
    tianhe, general = NOTICE.by_deadline["DL-11"], NOTICE.by_deadline["DL-61"]
    of_tianhe, of_yuexiu = (
        DIRECTORY.by_code[TIANHE].model_copy(update={"kind": "K5", "district": d}) for d in (TIANHE, YUEXIU)
    )
    assert concerns(NOTICE, tianhe, of_tianhe)
    assert not concerns(NOTICE, tianhe, of_yuexiu)
    assert not concerns(NOTICE, tianhe, DIRECTORY.by_code[HEAD])
    assert not concerns(NOTICE, general, of_tianhe)  # its own date goes before
    assert concerns(NOTICE, general, of_yuexiu)
    assert concerns(NOTICE, general, DIRECTORY.by_code[HEAD])
    assert all(concerns(NOTICE, NOTICE.by_deadline["DL-12"], a) for a in DIRECTORY.of_kind("K2"))


def test_no_district_may_set_a_date_after_that_of_the_city() -> None:
    """R-STA-034: the file itself is refused."""
    moved = NOTICE.deadlines[0].model_copy(update={"on": date(2019, 6, 22)})
    wrong = NOTICE.model_copy(update={"deadlines": (moved, *NOTICE.deadlines[1:])})
    assert [why for _, why in wrong.crossed()] == ["报送截止日晚于推荐单位的截止日 DL-12（2019-06-21）"]
    assert list(NOTICE.crossed()) == []


# --- procedure -------------------------------------------------------------------------------------------


def walk(notice: Notice, stage: str, *steps: str) -> list[str]:
    passed = []
    for outcome in steps:
        one = step(notice, stage, outcome)
        passed.append(f"{who_acts(notice.procedure.by_id[stage], one)}:{outcome}")
        stage = one.to
    return [*passed, stage]


@pytest.mark.parametrize(
    ("form", "recommended", "stage"),
    [
        ("F12", True, "acceptance"),
        ("F12", False, None),
        ("F12-5", False, "resident"),
        ("F12-6", False, "head_record"),
        ("F12-2", False, None),
        ("F12-2", True, None),
    ],
)
def test_where_a_case_begins(form: str, recommended: bool, stage: str | None) -> None:
    found = start(NOTICE.procedure, form, recommended, {})
    assert (found.id if found else None) == stage


def test_the_way_of_an_application_and_who_acts_on_it() -> None:
    """R-STA-035, ST-STA-2…8."""
    assert walk(
        NOTICE, "acceptance", "accept", "recommend", "collate", "conclude", "approve", "publish", "sign"
    ) == [
        "recommender:accept",
        "recommender:recommend",
        "head:collate",
        "head:conclude",
        "city:approve",
        "city:publish",
        "filer:sign",
        "active",
    ]
    assert walk(NOTICE, "acceptance", "misdirected", "refile")[-1] == "acceptance"
    assert NOTICE.roles["head"].agency == HEAD
    stages = NOTICE.procedure.by_id
    assert [s.id for s in stages.values() if s.returned] == ["correction", "misdirected_filing"]
    assert stages["expert_review"].outcomes["conclude"].needs == ("panel",)
    # No validity, no public notice (ODD-17): no term ends a title.
    assert [s.id for s in stages.values() if s.within and s.within.then] == ["hearing"]
    assert not any(s.within and s.within.validity for s in stages.values())


def test_t_sta_11_the_head_station_proposes_an_exit_and_nobody_else() -> None:
    active = NOTICE.procedure.by_id["active"]
    assert {who_acts(active, one) for one in active.outcomes.values()} == {"head"}
    with pytest.raises(NotAllowed):
        step(NOTICE, "active", "revoke")
    ways = {s.id for s in NOTICE.procedure.stages for o in s.outcomes.values() if o.to == "revoked"}
    assert ways == {"ruling", "resident_ruling"}
    assert walk(NOTICE, "active", "propose_exit", "silent", "revoke") == [
        "head:propose_exit",
        f"{CLOCK}:silent",
        "city:revoke",
        "revoked",
    ]
    assert walk(NOTICE, "active", "propose_exit", "state", "keep")[-1] == "active"
    assert walk(NOTICE, "resident", "propose_exit", "revoke")[-1] == "revoked"


def test_grounds_have_no_threshold_and_the_list_is_open() -> None:
    """AMB-08: a score raises nothing by itself."""
    assert list(NOTICE.by_ground) == [f"R-STA-{n:03}" for n in range(40, 46)]
    assert {g.below for g in NOTICE.grounds} == {None}
    assert "等" in NOTICE.by_ground["R-STA-045"].name


def test_every_letter_that_the_procedure_names_exists() -> None:
    assert list(owed.crossed(NOTICE, LETTERS)) == []
    assert list(owed.crossed(LATER.notice, LETTERS)) == []


# --- the notice as a whole -------------------------------------------------------------------------------


def test_every_rule_of_the_register_is_in_the_notice() -> None:
    ids = {id_ for id_ in register() if id_.startswith("R-STA")}
    assert ids <= {*NOTICE.by_rule, *NOTICE.by_ground}


@pytest.mark.parametrize(
    ("kind", "forms"),
    [
        ("K1", set()),
        ("K2", {"F12-2", "F12-3", "F12-4"}),
        ("K5", {"F12", "F12-2", "F12-3", "F12-4", "F12-5", "F12-6"}),
        ("K6", {"F12", "F12-2", "F12-3", "F12-4"}),
    ],
)
def test_who_may_file_what(kind: Kind, forms: set[str]) -> None:
    assert {f.id for f in NOTICE.forms if NOTICE.may_file(f.id, kind)} == forms


def test_what_people_know_these_papers_by() -> None:
    """The unit of the last column of a table in 万元 is 户 (ODD-15); education overlaps (AMB-10)."""
    form = STATIONS.forms["F12"]
    assert form.columns["smes_served_y2"].unit == "户"
    assert form.columns["revenue_wan_y1"].header == "2017 营业收入"
    assert len(NOTICE.lists["operator_type"].values) == 9
    assert {"AMB-02", "AMB-08", "AMB-10", "AMB-16"} == NOTICE.assumptions.keys()
    assert DIRECTORY.resolve("广州市中小企业服务总站").code == NOTICE.roles["head"].agency


@pytest.mark.parametrize(
    ("form", "change", "period"),
    [
        ("F12-2", {}, "2019"),
        ("F12-3", {}, "2019-3"),
        ("F12-3", {"report_quarter": "4"}, "2019-4"),
        ("F12", {}, ""),
    ],
)
def test_the_time_that_a_report_is_about(form: str, change: dict[str, Any], period: str) -> None:
    assert judged(form, change, filing()).period == period


# --- a later round ---------------------------------------------------------------------------------------


def later(at: datetime, district: str = "440111", **change: Any) -> list[str]:
    by = filing(district, at, papers=(*PAPERS[:3], "statements_2026", PAPERS[4]), compiled=LATER)
    row = {**APPLICATION, "registered_address": "广州市", **change}
    found = parse.judge(by, "F12", row)
    parse.examine(by, found, Facts())
    return [f"{f.rule} {f.detail}" for f in found.findings]


def test_a_later_round_is_a_file_alone() -> None:
    at = datetime(2026, 6, 22, 12, 30, tzinfo=SHANGHAI)
    assert later(at, registered_on="2024-12-31") == []
    assert later(at + SECOND) == ["R-STA-032 报送时间已过截止时间2026年6月22日12时30分，逾期不予受理"]
    assert later(at + SECOND, TIANHE) == []  # the district that had an hour in 2019 has none
    (found,) = later(at, registered_on="2025-01-01")
    assert found.startswith("R-STA-003 申报（运营）主体须在2025-01-01前注册并运营")
    assert LATER.forms["F12"].columns["revenue_wan_y1"].header == "2024 营业收入"
    assert LATER.notice.title.startswith("（测试数据，非正式通知）")


TRIES: list[Callable[[], Filing]] = [lambda: without("licence"), lambda: filing(at=HOUR + SECOND)]


@pytest.mark.parametrize("by", TRIES)
def test_findings_repeat_nothing_personal(by: Callable[[], Filing]) -> None:
    for change in ({"contact_phones": "13800138000"}, {"legal_nature": "个体工商户"}, {"postcode": "1"}):
        for finding in judged("F12", change, by()).findings:
            assert not any(word in finding.detail for word in ("张三", "李四", "王五", "138001", "某路"))


@pytest.mark.parametrize("compiled", [STATIONS, LATER])
def test_a_missing_paper_is_told_with_the_words_that_a_file_name_may_have(compiled: CompiledNotice) -> None:
    """Every word that the sentence quotes is one by which a file is known."""
    notice = compiled.notice
    for rule in (r for r in notice.rules if r.holds and "item.materials" in r.holds):
        assert rule.says
        assert "--material" in rule.says
        for word in re.findall("“(.+?)”", rule.says):
            named = FileRef.model_validate(
                {"role": "scan", "sha256": "0" * 64, "size": 1, "name": f"{word}.pdf"}
            )
            (key,) = parse.materials_of(notice, [named], named=True)
            assert f"{key}=文件" in rule.says
