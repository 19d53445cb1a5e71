"""The papers of the demo: annex workbooks as people really fill them in, and sealed scans, byte for byte repeatable.

What is written in them is not here: that is `rows.py`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from typing import Any, Literal
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import openpyxl
import xlsxwriter
from openpyxl.styles import Alignment, Font
from openpyxl.utils import get_column_letter as letter

from services.intake.office import STILL
from services.intake.template import template
from shared.notices.load import CompiledNotice
from shared.notices.model import Form

Cell = str | int | float
Row = tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """One annex as somebody filled it in: the cells as typed, and how the sheet looks."""

    form: str
    rows: tuple[Row, ...]
    sheet: str = ""
    heading: tuple[str, ...] = ()
    """Lines above the header; the annex label and the title of the notice when empty."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that were typed otherwise than printed."""
    serials: tuple[int, ...] = ()
    blank_repeats: bool = False
    """A domain is written once, its further rows are left blank."""
    merged: bool = False
    """…and those cells are merged."""
    extra: tuple[str, tuple[Cell, ...]] | None = None
    lines: Mapping[str, str] = field(default_factory=dict)
    """Labelled lines outside the table, by key."""
    below: tuple[str, ...] = ()


@dataclass(frozen=True)
class Book:
    """A workbook; `made` says from what: our template, an empty sheet in Excel, or another program."""

    name: str
    tables: tuple[Table, ...]
    made: Literal["template", "by hand", "other program"] = "by hand"


def workbook(book: Book, compiled: CompiledNotice) -> bytes:
    match book.made:
        case "template":
            return _filled_template(book, compiled)
        case "other program":
            return _of_other_program(book, compiled)
        case "by hand":
            return _by_hand(book, compiled)


def corrected(marked: bytes, cells: Mapping[str, str]) -> bytes:
    """The marked workbook that came back by mail, with these cells corrected in it."""
    book = openpyxl.load_workbook(BytesIO(marked))
    for cell, text in cells.items():
        book.worksheets[0][cell] = text
    return _saved(book)


def _filled_template(book: Book, compiled: CompiledNotice) -> bytes:
    """Row by row: beside its preset domain where the template prints one, else in the next free row."""
    (table,) = book.tables
    judge = compiled.forms[table.form]
    form = judge.form
    made = openpyxl.load_workbook(BytesIO(template(judge, compiled.notice)))
    sheet = made.worksheets[0]
    top = next(c.row for (c,) in sheet.iter_rows(max_col=1) if c.value == "序号") + 1
    group = [c.key for c in form.columns].index(form.group) if form.group else None
    places = {preset: top + i for i, preset in reversed(list(enumerate(form.preset))) if preset}
    taken: set[int] = set()
    for cells in table.rows:
        row = places.get(str(cells[group]), top) if group is not None else top
        while row in taken:
            row += 1
        taken.add(row)
        for at, cell in enumerate(cells, 2):
            if at - 2 != group or not sheet.cell(row, at).value:
                _write(sheet, row, at, cell)
    for (label,) in sheet.iter_rows(max_col=1):
        for line in form.lines:
            if label.value == line.label:
                _write(sheet, label.row, 3, table.lines.get(line.key, ""))
    return _saved(made)


def _by_hand(book: Book, compiled: CompiledNotice) -> bytes:
    made = openpyxl.Workbook()
    del made[made.sheetnames[0]]
    for table in book.tables:
        form = compiled.notice.by_form[table.form]
        sheet = made.create_sheet(table.sheet or form.annex)
        width = 1 + len(form.columns) + (table.extra is not None)
        row = 0
        for text in (*_heading(table, form, compiled), *_lines(table, form, "above")):
            row += 1
            sheet.merge_cells(start_row=row, end_row=row, start_column=1, end_column=width)
            sheet.cell(row, 1, text).font = Font(name="黑体", size=14)
        row += 1
        for at, text in enumerate(_headers(table, form), 1):
            sheet.cell(row, at, text).font = Font(bold=True)
            sheet.column_dimensions[letter(at)].width = 18 if at > 1 else 6
        first = row + 1
        for cells in _body(table, form):
            row += 1
            sheet.row_dimensions[row].height = 60
            for at, cell in enumerate(cells, 1):
                if cell != "":
                    _write(sheet, row, at, cell)
        if table.merged:
            starts = [n for n in range(first, row + 1) if sheet.cell(n, 2).value] + [row + 1]
            for start, after in pairwise(starts):
                if after - start > 1:
                    sheet.merge_cells(start_row=start, end_row=after - 1, start_column=2, end_column=2)
        for text in (*_lines(table, form, "below"), *table.below):
            row += 1
            sheet.merge_cells(start_row=row, end_row=row, start_column=1, end_column=width)
            sheet.cell(row, 1, text)
    return _saved(made)


