"""Whatever happens to a case, in whatever order and however often: it stays in a stage of its procedure, nobody moves
it who may not, and its history, played again, gives it as it is."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.review.case import Case, Step, dated
from services.review.decide import decide, elapse, file_again, open_case, recount
from services.review.duties import fact, report
from services.review.panel import score
from services.review.parties import who
from services.review.replay import audit, replay
from shared.contracts.case import DecisionMade, Expert, FactReported, Fix, ScoreGiven
from shared.contracts.problem import Problem
from shared.contracts.submission import SubmissionAccepted
from shared.contracts.types import Finding, Party
from shared.notices.calendar import Calendar
from shared.notices.load import load, load_all
from shared.notices.model import Notice
from shared.notices.procedure import start, who_acts

EXAMPLES = Path(__file__).parents[1] / "examples/yongping"
NOTICES = {
    **{id_: one.notice for id_, one in load_all().items()},
    **{n.id: n for n in (load(file).notice for file in sorted(EXAMPLES.glob("*.yaml")))},
}
CALENDAR = Calendar.load()
FILER, RECOMMENDER, DISTRICT = "k6-filer", "440106", "440106"
ID, BEGIN = UUID(int=3), datetime(2026, 3, 2, 2, tzinfo=UTC)
CLOCKWORK = {"missed", "raise", "recount"}
"""What the clock writes that is no outcome of the procedure."""


def filing(notice: Notice, form: str, revision: int, on: datetime, **more: Any) -> SubmissionAccepted:
    soft = Finding(rule="R-X", code="x", severity="soft", clause="c", detail="d")
    fields: dict[str, Any] = {
        "case": ID, "number": "N-1", "revision": revision, "notice": notice.id, "form": form,
        "filer": Party(code=FILER, kind="K6", name="某单位"), "recommender": RECOMMENDER, "unit": RECOMMENDER,
        "district": DISTRICT, "item_kind": "title", "title": f"项目{revision}", "late": revision % 2 == 0,
        "values": {"name": f"值{revision}", **({"note": "有"} if revision % 3 else {})},
        "findings": (soft,) if revision % 2 else (), "received": on,
    }  # fmt: skip
    return SubmissionAccepted(**{**fields, **more})


class Life:
    """A case under everything that may happen to it, as the handlers do it."""

    def __init__(self, notice: Notice, form: str) -> None:
        self.notice = notice
        self.now = BEGIN
        self.filings: dict[int, Any] = {}
        self.steps = [dated(None, open_case(notice, filing(notice, form, 1, BEGIN), BEGIN, CALENDAR))]

    @property
    def case(self) -> Case:
        return self.steps[-1].case

    def take(self, found: Iterable[Step] | Step | Problem | None) -> None:
        if found is not None and not isinstance(found, Problem):
            for step in [found] if isinstance(found, Step) else found:
                if step.replaces:
                    self.filings[step.replaces["revision"]] = step.replaces["filing"]
                self.steps.append(dated(self.case, step))

    def happen(self, what: str, n: int, days: int, back: int) -> None:
        """`back` days late: it arrived then, and is read now."""
        self.now += timedelta(days=days)
        arrived = max(BEGIN, self.now - timedelta(days=back))
        self.take(elapse(self.notice, self.case, arrived, CALENDAR))
        at, case = max(arrived, self.case.entered), self.case
        stage = self.notice.procedure.by_id[case.stage]
        forms = [f.id for f in self.notice.forms]
        if what == "decide":
            outcome = (list(stage.outcomes) or ["none"])[n % max(1, len(stage.outcomes))]
            actors = [
                FILER,
                RECOMMENDER,
                self.notice.issuer,
                *(r.agency for r in self.notice.roles.values()),
                "x",
            ]
            right = (
                who(self.notice, case, who_acts(stage, stage.outcomes[outcome])) if stage.outcomes else None
            )
            actor = right if n % 3 and right else actors[n % len(actors)]
            judged = {r.id: "met" for r in self.notice.rules if r.judged_by}
            said = DecisionMade(
                case=ID, outcome=outcome, reason="理由", rules=tuple(self.notice.by_ground), acknowledges=("R-X",),
                fixes=(Fix(field="name", detail="改"),), judgements=judged,
            )  # fmt: skip
            self.take(decide(self.notice, case, said, actor, at, CALENDAR))
        elif what == "file":
            form = forms[n % len(forms)]
            again = filing(self.notice, form, case.revision + n % 3, arrived)
            self.take(file_again(self.notice, case, again, at, CALENDAR))
        elif what == "report":
            owed = [o for o in case.owed if o.state in ("owed", "missed")] or [None]  # type: ignore[list-item]
            one = owed[n % len(owed)]
            duty = self.notice.by_duty[one.duty] if one else None
            form, period = (duty.form, one.period) if duty and one else (forms[0], str(n))
            told = filing(self.notice, form, 1, arrived, about=ID, period=period)
            self.take(report(self.notice, case, told, at, CALENDAR))
        elif what == "fact":
            kind = ("incident", "change", "survey", "inspection")[n % 4]
            ground = (
                list(self.notice.by_ground)[n % len(self.notice.by_ground)]
                if n % 2 and self.notice.grounds
                else None
            )
            known = FactReported(
                case=ID, kind=kind, occurred_on=arrived.date(), detail="情况", ground=ground, score=Decimal(n)
            )
            self.take(fact(self.notice, case, known, "x", at, CALENDAR))
        elif what == "score":
            criteria = stage.panel.criteria if stage.panel else ()
            sheet = ScoreGiven(
                case=ID,
                expert=Expert(code=f"e-{n % 7}", employer="某校", district="440106" if n % 5 == 0 else None),
                points={c.key: Decimal(str(c.most)) for c in criteria},
            )
            self.take(score(self.notice, case, sheet, who(self.notice, case, stage.actor) or "", at))
        elif what == "recount":
            self.take(recount(self.notice, case, at, CALENDAR))

    def lines(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for step in self.steps:
            found.append(step.line(found[-1]["hash"] if found else ""))
        return found


HAPPENING = st.tuples(
    st.sampled_from(
        ["decide", "decide", "decide", "score", "score", "file", "report", "fact", "recount", "wait"]
    ),
    st.integers(0, 60),
    st.sampled_from([0, 0, 1, 3, 10, 40, 200, 800]),
    st.sampled_from([0, 0, 0, 2, 30]),
)
BEGINNINGS = [
    (id_, form.id)
    for id_, notice in NOTICES.items()
    for form in notice.forms
    if start(notice.procedure, form.id, True, {}) is not None
]


def lived(notice: str, form: str, happenings: list[tuple[str, int, int, int]]) -> Life:
    life = Life(NOTICES[notice], form)
    for happening in happenings:
        life.happen(*happening)
    return life


MANY = settings(max_examples=25, deadline=None)


@pytest.mark.parametrize(("notice", "form"), BEGINNINGS)
@MANY
@given(happenings=st.lists(HAPPENING, max_size=40))
def test_whatever_happens(notice: str, form: str, happenings: list[tuple[str, int, int, int]]) -> None:
    life = lived(notice, form, happenings)
    stages = life.notice.procedure.by_id
    for before, step in zip(life.steps, life.steps[1:], strict=False):
        assert step.case.stage in stages
        assert step.case.version == before.case.version + 1
        assert step.case.number == "N-1"
        assert step.at >= before.case.entered
        if not any(back for _, _, _, back in happenings):
            assert step.at >= before.at  # heard as it was said, it happened in that order
        stage = stages[before.case.stage]
        if step.case.stage == before.case.stage and step.outcome not in stage.outcomes:
            continue
        # It moved: by an outcome of the stage in which it was, and by whoever the procedure names for it.
        assert stage.ends is None
        outcome = stage.outcomes[step.outcome]
        assert step.case.stage == outcome.to
        actor = who_acts(stage, outcome)
        assert (
            step.actor == ("clock" if actor == "clock" else who(life.notice, before.case, actor))
            or outcome.by_filing
        )
    owed = [(o.duty, o.period) for o in life.case.owed]
    assert len(owed) == len(set(owed))


@pytest.mark.parametrize(("notice", "form"), BEGINNINGS)
@MANY
@given(happenings=st.lists(HAPPENING, max_size=40))
def test_the_history_played_again_gives_the_case(
    notice: str, form: str, happenings: list[tuple[str, int, int, int]]
) -> None:
    life = lived(notice, form, happenings)
    assert replay(life.notice, life.case, life.filings, life.lines()) == life.case
    assert audit(life.notice, life.case, life.filings, life.lines()) == []


def long_life() -> Life:
    """Through review, correction, the list and a revocation's question, with everything on the way."""
    guilds = NOTICES["yongping-guilds-2026"]
    life = Life(guilds, "F1")
    life.take(decide(guilds, life.case, DecisionMade(case=ID, outcome="return", reason="补", fixes=(Fix(field="name", detail="改"),)), DISTRICT, BEGIN, CALENDAR))  # fmt: skip
    life.take(file_again(guilds, life.case, filing(guilds, "F1", 2, BEGIN), BEGIN, CALENDAR))
    for n in (1, 2, 3):
        life.happen("score", n, 0, 0)
    judged: dict[str, Any] = {"R-GU-002": "met", "R-GU-003": "not_met"}
    life.take(decide(guilds, life.case, DecisionMade(case=ID, outcome="pass", reason="过", judgements=judged), DISTRICT, life.now, CALENDAR))  # fmt: skip
    life.happen("fact", 1, 20, 0)
    life.happen("wait", 0, 800, 0)
    return life


