"""One annex of a notice: a list of items, or a card with one.

What its columns ask for is in `columns.py`, how a card is divided in `cards.py`.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from shared.contracts.types import ItemKind, Values
from shared.notices.cards import Block, Card, Path
from shared.notices.columns import PERSONAL, Clause, Column, Data, Key, Text
from shared.notices.stages import Report
from shared.notices.values import same

OURS = "系统拟定，通知没有印发此表；以主管部门印发的为准"
"""What stands on every page of a `derived` form."""
ADDED = "extra"
"""Under which a filing has the columns that its filer has added to the printed ones."""


class Footer(Data):
    """A labelled line outside the table, such as `推荐单位（加盖公章）：` or `联系人：`."""

    field: str
    key: Key
    label: Text
    where: Literal["above", "below"]
    type: Literal["text", "person", "phone"] = "text"
    required: bool = True


class Note(Data):
    """A line printed with the table; `row` notes stand inside it, merged. Import knows and skips them."""

    text: Text
    where: Literal["below", "row"] = "below"
    label: str | None = None
    bold: bool = False


class Computed(Data):
    """A figure that follows from others of the form, to all digits; rules know it as `row.<key>`, and nobody fills
    it in. `growth` is the compound yearly rate in percent from the first of `of` to the last, `mean_growth` the mean
    of the yearly rates (AMB-06), `mean` the arithmetic mean. Without all of `of`, or from nothing, there is none."""

    key: Key
    label: Text
    how: Literal["mean", "growth", "mean_growth"]
    of: Annotated[tuple[Key, ...], Field(min_length=2)]
    unit: str = ""


class Form(Data):
    """One annex. From this and from nothing else come the event's model, the JSON Schema, the blank workbook and
    the reader of filled-in ones, and of a list the printed catalogue. It is a list, with `columns`, or a `card`.

    A filing of a form that `continues` another belongs to the case that the other opened. One with a `report` opens
    no case, but tells of one. A `derived` one is ours: the source asks for it and prints none.
    """

    id: Annotated[str, StringConstraints(pattern=r"^F[\d-]+$")]
    annex: Text
    aliases: tuple[str, ...] = ()
    title: Text
    title_in_notice: Text
    clause: Clause
    item_kind: ItemKind
    item_kind_from: Key | None = None
    direction: str | None = None
    landscape: bool = True
    name: Annotated[tuple[Key, ...], Field(min_length=1)]
    organizer: Key | None = None
    serial_width: float = 10
    columns: tuple[Column, ...] = ()
    card: Card | None = None
    computed: tuple[Computed, ...] = ()
    continues: str | None = None
    report: Report | None = None
    derived: bool = False
    lines: tuple[Footer, ...] = ()
    notes: tuple[Note, ...] = ()
    group: Key | None = None
    public: tuple[Key, ...] = ()
    """Contact columns that the notice itself wants in the public list; without them that has none. Of a card, all that
    everybody may see."""
    preset: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _list_or_card(self) -> Self:
        if bool(self.columns) == bool(self.card):
            raise ValueError("表须有 columns（清单）或 card（卡片）之一")
        if self.card and (self.lines or self.group or self.preset):
            raise ValueError("卡片没有 lines、group 和 preset；请写在 card 的 sections 中")
        return self

    @cached_property
    def by_key(self) -> dict[str, Column]:
        """Everything with one value, by key: the columns of a list, the fields and cells of a card."""
        return {c.key: c for _, c in self.placed()}

    @cached_property
    def blocks(self) -> dict[str, Block]:
        return {b.key: b for _, b in self.card.blocks()} if self.card else {}

    @cached_property
    def personal(self) -> frozenset[str]:
        """The keys under which a filing has contact data: by the types of the columns, so that a new form need not
        say it twice. Of a table within a card, all of it when one of its columns is."""
        found = {key for key, column in self.by_key.items() if column.type in PERSONAL}
        found |= {line.key for line in self.lines if line.type in PERSONAL}
        tables = {b.key for b in self.blocks.values() if any(c.type in PERSONAL for c in b.columns)}
        return frozenset(found | tables)

    def has(self, key: str) -> bool:
        return key in self.by_key or key in self.blocks

    def placed(self) -> Iterator[tuple[Path, Column]]:
        """Every column with its place in the form's data."""
        yield from ((("columns", i), c) for i, c in enumerate(self.columns))
        if self.card:
            yield from ((("card", *place), c) for place, c in self.card.columns())

    def lists(self) -> Iterator[tuple[Path, str]]:
        """The code lists that the form names, and where."""
        of_blocks = (
            (("card", *place, "columns", i), c)
            for place, block in (self.card.blocks() if self.card else ())
            for i, c in enumerate(block.columns)
        )
        for place, column in (*self.placed(), *of_blocks):
            if column.list:
                yield (*place, "list"), column.list

    def crossed(self) -> Iterator[tuple[Path, str]]:
        keys = [*self.by_key, *self.blocks] if self.card else [c.key for c in self.columns]
        keys += [line.key for line in self.lines]
        if self.card:
            yield from ((("card", *where), why) for where, why in self.card.crossed())
        headers: dict[str, str] = {}
        for i, column in enumerate(self.columns):
            if column.key in keys[:i]:
                yield ("columns", i, "key"), f"列 {column.key} 出现了两次"
            # A heading that two columns answer to could be read as either.
            for j, header in enumerate((column.header, *column.aliases)):
                owner = headers.setdefault(same(header), column.key)
                if owner != column.key:
                    where = ("columns", i, "aliases", j - 1) if j else ("columns", i, "header")
                    yield where, f"表头“{header}”已用于列 {owner}"
        for i, line in enumerate(self.lines):
            if line.key in keys[: len(self.columns) + i]:
                yield ("lines", i, "key"), f"列 {line.key} 出现了两次"
        if self.report:
            of_case = [("about", self.report.about), *(("period", k) for k in self.report.period)]
            for place_, key_ in of_case:
                if key_ not in keys:
                    yield ("report", place_), f"没有名为 {key_} 的列；现有 {'、'.join(sorted(keys))}"
        named: list[tuple[tuple[str | int, ...], str | None]] = [
            (("organizer",), self.organizer),
            (("group",), self.group),
            (("item_kind_from",), self.item_kind_from),
            *((("name", i), n) for i, n in enumerate(self.name)),
            *((("public", i), n) for i, n in enumerate(self.public)),
            *((("computed", i, "of", j), k) for i, c in enumerate(self.computed) for j, k in enumerate(c.of)),
        ]
        for place, key in named:
            if key is not None and key not in keys:
                yield place, f"没有名为 {key} 的列；现有 {'、'.join(sorted(keys))}"


def apart(form: Form | None, values: Mapping[str, Any]) -> tuple[Values, Values]:
    """What was filed without its contact data, and that: each is kept where only those may read it who must. Of a form
    that nobody knows any more, all may be contact data; so may columns that a filer has added (`ADDED`)."""
    personal = values.keys() if form is None else form.personal | {ADDED}
    return (
        {key: value for key, value in values.items() if key not in personal},
        {key: value for key, value in values.items() if key in personal},
    )
