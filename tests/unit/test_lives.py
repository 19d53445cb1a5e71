"""What a case owes over the years, what is held against it, who scores it and what a person must judge: on a notice of
an invented city, so that nothing of it can be in the code."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.review.case import Case, Owed, Step
from services.review.decide import decide, elapse, file_again, open_case, recount
from services.review.duties import fact, report
from services.review.panel import result, score
from shared.contracts.case import DecisionMade, Expert, FactReported, ScoreGiven
from shared.contracts.problem import Problem
from shared.contracts.submission import SubmissionAccepted
from shared.contracts.types import Party
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.load import load, load_all
from shared.notices.stages import Panel
from tests import mistakes

FILE = Path(__file__).parents[1] / "examples/yongping/yongping-guilds-2026.yaml"
NOTICE = load(FILE).notice
CALENDAR = Calendar.load()
FILER, DISTRICT, CITY, OTHER = "k6-guild", "990101", "990100", "yingji"
ID = UUID(int=9)
PANEL = next(s.panel for s in NOTICE.procedure.stages if s.panel)


def at(day: str, hour: int = 10) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), SHANGHAI) + timedelta(hours=hour)


def filing(revision: int = 1, *, on: str = "2026-03-02", **more: Any) -> SubmissionAccepted:
    values = {
        "guild": "木作行会",
        "patron": "某协会",
        "members": 25,
        "contact": {"name": "甲", "phones": ["1"]},
    }
    fields: dict[str, Any] = {
        "case": ID, "number": "F1-G", "revision": revision, "notice": NOTICE.id, "form": "F1",
        "filer": Party(code=FILER, kind="K6", name="木作行会"), "unit": FILER, "district": DISTRICT,
        "item_kind": "title", "title": "木作行会", "values": values, "findings": (), "late": False,
        "received": at(on),
    }  # fmt: skip
    return SubmissionAccepted(**{**fields, **more})


def opened(**more: Any) -> Case:
    return open_case(NOTICE, filing(**more), at("2026-03-02"), CALENDAR).case


def listed(on: str = "2026-03-02") -> Case:
    """On the list from that day, by the city's own patronage: without a panel."""
    values = {**filing().values, "patron": "市工业局"}
    step = open_case(NOTICE, filing(values=values), at(on), CALENDAR)
    assert (step.case.stage, step.says) == ("listed", "published")
    return step.case


def told(form: str, period: str = "", on: str = "2027-02-01") -> SubmissionAccepted:
    return filing(form=form, case=UUID(int=77), about=ID, period=period, received=at(on))


def reported(case: Case, form: str, period: str, on: str, read: str | None = None) -> Step:
    (step,) = report(NOTICE, case, told(form, period, on), at(read or on), CALENDAR)
    return step


def said(**more: Any) -> FactReported:
    fields = {"case": ID, "kind": "incident", "occurred_on": date(2026, 6, 1), "detail": "情况说明"}
    return FactReported(**{**fields, **more})


def facts(case: Case, actor: str = OTHER, on: str = "2026-06-02", **more: Any) -> list[Step]:
    steps = fact(NOTICE, case, said(**more), actor, at(on), CALENDAR)
    assert not isinstance(steps, Problem), steps
    return steps


def owed(case: Case, duty: str) -> list[tuple[str, str, str]]:
    return [(o.period, str(o.due), o.state) for o in case.owed if o.duty == duty]


def refused(found: object) -> str:
    assert isinstance(found, Problem), found
    return found.type.rsplit(":", 1)[1]


# --- duties -----------------------------------------------------------------------------------------


def test_what_is_owed_begins_with_the_list_and_covers_no_time_before() -> None:
    case = listed("2026-01-20")
    assert owed(case, "DL-91") == [("2026", "2027-02-28", "owed")]
    assert owed(case, "DL-92") == [("2026-1", "2026-03-31", "owed")]
    assert owed(case, "DL-93") == []
    # Thirty days from 20 January end on 19 February, in the Spring Festival: the 24th is worked.
    assert owed(case, "DL-94") == [("", "2026-02-24", "owed")]
    assert opened().owed == ()


