"""The blank annex, made from the form alone.

What comes back filled in is not read here, that is `workbook.py`.
"""

import math
from io import BytesIO
from typing import Any

import xlsxwriter
from openpyxl.utils import get_column_letter as letter

from shared.notices import layout
from services.intake.office import STILL
from services.intake.stamp import NAME, PROPERTY, TITLE, stamp_of
from shared.notices.forms import FormJudge
from shared.notices.model import Form, Notice

CODES = "代码表"
HINTS = {
    "contact": "姓名和电话写在同一格，如：张三 020-83726619 13800138000",
    "period": "如：{year}年6月10日，或{year}年6月10日—12日",
    "quantity": "如：50，或约100人",
    "amount": "只填数字，单位见表头；不适用请填“—”",
    "months": "如：12，或6-36；不适用请填“—”",
    "rate": "如：3.65%，或3.65%-4.5%；不适用请填“—”",
    "choice": "请从下拉列表中选择",
    "phone": "手机11位，固话可带区号和分机",
}
BLANK_ROWS = 10
OURS = f"&L{layout.OURS}"
"""The header of a page with a form that the source names and does not print."""
MM = 1.9
"""Millimetres of one unit of column width, the width of a digit."""


def new_book(out: BytesIO) -> Any:
    plain = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    book = xlsxwriter.Workbook(out, {"in_memory": True, **plain})
    book.set_properties({"created": STILL})
    return book


def sign(book: Any, sheet: Any, form: Form, notice: Notice) -> None:
    """By which the blank form is known again, whichever of the two a program keeps."""
    stamp = stamp_of(form, notice)
    book.set_custom_property(PROPERTY, str(stamp))
    book.set_custom_property(TITLE, notice.title[:255])
    book.define_name(f"'{sheet.get_name()}'!{NAME}", f'="{stamp}"')
    book.defined_names[-1][3] = True  # hidden; xlsxwriter has no argument for it


def template(judge: FormJudge, notice: Notice) -> bytes:
    """The blank annex, from the form alone. Cells are text, lest `6-12` become the 12th of June."""
    form = judge.form
    out = BytesIO()
    book = new_book(out)
    sheet = book.add_worksheet(form.annex)
    sign(book, sheet, form, notice)
    if form.derived:
        sheet.set_header(OURS)
    last = len(form.columns)

    def style(**more: Any) -> Any:
        return book.add_format(
            {"font_name": "宋体", "font_size": 11, "valign": "vcenter", "text_wrap": True, **more}
        )

    label, title = style(font_name="黑体", font_size=14), style(bold=True, font_size=18, align="center")
    head = style(bold=True, border=1, align="center", bg_color="#F2F2F2")
    centred, entry = style(border=1, align="center"), style(border=1, num_format="@")
    plain, value, bold = style(), style(bottom=1, num_format="@"), style(bold=True)

    sheet.set_column(0, 0, form.serial_width / MM, None)
    for at, column in enumerate(form.columns, 1):
        sheet.set_column(at, at, column.width / MM, None)
    whole = form.serial_width + sum(c.width for c in form.columns)

    def line(row: int, text: str, look: Any, first: int = 0, end: int = last, height: float = 16) -> None:
        if first < end:
            sheet.merge_range(row, first, row, end, "", look)
        sheet.write_string(row, first, text, look)
        sheet.set_row(row, height * _lines(text, whole) + 2)

    def labelled(row: int, text: str) -> None:
        line(row, text, plain, end=1)
        line(row, "", value, first=2)

    line(0, form.annex, label)
    line(1, notice.form_title(form), title, height=32)
    row = 2
    for footer in form.lines:
        if footer.where == "above":
            labelled(row, footer.label)
            row += 1
    header = row
    sheet.write_string(header, 0, "序号", head)
    for at, column in enumerate(form.columns, 1):
        sheet.write_string(header, at, column.header, head)
    sheet.set_row(header, 16 * max(_lines(c.header, c.width) for c in form.columns) + 8)

    preset = form.preset if form.group and any(form.preset) else ("",) * max(len(form.preset), BLANK_ROWS)
    group = [c.key for c in form.columns].index(form.group) + 1 if form.group else 0
    for number, text in enumerate(preset, 1):
        row += 1
        sheet.set_row(row, 16 * max(2, _lines(text, form.columns[group - 1].width)))
        sheet.write_number(row, 0, number, centred)
        for at in range(1, last + 1):
            sheet.write_blank(row, at, None, entry)
        if text:
            sheet.write_string(row, group, text, entry)
    _validate(book, sheet, judge, header + 1, row)
    for note in form.notes:
        if note.where == "row":
            row += 1
            line(row, note.text, style(border=1), first=1 if note.label else 0)
            if note.label:
                sheet.write_string(row, 0, note.label, centred)
    for note in form.notes:
        if note.where == "below":
            row += 1
            line(row, note.text, bold if note.bold else plain)
    for footer in form.lines:
        if footer.where == "below":
            row += 1
            labelled(row, footer.label)

    sheet.freeze_panes(header + 1, 0)
    sheet.repeat_rows(header)
    sheet.set_paper(9)
    if form.landscape:
        sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    sheet.set_footer("&C第 &P 页，共 &N 页")
    book.close()
    return out.getvalue()


def _lines(text: str, width: float) -> int:
    """How many lines a Chinese text takes in a column of so many mm: four of them a character."""
    return max(1, math.ceil(len(text) * 4 / (width - 2)))


def _validate(book: Any, sheet: Any, judge: FormJudge, first: int, last: int) -> None:
    """Hints on every entry, and drop-downs that a closed list enforces and an open one only offers."""
    codes = None
    for at, column in enumerate(judge.form.columns, 1):
        needed = column.conditional or ("必填" if column.required else "选填")
        hint = [needed, HINTS.get(column.type, "").replace("{year}", str(judge.round.year))]
        if column.limit:
            hint.append(f"不超过{column.limit}字")
        rule: dict[str, Any] = {"validate": "any"}
        if column.list:
            codes = codes or book.add_worksheet(CODES)
            labels = [c.label for c in judge.lists[column.list].values]
            codes.write_column(0, at, labels)
            cells = f"${letter(at + 1)}$1:${letter(at + 1)}${len(labels)}"
            rule = {"validate": "list", "source": f"={CODES}!{cells}"}
            if judge.lists[column.list].open:
                rule["show_error"] = False
                hint.append("列表之外的请直接填写")
            else:
                rule |= {"error_title": "不在列表之内", "error_message": "请从下拉列表中选择"}
        rule |= {"input_title": column.header[:32], "input_message": "；".join(filter(None, hint))[:255]}
        sheet.data_validation(first, at, last, at, rule)
    if codes:
        codes.hide()
