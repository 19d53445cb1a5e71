"""A paper as DOCX, in the typefaces that the standard names; same paper, same bytes.

What stands on the paper is not here (`paper.py`). The page as GB/T 9704 has it is; the PDF's is in `paper.typ`.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, time
from io import BytesIO
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import docx
from docx.enum.section import WD_ORIENT
from docx.oxml.ns import qn
from docx.oxml.parser import OxmlElement
from docx.shared import Mm

from services.export.official import Document
from services.export.paper import Cell, Line, Paper, Side, Table, annex, official, places
from services.export.table import FANG, HEI, LABEL, SHORT_SIDE, SONG, TABLE, TITLE, Row
from shared.notices.model import Form, Notice

LOOKS = {
    "label": (HEI, LABEL, 579),
    "title": (SONG, TITLE, 640),
    "body": (FANG, LABEL, 579),
    "heading": (HEI, LABEL, 579),
    "subheading": ("楷体_GB2312", LABEL, 579),
    "table": (FANG, TABLE, 280),
    "head": (HEI, TABLE, 280),
}
"""Typeface, size, and the distance of lines in twentieths of a point: 28.95 pt make 22 lines a page."""

TWIPS = 1440 / 25.4


def catalogue(notice: Notice, form: Form, rows: Sequence[Row], *, public: bool = False) -> bytes:
    return render(annex(notice, form, rows, public=public))


def official_list(document: Document) -> bytes:
    return render(official(document))


def render(paper: Paper) -> bytes:
    book = docx.Document()
    _page(book, paper)
    issued = datetime.combine(paper.issued, time())
    properties = book.core_properties
    properties.title, properties.author, properties.comments = paper.title[:255], "", ""
    properties.created = properties.modified = issued
    body = book.element.body
    end = body.sectPr
    after_table = False
    for part in paper.parts:
        if isinstance(part, Table):
            if after_table:
                end.addprevious(_paragraph("", "table", "left", TABLE))
            end.addprevious(_table(part))
        elif isinstance(part, Line):
            _, size, _ = LOOKS[part.look]
            said = _paragraph(part.text, part.look, part.side, size, part.bold, part.indent, part.aside)
            if part.stay:
                _stay(said)
            end.addprevious(said)
        else:
            end.addprevious(_break())
        after_table = isinstance(part, Table)
    if after_table:
        # Word wants a paragraph behind a table, and would give it a line of its own size.
        end.addprevious(_paragraph("", "table", "left", 1))
    out = BytesIO()
    book.save(out)
    return _timeless(out.getvalue(), issued)


def _page(book: Any, paper: Paper) -> None:
    section = book.sections[0]
    section.page_width, section.page_height = (Mm(297), Mm(210)) if paper.landscape else (Mm(210), Mm(297))
    section.orientation = WD_ORIENT.LANDSCAPE if paper.landscape else WD_ORIENT.PORTRAIT
    # A page turned for a wide table keeps its binding edge, which is then above the table.
    top, bottom, left, right = (28, 26, 35, 37) if paper.landscape else (37, 35, 28, 26)
    section.top_margin, section.bottom_margin = Mm(top), Mm(bottom)
    section.left_margin, section.right_margin = Mm(left), Mm(right)
    # 7 mm under the type area, 14 pt high.
    section.footer_distance = Mm(bottom - 7 - 5)
    section.header_distance = Mm(15)
    book.settings.odd_and_even_pages_header_footer = True
    sides: tuple[tuple[Any, Side], ...] = ((section.footer, "right"), (section.even_page_footer, "left"))
    for footer, side in sides:
        _number(footer, side, turned=paper.landscape)
    if paper.heading:
        for header in (section.header, section.even_page_header):
            header._element.replace(header.paragraphs[0]._p, _paragraph(paper.heading, "table", "left", 9.0))


def _number(footer: Any, side: Side, *, turned: bool) -> None:
    """`— 1 —`, one character from the edge; beside a table that lies across the paper it keeps to the foot of the paper as
    it is bound."""
    paragraph = _paragraph("", "table", side, 14.0)
    _set(paragraph.find(qn("w:pPr")), "w:ind", {side: "280"}, before="w:jc")
    for text, kind in (("— ", ""), ("", "begin"), ("PAGE", "code"), ("", "end"), (" —", "")):
        run = _run(text if not kind else "", "宋体", 14.0)
        if kind == "code":
            _set(run, "w:instrText", {}).text = text
        elif kind:
            _set(run, "w:fldChar", {"fldCharType": kind})
        paragraph.append(run)
    empty = footer.paragraphs[0]._p
    if turned:
        empty.addprevious(_beside(paragraph))
    else:
        footer._element.replace(empty, paragraph)


def _beside(paragraph: Any) -> Any:
    """A cell of its own at the left edge of the page, 7 mm from the type area and as high, with its text turned."""
    element = OxmlElement("w:tbl")
    properties = _set(element, "w:tblPr")
    at = {"horzAnchor": "page", "vertAnchor": "page", "tblpX": _twips(35 - 7 - 8), "tblpY": _twips(28)}
    _set(properties, "w:tblpPr", at)
    _set(properties, "w:tblW", {"w": _twips(8), "type": "dxa"})
    _set(properties, "w:tblLayout", {"type": "fixed"})
    margins = _set(properties, "w:tblCellMar")
    for edge in ("left", "right"):
        _set(margins, f"w:{edge}", {"w": "0", "type": "dxa"})
    _set(_set(element, "w:tblGrid"), "w:gridCol", {"w": _twips(8)})
    row = _set(element, "w:tr")
    _set(_set(row, "w:trPr"), "w:trHeight", {"val": _twips(SHORT_SIDE), "hRule": "exact"})
    cell = _set(row, "w:tc")
    look = _set(cell, "w:tcPr")
    _set(look, "w:tcW", {"w": _twips(8), "type": "dxa"})
    _set(look, "w:textDirection", {"val": "tbRl"})
    cell.append(paragraph)
    return element


def _twips(mm: float) -> str:
    return str(round(mm * TWIPS))


def _table(table: Table) -> Any:
    element = OxmlElement("w:tbl")
    properties = _set(element, "w:tblPr")
    _set(properties, "w:tblW", {"w": _twips(sum(table.widths)), "type": "dxa"})
    _set(properties, "w:jc", {"val": "center"})
    borders = _set(properties, "w:tblBorders")
    for edge in ("top", "left", "bottom", "right", "insideH", "insideV"):
        _set(borders, f"w:{edge}", {"val": "single", "sz": "4", "space": "0", "color": "000000"})
    _set(properties, "w:tblLayout", {"type": "fixed"})
    margins = _set(properties, "w:tblCellMar")
    for edge in ("left", "right"):
        _set(margins, f"w:{edge}", {"w": "57", "type": "dxa"})
    grid = _set(element, "w:tblGrid")
    for width in table.widths:
        _set(grid, "w:gridCol", {"w": _twips(width)})
    for placed in places([table.head]) if table.head else ():
        element.append(_row(table, placed, head=True))
    previous: str | None = None
    for row, placed in zip(table.rows, places(row.cells for row in table.rows), strict=True):
        merged = None
        if table.grouped is not None and row.group is not None:
            merged = "continue" if row.group == previous else "restart"
        previous = row.group
        element.append(_row(table, placed, merged=merged, tall=row.tall))
    if table.whole:
        for row_ in element.findall(qn("w:tr"))[:-1]:
            for said in row_.iter(qn("w:p")):
                _stay(said)
    return element


def _row(
    table: Table,
    placed: Sequence[tuple[int, Cell, bool]],
    *,
    head: bool = False,
    merged: str | None = None,
    tall: bool = False,
) -> Any:
    element = OxmlElement("w:tr")
    properties = _set(element, "w:trPr")
    if not tall:
        _set(properties, "w:cantSplit")
    if head:
        _set(properties, "w:tblHeader")
    for at, cell, lower in placed:
        place = _set(element, "w:tc")
        look = _set(place, "w:tcPr")
        width = sum(table.widths[at : at + cell.across])
        _set(look, "w:tcW", {"w": _twips(width), "type": "dxa"})
        if cell.across > 1:
            _set(look, "w:gridSpan", {"val": str(cell.across)})
        common = merged if at == table.grouped else None
        if cell.down > 1:
            common = "continue" if lower else "restart"
        if common:
            _set(look, "w:vMerge", {"val": common})
        # A label in the middle of several pages is on one of them: at the top it is on the first.
        top = tall or (common is not None and at == table.grouped)
        _set(look, "w:vAlign", {"val": "top" if top else "center"})
        text = "" if common == "continue" else cell.text
        place.append(_paragraph(text, cell.look, cell.side, cell.size, cell.bold))
    return element


def _paragraph(
    text: str, look: str, side: Side, size: float, bold: bool = False, indent: bool = False, aside: int = 0
) -> Any:
    font, normal, pitch = LOOKS[look]
    element = OxmlElement("w:p")
    properties = _set(element, "w:pPr")
    lines = {
        "before": "0",
        "after": "160" if look == "title" else "0",
        "line": str(round(pitch * size / normal)),
        "lineRule": "exact",
    }
    _set(properties, "w:spacing", lines)
    if indent:
        _set(properties, "w:ind", {"firstLineChars": "200", "firstLine": str(round(size * 40))})
    if aside:
        _set(properties, "w:ind", {"rightChars": str(100 * aside), "right": str(round(aside * size * 20))})
    if side != "left":
        _set(properties, "w:jc", {"val": side})
    for n, part in enumerate(text.split("\n")):
        run = _run(part, font, size, bold)
        if n:
            run.find(qn("w:rPr")).addnext(OxmlElement("w:br"))
        element.append(run)
    return element


def _stay(paragraph: Any) -> None:
    """On the page of what follows."""
    paragraph.find(qn("w:pPr")).insert(0, OxmlElement("w:keepNext"))


def _run(text: str, font: str, size: float, bold: bool = False) -> Any:
    element = OxmlElement("w:r")
    properties = _set(element, "w:rPr")
    _set(
        properties,
        "w:rFonts",
        dict.fromkeys(("ascii", "hAnsi", "eastAsia", "cs"), font) | {"hint": "eastAsia"},
    )
    if bold:
        _set(properties, "w:b")
    for name in ("w:sz", "w:szCs"):
        _set(properties, name, {"val": str(round(size * 2))})
    if text:
        said = _set(element, "w:t")
        said.text = text
        said.set("{http://www.w3.org/XML/1998/namespace}space", "preserve")
    return element


def _break() -> Any:
    element = OxmlElement("w:p")
    _set(_set(element, "w:r"), "w:br", {"type": "page"})
    return element


def _set(parent: Any, name: str, values: dict[str, str] | None = None, before: str = "") -> Any:
    element = OxmlElement(name)
    for key, value in (values or {}).items():
        element.set(qn(f"w:{key}"), value)
    beside = parent.find(qn(before)) if before else None
    if beside is not None:
        beside.addprevious(element)
    else:
        parent.append(element)
    return element


def _timeless(content: bytes, issued: datetime) -> bytes:
    """The same parts in the same order, with the document's date in place of the clock's."""
    out = BytesIO()
    with ZipFile(BytesIO(content)) as before, ZipFile(out, "w", ZIP_DEFLATED) as after:
        for name, data in _parts(before):
            info = ZipInfo(name, (issued.year, issued.month, issued.day, 0, 0, 0))
            info.compress_type = ZIP_DEFLATED
            after.writestr(info, data)
    return out.getvalue()


def _parts(archive: ZipFile) -> Iterator[tuple[str, bytes]]:
    for name in archive.namelist():
        yield name, archive.read(name)
