"""Real workbooks for tests: made with writers that the reader does not share, as people and attackers make them.

Cells are given as rows of Python values; None is blank. `Cell` adds a number format.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from io import BytesIO
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import xlsxwriter
import xlwt
from odf.opendocument import OpenDocumentSpreadsheet
from odf.table import CoveredTableCell, Table, TableCell, TableRow
from odf.text import P
from xlwt.CompoundDoc import XlsDoc

from shared.notices.model import Form

Rows = Sequence[Sequence[Any]]
Sheets = Mapping[str, Rows]
Merge = tuple[int, int, int, int]
"""First row, first column, last row, last column; from 0."""


@dataclass(frozen=True)
class Cell:
    value: Any
    format: str


def head(form: Form) -> list[Any]:
    return ["序号", *(c.header for c in form.columns)]


def xlsx(sheets: Sheets, merges: Iterable[Merge] = (), hidden: Iterable[str] = ()) -> bytes:
    out = BytesIO()
    plain = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    book = xlsxwriter.Workbook(out, {"in_memory": True, **plain})
    for name, rows in sheets.items():
        sheet = book.add_worksheet(name)
        if name in hidden:
            sheet.hide()
        for merge in merges:
            sheet.merge_range(*merge, "")
        for r, row in enumerate(rows):
            for c, value in enumerate(row):
                shape = None
                if isinstance(value, Cell):
                    value, shape = value.value, book.add_format({"num_format": value.format})
                if isinstance(value, (date, time)):
                    sheet.write_datetime(r, c, value, shape or book.add_format({"num_format": "yyyy/m/d"}))
                elif isinstance(value, str):
                    sheet.write_string(r, c, value)
                elif value is not None:
                    sheet.write(r, c, value, shape)
    book.close()
    return out.getvalue()


def xls(sheets: Sheets, merges: Iterable[Merge] = ()) -> bytes:
    out = BytesIO()
    _xls_book(sheets, merges).save(out)
    return out.getvalue()


def xls_with_password(sheets: Sheets) -> bytes:
    """A BIFF workbook that declares encryption (record FILEPASS right after the first BOF)."""
    stream = _xls_book(sheets, ()).get_biff_data()
    first = 4 + struct.unpack_from("<H", stream, 2)[0]
    filepass = struct.pack("<HH", 0x2F, 54) + struct.pack("<HHH", 1, 1, 1) + bytes(48)
    out = BytesIO()
    XlsDoc().save(out, stream[:first] + filepass + stream[first:])
    return out.getvalue()


def _xls_book(sheets: Sheets, merges: Iterable[Merge]) -> Any:
    book = xlwt.Workbook(encoding="utf-8")
    for name, rows in sheets.items():
        sheet = book.add_sheet(name, cell_overwrite_ok=True)
        for r, row in enumerate(rows):
            for c, value in enumerate(row):
                style = xlwt.Style.default_style
                if isinstance(value, Cell):
                    value, style = value.value, xlwt.easyxf(num_format_str=value.format)
                elif isinstance(value, date):
                    style = xlwt.easyxf(num_format_str="yyyy/m/d")
                if value is not None:
                    sheet.write(r, c, value, style)
        for r1, c1, r2, c2 in merges:
            sheet.merge(r1, r2, c1, c2)
    return book


def ods(sheets: Sheets, merges: Iterable[Merge] = (), macro: bool = False) -> bytes:
    book = OpenDocumentSpreadsheet()
    spans = {(r1, c1): (r2 - r1 + 1, c2 - c1 + 1) for r1, c1, r2, c2 in merges}
    covered = {
        (r, c) for r1, c1, r2, c2 in merges for r in range(r1, r2 + 1) for c in range(c1, c2 + 1)
    } - set(spans)
    for name, rows in sheets.items():
        table = Table(name=name)
        for r, row in enumerate(rows):
            line = TableRow()
            for c, value in enumerate(row):
                more = {}
                if (r, c) in spans:
                    more = {"numberrowsspanned": spans[r, c][0], "numbercolumnsspanned": spans[r, c][1]}
                line.addElement(_ods_cell(value, CoveredTableCell if (r, c) in covered else TableCell, more))
            table.addElement(line)
        book.spreadsheet.addElement(table)
    out = BytesIO()
    book.write(out)
    return rezip(out.getvalue(), {"Basic/Standard/Module1.xml": b"<module/>"} if macro else {})


def _ods_cell(value: Any, kind: Any, more: dict[str, Any]) -> Any:
    percent = isinstance(value, Cell)
    if isinstance(value, Cell):
        value = value.value
    if value is None:
        return kind(**more)
    if isinstance(value, date):
        return kind(valuetype="date", datevalue=value.isoformat(), **more)
    if isinstance(value, (int, float)):
        return kind(valuetype="percentage" if percent else "float", value=value, **more)
    cell = kind(valuetype="string", **more)
    for line in value.split("\n"):
        cell.addElement(P(text=line))
    return cell


# --- by hand ------------------------------------------------------------------------------------------------


def rezip(data: bytes, parts: Mapping[str, bytes | None], unpacked: bool = False) -> bytes:
    """The same zip with parts replaced, added, or (None) left out."""
    out = BytesIO()
    with ZipFile(BytesIO(data)) as old, ZipFile(out, "w", 0 if unpacked else ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name not in parts:
                new.writestr(name, old.read(name))
        for name, content in parts.items():
            if content is not None:
                new.writestr(name, content)
    return out.getvalue()


def part(data: bytes, name: str) -> bytes:
    with ZipFile(BytesIO(data)) as archive:
        return archive.read(name)


def with_sheet_xml(cells: str) -> bytes:
    """An .xlsx whose first sheet has these `<row>`s, written without any library's help."""
    plain = xlsx({"Sheet1": [["x"]]})
    body = part(plain, "xl/worksheets/sheet1.xml").decode()
    start, end = body.index("<sheetData>"), body.index("</sheetData>")
    return rezip(
        plain, {"xl/worksheets/sheet1.xml": (body[:start] + "<sheetData>" + cells + body[end:]).encode()}
    )


def ole(*names: str, around: bytes = b"") -> bytes:
    """A compound file (or `around`, one already) with these directory entries."""
    start = around or (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(512, b"\0"))
    start += bytes(-len(start) % 512)
    entries = b""
    for name in names:
        raw = name.encode("utf-16-le")
        entries += raw.ljust(64, b"\0") + struct.pack("<HBB", len(raw) + 2, 2, 1) + bytes(60)
    return start + entries + bytes(-len(entries) % 512)
