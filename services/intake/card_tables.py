"""The tables of a card: grids of preset rows, blocks of as many rows as people need.

Which cells belong to a table, and what of them is told as not read. Labelled fields are in `cards.py`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.intake.areas import Area, Spot
from services.intake.divide import Titles
from services.intake.labels import (
    NOTE,
    NUMBERING,
    SERIAL,
    Label,
    bare,
    headers_in,
    hits_in,
    names_of,
    spellings_of,
    titles_of,
)
from shared.contracts.types import Finding, Severity
from shared.notices.cards import Block, Grid
from shared.notices.model import Form, Round
from shared.notices.values import same

SURE = 0.6
"""Share of a table's headers that makes a row its header."""

Rows = Sequence[Sequence[Spot]]
Headers = Mapping[int, tuple[Grid | Block, dict[str, int]]]
"""Row → whose header it is, and which column holds what."""


@dataclass
class Found:
    """One copy of the card while it is read."""

    raw: dict[str, Any] = field(default_factory=dict)
    cells: dict[str, str] = field(default_factory=dict)
    located: dict[str, int] = field(default_factory=dict)
    """What has been found, and in which section: a label counts once."""


@dataclass
class _Open:
    """The table that is being read; the next page may go on with it."""

    part: Grid | Block
    columns: dict[str, int]
    heads: dict[int, Spot]
    """Cells of the header that are no column of the form."""
    place: str
    width: int
    block: Block | None = None
    description: str = ""
    """Of the last row: one that says neither block nor description belongs to the same."""
    entries: int = 0
    passed_over: set[int] = field(default_factory=set)


def tell(
    form: Form,
    sheet: str,
    code: str,
    severity: Severity,
    say: str,
    *,
    cell: str | None = None,
    rule: str = "",
) -> Finding:
    return Finding(
        rule=rule or form.id,
        code=code,
        severity=severity,
        clause=form.clause,
        detail=say,
        sheet=sheet,
        cell=cell,
    )


