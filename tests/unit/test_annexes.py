"""The page of every annex that is a list: paper, widths, letters and marks, read by openpyxl.

What is written in them, and how rows are set, is in `test_sheet.py`; expected values are those of the specification
(§2) and of the guide (contracts.md §3.3), copied.
"""

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from openpyxl import load_workbook
from openpyxl.cell.cell import MergedCell
from openpyxl.worksheet.worksheet import Worksheet

from services.export import sheet
from services.export.table import Row, title_lines
from shared.notices.load import load_all
from shared.notices.model import Form, Notice

WIDTHS = {
    "F3": (10, 30, 28, 30, 22, 22, 45, 14, 24),
    "F4": (10, 28, 24, 25, 38, 34, 34, 32),
    "F5": (8, 22, 20, 20, 27, 14, 12, 15, 15, 16, 22, 17, 17),
    "F7": (10, 22, 28, 16, 26, 26, 38, 38, 21),
    "F8": (10, 30, 28, 30, 22, 22, 45, 14, 24),
}
"""In mm. The guide has none for the others: they fill the page."""
PORTRAIT = {"F6", "F10-2", "F15-2"}
OURS = {"F12-2", "F12-3", "F12-4", "F12-5", "F12-6", "F15-1", "F15-2"}
"""Derived: asked for by a source that prints no such table."""
MARK = "系统拟定，通知没有印发此表；以主管部门印发的为准"
DERIVED_TITLES = {
    "F12-2": ("年度总结表", "服务站年度服务工作总结和下一年度服务工作计划"),
    "F12-3": ("定期信息表", "服务站定期报送信息表"),
    "F12-4": ("工作制度备案表", "服务站工作制度备案表"),
    "F12-5": ("入驻服务机构登记表", "入驻服务机构登记表"),
    "F12-6": ("总站备案表", "广州市中小企业服务总站备案表"),
    "F15-1": ("培育库登记表", "集群培育库登记表"),
    "F15-2": ("国家级、省级集群登记表", "国家级、省级中小企业特色产业集群登记表"),
}
LISTS = [(c.notice, f) for c in load_all().values() for f in c.notice.forms if f.card is None]
each_list = pytest.mark.parametrize(("notice", "form"), LISTS, ids=lambda one: one.id)
VALUES = {
    "contact": {"name": "欧阳䶮", "phones": ["020-83726619", "13800138000"], "email": None},
    "date": "2025-06-10",
    "integer": 12,
}


def page(notice: Notice, form: Form, *, rows: int = 2, **more: Any) -> Worksheet:
    values = {c.key: VALUES.get(c.type, {"text": "一"}) for c in form.columns}
    values |= {c.key: "广州市" for c in form.columns if c.type in ("text", "choice", "uscc")} | more
    filed = [Row(f"{n}", datetime(2025, 3, 1, tzinfo=UTC), values) for n in range(rows)]
    found = load_workbook(BytesIO(sheet.catalogue(notice, form, filed))).active
    assert isinstance(found, Worksheet)
    return found


def test_no_list_of_a_packaged_notice_is_left_out() -> None:
    assert {f.id for _, f in LISTS} == {*WIDTHS, "F6", "F10-2", *OURS}


@each_list
def test_columns_fill_the_page_in_the_widths_of_the_guide(notice: Notice, form: Form) -> None:
    found = page(notice, form)
    # openpyxl keeps neighbours of one width together.
    at = [
        one.width for one in found.column_dimensions.values() for _ in range(one.min or 0, (one.max or 0) + 1)
    ]
    # In digits of 7 pixels; 6.5 % narrower, because LibreOffice draws them wider.
    wide = [unit * 7 / 96 * 25.4 / 0.935 for unit in at]
    across = 156 if form.id in PORTRAIT else 225
    assert sum(wide) == pytest.approx(across, abs=1)
    if form.id in WIDTHS:
        assert wide == pytest.approx(WIDTHS[form.id], abs=0.3)
        assert sum(WIDTHS[form.id]) == 225


