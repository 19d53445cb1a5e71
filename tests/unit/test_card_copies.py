"""Cards as they really arrive: several in one file, divided tables, answers of several paragraphs, odd fonts.

Nothing that somebody wrote is lost in silence: it is read, or a finding with its place says that it was not.
"""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.intake import child, documents, parse, workbook
from services.intake.areas import MOST_ROWS
from services.intake.sheets import Sheet, Unusable
from shared.contracts.submission import Filer
from shared.contracts.types import Finding
from shared.notices.load import load
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
    Table,
    blank,
    case_docx,
    docx,
    firm,
    joined,
    runs,
    symbol,
)

DATA = Path(workbook.__file__).parents[2] / "shared" / "notices" / "data"
NOTICE = load(DATA / "gz-collection-2025q1.yaml")
NOW = datetime(2025, 3, 3, tzinfo=UTC)


def read(data: bytes, name: str = "附件.docx") -> list[Sheet]:
    return workbook.read(data, name, NOTICE)


def told(sheets: Sequence[Sheet]) -> list[tuple[str, str, str | None]]:
    return [(f.code, f.severity, f.cell) for sheet in sheets for f in sheet.findings]


def values(sheets: Sequence[Sheet], key: str) -> list[Any]:
    return [row.raw.get(key) for sheet in sheets for row in sheet.rows]


def plain(rows: Table) -> list[list[str]]:
    return [[c.text if isinstance(c, Box) else c for c in row] for row in rows]


# --- copies and other annexes -------------------------------------------------------------------------------


@pytest.mark.parametrize("at_the_end", [[], [blank(firm(""))]], ids=["", "and a blank copy"])
def test_the_head_of_the_first_copy_is_that_of_all(at_the_end: list[Part]) -> None:
    """T-COL-16: split."""
    sheets = read(docx(["附件9-2", *HEAD, firm("甲公司"), firm("乙公司"), firm("丙公司"), *at_the_end]))
    assert told(sheets) == []
    assert values(sheets, "company_name") == ["甲公司", "乙公司", "丙公司"]
    assert values(sheets, "recommender") == ["某区局"] * 3
    assert values(sheets, "filled_on") == ["2025年3月5日"] * 3


def test_copies_begin_with_the_label_with_which_the_first_one_began() -> None:
    def coded(name: str) -> Table:
        return [["社会信用代码", USCC, "推荐企业名称", name], *firm(name)[1:]]

    sheets = read(docx([*HEAD, coded("甲公司"), coded("乙公司")]))
    assert (told(sheets), values(sheets, "uscc")) == ([], [USCC, USCC])


def test_a_blank_application_behind_a_filled_in_one_is_no_item() -> None:
    nobody = dict.fromkeys(CASE, "") | {"applied_on": "2025 年 月 日", "declared_on": "年 月"}
    sheets = read(joined(case_docx(CASE), case_docx(nobody, boxes="□ 国有 □ 合资 □ 民营 □ 外资")))
    assert (told(sheets), values(sheets, "case_name")) == ([], [TITLE])


SUMMARY: list[Part] = [
    "附件10-2",
    "服务中小企业典型案例推荐对象汇总表",
    "推荐单位（加盖公章）：某机构",
    [["序号", "服务领域", "案例名称", "申报单位"], ["1", "法律服务", TITLE, "甲公司"]],
    "联系人：李四",
    "联系电话：020-83726619",
]


def test_a_list_behind_a_card_is_told_and_not_read_into_it() -> None:
    sheets = read(joined(case_docx(CASE), docx(SUMMARY)))
    assert told(sheets) == [("card.list", "soft", "正文第23段")]
    assert "附件10-2" in sheets[1].findings[0].detail
    assert values(sheets, "lessons") == [CASE["lessons"]]
    assert values(sheets, "contact_name") == ["张三"]