@pytest.mark.parametrize(("year", "due"), [("2027", "2028-02-29"), ("2028", "2029-02-28")])
def test_the_end_of_february_is_its_last_day_also_on_a_rest_day(year: str, due: str) -> None:
    assert owed(listed(f"{year}-05-05"), "DL-91") == [(year, due, "owed")]


@pytest.mark.parametrize(
    ("on", "read", "outcome", "state"),
    [
        ("2027-02-28", "2027-02-28", "report", "done"),
        # It lay in a queue while we were down: in time all the same.
        ("2027-02-28", "2027-03-05", "report", "done"),
        ("2027-03-01", "2027-03-01", "report_late", "late"),
    ],
)
def test_a_report_is_in_time_by_when_it_arrived(on: str, read: str, outcome: str, state: str) -> None:
    case = listed()
    before = elapse(NOTICE, case, at("2027-03-01", 0), CALENDAR)
    assert [(s.outcome, s.duty, s.period) for s in before if s.duty == "DL-91"] == [
        ("missed", "DL-91", "2026")
    ]
    step = reported(before[-1].case, "F2", "2026", on, read)
    assert (step.outcome, step.duty, step.period, step.says) == (outcome, "DL-91", "2026", "advanced")
    assert owed(step.case, "DL-91") == [("2026", "2027-02-28", state), ("2027", "2028-02-29", "owed")]


def test_a_report_before_its_day_is_followed_by_the_next_year() -> None:
    step = reported(listed(), "F2", "2026", "2027-01-20")
    assert owed(step.case, "DL-91") == [("2026", "2027-02-28", "done"), ("2027", "2028-02-29", "owed")]
    assert step.case.stage == "listed"


def test_a_quarter_may_be_told_ahead_of_the_one_that_is_owed() -> None:
    case = reported(listed(), "F3", "2026-2", "2026-03-20").case
    assert owed(case, "DL-92") == [("2026-1", "2026-03-31", "owed"), ("2026-2", "2026-03-31", "done")]
    after = reported(case, "F3", "2026-1", "2026-03-21")
    # The second has been told already.
    assert owed(after.case, "DL-92")[-1] == ("2026-3", "2026-09-30", "owed")


@pytest.mark.parametrize(("on", "outcome"), [("2026-12-31", "report_unowed"), ("2027-01-01", "report")])
def test_a_year_is_reported_when_it_is_over(on: str, outcome: str) -> None:
    assert reported(listed(), "F2", "2026", on).outcome == outcome


@pytest.mark.parametrize("period", ["2025", "2026", "2062", "2026-7", ""])
def test_what_nobody_owes_is_recorded_and_changes_nothing(period: str) -> None:
    case = reported(listed(), "F2", "2026", "2027-01-20").case
    step = reported(case, "F2", period, "2027-01-21")
    assert step.outcome == "report_unowed"
    assert replace(step.case, version=case.version) == case


def test_a_report_for_a_closed_case_is_recorded_without_effect() -> None:
    case = replace(listed(), stage="closed", owed=())
    step = reported(case, "F2", "2026", "2027-02-01")
    assert (step.outcome, step.case.stage, step.case.version) == ("report_unowed", "closed", case.version + 1)


def test_before_the_city_only_what_its_stage_owes_is_settled() -> None:
    ruling = facts(listed("2026-04-10"), ground="R-GU-012")[-1].case
    assert owed(ruling, "DL-92") == []
    assert reported(ruling, "F3", "2026-2", "2026-06-10").outcome == "report_unowed"
    assert reported(ruling, "F2", "2026", "2027-01-10").outcome == "report"


