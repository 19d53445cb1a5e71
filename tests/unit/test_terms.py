"""What time does to a case: terms that end by themselves, are interrupted, go on, begin anew; and who plays which
role. On the notice of an invented city, so that nothing of it can be in the code."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from services.review.case import Case, Step
from services.review.decide import at_term, decide, file_again, open_case, recount
from shared.contracts.case import DecisionMade
from shared.contracts.problem import Problem
from shared.contracts.submission import SubmissionAccepted
from shared.contracts.types import Party
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.load import load
from shared.notices.procedure import draw
from tests import mistakes

FILE = Path(__file__).parents[1] / "examples/yongping/yongping-workshops-2026.yaml"
NOTICE = load(FILE).notice
CALENDAR = Calendar.load()
FILER, STREET, DISTRICT, CITY, HEAD = "k6-abc", "street-01", "990101", "990100", "head-01"
ID = UUID(int=7)
MONDAY = datetime(2026, 3, 2, 2, tzinfo=UTC)


def filed(revision: int = 1) -> SubmissionAccepted:
    return SubmissionAccepted(
        case=ID, number="F1-X", revision=revision, notice=NOTICE.id, form="F1",
        filer=Party(code=FILER, kind="K6", name="某工坊"), unit=FILER, district=DISTRICT, direction="D01",
        item_kind="product", title="工坊", values={"workshop": "工坊", "n": revision}, findings=(), late=False,
        received=MONDAY,
    )  # fmt: skip


def at(day: str, hour: int = 10) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), SHANGHAI) + timedelta(hours=hour)


def decided(case: Case, outcome: str, actor: str, when: datetime, *rules: str) -> Step | Problem:
    decision = DecisionMade(case=ID, outcome=outcome, reason="理由", rules=rules)
    return decide(NOTICE, case, decision, actor, when, CALENDAR)


def moved(case: Case, outcome: str, actor: str, when: datetime, *rules: str) -> Case:
    step = decided(case, outcome, actor, when, *rules)
    assert isinstance(step, Step), step
    return step.case


def refused(result: Step | Problem) -> str:
    assert isinstance(result, Problem)
    return result.type.rsplit(":", 1)[1]


def opened() -> Case:
    return open_case(NOTICE, filed(), MONDAY, CALENDAR).case


def on_notice() -> Case:
    """In public notice from Tuesday, 3 March 2026: five working days end on Tuesday the 10th."""
    case = moved(opened(), "pass", STREET, MONDAY)
    return moved(case, "propose", DISTRICT, at("2026-03-03"))


def recognised() -> Case:
    step = at_term(NOTICE, on_notice(), CALENDAR)
    assert step
    return step.case


# --- who --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "outcome", "right"),
    [
        (opened(), "pass", STREET),
        (moved(opened(), "pass", STREET, MONDAY), "propose", DISTRICT),
        (on_notice(), "object", CITY),
        (recognised(), "propose", HEAD),
        (moved(recognised(), "propose", HEAD, at("2026-06-01"), "R-YP-010"), "state", FILER),
    ],
    ids=lambda v: v.stage if isinstance(v, Case) else str(v),
)
def test_each_role_is_played_by_one_agency(case: Case, outcome: str, right: str) -> None:
    for actor in (FILER, STREET, DISTRICT, CITY, HEAD, "990102", "clock", ""):
        result = decided(case, outcome, actor, at("2026-06-02"), "R-YP-010")
        assert isinstance(result, Step) if actor == right else refused(result) == "authority"


@pytest.mark.parametrize("actor", [CITY, "clock"])
def test_nobody_plays_the_clock(actor: str) -> None:
    assert refused(decided(on_notice(), "recognise", actor, at("2026-03-05"))) == "authority"


@pytest.mark.parametrize(
    ("rules", "enough"),
    [((), False), (("R-YP-001",), False), (("R-YP-012",), True), (("R-YP-001", "R-YP-011"), True)],
)
def test_a_proposal_names_a_ground_of_the_notice(rules: tuple[str, ...], enough: bool) -> None:
    result = decided(recognised(), "propose", HEAD, at("2026-06-01"), *rules)
    if enough:
        assert isinstance(result, Step)
        return
    assert isinstance(result, Problem)
    assert "R-YP-011 停止经营六个月" in result.errors[0].detail


# --- when -------------------------------------------------------------------------------------------


def test_a_term_ends_with_its_last_day() -> None:
    case = on_notice()
    assert case.due == date(2026, 3, 10)
    assert case.wakes == at("2026-03-11", 0)
    step = at_term(NOTICE, case, CALENDAR)
    assert step
    assert (step.actor, step.outcome, step.says, step.at) == ("clock", "recognise", "published", case.wakes)
    assert step.case.stage == "recognised"


def test_a_validity_is_counted_from_when_it_was_due_and_ends_on_its_day() -> None:
    """However late anybody looked; and not moved to a working day: 2028-03-11 is a Saturday."""
    case = recognised()
    assert case.entered == at("2026-03-11", 0)
    assert case.due == date(2028, 3, 11)
    assert not CALENDAR.is_working_day(date(2028, 3, 11))
    lapsed = at_term(NOTICE, case, CALENDAR)
    assert lapsed
    assert (lapsed.case.stage, lapsed.says, lapsed.case.wakes) == ("lapsed", "closed", None)


def test_what_must_be_done_within_a_month_may_be_done_on_the_next_working_day() -> None:
    """From 2 March a month ends on 2 April 2026; from 4 April on 4 May, in the holidays, so on the 6th."""
    assert moved(opened(), "pass", STREET, MONDAY).due == date(2026, 4, 2)
    case = moved(opened(), "pass", STREET, at("2026-04-04"))
    assert case.due == date(2026, 5, 6)


def test_a_stage_without_a_term_waits_for_ever() -> None:
    case = opened()
    assert (case.due, case.wakes, at_term(NOTICE, case, CALENDAR)) == (None, None, None)


def test_an_objection_stops_the_notice_which_then_goes_on_to_its_old_date() -> None:
    case = moved(on_notice(), "object", CITY, at("2026-03-09"))
    assert (case.stage, case.wakes, case.paused) == ("objection", None, date(2026, 3, 3))
    assert at_term(NOTICE, case, CALENDAR) is None
    back = moved(case, "dismiss", CITY, at("2026-04-01"))
    assert (back.stage, back.due, back.paused) == ("notice", date(2026, 3, 10), None)
    step = at_term(NOTICE, back, CALENDAR)
    assert step
    assert step.case.stage == "recognised"


def test_a_hearing_does_not_lengthen_a_validity() -> None:
    case = moved(recognised(), "propose", HEAD, at("2027-01-04"), "R-YP-011")
    assert case.due == date(2027, 1, 14)
    ruling = at_term(NOTICE, case, CALENDAR)  # it says nothing for ten days
    assert ruling
    assert (ruling.case.stage, ruling.says) == ("ruling", "advanced")
    kept = moved(ruling.case, "keep", CITY, at("2027-02-01"))
    assert (kept.stage, kept.due) == ("recognised", date(2028, 3, 11))
    gone = decided(ruling.case, "revoke", CITY, at("2027-02-01"), "R-YP-011")
    assert isinstance(gone, Step)
    assert (gone.case.stage, gone.says, gone.rules) == ("revoked", "closed", ("R-YP-011",))


def test_a_renewal_begins_where_the_old_term_ends() -> None:
    case = moved(recognised(), "renew", CITY, at("2027-12-01"))
    assert (case.stage, case.due) == ("recognised", date(2030, 3, 11))


def test_what_is_on_the_list_is_frozen() -> None:
    case = recognised()
    assert file_again(NOTICE, case, filed(2), at("2026-06-01"), CALENDAR) is None
    amended = file_again(NOTICE, on_notice(), filed(2), at("2026-03-04"), CALENDAR)
    assert amended
    # An amendment is no new beginning.
    assert (amended.outcome, amended.case.due, amended.case.entered) == (
        "amend",
        on_notice().due,
        on_notice().entered,
    )


def test_a_date_is_counted_again_when_the_calendar_is_known(tmp_path: Path) -> None:
    """Over the new year of 2029, whose arrangement nobody knows yet, and then a file of it arrives."""
    case = moved(opened(), "pass", STREET, at("2028-12-25"))
    case = moved(case, "propose", DISTRICT, at("2028-12-28"))
    assert case.provisional
    assert recount(NOTICE, case, at("2028-12-29"), CALENDAR) is None
    later = replace(case, due=date(2029, 1, 3), wakes=None)
    step = recount(NOTICE, later, at("2028-12-29"), CALENDAR)
    assert step
    assert (step.case.due, step.case.stage, step.outcome) == (case.due, "notice", "recount")
    assert step.case.version == later.version + 1


# --- the file ---------------------------------------------------------------------------------------


def test_it_draws() -> None:
    drawn = draw(NOTICE)
    assert 'state "公示（5个工作日）" as notice' in drawn
    assert 'state "听取意见（10日）" as hearing' in drawn
    assert "street --> approval: 通过（街道办事处）" in drawn
    assert "recognised --> lapsed: 有效期满（期限届满）" in drawn


@pytest.mark.parametrize(
    ("old", "new", "where", "says"),
    [
        ("actor: street", "actor: stret", "procedure.stages[0].actor", "没有办理者 stret"),
        ("then: recognise", "then: recognize", "procedure.stages[2].within.then", "没有结果 recognize"),
        ("to: rejected, actor: clock}", "to: rejected}", "procedure.stages[1].outcomes.lapse.actor", "期限届满"),
        ("name: 提出异议, to", "name: 提出异议, actor: clock, to", "procedure.stages[2].outcomes.object.actor", "期限届满"),
        ("{working_days: 5, then", "{working_days: 5, days: 2, then", "procedure.stages[2].within", "有且仅有一个"),
        ("{years: 2, validity", "{working_days: 2, validity", "procedure.stages[4].within", "不按工作日"),
        ("to: ruling, actor: clock}", "to: ruling, actor: clock, term: resumes}", "procedure.stages[5].outcomes.silent.term", "没有期限"),
        ("  head: {", "  city: {", "roles.city", "固有的办理者"),
        ("id: R-YP-011", "id: R-YP-010", "grounds[1].id", "出现了两次"),
    ],
)  # fmt: skip
def test_a_mistake_in_it_is_told_with_its_place(old: str, new: str, where: str, says: str) -> None:
    assert any(place == where and says in why for place, why in mistakes.told(FILE, old, new))
