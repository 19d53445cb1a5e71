"""A filer's own workbook with its faults written into it.

What is a fault is not decided here: the findings arrive as arguments.
"""

import contextlib
import re
import warnings
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from io import BytesIO
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import openpyxl
from openpyxl.cell.cell import MergedCell
from openpyxl.comments import Comment
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter as letter
from xlsxwriter.exceptions import OverlappingRange

from services.intake.attachments import is_document, visible
from services.intake.pages import pages_of
from services.intake.sheets import Compiled, Sheet, Unusable
from services.intake.template import STILL, new_book
from services.intake.workbook import RESULT, read
from shared.contracts.types import Finding, Severity

CLEAN = "未发现问题"
AUTHOR = "益企校验"

SEVERITIES: dict[Severity, tuple[str, str]] = {
    "hard": ("必须修改", "FFC7CE"),
    "soft": ("请确认", "FFEB9C"),
    "info": ("提示", "DDEBF7"),
}


def mark(data: bytes, name: str, findings: Sequence[Finding], compiled: Compiled) -> bytes:
    """The filer's own workbook with its faults in it, ready to be corrected and filed again.

    Faulty cells get a colour and a comment, every entry of a faulty sheet a cell in the last column; the marks
    of an earlier time go. No row is added or moved, so that row numbers stay true, and `read` of the result
    gives the same rows. Formulas are replaced by their last values: they alone are what was read.
    """
    sheets = read(data, name, compiled)
    if is_document(data):
        raise Unusable("workbook.word", "Word 文档中不作标注，问题的位置见回复")
    book = _openpyxl(data)
    first = book.worksheets[0].title
    by_sheet: dict[str, list[Finding]] = {}
    for f in findings:
        known = f.sheet in book.sheetnames
        by_sheet.setdefault(f.sheet if known and f.sheet else first, []).append(f)
    tables = {s.sheet: s for s in sheets}
    for worksheet in book.worksheets:
        table = tables.get(worksheet.title)
        _unmark(worksheet, table)
        if worksheet.title in by_sheet:
            _mark_sheet(worksheet, table, by_sheet[worksheet.title])
    out = BytesIO()
    book.save(out)
    return _settled(out.getvalue())