@pytest.mark.parametrize(("rows", "state"), [((), "owed"), (({"subject": "会长"},), "done")])
def test_a_change_is_told_by_a_report_that_lists_one(rows: tuple[Any, ...], state: str) -> None:
    duties = tuple(
        d.model_copy(update={"told_in": "changes"}) if d.id == "DL-93" else d for d in NOTICE.duties
    )
    strict = NOTICE.model_copy(update={"duties": duties, "by_duty": {d.id: d for d in duties}})
    case = facts(listed(), kind="change")[-1].case
    filed = filing(
        form="F4", case=UUID(int=77), about=ID, values={"changes": list(rows)}, received=at("2026-06-05")
    )
    steps = report(strict, case, filed, at("2026-06-05"), CALENDAR)
    assert owed(steps[-1].case, "DL-93")[0][2] == state


def test_what_a_report_lists_may_raise_a_ground() -> None:
    clusters = load_all()["gz-clusters"].notice
    case = replace(listed(), notice=clusters.id, form="F15", stage="recognised", owed=())
    bad = {"incidents": [{"kind": "安全事故", "level": "较大", "happened_on": "2026-05-01"}]}
    filed = filing(
        form="F16", case=UUID(int=77), about=ID, period="2025", values=bad, received=at("2026-06-05")
    )
    steps = report(clusters, case, filed, at("2026-06-05"), CALENDAR)
    assert [(s.outcome, s.rules) for s in steps] == [
        ("report_unowed", ()),
        ("raise", ("R-CLU-078",)),
        ("question", ("R-CLU-078",)),
    ]
    assert (
        len(report(clusters, case, filed.model_copy(update={"values": {}}), at("2026-06-05"), CALENDAR)) == 1
    )


def test_the_word_of_whom_nobody_knows_starts_no_term() -> None:
    """Or its end would raise the ground that the word itself may not."""
    steps = fact(NOTICE, listed(), said(kind="change"), "k6-x", at("2026-06-02"), CALENDAR, trusted=False)
    assert not isinstance(steps, Problem)
    assert owed(steps[-1].case, "DL-93") == []


def test_whom_nobody_knows_raises_nothing() -> None:
    steps = fact(NOTICE, listed(), said(ground="R-GU-012"), "k6-x", at("2026-06-02"), CALENDAR, trusted=False)
    assert not isinstance(steps, Problem)
    assert [(s.outcome, s.rules, s.case.stage) for s in steps] == [("fact", ("R-GU-012",), "listed")]


CLUSTERS = load_all()["gz-clusters"].notice


@pytest.mark.parametrize(
    ("on", "early"), [("2028-05-03", True), ("2028-05-04", False), ("2028-10-31", False)]
)
def test_a_reevaluation_is_applied_for_in_the_last_half_year(on: str, early: bool) -> None:
    case = replace(
        listed(),
        notice=CLUSTERS.id,
        form="F15",
        stage="recognised",
        due=date(2028, 10, 31),
        owed=(),
        wakes=None,
    )
    decision = DecisionMade(case=ID, outcome="reapply", reason="申请")
    found = decide(CLUSTERS, case, decision, FILER, at(on), CALENDAR)
    assert isinstance(found, Problem) is early
    if isinstance(found, Problem):
        assert "自2028年5月4日起办理" in found.detail


@pytest.mark.parametrize(
    ("verdict", "codes"), [(None, ["judgements"]), ("not_met", ["judgements.not_met"]), ("met", [])]
)
def test_a_renewal_judges_the_targets_and_nothing_else(verdict: Any, codes: list[str]) -> None:
    case = replace(
        listed(), notice=CLUSTERS.id, form="F15", stage="reevaluation", paused=date(2025, 10, 31), owed=()
    )
    judged = {"R-CLU-071": verdict} if verdict else {}
    decision = DecisionMade(case=ID, outcome="renew", reason="复核", judgements=judged)
    found = decide(CLUSTERS, case, decision, CLUSTERS.issuer, at("2028-10-31"), CALENDAR)
    assert ([e.code for e in found.errors] if isinstance(found, Problem) else []) == codes
    if isinstance(found, Step):
        assert (found.case.stage, found.case.due) == ("recognised", date(2031, 10, 31))


