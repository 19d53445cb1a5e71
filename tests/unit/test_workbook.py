"""Workbooks as people really fill them in, and as attackers would: what is read, what is said, what is refused.

Whether a value is right is tested with the forms.
"""

import asyncio
import os
import random
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZipFile, ZipInfo

import openpyxl
import openpyxl.comments
import openpyxl.styles
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from python_calamine import load_workbook

from services.intake import child, workbook
from services.intake.attachments import refuse_unsafe
from services.intake.marking import mark
from services.intake.pages import text_of
from services.intake.sheets import MB, Sheet, Unusable
from services.intake.template import template
from services.intake.workbook import RESULT
from shared.contracts.types import Finding
from shared.notices.load import CompiledNotice, load
from shared.runtime.embedded import wait_until
from tests import workbooks as made
from tests.documents import Raw, docx
from tests.workbooks import Cell, head

DATA = Path(workbook.__file__).parents[2] / "shared" / "notices" / "data"
NOTICE = load(DATA / "gz-collection-2025q1.yaml")
F3, F4, F5, F6, F8, F10 = (NOTICE.forms[f].form for f in ("F3", "F4", "F5", "F6", "F8", "F10-2"))

LISTS = [form for form, judge in NOTICE.forms.items() if judge.form.columns]

WHO = "张三 020-83726619"
LOAN = [
    "甲银行",
    WHO,
    "科技贷",
    "信用贷款",
    500,
    "6-36",
    "按月付息",
    "信用",
    "3.65%-4.5%",
    "快",
    "小微",
    "纳税",
]
KIT = ["甲公司", "光谱仪", "3台", "检测", WHO]

WRITERS = {"xlsx": made.xlsx, "xls": made.xls, "ods": made.ods}


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    yield
    child.close()


def read(data: bytes, name: str = "附表.xlsx", notice: CompiledNotice = NOTICE) -> list[Sheet]:
    return workbook.read(data, name, notice)


def only(data: bytes) -> Sheet:
    (sheet,) = read(data)
    return sheet


def codes(sheet: Sheet) -> list[str]:
    return [f.code for f in sheet.findings]


def column(sheet: Sheet, key: str) -> list[str | None]:
    return [row.raw.get(key) for row in sheet.rows]


# --- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_a_table_is_read_in_every_format(kind: str) -> None:
    rows = [
        ["附件5"],
        ["广州市2025年第一季度“一起益企”金融服务产品汇总表"],
        head(F5),
        [1, *LOAN],
        [2, *LOAN[:4]],
    ]
    sheet = only(WRITERS[kind]({"Sheet1": rows}))
    assert (sheet.form, sheet.header, sheet.findings) == ("F5", 3, [])
    keys = [c.key for c in F5.columns]
    assert sheet.rows[0].raw == dict(zip(keys, [str(v) for v in LOAN], strict=True))
    assert sheet.rows[1].raw == dict(zip(keys[:4], LOAN[:4], strict=True))
    assert [r.row for r in sheet.rows] == [4, 5]
    assert sheet.rows[1].cells["admission"] == "M5"
    assert NOTICE.forms["F5"].judge(sheet.rows[0].raw).stored is not None


def test_the_header_is_found_by_its_words_whatever_the_sheet_the_row_and_the_order() -> None:
    wanted = ["联系人\n及联系方式", "★共享仪器和设备名称", "公司 名称：", "主要用途", "台数"]
    rows: list[list[Any]] = [["说明"], [], ["致各单位"], [], wanted, [WHO, "光谱仪", "甲公司", "检测", 3]]
    sheet = only(made.xlsx({"随便": rows, "空": []}))
    assert (sheet.form, sheet.header) == ("F6", 5)
    row = sheet.rows[0]
    assert row.raw == {
        "company_name": "甲公司",
        "equipment_name": "光谱仪",
        "quantity": "3",
        "main_use": "检测",
        "contact": WHO,
    }
    assert (row.cells["company_name"], row.cells["contact"]) == ("C6", "A6")


def test_half_width_brackets_and_missing_ones_are_the_same_column() -> None:
    header = [h.replace("（", " (").replace("）", ")") for h in head(F5)]
    header[5], header[9] = "最高贷款金额", "贷款利率区间"
    assert only(made.xlsx({"附件5": [header, [1, *LOAN]]})).findings == []


@pytest.mark.parametrize(
    ("rule", "unit", "expected"), [("R-GEN-007", "万元", "met"), ("R-GEN-007", "元", "broken")]
)
def test_a_sum_is_read_under_the_unit_of_the_annex(rule: str, unit: str, expected: str) -> None:
    header = head(F5)
    header[5] = f"最高贷款金额（{unit}）"
    sheet = only(made.xlsx({"附件5": [header, [1, *LOAN]]}))
    assert column(sheet, "max_amount_wan") == (["500"] if expected == "met" else [None])
    assert rule in NOTICE.notice.by_rule


def test_a_header_with_another_unit_is_another_column() -> None:
    header = head(F5)
    header[5] = "最高贷款金额（元）"
    sheet = only(made.xlsx({"附件5": [header, [1, *LOAN]]}))
    assert codes(sheet) == ["workbook.column"]
    assert sheet.findings[0].rule == "F5.06"
    assert "缺少“最高贷款金额（万元）”一列，应在“产品简要介绍”之后" in sheet.findings[0].detail
    assert "F1“最高贷款金额（元）”" in sheet.findings[0].detail
    assert sheet.rows[0].raw["extra"] == {"最高贷款金额（元）": "500"}


def test_extra_columns_are_kept_where_they_are_filled() -> None:
    header = [*head(F6), "备注", "网址\n（选填）", RESULT]
    rows: list[list[Any]] = [
        header,
        [1, *KIT, "可上门", None, "【必须修改】…"],
        [2, *KIT, None, "www.a.cn"],
        [3, *KIT],
    ]
    sheet = only(made.xlsx({"附件6": rows}))
    extra = [row.raw.get("extra") for row in sheet.rows]
    assert extra == [{"备注": "可上门"}, {"网址（选填）": "www.a.cn"}, None]


