"""A .docx as the paragraphs and tables that its filer sees.

What they mean is not here (`cards.py`); whether the file may be opened at all is in `attachments.py`.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from zipfile import ZipFile

from services.intake.areas import Area, Spot
from services.intake.attachments import SAVE_AS_DOCX, visible
from services.intake.sheets import Unusable
from shared.notices.values import tidy

PART = "word/document.xml"
NO_CARDS = "本通知的附件都是表格，请用模板（.xlsx）填报"
MOST_SPOTS = 20_000

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}"
_FONTS = {
    "wingdings": {
        0xFE: "☑", 0xFC: "✓", 0xFD: "☒", 0xFB: "☒", 0xA8: "□", 0x6F: "□", 0x71: "□", 0x6E: "■", 0xA7: "■",
        0xA1: "○", 0xA4: "◉", 0x6C: "●",
    },
    "wingdings 2": {
        0x52: "☑", 0x50: "✓", 0x53: "☒", 0x54: "☒", 0x51: "☒", 0x4F: "☒", 0xA3: "□", 0x2A: "□", 0xA2: "■",
    },
    "symbol": {
        0xA3: "≤", 0xB3: "≥", 0xB1: "±", 0xB4: "×", 0xB8: "÷", 0xB9: "≠", 0xBB: "≈", 0xB0: "°", 0xA5: "∞",
        0xB7: "•", 0xD7: "·", 0x2D: "−", 0x6D: "μ", 0x57: "Ω", 0x44: "Δ", 0x53: "Σ", 0x61: "α", 0x62: "β",
        0x67: "γ", 0x64: "δ", 0x6C: "λ", 0x70: "π", 0x71: "θ", 0x73: "σ", 0x66: "φ", 0x77: "ω", 0xAE: "→",
        0xAC: "←", 0xD2: "®", 0xD3: "©", 0xD4: "™",
    },
}  # fmt: skip
"""What the fonts that are no letters show, by font and code: the same code is □ in one and ≤ in another."""
_UNSEEN = {"del", "moveFrom", "instrText", "delText", "Fallback", "pPr", "rPr", "sdtPr", "footnoteReference"}


def areas_of(data: bytes) -> list[Area]:
    """Tables and runs of paragraphs in order; raises `Unusable` when there is no document inside."""
    try:
        with ZipFile(BytesIO(data)) as archive:
            root = ET.fromstring(archive.read(PART))  # noqa: S314 - a DTD has been refused before
    except (KeyError, ET.ParseError):
        raise Unusable("workbook.word", f"这个 Word 文档无法读取；{SAVE_AS_DOCX}") from None
    body = next((e for e in root if _name(e) == "body"), root)
    _clear_prompts(root)
    found: list[Area] = []
    paragraphs: list[Spot] = []
    shown = tables = spots = 0
    for element in _content(body):
        if _name(element) == "tbl":
            if paragraphs:
                found.append(Area(paragraphs, table=False))
                paragraphs = []
            tables += 1
            area = _table(element, tables)[0]
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


def places_in(content: bytes) -> dict[str, int]:
    """What people call each cell and each paragraph → which of all the paragraphs and cells of the document it is."""
    root = ET.fromstring(content)  # noqa: S314 - a DTD has been refused before
    body = next((e for e in root if _name(e) == "body"), root)
    order = {id(e): n for n, e in enumerate(e for e in root.iter() if _name(e) in ("p", "tc"))}
    _clear_prompts(root)
    found: dict[str, int] = {}
    shown = tables = 0
    for element in _content(body):
        if _name(element) == "tbl":
            tables += 1
            area, cells = _table(element, tables)
            found |= {spot.place: order[id(cell)] for spot, cell in zip(area.spots, cells, strict=True)}
        elif _text(element):
            shown += 1
            found[f"正文第{shown}段"] = order[id(element)]
    return found


def _clear_prompts(root: ET.Element) -> None:
    """`单击此处输入文字` in a content control that nobody has filled in is no answer."""
    for control in root.iter():
        shown = _child(control, "sdtPr", "showingPlcHdr") if _name(control) == "sdt" else None
        if shown is not None and _attribute(shown, "val") not in ("0", "false", "off"):
            for text in control.iter():
                if _name(text) == "t":
                    text.text = ""


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


def _font(run: ET.Element) -> dict[int, str]:
    """What the letters of a run are, where its font has none: R in Wingdings 2 is a ticked box."""
    fonts = _child(run, "rPr", "rFonts")
    return _FONTS.get((_attribute(fonts, "ascii") or _attribute(fonts, "hAnsi")).casefold(), {})


def _in_font(text: str, font: dict[int, str]) -> str:
    if not font:
        return text
    return "".join(
        font.get(ord(c) & 0xFF, c) if ord(c) < 0x100 or 0xF000 <= ord(c) < 0xF100 else c for c in text
    )


def _symbol(element: ET.Element) -> str:
    code = _attribute(element, "char")
    if not re.fullmatch("[0-9A-Fa-f]{1,4}", code):
        return ""
    number = int(code, 16)
    font = _FONTS.get(_attribute(element, "font").casefold())
    if font is not None and (number >= 0xF000 or number < 0x100):
        plain = chr(number & 0xFF) if font is _FONTS["symbol"] and number & 0xFF < 0x41 else ""
        return font.get(number & 0xFF, plain)
    return "" if 0xD800 <= number < 0xF900 else chr(number)


def _pieces(element: ET.Element, font: dict[int, str] | None = None) -> Iterator[str]:
    for child in element:
        name = _name(child)
        if name == "t":
            yield _in_font(child.text or "", font or {})
        elif name == "r":
            yield from _pieces(child, _font(child))
        elif name in ("tab", "ptab"):
            yield " "
        elif name in ("br", "cr"):
            yield "\n"
        elif name == "noBreakHyphen":
            yield "-"
        elif name == "sym":
            yield _symbol(child)
        elif name == "ddList":  # the drop-down of older forms: the entry that is shown
            result = _child(child, "result")
            at = _number(_child(child, "default") if result is None else result)
            entries = [_attribute(entry, "val") for entry in child if _name(entry) == "listEntry"]
            yield entries[at] if at < len(entries) else ""
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


def _table(table: ET.Element, number: int) -> tuple[Area, list[ET.Element]]:
    """A table, and the element of each of its cells."""
    spots: list[Spot] = []
    elements: list[ET.Element] = []
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
                elements.append(cell)
                open_.pop(column, None)
                if merge is not None:
                    open_[column] = len(spots) - 1
            column += width
    return Area(spots), elements


def _flat(cell: ET.Element) -> Iterator[ET.Element]:
    """The paragraphs of a cell, those of a table within it included."""
    for element in _content(cell):
        if _name(element) == "p":
            yield element
        else:
            for line in _content(element, "tr"):
                for inner in _content(line, "tc"):
                    yield from _flat(inner)