@each_list
@pytest.mark.parametrize("rows", [0, 2])
def test_the_page_is_a4_turned_where_the_table_is_wide(notice: Notice, form: Form, rows: int) -> None:
    found = page(notice, form, rows=rows)
    turned = form.id not in PORTRAIT
    assert (found.page_setup.paperSize, found.page_setup.orientation) == (
        9,
        "landscape" if turned else "portrait",
    )
    # Top 37, left 28, right 26, bottom 35 mm; a turned page is bound at what was its left.
    margins = found.page_margins
    sides = [round(one * 25.4) for one in (margins.top, margins.left, margins.right, margins.bottom)]
    assert sides == ([28, 35, 37, 26] if turned else [37, 28, 26, 35])
    assert found.oddFooter is not None
    assert (found.oddFooter.center.text, found.oddFooter.center.size) == ("— &P —", 14)
    head = 4
    assert found.print_title_rows == f"${head}:${head}"
    assert found.freeze_panes == f"A{head + 1}"
    assert found.print_area
    assert found.print_area.endswith(f"${found.max_row}")
    texts = [str(cell.value) for cell in found[head]]
    assert texts[0] == "序号"
    assert None not in texts
    assert found.max_row >= head + rows


@each_list
def test_letters_are_those_of_the_standard_and_every_cell_has_a_frame(notice: Notice, form: Form) -> None:
    found = page(notice, form)
    looks = [(found[at].font.name, found[at].font.sz) for at in ("A1", "A3", "A4", "A5")]
    assert looks == [("黑体", 16), ("方正小标宋简体", 22), ("黑体", 10.5), ("仿宋_GB2312", 10.5)]
    assert (found["A1"].alignment.horizontal, found["A3"].alignment.horizontal) == ("left", "center")
    for row in (4, 5, 6):
        for cell in found[row]:
            frame = cell.border
            if isinstance(cell, MergedCell):
                continue  # openpyxl leaves it the outer edges only
            sides = (frame.left.style, frame.right.style, frame.top.style, frame.bottom.style)
            assert sides == ("thin",) * 4, cell.coordinate
            assert cell.alignment.wrap_text


@each_list
def test_what_is_ours_says_so_on_every_page_and_what_is_official_does_not(notice: Notice, form: Form) -> None:
    said = page(notice, form).oddHeader
    assert (said.left.text if said else None) == (MARK if form.id in OURS else None)
    assert form.derived is (form.id in OURS)


@pytest.mark.parametrize("form_id", DERIVED_TITLES)
def test_a_derived_list_has_its_own_name_and_title(form_id: str) -> None:
    notice, form = next((n, f) for n, f in LISTS if f.id == form_id)
    found = page(notice, form)
    assert (found["A1"].value, str(found["A3"].value).replace("\n", "")) == DERIVED_TITLES[form_id]


def test_dates_are_printed_as_people_write_them() -> None:
    """R-GEN-010: Arabic, no leading zeros."""
    notice, form = next((n, f) for n, f in LISTS if f.id == "F12-4")
    key = next(c.key for c in form.columns if c.type == "date")
    assert page(notice, form, rows=2, **{key: "2025-06-01"})["D5"].value == "2025年6月1日"


@pytest.mark.parametrize(("form_id", "size"), [("F3", 9), ("F5", 7.5), ("F12-5", 10.5)])
def test_a_telephone_number_stands_in_one_line(form_id: str, size: float) -> None:
    notice, form = next((n, f) for n, f in LISTS if f.id == form_id)
    at = next(n for n, c in enumerate(form.columns) if c.type == "contact")
    cell = page(notice, form)[5][at + 1]
    assert cell.value == "欧阳䶮\n020-83726619\n13800138000"
    assert cell.font.sz == size
    # Twelve half-wide characters fit between the cell's margins.
    assert 6 * size / 72 * 25.4 < 0.935 * form.columns[at].width - 1.5


def test_a_long_title_has_two_lines_where_a_reader_pauses() -> None:
    assert page(*next((n, f) for n, f in LISTS if f.id == "F6"))["A3"].value == (
        "广州市2025年第一季度“一起益企”\n检验检测和设备共享产品信息表"
    )
    assert title_lines("广州市服务清单", 20) == "广州市服务清单"
    assert title_lines("某" * 40, 30) == "某" * 40  # nowhere to pause: the program breaks it


@pytest.mark.parametrize("text", ["<r>&</r>", "<r><t>别人的字</t></r>", "<r>", "</r>"])
def test_text_that_looks_like_rich_text_is_text(text: str) -> None:
    notice, form = next((n, f) for n, f in LISTS if f.id == "F4")
    found = page(notice, form, company_name=text)["B5"].value
    assert str(found).strip() == text


def test_without_care_the_library_would_write_it_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    monkeypatch.setattr(sheet, "_literal", str)
    notice, form = next((n, f) for n, f in LISTS if f.id == "F4")
    assert page(notice, form, company_name="<r><t>别人的字</t></r>")["B5"].value == "别人的字"
