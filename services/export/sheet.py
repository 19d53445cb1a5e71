"""The printed catalogue of one annex: published rows in, the bytes of an XLSX out; same rows, same bytes.

Which rows are published, and where the file is kept, is not here: that is `store.py` and `publish.py`.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, time
from functools import lru_cache
from io import BytesIO
from tempfile import TemporaryDirectory
from typing import Any

from xlsxwriter import Workbook

from services.export.table import (
    FANG,
    FORBIDDEN,
    FORMULA,
    HEI,
    LABEL,
    LONG_SIDE,
    MM,
    SHORT_SIDE,
    SONG,
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

SMALLER = (TABLE, 9.0, 7.5)
"""Sizes for a text too long for a row (五号, 小五, 六号): smaller print rather than a row over two pages."""

PIXEL = 0.75
"""A row is a whole number of these points high, whatever the file says."""
SLACK = 4.0
"""What programs may lose at the foot of a page, in points."""
MAX_ROW = 399.0
"""Excel draws no row higher than 409 pt; a higher one is made of several, merged."""
PHONE = 6.1
"""Characters that `020-83726619` takes: twelve half ones, and some air."""
_NARROW = re.compile("[ -~]")
_RUNS = re.compile(r"[!-~]+| +|[^ -~]+")


def catalogue(notice: Notice, form: Form, rows: Sequence[Row], *, public: bool = False) -> bytes:
    """The annex as it is printed, with these rows in it, arranged and numbered from 1; `public` for everybody's eyes."""
    if public:
        form = for_everybody(form)
    title, content = notice.form_title(form), BytesIO()
    literal = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    # Row by row through a folder that only we can read, and that goes with the book: all in memory would be twice
    # the rows again.
    with (
        TemporaryDirectory() as folder,
        Workbook(content, {"constant_memory": True, "tmpdir": folder, **literal}) as book,
    ):
        # The only time in the file, and so the notice's own: a clock would give every copy other bytes.
        issued = datetime.combine(notice.issued_on, time())
        book.set_properties({"title": title, "author": "", "created": issued})
        _Annex(book, form).write(title, arrange(form, notice.lists, rows))
    return content.getvalue()


