"""Cards as people fill them in: documents and worksheets are read by their labels, and judged by the notice.

The numbers are those of spec §15.4 and §15.6.
"""

import asyncio
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.intake import child, parse, workbook
from services.intake.card_template import card_template
from services.intake.marking import mark
from services.intake.sheets import RawRow, Sheet, Unusable
from shared.contracts.submission import Filer
from shared.contracts.types import Finding, Kind
from shared.notices.load import CompiledNotice, load
from shared.notices.rules import Facts
from tests import workbooks as made
from tests.documents import (
    CASE,
    FIRM,
    HEAD,
    STATEMENT,
    SURVEY,
    TITLE,
    USCC,
    Box,
    Part,
    Raw,
    case_docx,
    docx,
    firm,
    runs,
    symbol,
)

DATA = Path(workbook.__file__).parents[2] / "shared" / "notices" / "data"
NOTICE = load(DATA / "gz-collection-2025q1.yaml")
CARDS = ("F9-1", "F9-2", "F10-1")


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    yield
    child.close()


def read(data: bytes, name: str = "附件.docx", notice: CompiledNotice = NOTICE) -> list[Sheet]:
    return workbook.read(data, name, notice)


def only(data: bytes, notice: CompiledNotice = NOTICE) -> RawRow:
    (sheet,) = read(data, notice=notice)
    (row,) = sheet.rows
    assert sheet.findings == []
    return row


def judged(form: str, raw: Mapping[str, Any], notice: CompiledNotice = NOTICE) -> list[Finding]:
    return list(notice.forms[form].judge(raw).findings)


def filed(data: bytes, kind: Any = "K6", notice: CompiledNotice = NOTICE) -> parse.Checked:
    """Read and judged by every rule, as `yiqi check` does."""
    filer = Filer(code="440106", kind=kind, name="某机构", miit_registered=True)
    at = datetime(2025, 3, 3, tzinfo=UTC)
    filing = parse.Filing(notice, filer, None, "440106", at)
    return parse.offline(filing, read(data, notice=notice))[0]


def rules(found: Sequence[Finding]) -> list[tuple[str, str, str | None]]:
    return [(f.rule, f.severity, f.cell) for f in found]


# --- 附件10-1 -----------------------------------------------------------------------------------------------


def test_a_filled_in_application_is_read_by_its_labels() -> None:
    row = only(case_docx(CASE))
    assert row.raw == CASE | {"org_type": "□ 国有 □ 合资 ☑ 民营 □ 外资"}
    assert (row.cells["uscc"], row.cells["contact_email"]) == ("表1第2行第3格", "表1第8行第5格")
    assert (row.cells["case_name"], row.cells["org_intro"]) == ("正文第4段", "表1第9行第2格")
    assert judged("F10-1", row.raw) == []


def test_the_values_are_stored_in_one_shape_whatever_was_written() -> None:
    stored = NOTICE.forms["F10-1"].judge(only(case_docx(CASE)).raw).stored
    assert stored is not None
    assert stored["applied_on"] == "2025-03-05"
    assert stored["declared_on"] == "2025-03"
    assert (stored["org_type"], stored["contact_phone"]) == ("民营", "020-83726619")
    assert stored["declaration_accepted"] is True


def test_a_sound_application_breaks_no_rule() -> None:
    checked = filed(case_docx(CASE))
    assert (checked.form, checked.findings) == ("F10-1", [])
    (row, _), *_ = checked.rows
    assert (row.direction, row.row.title) == ("D09", TITLE)


LIMITS = [
    ("R-COL-030", "org_intro", 500, False),
    ("R-COL-030", "org_intro", 500, True),
    ("R-COL-031", "pain_points", 300, False),
    ("R-COL-031", "pain_points", 300, True),
    ("R-COL-032", "practices", 1000, False),
    ("R-COL-032", "practices", 1000, True),
    ("R-COL-033", "results", 300, False),
    ("R-COL-033", "results", 300, True),
    ("R-COL-034", "lessons", 500, False),
    ("R-COL-034", "lessons", 500, True),
]