@pytest.mark.parametrize("kind", WRITERS)
def test_t_col_14_serials_do_not_matter_and_a_blank_domain_is_the_one_above(kind: str) -> None:
    domains = [
        "★人工智能新兴产业分析（数字化赋能）", None, "★市场拓展（出海服务）", None, "政策宣贯",
        "法律服务", "引才育才", "融资促进", None, "第十五届全运会产品和服务场景对接服务",
    ]  # fmt: skip
    rows: list[list[Any]] = [["广州市2025年第一季度中小企业服务活动清单"], head(F3)]
    for serial, domain in zip((1, 2, 3, 4, 6, 7, 8, 8, 9, 10), domains, strict=True):
        rows.append([serial, domain, "甲协会", f"活动{serial}", "6月10日", "线上", "讲解", "约100人", WHO])
    sheet = only(WRITERS[kind]({"附件3": rows}))
    inherited = [domains[0], domains[0], domains[2], domains[2], *domains[4:8], domains[7], domains[9]]
    assert column(sheet, "service_domain") == inherited
    assert [row.row for row in sheet.rows] == list(range(3, 13))
    assert sheet.rows[1].cells["service_domain"] == "B4"


@pytest.mark.parametrize("kind", WRITERS)
def test_merged_cells_give_their_value_to_every_row(kind: str) -> None:
    rows: list[list[Any]] = [
        head(F6),
        [1, "甲公司", "光谱仪", "3台", "检测", WHO],
        [2, None, "质谱仪", "1台", "分析", None],
        [3, None, None, None, None, None],
        [4, "乙公司", "显微镜", "2台", "观察", WHO],
    ]
    sheet = only(WRITERS[kind]({"附件6": rows}, merges=[(1, 1, 3, 1), (1, 5, 3, 5)]))
    assert column(sheet, "company_name") == ["甲公司", "甲公司", "乙公司"]
    assert column(sheet, "contact") == [WHO, WHO, WHO]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_merged_header_of_two_rows_and_a_contact_in_two_columns(kind: str) -> None:
    top = [*head(F6), None]
    below = [None, None, None, None, None, "姓名", "电话"]
    rows: list[list[Any]] = [["汇总表"], top, below, [1, *KIT[:4], "张三", "020-83726619"]]
    merges = [(0, 0, 0, 6), (1, 5, 1, 6), *((1, c, 2, c) for c in range(5))]
    assert column(only(WRITERS[kind]({"附件6": rows}, merges=merges)), "contact") == [WHO]


def test_a_contact_split_under_two_headers_is_one() -> None:
    rows: list[list[Any]] = [
        ["序号", "公司名称", "设备名称", "数量", "主要用途", "联系人", "联系方式"],
        [1, *KIT[:4], "张三", 13800138000],
    ]
    assert column(only(made.xlsx({"1": rows})), "contact") == ["张三 13800138000"]


def test_what_is_no_entry_is_passed_over() -> None:
    note = F3.notes[1].text
    entry = ["甲协会", "活动", "6月10日", "线上", "讲解", 100, WHO]
    rows: list[list[Any]] = [
        ["附件3"],
        [None, "填报日期：2024年12月1日"],
        head(F3),
        ["例：", "政策宣贯", *entry],
        [None, "政策宣贯", "例：某某协会", *entry[1:]],
        [1, "政策宣贯", *entry],
        [2, "法律服务"],
        [3, None, *entry],
        [],
        [None, "  ", None, "　"],
        head(F3),
        [4, None, *entry],
        ["一、线上活动"],
        [5, "引才育才", *entry],
        ["合计", None, None, 3, None, None, None, 300],
        ["注：", "本表可加行"],
        [F3.notes[0].text],
        [None, note],
        ["填表人：李四", None, None, "日期：2025年3月1日"],
        [None, "填报单位（盖章）：某某协会"],
    ]
    sheet = only(made.xlsx({"附件3": rows}, merges=[(12, 0, 12, 8)]))
    assert [row.row for row in sheet.rows] == [6, 8, 12, 14]
    assert column(sheet, "service_domain") == ["政策宣贯", "法律服务", "法律服务", "引才育才"]
    assert sheet.findings == []


def test_the_row_of_clusters_within_annex_8_is_a_note() -> None:
    item = ["甲协会", "活动", "长期", "广州", "讲解", "—", WHO]
    rows = [["附件1"], head(F8), [1, "激发集群创新活力", *item], [2, "提升集群治理和服务能力"]]
    rows.append(["项目集群名单", F8.notes[0].text])
    sheet = only(made.xlsx({"汇总": rows}, merges=[(4, 1, 4, 8)]))
    assert (sheet.form, len(sheet.rows), sheet.findings) == ("F8", 1, [])


def test_labelled_lines_around_the_table_belong_to_every_row() -> None:
    case = ["法律服务", "某案例", "甲公司"]
    rows = [
        ["附件10-2"],
        ["推荐单位(加盖公章)：天河区商务金融局"],
        head(F10),
        [1, *case],
        [2, *case],
        ["联 系 人：", None, "李四", "联系电话：  020-83726619"],
    ]
    sheet = only(made.xlsx({"附件10-2": rows}))
    lines = {"recommender": "天河区商务金融局", "contact_name": "李四", "contact_phone": "020-83726619"}
    assert sheet.lines == lines
    assert [row.raw for row in sheet.rows] == [
        {"service_domain": "法律服务", "case_name": "某案例", "applicant_org": "甲公司", **lines}
    ] * 2
    assert sheet.rows[0].cells["contact_name"] == "C6"
    together = [["推荐单位：", "甲局"], head(F10), [1, *case], [None, "联系人：李四　联系电话：020-83726619"]]
    assert only(made.xlsx({"1": together})).lines == {**lines, "recommender": "甲局"}