def test_the_title_of_a_second_copy_is_no_text_of_the_first() -> None:
    other = docx(["服务中小企业典型案例", "申报书", f"案例名称：{TITLE}2", "申报单位：乙公司"])
    sheets = read(joined(case_docx(CASE), other))
    assert told(sheets) == []
    assert values(sheets, "lessons") == [CASE["lessons"], None]
    assert values(sheets, "applicant_org") == ["甲公司", "乙公司"]


@pytest.mark.parametrize("note", ["填表说明：1.字数不得超过上述限制。", "注：本表一式两份。"])
def test_a_note_ends_the_last_answer(note: str) -> None:
    sheets = read(joined(case_docx(CASE), docx([note])))
    assert values(sheets, "lessons") == [CASE["lessons"]]
    assert told(sheets) == [("card.unread", "soft", "正文第23段")]


@pytest.mark.parametrize(
    ("survey", "firms"),
    [
        (["附件9-1", '"城市合伙人"可开发资源摸查表 (2025 年度)'], ["附件9-2", '"城市合伙人"企业推荐表']),
        (["附件9-1 “城市合伙人”可开发资源摸查表"], ["附件9-2：“城市合伙人”企业推荐表"]),
        (["城市合伙人可开发资源摸查表"], ["附件 9—2"]),
        (["附件9-1", "十五运“城市合伙人”产品摸排表格"], ["附件9-2", "十五运“城市合伙人”产品摸排表格"]),
    ],
    ids=["straight quotes", "on the line of the annex", "one of the two", "a title that two annexes share"],
)
def test_titles_divide_a_document_in_any_spelling(survey: list[Part], firms: list[Part]) -> None:
    second: list[Part] = ["推荐单位：某区局", "填报人：赵六　填报时间：2025年3月6日", firm("甲公司")]
    sheets = read(docx([*survey, *SURVEY[2:], *firms, *second]))
    assert told(sheets) == []
    assert values(sheets, "filled_by") == ["李四", "赵六"]
    assert values(sheets, "filled_on") == ["2025 年 10 月 9 日", "2025年3月6日"]


def test_half_a_card_beside_a_whole_one_is_told() -> None:
    sheets = read(docx([*SURVEY, "附件9-2", "推荐单位：某区局", "推荐企业名称：甲公司", "社会信用代码："]))
    assert told(sheets) == [("workbook.header", "hard", None)]
    assert "像是附件9-2" in sheets[1].findings[0].detail
    assert "“企业简介”" in sheets[1].findings[0].detail


def test_a_survey_with_one_block_left_stands_beside_an_enterprise() -> None:
    sheets = read(docx([*SURVEY[:6], "附件9-2", *HEAD, firm("甲公司")]))
    assert told(sheets) == []
    assert [len(row.raw["intangible"]) for row in sheets[0].rows] == [2]
    assert values(sheets, "company_name") == [None, "甲公司"]


def test_a_title_with_nothing_below_it_is_nothing() -> None:
    assert told(read(docx([*HEAD, firm("甲公司"), "附件9-1", "附件10-2"]))) == []


def test_a_head_above_its_title_belongs_to_it() -> None:
    sheets = read(docx([*HEAD, "附件9-2", firm("甲公司")]))
    assert (told(sheets), values(sheets, "recommender")) == ([], ["某区局"])


def test_a_title_between_the_tables_of_one_worksheet_is_no_row() -> None:
    rows = [["附件9-1"], ["填报单位：某局"], ADS, SCREENS, ["附件9-1"], VILLAGE]
    (sheet,) = read(made.xlsx({"附件9-1": rows}), "a.xlsx")
    assert [f.cell for f in sheet.findings] == ["D6", "E6"]


def test_what_stands_before_the_card_is_told_once() -> None:
    letter = ["某某局关于报送材料的函", "市工业和信息化局：", "现将有关材料报上。"]
    sheets = read(docx([*letter, "附件9-2", *HEAD, firm("甲公司")]))
    assert told(sheets) == [("card.unread", "info", "正文第1段")]
    assert values(sheets, "company_name") == ["甲公司"]