@pytest.mark.parametrize(("rule", "key", "limit", "broken"), LIMITS)
def test_stated_limits_are_inclusive_and_do_not_count_blanks(
    rule: str, key: str, limit: int, broken: bool
) -> None:
    """T-COL-10, T-COL-12."""
    text = _cut("9" + "服务 中小\n企业。" * limit, limit + broken)
    found = judged("F10-1", CASE | {key: text})
    assert [(f.rule, f.code, f.severity, f.clause, f.pointer) for f in found] == (
        [(rule, "limit", "hard", "附件10-1", f"#/data/values/{key}")] if broken else []
    )
    assert all(f"不超过{limit}字，实为{limit + 1}字" in f.detail for f in found)


def _cut(text: str, limit: int) -> str:
    """So much of a text as has exactly so many characters, its blanks apart."""
    out, n = "", 0
    for c in text:
        n += not c.isspace()
        if n > limit:
            break
        out += c
    return out


@pytest.mark.parametrize(("rule", "key", "limit", "broken"), LIMITS)
def test_a_document_that_says_too_much_is_told_where(rule: str, key: str, limit: int, broken: bool) -> None:
    found = filed(case_docx(CASE | {key: "5" * (limit + broken)})).findings
    assert [(f.rule, f.severity, f.sheet, f.row) for f in found] == (
        [(rule, "hard", "附件.docx", None)] if broken else []
    )
    assert all(f.cell and f.cell.startswith(("表1第9行", "正文第")) for f in found)


SHORT = {"case_title": "供应链金融", "case_name": "供应链金融", "case_name_2": "供应链金融"}


@pytest.mark.parametrize(
    ("rule", "change", "severity", "broken"),
    [
        ("R-COL-033a", {"results": "服务企业二百家。"}, "soft", False),
        ("R-COL-033a", {"results": "成效显著。"}, "soft", True),
        ("R-COL-035", {}, "soft", False),
        ("R-COL-035", SHORT, "soft", True),
        ("R-COL-035a", {}, "soft", False),
        ("R-COL-035a", {"case_name_2": "另一案例"}, "soft", True),
        ("R-COL-035a", {"org_name": "乙公司"}, "soft", True),
        ("R-COL-036", {"declaration_accepted": True}, "hard", False),
        ("R-COL-036", {"declaration_accepted": False}, "hard", True),
        ("R-COL-036", {"declaration_accepted": None}, "hard", True),
        ("R-COL-037", {"uscc": "91110000600037341L"}, "hard", False),
        ("R-COL-037", {"uscc": "91110000600037341"}, "hard", True),
        ("R-COL-037", {"uscc": "91110000600037341L0"}, "hard", True),
        ("R-GEN-001", {"uscc": "91110000600037341L"}, "hard", False),
        ("R-GEN-001", {"uscc": "N2440106MF0123456X"}, "hard", False),
        ("R-GEN-001", {"uscc": "Y1440106MF0123456Q"}, "hard", False),
        ("R-GEN-001", {"uscc": "51440100MJ01234562"}, "hard", False),
        ("R-GEN-001", {"uscc": "9111 0000 6000 37341l"}, "hard", False),
        ("R-GEN-001", {"uscc": "91110000600037341K"}, "hard", True),
        ("R-GEN-001", {"uscc": "9111000060003734IL"}, "hard", True),
        ("R-GEN-003", {"contact_phone": "83522270-802"}, "hard", False),
        ("R-GEN-003", {"contact_phone": "12345"}, "hard", True),
        ("R-GEN-004", {"contact_email": "zhang@example.cn"}, "hard", False),
        ("R-GEN-004", {"contact_email": "zhang at example"}, "hard", True),
        ("F10-1.03", {"applied_on": "2025-03-05"}, "hard", False),
        ("F10-1.03", {"applied_on": "2025年2月30日"}, "hard", True),
        ("F10-1.03", {"applied_on": "三月"}, "hard", True),
        ("F10-1.07", {"org_type": "□国有 □合资 □民营 □外资"}, "hard", True),
        ("F10-1.07", {"org_type": "☑国有 □合资 ☑民营 □外资"}, "hard", True),
        ("F10-1.07", {"org_type": "个体户"}, "hard", True),
        ("F10-1.08", {"headcount": ""}, "hard", True),
        ("F10-1.19", {"declared_on": "2025年3月5日"}, "soft", False),
        ("F10-1.19", {"declared_on": None}, "soft", True),
    ],
)
def test_rules_of_the_application(rule: str, change: dict[str, Any], severity: str, broken: bool) -> None:
    """T-ID-01 to T-ID-05, T-ID-08."""
    found = parse.judge(_filing(), "F10-1", CASE | change)
    parse.examine(_filing(), found, Facts())
    assert [(f.rule, f.severity) for f in found.findings] == ([(rule, severity)] if broken else [])


