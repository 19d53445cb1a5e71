"""A filled-in card, by its labels: wherever they stand, whatever stands beside or below them.

Which card a document is: `card_finding.py`. Whether a value is right is not decided here
(`shared/notices/forms.py`); how a document is stored neither (`documents.py`, `pages.py`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.intake.areas import Area, Spot
from services.intake.card_tables import Found, Tables, tell
from services.intake.divide import Titles, is_annex
from services.intake.labels import NOTE, Hit, Label, bare, behind, clean, hits_in, labels_of, says, titles_of
from services.intake.sheets import Compiled, RawRow, Sheet
from shared.notices.cards import Declaration
from shared.notices.columns import Column
from shared.notices.entries import BOXES, TICKS, is_preprinted, ticked
from shared.notices.model import Form
from shared.notices.values import same

LONG = 200
"""A text that may be longer may have several paragraphs."""
_DATED = re.compile(r"\d{4}\s*年\s*\d{1,2}\s*月(?:\s*\d{1,2}\s*日)?")
_EMPTY_DATE = re.compile(r"\s*(?:20\d\d)?\s*年\s*(?:\d{1,2})?\s*月\s*(?:日)?\s*$")
_REMARK = re.compile(r"\s*[*＊※]?\s*(?:注|附注|填[表报写]说明)\s*\d*\s*[:：]")
"""What ends a text of several paragraphs; `说明：` and `备注：` may be part of it."""


@dataclass
class _Answer:
    """Where a label has been answered: what stands below without a label of its own goes on with it."""

    area: Area
    label: Label
    asked: Spot
    spot: Spot
    bottom: int
    """The last row that belongs to it."""


class Reader:
    """Reads every copy of one form in a stretch of a document."""

    def __init__(
        self, form: Form, areas: Sequence[Area], name: str, compiled: Compiled, titles: Titles
    ) -> None:
        assert form.card
        self.form, self.card, self.areas, self.name, self.titles = form, form.card, areas, name, titles
        self.choices = {key: [v.label for v in codes.values] for key, codes in compiled.notice.lists.items()}
        self.labels, self.sections = labels_of(form), titles_of(form.card)
        self.shared = {one.key for one in self.labels if form.card.sections[one.section].shared}
        self.printed = {
            bare(text)
            for text in (
                *(note.text for note in form.notes),
                *(text for label in self.labels for text in label.guidance),
                *(section.declaration.label for section in form.card.sections if section.declaration),
            )
        }
        self.seen: set[int] = set()
        """Cells and paragraphs that were read, or that the form itself prints. The others are told."""
        self.partly: list[Spot] = []
        """Read, but for something that stands before the label or behind the answer."""
        self.labelled: set[int] = set()
        self.tables = Tables(form, self.labels, name, compiled.notice.round, titles, self.seen)
        self.hits: dict[int, list[list[Hit]]] = {}
        self.lines = list(self._lines())
        self.section = 0
        self.open: tuple[Label, list[str]] | None = None
        self.answers: list[_Answer] = []
        self.undated: Column | None = None
        self.unsaid: tuple[Declaration, str] | None = None
        """A statement of which more must follow, as it is printed in several paragraphs."""
        self.now = Found()
        self.first: set[str] = set()
        """The labels with which this copy and its own part began: as people arranged them, so the next copy is."""
        self.done: list[Found] = []

    def read(self) -> Sheet:
        for area in self.areas:
            rows = list(area.rows())
            headers = self.tables.headers(rows) if area.table else {}
            i = self.tables.go_on(area, rows, headers, self.now) if area.table else 0
            while i < len(rows):
                if rows[i][0].row in headers:
                    self._close()
                    i = self.tables.take(area, rows, i, headers, self.now)
                    continue
                for spot in rows[i]:
                    if spot.text and id(spot) not in self.seen:
                        self._take(area, spot, rows[i])
                i += 1
            if area.table:  # a date below a statement stands in its cell or in its table
                self.undated = None
        self._finish()
        rows_ = [RawRow(0, found.raw, found.cells) for found in self.done]
        sheet = Sheet(self.name, self.form.id, rows=rows_, findings=self.tables.findings)
        if not rows_:
            say = f"{self.form.annex}没有填写"
            sheet.findings.append(tell(self.form, self.name, "workbook.empty", "hard", say))
        return sheet

    # -- what belongs together ---------------------------------------------------------------------------

    def _finish(self) -> None:
        """End of a copy: what it has is kept if anything in it is its own, what all copies share is handed on."""
        self._end()
        found = self.now
        declared = {section.declaration.key for section in self.card.sections if section.declaration}
        if found.raw.keys() - self.shared - declared:
            self.done.append(found)
        self.now = Found(
            {k: v for k, v in found.raw.items() if k in self.shared},
            {k: v for k, v in found.cells.items() if k in self.shared},
        )
        self.first = set()

    def _end(self) -> None:
        """A title, a section, a note: nothing that follows belongs to what stands before."""
        self._close()
        self.tables.close()
        self.answers, self.undated, self.unsaid = [], None, None

    def _begins_again(self, label: Label) -> bool:
        """A label that has been answered comes again: the next copy of the card, if most of this one is there."""
        own = [one for one in self.labels if one.key not in self.shared and one.column]
        first = {*self.first, self.labels[0].key, own[0].key if own else ""}
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

    # -- headings of text ----------------------------------------------------------------------------------

    def _lines(self) -> Iterator[tuple[int, Hit, bool]]:
        """Every line that begins with a label: the spot, the label, and whether it stands there as printed."""
        for area in self.areas:
            for spot in area.spots:
                self.hits[id(spot)] = groups = hits_in(spot.text, self.labels) if spot.text else []
                for group in groups:
                    for hit in group:
                        if _begins_line(spot.text, hit):
                            yield id(spot), hit, _is_printed(spot.text, hit)

    def _is_heading(self, spot: Spot, hit: Hit) -> bool:
        """`（三）服务成效` within an answer is no heading when `四、服务成效` stands further down, or when a heading
        that is printed before it does."""
        if not hit.label.below or _is_printed(spot.text, hit):
            return True
        at = next((i for i, line in enumerate(self.lines) if line[:2] == (id(spot), hit)), None)
        for _, later, printed in self.lines[at + 1 :] if at is not None else ():
            if later.label.order == 0:
                break  # the next copy
            label = later.label
            if printed and label.key == hit.label.key:
                return False
            if label.below and label.order < hit.label.order and label.key not in self.now.located:
                return False
        return True

    # -- labels ------------------------------------------------------------------------------------------

    def _take(self, area: Area, spot: Spot, row: Sequence[Spot]) -> None:
        name = bare(spot.text)
        if self.titles.is_part(spot.text, self.form) or name in self.sections:
            self.section = self.sections.get(name, self.section)
            self._end()
            self.seen.add(id(spot))
        elif block := self.tables.named(spot.text):
            self._end()
            self.tables.heading = block
            self.seen.add(id(spot))
        elif self._declared(spot) or self._dated(spot):
            self.seen.add(id(spot))
        elif hits := self._known(area, spot):
            self._labels(area, spot, hits)
        elif (name in self.printed or is_annex(name)) and (self.open is None or _REMARK.match(spot.text)):
            self.seen.add(id(spot))
            if _REMARK.match(spot.text):
                self._end()
        elif self._is_caption(spot, row) or self._goes_on(area, spot):
            self.seen.add(id(spot))

    def _labels(self, area: Area, spot: Spot, hits: Sequence[Hit]) -> None:
        self.seen.add(id(spot))
        self.labelled.add(id(spot))
        self.tables.close()
        before = spot.text[: hits[0].start]
        if self.open is not None:
            self.open[1].append(before)
        elif says(before):
            self.partly.append(spot)
        self._close()
        for hit, value in zip(hits, behind(spot.text, hits), strict=True):
            self._answer(area, spot, hit, value, last=hit is hits[-1])

    def _known(self, area: Area, spot: Spot) -> list[Hit]:
        """The labels in a cell that are labels here. In running text only a line that begins with one is."""
        found: list[Hit] = []
        text = not area.table and (self.open is not None or self._awaits(area))
        for group in self.hits[id(spot)]:
            if text and not found and not _begins_line(spot.text, group[0]):
                continue
            if hit := self._pick([hit for hit in group if self._is_heading(spot, hit)]):
                if not self.first or self.first <= self.shared:
                    self.first.add(hit.label.key)
                self.now.located[hit.label.key] = hit.label.section
                self.section = max(self.section, hit.label.section)
                if hit.label.column:
                    self.undated = self.unsaid = None
                found.append(hit)
        return found

    def _awaits(self, area: Area) -> bool:
        """Is this the text of an answer that may have several paragraphs?"""
        last = self.answers[-1] if self.answers else None
        return last is not None and last.area is area and _is_long(last.label)

    def _answer(self, area: Area, spot: Spot, hit: Hit, value: str, *, last: bool) -> None:
        label = hit.label
        if hit.inside is not None:
            if says(re.sub(r"^[，,。、；;）)]+", "", value)):
                self.partly.append(spot)
            value = hit.inside
        value, where = clean(value, label), spot
        cells = self._beside(area, spot) if not value and last and hit.inside is None and area.table else []
        if label.below and last and not cells:
            self.now.cells[label.key] = spot.place
            self.open = (label, [value] if value else [])
            return
        if not value and last and hit.inside is None and area.table:
            cells = cells or self._under(area, spot)
            value = "\n".join(filter(None, (clean(cell.text, label) for cell in cells)))
            self.seen.update(id(cell) for cell in cells)
            where = cells[0] if cells else area.right_of(spot) or spot
            if self._is_label(where):
                where = spot
        self.now.cells[label.key] = where.place
        bottom = max(spot.row + spot.height, where.row + where.height) - 1
        self.answers.append(_Answer(area, label, spot, where, bottom))
        if value:
            self._keep(label, value)

    def _beside(self, area: Area, spot: Spot) -> list[Spot]:
        """The answer to the right of a label: the first filled cell of each row that the label is merged over."""
        found: list[Spot] = []
        for row in range(spot.row, spot.row + spot.height):
            cell = area.at(row, spot.column + spot.width)
            while cell is not None and not cell.text:
                cell = area.at(row, cell.column + cell.width)
            if cell is None or self._is_label(cell) or NOTE.match(cell.text):
                continue
            if id(cell) not in self.seen and cell not in found:
                found.append(cell)
        return found

    def _under(self, area: Area, spot: Spot) -> list[Spot]:
        """The answer below a label, alone in its row, or in a row of answers below a row of labels."""
        cell = area.below(spot)
        if cell is None or not cell.text or id(cell) in self.seen or self._is_label(cell):
            return []
        right = area.right_of(spot)
        if (cell.column, cell.width) != (spot.column, spot.width) and right is not None:
            return []
        row = [one for one in area.spots if one.row == cell.row and one.text]
        among = right is not None and self._is_label(right) and not any(map(self._is_label, row))
        return [cell] if row == [cell] or among else []

    def _is_label(self, spot: Spot) -> bool:
        groups = self.hits[id(spot)]
        return bool(groups and groups[0][0].start == 0) or (
            bare(spot.text) in self.sections or self.titles.is_part(spot.text, self.form)
        )

    def _is_caption(self, spot: Spot, row: Sequence[Spot]) -> bool:
        """`单位信息`, merged beside several labels: printed, and asked for by nobody."""
        first = spot.height > 1 and next((one for one in row if one.text), None) is spot
        return first and len(spot.text) <= 20 and any(self._is_label(one) for one in row if one is not spot)

    def _goes_on(self, area: Area, spot: Spot) -> bool:
        """Text without a label: it belongs to the answer above it, or to nothing."""
        if self.open is not None and not _REMARK.match(spot.text):
            self.open[1].append(spot.text)
            return True
        if _REMARK.match(spot.text):
            self._end()
            return False
        for answer in self.answers[-1:] if not area.table else reversed(self.answers):
            if answer.area is area and self._is_below(area, spot, answer):
                answer.bottom = spot.row + spot.height - 1
                before = self.now.raw.get(answer.label.key)
                value = clean(spot.text, answer.label)
                self._keep(answer.label, f"{before}\n{value}" if before else value)
                if not before:
                    self.now.cells[answer.label.key] = spot.place
                return True
        return False

    def _is_below(self, area: Area, spot: Spot, answer: _Answer) -> bool:
        """Does it go on with this answer: in the next row, the label's cell blank, under what is there already?"""
        label, asked, above = answer.label, answer.asked, answer.spot
        if label.column is None:
            return False
        if asked is above and not _is_long(label) and label.key in self.now.raw:
            return False
        if not area.table:
            return True
        if not answer.bottom < spot.row <= answer.bottom + 1:
            return False
        if above.column == asked.column:
            return spot.column == above.column
        lead = area.at(spot.row, asked.column)
        blank = lead is None or lead is asked or not lead.text
        return blank and spot.column < above.column + above.width and above.column < spot.column + spot.width

    def _close(self) -> None:
        if self.open is not None:
            label, texts = self.open
            self.open = None
            if value := clean("\n".join(texts), label):
                self._keep(label, value)

    def _keep(self, label: Label, value: str) -> None:
        """What the form preprints, `年 月 日` or a list of boxes, is no answer until somebody has written in it."""
        if (column := label.column) is None or not value:
            return
        if column.type in ("date", "year_month") and is_preprinted(value):
            return
        if column.list and ticked(value, self.choices[column.list]) == []:
            return
        self.now.raw[label.key] = value

    # -- declarations ------------------------------------------------------------------------------------

    def _declared(self, spot: Spot) -> bool:
        """The printed statement, whole and unaltered, is made by whoever files it; an empty box before it is not
        ticked."""
        plain = same(spot.text)
        if self.unsaid is not None and (self.unsaid[1].startswith(plain) or plain.startswith(self.unsaid[1])):
            said, rest = self.unsaid
            self.unsaid = (said, rest[len(plain) :]) if len(plain) < len(rest) else None
            self.now.raw[said.key] = self.unsaid is None
            return True
        for i, section in enumerate(self.card.sections):
            said_ = section.declaration
            if said_ is None or said_.key in self.now.raw:
                continue
            text = same(said_.text)
            if (at := plain.find(text[:12])) < 0:
                continue
            box = plain[max(0, at - 2) : at].strip("()[]")
            made = not (box and box[-1] in BOXES)
            self._end()
            self.section = i
            self.now.raw[said_.key] = made and text in plain
            self.now.cells[said_.key] = spot.place
            if made and text not in plain and text.startswith(plain[at:]):
                self.unsaid = said_, text[len(plain) - at :]
            self.undated = said_.dated
            if self.undated and (dated := _DATED.search(spot.text[-80:])):
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


def _is_long(label: Label) -> bool:
    return label.column is not None and (label.column.limit or 0) > LONG


def _begins_line(text: str, hit: Hit) -> bool:
    return hit.start == 0 or text[hit.start - 1] == "\n"


def _is_printed(text: str, hit: Hit) -> bool:
    """With the number that the form prints before it, and no other."""
    return hit.label.column is not None and same(text[hit.start : hit.end]) == same(hit.label.column.header)