def test_a_long_life_has_something_of_everything() -> None:
    """The negative control of the two above: were nothing to happen, they would hold of nothing."""
    life = long_life()
    assert {"file", "return", "resubmit", "score", "pass", "fact", "raise", "question", "missed"} <= {
        s.outcome for s in life.steps
    }
    assert audit(life.notice, life.case, life.filings, life.lines()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"stage": "listed"},
        {"title": "另一名称"},
        {"values": {"name": "另一值"}},
        {"score": Decimal(99)},
        {"judgements": {}},
        {"due": date(2031, 1, 1)},
        {"owed": ()},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_case_that_was_changed_by_hand_is_found(wrong: dict[str, Any]) -> None:
    life = long_life()
    (name,) = wrong
    assert getattr(life.case, name) != wrong[name]
    found = audit(life.notice, replace(life.case, **wrong), life.filings, life.lines())
    said = "第2次报送的内容与经过不符" if name in ("title", "values") else f"重演经过所得的{name}与现状不符"
    assert found == [said]


def test_a_line_that_was_changed_removed_or_exchanged_is_found() -> None:
    life, n = long_life(), 3
    lines = life.lines()
    changed = [*lines[:n], {**lines[n], "data": {}}, *lines[n + 1 :]]
    assert audit(life.notice, life.case, life.filings, changed) == [f"第{n + 1}行与其校验值不符"]
    assert audit(life.notice, life.case, life.filings, [*lines[:n], *lines[n + 1 :]])
    assert audit(life.notice, life.case, life.filings, [lines[0], lines[2], lines[1], *lines[3:]])