def _filing(kind: Any = "K6") -> parse.Filing:
    filer = Filer(code="440106", kind=kind, name="某机构", miit_registered=True)
    return parse.Filing(NOTICE, filer, None, "440106", datetime(2025, 3, 3, tzinfo=UTC))


def test_a_changed_statement_is_no_declaration_and_one_that_is_ticked_is() -> None:
    for text, accepted in (
        (STATEMENT.replace("如有不实，愿承担相应责任。", ""), False),
        ("□" + STATEMENT, False),
        ("☑" + STATEMENT, True),
    ):
        rows = [["企业承诺申明", text], ["申报单位法人代表签字：", ""], *_pairs(CASE)]
        row = only(made.xlsx({"附件10-1": rows}))
        assert row.raw["declaration_accepted"] is accepted


def _pairs(case: Mapping[str, Any]) -> list[list[Any]]:
    """The card as a plain list of labels and values."""
    form = NOTICE.forms["F10-1"].form
    return [[c.header, case[k]] for k, c in form.by_key.items() if k in case and not k.startswith("decla")]


def test_boxes_of_every_kind_are_ticks() -> None:
    ticks = [
        "□国有 □合资 ■民营 □外资",
        "国有（ ） 合资（ ） 民营（√） 外资（　）",
        "1.国有□ 2.合资□ 3.民营☑ 4.外资□",
        "☐国有 ☐合资 ☒民营 ☐外资",
        "[ ]国有 [ ]合资 [x]民营 [ ]外资",
        "√民营",
        "民营企业",
    ]
    for text in ticks:
        stored = NOTICE.forms["F10-1"].judge(CASE | {"org_type": text}).stored
        assert stored is not None, text
        assert stored["org_type"] == "民营", text


def test_boxes_from_the_symbol_font_are_read() -> None:
    boxes = symbol("F0A8") + runs("国有 ") + symbol("F0A8") + runs("合资 ") + symbol("F0FE") + runs("民营 ")
    row = only(case_docx(CASE, boxes=boxes + symbol("F0A8") + runs("外资")))
    stored = NOTICE.forms["F10-1"].judge(row.raw).stored
    assert stored is not None
    assert stored["org_type"] == "民营"


def test_what_the_form_preprints_is_no_answer() -> None:
    blank = dict.fromkeys(CASE, "") | {"applied_on": "2025 年 月 日", "declared_on": "年 月"}
    (sheet,) = read(case_docx(blank, boxes="□ 国有 □ 合资 □ 民营 □ 外资"))
    raw = sheet.rows[0].raw if sheet.rows else {}
    assert raw.keys() <= {"org_type", "declaration_accepted"}


def test_track_changes_and_content_controls_show_what_people_see() -> None:
    name = (
        "<w:del><w:r><w:delText>旧名称</w:delText></w:r></w:del><w:ins><w:r><w:t>案例名称：</w:t></w:r></w:ins>"
        f"<w:sdt><w:sdtContent>{runs(TITLE)}</w:sdtContent></w:sdt>"
    )
    parts: list[Part] = [Raw(name), [[label, str(value)] for label, value in _pairs(CASE)[1:]], STATEMENT]
    row = only(docx(parts))
    assert row.raw["case_name"] == TITLE
    assert judged("F10-1", row.raw)[0].rule == "F10-1.19"