# --- tables of a card ---------------------------------------------------------------------------------------

TOP: list[Part] = SURVEY[:5]
EVENTS = ["城市大型活动资源", "序号", "资源描述", "资源名称", "时间地点", "是否提供冠名权", "是否提供门票资源",
          "是否提供VIP接待", "是否提供广告或现场展示", "备注"]  # fmt: skip
RACE = ["", "1", "广州主办的重大体育赛事活动资源", "马拉松", "天河", "是", "否", "否", "是", ""]
ADS = ["城市公共广告资源", "序号", "资源描述", "资源名称", "具体内容（含类型、数量、时段等）", "时间", "备注"]
SCREENS = ["", "2", "可用于支持城市合伙人开发的各类户外广告资源", "大屏", "2块", "全年", ""]
SITE = ["官方推广展示资源", "1", "市、区人民政府官方网站展示城市合伙人链接", "官网", "首页", "", ""]
VILLAGE = ["其他特色资源", "", "", "古村落", "3处", "", ""]


def survey(*tables: Table) -> tuple[dict[str, Any], list[Finding]]:
    (sheet,) = read(docx([*TOP, *tables]))
    (row,) = sheet.rows
    return row.raw, sheet.findings


def test_a_note_within_a_row_does_not_end_its_table() -> None:
    bus = ["", "1", "可用于支持城市合伙人开发的各类公益广告时段和形式（如公交、地铁、电梯广告等）", "公交屏",
           "说明：须提前预约", "全年", "注：可谈"]  # fmt: skip
    raw, found = survey([ADS, bus, SCREENS, VILLAGE])
    assert found == []
    assert [e["resource_name"] for e in raw["public_advertising"]] == ["公交屏", "大屏"]
    assert raw["public_advertising"][0]["content"] == "说明：须提前预约"
    assert len(raw["other_resources"]) == 1


def test_a_note_below_a_table_ends_it() -> None:
    raw, found = survey([ADS, SCREENS, [Box("说明：以上资源均可洽谈", 7)], VILLAGE])
    assert [f.cell for f in found] == ["表1第3行第1格", "表1第4行第4格", "表1第4行第5格"]
    assert "other_resources" not in raw


def test_a_table_goes_on_over_the_page() -> None:
    raw, found = survey([ADS, SCREENS], [["", "", "", "车身", "5辆", "", ""], SITE, VILLAGE])
    assert found == []
    assert [(e["description"], e["resource_name"]) for e in raw["public_advertising"]] == [
        (SCREENS[2], "大屏"),
        (SCREENS[2], "车身"),
    ]
    assert [e["resource_name"] for e in raw["official_promotion"]] == ["官网"]
    assert [e["resource_name"] for e in raw["other_resources"]] == ["古村落"]


def test_a_header_in_other_words_is_told_with_what_stands_below_it() -> None:
    other = [*EVENTS[:4], "时间/地点", *EVENTS[5:7], "是否提供贵宾接待", *EVENTS[8:]]
    raw, (found,) = survey([other, RACE])
    assert raw["events"][0]["time_place"] == "天河"
    assert (found.rule, found.code, found.severity, found.cell) == (
        "F9-1.B7", "workbook.column", "soft", "表1第1行第3格",
    )  # fmt: skip
    assert "缺少“是否提供VIP接待”一列" in found.detail
    assert "“是否提供贵宾接待”" in found.detail


def test_a_missing_column_that_is_needed_refuses() -> None:
    short = [[c for i, c in enumerate(row) if i != 4] for row in (ADS, SCREENS)]
    _, (found,) = survey(short)
    assert (found.rule, found.severity) == ("F9-1.C4", "hard")


