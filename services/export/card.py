"""A filing as its annex prints it: a card with what it was filled in with, or the one row of a list.

How a page is set is in `pdf.py` and `word.py`; the blank card is intake's.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf
from typing import Any

from services.export.paper import (
    PITCH,
    Break,
    Cell,
    Line,
    Look,
    Paper,
    Side,
    Table,
    TableRow,
    annex,
    high,
    size,
)
from services.export.table import LONG_SIDE, MM, SHORT_SIDE, TABLE, TITLE, Row, cell_text, clean, title_lines
from shared.contracts.types import Values
from shared.notices.cards import Block, Grid, Labelled, Section, named_in
from shared.notices.columns import Column
from shared.notices.layout import OURS, Form
from shared.notices.model import Notice
from shared.notices.values import same

LONG = 200
"""A field with a higher limit has a row of its own, as in the blank card."""
SERIAL, ASIDE, GROUP = 10.0, 20.0, 26.0
"""Widths in mm."""
TALL = 100 * MM
"""A row that is higher may be divided: a long text begins where the one before ends."""

Strip = list[tuple[float, float, Cell]]
"""A row of the table that is being made: left edge, width, cell."""


def hidden(form: Form) -> frozenset[str]:
    """What of a card not everybody may see: all but what the notice says (`public`), for it is an application, and of
    what it tells of its filer only the filer and the notice know what is for everybody."""
    return frozenset({*form.by_key, *form.blocks} - {*form.public})


def filed(notice: Notice, form: Form, row: Row, *, without: Collection[str] = ()) -> Paper:
    """The filing of a card or of a list, leaving out what is stored under the keys `without`."""
    if form.card:
        return card(notice, form, row.values, without=without)
    return annex(notice, narrowed(form, without), [row])


def narrowed(form: Form, without: Collection[str]) -> Form:
    """A list without some of its columns and lines."""
    kept = {
        "columns": tuple(c for c in form.columns if c.key not in without),
        "lines": tuple(line for line in form.lines if line.key not in without),
    }
    return Form.model_construct(**{name: getattr(form, name) for name in Form.model_fields} | kept)


def card(notice: Notice, form: Form, values: Values, *, without: Collection[str] = ()) -> Paper:
    return _Card(notice, form, values, without).paper()


class _Card:
    """Written from top to bottom. What stands in `rows` is one table until something else ends it."""

    def __init__(self, notice: Notice, form: Form, values: Values, without: Collection[str]) -> None:
        self.notice, self.form, self.values, self.without = notice, form, values, without
        self.width = float(LONG_SIDE if form.landscape else SHORT_SIDE)
        self._page = MM * (SHORT_SIDE if form.landscape else LONG_SIDE)
        self.parts: list[Line | Table | Break] = []
        self.rows: list[Strip] = []

    def paper(self) -> Paper:
        assert self.form.card
        title = self.notice.form_title(self.form)
        cover = self.form.card.sections[0].printed.how == "cover"
        self._say(self.form.annex, "label")
        self._blank("body" if cover else "table", 4 if cover else 1)
        self._say(title_lines(title, self.width * MM / TITLE), "title", "center")
        if cover:
            self._blank("body", 4)
        for section in self.form.card.sections:
            self._section(section)
        self._end()
        for note in self.form.notes:
            self.parts.append(Line(note.text, "table", bold=note.bold))
        heading = OURS if self.form.derived else ""
        return Paper(title, self.notice.issued_on, self.form.landscape, heading, tuple(self.parts))

    def _section(self, section: Section) -> None:
        fields = [field for field in section.fields if field.key not in self.without]
        grids = [grid for grid in section.grids if self._columns(grid)]
        blocks = [block for block in section.blocks if block.key not in self.without]
        said = (
            section.declaration
            if section.declaration and section.declaration.key not in self.without
            else None
        )
        if not (fields or grids or blocks or said):
            return
        printed = section.printed
        title = self._fill(section.title) if section.title else ""
        if title and printed.how == "within":
            self.rows.append([(0, self.width, Cell(title, "left", "head"))])
        elif title:
            self._say(title, "heading", "center" if printed.centred else "left", stay=True)
        if printed.how in ("lines", "cover"):
            look: Look = "body" if printed.how == "cover" else "table"
            for field in fields:
                self._say(f"{self._label(field)}：{self._value(field)}", look, indent=printed.how == "cover")
            if printed.how == "cover":
                self.parts.append(Break())
            elif fields:
                self._blank("table")
        elif printed.how == "text":
            for field in fields:
                self._say(self._label(field), "heading", stay=True)
                for text in field.guidance:
                    self._say(text, "table", stay=True)
                for text in self._value(field).split("\n"):
                    self._say(text, "body", indent=True)
        else:
            self._fields(section, {field.key: field for field in fields})
        for grid in grids:
            self._grid(grid)
        for block in blocks:
            self._block(block)
        if said:
            self._declaration(section)

    # -- rows of the table -------------------------------------------------------------------------------

    def _fields(self, section: Section, fields: Mapping[str, Labelled]) -> None:
        if not section.printed.parts:
            for pair in _pairs(list(fields.values())):
                self._row([[field.key] for field in pair], [field.key for field in pair], fields, section)
            return
        for part in section.printed.parts:
            rows = []
            for row in part.rows:
                cells = [cell for cell in row if all(key in fields for key in named_in(cell))]
                if cells:
                    rows.append(cells)
            first = len(self.rows)
            for cells in rows:
                self._row(
                    [named_in(cell) for cell in cells], cells, fields, section, GROUP if part.label else 0
                )
            if part.label and rows:
                label = Cell(part.label, "center", "head", down=len(self.rows) - first)
                self.rows[first].insert(0, (0, GROUP, label))

    def _row(
        self,
        keys: Sequence[Sequence[str]],
        cells: Sequence[str],
        fields: Mapping[str, Labelled],
        section: Section,
        left: float = 0,
    ) -> None:
        """Cells side by side; one alone has its label before it in either way of printing."""
        each = (self.width - left) / len(cells)
        within = section.printed.how == "within" and len(cells) > 1
        strip: Strip = []
        for n, (named, cell) in enumerate(zip(keys, cells, strict=True)):
            at = left + n * each
            field = fields[named[0]]
            if named != [cell]:
                said = cell
                for key in named:
                    said = said.replace("{" + key + "}", self._value(fields[key]))
                strip.append((at, each, self._cell(said)))
            elif "（ ）" in field.header:
                said = self._label(field).replace("（ ）", f"（{self._value(field)}）")
                strip.append((at, each, self._cell(said)))
            elif within:
                text = f"{self._label(field)}：{self._value(field)}{''.join(field.guidance)}"
                strip.append((at, each, self._cell(text)))
            elif field.below:
                self._below(field, at, each)
                return
            else:
                wide = each / 4 if len(cells) == 1 else each / 2
                label = "\n".join((self._label(field), *field.guidance))
                strip.append((at, wide, self._cell(label, "center")))
                strip.append((at + wide, each - wide, self._cell(self._value(field))))
        self.rows.append(strip)

    def _below(self, field: Labelled, left: float, width: float) -> None:
        label = "\n".join((f"{self._label(field)}：", *field.guidance))
        self.rows.append([(left, width, self._cell(f"{label}\n{self._value(field)}"))])

    def _grid(self, grid: Grid) -> None:
        columns = self._columns(grid)
        each = self.width / (len(columns) + 1)
        heads = (grid.label, *(self._fill(c.header) for c in columns))
        self.rows.append([(n * each, each, Cell(text, "center", "head")) for n, text in enumerate(heads)])
        for line in grid.rows:
            texts = [self._fill(line.label)]
            texts += [self._shown(c, self.values.get(f"{c.key}_{line.key}")) for c in columns]
            self.rows.append([(n * each, each, self._cell(text, "center")) for n, text in enumerate(texts)])

    def _columns(self, grid: Grid) -> list[Column]:
        return [
            c for c in grid.columns if any(f"{c.key}_{line.key}" not in self.without for line in grid.rows)
        ]

    def _declaration(self, section: Section) -> None:
        said = section.declaration
        assert said
        refused = "（填报单位未作此项承诺）" if self.values.get(said.key) is False else ""
        lines = [said.text + refused, *(mark.label for mark in section.marks)]
        if said.dated and said.dated.key not in self.without:
            lines.append(self._value(said.dated) or "年\u3000\u3000月")
        wide = GROUP if section.printed.parts else self.width / 4
        # Room to sign and to seal.
        text = "\n\n\n".join(lines)
        self.rows.append(
            [(0, wide, Cell(said.label, "center", "head")), (wide, self.width - wide, self._cell(text))]
        )

    def _cell(self, text: str, side: Side = "left") -> Cell:
        return Cell(text, side)

    def _end(self) -> None:
        """Close the table: its columns are all that some row is divided by."""
        if not self.rows:
            return
        edges = sorted(
            {round(edge, 2) for row in self.rows for left, wide, _ in row for edge in (left, left + wide)}
        )
        rows = []
        for strip in self.rows:
            cells = []
            for left, wide, cell in strip:
                across = edges.index(round(left + wide, 2)) - edges.index(round(left, 2))
                cells.append(replace(cell, across=across, size=size(cell.text, wide, inf)))
            tall = any(high(cell.text, wide, cell.size) > TALL for _, wide, cell in strip)
            rows.append(TableRow(tuple(cells), tall=tall))
        widths = tuple(after - before for before, after in pairwise(edges))
        self.parts.append(Table(widths, rows=tuple(rows)))
        self.rows = []

    # -- tables of their own -------------------------------------------------------------------------------

    def _block(self, block: Block) -> None:
        self._end()
        if not block.aside:
            self._say(self._fill(block.title), "head", stay=True)
        lead = ASIDE if block.aside else 0.0
        scale = (self.width - lead - SERIAL) / sum(c.width for c in block.columns)
        widths = (*([lead] if lead else []), SERIAL, *(c.width * scale for c in block.columns))
        heads = (*([""] if lead else []), "序号", *(self._fill(c.header) for c in block.columns))
        rows, height = [], 2 * TABLE * PITCH
        printed = self._described(block)
        for n, (serial, down, row) in enumerate(printed):
            cells: list[Cell] = []
            if lead and n == 0:
                cells.append(Cell(self._fill(block.title), "center", "head", down=len(printed)))
            if serial is not None:
                cells.append(Cell(serial, "center", down=down))
            highest = 0.0
            for column, width in zip(block.columns, widths[-len(block.columns) :], strict=True):
                common = column.key == block.described
                if common and serial is None:
                    continue
                text = self._shown(column, row.get(column.key))
                side: Side = "left" if column.type == "text" else "center"
                letters = size(text, width, inf)
                highest = max(highest, high(text, width, letters))
                cells.append(Cell(text, side, down=down if common else 1, size=letters))
            rows.append(TableRow(tuple(cells), tall=highest > TALL))
            height += highest
        head = tuple(Cell(h, "center", "head") for h in heads)
        self.parts.append(Table(widths, head, tuple(rows), whole=height < self._page / 2))
        self._blank("table")

    def _described(self, block: Block) -> Sequence[tuple[str | None, int, Mapping[str, Any]]]:
        """Serial number, over how many rows it stands, and the row; None where the one before goes on. Rows of one printed
        description stand together, and a description that nobody has answered is printed alone."""
        given = [dict(row) for row in self.values.get(block.key) or ()]
        if not block.described:
            return [(str(n), 1, row) for n, row in enumerate(given, 1)] or [("", 1, {})]
        key = block.described
        found: list[tuple[str | None, int, Mapping[str, Any]]] = []
        names = [*block.preset, *dict.fromkeys(str(row.get(key) or "") for row in given)]
        seen: set[str] = set()
        number = 0
        for name in names:
            if same(name) in seen:
                continue
            seen.add(same(name))
            number += 1
            rows = [row for row in given if same(str(row.get(key) or "")) == same(name)] or [{key: name}]
            found += [(None if n else str(number), len(rows), row) for n, row in enumerate(rows)]
        return found

    # -- what is written -------------------------------------------------------------------------------------

    def _say(
        self, text: str, look: Look, side: Side = "left", *, indent: bool = False, stay: bool = False
    ) -> None:
        self._end()
        self.parts.append(Line(clean(text), look, side, indent=indent, stay=stay))

    def _blank(self, look: Look, lines: int = 1) -> None:
        self.parts += [Line("", look)] * lines

    def _fill(self, text: str) -> str:
        return self.notice.round.fill(text)

    def _label(self, field: Column) -> str:
        return self._fill(field.header).rstrip("：:")

    def _value(self, field: Column) -> str:
        return self._shown(field, self.values.get(field.key))

    def _shown(self, column: Column, value: Any) -> str:
        text = clean(cell_text(column, value))
        ticked = column.ticked if isinstance(column, Labelled) else None
        if not ticked or not column.list:
            return text
        labels = [choice.label for choice in self.notice.lists[column.list].values]
        if ticked == "boxes":
            found = "\u3000".join(f"{'■' if label == text else '□'}{label}" for label in labels)
        else:
            found = "； ".join(
                f"{n}. {label}（{'√' if label == text else ' '}）" for n, label in enumerate(labels, 1)
            )
        return found if not text or text in labels else f"{found}：{text}"


def _pairs(fields: Sequence[Labelled]) -> list[list[Labelled]]:
    """Two short fields in a row, a long one alone."""
    rows: list[list[Labelled]] = []
    open_ = False
    for field in fields:
        alone = field.below or bool(field.guidance) or (field.limit or 0) > LONG or "（ ）" in field.header
        if open_ and not alone:
            rows[-1].append(field)
            open_ = False
        else:
            rows.append([field])
            open_ = not alone
    return rows