class Tables:
    """Reads the tables of one form; `seen` gets the ids of the cells that are read or only printed."""

    def __init__(
        self, form: Form, labels: Sequence[Label], sheet: str, round_: Round, titles: Titles, seen: set[int]
    ) -> None:
        assert form.card
        self.form, self.card, self.labels, self.sheet, self.round = form, form.card, labels, sheet, round_
        self.titles, self.seen = titles, seen
        self.sections = titles_of(form.card)
        self.blocks = [block for _, block in form.card.blocks()]
        self.names = {name for block in self.blocks for name in names_of(block)}
        parts: list[Grid | Block] = [
            *(grid for section in form.card.sections for grid in section.grids),
            *self.blocks,
        ]
        self.parts = [(part, spellings_of(part.columns)) for part in parts]
        self.heading: Block | None = None
        """The title of a table that stood last, before a table of its own."""
        self.open: _Open | None = None
        self.findings: list[Finding] = []

    def named(self, text: str) -> Block | None:
        name = bare(text)
        return next((block for block in self.blocks if name in names_of(block)), None)

    def headers(self, rows: Rows) -> Headers:
        """The rows that are headers of a grid or of a block."""
        return {
            row[0].row: max(found, key=lambda one: len(one[1]) / len(one[0].columns))
            for row in rows
            if (found := [one for one in self._alike(row) if len(one[1]) >= SURE * len(one[0].columns)])
        }

    def _alike(self, row: Sequence[Spot]) -> list[tuple[Grid | Block, dict[str, int]]]:
        texts = [(spot.column, spot.text) for spot in row if spot.text]
        found = [(part, headers_in(texts, known)) for part, known in self.parts] if len(texts) > 1 else []
        return [one for one in found if len(one[1]) > 1]

    def take(self, area: Area, rows: Rows, i: int, headers: Headers, found: Found) -> int:
        """Everything below a header that belongs to it; the number of the first row that does not."""
        part, columns = headers[rows[i][0].row]
        self.close()
        heads = {spot.column: spot for spot in rows[i] if spot.text and spot.column not in columns.values()}
        at = next(spot for spot in rows[i] if spot.column in columns.values())
        self.open = _Open(part, columns, heads, at.place, _width(area))
        for block in (b for b in self.blocks if _keys(b) == _keys(part)):  # the heading over the table
            over = (area.at(row, 0) for row in range(at.row, max(-1, at.row - 4), -1))
            if any(spot is not None and bare(spot.text) in names_of(block) for spot in over):
                self.open.block = block
                break
        else:
            alike = self.heading is not None and _keys(self.heading) == _keys(part)
            self.open.block = self.heading if alike else None
        first = max(spot.row + spot.height for spot in rows[i] if spot.column in columns.values())
        while i < len(rows) and rows[i][0].row < first:
            self.seen.update(id(spot) for spot in rows[i])
            i += 1
        return self._rows(area, rows, i, headers, found)

    def go_on(self, area: Area, rows: Rows, headers: Headers, found: Found) -> int:
        """A table that was divided between two pages goes on without a header: how many rows of it."""
        if self.open is None or not rows or self.open.width != _width(area) or self._alike(rows[0]):
            return 0
        return self._rows(area, rows, 0, headers, found)

    def close(self) -> None:
        """The end of a table: what its header lacks, and what stands under headers that the form does not have."""
        table, self.open = self.open, None
        if table is None:
            return
        if not table.entries:
            # No row to miss a column in; but what stands in the header beside the printed words is somebody's.
            printed = {*self.names, "序号", *(bare(p.label) for p, _ in self.parts if isinstance(p, Grid))}
            own = [spot for spot in table.heads.values() if bare(spot.text) not in printed]
            self.seen.difference_update(id(spot) for spot in own)
            return
        unread = [f"“{spot.text}”" for at, spot in sorted(table.heads.items()) if at in table.passed_over]
        part = table.block or table.part
        missing = [column for column in part.columns if column.key not in table.columns]
        if not missing and not unread:
            return
        name = part.title if isinstance(part, Block) else part.label
        say = f"“{name}”的表头" + "、".join(f"缺少“{column.header}”一列" for column in missing)
        say += (
            f"{'；' if missing else '有'}未识别的列：{'、'.join(unread)}，其中的内容没有读取"
            if unread
            else ""
        )
        severity: Severity = "hard" if any(column.required for column in missing) else "soft"
        rule = missing[0].field if missing else ""
        self.findings.append(
            tell(self.form, self.sheet, "workbook.column", severity, say, cell=table.place, rule=rule)
        )

    # -- rows ----------------------------------------------------------------------------------------------

    def _rows(self, area: Area, rows: Rows, i: int, headers: Headers, found: Found) -> int:
        table = self.open
        assert table
        while i < len(rows) and not self._ends(rows[i], headers):
            if isinstance(table.part, Grid):
                self._line(area, rows[i], table, table.part, found)
            else:
                self._entry(area, rows[i], table, table.part, found)
            i += 1
        if i < len(rows):
            self.close()
        return i

    def _ends(self, row: Sequence[Spot], headers: Headers) -> bool:
        """Is this no more the table: another header, a heading, a note, a label of the card?"""
        assert self.open
        texts = [spot for spot in row if spot.text]
        if row[0].row in headers:
            return True
        if not texts or texts[0] is not row[0]:
            return False
        first, name, alone = texts[0], bare(texts[0].text), len(texts) == 1
        if alone and (NOTE.match(first.text) or self.titles.is_part(first.text, self.form)):
            return True
        if alone and name in self.names and {first.row + 1, first.row + 2} & headers.keys():
            return True
        if name in self.sections and not (
            isinstance(self.open.part, Block) and name in names_of(self.open.part)
        ):
            return first.width > 1 or name not in self.names
        return first.column == 0 and any(group[0].start == 0 for group in hits_in(first.text, self.labels))

    def _line(self, area: Area, row: Sequence[Spot], table: _Open, grid: Grid, found: Found) -> None:
        at, columns = row[0].row, table.columns
        lead = [spot for spot in (area.at(at, c) for c in range(min(columns.values()))) if spot and spot.text]
        names = {_year(spot.text): spot for spot in lead}
        for line, column, cell in grid.cells():
            label = names.get(_year(self.round.fill(line.label)))
            spot = area.at(at, columns[column.key]) if column.key in columns else None
            if label is not None and spot is not None:
                found.cells.setdefault(cell.key, spot.place)
                self.seen |= {id(label), id(spot)}
                if spot.text:
                    found.raw[cell.key] = spot.text
                    table.entries += 1
        self._pass_over(row, table)

    def _entry(self, area: Area, row: Sequence[Spot], table: _Open, part: Block, found: Found) -> None:
        at = row[0].row
        spots = {key: spot for key, c in table.columns.items() if (spot := area.at(at, c)) is not None}
        block = self._whose(area, at, table, part, spots)
        printed = {bare(text) for text in block.preset} | self.names
        own = {
            key: spot.text
            for key, spot in spots.items()
            # A category or description that is merged over the columns beside it is nobody's answer there.
            if spot.text and not (bare(spot.text) in printed and spot.column < table.columns[key])
        }
        if block.described:
            if bare(own.get(block.described, "")) in self.names:
                del own[block.described]
            table.description = own.setdefault(
                block.described, table.description if block is table.block else ""
            )
        table.block = block
        answers = {key for key, text in own.items() if text and key != block.described}
        lead = [spot for spot in row if spot.column < min(table.columns.values())]
        self.seen.update(id(s) for s in lead if bare(s.text) in self.names or NUMBERING.fullmatch(s.text))
        self.seen.update(id(spot) for spot in spots.values() if bare(spot.text) in printed)
        if not any(spots[key].row == at for key in answers):
            return  # nothing but what is printed, or what a merged cell repeats
        self.seen.update(id(spot) for spot in spots.values())
        self._pass_over(row, table)
        table.entries += 1
        entries: list[dict[str, str]] = found.raw.setdefault(block.key, [])
        found.cells.setdefault(block.key, next(spot.place for spot in spots.values()))
        for key, spot in spots.items():
            found.cells[f"{block.key}/{len(entries)}/{key}"] = spot.place
        entries.append({key: text for key, text in own.items() if text})

    def _pass_over(self, row: Sequence[Spot], table: _Open) -> None:
        """What stands under a header that the form does not have is told with the header, not cell by cell."""
        for spot in row:
            head = table.heads.get(spot.column)
            if spot.text and head is not None and id(spot) not in self.seen:
                serial = same(head.text) in SERIAL or spot.column < min(table.columns.values())
                if not serial:
                    table.passed_over.add(spot.column)
                if not serial or NUMBERING.fullmatch(spot.text):
                    self.seen.add(id(spot))

    def _whose(self, area: Area, row: int, table: _Open, part: Block, spots: Mapping[str, Spot]) -> Block:
        """Tables of the same columns under one header: the printed description or the category beside tells, else
        it is that of the row above."""
        alike = [block for block in self.blocks if _keys(block) == _keys(part)]
        for block in alike:
            spot = spots.get(block.described or "")
            if spot is not None and bare(spot.text) in map(bare, block.preset):
                return block
        beside = [area.at(row, column) for column in range(min(table.columns.values()) + 1)]
        names = {bare(spot.text) for spot in beside if spot is not None and spot.text}
        return next((block for block in alike if names & names_of(block)), None) or table.block or part


def _keys(part: Grid | Block) -> set[str]:
    return {column.key for column in part.columns}


def _width(area: Area) -> int:
    return max(spot.column + spot.width for spot in area.spots)


def _year(text: str) -> str:
    return re.sub("年度?$", "", bare(text))
