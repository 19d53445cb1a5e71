"""A filed document as tables and paragraphs whose cells know where they stand: what a card is read from.

What the cells mean is not here (`cards.py`), nor how a .docx is stored (`documents.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from openpyxl.utils import get_column_letter as letter

from services.intake.pages import Page, text_of

MOST_ROWS = 500
"""A card fills a few pages; what stands further down is not looked at, and `workbook.py` says so."""


@dataclass(frozen=True)
class Spot:
    """One cell, or one paragraph. `place` is what people call it: `B5`, `表1第3行第2格`, `正文第12段`."""

    row: int
    column: int
    text: str
    place: str
    width: int = 1
    height: int = 1


@dataclass
class Area:
    """A table, or the paragraphs between two tables as one column."""

    spots: list[Spot]
    table: bool = True
    _at: dict[tuple[int, int], Spot] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for spot in self.spots:
            for row in range(spot.row, spot.row + min(spot.height, MOST_ROWS)):
                for column in range(spot.column, spot.column + min(spot.width, 200)):
                    self._at.setdefault((row, column), spot)

    def at(self, row: int, column: int) -> Spot | None:
        """The cell that covers a place, merged ones included."""
        return self._at.get((row, column))

    def right_of(self, spot: Spot) -> Spot | None:
        return self.at(spot.row, spot.column + spot.width) if self.table else None

    def below(self, spot: Spot) -> Spot | None:
        return self.at(spot.row + spot.height, spot.column) if self.table else None

    def rows(self) -> Iterator[list[Spot]]:
        """The cells that begin in each row, from left to right."""
        row: list[Spot] = []
        for spot in self.spots:
            if row and spot.row != row[0].row:
                yield row
                row = []
            row.append(spot)
        if row:
            yield row


def of_page(page: Page) -> Area:
    """A worksheet as one table: its filled cells, and the blank ones among them."""
    cells = page.cells[:MOST_ROWS]
    spans: dict[tuple[int, int], tuple[int, int]] = {}
    covered: set[tuple[int, int]] = set()
    for (top, left), (bottom, right) in page.merged:
        if top < len(cells):
            bottom, right = min(bottom, len(cells) - 1), min(right, left + 200)
            spans[top, left] = (right - left + 1, bottom - top + 1)
            covered |= {(r, c) for r in range(top, bottom + 1) for c in range(left, right + 1)} - {
                (top, left)
            }
    spots = []
    for row, values in enumerate(cells):
        for column in range(min(max(len(values), 1) + 1, 200)):
            if (row, column) in covered:
                continue
            value = values[column] if column < len(values) else ""

            def look(row: int = row, column: int = column) -> str:
                return page.format_of(row, column)

            text = "" if value == "" else text_of(value, "text", look)
            width, height = spans.get((row, column), (1, 1))
            spots.append(Spot(row, column, text, f"{letter(column + 1)}{row + 1}", width, height))
    return Area(spots)