# --- 附件9-2 ------------------------------------------------------------------------------------------------


def test_one_card_is_one_enterprise_and_copies_of_the_table_are_several() -> None:
    """T-COL-16: split."""
    note = "注：如推荐多家企业，可复制本表格填写。"
    (sheet,) = read(docx(["附件9-2", "“城市合伙人”企业推荐表", *HEAD, firm("甲公司"), note, firm("乙公司")]))
    assert (sheet.form, sheet.findings) == ("F9-2", [])
    assert [row.raw["company_name"] for row in sheet.rows] == ["甲公司", "乙公司"]
    assert {row.raw["recommender"] for row in sheet.rows} == {"某区局"}
    assert [row.cells["company_name"] for row in sheet.rows] == ["表1第1行第2格", "表2第1行第2格"]
    assert all(judged("F9-2", row.raw) == [] for row in sheet.rows)


def test_a_whole_copy_has_a_head_of_its_own() -> None:
    other = ["推荐单位：另一局", "填报人：赵六　填报时间：2025年3月6日"]
    (sheet,) = read(docx([*HEAD, firm("甲公司"), *other, firm("乙公司")]))
    assert [(r.raw["recommender"], r.raw["filled_by"]) for r in sheet.rows] == [
        ("某区局", "李四"),
        ("另一局", "赵六"),
    ]


@pytest.mark.parametrize(
    ("rule", "name", "broken"),
    [
        ("R-COL-029", "甲公司", False),
        ("R-COL-029", "甲、乙研究院", False),
        ("R-COL-029", "甲公司、乙公司", True),
        ("R-COL-029", "甲科技有限公司和乙有限公司", True),
        ("R-COL-029", "甲\n乙；丙", True),
        ("R-COL-029", "广州甲信息科技\n有限公司", False),
        ("R-COL-029", "广州甲有限公司\n天河分公司", False),
        ("R-COL-029", "甲公司\n（原名乙公司）", False),
        ("R-COL-029", "甲公司；", False),
        ("R-COL-029", "甲公司\n乙公司", True),
    ],
)
def test_two_enterprises_in_one_card_are_refused(rule: str, name: str, broken: bool) -> None:
    """T-COL-16: rejected."""
    found = filed(docx([*HEAD, firm(name)]), "K1").findings
    assert [f.rule for f in found] == ([rule] if broken else [])
    assert all(f.cell == "表1第1行第2格" and f.clause == "附件9-2 注" for f in found)


def test_who_may_file_a_card() -> None:
    kinds: tuple[Kind, ...] = ("K1", "K2", "K3", "K4", "K5", "K6")
    allowed = {form: [k for k in kinds if NOTICE.notice.may_file(form, k)] for form in CARDS}
    assert allowed == {"F9-1": ["K1", "K2", "K5"], "F9-2": [*kinds[:5]], "F10-1": [*kinds]}


# --- 附件9-1 ------------------------------------------------------------------------------------------------


def test_a_survey_is_read_block_by_block() -> None:
    """ODD-09: one header over two blocks, descriptions that several resources share."""
    row = only(docx(SURVEY))
    assert {k: v for k, v in row.raw.items() if isinstance(v, str)} == {
        "reporting_org": "某局",
        "filled_by": "李四",
        "filled_on": "2025 年 10 月 9 日",
    }
    shared = "参与城市品牌活动或城市应用场景"
    assert row.raw["intangible"] == [
        {"description": shared, "resource_name": "灯光节", "content": "合作1项", "time": "11月"},
        {
            "description": shared,
            "resource_name": "花市",
            "content": "展位3个",
            "time": "1月",
            "remark": "可谈",
        },
    ]
    assert [e["resource_name"] for e in row.raw["public_advertising"]] == ["大屏"]
    assert [e["resource_name"] for e in row.raw["official_promotion"]] == ["官网"]
    assert row.raw["other_resources"] == [{"resource_name": "古村落", "content": "可合作3处"}]
    stored = NOTICE.forms["F9-1"].judge(row.raw).stored
    assert stored is not None
    assert stored["events"][0] | {"description": ""} == {
        "description": "",
        "resource_name": "马拉松",
        "time_place": "12月 天河",
        "naming_right": True,
        "tickets": False,
        "vip_reception": False,
        "advertising": True,
    }


