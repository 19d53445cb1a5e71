"""The notice: an official document as data, in the shape that its YAML file must have.

What the data does is not here: forms judge values, rules judge items, the procedure moves cases.
"""

from collections.abc import Iterator
from datetime import date, time
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.contracts.types import ItemKind, Kind, Severity, Token
from shared.notices.values import same

Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Clause = Annotated[str, StringConstraints(min_length=1)]
"""Where the source says it, as the spec abbreviates it: `征集通知·二·1`."""

Type = Literal["text", "choice", "contact", "period", "quantity", "amount", "months", "rate", "phone"]

NUMERALS = ("", "一", "二", "三", "四")


class Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Round(Data):
    """The year and, where the notice has one, the quarter it is about; titles are filled from it."""

    year: int
    quarter: Annotated[int, Field(ge=1, le=4)] | None = None

    def fill(self, text: str) -> str:
        """`{year}` and `{quarter}` in a printed title."""
        return text.replace("{year}", str(self.year)).replace("{quarter}", NUMERALS[self.quarter or 0])


class Direction(Data):
    """One direction of the collection (spec §1.2). `label` is the exact text of the source."""

    code: Key | Annotated[str, StringConstraints(pattern=r"^D\d\d$")]
    label: Text
    forms: tuple[str, ...]


class Choice(Data):
    """One value of a code list; `direction` is what an item of it belongs to (derived)."""

    label: Text
    aliases: tuple[str, ...] = ()
    direction: str | None = None


class CodeList(Data):
    """An enumeration of the source; an `open` one admits other text, with a soft finding of `rule`."""

    clause: Clause
    open: bool = False
    rule: str | None = None
    values: Annotated[tuple[Choice, ...], Field(min_length=1)]


class Column(Data):
    """One printed column: `header` is exact, `field` its id in the spec, `limit` in characters.

    `required` and limits are ours unless `stated`: then a longer text is refused, else only noted.
    `inherit` takes a blank cell as "same as above" (merged cells, ODD-06). `conditional` is the hint of a
    column that only some items must fill; the others say `—`. `width` is in mm.
    """

    field: Annotated[str, StringConstraints(pattern=r"^F[\d-]+\.[A-E]?\d+$")]
    key: Key
    header: Text
    aliases: tuple[str, ...] = ()
    type: Type = "text"
    list: str | None = None
    required: bool = True
    conditional: str | None = None
    inherit: bool = False
    limit: int | None = None
    stated: bool = False
    width: Annotated[float, Field(gt=0)] = 25

    @model_validator(mode="after")
    def _choice_has_list(self) -> Self:
        if (self.type == "choice") != (self.list is not None):
            raise ValueError("type: choice 与 list 必须同时出现")
        return self


class Footer(Data):
    """A labelled line outside the table, such as `推荐单位（加盖公章）：` or `联系人：`."""

    field: str
    key: Key
    label: Text
    where: Literal["above", "below"]
    type: Literal["text", "phone"] = "text"
    required: bool = True


class Note(Data):
    """A line printed with the table; `row` notes stand inside it, merged. Import knows and skips them."""

    text: Text
    where: Literal["below", "row"] = "below"
    label: str | None = None
    bold: bool = False


