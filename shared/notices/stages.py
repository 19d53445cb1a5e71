"""The procedure of a notice as data: who acts in which stage, what may be decided, how long it may take, and what
is owed while a case stands there.

Walking it is in `procedure.py`; the rest of the notice in `model.py`.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from shared.contracts.types import Token
from shared.notices.columns import Clause, Data, Key, Text
from shared.notices.ladders import DUTY, ENDING, EXPIRY, OVERDUE, TERM, Ladder

RuleId = Annotated[str, StringConstraints(pattern=r"^R-[A-Z]+-\d{3}[a-z]?$")]
DeadlineId = Annotated[str, StringConstraints(pattern=r"^DL-\d\d$")]

PARTIES = ("filer", "recommender", "district", "city")
"""Who acts in every procedure: who filed, who recommended it, the district that it lies in, who issued the notice."""
OURS = frozenset(
    "file amend recount missed raise fact score report report_late report_unowed".split()  # noqa: SIM905  # one line
)
"""What the engine itself writes into a history besides the outcomes of a procedure: no outcome may be called so."""
CLOCK = "clock"
"""The actor of what happens because a term is over, or because a ground was raised."""


class Role(Data):
    """Another body that acts in the procedure of this notice, such as a head station."""

    name: Text
    agency: Token
    clause: Clause


class Ground(Data):
    """Why a title may be taken away again. A proposal must name at least one of them.

    A survey whose score is lower than `below` raises it; a source that gives no threshold gives none here (AMB-08).
    """

    id: RuleId
    name: Text
    clause: Clause
    below: Annotated[float, Field(gt=0)] | None = None


class Outcome(Data):
    """What may be decided in a stage, and where it leads. `actor` overrides that of the stage.

    `by_filing` comes about by a filing (of one of `forms`, where they are named) and by nothing else. `raised` is
    what the clock does when a ground is raised; `grounds` are those that the clock rests on at the end of a term.

    A `letter` that is to `hold` is written and waits until the issuer releases it.

    `judges` are the conditions that this decision must judge, where it needs a judgement: without them, all that its
    role judges but for those that another outcome names. One with `last_days` may be decided only in so many last
    days of the stage's term.

    `term`, of a stage that the case comes back to: it `resumes` the date that it had when the case left it, or a
    new term `follows` that date; otherwise it begins anew.
    """

    name: Text
    to: Key
    actor: Key | None = None
    needs: tuple[Literal["fixes", "acknowledgement", "ground", "panel", "judgement"], ...] = ()
    letter: str | None = None
    hold: bool = False
    by_filing: bool = False
    forms: tuple[str, ...] = ()
    raised: bool = False
    grounds: tuple[RuleId, ...] = ()
    judges: tuple[RuleId, ...] = ()
    last_days: Annotated[int, Field(gt=0)] | None = None
    term: Literal["resumes", "follows"] | None = None
    clause: Clause | None = None

    @model_validator(mode="after")
    def _forms_by_filing(self) -> Self:
        if self.forms and not self.by_filing:
            raise ValueError("forms 只用于由报送引起的结果（by_filing）")
        if self.judges and "judgement" not in self.needs:
            raise ValueError("judges 只用于须作认定的结果（needs: [judgement]）")
        if self.hold and self.letter is None:
            raise ValueError("hold 只用于写明信函（letter）的结果")
        return self


class Within(Data):
    """How long a stage lasts, counted from the day after it began (R-GEN-009), or `by` which deadline of the notice.

    What has to be done within days, months or years may be done on the next working day when the last one is
    a rest day; a `validity` ends on its day (AMB-07c). `then` is the outcome that the end of the term brings.

    Its end is recalled by its `ladder` to those who play the parts in `remind`; without them see `Stage.reminded`.
    `dates` are the entries of the calendar of duties that it stands for.
    """

    working_days: Annotated[int, Field(gt=0)] | None = None
    days: Annotated[int, Field(gt=0)] | None = None
    months: Annotated[int, Field(gt=0)] | None = None
    years: Annotated[int, Field(gt=0)] | None = None
    by: DeadlineId | None = None
    validity: bool = False
    then: Key | None = None
    ladder: Ladder | None = None
    remind: tuple[Key, ...] | None = None
    dates: tuple[DeadlineId, ...] = ()
    derived: bool = True

    @model_validator(mode="after")
    def _nothing_missed(self) -> Self:
        if self.then and self.ladder and self.ladder.missed_after:
            raise ValueError("期限届满后系统自动办理（then），没有逾期可提醒：ladder 不写 missed_after")
        return self

    @property
    def recalled(self) -> Ladder:
        if self.ladder:
            return self.ladder
        if self.validity:
            return EXPIRY
        return OVERDUE if self.by else ENDING if self.then else TERM

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        given = [m for m in (self.working_days, self.days, self.months, self.years, self.by) if m is not None]
        if len(given) != 1:
            raise ValueError("working_days、days、months、years、by 须有且仅有一个")
        if self.validity and (self.working_days is not None or self.by):
            raise ValueError("有效期（validity）不按工作日或截止日计算")
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
        return next((f"{n}{unit}" for n, unit in measures if n is not None), "截止日")


class Criterion(Data):
    """One line of a score sheet: at least 0, at most `most` points, which count `weight` times."""

    key: Key
    name: Text
    most: Annotated[float, Field(gt=0)]
    weight: Annotated[float, Field(gt=0)] = 1


class Panel(Data):
    """Experts who score the cases of a stage. What the sources call a detailed indicator system they do not print:
    every number here is ours, to be replaced by the bureau's own.

    `avoid` are the conflicts for which an expert is refused; the columns in `employers` name the bodies whose own
    people may not score. A `trimmed_mean` leaves out the highest and the lowest.
    """

    clause: Clause
    experts: Annotated[int, Field(ge=1)]
    method: Literal["mean", "trimmed_mean"] = "mean"
    avoid: tuple[Literal["employer", "district", "declared"], ...] = ("employer", "district", "declared")
    employers: tuple[Key, ...] = ()
    criteria: Annotated[tuple[Criterion, ...], Field(min_length=1)]
    derived: bool = True

    @model_validator(mode="after")
    def _enough_to_trim(self) -> Self:
        if self.method == "trimmed_mean" and self.experts < 3:
            raise ValueError("去掉最高分和最低分（trimmed_mean）至少要3名专家")
        return self


class Stage(Data):
    """One state of a case. `ends` says how: an end has no outcomes. While it is `listed`, the published list
    shows it; an end that is published is. In a `frozen` one what was approved stands: a filing changes nothing."""

    id: Key
    name: Text
    ref: str | None = None
    clause: Clause
    actor: Key
    outcomes: dict[Key, Outcome] = {}
    within: Within | None = None
    panel: Panel | None = None
    ends: Literal["published", "closed"] | None = None
    returned: bool = False
    listed: bool = False
    frozen: bool = False
    derived: bool = False

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if bool(self.ends) == bool(self.outcomes):
            raise ValueError("终点没有 outcomes；不是终点的阶段必须有 outcomes")
        if self.ends and (self.within or self.listed or self.panel):
            raise ValueError("终点没有期限（within）和评审（panel），是否在名单上由 ends 说明")
        return self

    @property
    def reminded(self) -> tuple[str, ...]:
        """Who is reminded of the end of its term: who must act by then; of a validity all whom it concerns. The
        issuer works from its lists, and is reminded where the notice says so."""
        if self.within is None:
            return ()
        if self.within.remind is not None:
            return self.within.remind
        if self.within.validity:
            return ("filer", "district", "city")
        return () if self.actor == "city" else (self.actor,)

    @property
    def shown(self) -> bool:
        return self.listed or self.ends == "published"


class Start(Data):
    """Where a case begins: the first entry that agrees. `where` is by column: one of the values named."""

    stage: Key
    recommended: bool | None = None
    forms: tuple[str, ...] = ()
    where: dict[Key, tuple[str, ...]] = {}

    def agrees(self, form: str, recommended: bool, values: dict[str, Any]) -> bool:
        return (
            self.recommended in (None, recommended)
            and (not self.forms or form in self.forms)
            and all(values.get(key) in wanted for key, wanted in self.where.items())
        )

    def before(self, other: "Start") -> bool:
        """Whether it takes all that the other would."""
        return (
            self.recommended in (None, other.recommended)
            and (not self.forms or (bool(other.forms) and {*other.forms} <= {*self.forms}))
            and not self.where
        )


class Procedure(Data):
    start: Annotated[tuple[Start, ...], Field(min_length=1)]
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]

    @cached_property
    def by_id(self) -> dict[str, Stage]:
        return {s.id: s for s in self.stages}

    @cached_property
    def returned_to(self) -> frozenset[str]:
        """Stages that a case may come back to, and whose term then goes on or is followed by another."""
        return frozenset(o.to for s in self.stages for o in s.outcomes.values() if o.term)

    def crossed(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        known = listed(self.by_id)
        for i, start in enumerate(self.start):
            if start.stage not in self.by_id:
                yield ("start", i, "stage"), f"没有阶段 {start.stage}；现有 {known}"
            if any(s.before(start) for s in self.start[:i]):
                yield ("start", i), "前面的起点已包括这种情况，此处用不到"
        missing = False
        for i, stage in enumerate(self.stages):
            if stage.id in [s.id for s in self.stages[:i]]:
                yield ("stages", i, "id"), f"阶段 {stage.id} 出现了两次"
            for key, outcome in stage.outcomes.items():
                where = ("stages", i, "outcomes", key)
                if key in OURS:
                    yield where, f"{key} 是系统自用的结果名，请另取"
                if outcome.to not in self.by_id:
                    missing = True
                    yield (*where, "to"), f"没有阶段 {outcome.to}；现有 {known}"
                elif outcome.term and self.by_id[outcome.to].within is None:
                    yield (*where, "term"), f"阶段 {outcome.to} 没有期限（within），无从继续"
                by_clock = outcome.raised or (stage.within is not None and stage.within.then == key)
                if (outcome.actor == CLOCK) != by_clock:
                    yield (
                        (*where, "actor"),
                        f"期限届满（within.then）和出现事由（raised）的结果由 {CLOCK} 办理，其他结果不是",
                    )
                if outcome.last_days and stage.within is None:
                    yield (*where, "last_days"), "本阶段没有期限（within），没有最后若干日"
                if "panel" in outcome.needs and stage.panel is None:
                    yield (*where, "needs"), "本阶段没有评审（panel）"
            if len([o for o in stage.outcomes.values() if o.raised]) > 1:
                yield ("stages", i, "outcomes"), "出现事由（raised）的结果只能有一个"
            if stage.within and stage.within.then and stage.within.then not in stage.outcomes:
                yield (
                    ("stages", i, "within", "then"),
                    f"没有结果 {stage.within.then}；现有 {listed(stage.outcomes)}",
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


class Duty(Data):
    """Something that is owed again and again while a case stands in one of `stages`; a filing of `form` fulfils it.

    It is due `yearly` on a day (`02-29` is the end of February), at the end of every quarter, or `days` after the
    case came into those stages (`entry`) or after a change was reported (`change`). A yearly report `covers` that
    year or the one before; none is owed for a time before the title. A report that is about a change must have rows
    in the table `told_in`. When so many `misses` of the duties with its `ground` are overdue, that is raised, and they
    count no more. The day itself stands as printed, also when it is a rest day (R-GEN-009). Those who play the parts
    in `remind` are reminded of it by the `ladder`.
    """

    id: DeadlineId
    name: Text
    clause: Clause
    rule: RuleId | None = None
    form: str
    stages: Annotated[tuple[Key, ...], Field(min_length=1)]
    yearly: Annotated[str, StringConstraints(pattern=r"^(0[1-9]|1[0-2])-([0-2]\d|3[01])$")] | None = None
    quarterly: bool = False
    after: Literal["entry", "change"] | None = None
    days: Annotated[int, Field(gt=0)] | None = None
    covers: Literal["same", "previous"] = "same"
    told_in: Key | None = None
    ground: RuleId | None = None
    misses: Annotated[int, Field(ge=1)] = 1
    ladder: Ladder = DUTY
    remind: tuple[Key, ...] = ("filer", "district")
    derived: bool = False

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if [bool(self.yearly), self.quarterly, bool(self.after)].count(True) != 1:
            raise ValueError("yearly、quarterly、after 须有且仅有一个")
        if (self.after is None) != (self.days is None):
            raise ValueError("after 与 days 必须同时出现")
        if self.ladder.missed_after:
            raise ValueError("逾期未报由系统另行发信：ladder 不写 missed_after")
        return self


class Report(Data):
    """A form that opens no case but tells of one: `about` is the column with the number or the name of that case,
    `period` are the columns that say which year or quarter it is about. `raises` is by table of the form: what is
    listed there raises that ground."""

    about: Key
    period: Annotated[tuple[Key, ...], Field(max_length=2)] = ()
    raises: dict[Key, RuleId] = {}


def listed(names: Sequence[str] | dict[str, Any] | set[str]) -> str:
    return "、".join(sorted(names))