def test_a_fault_in_a_block_is_told_with_its_row_and_cell() -> None:
    survey = [*SURVEY[:6], [SURVEY[6][0], [*SURVEY[6][1][:5], "也许", *SURVEY[6][1][6:]]], SURVEY[7]]
    (fault,) = filed(docx(survey), "K1").findings
    assert (fault.rule, fault.severity, fault.cell) == ("F9-1.B5", "hard", "表2第2行第6格")
    assert fault.pointer.endswith("/events/0/naming_right")
    assert fault.detail == "“城市大型活动资源”第1行，“是否提供冠名权”：应填“是”或“否”"


def test_both_cards_of_the_annex_may_stand_in_one_document() -> None:
    """As the notice prints them: 填报人 and 填报时间 are asked in both."""
    firms = [
        "附件9-2",
        "“城市合伙人”企业推荐表",
        "推荐单位：某区局",
        "填报人：赵六　填报时间：2025年3月6日",
        firm("甲公司"),
    ]
    survey, other = read(docx([*SURVEY, *firms]))
    assert (survey.form, other.form) == ("F9-1", "F9-2")
    assert [(r.raw["filled_by"], r.raw["filled_on"]) for r in survey.rows] == [("李四", "2025 年 10 月 9 日")]
    assert [(r.raw["filled_by"], r.raw["filled_on"]) for r in other.rows] == [("赵六", "2025年3月6日")]
    assert [len(r.raw["other_resources"]) for r in survey.rows] == [1]


def test_a_survey_filled_into_its_blank_worksheet() -> None:
    data = card_template(NOTICE.forms["F9-1"], NOTICE.notice)
    book = openpyxl.load_workbook(BytesIO(data))
    page = book.worksheets[0]
    at = {str(cell.value): cell for row in page.iter_rows() for cell in row if cell.value}
    race, own = at["广州主办的重大体育赛事活动资源"], at["其他特色资源"]
    for n, text in enumerate(("马拉松", "12月 天河", "是", "否", "否", "是", "暂定"), 1):
        page.cell(race.row, race.column + n, text)
    page.cell(own.row + 2, 3, "古村落")
    page.cell(own.row + 2, 4, "可合作3处")
    out = BytesIO()
    book.save(out)
    row = only(out.getvalue())
    assert [(e["description"], e["resource_name"], e["remark"]) for e in row.raw["events"]] == [
        ("广州主办的重大体育赛事活动资源", "马拉松", "暂定")
    ]
    assert row.raw["other_resources"] == [{"resource_name": "古村落", "content": "可合作3处"}]
    assert row.cells["events/0/naming_right"] == f"E{race.row}"
    assert row.raw.keys() == {"events", "other_resources"}


def test_a_worksheet_with_the_category_merged_beside_its_rows() -> None:
    head = [
        "城市大型活动资源",
        "序号",
        "资源描述",
        "资源名称",
        "时间地点",
        "是否提供冠名权",
        "是否提供门票资源",
        "是否提供VIP接待",
    ]
    rows: list[list[Any]] = [
        ["填报单位：某局"],
        ["填报人：李四"],
        ["填报时间：", datetime(2025, 10, 9, tzinfo=UTC).replace(tzinfo=None)],
        [*head, "是否提供广告或现场展示", "备注"],
        [None, 1, "广州主办的重大体育赛事活动资源", "马拉松", "天河", "是", "否", "否", "是"],
        [None, 2, "各类大型商务、投资、促消费活动资源"],
        ["城市无形资产资源"],
        ["城市公共广告资源", "序号", "资源描述", "资源名称", "具体内容", "时间", "备注"],
        [None, 1, "（一）", "大屏", "两块", "全年"],
        ["官方推广展示资源"],
    ]
    row = only(made.xlsx({"摸查表": rows}, merges=[(3, 0, 5, 0), (7, 0, 8, 0)]))
    assert row.raw["filled_on"] == "2025年10月9日"
    assert [e["resource_name"] for e in row.raw["events"]] == ["马拉松"]
    assert [e["resource_name"] for e in row.raw["public_advertising"]] == ["大屏"]
    assert (row.cells["events/0/advertising"], row.cells["filled_on"]) == ("I5", "B3")


