"""A filled-in card, by its labels: wherever they stand, whatever stands beside or below them.

Whether a value is right is not decided here (`shared/notices/forms.py`); how a document is stored neither
(`documents.py`, `pages.py`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.intake.areas import Area, Spot
from services.intake.labels import (
    Hit,
    Label,
    bare,
    clean,
    every_title,
    headers_in,
    hits_in,
    is_inside,
    labels_of,
    names_of,
    titles_of,
)
from services.intake.sheets import Compiled, RawRow, Sheet
from shared.contracts.types import Finding
from shared.notices.cards import Block, Grid
from shared.notices.columns import Column
from shared.notices.entries import BOXES, TICKS, is_preprinted
from shared.notices.model import Form
from shared.notices.values import same

SURE, LIKELY = 0.6, 0.35
"""Share of a card's labels that makes a document this card, and the share from which it was probably meant."""
TABLE_SURE = 0.6
"""Share of a table's headers that makes a row its header."""
_DATED = re.compile(r"\d{4}\s*年\s*\d{1,2}\s*月(?:\s*\d{1,2}\s*日)?")
_EMPTY_DATE = re.compile(r"\s*(?:20\d\d)?\s*年\s*(?:\d{1,2})?\s*月\s*(?:日)?\s*$")


def read_cards(areas: Sequence[Area], name: str, compiled: Compiled) -> list[Sheet]:
    """The cards in a document or worksheet, a `Sheet` for every form; none when there is no card in it."""
    forms = [form for form in compiled.notice.forms if form.card]
    fill = {form.id: compiled.notice.form_title(form) for form in forms}
    titles = dict(every_title(forms, fill))
    shares = {form.id: _share(form, areas) for form in forms}
    sure = [form for form in forms if shares[form.id] >= SURE]
    if sure:
        return [_Reader(form, areas, name, compiled, titles if len(sure) > 1 else {}).read() for form in sure]
    likely = max(forms, key=lambda form: shares[form.id], default=None)
    if likely and shares[likely.id] >= LIKELY:
        return [_half(likely, areas, name)]
    return []


def _share(form: Form, areas: Sequence[Area]) -> float:
    """How much of what the card prints stands in the document."""
    assert form.card
    labels = labels_of(form)
    found: set[str] = set()
    blocks = [block for _, block in form.card.blocks()]
    for area in areas:
        for spot in area.spots:
            if not spot.text or len(spot.text) > 2000:
                continue
            found |= {hit.label.pattern.pattern for hits in hits_in(spot.text, labels) for hit in hits}
            found |= {block.key for block in blocks if bare(spot.text) in names_of(block)}
    wanted = {label.pattern.pattern for label in labels} | {block.key for block in blocks}
    return len(found & wanted) / len(wanted)


def _half(form: Form, areas: Sequence[Area], name: str) -> Sheet:
    texts = [spot.text for area in areas for spot in area.spots if spot.text]
    missing = [
        f"“{label.column.header}”"
        for label in labels_of(form)
        if label.column and label.column.required and not any(label.pattern.search(text) for text in texts)
    ]
    say = f"“{name}”像是{form.annex}，但没有找到：{'、'.join(missing)}；请使用模板填报"
    return Sheet(
        name,
        findings=[
            Finding(
                rule="workbook",
                code="workbook.header",
                severity="hard",
                clause=form.clause,
                detail=say,
                sheet=name,
            )
        ],
    )


@dataclass
class _Found:
    """One copy of the card while it is read."""

    raw: dict[str, Any] = field(default_factory=dict)
    cells: dict[str, str] = field(default_factory=dict)
    located: dict[str, int] = field(default_factory=dict)
    """What has been found, and in which section: a label counts once."""