def test_what_has_been_held_against_a_case_counts_no_more() -> None:
    case = replace(listed(), wakes=None, due=None)
    steps = elapse(NOTICE, case, at("2030-03-01", 0), CALENDAR)
    raised = [str(s.at.astimezone(SHANGHAI).date()) for s in steps if s.outcome == "raise"]
    # Two misses, and then two more.
    assert raised == ["2028-03-01", "2030-03-01"]


def test_the_second_miss_raises_the_ground_and_a_person_decides() -> None:
    """Quarters are missed too, without a ground; the first yearly miss is told, the second comes before the city."""
    # A validity of two years would end first.
    case = replace(listed(), wakes=None, due=None)
    steps = elapse(NOTICE, case, at("2028-03-01", 0), CALENDAR)
    yearly = [s for s in steps if s.duty == "DL-91" or s.outcome in ("raise", "question")]
    assert [(s.outcome, s.period, str(s.at.astimezone(SHANGHAI).date())) for s in yearly] == [
        ("missed", "2026", "2027-03-01"),
        ("missed", "2027", "2028-03-01"),
        ("raise", "", "2028-03-01"),
        ("question", "", "2028-03-01"),
    ]
    assert yearly[2].rules == yearly[3].rules == ("R-GU-010",)
    assert yearly[2].reason == "年度报告（2027）逾期未报"
    ruling = steps[-1].case
    assert (ruling.stage, ruling.wakes) == ("ruling", None)
    # Before the city it still owes the yearly report, and no quarter.
    assert owed(ruling, "DL-91")[-1][2] == "owed"
    assert [o.state for o in ruling.owed if o.duty == "DL-92" and o.state == "owed"] == []
    assert [s.actor for s in steps] == ["clock"] * len(steps)


def test_years_in_which_nobody_looked_happen_once_and_in_order() -> None:
    """Term and duties interleave as they were due, each at its own moment."""
    steps = elapse(NOTICE, listed("2026-03-02"), at("2030-01-01"), CALENDAR)
    assert [s.at for s in steps] == sorted(s.at for s in steps)
    assert [s.case.version for s in steps] == list(range(2, len(steps) + 2))
    assert len({(s.duty, s.period) for s in steps if s.outcome == "missed"}) == len(
        [s for s in steps if s.outcome == "missed"]
    )
    # The second miss, on 1 March 2028, comes a day before the two years are over; then only a person decides.
    assert [(s.outcome, str(s.at.date())) for s in steps if s.outcome in ("question", "lapse")] == [
        ("question", "2028-03-01")
    ]
    assert elapse(NOTICE, steps[-1].case, at("2030-01-01"), CALENDAR) == []


def test_at_one_moment_a_miss_goes_before_the_end_of_the_term() -> None:
    moment = at("2027-03-01", 0)
    one = Owed("DL-91", "2026", date(2026, 3, 2), date(2027, 2, 28), wakes=moment)
    case = replace(listed(), wakes=moment, owed=(one,))
    assert [s.outcome for s in elapse(NOTICE, case, moment, CALENDAR)][:2] == ["missed", "lapse"]


def test_the_clock_names_the_ground_that_the_notice_gives_to_the_end_of_the_term() -> None:
    case = replace(listed(), owed=())
    (step,) = [s for s in elapse(NOTICE, case, at("2028-03-03"), CALENDAR) if s.outcome == "lapse"]
    assert (step.actor, step.rules, step.case.stage) == ("clock", ("R-GU-010",), "ruling")


