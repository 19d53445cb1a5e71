"""The notice: an official document as data, in the shape that its YAML file must have.

Its procedure is in `stages.py`, an annex in `layout.py`. What the data does is not here: forms judge values, rules
judge items, the procedure moves cases.
"""

import re
from collections.abc import Iterator
from datetime import date, datetime, time
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from shared.contracts.types import Kind, Severity, Token
from shared.notices.calendar import SHANGHAI
from shared.notices.columns import Clause, Data, Key, Text
from shared.notices.ladders import FILING
from shared.notices.ladders import Ladder as Ladder
from shared.notices.layout import Footer as Footer
from shared.notices.layout import Form as Form
from shared.notices.layout import Note as Note
from shared.notices.stages import (
    CLOCK,
    PARTIES,
    DeadlineId,
    Duty,
    Ground,
    Procedure,
    Role,
    RuleId,
    listed,
)

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

    `says` is read when the rule is broken; `{...}` in it are names that the expression could use; `says_en` is the same
    in English, where the issuer has one. A rule with a `figure`, a text of the same kind, is told of every item, met or not, with that figure and the columns and
    materials of its `evidence`. `judged_by` is who must judge it: an actor of the procedure.
    """

    id: RuleId
    clause: Clause
    severity: Severity
    text: Text
    derived: bool = False
    scope: Literal["item", "package"] = "item"
    forms: tuple[str, ...] = ()
    when: str | None = None
    holds: str | None = None
    says: str | None = None
    says_en: str | None = None
    figure: str | None = None
    evidence: tuple[Key, ...] = ()
    params: dict[Key, bool | int | float | str | tuple[str, ...]] = {}
    column: Key | None = None
    enforced_by: str | None = None
    judged_by: Key | None = None
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
        if self.holds is None and (self.when is not None or self.params or self.figure or self.says_en):
            raise ValueError("when、params、figure 和 says_en 只用于有 holds 的规则")
        if self.scope == "package" and (self.forms or self.column):
            raise ValueError("scope: package 的规则不能有 forms 和 column；请在 when 中用 filed.forms")
        return self


class Material(Data):
    """One of the papers that go with a form (spec §11). The name of a file that has one of the words in `named` is
    taken for it; an event says it."""

    key: Key
    name: Text
    clause: Clause
    forms: Annotated[tuple[str, ...], Field(min_length=1)]
    named: tuple[str, ...] = ()


class Given(Data):
    """An item that the notice itself brings, in the district named: nobody files it."""

    form: str
    district: Token
    values: dict[Key, Any]
    clause: Clause


class Target(Data):
    """A number that the source wants reached, and that stops nobody: cases, or the districts that have one, in the
    stages named. `about` where the source says 左右."""

    rule: RuleId
    name: Text
    clause: Clause
    number: Annotated[int, Field(ge=1)]
    unit: Text
    of: Literal["cases", "districts"] = "cases"
    about: bool = False
    stages: Annotated[tuple[Key, ...], Field(min_length=1)]


class Deadline(Data):
    """A date of the notice, for some kinds of units. Printed dates are inclusive (AMB-02), never shifted.

    `at` is a printed time of day, itself still in time. A deadline of one `district` goes before that of all. What
    is filed after it is noted by `rule`, or refused where `late` is hard. Those in `remind` are reminded of it, but
    for units that `unless` spares: it names what they have done, that they `filed`, or a tally that counts at least
    one item of theirs. With `only` none but those who have are.
    """

    id: DeadlineId
    name: Text
    clause: Clause
    on: date
    at: time | None = None
    until: date | None = None
    district: Token | None = None
    rule: RuleId | None = None
    late: Literal["soft", "hard"] = "soft"
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)]
    filing: bool = False
    remind: tuple[Kind, ...] = ()
    unless: Key | None = None
    only: Key | None = None
    ladder: Ladder | None = None
    letter: str | None = None
    derived: bool = False

    @model_validator(mode="after")
    def _filing(self) -> Self:
        if self.filing != (self.rule is not None):
            raise ValueError("报送截止日（filing: true）须写明逾期所依据的规则（rule），其他期限不写")
        return self

    @property
    def recalled(self) -> Ladder | None:
        return self.ladder or (FILING if self.remind else None)

    def missed(self, at: datetime) -> bool:
        """Whether that moment is too late."""
        if self.at is not None:
            return at > datetime.combine(self.on, self.at, SHANGHAI)
        return at.astimezone(SHANGHAI).date() > self.on


class Allowed(Data):
    """Who may file which form (spec §3.3)."""

    forms: tuple[str, ...]
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)]
    derived: bool = True


class Summary(Data):
    """A list that nobody files: its rows are the cases of the form `of` that are not closed, or the `districts`' own
    departments as the directory has them. Its columns have the keys of that form, besides those in `ADDED`."""

    of: Text
    form: Form

    ADDED: ClassVar[tuple[str, ...]] = ("district", "opinion", "agency", "phones", "address")

    def crossed(self, notice: "Notice") -> Iterator[tuple[tuple[str | int, ...], str]]:
        source = notice.by_form.get(self.of)
        if source is None and self.of != "districts":
            yield ("of",), f"没有表 {self.of}；现有 {listed([*notice.by_form, 'districts'])}"
        known = {*(source.by_key if source else ()), *self.ADDED}
        for i, column in enumerate(self.form.columns):
            if column.key not in known:
                yield ("form", "columns", i, "key"), f"没有名为 {column.key} 的栏目；现有 {listed(known)}"
        for place, name in self.form.lists():
            if name not in notice.lists:
                yield ("form", *place), f"没有代码表 {name}"


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
    directions: tuple[Direction, ...] = ()
    lists: dict[Key, CodeList] = {}
    forms: Annotated[tuple[Form, ...], Field(min_length=1)]
    summaries: tuple[Summary, ...] = ()
    allowed: Annotated[tuple[Allowed, ...], Field(min_length=1)]
    materials: tuple[Material, ...] = ()
    given: tuple[Given, ...] = ()
    tallies: tuple[Tally, ...] = ()
    rules: tuple[Rule, ...]
    procedure: Procedure
    roles: dict[Key, Role] = {}
    grounds: tuple[Ground, ...] = ()
    duties: tuple[Duty, ...] = ()
    targets: tuple[Target, ...] = ()
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
    def by_deadline(self) -> dict[str, Deadline]:
        return {d.id: d for d in self.deadlines}

    @cached_property
    def by_duty(self) -> dict[str, Duty]:
        return {d.id: d for d in self.duties}

    @cached_property
    def by_ground(self) -> dict[str, Ground]:
        return {g.id: g for g in self.grounds}

    def filing_deadline(self, kind: Kind, district: str) -> Deadline | None:
        """Until when a unit of this kind may file there: the district's own date goes before the general one."""
        mine = [d for d in self.deadlines if d.filing and kind in d.kinds and d.district in (None, district)]
        return min(mine, key=lambda d: d.district is None, default=None)

    def form_title(self, form: Form) -> str:
        """The title on the annex: the form's own heading, or the name in the annex list (AMB-01)."""
        return self.round.fill(form.title if self.title_source == "form" else form.title_in_notice)

    def behind(self, form: str) -> list[str]:
        """The form that a form continues, the one that this continues, and so on: the last one opens the case."""
        found: list[str] = []
        one = self.by_form.get(form)
        while one is not None and one.continues and one.continues not in found:
            found.append(one.continues)
            one = self.by_form.get(one.continues)
        return found

    def may_file(self, form: str, kind: Kind) -> bool:
        return any(form in a.forms and kind in a.kinds for a in self.allowed)

    def crossed(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What one part of the notice says of another and is not so: where, and what to write instead."""
        spared = {"filed", *(t.name for t in self.tallies)}
        for i, deadline in enumerate(self.deadlines):
            for key, fact in (("unless", deadline.unless), ("only", deadline.only)):
                if fact and fact not in spared:
                    yield ("deadlines", i, key), f"应为以下之一：{listed(spared)}"
        forms, codes = set(self.by_form), set(self.by_direction)
        named: dict[tuple[str, str], list[str]] = {
            ("directions", "code"): [d.code for d in self.directions],
            ("forms", "id"): [f.id for f in self.forms],
            ("tallies", "name"): [t.name for t in self.tallies],
            ("rules", "id"): [r.id for r in self.rules],
            ("deadlines", "id"): [d.id for d in self.deadlines],
            ("grounds", "id"): [g.id for g in self.grounds],
            ("duties", "id"): [d.id for d in self.duties],
            ("materials", "key"): [m.key for m in self.materials],
        }
        for (part, key), ids in named.items():
            for i, one in enumerate(ids):
                if one in ids[:i]:
                    yield (part, i, key), f"{one} 出现了两次"
        yield from self._crossed_procedure()
        for i, deadline in enumerate(self.deadlines):
            twins = [
                d
                for d in self.deadlines[:i]
                if d.filing and deadline.filing and d.district == deadline.district
            ]
            if any({*d.kinds} & {*deadline.kinds} for d in twins):
                yield ("deadlines", i, "filing"), "同一类单位在同一区只能有一个报送截止日（filing: true）"
            if deadline.rule and deadline.rule not in self.by_rule:
                yield ("deadlines", i, "rule"), f"没有规则 {deadline.rule}"
            if deadline.until and deadline.until < deadline.on:
                yield ("deadlines", i, "until"), "until 早于 on"
        for i, d in enumerate(self.directions):
            for j, f in enumerate(d.forms):
                if f not in forms:
                    yield ("directions", i, "forms", j), f"没有表 {f}；现有 {listed(forms)}"
        for i, summary in enumerate(self.summaries):
            yield from ((("summaries", i, *at), why) for at, why in summary.crossed(self))
        for i, form in enumerate(self.forms):
            for where, why in form.crossed():
                yield ("forms", i, *where), why
            if form.direction and form.direction not in codes:
                yield ("forms", i, "direction"), f"没有方向 {form.direction}；现有 {listed(codes)}"
            for place, name in form.lists():
                if name not in self.lists:
                    yield ("forms", i, *place), f"没有代码表 {name}；现有 {listed(self.lists)}"
            for place, column in form.placed():
                if column.rule and column.rule not in {r.id for r in self.rules}:
                    yield ("forms", i, *place, "rule"), f"没有规则 {column.rule}"
        for name, code_list in self.lists.items():
            for j, choice in enumerate(code_list.values):
                if choice.direction and choice.direction not in codes:
                    yield (
                        ("lists", name, "values", j, "direction"),
                        f"没有方向 {choice.direction}；现有 {listed(codes)}",
                    )
            if code_list.rule and code_list.rule not in self.by_rule:
                yield ("lists", name, "rule"), f"没有规则 {code_list.rule}"
        of_forms: dict[str, tuple[Rule | Allowed | Tally | Material, ...]] = {
            "rules": self.rules,
            "allowed": self.allowed,
            "tallies": self.tallies,
            "materials": self.materials,
        }
        for part, rows in of_forms.items():
            for i, row in enumerate(rows):
                for j, f in enumerate(row.forms):
                    if f not in forms:
                        yield (part, i, "forms", j), f"没有表 {f}；现有 {listed(forms)}"
        for i, rule in enumerate(self.rules):
            if rule.since and rule.until and rule.until < rule.since:
                yield ("rules", i, "until"), "until 早于 since"
            if rule.waiver and rule.waiver not in self.by_rule:
                yield ("rules", i, "waiver"), f"没有规则 {rule.waiver}"
            for f in rule.forms or forms:
                if rule.column and rule.forms and f in forms and not self.by_form[f].has(rule.column):
                    yield ("rules", i, "column"), f"表 {f} 没有列 {rule.column}"

    def _crossed_procedure(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        for where, why in self.procedure.crossed():
            yield ("procedure", *where), why
        for key in self.roles.keys() & {*PARTIES, CLOCK}:
            yield ("roles", key), f"{key} 是固有的办理者，请另取名称"
        forms, actors, grounds = set(self.by_form), {*PARTIES, *self.roles}, set(self.by_ground)
        for i, start in enumerate(self.procedure.start):
            for j, form in enumerate(start.forms):
                if form not in forms:
                    yield ("procedure", "start", i, "forms", j), f"没有表 {form}；现有 {listed(forms)}"
        named = {form for start in self.procedure.start for form in start.forms}
        for one in self.forms if named <= forms else ():
            begins = [s for s in self.procedure.start if (not s.forms or one.id in s.forms) and not s.where]
            if not begins and one.report is None and one.continues is None:
                yield ("procedure", "start"), f"表 {one.id} 没有起点"
        for i, stage in enumerate(self.procedure.stages):
            if stage.actor not in actors:
                yield ("procedure", "stages", i, "actor"), f"没有办理者 {stage.actor}；现有 {listed(actors)}"
            if stage.within and stage.within.by and stage.within.by not in self.by_deadline:
                dates = listed(self.by_deadline)
                yield (
                    ("procedure", "stages", i, "within", "by"),
                    f"没有期限 {stage.within.by}；现有 {dates}",
                )
            elif stage.within and stage.within.by and stage.actor == "recommender":
                last = self.by_deadline[stage.within.by].on
                for j, deadline in enumerate(self.deadlines):
                    if deadline.filing and deadline.on > last:
                        yield (
                            ("deadlines", j, "on"),
                            f"报送截止日晚于推荐单位的截止日 {stage.within.by}（{last}）",
                        )
            for j, part in enumerate((stage.within and stage.within.remind) or ()):
                if part not in actors:
                    where = ("procedure", "stages", i, "within", "remind", j)
                    yield where, f"没有办理者 {part}；现有 {listed(actors)}"
            for key, outcome in stage.outcomes.items():
                where = ("procedure", "stages", i, "outcomes", key)
                if outcome.actor and outcome.actor not in {*actors, CLOCK}:
                    yield (*where, "actor"), f"没有办理者 {outcome.actor}；现有 {listed(actors)}"
                if "ground" in outcome.needs and not self.grounds:
                    yield (*where, "needs"), "本通知没有列出事由（grounds）"
                for j, ground in enumerate(outcome.grounds):
                    if ground not in grounds:
                        yield (*where, "grounds", j), f"没有事由 {ground}；现有 {listed(grounds)}"
                for j, rule_id in enumerate(outcome.judges):
                    if rule_id not in self.by_rule or self.by_rule[rule_id].judged_by is None:
                        yield (*where, "judges", j), f"没有由人认定（judged_by）的规则 {rule_id}"
                for j, form in enumerate(outcome.forms):
                    if form not in forms:
                        yield (*where, "forms", j), f"没有表 {form}；现有 {listed(forms)}"
        for i, duty in enumerate(self.duties):
            if duty.form not in forms:
                yield ("duties", i, "form"), f"没有表 {duty.form}；现有 {listed(forms)}"
            elif self.by_form[duty.form].report is None:
                yield ("duties", i, "form"), f"表 {duty.form} 不是报告（report）"
            elif duty.told_in and duty.told_in not in self.by_form[duty.form].blocks:
                yield ("duties", i, "told_in"), f"表 {duty.form} 中没有名为 {duty.told_in} 的表格"
            if duty.ground and duty.ground not in grounds:
                yield ("duties", i, "ground"), f"没有事由 {duty.ground}；现有 {listed(grounds)}"
            if duty.rule and duty.rule not in self.by_rule:
                yield ("duties", i, "rule"), f"没有规则 {duty.rule}"
            for j, part in enumerate(duty.remind):
                if part not in actors:
                    yield ("duties", i, "remind", j), f"没有办理者 {part}；现有 {listed(actors)}"
            for j, stage_id in enumerate(duty.stages):
                if stage_id not in self.procedure.by_id:
                    known = listed(self.procedure.by_id)
                    yield ("duties", i, "stages", j), f"没有阶段 {stage_id}；现有 {known}"
        for i, one in enumerate(self.forms):
            for key, ground in one.report.raises.items() if one.report else ():
                if key not in one.blocks:
                    yield ("forms", i, "report", "raises", key), f"表 {one.id} 中没有名为 {key} 的表格"
                if ground not in grounds:
                    yield ("forms", i, "report", "raises", key), f"没有事由 {ground}；现有 {listed(grounds)}"
        for i, target in enumerate(self.targets):
            if target.rule not in self.by_rule:
                yield ("targets", i, "rule"), f"没有规则 {target.rule}"
            for j, stage_id in enumerate(target.stages):
                if stage_id not in self.procedure.by_id:
                    known = listed(self.procedure.by_id)
                    yield ("targets", i, "stages", j), f"没有阶段 {stage_id}；现有 {known}"
        for i, rule in enumerate(self.rules):
            if rule.judged_by and rule.judged_by not in actors:
                yield ("rules", i, "judged_by"), f"没有办理者 {rule.judged_by}；现有 {listed(actors)}"
        for i, given in enumerate(self.given):
            if given.form not in forms:
                yield ("given", i, "form"), f"没有表 {given.form}；现有 {listed(forms)}"