class Form(Data):
    """One annex. From this and from nothing else come the event's model, the JSON Schema, the blank
    workbook, the reader of filled-in ones, and the printed catalogue."""

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
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    lines: tuple[Footer, ...] = ()
    notes: tuple[Note, ...] = ()
    group: Key | None = None
    preset: tuple[str, ...] = ()

    @cached_property
    def by_key(self) -> dict[str, Column]:
        return {c.key: c for c in self.columns}

    def crossed(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        keys = [c.key for c in self.columns] + [line.key for line in self.lines]
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
        named: list[tuple[tuple[str | int, ...], str | None]] = [
            (("organizer",), self.organizer),
            (("group",), self.group),
            (("item_kind_from",), self.item_kind_from),
            *((("name", i), n) for i, n in enumerate(self.name)),
        ]
        for place, key in named:
            if key is not None and key not in keys:
                yield place, f"没有名为 {key} 的列；现有 {_listed(keys)}"


class Tally(Data):
    """A count that the expression of a rule may use as `facts.<name>`; it includes the item itself.

    `by` is what it is counted per, besides notice and unit. `where` is a CEL condition on the item.
    """

    name: Key
    by: Literal["unit", "direction"] = "unit"
    where: str = "true"
    forms: tuple[str, ...] = ()


class Rule(Data):
    """One rule of the notice. Exactly one of: a CEL expression that must hold (`holds`), the mechanism that
    enforces it (`enforced_by`), the person who judges it (`judged_by`), or neither for `info`.

    `says` is read when the rule is broken; `{...}` in it are names that the expression could use.
    """

    id: Annotated[str, StringConstraints(pattern=r"^R-[A-Z]+-\d{3}[a-z]?$")]
    clause: Clause
    severity: Severity
    text: Text
    derived: bool = False
    scope: Literal["item", "package"] = "item"
    forms: tuple[str, ...] = ()
    when: str | None = None
    holds: str | None = None
    says: str | None = None
    params: dict[Key, bool | int | float | str | tuple[str, ...]] = {}
    column: Key | None = None
    enforced_by: str | None = None
    judged_by: Literal["recommender", "city"] | None = None
    waiver: str | None = None
    since: date | None = None
    until: date | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [w for w in (self.holds, self.enforced_by, self.judged_by) if w is not None]
        if len(ways) > 1 or (not ways and self.severity != "info"):
            raise ValueError("须有且仅有 holds、enforced_by、judged_by 之一（info 规则可以没有）")
        if (self.holds is None) != (self.says is None):
            raise ValueError("holds 与 says 必须同时出现：规则被违反时要有一句话给人看")
        if self.holds is None and (self.when is not None or self.params):
            raise ValueError("when 和 params 只用于有 holds 的规则")
        if self.scope == "package" and (self.forms or self.column):
            raise ValueError("scope: package 的规则不能有 forms 和 column；请在 when 中用 filed.forms")
        return self


class Outcome(Data):
    """What may be decided in a stage, and where it leads. `actor` overrides that of the stage."""

    name: Text
    to: Key
    actor: Literal["filer", "recommender", "city"] | None = None
    needs: tuple[Literal["fixes", "acknowledgement"], ...] = ()
    letter: str | None = None
    by_filing: bool = False
    clause: Clause | None = None


class Within(Data):
    working_days: Annotated[int, Field(gt=0)]
    derived: bool = True


class Stage(Data):
    """One state of a case. `ends` says how: an end has no outcomes."""

    id: Key
    name: Text
    ref: str | None = None
    clause: Clause
    actor: Literal["filer", "recommender", "city"]
    outcomes: dict[Key, Outcome] = {}
    within: Within | None = None
    ends: Literal["published", "closed"] | None = None
    returned: bool = False
    derived: bool = False

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if bool(self.ends) == bool(self.outcomes):
            raise ValueError("终点没有 outcomes；不是终点的阶段必须有 outcomes")
        return self


class Start(Data):
    """Where a case begins: the first entry whose `recommended` agrees."""

    stage: Key
    recommended: bool


class Procedure(Data):
    start: tuple[Start, ...]
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]

    @cached_property
    def by_id(self) -> dict[str, Stage]:
        return {s.id: s for s in self.stages}

    def crossed(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        known = _listed(self.by_id)
        for i, start in enumerate(self.start):
            if start.stage not in self.by_id:
                yield ("start", i, "stage"), f"没有阶段 {start.stage}；现有 {known}"
        if {s.recommended for s in self.start} != {True, False}:
            yield ("start",), "须分别写明有推荐单位（recommended: true）和没有推荐单位（false）时的起点"
        missing = False
        for i, stage in enumerate(self.stages):
            if stage.id in [s.id for s in self.stages[:i]]:
                yield ("stages", i, "id"), f"阶段 {stage.id} 出现了两次"
            for key, outcome in stage.outcomes.items():
                if outcome.to not in self.by_id:
                    missing = True
                    yield ("stages", i, "outcomes", key, "to"), f"没有阶段 {outcome.to}；现有 {known}"
        reached: set[str] = set()
        ahead = {s.stage for s in self.start} & set(self.by_id)
        while ahead:
            reached |= ahead
            ahead = {o.to for s in ahead for o in self.by_id[s].outcomes.values()} & set(self.by_id) - reached
        for i, stage in enumerate(self.stages):
            # While a way leads nowhere, what it was meant to lead to cannot be told from what is lost.
            if stage.id not in reached and not missing:
                yield ("stages", i, "id"), f"阶段 {stage.id} 从起点到不了"


class Ladder(Data):
    """Reminders before and after a deadline; moved to the previous working day, never on a rest day."""

    days_before: tuple[int, ...]
    on_day: bool = False
    missed_after: int | None = None
    at: time = time(9, 0)
    derived: bool = True


class Deadline(Data):
    """A date of the notice, for some kinds of units. Printed dates are inclusive (AMB-02), never shifted."""

    id: Annotated[str, StringConstraints(pattern=r"^DL-\d\d$")]
    name: Text
    clause: Clause
    on: date
    until: date | None = None
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)]
    filing: bool = False
    remind: tuple[Kind, ...] = ()
    unless: Key | None = None
    """Who is spared: units that `filed`, or for which the named tally counts at least one item."""
    ladder: Ladder | None = None
    letter: str | None = None
    derived: bool = False


class Allowed(Data):
    """Who may file which form (spec §3.3)."""

    forms: tuple[str, ...]
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)]
    derived: bool = True