def test_cards_are_not_counted_twice() -> None:
    """AMB-03: a case counts apart from the list that has it too, resources not at all, each enterprise once."""
    case, survey, firm_ = (
        filed(d, "K1") for d in (case_docx(CASE), docx(SURVEY), docx([*HEAD, firm("甲公司")]))
    )
    assert [checked.rows[0][0].tallies for checked in (case, survey)] == [
        [("direction_applications", "D09")],
        [],
    ]
    assert dict(firm_.rows[0][0].tallies) == {"direction_items": "D11", "direction_products": "D11"}


def test_applications_count_without_the_list_that_should_come_with_them() -> None:
    """Spec §3.1: five cases are five products of D09, whether 附件10-2 lists them in the same package or not."""
    cases = [
        CASE | dict.fromkeys(("case_name", "case_name_2", "case_title"), f"{n}公司—案例")
        for n in "甲乙丙丁戊"
    ]
    for kind, rule, within in (("K1", "R-COL-010", 2), ("K4", "R-COL-011", 1), ("K6", "R-COL-012", 3)):
        sheets = [sheet for case in cases for sheet in read(case_docx(case))]
        checked = parse.offline(_filing(kind), sheets)
        over = [any(f.rule == rule for f in one.findings) for one in checked]
        assert over == [False] * within + [True] * (5 - within)


@pytest.mark.parametrize(
    ("rule", "name", "broken"), [("R-COL-038a", TITLE, False), ("R-COL-038a", "别的案例", True)]
)
def test_a_summary_lists_the_cases_that_are_filed_with_it(rule: str, name: str, broken: bool) -> None:
    """T-COL-13, for what is filed together."""
    summary: list[list[Any]] = [
        ["推荐单位（加盖公章）：某机构"],
        ["序号", "服务领域", "案例名称", "申报单位"],
        [1, "法律服务", name, "甲公司"],
        ["联系人：张三"],
        ["联系电话：020-83726619"],
    ]
    case: list[list[Any]] = [*_pairs(CASE), ["企业承诺申明", STATEMENT], ["", "2025年3月"]]
    found = filed(made.xlsx({"附件10-2": summary, "附件10-1": case})).findings
    assert [f.rule for f in found] == ([rule] if broken else [])


# --- files --------------------------------------------------------------------------------------------------


def test_a_text_of_blanks_takes_no_time() -> None:
    blanks = " " * 20_000
    table: list[list[str | Box]] = [
        *firm("甲公司"),
        ["备注", f"专职（{blanks}"],
        [f"企业简介（{blanks}x", "其中：" + blanks + "）人"],
    ]
    (sheet,) = read(docx([*HEAD, table, blanks + "注", "五、典型经验" + blanks + "x"]))
    assert sheet.rows[0].raw["company_name"] == "甲公司"
    assert {f.code for f in sheet.findings} == {"card.unread"}


def test_old_word_documents_are_refused_with_advice() -> None:
    with pytest.raises(Unusable) as refused:
        read(made.ole("WordDocument", "1Table"), "附件10-1.doc")
    assert refused.value.code == "workbook.word"
    assert "另存为“Word 文档（*.docx）”" in refused.value.detail


@pytest.mark.parametrize(
    "data",
    [docx(["会议纪要"]), docx([[["序号", "公司名称"], ["1", "甲"]]]), docx([])],
    ids=["text", "list", "empty"],
)
def test_a_document_without_a_card_is_told_which_annexes_may_be_documents(data: bytes) -> None:
    with pytest.raises(Unusable) as refused:
        read(data)
    assert refused.value.code == "workbook.word"
    assert "附件10-1" in refused.value.detail