def _openpyxl(data: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if data.startswith(b"PK"):
            try:
                return openpyxl.load_workbook(BytesIO(data), data_only=True, rich_text=True)
            except Exception:  # noqa: BLE001,S110 - an .ods, or an .xlsx that only the other reader understands
                pass
        return openpyxl.load_workbook(BytesIO(_as_xlsx(data)))


def _sentence(finding: Finding) -> str:
    source = dict.fromkeys(filter(None, (finding.rule, finding.clause)))
    text = f"【{SEVERITIES[finding.severity][0]}】{finding.detail}（{'，'.join(source)}）"
    return visible(text)


def _unmark(sheet: Any, table: Sheet | None) -> None:
    header = table.header if table else 0
    results = {c.column for c in _existing(sheet) if c.row == header and c.value == RESULT}
    for cell in _existing(sheet):
        if cell.comment is not None and cell.comment.author == AUTHOR:
            cell.comment = None
            cell.fill = PatternFill()
        if cell.column in results and cell.row >= header and not isinstance(cell, MergedCell):
            cell.value = None


def _existing(sheet: Any) -> list[Any]:
    """The cells that are there. openpyxl's own loops would make every other one up to XFD1048576."""
    return list(sheet._cells.values())


def _mark_sheet(sheet: Any, table: Sheet | None, findings: list[Finding]) -> None:
    corner = {
        (row, column): (m.min_row, m.min_col) for m in sheet.merged_cells.ranges for row, column in m.cells
    }
    at_cell: dict[tuple[int, int], list[Finding]] = {}
    at_row: dict[int, list[Finding]] = {}
    for f in findings:
        if f.cell:
            cell = sheet[f.cell]
            at_cell.setdefault(corner.get((cell.row, cell.column), (cell.row, cell.column)), []).append(f)
        if f.row:
            at_row.setdefault(f.row, []).append(f)
    header = table.header if table and table.form else 0
    result = _free_column(sheet, header) if header else 0
    loose = [f for f in findings if not f.cell and not (f.row and result)]
    if loose:
        at_cell.setdefault((header, result) if header else corner.get((1, 1), (1, 1)), []).extend(loose)
    if header:
        sheet.cell(header, result, RESULT).font = Font(bold=True)
        sheet.column_dimensions[letter(result)].width = 60
        for row in sorted({r.row for r in table.rows} | set(at_row)) if table else ():
            if row != header:
                said = "\n".join(_sentence(f) for f in _worst_first(at_row.get(row, [])))
                sheet.cell(row, result, said or CLEAN).alignment = Alignment(wrap_text=True, vertical="top")
    for (row, column), found in at_cell.items():
        cell = sheet.cell(row, column)
        own = f"{cell.comment.text}\n\n" if cell.comment else ""
        said = own + "\n".join(_sentence(f) for f in _worst_first(found))
        cell.comment = Comment(said, AUTHOR, width=360, height=min(60 + 20 * (len(said) // 24), 480))
        colour = SEVERITIES[_worst_first(found)[0].severity][1]
        cell.fill = PatternFill("solid", fgColor=colour)


def _worst_first(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: list(SEVERITIES).index(f.severity))


def _free_column(sheet: Any, header: int) -> int:
    """The first one to the right of the table, which after `_unmark` is that of an earlier marking."""
    filled = (c.column for c in _existing(sheet) if c.row >= header and c.value is not None)
    merged = (m.max_col for m in sheet.merged_cells.ranges if m.min_row <= header <= m.max_row)
    return int(max([0, *filled, *merged])) + 1


def _as_xlsx(data: bytes) -> bytes:
    """The same cells and merges as an .xlsx: nothing writes .xls, and .ods is not worth a second writer."""
    out = BytesIO()
    book = new_book(out)
    styles = {
        datetime: book.add_format({"num_format": 'yyyy"年"m"月"d"日" h:mm'}),
        date: book.add_format({"num_format": 'yyyy"年"m"月"d"日"'}),
        time: book.add_format({"num_format": "h:mm"}),
        timedelta: book.add_format({"num_format": "[h]:mm"}),
        float: book.add_format({"num_format": "0.00%"}),
    }
    wrap = book.add_format({"text_wrap": True, "valign": "top"})
    for page in pages_of(data):
        sheet = book.add_worksheet(re.sub(r"[\[\]:*?/\\]", " ", page.name).strip("'")[:31])
        sheet.set_column(0, 40, 18, wrap)
        if page.hidden:
            sheet.hide()
        for (top, left), (bottom, right) in page.merged:
            with contextlib.suppress(OverlappingRange):
                sheet.merge_range(top, left, bottom, right, "", wrap)
        for row, cells in enumerate(page.cells):
            for column, value in enumerate(cells):
                if isinstance(value, str):
                    if value.startswith("<r>") and value.endswith("</r>"):
                        value += (
                            " "  # or XlsxWriter takes it for the XML of a rich text, and writes it as it is
                        )
                    if value:
                        sheet.write_string(row, column, value, wrap)
                elif isinstance(value, bool):
                    sheet.write_boolean(row, column, value)
                elif isinstance(value, (int, float)):
                    percent = "%" in page.format_of(row, column)
                    sheet.write_number(row, column, value, styles[float] if percent else None)
                else:
                    sheet.write_datetime(row, column, value, styles[type(value)])
    book.close()
    return out.getvalue()


def _settled(data: bytes) -> bytes:
    """The same file without the moment of its making in it, so that equal input gives equal bytes."""
    out = BytesIO()
    with ZipFile(BytesIO(data)) as old, ZipFile(out, "w", ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>2025-01-01T00:00:00Z", content)
            new.writestr(ZipInfo(name, STILL.timetuple()[:6]), content, ZIP_DEFLATED)
    return out.getvalue()
