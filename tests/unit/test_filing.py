"""What intake adds to the rules of a notice: which case a row belongs to, by which way it comes, which papers came with
it, the items that a notice brings itself, and whose clause a fault of no notice quotes."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.intake import identity, parse
from services.intake.admission import admit
from services.intake.belonging import Fresh, belong, corrects, standing
from services.intake.findings import fault, in_words_of
from services.intake.given import faults, given_rows
from services.intake.parse import Filing, Judged
from shared.contracts.submission import Filer
from shared.contracts.types import FileRef, Finding
from shared.notices.calendar import SHANGHAI
from shared.notices.directory import Directory
from shared.notices.forms import Row as FormRow
from shared.notices.load import CompiledNotice, load_all
from shared.notices.model import Given

DIRECTORY = Directory.load()
NOTICES = load_all()
COLLECTION, STATIONS, CLUSTERS = (
    NOTICES[id_] for id_ in ("gz-collection-2025q1", "gz-stations-2019", "gz-clusters")
)
TIANHE, YUEXIU, HUANGPU, CITY = "440106", "440104", "440112", "440100"
AT = datetime(2019, 6, 10, 10, tzinfo=SHANGHAI)
APPLICANT, OTHER = "k6-1", "k6-2"


def filing(
    code: str = APPLICANT, recommender: str | None = TIANHE, compiled: CompiledNotice = STATIONS
) -> Filing:
    agency = DIRECTORY.find(code)
    filer = Filer(code=code, kind=agency.kind if agency else "K6", name=agency.name if agency else "某商会")
    by = DIRECTORY.find(recommender) if recommender else None
    district = parse.district_of(agency, by, CITY)
    return Filing(compiled, filer, by, district, AT)


STATION: dict[str, Any] = {
    "operator_name": "某商会", "office_address": "天河区", "operator_type": "商协会", "target_industry": "电子",
    "registered_on": "2017-12-31", "legal_nature": "社会团体", "legal_rep": "张三", "registered_address": "广州市",
    "postcode": "510630", "contact_name": "李四", "contact_phones": "83726619、13800138000",
    "contact_email": "a@b.cn", "enterprises_served": 1, "station_name": "某商会服务站", "staff_fulltime": 2,
    "staff_qualified": 1, "staff_parttime": 0, "area_m2": 80, "location": "某处", "head_name": "王五",
    "head_phones": "83726618、13800138001", "head_email": "b@b.cn", "head_education": "本科",
    **{f"{key}_{year}": "1" for year in ("y1", "y2") for key in (
        "revenue_wan", "service_revenue_wan", "total_assets_wan", "total_profit_wan", "taxes_wan", "smes_served")},
}  # fmt: skip
YEAR: dict[str, Any] = {
    "report_year": 2019,
    "activities": 1,
    "enterprises_served": 1,
    "summary": "总结",
    "next_plan": "计划",
}
RULES: dict[str, Any] = {"rules_title": "制度", "adopted_on": "2019-07-01", "content": "内容"}
POOL = {
    "cluster_name": "某产业集群", "district": "黄埔区", "leading_industry": "电子", "operator_org": "某中心",
}  # fmt: skip


def application(by: Filing | None = None, **change: Any) -> Judged:
    return parse.judge(by or filing(), "F12", {**STATION, **change})


def known(judged: Judged, by: Filing | None = None) -> Fresh:
    return Fresh.of(by or filing(), judged)


def report(station: str, by: Filing | None = None, form: str = "F12-2", **more: Any) -> Judged:
    values = YEAR if form == "F12-2" else RULES
    return parse.judge(by or filing(), form, {"station": station, **values}, **more)


def told(judged: Judged, *among: Fresh, by: Filing | None = None) -> Judged:
    by = by or filing()
    assert judged.row.stored is not None, judged.findings
    form = by.notice.notice.by_form[judged.form]
    named = identity.wanted(form, judged.row.stored, judged.row.title, judged.named)
    belong(by, judged, named, among)
    return judged


def codes(found: Iterable[Finding]) -> list[str]:
    return [f.code for f in found]


# --- which case it is ------------------------------------------------------------------------------------


def test_where_nothing_is_counted_an_item_is_its_filer_s_whoever_recommends_it() -> None:
    assert application(filing(recommender=TIANHE)).case == application(filing(recommender=YUEXIU)).case
    assert application(filing(APPLICANT)).case != application(filing(OTHER)).case
    assert application().case == identity.case_of("gz-stations-2019", "F12", APPLICANT, "某商会服务站")


def test_where_items_are_counted_the_recommender_s_are_its_own() -> None:
    row = {
        "institution_name": "某银行", "contact": "张三 83726619", "product_name": "某贷", "product_brief": "简介",
        "features": "快", "target_customers": "企业", "admission": "一年",
    }  # fmt: skip
    one, two = (parse.judge(filing(recommender=r, compiled=COLLECTION), "F5", row) for r in (TIANHE, YUEXIU))
    assert one.case == identity.case_of("gz-collection-2025q1", "F5", TIANHE, "某贷") != two.case


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("F12-7K3M9QXA", "F12-7K3M9QXA"),
        ("f12-7k3m9qxa", "F12-7K3M9QXA"),
        (" Ｆ12－7K3M 9QXA ", "F12-7K3M9QXA"),
        ("F15-1-7K3M9QXA", "F15-1-7K3M9QXA"),
        ("F12-7K3M9QX", None),
        ("F12-7K3M9QXI", None),  # no I among the digits
        ("某商会服务站", None),
    ],
)
def test_a_number_is_known_however_it_is_typed(text: str, number: str | None) -> None:
    assert identity.number_in(text) == number


def test_a_form_that_continues_another_has_its_case_and_its_number() -> None:
    pool = parse.judge(filing(HUANGPU, None, CLUSTERS), "F15-1", POOL)
    assert identity.base_of(CLUSTERS.notice, "F15") == "F15-1"
    assert pool.number.startswith("F15-1-")
    # Also the city's entry of one that has been recognised above may be of a cluster in the pool.
    assert identity.base_of(CLUSTERS.notice, "F15-2") == "F15-1"
    assert CLUSTERS.notice.behind("F15") == ["F15-2", "F15-1"]


@dataclass
class Row:
    """A stored item, as far as it matters to one that is filed again."""

    filer: str = APPLICANT
    notice: str = "gz-stations-2019"
    recommender: str | None = TIANHE
    form: str = "F12"


def test_what_came_before_undoes_nothing_that_was_filed_since() -> None:
    by = filing(HUANGPU, None, NOTICES["gz-clusters"])
    pool = Judged("F15-1", FormRow({}, (), "某产业集群"), [], case=uuid4())
    known = Row(filer=HUANGPU, notice="gz-clusters", recommender=None)
    assert codes(standing(by, pool, replace(known, form="F15"), "open")) == ["case.continued"]
    assert standing(by, pool, replace(known, form="F15-1"), "open") == []


def test_another_recommender_only_after_a_return() -> None:
    moved = filing(recommender=YUEXIU)
    row = application(moved)
    assert codes(standing(moved, row, Row(), "open")) == ["case.elsewhere"]
    assert standing(moved, row, Row(), "returned") == []
    assert standing(filing(), application(), Row(), "open") == []
    assert codes(standing(moved, row, Row(filer=OTHER), "returned")) == ["case.foreign"]
    assert codes(standing(moved, row, Row(notice="gz-clusters"), "returned")) == ["case.foreign"]


def test_the_same_words_answer_a_return_when_they_go_elsewhere() -> None:
    plain = replace(STATIONS, notice=STATIONS.notice.model_copy(update={"materials": ()}))
    row = application()
    row.correction = True
    assert corrects(filing(recommender=YUEXIU, compiled=plain), row, Row())
    assert not corrects(filing(compiled=plain), row, Row())
    assert corrects(filing(), row, Row())  # other papers may have come with them
    row.correction = False
    assert not corrects(filing(), row, Row())


@pytest.mark.parametrize("state", ["closed", "published"])
def test_what_is_over_is_not_filed_again(state: str) -> None:
    (found,) = standing(filing(), application(), Row(), state)
    assert (found.code, found.rule, found.clause) == ("case.ended", "case", "系统约定")


def test_what_continues_a_title_may_come_while_it_stands_and_not_after() -> None:
    by = filing(HUANGPU, None, CLUSTERS)
    row = Judged("F15", FormRow({}, (), "某产业集群"), [], "F15-1", case=uuid4())
    row.owner = known(parse.judge(by, "F15-1", POOL), by)
    assert standing(by, row, Row(filer=HUANGPU, notice="gz-clusters"), "published") == []
    assert codes(standing(by, row, Row(filer=HUANGPU, notice="gz-clusters"), "closed")) == ["case.ended"]


# --- reports ---------------------------------------------------------------------------------------------


def test_a_report_finds_its_case_by_number_and_by_name() -> None:
    case = application()
    for name in (case.number, case.number.lower(), "某商会服务站", " 某 商会服务站"):
        row = told(report(name), known(case))
        assert (row.findings, row.owner and row.owner.case, row.period) == ([], case.case, "2019")
        assert row.case not in (None, case.case)
    named = told(report("随便写的", case=case.case), known(case))
    assert (named.findings, named.owner and named.owner.case) == ([], case.case)


def test_a_report_is_the_same_for_one_case_and_one_time() -> None:
    case = application()
    by_name, by_number = told(report("某商会服务站"), known(case)), told(report(case.number), known(case))
    assert by_name.case == by_number.case
    assert by_name.digest != by_number.digest
    rules = told(report(case.number, form="F12-4"), known(case))
    assert (rules.period, rules.findings) == ("", [])
    assert rules.case not in (by_name.case, case.case)


def test_a_report_on_nothing_known_is_refused() -> None:
    case = application()
    (found,) = told(report("另一个服务站"), known(case)).findings
    assert (found.code, found.severity, found.pointer) == (
        "report.unknown",
        "hard",
        "#/data/values/station",
    )
    assert found.detail.startswith("没有这个项目")
    (found,) = told(report("随便写的", case=uuid4()), known(case)).findings
    assert (found.code, found.pointer) == ("report.unknown", "#/data/case")
    elsewhere = replace(known(case), notice="gz-clusters")
    assert codes(told(report(case.number), elsewhere).findings) == ["report.unknown"]
    # A report is no case that one could report on.
    other = told(report(case.number), known(case))
    assert codes(told(report(other.number), known(other), known(case)).findings) == ["report.unknown"]


@pytest.mark.parametrize(
    ("code", "fault_"),
    [
        (APPLICANT, []),
        (TIANHE, []),
        (CITY, []),
        (OTHER, ["case.foreign"]),
        (YUEXIU, ["case.foreign"]),
        ("cyyqsh", ["case.foreign"]),
    ],
)
def test_who_may_tell_of_a_case(code: str, fault_: list[str]) -> None:
    by = filing(code, None)
    row = told(report("某商会服务站", by), known(application()), by=by)
    assert codes(row.findings) == fault_
    assert {f.rule for f in row.findings} <= {"R-GEN-011"}


def test_of_several_with_one_name_it_is_the_one_that_the_filer_may_speak_of() -> None:
    mine, theirs = application(), application(filing(OTHER))
    there = known(mine), known(theirs, filing(OTHER))
    row = told(report("某商会服务站"), *there)
    assert row.owner
    assert row.owner.case == mine.case
    (found,) = told(report("某商会服务站", filing(TIANHE, None)), *there, by=filing(TIANHE, None)).findings
    assert found.code == "report.ambiguous"
    assert "2个项目" in found.detail
    assert mine.number not in found.detail or theirs.number not in found.detail
    row = told(report(theirs.number, filing(TIANHE, None)), *there, by=filing(TIANHE, None))
    assert row.findings == []


def test_a_district_reports_on_a_cluster_that_the_notice_brought() -> None:
    (by, given), *_ = given_rows(CLUSTERS, DIRECTORY)
    values = {"cluster": "有机高分子材料产业集群"}
    for code, fault_ in ((HUANGPU, []), (TIANHE, ["case.foreign"])):
        teller = filing(code, None, CLUSTERS)
        row = Judged("F16", FormRow(values, (), "x"), [], "F16", root="#/data/values")
        row.period = "2025"
        told(row, known(given, by), by=teller)
        assert codes(row.findings) == fault_
    assert given.number.startswith("F15-1-")


# --- forms that continue another -------------------------------------------------------------------------


def continuing(title: str, by: Filing, case: UUID | None = None) -> Judged:
    return Judged("F15", FormRow({}, (), title), [], "F15-1", case=uuid4(), named=case)


def test_an_application_belongs_to_the_case_that_the_pool_opened() -> None:
    by = filing(HUANGPU, None, CLUSTERS)
    pool = parse.judge(by, "F15-1", POOL)
    row = told(continuing("某产业集群", by), known(pool, by), by=by)
    assert (row.case, row.number, row.findings) == (pool.case, pool.number, [])
    # One that began without the pool begins a case of its own.
    own = continuing("另一个产业集群", by)
    before = own.case
    assert (told(own, known(pool, by), by=by).case, own.owner, own.findings) == (before, None, [])
    # Named and not there is a fault, and so is another's.
    assert codes(told(continuing("x", by, uuid4()), known(pool, by), by=by).findings) == ["case.unknown"]
    stranger = filing(TIANHE, None, CLUSTERS)
    row = told(continuing("x", stranger, pool.case), known(pool, by), by=stranger)
    assert codes(row.findings) == ["case.foreign"]


def test_a_form_that_begins_nowhere_needs_the_case_that_it_continues() -> None:
    notice = CLUSTERS.notice
    starts = tuple(s for s in notice.procedure.start if "F15" not in s.forms)
    procedure = notice.procedure.model_copy(update={"start": starts})
    only = replace(CLUSTERS, notice=notice.model_copy(update={"procedure": procedure}))
    by = filing(HUANGPU, None, only)
    assert codes(told(continuing("某产业集群", by), by=by).findings) == ["case.unknown"]


# --- the way in ------------------------------------------------------------------------------------------


def test_an_application_without_its_district_is_told_the_way() -> None:
    (found,) = standing(filing(recommender=None), application(), None, "")
    assert (found.code, found.severity, found.clause) == ("route", "hard", "1100号")
    assert "须经推荐单位报送" in found.detail
    assert "区受理" in found.detail
    by = filing("cyyqsh", TIANHE)
    record = Judged("F12-6", FormRow({}, (), "x"), [], "F12-6", case=uuid4())
    assert standing(by, record, None, "") == []  # either way
    report_ = Judged("F12-2", FormRow({}, (), "x"), [], "F12-2", case=uuid4())
    assert standing(by, report_, None, "") == []  # begins nothing


def test_a_form_that_goes_straight_to_the_city_says_so() -> None:
    notice = STATIONS.notice
    start = notice.procedure.start[0].model_copy(update={"recommended": False})
    procedure = notice.procedure.model_copy(update={"start": (start,)})
    direct = replace(STATIONS, notice=notice.model_copy(update={"procedure": procedure}))
    (found,) = standing(filing(compiled=direct), application(), None, "")
    assert "不经推荐单位" in found.detail
    nowhere = notice.procedure.model_copy(update={"start": (start.model_copy(update={"forms": ("F12-5",)}),)})
    none = replace(STATIONS, notice=notice.model_copy(update={"procedure": nowhere}))
    (found,) = standing(filing(compiled=none), application(), None, "")
    assert "没有规定" in found.detail


# --- papers ----------------------------------------------------------------------------------------------


def ref(name: str, role: str = "scan", material: str | None = None) -> FileRef:
    return FileRef.model_validate(
        {"role": role, "sha256": "0" * 64, "size": 1, "name": name, "material": material}
    )


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([ref("a.pdf", material="licence")], ("licence",)),
        ([ref("营业执照.pdf")], ("licence",)),
        ([ref("02 营业执照、房产证.pdf")], ("licence", "premises")),
        ([ref("２０１９年1-4月财务报表.pdf")], ("statements_2019",)),
        ([ref("2018年财务报表.pdf"), ref("学历证书.jpg")], ("staff_evidence", "statements_2018")),
        ([ref("营业执照.xlsx", "workbook")], ()),  # an editable file is no copy of a certificate
        ([ref("a.xlsx", "workbook", "statements_2018")], ("statements_2018",)),
        ([ref("扫描件.pdf")], ()),
        ([ref("02-2018年度审计报告.pdf")], ("statements_2018",)),
        ([ref("财务报表（2018年）.pdf")], ("statements_2018",)),
        ([ref("2019年1至4月 财务报表.pdf")], ("statements_2019",)),
        ([ref("审计报告.pdf"), ref("财务报表.pdf"), ref("2017年财务报表.pdf")], ()),
        ([ref("财务报表20190520.pdf"), ref("财务报表2019-05-20.pdf")], ()),  # days, of no given year
        ([ref("2018年1-4月财务报表.pdf"), ref("12018年财务报表.pdf")], ()),
        ([ref("法人登记证.pdf")], ("licence",)),
        ([ref("统一社会信用代码证书.jpg")], ("licence",)),
        ([ref("毕业证.pdf")], ("staff_evidence",)),
        ([ref("劳动合同和社保.pdf")], ("staff_evidence",)),
        ([ref("场地使用证明.pdf")], ("premises",)),
        ([ref("服务场所人员照片.pdf")], ()),  # neither of the two that it speaks of
        ([ref("知识产权证书.pdf")], ()),
        ([ref("租赁合同.pdf", material="service_evidence")], ("service_evidence",)),  # as it says of itself
        ([ref("合订本.pdf", material="all")], tuple(m.key for m in STATIONS.notice.materials)),
    ],
)
def test_papers_are_known_by_what_they_say_or_by_their_names(
    files: list[FileRef], found: tuple[str, ...]
) -> None:
    assert parse.materials_of(STATIONS.notice, files, named=True) == found
    told = {f.material for f in files}
    said = found if "all" in told else tuple(m for m in found if m in told)
    assert parse.materials_of(STATIONS.notice, files) == said


def test_a_paper_that_the_notice_does_not_know() -> None:
    (found,) = parse.unknown_materials(
        STATIONS.notice, [ref("a.pdf"), ref("b.pdf", material="licence"), ref("c.pdf", material="x")]
    )
    assert (found.code, found.severity, found.pointer, found.clause) == (
        "material.unknown",
        "hard",
        "#/data/files/2/material",
        "1100号",
    )
    assert "licence（法人证书" in found.detail
    assert "all（全部合订为一份）" in found.detail
    assert parse.unknown_materials(STATIONS.notice, [ref("a.pdf", material="all")]) == []
    assert codes(parse.unknown_materials(COLLECTION.notice, [ref("a.pdf", material="licence")])) == [
        "material.unknown"
    ]


# --- given items -----------------------------------------------------------------------------------------


def test_the_items_of_a_notice_are_filed_by_its_issuer_and_always_the_same() -> None:
    rows = given_rows(CLUSTERS, DIRECTORY)
    assert len(rows) == 12
    assert [j.case for _, j in rows] == [j.case for _, j in given_rows(CLUSTERS, DIRECTORY)]
    assert len({j.case for _, j in rows}) == 12
    by, first = rows[0]
    assert (by.filer.code, by.filer.kind, by.district, by.district_name) == (CITY, "city", HUANGPU, "黄埔区")
    assert (by.on, by.package) == (CLUSTERS.notice.issued_on, "notice/gz-clusters")
    assert not first.hard
    assert [list(faults(c, DIRECTORY)) for c in NOTICES.values()] == [[], [], []]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"values": {"cluster_name": "甲", "district": "天河区"}}, ("given", 0, "values", "level")),
        (
            {"values": {"cluster_name": "甲", "district": "天河区", "level": "区级"}},
            ("given", 0, "values", "level"),
        ),
        ({"values": CLUSTERS.notice.given[1].values, "district": "440113"}, ("given", 1, "values")),
        ({"form": "F12-2"}, None),
    ],
)
def test_a_given_item_that_could_not_become_a_case_is_told_with_its_place(
    change: dict[str, Any], place: tuple[str | int, ...] | None
) -> None:
    given = (CLUSTERS.notice.given[0].model_copy(update=change), *CLUSTERS.notice.given[1:])
    wrong = replace(CLUSTERS, notice=CLUSTERS.notice.model_copy(update={"given": given}))
    if place is None:  # of another form altogether: the model itself says so
        assert [where for where, _ in wrong.notice.crossed()] == [("given", 0, "form")]
        return
    found = list(faults(wrong, DIRECTORY))
    assert [where for where, _ in found] == [place]
    assert all(why for _, why in found)


def test_a_given_item_that_begins_nowhere_is_a_fault() -> None:
    one = Given(form="F12", district=TIANHE, values={**STATION, "contact_phones": "1"}, clause="x")
    wrong = replace(STATIONS, notice=STATIONS.notice.model_copy(update={"given": (one,)}))
    assert {where[3] for where, _ in faults(wrong, DIRECTORY) if len(where) > 3} == {"contact_phones"}
    sound = one.model_copy(update={"values": STATION})
    wrong = replace(STATIONS, notice=STATIONS.notice.model_copy(update={"given": (sound,)}))
    assert [why for _, why in faults(wrong, DIRECTORY)] == [
        "申请表须经推荐单位报送，由其办理“区受理”；请写明推荐单位（名录代码）"
    ]


# --- whose clause ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compiled", "rule", "clause"),
    [(COLLECTION, "R-COL-017", "征集通知·三"), (STATIONS, "form", "系统约定")],
)
def test_nobody_is_quoted_a_notice_that_is_not_his(compiled: CompiledNotice, rule: str, clause: str) -> None:
    (found,) = parse.judge(filing(compiled=compiled), "F99", {}).findings
    assert (found.rule, found.code, found.clause) == (rule, "form.unknown", clause)
    detail = fault("R-COL-018", "file.missing", "文件未收到", "#/data/files/0", "征集通知·三")
    (told_,) = in_words_of(compiled.notice, [detail])
    assert told_.rule == ("R-COL-018" if compiled is COLLECTION else "file")
    assert (told_.code, told_.detail) == ("file.missing", "文件未收到")


def test_no_fault_of_a_station_s_filer_quotes_the_collection() -> None:
    by = filing("440104", None)
    rows = [
        parse.judge(by, "F12", STATION),  # of another kind
        parse.judge(by, "F12", STATION, direction="D01"),
        parse.judge(by, "F9", {}),
    ]
    found = [f for row in rows for f in row.findings]
    found += standing(filing(), application(), Row(), "closed")
    filer = Filer(code=APPLICANT, kind="K6", name="某")
    found += admit(STATIONS, DIRECTORY, filer, "nobody", APPLICANT)[1]
    assert {"form.kind", "direction.unknown", "form.unknown", "case.ended", "recommender"} <= {*codes(found)}
    assert not [f for f in found if "COL" in f.rule or "征集" in f.clause]


def test_rules_of_everybody_are_quoted_everywhere() -> None:
    found = [
        fault("R-GEN-011", "case.foreign", "x", "#"),
        fault("F12.01", "missing", "x", "#"),
        fault("notice", "n", "x", "#"),
    ]
    assert in_words_of(STATIONS.notice, found) == found
