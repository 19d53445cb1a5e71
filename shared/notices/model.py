"""The notice: an official document as data, in the shape that its YAML file must have.

What the data does is not here: forms judge values, rules judge items, the procedure moves cases.
"""

import re
from collections.abc import Iterator
from datetime import date, time
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from shared.contracts.types import Kind, Severity, Token
from shared.notices.columns import Clause, Data, Key, Text
from shared.notices.layout import Footer as Footer
from shared.notices.layout import Form as Form
from shared.notices.layout import Note as Note

NUMERALS = ("", "一", "二", "三", "四")


class Round(Data):
    """The year and, where the notice has one, the quarter it is about; titles are filled from it."""

    year: int
    quarter: Annotated[int, Field(ge=1, le=4)] | None = None

    def fill(self, text: str) -> str:
        """`{year}`, `{year-1}` and `{quarter}` in a printed text."""
        text = re.sub(r"\{year(-\d)?\}", lambda m: str(self.year + int(m[1] or 0)), text)
        return text.replace("{quarter}", NUMERALS[self.quarter or 0])


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


PARTIES = ("filer", "recommender", "district", "city")
"""Who acts in every procedure: who filed, who recommended it, the district that it lies in, who issued the notice."""
CLOCK = "clock"
"""The actor of what happens because a term is over."""


class Role(Data):
    """Another body that acts in the procedure of this notice, such as a head station."""

    name: Text
    agency: Token
    clause: Clause


class Ground(Data):
    """Why a title may be taken away again. A proposal must name at least one of them."""

    id: Annotated[str, StringConstraints(pattern=r"^R-[A-Z]+-\d{3}[a-z]?$")]
    name: Text
    clause: Clause


class Outcome(Data):
    """What may be decided in a stage, and where it leads. `actor` overrides that of the stage.

    `term`, of a stage that the case comes back to: it `resumes` the date that it had when the case left it, or a
    new term `follows` that date; otherwise it begins anew.
    """

    name: Text
    to: Key
    actor: Key | None = None
    needs: tuple[Literal["fixes", "acknowledgement", "ground"], ...] = ()
    letter: str | None = None
    by_filing: bool = False
    term: Literal["resumes", "follows"] | None = None
    clause: Clause | None = None


class Within(Data):
    """How long a stage lasts, counted from the day after it began (R-GEN-009).

    What has to be done within days, months or years may be done on the next working day when the last one is
    a rest day; a `validity` ends on its day (AMB-07c). `then` is the outcome that the end of the term brings.
    """

    working_days: Annotated[int, Field(gt=0)] | None = None
    days: Annotated[int, Field(gt=0)] | None = None
    months: Annotated[int, Field(gt=0)] | None = None
    years: Annotated[int, Field(gt=0)] | None = None
    validity: bool = False
    then: Key | None = None
    derived: bool = True

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        given = [m for m in (self.working_days, self.days, self.months, self.years) if m is not None]
        if len(given) != 1:
            raise ValueError("working_days、days、months、years 须有且仅有一个")
        if self.validity and self.working_days is not None:
            raise ValueError("有效期（validity）不按工作日计算")
        return self

    @property
    def text(self) -> str:
        """In Chinese: `7个工作日`."""
        measures = (
            (self.working_days, "个工作日"),
            (self.days, "日"),
            (self.months, "个月"),
            (self.years, "年"),
        )
        return next(f"{n}{unit}" for n, unit in measures if n is not None)


class Stage(Data):
    """One state of a case. `ends` says how: an end has no outcomes. While it is `listed`, the published list
    shows it; an end that is published is."""

    id: Key
    name: Text
    ref: str | None = None
    clause: Clause
    actor: Key
    outcomes: dict[Key, Outcome] = {}
    within: Within | None = None
    ends: Literal["published", "closed"] | None = None
    returned: bool = False
    listed: bool = False
    derived: bool = False

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if bool(self.ends) == bool(self.outcomes):
            raise ValueError("终点没有 outcomes；不是终点的阶段必须有 outcomes")
        if self.ends and (self.within or self.listed):
            raise ValueError("终点没有期限（within），是否在名单上由 ends 说明")
        return self

    @property
    def shown(self) -> bool:
        return self.listed or self.ends == "published"


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

    @cached_property
    def returned_to(self) -> frozenset[str]:
        """Stages that a case may come back to, and whose term then goes on or is followed by another."""
        return frozenset(o.to for s in self.stages for o in s.outcomes.values() if o.term)

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
                elif outcome.term and self.by_id[outcome.to].within is None:
                    yield (
                        ("stages", i, "outcomes", key, "term"),
                        f"阶段 {outcome.to} 没有期限（within），无从继续",
                    )
                by_clock = stage.within is not None and stage.within.then == key
                if (outcome.actor == CLOCK) != by_clock:
                    yield (
                        ("stages", i, "outcomes", key, "actor"),
                        f"期限届满的结果（within.then）由 {CLOCK} 办理，其他结果不是",
                    )
            if stage.within and stage.within.then and stage.within.then not in stage.outcomes:
                yield (
                    ("stages", i, "within", "then"),
                    f"没有结果 {stage.within.then}；现有 {_listed(stage.outcomes)}",
                )
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
    roles: dict[Key, Role] = {}
    grounds: tuple[Ground, ...] = ()
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
            ("grounds", "id"): [g.id for g in self.grounds],
        }
        for (part, key), ids in named.items():
            for i, one in enumerate(ids):
                if one in ids[:i]:
                    yield (part, i, key), f"{one} 出现了两次"
        for where, why in self.procedure.crossed():
            yield ("procedure", *where), why
        for key in self.roles.keys() & {*PARTIES, CLOCK}:
            yield ("roles", key), f"{key} 是固有的办理者，请另取名称"
        actors = {*PARTIES, *self.roles}
        for i, stage in enumerate(self.procedure.stages):
            if stage.actor not in actors:
                yield ("procedure", "stages", i, "actor"), f"没有办理者 {stage.actor}；现有 {_listed(actors)}"
            for key, outcome in stage.outcomes.items():
                where = ("procedure", "stages", i, "outcomes", key)
                if outcome.actor and outcome.actor not in {*actors, CLOCK}:
                    yield (*where, "actor"), f"没有办理者 {outcome.actor}；现有 {_listed(actors)}"
                if "ground" in outcome.needs and not self.grounds:
                    yield (*where, "needs"), "本通知没有列出事由（grounds）"
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
            for place, name in form.lists():
                if name not in self.lists:
                    yield ("forms", i, *place), f"没有代码表 {name}；现有 {_listed(self.lists)}"
            for place, column in form.placed():
                if column.rule and column.rule not in {r.id for r in self.rules}:
                    yield ("forms", i, *place, "rule"), f"没有规则 {column.rule}"
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
                if rule.column and rule.forms and f in forms and not self.by_form[f].has(rule.column):
                    yield ("rules", i, "column"), f"表 {f} 没有列 {rule.column}"


def _listed(names: Any) -> str:
    return "、".join(sorted(names))