def test_a_document_is_opened_as_carefully_as_a_workbook() -> None:
    macro = "application/vnd.ms-word.document.macroEnabled.main+xml"
    link = '<Relationship Id="r" Type="http://x/{}" Target="{}" TargetMode="External"/>'
    for data, code in (
        (docx(["x"], type_=macro), "workbook.macros"),
        (docx(["x"], more={"word/vbaProject.bin": b"x"}), "workbook.macros"),
        (docx(["x"], more={"word/embeddings/a.bin": b"x"}), "workbook.ole"),
        (docx(["x"], rels=link.format("image", "http://evil.cn/a.png")), "workbook.external"),
        (docx(["x"], more={"word/x.xml": b"<!DOCTYPE x>"}), "workbook.dtd"),
    ):
        with pytest.raises(Unusable) as refused:
            read(data)
        assert refused.value.code == code
    template = link.format("attachedTemplate", "file:///C:/Users/a/Normal.dotm")
    assert len(read(docx([*HEAD, firm("甲公司")], rels=template))) == 1


def test_half_a_card_is_told_what_it_lacks() -> None:
    (sheet,) = read(docx([*HEAD, firm("甲公司")[:1]]))
    assert (sheet.form, [f.code for f in sheet.findings]) == (None, ["workbook.header"])
    assert "“企业简介”" in sheet.findings[0].detail
    assert "“推荐单位”" not in sheet.findings[0].detail


def test_cards_are_read_in_the_limited_process() -> None:
    (sheet,) = asyncio.run(child.read(case_docx(CASE), "附件10-1.docx", NOTICE))
    assert sheet.rows[0].raw["case_title"] == TITLE
    assert asyncio.run(child.mark(case_docx(CASE), "附件10-1.docx", [], NOTICE)) == case_docx(CASE)


WRITERS = {"xlsx": made.xlsx, "xls": made.xls, "ods": made.ods}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_card_in_a_worksheet_of_every_format(kind: str) -> None:
    rows = [["附件9-2"], ["“城市合伙人”企业推荐表"], *([h] for h in HEAD), *_plain(firm("甲公司"))]
    (sheet,) = read(WRITERS[kind]({"附件9-2": rows}))
    assert (sheet.form, sheet.findings) == ("F9-2", [])
    (row,) = sheet.rows
    assert (row.raw["company_name"], row.cells["company_name"], row.cells["remark"]) == ("甲公司", "B5", "D9")
    assert judged("F9-2", row.raw) == []


def _plain(rows: Sequence[Sequence[str | Box]]) -> list[list[str]]:
    return [[c.text if isinstance(c, Box) else c for c in row] for row in rows]


@pytest.mark.parametrize("form", CARDS)
def test_the_blank_card_is_read_back_as_blank_and_filled_in_as_filled(form: str) -> None:
    judge = NOTICE.forms[form]
    data = card_template(judge, NOTICE.notice)
    assert card_template(judge, NOTICE.notice) == data
    (sheet,) = read(data)
    assert sheet.form == form
    values = {"F10-1": CASE, "F9-2": FIRM, "F9-1": RESOURCE}[form]
    book = openpyxl.load_workbook(BytesIO(data))
    blank = sheet.rows[0].cells if sheet.rows else _cells(data, form)
    for key, value in values.items():
        if isinstance(value, str):
            book.worksheets[0][blank[key]] = value
    out = BytesIO()
    book.save(out)
    row = only(out.getvalue())
    assert {k: v for k, v in row.raw.items() if isinstance(v, str)} == {
        k: v for k, v in values.items() if isinstance(v, str)
    }


def _cells(data: bytes, form: str) -> dict[str, str]:
    """Where a blank template wants its values: beside its labels."""
    sheet = openpyxl.load_workbook(BytesIO(data)).worksheets[0]
    found = {}
    for row in sheet.iter_rows():
        for cell in row:
            if cell.value == "年    月":
                found["declared_on"] = cell.coordinate
            for key, column in NOTICE.forms[form].form.by_key.items():
                if (
                    cell.value is not None
                    and str(cell.value).split("\n")[0] == column.header
                    and key not in found
                ):
                    wide = next(
                        (m.size["columns"] for m in sheet.merged_cells.ranges if cell.coordinate in m), 1
                    )
                    found[key] = sheet.cell(cell.row, cell.column + wide).coordinate
                    break
    return found


