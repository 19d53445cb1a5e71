"""What the reader does not tell of an .ods sheet: its merges, its percentages, and how far it is filled.

The values are not here, they are in `pages.py`.
"""

from dataclasses import dataclass, field
from xml.parsers import expat

Range = tuple[tuple[int, int], tuple[int, int]]


@dataclass
class Layout:
    """One sheet; rows and columns from 0, `last` from 1."""

    merged: list[Range] = field(default_factory=list)
    percent: set[tuple[int, int]] = field(default_factory=set)
    last: tuple[int, int] = (0, 0)
    rows: int = 0


def layouts(content: bytes) -> dict[str, Layout]:
    """By name of the sheet; `ExpatError` or `ValueError` when `content.xml` is damaged."""
    found: dict[str, Layout] = {}
    layout, row, column, repeat = Layout(), 0, 0, 1

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal layout, row, column, repeat
        if tag == "table:table":
            layout = found.setdefault(attributes.get("table:name", ""), Layout())
            row, repeat = 0, 0
        elif tag == "table:table-row":
            row, column = row + repeat, 0
            repeat = int(attributes.get("table:number-rows-repeated", 1))
        elif tag in ("table:table-cell", "table:covered-table-cell"):
            wide = int(attributes.get("table:number-columns-repeated", 1))
            if kind := attributes.get("office:value-type"):
                layout.rows += repeat if row + repeat > layout.last[0] else 0
                layout.last = max(layout.last[0], row + repeat), max(layout.last[1], column + wide)
                if kind == "percentage":
                    layout.percent.update((row, column + i) for i in range(min(wide, 100)))
            down = int(attributes.get("table:number-rows-spanned", 1))
            across = int(attributes.get("table:number-columns-spanned", 1))
            if down > 1 or across > 1:
                layout.merged.append(((row, column), (row + down - 1, column + across - 1)))
            column += wide

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.Parse(content, True)
    return found