def test_an_added_column_is_told() -> None:
    raw, (found,) = survey([[*EVENTS, "联系人"], [*RACE, "张三"]])
    assert len(raw["events"]) == 1
    assert (found.code, found.severity) == ("workbook.column", "soft")
    assert "“联系人”" in found.detail
    assert "张三" not in found.detail
    assert survey([[*EVENTS, "联系人"], [*RACE, ""]])[1] == []


def test_an_added_row_belongs_to_the_one_above_it() -> None:
    raw, found = survey([ADS, SCREENS, SITE, ["", "", "", "区官网", "首页", "", ""], VILLAGE])
    assert found == []
    assert len(raw["public_advertising"]) == 1
    assert [(e["description"], e["resource_name"]) for e in raw["official_promotion"]] == [
        (SITE[2], "官网"),
        (SITE[2], "区官网"),
    ]
    assert "description" not in raw["other_resources"][0]


def test_a_name_may_be_the_printed_description() -> None:
    raw, found = survey([ADS, SITE, ["", "4", "产业推介", "产业推介", "每季1场", "", ""]])
    assert found == []
    assert [e["resource_name"] for e in raw["official_promotion"]] == ["官网", "产业推介"]


def test_a_description_that_is_merged_over_the_name_is_none() -> None:
    raw, found = survey([ADS, SITE, ["", "4", Box("产业推介", 2), "", "", ""]])
    assert found == []
    assert len(raw["official_promotion"]) == 1


def test_a_description_of_their_own_without_more_is_told() -> None:
    raw, found = survey([ADS, SITE, ["", "6", "我们自己的渠道", "", "", "", ""]])
    assert len(raw["official_promotion"]) == 1
    assert [(f.code, f.severity, f.cell) for f in found] == [("card.unread", "soft", "表1第3行第3格")]


# --- answers ------------------------------------------------------------------------------------------------


def of_firm(table: Table) -> tuple[dict[str, Any], list[str | None]]:
    (sheet,) = read(docx([*HEAD, table]))
    assert {f.code for f in sheet.findings} <= {"card.unread"}
    return sheet.rows[0].raw, [f.cell for f in sheet.findings]


def test_two_enterprises_in_columns_are_told_cell_by_cell() -> None:
    labels = [row[i] for row in plain(firm("甲公司")) for i in (0, 2) if len(row) > i + 1]
    table = [[str(label), f"甲{i}", f"乙{i}"] for i, label in enumerate(labels)]
    raw, unread = of_firm(table)
    assert raw["company_name"] == "甲0"
    assert unread == [f"表1第{i + 1}行第3格" for i in range(len(table))]


def test_a_row_below_a_row_of_answers_goes_on_with_them() -> None:
    table = firm("甲公司")
    raw, unread = of_firm([table[0], ["", "乙公司", "", ""], *table[1:]])
    assert (raw["company_name"], unread) == ("甲公司\n乙公司", [])
    kind = parse.Filing(NOTICE, Filer(code="440106", kind="K1", name="某机构"), None, "440106", NOW)
    (checked,) = parse.offline(kind, read(docx([*HEAD, [table[0], ["", "乙公司", "", ""], *table[1:]]])))
    assert [f.rule for f in checked.findings] == ["R-COL-029"]


def test_an_answer_of_two_rows_is_one_answer() -> None:
    table = firm("甲公司")
    raw, unread = of_firm([*table[:2], ["", Box("第二段", 3)], *table[2:]])
    assert (raw["company_intro"], unread) == ("做检测的企业\n第二段", [])
    merged: Table = [
        table[0],
        [Box("企业简介", merge="restart"), Box("第一段", 3)],
        [Box(merge="continue"), Box("第二段", 3)],
        *table[2:],
    ]
    raw, unread = of_firm(merged)
    assert (raw["company_intro"], unread) == ("第一段\n第二段", [])


