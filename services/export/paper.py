"""What stands on the pages of a document, whatever its format: lines and tables; and the printed list as such.

What an official document says is in `official.py`; how a page is set is in `pdf.py` and `word.py`.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from services.export.official import Document
from services.export.table import (
    LONG_SIDE,
    MM,
    SHORT_SIDE,
    TABLE,
    TITLE,
    Row,
    arrange,
    cell_text,
    clean,
    for_everybody,
    group,
    said_by_all,
    title_lines,
)
from shared.notices.layout import OURS
from shared.notices.model import Form, Notice

Side = Literal["left", "center", "right"]
Look = Literal["label", "title", "body", "heading", "subheading", "table", "head"]

SMALLER = (TABLE, 9.0, 7.5)
"""Sizes of a table's text (五号, 小五, 六号): smaller print rather than a number over two lines or a row over two pages."""
INSET = 1.0
"""Between a cell's text and its border, in mm."""
PITCH = 1.35
"""From line to line in a table, in characters."""

_WORD = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Line:
    """A paragraph of its own; `indent` by two characters, as the standard has them, and ending `aside` characters from
    the right edge. One that is to `stay` is on the page of what follows."""

    text: str
    look: Look = "body"
    side: Side = "left"
    bold: bool = False
    indent: bool = False
    aside: int = 0
    stay: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """Text in so many columns and rows of a table."""

    text: str
    side: Side = "left"
    look: Look = "table"
    across: int = 1
    down: int = 1
    size: float = TABLE
    bold: bool = False


@dataclass(frozen=True, slots=True)
class TableRow:
    """`group`: rows of one label that stand together have one cell of it in common, on every page anew. A `tall` row
    is higher than a page in the smallest print, and alone is divided."""

    cells: tuple[Cell, ...]
    group: str | None = None
    tall: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """`widths` in mm. `grouped` is the column whose cells are shared by the rows of a group; a `whole` table stands on
    one page."""

    widths: tuple[float, ...]
    head: tuple[Cell, ...] = ()
    rows: tuple[TableRow, ...] = ()
    grouped: int | None = None
    whole: bool = False


def places(rows: Iterable[Sequence[Cell]]) -> Iterator[list[tuple[int, Cell, bool]]]:
    """Of every row the columns in which its cells begin; and, marked, the cells that reach down into it."""
    reaching: dict[int, tuple[Cell, int]] = {}
    for cells in rows:
        found: list[tuple[int, Cell, bool]] = []
        below: dict[int, tuple[Cell, int]] = {}
        at = 0
        waiting = list(reversed(cells))
        while at in reaching or waiting:
            cell, left = reaching.pop(at, (None, 0))
            lower = cell is not None
            if cell is None:
                cell = waiting.pop()
                left = cell.down
            found.append((at, cell, lower))
            if left > 1:
                below[at] = (cell, left - 1)
            at += cell.across
        reaching = below
        yield found


@dataclass(frozen=True, slots=True)
class Break:
    """What follows begins a page."""


@dataclass(frozen=True)
class Paper:
    """A document: `issued` is the only date in the file, `heading` stands small on every page."""

    title: str
    issued: date
    landscape: bool = False
    heading: str = ""
    parts: tuple[Line | Table | Break, ...] = field(default=())

    @property
    def width(self) -> float:
        return LONG_SIDE if self.landscape else SHORT_SIDE

    @property
    def height(self) -> float:
        return SHORT_SIDE if self.landscape else LONG_SIDE


def annex(notice: Notice, form: Form, rows: Sequence[Row], *, public: bool = False) -> Paper:
    """The list as its annex prints it, arranged and numbered from 1; `public` for everybody's eyes."""
    if public:
        form = for_everybody(form)
    arranged = arrange(form, notice.lists, rows)
    title = notice.form_title(form)
    across, down = (LONG_SIDE, SHORT_SIDE) if form.landscape else (SHORT_SIDE, LONG_SIDE)
    widths = [form.serial_width, *(column.width for column in form.columns)]
    scale = min(1.0, across / sum(widths))
    widths = [width * scale for width in widths]
    parts: list[Line | Table | Break] = [
        Line(form.annex, "label"),
        Line("", "table"),
        Line(title_lines(title, across * MM / TITLE), "title", "center"),
        *(Line(clean(text), "table") for text in said_by_all(form, "above", arranged)),
        Table(
            tuple(widths),
            tuple(Cell(text, "center", "head") for text in ("序号", *(c.header for c in form.columns))),
            (*_rows(form, arranged, widths, down), *_row_notes(form)),
            next((n for n, c in enumerate(form.columns, 1) if c.key == form.group), None),
        ),
        *(Line(note.text, "table", bold=note.bold) for note in form.notes if note.where == "below"),
        *(Line(clean(text), "table") for text in said_by_all(form, "below", arranged)),
    ]
    return Paper(title, notice.issued_on, form.landscape, OURS if form.derived else "", tuple(parts))