class _Reader:
    """Reads every copy of one form in a document."""

    def __init__(
        self, form: Form, areas: Sequence[Area], name: str, compiled: Compiled, titles: dict[str, Form]
    ) -> None:
        assert form.card
        self.form, self.card, self.areas, self.name = form, form.card, areas, name
        self.round = compiled.notice.round
        self.labels = labels_of(form)
        self.titles, self.sections = titles, titles_of(form.card)
        self.block_names = {name for _, block in form.card.blocks() for name in names_of(block)}
        self.stops = {bare(text) for text in (compiled.notice.form_title(form), form.annex)}
        self.others = False
        self.section = 0
        self.open: tuple[Label, list[str]] | None = None
        self.undated: Column | None = None
        self.heading: Block | None = None
        """The title of a table that stood last, before a table of its own."""
        self.now = _Found()
        self.done: list[_Found] = []
        self.used: set[int] = set()

    def read(self) -> Sheet:
        for area in self.areas:
            headers = dict(self._tables(area)) if area.table else {}
            skip_until = -1
            for row in area.rows():
                if self._is_foreign(row):
                    continue
                at = row[0].row
                if at in headers and at >= skip_until:
                    self._close()
                    skip_until = self._take_table(area, at, headers)
                for spot in row:
                    if at >= skip_until and id(spot) not in self.used:
                        self._take(area, spot)
        self._finish()
        rows = [RawRow(0, found.raw, found.cells) for found in self.done if found.raw]
        sheet = Sheet(self.name, self.form.id, rows=rows)
        if not rows:
            sheet.findings.append(
                Finding(
                    rule=self.form.id,
                    code="workbook.empty",
                    severity="hard",
                    clause=self.form.clause,
                    detail=f"{self.form.annex}没有填写",
                    sheet=self.name,
                )
            )
        return sheet

    # -- what belongs together ---------------------------------------------------------------------------

    def _is_foreign(self, row: Sequence[Spot]) -> bool:
        """In a document of several cards: does this row belong to another one?"""
        for spot in row:
            if spot.text and (form := self.titles.get(same(re.sub(r"[（(].*?[）)]", "", spot.text)))):
                self.others = form.id != self.form.id
        return self.others

    def _finish(self) -> None:
        """End of a copy: what it has is kept, what all copies share is handed on."""
        self._close()
        self.undated = None
        found = self.now
        if found.raw.keys() - {d.key for s in self.card.sections if (d := s.declaration)}:
            self.done.append(found)
        shared = {i for i, section in enumerate(self.card.sections) if section.shared}
        keys = {key for key, section in found.located.items() if section in shared}
        self.now = _Found(
            {k: v for k, v in found.raw.items() if k in keys},
            {k: v for k, v in found.cells.items() if k in keys},
        )

    def _begins_again(self, label: Label) -> bool:
        """A label that has been answered comes again: the next copy of the card, if most of this one is there."""
        own = [one for one in self.labels if not self.card.sections[one.section].shared and one.column]
        first = self.labels[0].key, own[0].key if own else ""
        return label.key in first and sum(one.key in self.now.located for one in own) * 2 >= len(own)

    def _pick(self, hits: Sequence[Hit]) -> Hit | None:
        """Which of the labels that read alike: the first in this section that has not been found yet."""
        left = [hit for hit in hits if hit.label.key not in self.now.located]
        for hit in left:
            if hit.label.section == self.section:
                return hit
        for hit in left:
            if hit.label.section > self.section:
                return hit
        if left:
            return left[0]
        for hit in hits:
            if self._begins_again(hit.label):
                self._finish()
                self.section = hit.label.section
                return hit
        return None

    # -- labels ------------------------------------------------------------------------------------------

    def _take(self, area: Area, spot: Spot) -> None:
        text = spot.text
        if not text:
            return
        name = bare(text)
        if (section := self.sections.get(name)) is not None:
            self._close()
            self.section = section
            return
        if name in self.stops:
            self._close()
            return
        self.heading = next((b for _, b in self.card.blocks() if name in names_of(b)), self.heading)
        if self._declared(spot) or self._dated(spot):
            return
        hits = self._known(area, spot)
        if not hits:
            if self.open is not None:
                self.open[1].append(text)
                self._place(self.open[0].key, spot)
            return
        if self.open is not None and hits[0].start > 0:
            self.open[1].append(text[: hits[0].start])
        self._close()
        for i, hit in enumerate(hits):
            self._answer(area, spot, hit, last=i == len(hits) - 1)

    def _known(self, area: Area, spot: Spot) -> list[Hit]:
        """The labels in a cell that are labels here. In running text only a line that begins with one is."""
        found = []
        for group in hits_in(spot.text, self.labels):
            inside_text = self.open is not None and not area.table
            if inside_text and group[0].start > 0:
                continue
            if hit := self._pick(group):
                self.now.located[hit.label.key] = hit.label.section
                self.section = max(self.section, hit.label.section)
                found.append(hit)
        return found

    def _answer(self, area: Area, spot: Spot, hit: Hit, *, last: bool) -> None:
        label = hit.label
        value, where = clean(hit.value, label), spot
        beside = area.right_of(spot)
        if label.below and beside is not None and not beside.text:
            beside = None
        if not value and last and not is_inside(hit):
            if beside is not None and id(beside) not in self.used and not self._is_label(beside):
                value, where = clean(beside.text, label), beside
                self.used.add(id(beside))
            elif area.table and not label.below and (under := area.below(spot)) and not self._is_label(under):
                value, where = clean(under.text, label), under
                self.used.add(id(under))
        self._place(label.key, where, again=True)
        if label.below and last and where is spot:
            self.open = (label, [value] if value else [])
        elif value:
            self._keep(label, value)

    def _is_label(self, spot: Spot) -> bool:
        groups = hits_in(spot.text, self.labels)
        return bool(groups and groups[0][0].start == 0) or bare(spot.text) in self.sections

    def _close(self) -> None:
        if self.open is not None:
            label, texts = self.open
            self.open = None
            if value := clean("\n".join(texts), label):
                self._keep(label, value)

    def _keep(self, label: Label, value: str) -> None:
        if label.column is None:
            return
        if label.column.type in ("date", "year_month") and is_preprinted(value):
            return
        self.now.raw[label.key] = value

    def _place(self, key: str, spot: Spot, *, again: bool = False) -> None:
        if again:
            self.now.cells[key] = spot.place
        else:
            self.now.cells.setdefault(key, spot.place)

    # -- declarations ------------------------------------------------------------------------------------

    def _declared(self, spot: Spot) -> bool:
        """The printed statement, whole and unaltered, is made by whoever files it; an empty box before it is not
        ticked."""
        plain = same(spot.text)
        for i, section in enumerate(self.card.sections):
            said = section.declaration
            if said is None or (at := plain.find(same(said.text)[:12])) < 0 or said.key in self.now.raw:
                continue
            whole = same(said.text) in plain
            box = plain[max(0, at - 2) : at].strip("()[]")
            self._close()
            self.section = i
            self.now.raw[said.key] = whole and not (box and box[-1] in BOXES)
            self.now.cells[said.key] = spot.place
            self.undated = said.dated
            behind = spot.text[-80:]
            if self.undated and (dated := _DATED.search(behind)):
                self._date(dated[0], spot)
            return True
        return False

    def _dated(self, spot: Spot) -> bool:
        """The date under a statement, which has no label of its own."""
        if self.undated is None:
            return False
        if dated := _DATED.fullmatch(spot.text.strip(f" {TICKS}")):
            self._date(dated[0], spot)
            return True
        if _EMPTY_DATE.fullmatch(spot.text):
            self.now.cells[self.undated.key] = spot.place
            return True
        return False

    def _date(self, text: str, spot: Spot) -> None:
        assert self.undated
        self.now.raw[self.undated.key], self.now.cells[self.undated.key] = text, spot.place
        self.undated = None

    # -- grids and tables ----------------------------------------------------------------------------------

    def _tables(self, area: Area) -> Iterator[tuple[int, tuple[Grid | Block, dict[str, int]]]]:
        """Rows that are the header of a grid or of a table within the card: row → whose, and its columns."""
        parts: list[Grid | Block] = [
            *(grid for section in self.card.sections for grid in section.grids),
            *(block for _, block in self.card.blocks()),
        ]
        for row in area.rows():
            texts = [(spot.column, spot.text) for spot in row if spot.text]
            found = [(part, headers_in(texts, part.columns)) for part in parts] if len(texts) > 1 else []
            found = [(part, at) for part, at in found if len(at) >= max(2, TABLE_SURE * len(part.columns))]
            if found:
                yield row[0].row, max(found, key=lambda one: len(one[1]) / len(one[0].columns))

    def _take_table(
        self, area: Area, header: int, headers: dict[int, tuple[Grid | Block, dict[str, int]]]
    ) -> int:
        """Everything below a header that belongs to it; the first row that does not."""
        part, columns = headers[header]
        first = max(
            (
                spot.row + spot.height
                for spot in area.spots
                if spot.row == header and spot.column in columns.values()
            ),
            default=header + 1,
        )
        end = first
        for row in area.rows():
            at = row[0].row
            if at < first:
                continue
            texts = [spot for spot in row if spot.text]
            heading = (
                len(texts) == 1
                and bare(texts[0].text) in self.block_names
                and {at + 1, at + 2} & headers.keys()
            )
            if at in headers or heading or any(self._ends(spot, part) for spot in texts):
                break
            end = at + 1
            if isinstance(part, Grid):
                self._take_line(area, at, part, columns)
            else:
                self._take_entry(area, at, header, part, columns)
        return end

    def _ends(self, spot: Spot, part: Grid | Block) -> bool:
        """Is this no more the table: a heading, a note, a label of the card?"""
        name = bare(spot.text)
        if name in self.sections and not (isinstance(part, Block) and name in names_of(part)):
            return spot.width > 1 or name not in self.block_names
        if re.match(r"\s*(?:注|备注|说明)\s*[:：]", spot.text):
            return True
        return spot.column == 0 and any(group[0].start == 0 for group in hits_in(spot.text, self.labels))

    def _take_line(self, area: Area, row: int, grid: Grid, columns: dict[str, int]) -> None:
        lead = [
            spot.text
            for column in range(min(columns.values()))
            if (spot := area.at(row, column)) is not None and spot.text
        ]
        names = {bare(text).removesuffix("年").removesuffix("年度") for text in lead}
        for line, column, cell in grid.cells():
            label = bare(self.round.fill(line.label)).removesuffix("年").removesuffix("年度")
            spot = area.at(row, columns[column.key]) if column.key in columns else None
            if label in names and spot is not None:
                self._place(cell.key, spot)
                if spot.text:
                    self.now.raw[cell.key] = spot.text

    def _take_entry(self, area: Area, row: int, header: int, part: Block, columns: dict[str, int]) -> None:
        spots = {key: area.at(row, column) for key, column in columns.items()}
        own = {key: spot.text for key, spot in spots.items() if spot is not None and spot.text}
        block = self._whose(area, row, header, part, own)
        printed = {bare(text) for text in block.preset}
        answers = {key for key, text in own.items() if key != block.described and bare(text) not in printed}
        if not any((spot := spots[key]) and spot.row == row for key in answers):
            return  # nothing but what is printed, or what a merged cell repeats
        entries: list[dict[str, str]] = self.now.raw.setdefault(block.key, [])
        at = len(entries)
        self.now.cells.setdefault(block.key, next(s.place for s in spots.values() if s is not None))
        for key, spot in spots.items():
            if spot is not None:
                self.now.cells[f"{block.key}/{at}/{key}"] = spot.place
        entries.append({key: text for key, text in own.items() if key == block.described or key in answers})

    def _whose(self, area: Area, row: int, header: int, part: Block, own: dict[str, str]) -> Block:
        """Tables of the same columns under one header: the printed description or the category beside tells."""
        alike = [
            b for _, b in self.card.blocks() if {c.key for c in b.columns} == {c.key for c in part.columns}
        ]
        for block in alike:
            if block.described and bare(own.get(block.described, "")) in map(bare, block.preset):
                return block
        beside = [
            spot.text for column in range(6) if (spot := area.at(row, column)) is not None and spot.text
        ]
        for block in alike:
            if any(bare(text) in names_of(block) for text in beside):
                return block
        for above in range(header, max(-1, header - 4), -1):  # the heading over the table
            for block in alike:
                if (spot := area.at(above, 0)) and bare(spot.text) in names_of(block):
                    return block
        return next((block for block in alike if block is self.heading), part)