# --- cells ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell(0.0365, "0.00%"), "3.65%"),
        (0.0365, "3.65%"),
        (3.65, "3.65"),
        ("3.65%-4.5%", "3.65%-4.5%"),
        (Cell(0.07 + 1e-17, "0%"), "7%"),
    ],
)
@pytest.mark.parametrize("kind", WRITERS)
def test_a_rate_is_read_as_it_is_shown(kind: str, cell: Any, text: str) -> None:
    rows = [head(F5), [1, *LOAN[:8], cell, *LOAN[9:]]]
    assert column(only(WRITERS[kind]({"附件5": rows})), "rate_range") == [text]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (13800138000.0, "13800138000"),
        (date(2025, 6, 10), "2025年6月10日"),
        (Cell(datetime(2025, 6, 10, 9, 30), "yyyy/m/d h:mm"), "2025年6月10日 9:30"),  # noqa: DTZ001
        (Cell(date(2025, 6, 1), 'yyyy"年"m"月"'), "2025年6月"),
        (Cell(date(2025, 6, 1), 'yyyy"年"m"月"d"日"'), "2025年6月1日"),
        (Cell(0.5, "0.0%"), "50%"),
        (0.1 + 0.2, "0.3"),
        (True, "是"),
        ("=1+1", "=1+1"),
        ("+86 20", "+86 20"),
        ("@甲", "@甲"),
        ("-", "-"),
        (" 甲\u200b\r\n乙\x07\u202e ", "甲\n乙"),
        ("_x000D_", "_x000D_"),
    ],
)
def test_a_cell_is_read_as_the_filer_sees_it(cell: Any, text: str) -> None:
    rows = [head(F6), [1, "甲公司", "光谱仪", "3台", cell, WHO]]
    assert column(only(made.xlsx({"附件6": rows})), "main_use") == [text]


def test_a_term_that_the_spreadsheet_took_for_a_date_is_told() -> None:
    day = Cell(date(2025, 6, 12), 'm"月"d"日"')
    sheet = only(made.xlsx({"附件5": [head(F5), [1, *LOAN], [2, *LOAN[:5], day, *LOAN[6:]]]}))
    (finding,) = sheet.findings
    assert (finding.code, finding.rule, finding.severity) == ("cell.date", "F5.07", "hard")
    assert (finding.row, finding.cell) == (3, "G3")


plain = st.text("甲乙丙丁服务ABCxyz019=+-@'\"&<>,.;%#_x（）㎡🚀 \n\u3000", min_size=1, max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(st.lists(plain.filter(str.strip), min_size=7, max_size=7), min_size=1, max_size=5),
    order=st.permutations(range(7)),
    gaps=st.sets(st.integers(0, 4)),
    title=st.booleans(),
)
def test_whatever_is_written_is_read_back(
    rows: list[list[str]], order: list[int], gaps: set[int], title: bool
) -> None:
    keys = [F4.columns[i].key for i in order]
    table: list[list[Any]] = [["附件4"]] if title else []
    table.append(["序号", *(F4.columns[i].header for i in order)])
    for i, row in enumerate(rows):
        table += [[None]] * (i in gaps) + [[i + 1, *(row[j] for j in order)]]
    sheet = only(made.xlsx({"x": table}))
    expected = [
        {key: text for key, j in zip(keys, order, strict=True) if (text := text_of(row[j]))} for row in rows
    ]
    assert [row.raw for row in sheet.rows] == expected


# --- which annex, and whose -----------------------------------------------------------------------------------


def test_the_header_decides_which_annex_it_is() -> None:
    sheet = only(made.xlsx({"附件5": [head(F4), [1, *["文"] * 7]]}))
    assert (sheet.form, codes(sheet)) == ("F4", ["workbook.label"])
    assert sheet.findings[0].severity == "info"
    assert "按附件4读取" in sheet.findings[0].detail


@pytest.mark.parametrize(
    ("title", "told"),
    [
        ("广州市2024年第四季度“一起益企”检验检测和设备共享产品信息表", "2024年第四季度"),
        ("广州市2025年第 2 季度检验检测和设备共享产品信息表", "2025年第二季度"),
        ("第三季度检验检测和设备共享产品信息表", "第三季度"),
        ("2026 年检验检测和设备共享产品信息表", "2026年"),
    ],
)
def test_the_annex_of_another_round_is_told_apart(title: str, told: str) -> None:
    sheet = only(made.xlsx({"附件6": [[title], head(F6), [1, *KIT]]}))
    (finding,) = sheet.findings
    assert (finding.code, finding.severity) == ("workbook.round", "hard")
    assert f"写的是{told}，" in finding.detail
    assert "本通知征集的是2025年第一季度" in finding.detail
    assert len(sheet.rows) == 1


@pytest.mark.parametrize(
    "title", ["2025年一季度信息表", "2025年信息表", "信息表", "填报日期：2024年12月30日"]
)
def test_titles_that_say_less_are_no_fault(title: str) -> None:
    assert only(made.xlsx({"附件6": [[title], head(F6), [1, *KIT]]})).findings == []


def test_a_workbook_that_is_something_else_is_told_what_was_expected() -> None:
    sheet = only(made.xlsx({"考勤": [["姓名", "日期", "签到"], ["张三", "周一", "是"]], "空": []}))
    assert (sheet.form, sheet.rows, codes(sheet)) == (None, [], ["workbook.other"])
    assert "附件3《广州市2025年第一季度中小企业服务活动清单》" in sheet.findings[0].detail


def test_an_annex_that_the_notice_does_not_take_as_a_table_is_named() -> None:
    sheet = only(made.xlsx({"摸查表": [["附件11—1"], ["另一份通知的摸查表"], ["序号", "资源"]]}))
    assert codes(sheet) == ["workbook.annex"]
    assert "是附件11-1" in sheet.findings[0].detail


def test_half_a_header_is_told_which_columns_it_lacks() -> None:
    sheet = only(made.xlsx({"表": [["序号", "公司名称", "数量", "价格", "型号"], [1, "甲公司", 3, 5, "X"]]}))
    assert codes(sheet) == ["workbook.header"]
    assert "附件6" in sheet.findings[0].detail
    assert "第1行的表头缺少：“共享仪器和设备名称”、“主要用途”、“联系人及联系方式”" in sheet.findings[0].detail


def test_other_sheets_do_not_block_an_annex_beside_them() -> None:
    book = {
        "封面": [["某某单位报送材料"]],
        "附件6": [head(F6), [1, *KIT]],
        "附件4": [head(F4), [1], [2]],
        "空": [],
    }
    found = {s.sheet: (s.form, [(f.code, f.severity) for f in s.findings]) for s in read(made.xlsx(book))}
    assert found == {
        "附件6": ("F6", []),
        "附件4": ("F4", [("workbook.empty", "info")]),
        "封面": (None, [("workbook.ignored", "info")]),
    }