def official(document: Document) -> Paper:
    """The document on its page: title, addressee, text, tables, annexes, who and when, and the note."""
    parts: list[Line | Table | Break] = [
        Line(title_lines(clean(document.title), SHORT_SIDE * MM / TITLE), "title", "center"),
        Line("", "body"),
    ]
    if document.addressee:
        parts.append(Line(clean(document.addressee.rstrip(":：")) + "：", "body"))
    parts += [Line(clean(text), "body", indent=True) for text in document.paragraphs]
    for table in document.tables:
        parts.append(Line("", "table"))
        parts.append(_listed(table.headers, table.rows))
    if document.annexes:
        several = len(document.annexes) > 1
        parts.append(Line("", "body"))
        for n, name in enumerate(document.annexes, 1):
            lead = "附件：" if n == 1 else "\u3000\u3000\u3000"
            parts.append(Line(f"{lead}{n}.{clean(name)}" if several else lead + clean(name), indent=True))
    day = document.date
    parts += [
        Line("", "body"),
        Line(clean(document.signature), "body", "right", aside=4),
        Line(f"{day.year}年{day.month}月{day.day}日", "body", "right", aside=4),
    ]
    if document.note:
        parts.append(Line(f"（{clean(document.note).strip('（）')}）", "body", indent=True))
    return Paper(document.title, day, parts=tuple(parts))


def _listed(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Columns as wide as what stands in them wants, within bounds, and together as wide as the page."""
    texts = list(zip(headers, *rows, strict=True))
    wants = [min(24.0, max(3.0, *map(_long, map(clean, column)))) for column in texts]
    widths = [SHORT_SIDE * want / sum(wants) for want in wants]
    room = LONG_SIDE * MM - 60 * MM
    found = []
    for row in rows:
        cleaned = [clean(text) for text in row]
        sizes = [size(text, width, room) for text, width in zip(cleaned, widths, strict=True)]
        tall = any(high(*of) > room for of in zip(cleaned, widths, sizes, strict=True))
        cells = tuple(
            Cell(text, "center" if want < 10 else "left", size=how)
            for text, want, how in zip(cleaned, wants, sizes, strict=True)
        )
        found.append(TableRow(cells, tall=tall))
    return Table(tuple(widths), tuple(Cell(h, "center", "head") for h in headers), tuple(found))


def _rows(form: Form, rows: Sequence[Row], widths: Sequence[float], down: float) -> list[TableRow]:
    sides: list[Side] = ["center", *("left" if c.type == "text" else "center" for c in form.columns)]
    # Header, title and label of the first page leave less than this only to forms of very narrow columns.
    room = (down - 60) * MM
    found = []
    for n, row in enumerate(rows, 1):
        texts = [str(n), *(clean(cell_text(c, row.values.get(c.key))) for c in form.columns)]
        sizes = [size(text, width, room) for text, width in zip(texts, widths, strict=True)]
        tall = any(high(*of) > room for of in zip(texts, widths, sizes, strict=True))
        cells = tuple(Cell(text, side, size=how) for text, side, how in zip(texts, sides, sizes, strict=True))
        found.append(TableRow(cells, group(form, row) if form.group else None, tall))
    return found


def _row_notes(form: Form) -> list[TableRow]:
    every = len(form.columns) + 1
    found = []
    for note in form.notes:
        if note.where == "row":
            rest = Cell(note.text, across=every - (note.label is not None), bold=note.bold)
            found.append(TableRow((Cell(note.label, "center"), rest) if note.label is not None else (rest,)))
    return found


def size(text: str, width: float, room: float) -> float:
    """The largest size in which as few words and numbers as can be are broken and the text stays within the room; else what
    comes nearest."""
    inside = (width - 2 * INSET) * MM
    words = [len(word) * 0.56 for word in _WORD.findall(text)]
    whole = {s: sum(word * s <= inside for word in words) for s in SMALLER}
    fitting = [s for s in SMALLER if whole[s] == whole[SMALLER[-1]]]
    return next((s for s in fitting if high(text, width, s) <= room), SMALLER[-1])


def high(text: str, width: float, size: float) -> float:
    """The height in points of a text in a cell, rather too much than too little."""
    em = max(1.0, (width - 2 * INSET) * MM / size - 1)
    lines = sum(max(1, math.ceil(_long(part) / em)) for part in text.split("\n"))
    return lines * size * PITCH + 2 * INSET * MM


def _long(text: str) -> float:
    ascii_ = sum(len(word) for word in _WORD.findall(text))
    return len(text) - ascii_ * 0.44