RESOURCE = {"reporting_org": "某局", "filled_by": "李四", "filled_on": "2025年3月5日"}


def test_a_marked_card_has_its_faults_in_their_cells() -> None:
    rows = [["附件9-2"], *([h] for h in HEAD), *_plain(firm("甲公司", USCC[:17]))]
    data = made.xlsx({"附件9-2": rows})
    found = filed(data, "K1").findings
    assert rules(found) == [("R-GEN-001", "hard", "D4")]
    marked = mark(data, "附件9-2.xlsx", found, NOTICE)
    comment = openpyxl.load_workbook(BytesIO(marked)).worksheets[0]["D4"].comment
    assert comment is not None
    assert "应为18位" in comment.text
    assert [s.rows for s in read(marked)] == [s.rows for s in read(data)]


TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cf", "Zl", "Zp", "Zs", "Co", "Cn")),
    min_size=1,
)


@settings(max_examples=60, deadline=None)
@given(
    TEXT.filter(
        lambda t: not t.isspace() and "_" not in t and "＿" not in t and "：" not in t and ":" not in t
    )
)
def test_whatever_people_write_into_a_cell_comes_back(text: str) -> None:
    table = firm("甲公司")
    table[1][1] = Box(text, 3)
    row = only(docx([*HEAD, table]))
    assert row.raw["company_intro"] == unicodedata.normalize("NFC", text)


@st.composite
def layouts(draw: st.DrawFn) -> list[Part]:
    """The enterprise card in any layout that a person may make of it."""
    parts: list[Part] = []
    labels = {c.header: FIRM[k] for k, c in NOTICE.forms["F9-2"].form.by_key.items() if k in FIRM}
    for header, value in labels.items():
        gaps = draw(
            st.lists(st.sampled_from(["", " ", "\u3000"]), min_size=len(header), max_size=len(header))
        )
        label = "".join(c + gap for c, gap in zip(header, gaps, strict=True)).strip()
        colon = draw(st.sampled_from(["：", ":", " ："]))
        shape = draw(st.sampled_from(["line", "cell", "beside", "wide", "under"]))
        if shape == "line":
            parts.append(f"{label}{colon}{value}")
        elif shape == "cell":
            parts.append([[f"{label}{colon}\n{value}", ""]])
        elif shape == "beside":
            parts.append([[label + draw(st.sampled_from(["", colon])), value]])
        elif shape == "wide":
            parts.append([[Box(label, 2), Box(value, 3)], [Box("", 5)]])
        else:
            parts.append([[label], [value]])
    return parts


@settings(max_examples=100, deadline=None)
@given(layouts())
def test_a_card_is_read_in_whatever_layout_it_comes(parts: list[Part]) -> None:
    row = only(docx(parts))
    assert row.raw == FIRM
    assert row.cells.keys() >= FIRM.keys()


PIECES = st.sampled_from(
    ["推荐企业名称", "案例名称：", "一、典型案例名称", "序号", "资源描述", "资源名称", "时间", "其他特色资源", STATEMENT,
     "年 月", "第二部分 典型案例内容", "附件9-2", "", "甲", "2025年3月", "企业简介：好", "姓名 职务/职称", "：", "（ ）"]
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(PIECES, st.lists(st.lists(PIECES, min_size=1, max_size=6), min_size=1, max_size=5)),
        max_size=12,
    )
)
def test_whatever_stands_in_a_document_it_is_read_or_refused(parts: list[Part]) -> None:
    try:
        sheets = read(docx(parts))
    except Unusable as refused:
        assert refused.code == "workbook.word"  # noqa: PT017 - either is right, and nothing else may happen
        return
    for sheet in sheets:
        assert sheet.rows or sheet.findings
        for row in sheet.rows:
            assert sheet.form
            NOTICE.forms[sheet.form].judge(row.raw)
