"""Worksheets as the file has them: cells, merges, number formats, and a cell as the text that its filer sees.

What the cells are there for is not here, that is `workbook.py`; nor is whether a file may be opened, that is
`attachments.py`.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cache
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import openpyxl
from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

from services.intake import opendocument
from services.intake.attachments import MAX_ROWS, MAX_SHEETS, SAVE_AGAIN, visible
from services.intake.opendocument import Layout, Range
from services.intake.sheets import Unusable
from shared.notices import values

_LITERAL = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.')


@dataclass
class Page:
    """One worksheet; `format_of` gives the number format of a cell, "" when it is not known."""

    name: str
    cells: list[list[Any]]
    merged: list[Range]
    format_of: Callable[[int, int], str]
    hidden: bool = False


def pages_of(data: bytes) -> list[Page]:
    """The worksheets of a file that `refuse_unsafe` has let pass."""
    layouts: dict[str, Layout] = {}
    if data.startswith(b"PK"):
        with ZipFile(BytesIO(data)) as archive:
            if "content.xml" in archive.namelist():
                layouts = opendocument.layouts(archive.read("content.xml"))
    formats = cache(lambda: _formats(data))

    def looker(name: str) -> Callable[[int, int], str]:
        if layout := layouts.get(name):
            return lambda row, column: "0%" if (row, column) in layout.percent else ""
        return lambda row, column: formats().get((name, row, column), "")

    pages = []
    try:
        book = CalamineWorkbook.from_object(BytesIO(data))
        if len(book.sheets_metadata) > MAX_SHEETS or any(len(m.name) > 255 for m in book.sheets_metadata):
            raise Unusable("workbook.sheets", f"工作表超过{MAX_SHEETS}个或名称过长；{SAVE_AGAIN}")
        for meta in book.sheets_metadata:
            if meta.typ == SheetTypeEnum.MacroSheet:
                raise Unusable("workbook.macros", f"文件含有宏表；{SAVE_AGAIN}（不保留宏）")
            if meta.typ != SheetTypeEnum.WorkSheet:
                continue
            sheet = book.get_sheet_by_name(meta.name)
            if sheet.end and sheet.end[0] >= MAX_ROWS and sheet.height > MAX_ROWS:
                raise Unusable("workbook.rows", f"数据超过{MAX_ROWS}行，请分成几个文件报送")
            cells: list[list[Any]] = sheet.to_python(skip_empty_area=False)
            merged = layouts[meta.name].merged if meta.name in layouts else sheet.merged_cell_ranges or []
            hidden = meta.visible != SheetVisibleEnum.Visible
            pages.append(Page(meta.name, cells, merged, looker(meta.name), hidden))
    except PasswordError:
        raise Unusable("workbook.encrypted", "文件设有打开密码，请取消密码后再报送") from None
    except CalamineError:
        raise Unusable("workbook.damaged", f"文件已损坏，无法打开；{SAVE_AGAIN}") from None
    return pages


def _formats(data: bytes) -> dict[tuple[str, int, int], str]:
    """Number formats of an .xlsx; read only when a cell needs one, as it costs more than all the rest."""
    if not data.startswith(b"PK"):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            book = openpyxl.load_workbook(BytesIO(data), read_only=True)
            return {
                (sheet.title, cell.row - 1, cell.column - 1): cell.number_format
                for sheet in book.worksheets
                for row in _rows_as_long_as_they_are(sheet)
                for cell in row
                if cell.value is not None and cell.number_format != "General"
            }
        except Exception:  # noqa: BLE001 - whatever this second reader stumbles over: a format is only a help
            return {}


def _rows_as_long_as_they_are(sheet: Any) -> Iterator[Any]:
    sheet.reset_dimensions()  # as declared they may reach XFD1048576, and every row would be filled up to there
    yield from sheet.iter_rows()


def text_of(value: Any, kind: str = "text", look: Callable[[], str] = str) -> str:
    """A cell as the filer sees it: `3.65%`, `2025年6月`, `13800138000`; `look` tells its number format."""
    if isinstance(value, str):
        return values.tidy(visible(value.replace("\r\n", "\n").replace("\r", "\n")))
    if isinstance(value, float) and not value.is_integer():
        if (kind == "rate" and 0 < value < 1) or "%" in look():
            return values.fraction(round(value, 12))
        return f"{value:.15g}"  # as many digits as Excel has: 0.30000000000000004 is noise
    if isinstance(value, datetime) and (value.hour or value.minute):
        return f"{values.chinese_date(value)} {value.hour}:{value.minute:02}"
    if isinstance(value, date) and value.day == 1:
        # Excel makes 2025-06-01 of a typed 2025年6月, and only the format remembers that no day was meant.
        shape = _LITERAL.sub("", look()).casefold()
        month_only = "y" in shape and "d" not in shape
        return f"{value.year}年{value.month}月" if month_only else values.chinese_date(value)
    if isinstance(value, time):
        return f"{value.hour}:{value.minute:02}"
    if isinstance(value, timedelta):
        return str(value)
    return values.tidy(value)