def test_an_answer_may_stand_further_right() -> None:
    labels = {c.header: FIRM[k] for k, c in NOTICE.forms["F9-2"].form.by_key.items() if k in FIRM}
    (sheet,) = read(docx([[[label, "", value] for label, value in labels.items()]]))
    assert (sheet.rows[0].raw, sheet.findings) == (FIRM, [])


def test_an_answer_may_stand_below_its_merged_label() -> None:
    card = plain(firm("甲公司"))
    rows = [
        [HEAD[0]],
        [HEAD[1]],
        card[0],
        ["企业简介"],
        ["做检测的企业"],
        ["推荐理由"],
        ["技术领先"],
        *card[3:],
    ]
    (sheet,) = read(made.xlsx({"附件9-2": rows}, merges=[(r, 0, r, 3) for r in range(3, 7)]))
    assert sheet.findings == []
    raw = sheet.rows[0].raw
    assert (raw["company_intro"], raw["reason"]) == ("做检测的企业", "技术领先")


def test_an_answer_left_blank_does_not_take_the_caption_below_it() -> None:
    raw, unread = of_firm([*firm("甲公司")[:4], ["备注", "", "", ""], ["推荐单位意见", Box("同意", 3)]])
    assert "remark" not in raw
    assert unread == ["表1第6行第1格", "表1第6行第2格"]


def test_text_without_a_label_goes_on_with_the_answer_above_it() -> None:
    lines = ["推荐企业名称：甲公司", "社会信用代码：" + USCC, "企业简介：第一段。", "第二段，备注：见上，很重要。", "推荐理由：",
             "技术领先", "企业联系人姓名：王五", "企业联系人职务：总经理", "企业联系人联系方式：13800138000"]  # fmt: skip
    (sheet,) = read(docx([*HEAD, *lines]))
    assert sheet.findings == []
    raw = sheet.rows[0].raw
    assert raw["company_intro"] == "第一段。\n第二段，备注：见上，很重要。"
    assert (raw["reason"], "remark" in raw) == ("技术领先", False)


def test_a_row_that_the_form_does_not_have_is_told() -> None:
    raw, unread = of_firm([*firm("甲公司"), ["企业获奖情况", Box("某奖", 3)]])
    assert unread == ["表1第6行第1格", "表1第6行第2格"]
    assert raw["contact_phone"] == "13800138000"


def test_text_before_a_label_in_its_cell_is_told() -> None:
    _, unread = of_firm([["（内部资料） 推荐企业名称：甲公司", "社会信用代码：" + USCC], *firm("甲公司")[1:]])
    assert unread == ["表1第1行第1格"]


def test_what_is_told_never_repeats_what_was_written() -> None:
    (sheet,) = read(docx([*HEAD, [*firm("甲公司"), ["企业获奖情况", Box("某奖", 3)]]]))
    assert [f.detail for f in sheet.findings][1:] == ["表1第6行第2格的内容没有读取"]
    assert sheet.findings[0].clause == "附件9-2"


# --- headings and dates -------------------------------------------------------------------------------------


@pytest.mark.parametrize("heading", ["（三）服务成效", "3.典型经验：", "服务成效："])
def test_a_heading_within_an_answer_is_part_of_it(heading: str) -> None:
    text = f"（一）调研。\n{heading}\n服务企业10家。"
    sheets = read(case_docx(CASE | {"practices": text}))
    assert told(sheets) == []
    assert values(sheets, "practices") == [text]
    assert values(sheets, "results") == [CASE["results"]]
    assert values(sheets, "lessons") == [CASE["lessons"]]


LABELS: Table = [["案例名称", TITLE], ["企业名称", "甲"], ["联系地址", "某路"], ["人员规模", "9"], ["主导产品", "平台"],
             ["电子邮箱", "a@b.cn"], ["组织简介", "x"], ["联系电话", "83726619"], ["职务", "经理"], ["姓名", "张三"],
             ["申报单位", "甲"], ["申报日期", "2025年3月5日"], ["典型案例名称", TITLE], ["企业类型", "民营"]]  # fmt: skip