def test_an_earlier_filing_that_was_changed_or_let_go_is_told() -> None:
    life = long_life()
    other = {1: {**life.filings[1], "title": "别的"}}
    assert audit(life.notice, life.case, other, life.lines()) == ["第1次报送的内容与经过不符"]
    gone = audit(life.notice, life.case, {}, life.lines())
    assert gone == ["第1次报送的内容已不在（可能已按保存期限清除）"]
    assert audit(life.notice, life.case, life.filings, []) == ["没有经过"]


def test_another_calendar_and_another_notice_make_no_alarm() -> None:
    """What was set then was set then; only a stage that the notice has lost cannot be played."""
    life = long_life()
    longer = load(
        (EXAMPLES / "yongping-guilds-2026.yaml").read_bytes().replace(b"years: 2", b"years: 5")
    ).notice
    assert audit(longer, life.case, life.filings, life.lines()) == []
    text = (
        (EXAMPLES / "yongping-guilds-2026.yaml").read_text(encoding="utf-8").replace("correction", "mending")
    )
    renamed = load(text.encode()).notice
    (why,) = audit(renamed, life.case, life.filings, life.lines())
    assert "correction" in why


def test_the_history_names_nobody() -> None:
    """What was filed is kept beside it: the lines have digests, names of columns, and dates."""
    guilds = NOTICES["yongping-guilds-2026"]
    life = Life(guilds, "F1")
    private = {"guild": "行会", "contact": {"name": "张三", "phones": ["13800138000"]}}
    life.take(file_again(guilds, life.case, filing(guilds, "F1", 2, BEGIN, values=private), BEGIN, CALENDAR))
    life.take(file_again(guilds, life.case, filing(guilds, "F1", 3, BEGIN), BEGIN, CALENDAR))
    told = str(life.lines())
    assert "13800138000" not in told
    assert "张三" not in told
    assert "contact" in told
    assert life.filings[2]["values"] == private
