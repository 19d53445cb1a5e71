"""The blank annex, made from the form alone.

What comes back filled in is not read here, that is `workbook.py`.
"""

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import xlsxwriter
from openpyxl.utils import get_column_letter as letter

from services.intake.office import STILL
from services.intake.stamp import NAME, PROPERTY, TITLE, stamp_of
from shared.notices import layout
from shared.notices.columns import Column
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
NUMBERS = ("amount", "integer", "decimal", "percent")
"""Types of one number; a person may still write what is none, such as `500万元`, and intake says what it takes."""
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
    codes = Codes(book)
    for at, column in enumerate(form.columns, 1):
        cell = f"{letter(at + 1)}{header + 2}"
        sheet.data_validation(header + 1, at, row, at, rule_of(judge, column, HINTS, codes, cell))
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


class Codes:
    """The hidden sheet of the lists to choose from, made when the first is needed: a rule by itself holds 255
    characters, and no list with a comma in it."""

    def __init__(self, book: Any) -> None:
        self.book = book
        self.sheet: Any = None
        self.places: dict[tuple[str, ...], str] = {}

    def source(self, labels: Sequence[str]) -> str:
        key = tuple(labels)
        if key not in self.places:
            self.sheet = self.sheet or self.book.add_worksheet(CODES)
            at = len(self.places)
            self.sheet.write_column(0, at, labels)
            column = letter(at + 1)
            self.places[key] = f"={CODES}!${column}$1:${column}${len(labels)}"
            self.sheet.hide()
        return self.places[key]


def rule_of(
    judge: FormJudge, column: Column, hints: Mapping[str, str], codes: Codes, cell: str
) -> dict[str, Any]:
    """What a spreadsheet says while a cell is filled in: a hint, and a list, a length or a number. It insists only on
    what a longer or other text would be refused for; `cell` is the first of those that the rule is for."""
    needed = column.conditional or ("必填" if column.required else "选填")
    hint = [needed, hints.get(column.type, "").replace("{year}", str(judge.round.year))]
    rule: dict[str, Any] = {"validate": "any"}
    if column.limit:
        hint.append(f"不超过{column.limit}字")
        rule = {"validate": "length", "criteria": "<=", "value": column.limit}
        rule |= {"error_title": "文字过长", "error_message": f"应不超过{column.limit}字"}
        rule |= {} if column.stated else {"error_type": "warning"}
    if column.type in NUMBERS:
        number = f"VALUE({cell})" if column.least is None else f"VALUE({cell})>={column.least}"
        holds = f"IFERROR(ISNUMBER({number}),FALSE)" if column.least is None else f"IFERROR({number},FALSE)"
        least = "" if column.least is None else f"，不小于{column.least}"
        rule = {"validate": "custom", "value": f'=OR({cell}="—",{holds})', "error_type": "warning"}
        rule |= {"error_title": "应为数字", "error_message": f"请只填数字{least}；不适用填“—”"}
        if column.least is not None:
            hint.append(f"不小于{column.least}")
    labels = ["是", "否"] if column.type == "flag" else []
    if column.list:
        labels = [choice.label for choice in judge.lists[column.list].values]
    if labels:
        rule = {"validate": "list", "source": codes.source(labels)}
        if not column.list or judge.lists[column.list].open:
            rule["show_error"] = False
            hint += ["列表之外的请直接填写"] if column.list else []
        else:
            rule |= {"error_title": "不在列表之内", "error_message": "请从下拉列表中选择"}
    said = "；".join(filter(None, hint))[:255]
    return rule | {"input_title": column.header[:32], "input_message": said}