class _Annex:
    """One sheet being written from top to bottom; `top` is the next free row."""

    def __init__(self, book: Any, form: Form) -> None:
        self.book, self.form = book, form
        self.sheet = book.add_worksheet(FORBIDDEN.sub("_", form.annex)[:31])
        # LibreOffice draws columns 6 % wider than Excel does, and shrinks a page that is too narrow for them.
        self.widths = [0.935 * width for width in (form.serial_width, *(c.width for c in form.columns))]
        self.width = sum(self.widths)
        self.last = len(self.widths) - 1
        self.top = 0
        self.used = 0.0
        self.limit = MAX_ROW
        self.styles: dict[tuple[object, ...], Any] = {}
        self.entries: dict[tuple[float, str, str, bool], Any] = {}

        across, down = (LONG_SIDE, SHORT_SIDE) if form.landscape else (SHORT_SIDE, LONG_SIDE)
        # A wider table is printed smaller, and then more of it stands on a page.
        self.page = (down * MM - SLACK) * max(1.0, self.width / across)
        self._paper()

    def _paper(self) -> None:
        sheet = self.sheet
        for n, width in enumerate(self.widths):
            sheet.set_column_pixels(n, n, round(width / 25.4 * 96))
        sheet.set_paper(9)  # A4
        if self.form.landscape:
            # A page turned for a wide table keeps its binding edge, which is then above the table.
            sheet.set_landscape()
            margins = {"left": 35, "right": 37, "top": 28, "bottom": 26}
        else:
            margins = {"left": 28, "right": 26, "top": 37, "bottom": 35}
        sheet.set_margins(**{side: mm / 25.4 for side, mm in margins.items()})
        # 7 mm under the type area, 14 pt high.
        sheet.set_footer('&C&"宋体,Regular"&14— &P —', {"margin": (margins["bottom"] - 7 - 14 / MM) / 25.4})
        if self.form.derived:
            sheet.set_header(f"&L{OURS}", {"margin": (margins["top"] - 10) / 25.4})
        sheet.center_horizontally()
        sheet.fit_to_pages(1, 0)
        sheet.hide_gridlines(2)

    def write(self, title: str, rows: Sequence[Row]) -> None:
        form = self.form
        self._row([(0, 0, form.annex)], self._style(HEI, LABEL, "left", text_wrap=False), _height(1, LABEL))
        self._row([(0, 0, "")], self._style(FANG, TABLE, "left"), _height(1, TABLE))
        self._wide(
            title_lines(title, _Measure(self.width, TITLE).room), self._style(SONG, TITLE, "center"), TITLE
        )
        self._lines("above", rows)
        self._header()
        self._table(rows)
        for note in form.notes:
            if note.where == "row":
                self._note_row(note.label, note.text, note.bold)
        for note in form.notes:
            if note.where == "below":
                self._wide(note.text, self._style(FANG, TABLE, "left", bold=note.bold), TABLE)
        self._lines("below", rows)
        self.sheet.print_area(0, 0, self.top - 1, self.last)

    def _lines(self, where: str, rows: Sequence[Row]) -> None:
        for text in said_by_all(self.form, where, rows):
            self._wide(text, self._style(FANG, TABLE, "left"), TABLE)

    def _header(self) -> None:
        texts = ["序号", *(column.header for column in self.form.columns)]
        self.head = max(_high(text, width, TABLE) for text, width in zip(texts, self.widths, strict=True))
        self.limit = min(MAX_ROW, max(self.page / 2, self.page - self.head) // PIXEL * PIXEL)
        style = self._style(HEI, TABLE, "center", border=1)
        self.sheet.repeat_rows(self.top)
        self.sheet.freeze_panes(self.top + 1, 0)
        self._row([(n, n, text) for n, text in enumerate(texts)], style, self.head)

    def _table(self, rows: Sequence[Row]) -> None:
        columns = self.form.columns
        texts = [
            [str(n), *(_literal(clean(cell_text(c, row.values.get(c.key)))) for c in columns)]
            for n, row in enumerate(rows, 1)
        ]
        # Low enough for the first page, lest that shows a header and nothing under it.
        limit = min(self.limit, self.page - self.used)
        measures = [[_Measure(width, size) for size in SMALLER] for width in self.widths]
        for n, column in enumerate(columns, 1):
            if column.type in ("contact", "phone", "phones"):
                # Rather smaller print than a telephone number in two lines.
                measures[n] = [one for one in measures[n] if one.room >= PHONE] or measures[n][-1:]
        usual = [measure[0].size for measure in measures]
        heights, sizes = [], []
        for cells in texts:
            high = max(measure[0].high(text) for text, measure in zip(cells, measures, strict=True))
            smaller: list[float] | None = None
            if high > limit:
                fitted = [_fit(*cell, limit) for cell in zip(cells, measures, strict=True)]
                high, smaller = max(fit[0] for fit in fitted), [fit[1] for fit in fitted]
            heights.append(high)
            sizes.append(smaller)
        grouped = next((n for n, c in enumerate(columns, 1) if c.key == self.form.group), None)
        blocks: Iterable[range] = (range(n, n + 1) for n in range(len(rows)))
        if grouped is not None:
            groups = [group(self.form, row) for row in rows]
            labels = [_fit(cells[grouped], measures[grouped], limit)[0] for cells in texts]
            blocks = list(self._blocks(groups, labels, heights))

        sides = ["center", *("left" if column.type == "text" else "center" for column in columns)]
        common = [self._entry(*one, "vcenter", False) for one in zip(usual, sides, strict=True)]
        for block in blocks:
            first = self.top
            for n in block:
                start = self._take(heights[n])
                # Over several pages the middle is nowhere in particular.
                level = "top" if self.top > start + 1 else "vcenter"
                if sizes[n] is None and level == "vcenter":
                    looks = common.copy()
                else:
                    looks = [
                        self._entry(*one, level, False) for one in zip(sizes[n] or usual, sides, strict=True)
                    ]
                for c, text in enumerate(texts[n]):
                    if text.startswith(FORMULA):
                        # A text like =1+1 stays one even when somebody edits the cell.
                        looks[c] = self._entry((sizes[n] or usual)[c], sides[c], level, True)
                if grouped is not None:
                    if n == block.start:
                        label = looks[grouped]
                    else:
                        texts[n][grouped], looks[grouped] = "", label
                self._print(start, texts[n], looks)
                for c in range(len(sides)) if self.top > start + 1 else ():
                    if c != grouped:
                        self._merge(start, c, self.top - 1, c)
            if grouped is not None:
                self._merge(first, grouped, self.top - 1, grouped)

    def _print(self, start: int, texts: Sequence[str], looks: Sequence[Any]) -> None:
        """One printed row, whose number is a number: its text in the first of its sheet rows, then their frames."""
        write = self.sheet.write_string
        self.sheet.write_number(start, 0, int(texts[0]), looks[0])
        for c in range(1, len(texts)):
            if texts[c]:
                write(start, c, texts[c], looks[c])
            else:
                self.sheet.write_blank(start, c, None, looks[c])
        for row in range(start + 1, self.top):
            for c, look in enumerate(looks):
                self.sheet.write_blank(row, c, None, look)

    def _merge(self, first: int, left: int, last: int, right: int) -> None:
        """`merge_range` would write into rows that are gone from memory; their cells are written already."""
        if (first, left) != (last, right):
            self.sheet.merge.append([first, left, last, right])

    def _blocks(self, groups: list[str], labels: list[float], heights: list[float]) -> Iterator[range]:
        """Neighbours of one group that stand on one page, so that every page says what it shows.

        A block lower than its label is made higher, at its last row.
        """
        below, start, block = self.used, 0, 0.0
        for n, height in enumerate(heights):
            if n:
                fits = below + max(block + height, labels[start]) <= self.page
                if fits and groups[n] == groups[start] and heights[start] <= self.limit:
                    block += height
                    continue
                heights[n - 1] += max(0.0, labels[start] - block)
                below += max(block, labels[start])
                yield range(start, n)
            start, block = n, height
            for piece in self._pieces(max(height, labels[n])):
                below = (below if below + piece <= self.page else self.head) + piece
            below -= max(height, labels[n])
        if heights:
            heights[-1] += max(0.0, labels[start] - block)
            yield range(start, len(heights))

    def _pieces(self, height: float) -> list[float]:
        """The heights of the sheet rows that make one printed row: one, or several that pages may share."""
        count = 1 if height <= self.limit else math.ceil(3 * height / self.limit)
        return [math.ceil(height / count / PIXEL) * PIXEL] * count

    def _take(self, height: float) -> int:
        """Takes the next sheet rows for one printed row of this height; the first of them."""
        start = self.top
        for piece in self._pieces(height):
            self.sheet.set_row(self.top, piece)
            self.top += 1
        return start

    def _note_row(self, label: str | None, text: str, bold: bool) -> None:
        style = self._style(FANG, TABLE, "left", bold=bold, border=1)
        first, high = (0, 0.0) if label is None else (1, _high(label, self.widths[0], TABLE))
        cells = [(first, self.last, text)] if label is None else [(0, 0, label), (first, self.last, text)]
        self._row(cells, style, max(high, _high(text, sum(self.widths[first:]), TABLE)))

    def _wide(self, text: str, style: Any, size: float) -> None:
        self._row([(0, self.last, text)], style, _high(text, self.width, size))

    def _row(self, cells: Sequence[tuple[int, int, str]], style: Any, height: float) -> None:
        start = self._take(height)
        self.used += height
        for row in range(start, self.top):
            for left, right, text in cells:
                if row == start and text:
                    self.sheet.write_string(row, left, _literal(clean(text)), style)
                else:
                    self.sheet.write_blank(row, left, None, style)
                for c in range(left + 1, right + 1):
                    self.sheet.write_blank(row, c, None, style)
        for left, right, _ in cells:
            self._merge(start, left, self.top - 1, right)

    def _entry(self, size: float, side: str, level: str, quoted: bool) -> Any:
        key = size, side, level, quoted
        if key not in self.entries:
            self.entries[key] = self._style(FANG, size, side, valign=level, border=1, quote_prefix=quoted)
        return self.entries[key]

    def _style(self, font: str, size: float, side: str, **more: object) -> Any:
        key = (font, size, side, *more.items())
        if key not in self.styles:
            look = {
                "font_name": font,
                "font_size": size,
                "align": side,
                "valign": "vcenter",
                "text_wrap": True,
            }
            self.styles[key] = self.book.add_format(look | more)
        return self.styles[key]


def _literal(text: str) -> str:
    """XlsxWriter takes what stands in <r> and </r> for the XML of a rich text, and writes it as it is."""
    return text + " " if text.startswith("<r>") and text.endswith("</r>") else text


def _height(lines: int, size: float) -> float:
    # Noto CJK sets its lines wider apart (1.45) than 仿宋_GB2312 does: better some air than a cut line.
    return math.ceil((lines * size * 1.44 + 3) / PIXEL) * PIXEL


class _Measure:
    """How high texts are in a cell of this width in mm at this size; most have one line, or one kind of letters."""

    def __init__(self, width: float, size: float) -> None:
        self.size, self.room = size, (width - 1.5) * MM / size
        self.whole = max(1, int(self.room))
        self.heights: dict[int, float] = {}

    def high(self, text: str) -> float:
        """In points."""
        length = len(text)
        if "\n" in text:
            lines = sum(_wrapped(part, self.room) for part in text.split("\n"))
        elif length <= self.room:
            lines = 1
        elif _NARROW.search(text) is None:
            lines = -(-length // self.whole)
            lines += lines // 24
        else:
            lines = _wrapped(text, self.room)
        high = self.heights.get(lines)
        if high is None:
            high = self.heights[lines] = _height(lines, self.size)
        return high


def _high(text: str, width: float, size: float) -> float:
    return _Measure(width, size).high(text)


def _fit(text: str, measures: Sequence[_Measure], limit: float) -> tuple[float, float]:
    """Height and size of a cell's text: the largest size in which it stays within the limit."""
    for measure in measures:
        high = measure.high(text)
        if high <= limit:
            break
    return high, measure.size


@lru_cache(maxsize=4096)  # contacts, names and ways of repayment stand in many rows
def _wrapped(text: str, room: float) -> int:
    """Lines of a paragraph when a line holds `room` Chinese characters; words are kept whole, as printed."""
    if len(text) <= room:
        return 1
    whole, lines, x = max(1, int(room)), 1, 0.0
    for run in _RUNS.findall(text):
        if run[0] > "~":
            rest = len(run) - max(0, int(room - x))
            if rest <= 0:
                x += len(run)
            else:
                more = math.ceil(rest / whole)
                lines, x = lines + more, rest - (more - 1) * whole
        else:
            wide = len(run) * (0.3 if run[0] == " " else 0.6)
            if x + wide > room and run[0] != " ":
                lines, x = lines + (x > 0) + int(wide / room), wide % room
            else:
                x = min(room, x + wide)
    # Punctuation that may not begin a line takes the character before it along.
    return lines + lines // 24