def _of_other_program(book: Book, compiled: CompiledNotice) -> bytes:
    """As an export of some office system would be: no merges, numbers as numbers, percents as percents."""
    content = BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as made:
        made.set_properties({"created": STILL})
        percent = made.add_format({"num_format": "0.00%"})
        for table in book.tables:
            form = compiled.notice.by_form[table.form]
            sheet = made.add_worksheet(table.sheet or "导出数据")
            heading = [*_heading(table, form, compiled), *_lines(table, form, "above")]
            texts: list[Sequence[Cell]] = [[text] for text in heading]
            texts += [_headers(table, form), *_body(table, form)]
            texts += [[text] for text in (*_lines(table, form, "below"), *table.below)]
            for row, cells in enumerate(texts):
                for at, cell in enumerate(cells):
                    if isinstance(cell, str):
                        sheet.write_string(row, at, cell)
                    else:
                        sheet.write_number(row, at, cell, percent if isinstance(cell, float) else None)
    return content.getvalue()


def _heading(table: Table, form: Form, compiled: CompiledNotice) -> tuple[str, ...]:
    return table.heading or (form.annex, compiled.notice.form_title(form))


def _headers(table: Table, form: Form) -> list[str]:
    headers = ["序号", *(table.headers.get(c.header, c.header) for c in form.columns)]
    return [*headers, table.extra[0]] if table.extra else headers


def _body(table: Table, form: Form) -> list[list[Cell]]:
    body = []
    last: Cell = ""
    for n, cells in enumerate(table.rows):
        serial = table.serials[n] if table.serials else n + 1
        row: list[Cell] = [serial, *cells]
        if table.blank_repeats and row[1] == last:
            row[1] = ""
        last = cells[0]
        if table.extra:
            row.append(table.extra[1][n])
        body.append(row)
    return body


def _lines(table: Table, form: Form, where: str) -> list[str]:
    return [line.label + table.lines.get(line.key, "") for line in form.lines if line.where == where]


def _write(sheet: Any, row: int, column: int, cell: Cell) -> None:
    place = sheet.cell(row, column)
    place.value = cell
    place.alignment = Alignment(wrap_text=True, vertical="center")


def _saved(book: Any) -> bytes:
    """Without the moment of its making in it: what is filed names the event, so its bytes must repeat."""
    book.properties.created = STILL
    content = BytesIO()
    book.save(content)
    still = BytesIO()
    with ZipFile(content) as old, ZipFile(still, "w", ZIP_DEFLATED) as new:
        for name in old.namelist():
            part = old.read(name)
            if name == "docProps/core.xml":
                part = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>2025-01-01T00:00:00Z", part)
            new.writestr(ZipInfo(name, STILL.timetuple()[:6]), part, ZIP_DEFLATED)
    return still.getvalue()


def scan(unit: str, day: str) -> bytes:
    """A page as the seal leaves it, reduced to what a reader needs to see that it is an example."""
    lines = ("示例扫描件", f"报送单位：{unit}（公章）", day)
    text = b"\n".join(
        b"BT /F1 %d Tf 72 %d Td <%s> Tj ET"
        % (24 if n == 0 else 14, 720 - 48 * n, line.encode("utf-16-be").hex().encode())
        for n, line in enumerate(lines)
    )
    seal = b"0.8 0 0 RG 3 w 380 560 110 110 re S"
    content = text + b"\n" + seal
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>\nstream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type0/BaseFont/STSong-Light/Encoding/UniGB-UCS2-H/DescendantFonts[6 0 R]>>",
        b"<</Type/Font/Subtype/CIDFontType0/BaseFont/STSong-Light/FontDescriptor 7 0 R"
        b"/CIDSystemInfo<</Registry(Adobe)/Ordering(GB1)/Supplement 2>>>>",
        b"<</Type/FontDescriptor/FontName/STSong-Light/Flags 4/FontBBox[-25 -254 1000 880]"
        b"/ItalicAngle 0/Ascent 880/Descent -120/CapHeight 880/StemV 93>>",
    )
    out = b"%PDF-1.4\n"
    places = []
    for n, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (n, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