def test_headings_with_other_numbers_are_headings_where_there_are_no_better_ones() -> None:
    parts: list[Part] = ["（一）典型案例名称", TITLE, "（二）拟解决的企业痛点或关键问题", "融资难", "（三）主要做法", "调研",
                         "（四）服务成效", "100家", "（五）典型经验", "共享"]  # fmt: skip
    sheets = read(docx(["附件10-1", LABELS, *parts]))
    found = [values(sheets, key) for key in ("pain_points", "practices", "results", "lessons")]
    assert found == [["融资难"], ["调研"], ["100家"], ["共享"]]


def test_a_date_within_an_answer_is_not_that_of_the_statement() -> None:
    text = "2024年3月\n启动项目。\n2024年9月\n完成建设。"
    sheets = read(case_docx(CASE | {"declared_on": "年 月", "practices": text}))
    assert told(sheets) == []
    assert (values(sheets, "practices"), values(sheets, "declared_on")) == ([text], [None])


def test_a_statement_may_be_printed_in_two_paragraphs() -> None:
    first, _, second = STATEMENT.partition("我单位在")
    body = case_docx(CASE | {"declared_on": ""})
    assert values(read(body), "declaration_accepted") == [True]
    sheets = read(docx(["附件10-1", LABELS, first, "我单位在" + second, "2025年3月"]))
    assert values(sheets, "declaration_accepted") == [True]
    assert values(sheets, "declared_on") == ["2025年3月"]
    sheets = read(docx(["附件10-1", LABELS, first, "2025年3月"]))
    assert values(sheets, "declaration_accepted") == [False]


# --- which card it is ---------------------------------------------------------------------------------------

COVER: list[list[Any]] = [
    ["报送材料封面"],
    ["填报单位：某区局"],
    ["填报人：李四"],
    ["填报时间：2025年3月5日"],
]
LIST: list[list[Any]] = [["附件10-2"], ["推荐单位（加盖公章）：某机构"], ["序号", "服务领域", "案例名称", "申报单位"],
        [1, "法律服务", TITLE, "甲公司"], ["联系人：张三"], ["联系电话：020-83726619"]]  # fmt: skip


def test_a_cover_sheet_is_no_card() -> None:
    sheets = read(made.xlsx({"封面": COVER, "附件10-2": LIST}), "a.xlsx")
    assert told(sheets) == [("workbook.ignored", "info", None)]
    assert values(sheets, "case_name") == [TITLE]


def test_a_survey_of_one_block_is_a_survey() -> None:
    (sheet,) = read(docx(SURVEY[:6]))
    assert (sheet.form, sheet.findings, len(sheet.rows)) == ("F9-1", [], 1)


def test_a_head_without_its_card_is_told_beside_another() -> None:
    sheets = read(docx(["附件9-1", *SURVEY[2:5], "附件9-2", *HEAD, firm("甲公司")]))
    assert told(sheets) == [("workbook.header", "soft", None)]
    assert "“城市无形资产资源”或" in sheets[1].findings[0].detail


@pytest.mark.parametrize("long", ["好" * 10, "好" * 3000])
def test_a_card_within_one_cell_is_found(long: str) -> None:
    table = plain(firm("甲公司"))
    table[2][1] = long
    pairs = [f"{row[i]}：{row[i + 1]}" for row in table for i in (0, 2) if len(row) > i + 1]
    (sheet,) = read(docx([*HEAD, [["\f".join(pairs)]]]))
    assert (sheet.form, sheet.rows[0].raw["reason"]) == ("F9-2", long)


def test_a_hidden_card_is_told() -> None:
    card = [["附件9-2"], *([h] for h in HEAD), *plain(firm("甲公司"))]
    sheets = read(made.xlsx({"附件10-2": LIST, "附件9-2": card}, hidden=["附件9-2"]), "a.xlsx")
    assert told(sheets) == [("workbook.hidden", "info", None)]