def test_a_duty_that_hangs_on_an_unknown_calendar_is_counted_again() -> None:
    case = listed("2028-12-20")  # thirty days on is 2029, whose arrangement nobody knows
    (charter,) = [o for o in case.owed if o.duty == "DL-94"]
    assert charter.provisional
    wrong = replace(charter, due=date(2029, 3, 1), wakes=at("2029-03-02", 0))
    moved = replace(case, owed=tuple(wrong if o is charter else o for o in case.owed))
    step = recount(NOTICE, moved, at("2028-12-21"), CALENDAR)
    assert step
    assert (step.outcome, charter in step.case.owed) == ("recount", True)


# --- what others say --------------------------------------------------------------------------------


def test_a_change_starts_a_term_and_its_report_ends_it() -> None:
    case = facts(listed(), kind="change")[-1].case
    # Ten days from when it was told, the 2nd: nobody is late for what nobody has heard of.
    assert owed(case, "DL-93") == [("2026-06-01", "2026-06-12", "owed")]
    # Told again, it is owed once.
    again = facts(case, kind="change")[-1].case
    assert owed(again, "DL-93") == owed(case, "DL-93")
    assert owed(reported(case, "F4", "", "2026-06-11").case, "DL-93")[0][2] == "done"
    missed = elapse(NOTICE, case, at("2026-06-13", 0), CALENDAR)
    assert [(s.outcome, s.rules) for s in missed if s.rules] == [
        ("raise", ("R-GU-012",)),
        ("question", ("R-GU-012",)),
    ]


@pytest.mark.parametrize(
    ("more", "outcomes"),
    [
        ({"occurred_on": date(2026, 6, 2)}, ["fact"]),
        ({"ground": "R-GU-012"}, ["fact", "raise", "question"]),
        ({}, ["fact"]),
        ({"kind": "survey", "score": "59.9"}, ["fact", "raise", "question"]),
        ({"kind": "survey", "score": "60"}, ["fact"]),
        ({"kind": "inspection", "score": "10"}, ["fact"]),
        ({"kind": "survey", "score": "10", "ground": "R-GU-011"}, ["fact", "raise", "question"]),
    ],
)
def test_a_fact_is_recorded_and_may_raise_a_ground(more: dict[str, Any], outcomes: list[str]) -> None:
    steps = facts(listed(), **more)
    assert [s.outcome for s in steps] == outcomes
    assert steps[0].actor == OTHER
    assert [s.case.version for s in steps] == list(range(2, len(steps) + 2))
    assert steps[-1].case.stage == ("ruling" if len(steps) > 1 else "listed")


def test_a_survey_without_a_threshold_raises_nothing() -> None:
    """AMB-08: where the source gives no number, there is none."""
    grounds = tuple(g.model_copy(update={"below": None}) for g in NOTICE.grounds)
    free = NOTICE.model_copy(update={"grounds": grounds})
    steps = fact(free, listed(), said(kind="survey", score=Decimal(1)), OTHER, at("2026-06-02"), CALENDAR)
    assert [s.outcome for s in steps] == ["fact"]  # type: ignore[union-attr]


@pytest.mark.parametrize("day", [date(2026, 6, 3), date(9999, 12, 31)])
def test_what_is_said_to_have_happened_tomorrow_is_refused(day: date) -> None:
    found = fact(NOTICE, listed(), said(occurred_on=day, kind="change"), OTHER, at("2026-06-02"), CALENDAR)
    assert refused(found) == "date"


def test_an_unknown_ground_is_refused_with_those_that_there_are() -> None:
    found = fact(NOTICE, listed(), said(ground="R-XX-001"), OTHER, at("2026-06-02"), CALENDAR)
    assert refused(found) == "ground"
    assert isinstance(found, Problem)
    assert "R-GU-012 变动不报" in found.detail


@pytest.mark.parametrize("stage", ["review", "closed"])
def test_a_ground_is_raised_only_against_what_is_on_the_list(stage: str) -> None:
    steps = facts(replace(opened(), stage=stage), ground="R-GU-012")
    assert [(s.outcome, s.rules, s.case.stage) for s in steps] == [("fact", ("R-GU-012",), stage)]


