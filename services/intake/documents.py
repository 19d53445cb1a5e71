"""A .docx as the paragraphs and tables that its filer sees.

What they mean is not here (`cards.py`); whether the file may be opened at all is in `attachments.py`.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from zipfile import ZipFile

from services.intake.areas import Area, Spot
from services.intake.attachments import visible
from services.intake.sheets import Unusable
from shared.notices.values import tidy

PART = "word/document.xml"
SAVE_AS_DOCX = "请用 Word 或 WPS 打开后另存为“Word 文档（*.docx）”再报送"
NO_CARDS = "本通知的附件都是表格，请用模板（.xlsx）填报"
MOST_SPOTS = 20_000

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}"
_SYMBOLS = {
    "f0fe": "☑", "f052": "☑", "f0fc": "✓", "f050": "✓", "f0fd": "☒", "f054": "☒", "f053": "☒",
    "f0a8": "□", "f06f": "□", "f0a3": "□", "f02a": "□", "f071": "□", "f06e": "■", "f0a7": "■", "f0fb": "☒",
}  # fmt: skip
"""Boxes and ticks of Wingdings, by their code in the file."""
_UNSEEN = {"del", "moveFrom", "instrText", "delText", "Fallback", "pPr", "rPr", "sdtPr", "footnoteReference"}


def areas_of(data: bytes) -> list[Area]:
    """Tables and runs of paragraphs in order; raises `Unusable` when there is no document inside."""
    try:
        with ZipFile(BytesIO(data)) as archive:
            root = ET.fromstring(archive.read(PART))  # noqa: S314 - a DTD has been refused before
    except (KeyError, ET.ParseError):
        raise Unusable("workbook.word", f"这个 Word 文档无法读取；{SAVE_AS_DOCX}") from None
    body = next((e for e in root if _name(e) == "body"), root)
    found: list[Area] = []
    paragraphs: list[Spot] = []
    shown = tables = spots = 0
    for element in _content(body):
        if _name(element) == "tbl":
            if paragraphs:
                found.append(Area(paragraphs, table=False))
                paragraphs = []
            tables += 1
            area = _table(element, tables)
            spots += len(area.spots)
            found.append(area)
        elif text := _text(element):
            shown += 1
            paragraphs.append(Spot(shown, 0, text, f"正文第{shown}段"))
        if spots + shown > MOST_SPOTS:
            raise Unusable("workbook.sparse", "文档内容过多，请只保留要报送的附件")
    if paragraphs:
        found.append(Area(paragraphs, table=False))
    return found


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _attribute(element: ET.Element | None, name: str) -> str:
    if element is None:
        return ""
    return element.get(_W + name) or element.get(_STRICT + name) or element.get(name) or ""


def _child(element: ET.Element | None, *path: str) -> ET.Element | None:
    for name in path:
        element = next((e for e in element if _name(e) == name), None) if element is not None else None
    return element


def _content(parent: ET.Element, *names: str) -> Iterator[ET.Element]:
    """Paragraphs and tables (or what is asked for), through content controls and accepted insertions."""
    wanted = names or ("p", "tbl")
    for element in parent:
        name = _name(element)
        if name in wanted:
            yield element
        elif name in (
            "sdt",
            "sdtContent",
            "ins",
            "moveTo",
            "customXml",
            "smartTag",
            "AlternateContent",
            "Choice",
        ):
            yield from _content(element, *wanted)


def _text(element: ET.Element) -> str:
    return tidy(visible("".join(_pieces(element))))


def _pieces(element: ET.Element) -> Iterator[str]:
    for child in element:
        name = _name(child)
        if name == "t":
            yield child.text or ""
        elif name in ("tab", "ptab"):
            yield " "
        elif name in ("br", "cr"):
            yield "\n"
        elif name == "noBreakHyphen":
            yield "-"
        elif name == "sym":
            yield _SYMBOLS.get(_attribute(child, "char").casefold(), "")
        elif name == "checkBox":  # the form fields of older forms
            ticked = _child(child, "checked")
            ticked = _child(child, "default") if ticked is None else ticked
            yield "☑" if ticked is not None and _attribute(ticked, "val") not in ("0", "false") else "□"
        elif name == "p":  # a text box, or a table within a cell
            yield "\n"
            yield from _pieces(child)
        elif name not in _UNSEEN:
            yield from _pieces(child)


def _number(element: ET.Element | None) -> int:
    text = _attribute(element, "val")
    return min(int(text), 200) if text.isdigit() else 0


def _table(table: ET.Element, number: int) -> Area:
    spots: list[Spot] = []
    open_: dict[int, int] = {}
    """Column → index of the cell that a vertical merge may continue."""
    for row, line in enumerate(_content(table, "tr")):
        column = _number(_child(line, "trPr", "gridBefore"))
        for count, cell in enumerate(_content(line, "tc"), 1):
            shape = _child(cell, "tcPr")
            width = max(1, _number(_child(shape, "gridSpan")))
            merge = _child(shape, "vMerge")
            if merge is not None and _attribute(merge, "val") != "restart" and column in open_:
                above = spots[open_[column]]
                spots[open_[column]] = replace(above, height=row - above.row + 1)
            else:
                text = tidy("\n".join(filter(None, map(_text, _flat(cell)))))
                place = f"表{number}第{row + 1}行第{count}格"
                spots.append(Spot(row, column, text, place, width))
                open_.pop(column, None)
                if merge is not None:
                    open_[column] = len(spots) - 1
            column += width
    return Area(spots)


def _flat(cell: ET.Element) -> Iterator[ET.Element]:
    """The paragraphs of a cell, those of a table within it included."""
    for element in _content(cell):
        if _name(element) == "p":
            yield element
        else:
            for line in _content(element, "tr"):
                for inner in _content(line, "tc"):
                    yield from _flat(inner)