def test_what_stands_too_far_down_is_told() -> None:
    rows: list[list[Any]] = [["附件9-2"], *([h] for h in HEAD)]
    for i in range(100):
        rows += [*plain(firm(f"公司{i}")), ["注：如推荐多家企业，可复制本表格填写。"]]
    (sheet,) = read(made.xlsx({"附件9-2": rows}), "a.xlsx")
    assert len(sheet.rows) < 100
    assert told([sheet]) == [("card.rows", "hard", f"A{MOST_ROWS + 1}")]


# --- what Word shows ----------------------------------------------------------------------------------------


def answered(xml: str) -> Any:
    table = firm("甲公司")
    table[2][1] = Box(xml, 3)
    return values(read(docx([*HEAD, table])), "reason")[0]


def in_font(text: str, font: str) -> str:
    fonts = f'<w:rFonts w:ascii="{font}" w:hAnsi="{font}"/>'
    return f"<w:r><w:rPr>{fonts}</w:rPr><w:t>{text}</w:t></w:r>"


@pytest.mark.parametrize(
    ("xml", "shown"),
    [
        (symbol("F0A3", "Symbol") + runs("2小时，") + symbol("F0B3", "Symbol") + runs("98%"), "≤2小时，≥98%"),
        (in_font("\uf0a3", "Symbol") + runs("2小时"), "≤2小时"),
        (in_font("R", "Wingdings 2") + runs("甲") + in_font("\u00a3", "Wingdings 2") + runs("乙"), "☑甲□乙"),
        (symbol("F052", "Wingdings 2") + runs("甲") + symbol("F0A3", "Wingdings 2") + runs("乙"), "☑甲□乙"),
        (symbol("F0FE") + runs("甲") + symbol("F0A8") + runs("乙"), "☑甲□乙"),
        (symbol("2265", "宋体") + runs("98%"), "≥98%"),
        (in_font("R", "宋体"), "R"),
    ],
)
def test_a_symbol_is_what_its_font_shows(xml: str, shown: str) -> None:
    assert answered(xml) == shown


def test_the_prompt_of_a_content_control_is_no_answer() -> None:
    def control(state: str) -> str:
        inner = "<w:r><w:t>单击此处输入文字。</w:t></w:r>"
        return f"<w:sdt><w:sdtPr>{state}</w:sdtPr><w:sdtContent>{inner}</w:sdtContent></w:sdt>"

    assert answered("<w:r/>" + control("<w:showingPlcHdr/>")) is None
    assert answered("<w:r/>" + control("")) == "单击此处输入文字。"


@pytest.mark.parametrize(
    ("chosen", "org"), [('<w:result w:val="2"/>', "民营"), ('<w:default w:val="1"/>', "合资")]
)
def test_the_choice_of_an_old_drop_down_is_read(chosen: str, org: str) -> None:
    entries = "".join(f'<w:listEntry w:val="{one}"/>' for one in ("国有", "合资", "民营"))
    field = f'<w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:ddList>{chosen}{entries}</w:ddList></w:ffData></w:fldChar></w:r>'
    assert values(read(case_docx(CASE, boxes=field)), "org_type") == [org]


def test_findings_name_the_file() -> None:
    (sheet,) = read(docx([*HEAD, [*firm("甲公司"), ["其他", "x", "", ""]]]), "二\u202e公司.docx")
    assert {f.sheet for f in sheet.findings} == {sheet.sheet} == {"二公司.docx"}


