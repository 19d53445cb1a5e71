"""A form that is no list: one document, one item. Labelled fields, grids, tables and a declaration, in sections.

Everything that a card asks for is a `Column` under a key of its own, so that judging a card, its rules and its
findings are those of a list. How a filled-in one is read is not here (`services/intake/cards.py`).
"""

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from shared.notices.columns import Column, Data, Key, Text

Path = tuple[str | int, ...]


class Labelled(Column):
    """A field beside or below its label. `header` is the label as printed; `（ ）` in it is where the value goes,
    as in `专职（ ）人`. `guidance` is printed with the label and is no answer; `below` puts the value under it.
    `ticked`: its choices are printed, `□国有 ☑民营` or `1. 商协会（√）； 2. …`."""

    guidance: tuple[str, ...] = ()
    below: bool = False
    ticked: Literal["boxes", "numbers"] | None = None


class Line(Data):
    """A preset row of a grid; `{year-1}` in its label is the year before the round's."""

    key: Key
    label: Text


class Grid(Data):
    """Preset rows by columns, a value in each cell: two years, target and actual.

    The value of column `revenue` in row `y1` has the key `revenue_y1`.
    """

    label: Text
    rows: Annotated[tuple[Line, ...], Field(min_length=1)]
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]

    def cells(self) -> Iterator[tuple[Line, Column, Column]]:
        """Row, column, and the cell as a column of its own."""
        for line in self.rows:
            for column in self.columns:
                header = f"{line.label} {column.header}"
                yield (
                    line,
                    column,
                    column.model_copy(
                        update={"key": f"{column.key}_{line.key}", "header": header, "aliases": ()}
                    ),
                )


class Block(Data):
    """A table within a card, of as many rows as there are; its value is a list of rows.

    `preset` are descriptions printed in the column `described`: a row in which nothing else is filled in says
    nothing, and several rows may share one description. `aside`: its title is printed in a column before the others.
    """

    field: Annotated[str, StringConstraints(pattern=r"^F[\d-]+\.[A-E]?\d*$")]
    key: Key
    title: Text
    aliases: tuple[str, ...] = ()
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    described: Key | None = None
    preset: tuple[str, ...] = ()
    required: bool = False
    aside: bool = False

    @model_validator(mode="after")
    def _described(self) -> Self:
        keys = [c.key for c in self.columns]
        if bool(self.preset) != (self.described is not None) or (self.described or keys[0]) not in keys:
            raise ValueError("preset 与 described 必须同时出现，described 是本表的一列")
        return self


class Declaration(Data):
    """A printed statement. Whoever files the card with it makes it: a signature and a seal on the scan say so.
    As an event it is a flag. `dated` is the month or day beneath it, which people often write by hand."""

    field: Annotated[str, StringConstraints(pattern=r"^F[\d-]+\.\d+$")]
    key: Key
    label: Text
    text: Text
    dated: Column | None = None


class Mark(Data):
    """A printed label that only the scan answers, such as a signature or a seal: read past."""

    field: str
    label: Text


class Rows(Data):
    """Rows of a printed card, under a `label` in a cell before all of them. A cell is the key of a field, or a text with
    `{key}` where values stand."""

    label: str | None = None
    rows: Annotated[tuple[Annotated[tuple[Text, ...], Field(min_length=1)], ...], Field(min_length=1)]

    def cells(self) -> Iterator[tuple[int, int, str]]:
        yield from ((i, j, cell) for i, row in enumerate(self.rows) for j, cell in enumerate(row))


_NAMED = re.compile(r"\{([a-z0-9_]+)\}")


def named_in(cell: str) -> list[str]:
    """The keys that a cell of a printed row names."""
    return _NAMED.findall(cell) or [cell]


class Printed(Data):
    """How the annex sets the fields of a section: in a table with labels `beside` the values or, as the title of the
    section, `within` its cells; as `lines`, on a `cover` of their own, or as headings with running `text`. Two short
    fields stand in a row, unless `parts` say more."""

    how: Literal["beside", "within", "lines", "cover", "text"] = "beside"
    centred: bool = False
    """The title stands in the middle."""
    parts: tuple[Rows, ...] = ()


class Section(Data):
    """A part of a card under its own heading. A `shared` one need not be repeated in further copies of the card
    in the same file."""

    title: str | None = None
    shared: bool = False
    printed: Printed = Printed()
    fields: tuple[Labelled, ...] = ()
    grids: tuple[Grid, ...] = ()
    blocks: tuple[Block, ...] = ()
    declaration: Declaration | None = None
    marks: tuple[Mark, ...] = ()


class Card(Data):
    """The layout of a card, in printed order."""

    sections: Annotated[tuple[Section, ...], Field(min_length=1)]

    def columns(self) -> Iterator[tuple[Path, Column]]:
        """Everything with one value, as columns; and where it stands in the card's data."""
        for s, section in enumerate(self.sections):
            at: Path = ("sections", s)
            for i, field in enumerate(section.fields):
                yield (*at, "fields", i), field
            for i, grid in enumerate(section.grids):
                for _, column, cell in grid.cells():
                    yield (*at, "grids", i, "columns", grid.columns.index(column)), cell
            if said := section.declaration:
                yield (
                    (*at, "declaration"),
                    Column(field=said.field, key=said.key, header=said.label, type="flag", required=False),
                )
                if said.dated:
                    yield (*at, "declaration", "dated"), said.dated

    def blocks(self) -> Iterator[tuple[Path, Block]]:
        for s, section in enumerate(self.sections):
            for i, block in enumerate(section.blocks):
                yield ("sections", s, "blocks", i), block

    def crossed(self) -> Iterator[tuple[Path, str]]:
        seen: set[str] = set()
        for place, key in [
            *((place, column.key) for place, column in self.columns()),
            *((place, block.key) for place, block in self.blocks()),
        ]:
            if key in seen:
                yield place, f"栏目 {key} 出现了两次"
            seen.add(key)
        for s, section in enumerate(self.sections):
            if section.printed.parts:
                yield from ((("sections", s, "printed", *at), why) for at, why in _unprinted(section))
        for place, block in self.blocks():
            keys = [c.key for c in block.columns]
            for i, key in enumerate(keys):
                if key in keys[:i]:
                    yield (*place, "columns", i, "key"), f"列 {key} 出现了两次"


def _unprinted(section: Section) -> Iterator[tuple[Path, str]]:
    """Fields that `parts` do not print once each."""
    left = [field.key for field in section.fields]
    for p, part in enumerate(section.printed.parts):
        for i, j, cell in part.cells():
            for key in named_in(cell):
                if key not in left:
                    yield (
                        ("parts", p, "rows", i, j),
                        f"没有名为 {key} 的栏目，或已经印过；还可用 {'、'.join(left)}",
                    )
                else:
                    left.remove(key)
    if left:
        yield ("parts",), f"没有印出栏目 {'、'.join(left)}"