def test_hidden_sheets_are_not_read_but_told() -> None:
    book = {"附件6": [head(F6), [1, *KIT]], "旧": [head(F6), [1, *KIT]], "代码": [["甲"]]}
    sheets = read(made.xlsx(book, hidden=["旧", "代码"]))
    assert [(s.sheet, s.form, codes(s)) for s in sheets] == [
        ("附件6", "F6", []),
        ("旧", None, ["workbook.hidden"]),
    ]


def test_an_empty_workbook_and_an_empty_annex() -> None:
    assert codes(only(made.xlsx({"Sheet1": []}))) == ["workbook.empty"]
    sheet = only(made.xlsx({"附件6": [head(F6), [1], [2]]}))
    assert (sheet.form, codes(sheet), sheet.findings[0].severity) == ("F6", ["workbook.empty"], "hard")


# --- what is refused --------------------------------------------------------------------------------------------

GOOD = made.xlsx({"附件6": [head(F6), [1, *KIT]]})
TYPES = "[Content_Types].xml"
RELS = "xl/worksheets/_rels/sheet1.xml.rels"


def rels(kind: str, target: str) -> bytes:
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
    space = "http://schemas.openxmlformats.org/package/2006/relationships"
    one = f'<Relationship Id="rId9" Type="{office}{kind}" Target="{target}" TargetMode="External"/>'
    return f'<Relationships xmlns="{space}">{one}</Relationships>'.encode()


def retyped(old: str, new: str) -> bytes:
    return made.rezip(GOOD, {TYPES: made.part(GOOD, TYPES).replace(old.encode(), new.encode())})