MACROS = "application/vnd.ms-word.document.macroEnabled.main+xml"
LINK = '<Relationship Id="r" Type="x/hyperlink" Target="file:///D:/a.docx" TargetMode="External"/>'


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (docx(["x"], type_=MACROS), "附件10-1.docm"),
        (docx(["x"], rels=LINK), "附件10-1.docx"),
        (b"{\\rtf1 x}", "附件10-1.rtf"),
        (b"<html><body>x</body></html>", "附件10-1.doc"),
        (docx(["x"], more={"word/x.xml": b"<!DOCTYPE x>"}), "附件10-1.docx"),
        (b"PK\x03\x04broken", "附件10-1.docx"),
    ],
    ids=["macros", "link", "rtf", "html", "dtd", "damaged"],
)
def test_advice_for_a_word_document_is_words_own(data: bytes, name: str) -> None:
    with pytest.raises(Unusable) as refused:
        read(data, name)
    assert "Excel" not in refused.value.detail
    assert "数据—编辑链接" not in refused.value.detail
    assert "Word" in refused.value.detail or "文件—信息" in refused.value.detail


def test_a_document_that_takes_too_long_is_told_to_stay_one() -> None:
    limits = replace(child.USUAL, seconds=1e-6)
    for name, other in (("附件10-1.docx", ".xlsx"), ("附件10-1.xlsx", ".docx")):
        with pytest.raises(Unusable) as refused:
            asyncio.run(child.read(case_docx(CASE), name, NOTICE, limits))
        assert refused.value.code == "workbook.timeout"
        assert other not in refused.value.detail
    child.close()


# --- nothing is lost in silence -----------------------------------------------------------------------------

PRINTED = ["推荐企业名称", "社会信用代码", "企业简介", "推荐理由：", "备注", "附件9-2", "“城市合伙人”企业推荐表", "资源描述", "资源名称",
           "具体内容（含数量）", "时间", "其他特色资源", "产业推介", "注：", "第二部分 典型案例内容", "三、主要做法", "（三）服务成效", "序号",
           "", "", ""]  # fmt: skip
CELLS = st.one_of(st.sampled_from(PRINTED), st.integers(0, 9).map(lambda n: f"?{n}"))
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=7), min_size=1, max_size=4)
BASES: dict[str, list[Part]] = {
    "F9-2": ["附件9-2", *HEAD, firm("甲公司")],
    "F9-1": [*SURVEY],
    "F10-1": [*HEAD, firm("甲公司"), "附件9-1", *SURVEY[2:]],
}


@settings(max_examples=300, deadline=None)
@example("F10-1", [[["备注", "资源描述", "资源名称", "?0"]]], 4)
@given(
    st.sampled_from(sorted(BASES)),
    st.lists(st.one_of(CELLS, ROWS), min_size=1, max_size=6),
    st.integers(0, 9),
)
def test_whatever_is_added_is_read_or_told(base: str, added: list[str | list[list[str]]], at: int) -> None:
    """A text of ours stands in a value, or a finding names its cell."""
    counter = count()

    def own(text: str) -> str:
        return f"文{next(counter)}字" if text.startswith("?") else text

    parts: list[Part] = [own(p) if isinstance(p, str) else [[*map(own, row)] for row in p] for p in added]
    whole: list[Part] = [*BASES[base][:at], *parts, *BASES[base][at:]]
    try:
        sheets = read(docx(whole))
    except Unusable:
        return
    kept = json.dumps([row.raw for sheet in sheets for row in sheet.rows], ensure_ascii=False)
    findings = [f for sheet in sheets for f in sheet.findings]
    if any(f.code in ("workbook.header", "card.list") for f in findings):
        return  # told as a whole
    together = [
        f for f in findings if f.code == "workbook.column" or f.severity == "info" or "还有" in f.detail
    ]
    told_at = {f.cell for f in findings}
    spots = [spot for area in documents.areas_of(docx(whole)) for spot in area.spots]
    texts = [(text, spot.place) for spot in spots for text in re.findall(r"文\d+字", spot.text)]
    lost = [text for text, place in texts if text not in kept and place not in told_at]
    assert not lost or together