# --- experts ----------------------------------------------------------------------------------------


def sheet(expert: str, order: str = "30", service: str = "20", **more: Any) -> ScoreGiven:
    who = Expert(**{"code": expert, "employer": "某大学", **more})
    return ScoreGiven(case=ID, expert=who, points={"order": Decimal(order), "service": Decimal(service)})


def scored(case: Case, *sheets: ScoreGiven) -> Case:
    for one in sheets:
        step = score(NOTICE, case, one, DISTRICT, at("2026-03-03"))
        assert isinstance(step, Step), step
        assert (step.outcome, step.says, step.case.stage) == ("score", "advanced", "review")
        case = step.case
    return case


@pytest.mark.parametrize(
    ("expert", "code"),
    [
        ({"employer": " 某 协会"}, "conflict.employer"),
        ({"employer": "木作行会"}, "conflict.employer"),
        ({"district": DISTRICT}, "conflict.district"),
        ({"conflict": True}, "conflict.declared"),
        ({"district": "990102"}, None),
        ({"employer": "某协会联合会"}, None),
    ],
)
def test_who_is_too_near_does_not_score(expert: dict[str, Any], code: str | None) -> None:
    found = score(NOTICE, opened(), sheet("e-1", **expert), DISTRICT, at("2026-03-03"))
    assert ([e.code for e in found.errors] if isinstance(found, Problem) else None) == (code and [code])


def test_the_notice_says_which_conflicts_count() -> None:
    stages = tuple(
        s.model_copy(update={"panel": PANEL.model_copy(update={"avoid": ("declared",)})}) if s.panel else s
        for s in NOTICE.procedure.stages
    )
    procedure = NOTICE.procedure.model_copy(update={"stages": stages, "by_id": {s.id: s for s in stages}})
    lenient = NOTICE.model_copy(update={"procedure": procedure})
    near = sheet("e-1", employer="某协会", district=DISTRICT)
    assert isinstance(score(lenient, opened(), near, DISTRICT, at("2026-03-03")), Step)


@pytest.mark.parametrize(
    ("order", "service", "codes"),
    [
        ("40", "30", []),
        ("0", "0", []),
        ("40.01", "30", ["score.range"]),
        ("40", "-0.01", ["score.range"]),
    ],
)
def test_points_stay_within_the_sheet(order: str, service: str, codes: list[str]) -> None:
    found = score(NOTICE, opened(), sheet("e-1", order, service), DISTRICT, at("2026-03-03"))
    assert ([e.code for e in found.errors] if isinstance(found, Problem) else []) == codes


@pytest.mark.parametrize("points", [{"order": 1}, {"order": 1, "service": 1, "beauty": 1}, {}])
def test_every_criterion_is_scored_and_no_other(points: dict[str, int]) -> None:
    given = sheet("e-1").model_copy(update={"points": {k: Decimal(v) for k, v in points.items()}})
    found = score(NOTICE, opened(), given, DISTRICT, at("2026-03-03"))
    assert isinstance(found, Problem)
    assert [(e.code, e.pointer) for e in found.errors] == [("score.criteria", "#/data/points")]


def test_nobody_scores_where_there_is_no_panel() -> None:
    assert refused(score(NOTICE, listed(), sheet("e-1"), CITY, at("2026-03-03"))) == "procedure"


def test_the_last_sheet_of_an_expert_counts() -> None:
    case = scored(opened(), sheet("e-1"), sheet("e-1", "10", "10"))
    assert case.scores == {"e-1": {"order": "10", "service": "10"}}


