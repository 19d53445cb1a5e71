"""A filer's own workbook with its faults written into it.

What is a fault is not decided here: the findings arrive as arguments.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from io import BytesIO
from xml.parsers.expat import ExpatError
from zipfile import BadZipFile

from openpyxl.utils import get_column_letter as letter
from openpyxl.utils.cell import coordinate_to_tuple
from xlsxwriter.exceptions import OverlappingRange

from services.intake.attachments import is_document, refuse_unsafe, visible
from services.intake.card_marks import commented
from services.intake.cell_notes import note
from services.intake.office import Package
from services.intake.pages import Page, pages_of
from services.intake.sheet_marks import Looks, Marks, forget_calculations, looks, marked, worksheets
from services.intake.sheets import Compiled, Sheet, Unusable
from services.intake.template import new_book
from services.intake.workbook import RESULT, read_pages
from shared.contracts.types import Finding, Severity
from shared.notices.model import Form

CLEAN = "未发现问题"

SEVERITIES: dict[Severity, tuple[str, str]] = {
    "hard": ("必须修改", "FFC7CE"),
    "soft": ("请确认", "FFEB9C"),
    "info": ("提示", "DDEBF7"),
}


def mark(
    data: bytes, name: str, findings: Sequence[Finding], compiled: Compiled, *, only_faults: bool = False
) -> bytes:
    """The filer's own workbook with its faults in it, ready to be corrected and filed again.

    Faulty cells get a colour and a comment, every entry of a faulty sheet a cell in the last column; the marks
    of an earlier time go. No row is added or moved, so that row numbers stay true, and `read` of the result
    gives the same rows; with `only_faults` those that have a fault, while the others are blank and hidden.
    Whatever else the file has, it keeps. A Word document gets comments.
    """
    refuse_unsafe(data, name)
    if is_document(data):
        return _document(data, findings)
    pages = pages_of(data)
    tables = {s.sheet: s for s in read_pages(pages, compiled)}
    try:
        return _marked(data, pages, tables, findings, compiled, only_faults=only_faults)
    except (KeyError, ValueError, ExpatError, BadZipFile):
        pass  # an .xls, an .ods, or an .xlsx that only the other reader understands
    again = _as_xlsx(pages)
    return _marked(again, pages, tables, findings, compiled, only_faults=only_faults)


def _document(data: bytes, findings: Sequence[Finding]) -> bytes:
    at: dict[str, list[Finding]] = {}
    for f in findings:
        at.setdefault(f.cell or "", []).append(f)
    try:
        return commented(data, {place: _said(found) for place, found in at.items()})
    except (KeyError, ValueError, ExpatError, BadZipFile):
        raise Unusable("workbook.word", "这个 Word 文档中无法作标注，问题的位置见回复") from None


def _said(findings: Sequence[Finding]) -> str:
    return "\n".join(_sentence(f) for f in _worst_first(findings))


def _marked(
    data: bytes,
    pages: Sequence[Page],
    tables: Mapping[str, Sheet],
    findings: Sequence[Finding],
    compiled: Compiled,
    *,
    only_faults: bool,
) -> bytes:
    package = Package(data)
    parts = worksheets(package)
    by_name = {_sheet_name(page.name): page for page in pages} | {page.name: page for page in pages}
    first = next(iter(parts))
    of_sheet: dict[str, list[Finding]] = {}
    for f in findings:
        name = f.sheet if f.sheet in parts else _sheet_name(f.sheet or "")
        of_sheet.setdefault(name if name in parts else first, []).append(f)
    only_faults = only_faults and any(f.row and f.severity != "info" for f in findings)
    styles = looks(package, [colour for _, colour in SEVERITIES.values()]) if findings else Looks(0, {})
    for name, part in parts.items():
        page = by_name.get(name)
        if page is None:
            continue  # no worksheet for the reader
        table = tables.get(page.name)
        form = compiled.notice.by_form[table.form] if table and table.form else None
        found = of_sheet.get(name, [])
        marks, said = _marks(page, table, form, found, only_faults=only_faults)
        before = package.read(part)
        content = note(package, part, marked(before, marks, styles), said)
        if content != before:
            package.write(part, content)
    if only_faults:
        forget_calculations(package)
    return package.file()


def _marks(
    page: Page, table: Sheet | None, form: Form | None, findings: Sequence[Finding], *, only_faults: bool
) -> tuple[Marks, dict[str, str]]:
    """The marks of one worksheet, and its comments by cell."""
    header = table.header if table and form else 0
    titles = page.cells[header - 1] if header else []
    old = [at for at, cell in enumerate(titles, 1) if cell == RESULT]
    if not findings and not only_faults:
        return Marks(header, old=old), {}
    column = _free_column(page, header, old) if header else 0
    corner = {
        (row + 1, at + 1): (top + 1, left + 1)
        for (top, left), (bottom, right) in page.merged
        for row in range(top, min(bottom + 1, len(page.cells)))
        for at in range(left, min(right + 1, len(page.cells[row])))
    }
    at_cell: dict[tuple[int, int], list[Finding]] = {}
    at_row: dict[int, list[Finding]] = {}
    for f in findings:
        if f.cell:
            place = coordinate_to_tuple(f.cell)
            at_cell.setdefault(corner.get(place, place), []).append(f)
        if f.row:
            at_row.setdefault(f.row, []).append(f)
    loose = [f for f in findings if not f.cell and not (f.row and header)]
    if loose:
        at_cell.setdefault((header, column) if header else corner.get((1, 1), (1, 1)), []).extend(loose)
    results: dict[int, str] = {}
    away: set[int] = set()
    entries = {r.row for r in table.rows} if table and header else set()
    if only_faults and not any(f.severity == "hard" and not f.row for f in findings):
        away = entries - _failing(page, header, at_row)
    if header:
        results = {row: _said(at_row.get(row, [])) or CLEAN for row in (entries | at_row.keys()) - away}
        results[header] = RESULT
    said: dict[str, str] = {}
    colours: dict[str, list[str]] = {colour: [] for _, colour in SEVERITIES.values()}
    for (row, at), found in sorted(at_cell.items()):
        if row not in away:
            cell, worst = f"{letter(at)}{row}", _worst_first(found)
            said[cell] = _said(worst)
            colours[SEVERITIES[worst[0].severity][1]].append(cell)
    kept = _inherited(table, form) if table and form and away else ()
    return Marks(header, column, old, results, colours, away, kept), said


def _failing(page: Page, header: int, at_row: Mapping[int, Sequence[Finding]]) -> set[int]:
    """Rows that have more than a hint, and those above them from which a merged cell reaches down to one."""
    rows = {row for row, found in at_row.items() if any(f.severity != "info" for f in found)}
    tops = {
        top + 1
        for (top, _), (bottom, _) in page.merged
        if top >= header and any(row in rows for row in range(top + 2, bottom + 2))
    }
    return rows | tops


def _inherited(table: Sheet, form: Form) -> set[int]:
    """The columns in which a blank cell means what stands above: a row that goes leaves those."""
    keys = {c.key for c in form.columns if c.inherit or c.key == form.group}
    cells = table.rows[0].cells if table.rows else {}
    return {coordinate_to_tuple(cell)[1] for key, cell in cells.items() if key in keys}


def _sheet_name(said: str) -> str:
    return re.sub(r"[\[\]:*?/\\]", " ", said).strip("'")[:31]


def _sentence(finding: Finding) -> str:
    source = dict.fromkeys(filter(None, (finding.rule, finding.clause)))
    text = f"【{SEVERITIES[finding.severity][0]}】{finding.detail}（{'，'.join(source)}）"
    return visible(text)


def _worst_first(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: list(SEVERITIES).index(f.severity))


def _free_column(page: Page, header: int, old: Sequence[int]) -> int:
    """The first one to the right of the table, not counting that of an earlier marking."""
    filled = (
        at
        for row in page.cells[header - 1 :]
        for at in range(len(row), 0, -1)
        if row[at - 1] != "" and at not in old
    )
    merged = (right + 1 for (top, _), (bottom, right) in page.merged if top < header <= bottom + 1)
    return max([0, *filled, *merged]) + 1


def _as_xlsx(pages: Sequence[Page]) -> bytes:
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
    for page in pages:
        sheet = book.add_worksheet(_sheet_name(page.name))
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
