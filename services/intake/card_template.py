"""The blank card as a worksheet, made from the form alone; the blank list is in `template.py`.

What comes back filled in is read by `cards.py`, by the same labels.
"""

import math
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

from openpyxl.utils import get_column_letter as letter

from services.intake.labels import is_blank_within
from services.intake.template import HINTS, MM, OURS, Codes, new_book, rule_of, sign
from shared.notices.cards import Block, Declaration, Grid, Labelled
from shared.notices.columns import Column
from shared.notices.forms import FormJudge
from shared.notices.model import Notice

LANDSCAPE, PORTRAIT = 225, 156
"""Millimetres of the type area."""
LONG = 200
"""A field with a higher limit has a row of its own."""
SPARE_ROWS = 3
CARD_HINTS = {
    **HINTS,
    "date": "如：{year}年3月5日",
    "year_month": "如：{year}年3月",
    "integer": "只填整数",
    "decimal": "只填数字",
    "percent": "如：60.5%",
    "flag": "填“是”或“否”",
    "phones": "固话和手机，用顿号隔开",
    "email": "如：name@example.cn",
    "uscc": "18位",
    "postcode": "6位数字",
}


def card_template(judge: FormJudge, notice: Notice) -> bytes:
    """The blank card. Cells are text, lest a code lose its zeros or a date become a number."""
    out = BytesIO()
    book = new_book(out)
    _Sheet(book, judge, notice).write()
    book.close()
    return out.getvalue()