SHEETS = {f"e-{n}": {"order": o, "service": s} for n, (o, s) in enumerate([("10", "0"), ("20", "10"), ("40", "30"), ("30.5", "20.25")])}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "n", "mean"),
    [
        ("trimmed_mean", 2, None),
        ("trimmed_mean", 3, "40.00"),  # of 10, 40 and 100 the middle one
        ("trimmed_mean", 4, "55.50"),  # of 10, 40, 71 and 100 the middle two
        ("mean", 3, "50.00"),
        ("mean", 4, "55.25"),
    ],
)
def test_what_a_panel_comes_to(method: Any, n: int, mean: str | None) -> None:
    panel = PANEL.model_copy(update={"method": method})
    assert isinstance(panel, Panel)
    found = result(panel, dict(list(SHEETS.items())[:n]))
    assert (str(found) if found is not None else None) == mean


JUDGED = {"R-GU-002": "met", "R-GU-003": "not_met"}


def passing(case: Case, judgements: dict[str, Any]) -> Step | Problem:
    decision = DecisionMade(case=ID, outcome="pass", reason="评审", judgements=judgements)
    return decide(NOTICE, case, decision, DISTRICT, at("2026-03-05"), CALENDAR)


def test_a_panel_must_be_complete_and_its_score_stays_with_the_case() -> None:
    two = scored(opened(), sheet("e-1"), sheet("e-2"))
    short = passing(two, JUDGED)
    assert isinstance(short, Problem)
    assert [e.code for e in short.errors] == ["panel"]
    assert "至少3名专家评分，现有2名" in short.detail
    full = passing(scored(two, sheet("e-3", "40", "30")), JUDGED)
    assert isinstance(full, Step)
    assert (full.case.stage, full.case.score, full.says) == ("listed", Decimal("70.00"), "published")


def test_a_returned_case_is_scored_anew() -> None:
    case = replace(scored(opened(), sheet("e-1")), stage="correction")
    step = file_again(NOTICE, case, filing(2), at("2026-03-06"), CALENDAR)
    assert step
    assert (step.case.stage, step.case.scores) == ("review", {})


# --- what only a person can judge -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("judgements", "codes"),
    [
        (JUDGED, []),
        ({"R-GU-002": "not_applicable", "R-GU-003": "met"}, []),
        # A soft one that is not met does not stop, an informative one need not be judged.
        ({"R-GU-002": "met"}, ["judgements"]),
        ({"R-GU-002": "not_met", "R-GU-003": "met"}, ["judgements.not_met"]),
        ({}, ["judgements", "judgements"]),
    ],
)
def test_every_condition_is_judged(judgements: dict[str, Any], codes: list[str]) -> None:
    case = scored(opened(), sheet("e-1"), sheet("e-2"), sheet("e-3"))
    found = passing(case, judgements)
    assert ([e.code for e in found.errors] if isinstance(found, Problem) else []) == codes
    if isinstance(found, Step):
        assert found.case.judgements == judgements


# --- filed again ------------------------------------------------------------------------------------


def test_a_resubmission_shows_what_changed_and_no_contact() -> None:
    case = replace(opened(), stage="correction")
    values = {"guild": "木作行会", "members": 30, "contact": {"name": "乙", "phones": ["2"]}}
    step = file_again(NOTICE, case, filing(2, values=values), at("2026-03-06"), CALENDAR)
    assert step
    assert [(c.field, c.before, c.after) for c in step.changed] == [
        ("patron", "某协会", ""),
        ("members", "25", "30"),
        ("contact", "", "（已修改）"),
    ]
    assert (step.case.number, step.case.version) == (case.number, case.version + 1)


def test_a_returned_case_may_go_to_another_agency_and_an_open_one_may_not() -> None:
    elsewhere = filing(2, recommender="990102", district="990102", unit="990102")
    moved = file_again(NOTICE, replace(opened(), stage="correction"), elsewhere, at("2026-03-06"), CALENDAR)
    assert moved
    assert (moved.case.recommender, moved.case.district, moved.case.stage) == ("990102", "990102", "review")
    assert file_again(NOTICE, opened(), elsewhere, at("2026-03-06"), CALENDAR) is None