class Notice(Data):
    """An official notice. Everything that a new round changes is in here; nothing of it is in the code."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{2,60}$")]
    title: Text
    number: str | None = None
    issuer: Token
    unit: str | None = None
    issued_on: date
    clause_name: Text
    status: Literal["in_force", "historic", "draft"] = "in_force"
    round: Round
    title_source: Literal["form", "notice"] = "form"
    quota_mode: Literal["combined", "separate"] = "combined"
    directions: Annotated[tuple[Direction, ...], Field(min_length=1)]
    lists: dict[Key, CodeList] = {}
    forms: Annotated[tuple[Form, ...], Field(min_length=1)]
    allowed: Annotated[tuple[Allowed, ...], Field(min_length=1)]
    tallies: tuple[Tally, ...] = ()
    rules: tuple[Rule, ...]
    procedure: Procedure
    deadlines: tuple[Deadline, ...] = ()
    assumptions: dict[str, str] = {}

    @cached_property
    def by_form(self) -> dict[str, Form]:
        return {f.id: f for f in self.forms}

    @cached_property
    def by_rule(self) -> dict[str, Rule]:
        return {r.id: r for r in self.rules}

    @cached_property
    def by_direction(self) -> dict[str, Direction]:
        return {d.code: d for d in self.directions}

    @cached_property
    def filing_deadline(self) -> Deadline | None:
        return next((d for d in self.deadlines if d.filing), None)

    def form_title(self, form: Form) -> str:
        """The title on the annex: the form's own heading, or the name in the annex list (AMB-01)."""
        return self.round.fill(form.title if self.title_source == "form" else form.title_in_notice)

    def may_file(self, form: str, kind: Kind) -> bool:
        return any(form in a.forms and kind in a.kinds for a in self.allowed)

    def crossed(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What one part of the notice says of another and is not so: where, and what to write instead."""
        spared = {"filed", *(t.name for t in self.tallies)}
        for i, deadline in enumerate(self.deadlines):
            if deadline.unless and deadline.unless not in spared:
                yield ("deadlines", i, "unless"), f"应为以下之一：{_listed(spared)}"
        forms, codes = set(self.by_form), set(self.by_direction)
        named: dict[tuple[str, str], list[str]] = {
            ("directions", "code"): [d.code for d in self.directions],
            ("forms", "id"): [f.id for f in self.forms],
            ("tallies", "name"): [t.name for t in self.tallies],
            ("rules", "id"): [r.id for r in self.rules],
            ("deadlines", "id"): [d.id for d in self.deadlines],
        }
        for (part, key), ids in named.items():
            for i, one in enumerate(ids):
                if one in ids[:i]:
                    yield (part, i, key), f"{one} 出现了两次"
        for where, why in self.procedure.crossed():
            yield ("procedure", *where), why
        for i, deadline in enumerate(self.deadlines):
            if deadline.filing and deadline is not self.filing_deadline:
                yield ("deadlines", i, "filing"), "只能有一个报送截止日（filing: true）"
            if deadline.until and deadline.until < deadline.on:
                yield ("deadlines", i, "until"), "until 早于 on"
        for i, d in enumerate(self.directions):
            for j, f in enumerate(d.forms):
                if f not in forms:
                    yield ("directions", i, "forms", j), f"没有表 {f}；现有 {_listed(forms)}"
        for i, form in enumerate(self.forms):
            for where, why in form.crossed():
                yield ("forms", i, *where), why
            if form.direction and form.direction not in codes:
                yield ("forms", i, "direction"), f"没有方向 {form.direction}；现有 {_listed(codes)}"
            for j, column in enumerate(form.columns):
                if column.list and column.list not in self.lists:
                    yield (
                        ("forms", i, "columns", j, "list"),
                        f"没有代码表 {column.list}；现有 {_listed(self.lists)}",
                    )
        for name, code_list in self.lists.items():
            for j, choice in enumerate(code_list.values):
                if choice.direction and choice.direction not in codes:
                    yield (
                        ("lists", name, "values", j, "direction"),
                        f"没有方向 {choice.direction}；现有 {_listed(codes)}",
                    )
            if code_list.rule and code_list.rule not in self.by_rule:
                yield ("lists", name, "rule"), f"没有规则 {code_list.rule}"
        of_forms: dict[str, tuple[Rule | Allowed | Tally, ...]] = {
            "rules": self.rules,
            "allowed": self.allowed,
            "tallies": self.tallies,
        }
        for part, rows in of_forms.items():
            for i, row in enumerate(rows):
                for j, f in enumerate(row.forms):
                    if f not in forms:
                        yield (part, i, "forms", j), f"没有表 {f}；现有 {_listed(forms)}"
        for i, rule in enumerate(self.rules):
            if rule.since and rule.until and rule.until < rule.since:
                yield ("rules", i, "until"), "until 早于 since"
            if rule.waiver and rule.waiver not in self.by_rule:
                yield ("rules", i, "waiver"), f"没有规则 {rule.waiver}"
            for f in rule.forms or forms:
                if rule.column and rule.forms and f in forms and rule.column not in self.by_form[f].by_key:
                    yield ("rules", i, "column"), f"表 {f} 没有列 {rule.column}"


def _listed(names: Any) -> str:
    return "、".join(sorted(names))