def lying() -> bytes:
    """A zip whose directory declares a small part where a large one is."""
    data = bytearray(made.rezip(GOOD, {"xl/big.bin": bytes(3_000_000)}))
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"xl/big.bin"))
    data[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    return bytes(data)


def repeated(row: bytes) -> bytes:
    data = made.ods({"a": [["x"]]})
    content = made.part(data, "content.xml").replace(b"<table:table-row>", row)
    return made.rezip(data, {"content.xml": content})


def records(data: bytes | bytearray, mark: bytes, at: int, size: int) -> Iterator[slice]:
    """Where a field of each head of a part is, in the parts (`PK34`) or in their directory (`PK12`)."""
    for found in re.finditer(re.escape(mark), data):
        yield slice(found.start() + at, found.start() + at + size)


def overlapping() -> bytes:
    """Two parts that are the same bytes: the same head, which the directory names twice."""
    data = bytearray(made.rezip(GOOD, {"xl/aaa.xml": b"<a/>", "xl/bbb.xml": b"<a/>"}))
    last, one = list(records(data, b"PK\x01\x02", 42, 4))[-1:-3:-1]
    data[last] = data[one]
    return bytes(data).replace(b"xl/bbb.xml", b"xl/aaa.xml").replace(b"xl/aaa.xml", b"xl/AAA.xml", 1)


def disagreeing() -> bytes:
    data = bytearray(GOOD)
    data[next(records(GOOD, b"PK\x03\x04", 22, 4))] = (7).to_bytes(4, "little")
    return bytes(data)


def huge_in_zip64() -> bytes:
    """The directory says 8 EiB in the way of zip64; nobody has counted."""
    out = BytesIO()
    with ZipFile(BytesIO(GOOD)) as old, ZipFile(out, "w", ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.filelist[-1].file_size = 2**63 - 1
    return out.getvalue()


def between() -> bytes:
    out = BytesIO()
    with ZipFile(BytesIO(GOOD)) as old, ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
            new.fp.write(b"MZ".ljust(500, b"x"))  # type: ignore[union-attr]
            new.start_dir = new.fp.tell()  # type: ignore[union-attr]
    return out.getvalue()


def pdf_first() -> bytes:
    """Viewers look for a PDF's first line within the first kilobyte."""
    out = BytesIO()
    with ZipFile(BytesIO(GOOD)) as old, ZipFile(out, "w") as new:
        new.writestr("a.txt", b"%PDF-1.7\n")
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return out.getvalue()


def repacked(how: int) -> bytes:
    out = BytesIO()
    with ZipFile(BytesIO(GOOD)) as old, ZipFile(out, "w", how) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return out.getvalue()


def symlink() -> bytes:
    out = BytesIO(GOOD)
    with ZipFile(out, "a") as archive:
        link = ZipInfo("xl/media/a.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return out.getvalue()


def related(kind: str) -> bytes:
    """A part of any name, which is what its relation says."""
    return made.rezip(GOOD, {RELS: rels(kind, "x.dat").replace(b' TargetMode="External"', b"")})


def formula(text: str) -> bytes:
    return made.with_sheet_xml(f'<row r="1"><c r="A1"><f>{text}</f><v>1</v></c></row>')


def macro_sheet() -> bytes:
    """An .xls whose second sheet is one of Excel 4 macros (BOUNDSHEET, type 1)."""
    data = made.xls({"附件6": [head(F6), [1, *KIT]], "macro": [["=EXEC(...)"]]})
    found = re.search(rb"\x85\0.{2}.{4}\0(\0)\x05\0macro", data, re.DOTALL)
    assert found
    return data[: found.start(1)] + b"\1" + data[found.end(1) :]


BILLION = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><x>&b;</x>'
EVIL: dict[str, tuple[str, Callable[[], bytes]]] = {
    "nothing": ("workbook.blank", lambda: b""),
    "too large": ("workbook.size", lambda: b"PK\x03\x04" + bytes(20 * MB)),
    "pdf": ("workbook.pdf", lambda: b"%PDF-1.7\n..."),
    "picture": ("workbook.image", lambda: b"\x89PNG\r\n\x1a\n..."),
    "scan": ("workbook.image", lambda: b"\xff\xd8\xff\xe0..."),
    "old word": ("workbook.word", lambda: made.ole("WordDocument", "1Table")),
    "rtf": ("workbook.word", lambda: rb"{\rtf1\ansi}"),
    "docx": ("workbook.word", lambda: retyped("spreadsheetml.sheet", "wordprocessingml.document")),
    "pptx": ("workbook.slides", lambda: retyped("spreadsheetml.sheet", "presentationml.presentation")),
    "xlsb": ("workbook.xlsb", lambda: retyped("openxmlformats-officedocument.spreadsheetml.sheet.main+xml",
                                             "ms-excel.sheet.binary.macroEnabled.main")),
    "zip": ("workbook.archive", lambda: made.rezip(GOOD, {TYPES: None, "附件6.xlsx": GOOD})),
    "rar": ("workbook.archive", lambda: b"Rar!\x1a\x07\x01\x00"),
    "html as xls": ("workbook.html", lambda: b"\xef\xbb\xbf<html xmlns:x='urn'><table><tr><td>1</td></tr></table>"),
    "html, utf-16": ("workbook.html", lambda: "<table><tr><td>1</td></tr></table>".encode("utf-16")),
    "xml": ("workbook.xml", lambda: b'<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?><Workbook/>'),
    "csv": ("workbook.csv", lambda: "序号,公司名称\n1,甲公司\n".encode("gb18030")),
    "noise": ("workbook.unknown", lambda: random.Random(1).randbytes(5000)),
    "cut off": ("workbook.damaged", lambda: GOOD[:-200]),
    "not xml": ("workbook.damaged", lambda: made.rezip(GOOD, {TYPES: b"<Types"})),
    "macros": ("workbook.macros", lambda: made.rezip(GOOD, {"xl/vbaProject.bin": b"x"})),
    "xlsm": ("workbook.macros", lambda: retyped("vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml",
                                                "vnd.ms-excel.sheet.macroEnabled.main+xml")),
    "macro sheet": ("workbook.macros", lambda: made.rezip(GOOD, {"xl/macrosheets/sheet1.xml": b"<x/>"})),
    "xls with macros": ("workbook.macros", lambda: made.ole("_VBA_PROJECT_CUR", around=made.xls({"a": [[1]]}))),
    "ods with macros": ("workbook.macros", lambda: made.ods({"a": [["x"]]}, macro=True)),
    "xlsx with password": ("workbook.encrypted", lambda: made.ole("EncryptionInfo", "EncryptedPackage")),
    "xls with password": ("workbook.encrypted", lambda: made.xls_with_password({"a": [["x"]]})),
    "link to a file": ("workbook.external", lambda: made.rezip(GOOD, {RELS: rels("image", "http://evil.cn/a.png")})),
    "link to a share": ("workbook.external", lambda: made.rezip(GOOD, {RELS: rels("hyperlink", r"file://\\evil\a")})),
    "link, dde": ("workbook.external", lambda: made.rezip(GOOD, {"xl/externalLinks/externalLink1.xml": b"<x/>"})),
    "ods with dde": ("workbook.external", lambda: made.rezip(
        made.ods({"a": [["x"]]}), {"content.xml": b'<x xmlns:office="o"><office:dde-source/></x>'})),
    "embedded object": ("workbook.ole", lambda: made.rezip(GOOD, {"xl/embeddings/oleObject1.bin": b"x"})),
    "xls with object": ("workbook.ole", lambda: made.ole("MBD0001F2A3", around=made.xls({"a": [[1]]}))),
    "hidden object": ("workbook.ole", lambda: made.rezip(GOOD, {"xl/media/image1.bin": made.ole("x")})),
    "entities": ("workbook.dtd", lambda: made.rezip(GOOD, {"xl/sharedStrings.xml": BILLION})),
    "entities, utf-16": ("workbook.dtd", lambda: made.rezip(
        GOOD, {"xl/sharedStrings.xml": BILLION.decode().encode("utf-16")})),
    "zip bomb": ("workbook.bomb", lambda: made.rezip(GOOD, {"xl/worksheets/sheet2.xml": b" " * 30_000_000})),
    "many parts": ("workbook.bomb", lambda: made.rezip(GOOD, {f"xl/{i}.xml": b"<a/>" for i in range(1001)})),
    "lying zip": ("workbook.damaged", lying),
    "nested": ("workbook.nested", lambda: made.rezip(GOOD, {"xl/media/a.bin": GOOD})),
    "path up": ("workbook.names", lambda: made.rezip(GOOD, {"../evil.xml": b"<a/>"})),
    "path from root": ("workbook.names", lambda: made.rezip(GOOD, {"/etc/x.xml": b"<a/>"})),
    "path of windows": ("workbook.names", lambda: made.rezip(GOOD, {"xl\\x.xml": b"<a/>"})),
    "twice the same": ("workbook.names", lambda: made.rezip(GOOD, {"XL/workbook.xml": b"<a/>"})),
    "two far cells": ("workbook.sparse", lambda: made.with_sheet_xml(
        '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>')),
    "far cells in ods": ("workbook.sparse", lambda: repeated(b'<table:table-row table:number-rows-repeated="99999">'
        b"<table:table-cell/></table:table-row><table:table-row>")),
    "many rows in ods": ("workbook.rows", lambda: repeated(b'<table:table-row table:number-rows-repeated="20001">')),
    "many rows": ("workbook.rows", lambda: made.with_sheet_xml(
        "".join(f'<row r="{i}"><c r="A{i}"><v>1</v></c></row>' for i in range(1, 20_002)))),
    "parts over each other": ("workbook.overlap", overlapping),
    "sizes that disagree": ("workbook.damaged", disagreeing),
    "a size of 2^63": ("workbook.bomb", huge_in_zip64),
    "something before the parts": ("workbook.polyglot", lambda: made.rezip(GOOD, {})[:4] + b"%PDF-1.7" + GOOD),
    "something between the parts": ("workbook.polyglot", between),
    "something behind the parts": ("workbook.polyglot", lambda: GOOD[:-2] + b"\x05\0<html"),
    "a pdf at the start": ("workbook.polyglot", pdf_first),
    "packed as nobody does": ("workbook.damaged", lambda: repacked(ZIP_BZIP2)),
    "link within": ("workbook.names", symlink),
    "workbook and document": ("workbook.polyglot", lambda: made.rezip(GOOD, {TYPES: made.part(GOOD, TYPES).replace(
        b"</Types>", b'<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-'
        b'officedocument.wordprocessingml.document.main+xml"/></Types>')})),
    "macros of another name": ("workbook.macros", lambda: made.rezip(GOOD, {TYPES: made.part(GOOD, TYPES).replace(
        b"</Types>", b'<Override PartName="/xl/x.bin" ContentType="application/vnd.ms-office.vbaProject"/></Types>')})),
    "link of another name": ("workbook.external", lambda: related("externalLink")),
    "object of another name": ("workbook.ole", lambda: related("oleObject")),
    "a page to be taken in": ("workbook.ole", lambda: related("aFChunk")),
    "dde in a formula": ("workbook.dde", lambda: formula("cmd|'/c calc'!A0")),
    "web in a formula": ("workbook.dde", lambda: formula("WEBSERVICE(&quot;http://evil.cn&quot;)")),
    "dde in a field": ("workbook.dde", lambda: docx([Raw(
        "<w:r><w:instrText>DD</w:instrText></w:r><w:r><w:instrText>EAUTO c:\\\\cmd.exe</w:instrText></w:r>")])),
    "dde in a simple field": ("workbook.dde", lambda: docx([Raw(
        '<w:fldSimple w:instr=" &#68;DE x"><w:r><w:t>1</w:t></w:r></w:fldSimple>')])),
    "docx from a server": ("workbook.external", lambda: docx(["x"], rels='<Relationship Id="r" Type="http://schemas.'
        'openxmlformats.org/officeDocument/2006/relationships/image" Target="//evil/a" TargetMode="External"/>')),
    "thousands of sheets": ("workbook.sheets", lambda: made.ods({f"s{i}": [["x"]] for i in range(101)})),
    "a sheet with a long name": ("workbook.sheets", lambda: made.ods({"长" * 300: [["x"]]})),
    "macro sheet in xls": ("workbook.macros", macro_sheet),
    "many rows in xls": ("workbook.rows", lambda: made.xls({"a": [[1]] * 20_001})),
}  # fmt: skip


@pytest.mark.parametrize("what", EVIL)
def test_harmful_and_foreign_files_are_refused_by_name(what: str) -> None:
    code, make = EVIL[what]
    with pytest.raises(Unusable) as refused:
        read(make(), "附件6.xlsx")
    assert refused.value.code == code
    assert re.search(r"[\u4e00-\u9fff]", refused.value.detail)


def test_what_excel_writes_by_itself_is_no_reason_to_refuse() -> None:
    mailto = made.rezip(GOOD, {RELS: rels("hyperlink", "mailto:a@b.cn")})
    assert len(only(mailto).rows) == 1
    formatted = made.with_sheet_xml(
        '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576" s="1"/></row>'
    )
    refuse_unsafe(formatted, "a.xlsx")
    assert len(only(made.rezip(GOOD, {"xl/media/image1.png": b"\x89PNG"})).rows) == 1


def test_a_format_that_reaches_to_the_last_cell_costs_nothing() -> None:
    cells = "".join(
        f'<c r="{c}1" t="inlineStr"><is><t>{h}</t></is></c>' for c, h in zip("ABCDEF", head(F6), strict=True)
    )
    entry = "".join(
        f'<c r="{c}2" t="inlineStr"><is><t>{h}</t></is></c>' for c, h in zip("BCEF", "甲乙丙丁", strict=True)
    )
    number = '<c r="D2"><v>2.5</v></c>'
    far_off = '<row r="1048576"><c r="XFD1048576" s="1"/></row>'
    data = made.with_sheet_xml(f'<row r="1">{cells}</row><row r="2">{entry}{number}</row>{far_off}')
    styles = made.part(data, "xl/styles.xml")
    bold = b'<xf numFmtId="9" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/></cellXfs>'
    data = made.rezip(
        data,
        {
            "xl/styles.xml": styles.replace(b'<cellXfs count="1">', b'<cellXfs count="2">').replace(
                b"</cellXfs>", bold
            )
        },
    )
    data = made.rezip(
        data,
        {
            "xl/worksheets/sheet1.xml": made.part(data, "xl/worksheets/sheet1.xml").replace(
                b'ref="A1"', b'ref="A1:XFD1048576"'
            )
        },
    )
    started = time.process_time()
    assert column(only(data), "quantity") == ["2.5"]
    assert read(mark(data, "a.xlsx", [], NOTICE)) == read(data)
    assert time.process_time() - started < 2


def test_the_extension_does_not_matter() -> None:
    assert read(GOOD, "附件6.xls") == read(GOOD, "附件6") == read(GOOD)


# --- the limited process ------------------------------------------------------------------------------------------

# `>` within an attribute hides the far cell from the quick look, not from the library, which then takes all memory.
SNEAKY = made.with_sheet_xml(
    '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c x=">" r="XFD1048576"><v>1</v></c></row>'
)


def far(*calls: Any) -> list[Any]:
    async def together() -> list[Any]:
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(together())


def test_the_process_reads_the_same() -> None:
    rows = [["推荐单位：甲局"], head(F10), [1, "法律服务", "案例", "甲公司"], [None, "联系人：李四"]]
    book = made.xlsx({"附件10-2": rows, "附件6": [[*head(F6), "备注"], [1, *KIT, "无"]], "目录": [["x"]]})
    (found,) = far(child.read(book, "附表.xlsx", NOTICE))
    assert found == read(book)
    findings = [f.model_copy(update={"row": 3, "cell": "B3"}) for s in found for f in s.findings]
    (marked,) = far(child.mark(book, "附表.xlsx", findings, NOTICE))
    assert marked == mark(book, "附表.xlsx", findings, NOTICE)


def test_a_file_that_takes_all_memory_harms_neither_us_nor_its_neighbours() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    evil, good, pdf, again = far(
        child.read(SNEAKY, "a.xlsx", NOTICE),
        child.read(GOOD, "b.xlsx", NOTICE),
        child.read(b"%PDF-1.7", "c.xlsx", NOTICE),
        child.mark(SNEAKY, "d.xlsx", [], NOTICE),
    )
    assert (evil.code, again.code) == ("workbook.memory", "workbook.memory")
    assert good == read(GOOD, "b.xlsx")
    assert pdf.code == "workbook.pdf"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_a_file_that_takes_too_long_is_ended() -> None:
    started = time.monotonic()
    long = made.xlsx({"附件6": [head(F6)] + [[i, *KIT] for i in range(5000)]})
    (late,) = far(child.read(long, "a.xlsx", NOTICE, replace(child.USUAL, seconds=0.05)))
    assert late.code == "workbook.timeout"
    assert time.monotonic() - started < 5


def test_two_workers_run_at_once_and_the_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    connect, made_so_far, running = child._connect, list[socket.socket](), list[int]()

    def counted() -> socket.socket:
        made_so_far.append(connect())
        running.append(sum(s.fileno() != -1 for s in made_so_far))
        return made_so_far[-1]

    monkeypatch.setattr(child, "_connect", counted)
    for _ in range(2):  # each in a loop of its own
        assert far(*(child.read(GOOD, "a.xlsx", NOTICE) for _ in range(5))) == [read(GOOD)] * 5
    assert (len(running), max(running)) == (10, 2)


def test_python_without_memory_is_told_like_rust_without_memory() -> None:
    big = made.rezip(GOOD, {"xl/media/image1.png": random.Random(1).randbytes(15 * MB)})
    (full,) = far(child.read(big, "a.xlsx", NOTICE, replace(child.USUAL, memory=80 * MB)))
    assert full.code == "workbook.memory"
    assert len(only(big).rows) == 1


def test_the_server_is_started_again_when_it_has_died() -> None:
    far(child.read(GOOD, "a.xlsx", NOTICE))
    assert child._server is not None
    process, _ = child._server
    process.kill()
    process.wait()
    (found,) = far(child.read(GOOD, "a.xlsx", NOTICE))
    assert found == read(GOOD)


def test_the_process_inherits_no_secret_and_leaves_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def left() -> set[Path]:
        """By workers that are no more; those of other tests may be at work."""
        found = Path("/tmp").glob(f"yiqi-workbook-{os.getuid()}-*")  # noqa: S108
        return {path for path in found if not Path(f"/proc/{path.name.rpartition('-')[2]}").exists()}

    child.close()
    before = left()
    monkeypatch.setenv("YIQI_DATABASE_PASSWORD", "secret")
    far(child.mark(GOOD, "a.xlsx", [], NOTICE))
    assert child._server is not None
    process, _ = child._server
    environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    assert b"secret" not in environment
    assert sorted(v.split(b"=")[0] for v in environment.split(b"\0") if v) == [
        b"LC_ALL", b"PYTHONHASHSEED", b"PYTHONPATH",
    ]  # fmt: skip
    wait_until(lambda: left() <= before, 10, "the folders of the workers to be gone")


def test_the_process_has_no_network_and_may_take_only_its_share() -> None:
    far(child.read(GOOD, "a.xlsx", NOTICE))
    assert child._server is not None
    process, _ = child._server
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("no network namespaces here")
    ours, theirs = (Path(f"/proc/{pid}/ns/net").readlink() for pid in ("self", process.pid))
    assert ours != theirs
    # In there is a loopback that is down, and nothing else.
    (only_one,) = Path(f"/proc/{process.pid}/net/dev").read_text().splitlines()[2:]
    assert only_one.split(":")[0].strip() == "lo"
    assert Path(f"/proc/{process.pid}/net/route").read_text().splitlines()[1:] == []


def test_a_network_that_cannot_be_taken_away_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    child._told = False
    for _ in range(3):
        child._tell_once(isolated=False)
    child._tell_once(isolated=True)
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_the_process_loads_no_rules_engine() -> None:
    code = "import sys, services.intake.child; print([m for m in sys.modules if m.startswith(('cel', 'nats', 'sql'))])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=DATA.parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# --- marking ------------------------------------------------------------------------------------------------------


def faults(sheet: str) -> list[Finding]:
    def one(severity: Any, rule: str, detail: str, row: int | None, cell: str | None) -> Finding:
        return Finding(
            rule=rule,
            code="x",
            severity=severity,
            clause="附件6",
            detail=detail,
            sheet=sheet,
            row=row,
            cell=cell,
        )

    return [
        one("soft", "R-GEN-003", "“数量”：=1+1", 3, "D3"),
        one("hard", "F6.04", "“数量”：数目应不小于1", 3, "D3"),
        one("soft", "R-COL-040", "重复报送", 4, None),
        one("hard", "F6", "标题有误", None, None),
    ]


def comments(data: bytes) -> dict[str, str]:
    """Comments as another reader finds them, by cell."""
    cells = (
        c for sheet in openpyxl.load_workbook(BytesIO(data)).worksheets for r in sheet.iter_rows() for c in r
    )
    return {c.coordinate: c.comment.text for c in cells if c.comment}


def colours(sheet: Any) -> dict[str, str]:
    """Colours that do not touch what a cell looks like by itself: RGB by cells."""
    return {
        str(rules.sqref): rule.dxf.fill.bgColor.rgb
        for rules in sheet.conditional_formatting
        for rule in rules.rules
    }


@pytest.mark.parametrize("kind", WRITERS)
def test_a_marked_workbook_says_what_is_wrong_where_it_is_wrong(kind: str) -> None:
    rows = [["附件6"], head(F6), [1, *KIT], [2, *KIT], [3, *KIT], ["注：", "可加行"]]
    data = WRITERS[kind]({"封面": [["x"]], "附件6": rows})
    marked = mark(data, f"a.{kind}", faults("附件6"), NOTICE)
    grid = grid_of(marked, "附件6")
    assert [row[6] for row in grid] == [
        "",
        RESULT,
        "【必须修改】“数量”：数目应不小于1（F6.04，附件6）\n【请确认】“数量”：=1+1（R-GEN-003，附件6）",
        "【请确认】重复报送（R-COL-040，附件6）",
        "未发现问题",
        "",
    ]
    assert [row[:6] for row in grid[2:5]] == [[float(i), *KIT] for i in (1, 2, 3)]
    assert comments(marked) == {
        "D3": "—— 益企校验 ——\n【必须修改】“数量”：数目应不小于1（F6.04，附件6）\n【请确认】“数量”：=1+1（R-GEN-003，附件6）",
        "G2": "—— 益企校验 ——\n【必须修改】标题有误（F6，附件6）",
    }
    sheet = openpyxl.load_workbook(BytesIO(marked))["附件6"]
    assert colours(sheet) == {"D3 G2": "FFFFC7CE"}
    assert read(marked) == read(data)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_marked_workbook_is_the_same_filing(kind: str) -> None:
    day, month = date(2025, 6, 10), date(2025, 7, 2)
    rows: list[list[Any]] = [
        ["广州市2025年第一季度中小企业服务活动清单"],
        [*head(F3), "备注"],
        [
            1,
            "政策宣贯",
            "=甲协会",
            "+活动",
            day,
            "@线上",
            "-讲解\n二",
            100,
            "张三 13800138000",
            Cell(0.5, "0%"),
        ],
        [2, None, None, "活动二", month, "线上", "讲解", 12.5, 13800138000, "x"],
    ]
    data = WRITERS[kind]({"表": rows}, merges=[(0, 0, 0, 8), (2, 1, 3, 1), (2, 2, 3, 2)])
    before = read(data)
    findings = [
        Finding(
            rule="F3.03",
            code="x",
            severity="hard",
            clause="附件3",
            detail="有误",
            sheet="表",
            row=4,
            cell="C4",
        )
    ]
    marked = mark(data, "a", findings, NOTICE)
    assert read(marked) == before
    assert mark(data, "a", findings, NOTICE) == marked
    assert comments(marked).keys() == {"C3"}  # the merged cell's own corner
    again = mark(marked, "a", [findings[0].model_copy(update={"cell": None})], NOTICE)
    assert read(again) == before
    assert not [name for name in names(again) if "comments" in name or "vml" in name]
    assert [row[10] for row in grid_of(again, "表")] == [
        "",
        RESULT,
        "未发现问题",
        "【必须修改】有误（F3.03，附件3）",
    ]
    clean = mark(marked, "a", [], NOTICE)
    assert read(clean) == before
    assert [len(row) for row in grid_of(clean, "表")] == [10, 10, 10, 10]


def grid_of(data: bytes, sheet: str) -> list[list[Any]]:
    return load_workbook(BytesIO(data)).get_sheet_by_name(sheet).to_python(skip_empty_area=False)


def names(data: bytes) -> set[str]:
    with ZipFile(BytesIO(data)) as archive:
        return set(archive.namelist())


def test_marking_keeps_the_filer_s_formats_and_own_comments() -> None:
    book = openpyxl.load_workbook(BytesIO(GOOD))
    sheet = book["附件6"]
    sheet["B2"].font = openpyxl.styles.Font(name="楷体", bold=True)
    sheet["B2"].comment = openpyxl.comments.Comment("请核对", "李四")
    sheet["H9"] = "=1+1"
    sheet.row_dimensions[2].height = 55
    out = BytesIO()
    book.save(out)
    finding = Finding(
        rule="F6.02", code="x", severity="info", clause="附件6", detail="提示语", row=2, cell="B2"
    )
    marked = openpyxl.load_workbook(BytesIO(mark(out.getvalue(), "a", [finding], NOTICE)))["附件6"]
    assert (marked["B2"].font.name, marked["B2"].font.bold) == ("楷体", True)
    assert marked["B2"].comment.text == "请核对\n\n—— 益企校验 ——\n【提示】提示语（F6.02，附件6）"
    assert marked.row_dimensions[2].height == 55
    assert marked["H9"].value == "=1+1"


def test_a_workbook_that_is_no_annex_is_marked_too() -> None:
    data = made.xlsx({"考勤": [["姓名"], ["张三"]]})
    marked = mark(data, "a.xlsx", only(data).findings, NOTICE)
    assert comments(marked)["A1"].startswith(
        "—— 益企校验 ——\n【必须修改】工作表“考勤”中没有找到本通知附表的表头"
    )


# --- the blank annex ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", LISTS)
def test_the_template_is_an_annex_without_rows(form: str) -> None:
    judge = NOTICE.forms[form]
    data = template(judge, NOTICE.notice)
    assert template(judge, NOTICE.notice) == data
    sheet = only(data)
    assert (sheet.form, sheet.rows, codes(sheet)) == (form, [], ["workbook.empty"])
    grid = load_workbook(BytesIO(data)).get_sheet_by_index(0).to_python(skip_empty_area=False)
    assert grid[0][0] == judge.form.annex
    assert grid[1][0] == NOTICE.notice.form_title(judge.form)
    assert grid[sheet.header - 1] == head(judge.form)
    text = "\n".join(str(cell) for row in grid for cell in row)
    assert [n.text for n in judge.form.notes if n.text not in text] == []


@pytest.mark.parametrize("form", LISTS)
def test_a_filled_template_is_read_as_filled(form: str) -> None:
    judge = NOTICE.forms[form]
    book = openpyxl.load_workbook(BytesIO(template(judge, NOTICE.notice)))
    sheet = book.worksheets[0]
    header = only(template(judge, NOTICE.notice)).header
    expected = []
    for row in (header + 1, header + 2):
        values = {}
        for at, c in enumerate(judge.form.columns, 2):
            cell = sheet.cell(row, at)
            cell.value = cell.value or f"{c.header}{row}"
            values[c.key] = cell.value
        expected.append(values)
    lines = {}
    for row in range(1, sheet.max_row + 1):
        for line in judge.form.lines:
            if sheet.cell(row, 1).value == line.label:
                sheet.cell(row, 3).value = lines[line.key] = f"值{row}"
    out = BytesIO()
    book.save(out)
    found = only(out.getvalue())
    assert found.lines == lines
    assert len(lines) == len(judge.form.lines)
    assert [row.raw for row in found.rows] == [{**values, **lines} for values in expected]


def test_the_template_offers_the_list_and_takes_other_words_where_it_is_open() -> None:
    book = openpyxl.load_workbook(BytesIO(template(NOTICE.forms["F3"], NOTICE.notice)))
    sheet, codes = book.worksheets
    rules = {str(v.sqref): v for v in sheet.data_validations.dataValidation}
    (domain,) = (v for v in rules.values() if v.type == "list")
    assert (str(domain.sqref), domain.formula1, domain.showErrorMessage) == (
        "B4:B13",
        "代码表!$A$1:$A$8",
        False,
    )
    assert [cell.value for cell in codes["A"]] == [
        c.label for c in NOTICE.notice.lists["service_domain"].values
    ]
    assert codes.sheet_state == "hidden"
    contact = rules["I4:I13"]
    assert contact.promptTitle == "联系人及联系方式"
    assert contact.prompt == "必填；姓名和电话写在同一格，如：张三 020-83726619 13800138000"
    assert sheet.page_setup.orientation == "landscape"
    assert sheet["E4"].number_format == "@"