def test_what_was_approved_is_frozen() -> None:
    assert file_again(NOTICE, listed(), filing(2), at("2026-03-06"), CALENDAR) is None
    amended = file_again(NOTICE, opened(), filing(2), at("2026-03-06"), CALENDAR)
    assert amended
    assert amended.outcome == "amend"


def test_times_are_compared_whatever_their_zone() -> None:
    case = listed()
    utc = datetime(2027, 2, 28, 15, 59, 59, tzinfo=UTC)
    (step,) = report(NOTICE, case, told("F2", "2026").model_copy(update={"received": utc}), utc, CALENDAR)
    assert step.outcome == "report"


# --- the file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "where", "says"),
    [
        ("{stage: review, forms: [F1]}", "{stage: review, forms: [F9]}", "procedure.start[1].forms[0]", "没有表 F9"),
        ("{stage: review, forms: [F1]}", "{stage: review, forms: [F1], where: {patron: [某]}}", "procedure.start", "表 F1 没有起点"),
        ("experts: 3", "experts: 2", "procedure.stages[0].panel", "至少要3名专家"),
        ("{name: 保留, to: listed, term", "{name: 保留, to: listed, needs: [panel], term", "procedure.stages[3].outcomes.keep.needs", "没有评审"),
        ("to: ruling, actor: clock, raised: true}", "to: ruling, raised: true}", "procedure.stages[2].outcomes.question.actor", "出现事由"),
        ("actor: clock, grounds: [R-GU-010]}", "actor: clock, raised: true}", "procedure.stages[2].outcomes", "只能有一个"),
        ("grounds: [R-GU-010]}", "grounds: [R-GU-019]}", "procedure.stages[2].outcomes.lapse.grounds[0]", "没有事由 R-GU-019"),
        ("{name: 退回, to", "{name: 退回, forms: [F1], to", "procedure.stages[0].outcomes.return", "由报送引起"),
        ("{name: 重新报送, to: review, by_filing: true}", "{name: 重新报送, to: review, by_filing: true, forms: [F9]}", "procedure.stages[1].outcomes.resubmit.forms[0]", "没有表 F9"),
        ("{working_days: 5}", "{by: DL-77}", "procedure.stages[1].within.by", "没有期限 DL-77"),
        ("form: F3, stages", "form: F9, stages", "duties[1].form", "没有表 F9"),
        ("form: F3, stages", "form: F1, stages", "duties[1].form", "表 F1 不是报告"),
        ("ground: R-GU-012}", "ground: R-GU-019}", "duties[2].ground", "没有事由 R-GU-019"),
        ("stages: [listed], quarterly", "stages: [list], quarterly", "duties[1].stages[0]", "没有阶段 list"),
        ("quarterly: true}", 'quarterly: true, yearly: "06-30"}', "duties[1]", "有且仅有一个"),
        ("after: entry, days: 30}", "after: entry}", "duties[3]", "必须同时出现"),
        ("{about: guild, period: [report_year]}", "{about: gild, period: [report_year]}", "forms[1].report.about", "没有名为 gild 的列"),
        ("R-GU-002, clause: 行会通知·一, severity: hard, text: 有固定的议事制度。, forms: [F1], judged_by: district", "R-GU-002, clause: 行会通知·一, severity: hard, text: 有固定的议事制度。, forms: [F1], judged_by: guild", "rules[1].judged_by", "没有办理者 guild"),
        ("{rule: R-GU-003, name: 示范行会", "{rule: R-GU-009, name: 示范行会", "targets[0].rule", "没有规则 R-GU-009"),
        ("form: F1, district", "form: F9, district", "given[0].form", "没有表 F9"),
        ("about: true, stages: [listed, ruling]", "about: true, stages: [listed, rule]", "targets[0].stages[1]", "没有阶段 rule"),
    ],
)  # fmt: skip
def test_a_mistake_in_it_is_told_with_its_place(old: str, new: str, where: str, says: str) -> None:
    assert [(place, says in why) for place, why in mistakes.told(FILE, old, new)] == [(where, True)]