class _Sheet:
    """Written from top to bottom; `top` is the next free row."""

    def __init__(self, book: Any, judge: FormJudge, notice: Notice) -> None:
        assert judge.form.card
        self.judge, self.form, self.card, self.notice = judge, judge.form, judge.form.card, notice
        self.book, self.sheet, self.top = book, book.add_worksheet(self.form.annex), 0
        self.codes = Codes(book)
        sign(book, self.sheet, self.form, notice)
        if self.form.derived:
            self.sheet.set_header(OURS)
        tables: list[Block | Grid] = [
            *(b for _, b in self.card.blocks()),
            *(g for s in self.card.sections for g in s.grids),
        ]
        self.last = max([4, *(len(table.columns) + 1 for table in tables)]) - 1
        self.width = (LANDSCAPE if self.form.landscape else PORTRAIT) / (self.last + 1)
        plain = {"font_name": "宋体", "font_size": 11, "valign": "vcenter", "text_wrap": True}
        self.looks = {
            "annex": book.add_format({**plain, "font_name": "黑体", "font_size": 14}),
            "title": book.add_format({**plain, "bold": True, "font_size": 18, "align": "center"}),
            "section": book.add_format({**plain, "bold": True, "border": 1, "bg_color": "#F2F2F2"}),
            "label": book.add_format({**plain, "border": 1, "align": "center"}),
            "entry": book.add_format({**plain, "border": 1, "num_format": "@"}),
            "plain": book.add_format(plain),
        }

    def write(self) -> None:
        sheet = self.sheet
        sheet.set_column(0, self.last, self.width / MM)
        self._line(self.form.annex, "annex")
        self._line(self.notice.form_title(self.form), "title", 32)
        for section in self.card.sections:
            if section.title:
                self._line(section.title, "section")
            self._fields(section.fields)
            for grid in section.grids:
                self._grid(grid)
            for block in section.blocks:
                self._block(block)
            if section.declaration:
                self._declaration(section.declaration, [mark.label for mark in section.marks])
        for note in self.form.notes:
            self._line(note.text, "plain")
        sheet.set_paper(9)
        if self.form.landscape:
            sheet.set_landscape()
        sheet.fit_to_pages(1, 0)
        sheet.set_footer("&C第 &P 页，共 &N 页")

    # -- parts -------------------------------------------------------------------------------------------

    def _fields(self, fields: Sequence[Labelled]) -> None:
        for row in self._arranged(fields):
            half = self.last == 3 and len(row) == 2
            for i, field in enumerate(row):
                first, end = (2 * i, 2 * i + 1) if half else (0, self.last)
                text = "\n".join((field.header, *field.guidance))
                if is_blank_within(field.header):
                    self._cell(first, end, field.header, "entry")
                    continue
                label = first if self.last == 3 else 1
                self._cell(first, label, text, "label")
                self._cell(label + 1, end, "", "entry")
                self._validate(self.top, label + 1, self.top, field)
            long = max((field.limit or 0) for field in row)
            lines = max(_lines("".join((f.header, *f.guidance)), self.width) for f in row)
            self.sheet.set_row(self.top, 16 * max(2, lines, min(20, math.ceil(long / 40))))
            self.top += 1

    def _arranged(self, fields: Sequence[Labelled]) -> Iterator[list[Labelled]]:
        """Two short fields in a row, a long one alone."""
        row: list[Labelled] = []
        for field in fields:
            alone = self.last > 3 or field.below or field.guidance or (field.limit or 0) > LONG
            if alone or is_blank_within(field.header):
                if row:
                    yield row
                yield [field]
                row = []
            else:
                row.append(field)
                if len(row) == 2:
                    yield row
                    row = []
        if row:
            yield row

    def _grid(self, grid: Grid) -> None:
        self._headers([grid.label, *(c.header for c in grid.columns)])
        first = self.top
        for line in grid.rows:
            self._row([self.notice.round.fill(line.label)], len(grid.columns))
        for at, column in enumerate(grid.columns, 1):
            self._validate(first, at, self.top - 1, column)

    def _block(self, block: Block) -> None:
        self._line(block.title, "section")
        self._headers(["序号", *(c.header for c in block.columns)])
        first = self.top
        described = [c.key for c in block.columns].index(block.described) if block.described else 0
        for n, text in enumerate((*block.preset, *[""] * (0 if block.preset else SPARE_ROWS)), 1):
            self._row([str(n), *[""] * described, text], len(block.columns))
        for at, column in enumerate(block.columns, 1):
            self._validate(first, at, self.top - 1, column)

    def _declaration(self, said: Declaration, marks: Sequence[str]) -> None:
        self._cell(0, 0, said.label, "label")
        self._cell(1, self.last, said.text, "entry")
        self.sheet.set_row(self.top, 16 * _lines(said.text, self.width * self.last) + 8)
        self.top += 1
        for text in (*marks, *(["年    月"] if said.dated else [])):
            self._cell(0, 0, "", "label")
            self._cell(1, self.last, text, "entry")
            self.top += 1

    # -- cells -------------------------------------------------------------------------------------------

    def _line(self, text: str, look: str, height: float = 18) -> None:
        self._cell(0, self.last, text, look)
        self.sheet.set_row(self.top, height * _lines(text, self.width * (self.last + 1)) + 2)
        self.top += 1

    def _cell(self, first: int, last: int, text: str, look: str) -> None:
        if first < last:
            self.sheet.merge_range(self.top, first, self.top, last, "", self.looks[look])
        self.sheet.write_string(self.top, first, text, self.looks[look])

    def _headers(self, texts: Sequence[str]) -> None:
        for at, text in enumerate(texts):
            self.sheet.write_string(self.top, at, text, self.looks["section"])
        self.sheet.set_row(self.top, 16 * max(_lines(text, self.width) for text in texts) + 8)
        self.top += 1

    def _row(self, printed: Sequence[str], columns: int) -> None:
        for at in range(columns + 1):
            text = printed[at] if at < len(printed) else ""
            self.sheet.write_string(self.top, at, text, self.looks["entry" if at else "label"])
        self.sheet.set_row(self.top, 16 * max(2, *(_lines(text, self.width) for text in printed)))
        self.top += 1

    def _validate(self, first: int, at: int, last: int, column: Column) -> None:
        rule = rule_of(self.judge, column, CARD_HINTS, self.codes, f"{letter(at + 1)}{first + 1}")
        if rule["validate"] == "list":
            rule["show_error"] = False  # a card prints its choices with boxes to tick, and takes them as well
        self.sheet.data_validation(first, at, last, at, rule)


def _lines(text: str, width: float) -> int:
    """How many lines a Chinese text takes in so many mm: four of them a character."""
    return sum(max(1, math.ceil(len(line) * 4 / max(4.0, width - 2))) for line in text.split("\n"))
