"""Every stage × every outcome × every actor of the collection's procedure, and what a decision needs and leaves."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.review.case import Case, Step
from services.review.decide import decide, file_again, open_case
from shared.contracts.case import DecisionMade, Fix
from shared.contracts.problem import Problem
from shared.contracts.submission import SubmissionAccepted
from shared.contracts.types import Finding, Party
from shared.notices.calendar import Calendar
from shared.notices.load import load

FILE = Path(__file__).parents[2] / "shared/notices/data/gz-collection-2025q1.yaml"
NOTICE = load(FILE).notice
CALENDAR = Calendar.load()
AT = datetime(2025, 3, 6, 2, 0, tzinfo=UTC)  # a Thursday, ten in the morning in Guangzhou
ID = UUID("0b6a7c1e-2f4d-5a89-9c3e-7d1f60a2b845")

FILER, DISTRICT, OTHER_DISTRICT, CITY = "k6-0123456789abcdef", "440106", "440103", "440100"
ACTORS = (FILER, DISTRICT, OTHER_DISTRICT, CITY)
STAGES = tuple(NOTICE.procedure.by_id)
OUTCOMES = sorted({o for s in NOTICE.procedure.stages for o in s.outcomes} | {"file", "amend", "nonsense"})

# Who may do what where, and where it leads: written out, not read from the notice.
ALLOWED = {
    ("recommendation", "recommend", DISTRICT): ("formal_check", "advanced"),
    ("recommendation", "return", DISTRICT): ("correction_for_recommender", "returned"),
    ("recommendation", "reject", DISTRICT): ("rejected", "closed"),
    ("recommendation", "withdraw", FILER): ("withdrawn", "closed"),
    ("correction_for_recommender", "withdraw", FILER): ("withdrawn", "closed"),
    ("formal_check", "accept", CITY): ("selection", "advanced"),
    ("formal_check", "return", CITY): ("correction", "returned"),
    ("formal_check", "reject", CITY): ("rejected", "closed"),
    ("formal_check", "withdraw", FILER): ("withdrawn", "closed"),
    ("correction", "withdraw", FILER): ("withdrawn", "closed"),
    ("selection", "select", CITY): ("publication", "advanced"),
    ("selection", "decline", CITY): ("not_selected", "closed"),
    ("selection", "withdraw", FILER): ("withdrawn", "closed"),
    ("publication", "publish", CITY): ("published", "published"),
    ("publication", "withdraw", FILER): ("withdrawn", "closed"),
}
ENDS = ("published", "rejected", "not_selected", "withdrawn")


def finding(rule: str, severity: Any = "soft") -> Finding:
    return Finding(rule=rule, code=rule, severity=severity, clause="征集通知·二·1", detail=f"{rule} 的说明")


def filing(**more: Any) -> SubmissionAccepted:
    fields: dict[str, Any] = {
        "case": ID,
        "number": "F3-1DN7R7HF",
        "revision": 1,
        "notice": NOTICE.id,
        "form": "F3",
        "filer": Party(code=FILER, kind="K6", name="某机构"),
        "recommender": DISTRICT,
        "unit": DISTRICT,
        "district": DISTRICT,
        "direction": "D05",
        "item_kind": "activity",
        "title": "讲座",
        "values": {"activity_name": "讲座", "contact": {"name": "张三", "phones": ["02083726619"]}},
        "findings": (),
        "late": False,
        "received": AT,
        "package": None,
        "counts": ("direction_items",),
    }
    return SubmissionAccepted(**{**fields, **more})


def case(stage: str = "formal_check", **more: Any) -> Case:
    opened = open_case(NOTICE, filing(), AT, CALENDAR).case
    return replace(opened, stage=stage, version=4, **more)


def decision(outcome: str, **more: Any) -> DecisionMade:
    fixes = (Fix(field="contact", detail="请补充"),) if outcome == "return" else ()
    return DecisionMade(**{"case": ID, "outcome": outcome, "reason": "理由", "fixes": fixes, **more})


def done(result: Step | Problem | None) -> Step:
    assert isinstance(result, Step), result
    return result


def refused(result: Step | Problem) -> tuple[str, int]:
    assert isinstance(result, Problem), result
    return result.type.rsplit(":", 1)[1], result.status


# --- the whole table ---------------------------------------------------------------------------------


def test_the_table_names_every_stage() -> None:
    """The negative control of what follows: were a stage missing, its outcomes would never be tried."""
    assert {stage for stage, _, _ in ALLOWED} | set(ENDS) == set(STAGES)


@pytest.mark.parametrize("actor", ACTORS)
@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("stage", STAGES)
def test_every_actor_every_outcome_every_stage(stage: str, outcome: str, actor: str) -> None:
    before = case(stage)
    result = decide(NOTICE, before, decision(outcome), actor, AT, CALENDAR)
    wanted = ALLOWED.get((stage, outcome, actor))
    if wanted is None:
        # Who plays no part in the case learns nothing of it, not even what there is to decide.
        exists = any((stage, outcome, a) in ALLOWED for a in ACTORS) or actor == OTHER_DISTRICT
        assert refused(result) == (("authority", 403) if exists else ("procedure", 409))
        return
    step = done(result)
    assert (step.case.stage, step.says) == wanted
    assert step.case.version == before.version + 1
    assert (step.actor, step.outcome, step.reason, step.at) == (actor, outcome, "理由", AT)
    # Nothing else of the case changes by a decision.
    unchanged: dict[str, Any] = {
        "stage": stage,
        "version": 4,
        "began": before.began,
        "due": before.due,
        "provisional": before.provisional,
    }
    assert replace(step.case, **unchanged) == before


@pytest.mark.parametrize("stage", STAGES)
def test_a_case_without_a_recommender_belongs_to_no_district(stage: str) -> None:
    alone = case(stage, recommender=None, unit=FILER, district=CITY)
    for outcome in OUTCOMES:
        for actor in (DISTRICT, OTHER_DISTRICT, ""):
            assert isinstance(decide(NOTICE, alone, decision(outcome), actor, AT, CALENDAR), Problem)


def test_a_district_that_files_itself_does_not_recommend_itself() -> None:
    """Without a recommender of its own it goes straight to the city."""
    step = open_case(
        NOTICE,
        filing(recommender=None, filer=Party(code=DISTRICT, kind="K2", name="天河区商务金融局")),
        AT,
        CALENDAR,
    )
    assert step.case.stage == "formal_check"
    result = decide(NOTICE, step.case, decision("accept"), DISTRICT, AT, CALENDAR)
    assert refused(result) == ("authority", 403)


def test_another_district_learns_nothing_of_the_case() -> None:
    result = decide(NOTICE, case("recommendation"), decision("recommend"), OTHER_DISTRICT, AT, CALENDAR)
    assert refused(result) == ("authority", 403)
    assert isinstance(result, Problem)
    told = result.model_dump_json()
    for private in (DISTRICT, FILER, "讲座", "天河", "recommendation", "F3-1DN7R7HF"):
        assert private not in told


# --- what a decision needs ---------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "actor"), [("recommendation", DISTRICT), ("formal_check", CITY)])
def test_a_return_says_what_to_fix(stage: str, actor: str) -> None:
    without = decide(NOTICE, case(stage), decision("return", fixes=()), actor, AT, CALENDAR)
    assert refused(without) == ("incomplete", 422)
    assert [(e.code, e.pointer) for e in without.errors] == [("fixes", "#/data/fixes")]  # type: ignore[union-attr]
    fixes = (Fix(field="contact", detail="请补充"), Fix(field="files", detail="请附盖章扫描件"))
    step = done(decide(NOTICE, case(stage), decision("return", fixes=fixes), actor, AT, CALENDAR))
    assert step.fixes == fixes


def test_a_fix_names_a_column_of_the_form() -> None:
    fixes = (Fix(field="contact", detail="x"), Fix(field="no_such_column", detail="x"))
    result = decide(NOTICE, case(), decision("return", fixes=fixes), CITY, AT, CALENDAR)
    assert isinstance(result, Problem)
    assert [(e.code, e.pointer) for e in result.errors] == [("fixes.field", "#/data/fixes")]
    assert "no_such_column" in result.detail
    assert "activity_name、activity_time、contact" in result.detail


OVER = (finding("R-COL-010"), finding("R-COL-019"), finding("R-COL-014", "info"))


@pytest.mark.parametrize(
    ("acknowledges", "missing"),
    [
        ((), ["R-COL-010", "R-COL-019"]),
        (("R-COL-010",), ["R-COL-019"]),
        (("R-COL-013",), ["R-COL-010", "R-COL-019"]),
        (("R-COL-019", "R-COL-010"), []),
        (("R-COL-019", "R-COL-010", "R-COL-999"), []),
    ],
)
def test_soft_findings_are_acknowledged_before_acceptance(
    acknowledges: tuple[str, ...], missing: list[str]
) -> None:
    """T-COL-05: the quota's waiver (R-COL-013) is the city's acknowledgement of R-COL-010."""
    result = decide(
        NOTICE, case(findings=OVER), decision("accept", acknowledges=acknowledges), CITY, AT, CALENDAR
    )
    if not missing:
        assert done(result).acknowledges == acknowledges
        assert done(result).case.stage == "selection"
        return
    assert isinstance(result, Problem)
    assert refused(result) == ("incomplete", 422)
    assert [e.detail for e in result.errors] == [f"须先确认或放宽 {r}（{r} 的说明）" for r in missing]
    assert {e.pointer for e in result.errors} == {"#/data/acknowledges"}


@pytest.mark.parametrize("outcome", ["return", "reject"])
def test_only_acceptance_needs_acknowledgement(outcome: str) -> None:
    done(decide(NOTICE, case(findings=OVER), decision(outcome), CITY, AT, CALENDAR))


def test_a_recommendation_passes_warnings_on_to_the_city() -> None:
    done(decide(NOTICE, case("recommendation", findings=OVER), decision("recommend"), DISTRICT, AT, CALENDAR))


@pytest.mark.parametrize("version", [0, 3, 5])
def test_a_decision_on_another_version_is_refused(version: int) -> None:
    result = decide(NOTICE, case(), decision("accept", version=version), CITY, AT, CALENDAR)
    assert refused(result) == ("version", 409)


@pytest.mark.parametrize("version", [None, 4])
def test_a_decision_on_this_version_or_on_any_is_made(version: int | None) -> None:
    done(decide(NOTICE, case(), decision("accept", version=version), CITY, AT, CALENDAR))


def test_a_decision_keeps_rules_and_officer() -> None:
    made = decision("accept", rules=("R-COL-003",), officer="A012")
    step = done(decide(NOTICE, case(), made, CITY, AT, CALENDAR))
    assert (step.rules, step.officer) == (("R-COL-003",), "A012")


# --- filing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("recommender", "stage"), [(DISTRICT, "recommendation"), (None, "formal_check")])
def test_a_case_opens_where_the_procedure_begins(recommender: str | None, stage: str) -> None:
    step = open_case(NOTICE, filing(recommender=recommender), AT, CALENDAR)
    assert (step.says, step.actor, step.outcome) == ("opened", FILER, "file")
    assert (step.case.stage, step.case.version, step.case.revision) == (stage, 1, 1)
    assert (step.case.filed, step.case.due) == (AT, None)
    assert step.counts == ("direction_items",)


AGAIN = filing(
    revision=2,
    title="讲座（改）",
    values={"activity_name": "讲座（改）"},
    findings=(finding("R-COL-040"),),
    direction="D01",
    item_kind="product",
    late=True,
    package="p-2",
)


@pytest.mark.parametrize(
    ("stage", "after", "outcome"),
    [
        ("correction_for_recommender", "recommendation", "resubmit"),
        ("correction", "formal_check", "resubmit"),
        ("recommendation", "recommendation", "amend"),
        ("formal_check", "formal_check", "amend"),
    ],
)
def test_a_later_filing_goes_back_to_whoever_returned_it_and_keeps_the_number(
    stage: str, after: str, outcome: str
) -> None:
    before = case(stage)
    step = done(file_again(NOTICE, before, AGAIN, AT, CALENDAR))
    assert (step.says, step.actor, step.outcome) == ("advanced", FILER, outcome)
    assert step.case == replace(
        before,
        stage=after,
        version=5,
        revision=2,
        title="讲座（改）",
        values={"activity_name": "讲座（改）"},
        findings=(finding("R-COL-040"),),
        direction="D01",
        item_kind="product",
        late=True,
        package="p-2",
    )
    assert step.case.number == before.number


@pytest.mark.parametrize("stage", [*ENDS, "selection", "publication"])
def test_an_ended_case_and_one_whose_content_was_approved_take_no_filing(stage: str) -> None:
    assert file_again(NOTICE, case(stage), AGAIN, AT, CALENDAR) is None


@pytest.mark.parametrize("stage", STAGES)
def test_a_filing_that_the_case_knows_changes_nothing(stage: str) -> None:
    assert file_again(NOTICE, case(stage, revision=2), AGAIN, AT, CALENDAR) is None
    assert file_again(NOTICE, case(stage, revision=3), AGAIN, AT, CALENDAR) is None


def test_once_late_is_late() -> None:
    step = done(file_again(NOTICE, case("correction", late=True), replace_late(AGAIN), AT, CALENDAR))
    assert step.case.late is True


def replace_late(filed: SubmissionAccepted) -> SubmissionAccepted:
    return filed.model_copy(update={"late": False})


# --- time --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "due", "provisional"),
    [
        # Five working days, the day itself not counted; Guangzhou's date, not that of UTC.
        (datetime(2025, 3, 6, 2, 0, tzinfo=UTC), date(2025, 3, 13), False),
        (datetime(2025, 3, 6, 15, 59, tzinfo=UTC), date(2025, 3, 13), False),
        (datetime(2025, 3, 6, 16, 0, tzinfo=UTC), date(2025, 3, 14), False),
        # Over May Day 2025 (1–5 May off, Sunday 27 April worked).
        (datetime(2025, 4, 25, 2, 0, tzinfo=UTC), date(2025, 5, 6), False),
        # Into a year whose arrangement is not published.
        (datetime(2026, 12, 30, 2, 0, tzinfo=UTC), date(2027, 1, 7), True),
    ],
)
def test_a_correction_has_five_working_days(at: datetime, due: date, provisional: bool) -> None:
    step = done(decide(NOTICE, case(), decision("return"), CITY, at, CALENDAR))
    assert (step.case.due, step.case.provisional) == (due, provisional)


def test_a_stage_without_a_limit_has_no_due_date() -> None:
    step = done(file_again(NOTICE, case("correction", due=date(2025, 3, 13)), AGAIN, AT, CALENDAR))
    assert (step.case.due, step.case.provisional) == (None, False)


# --- the chain ---------------------------------------------------------------------------------------


def story() -> list[dict[str, Any]]:
    """The history of one case from filing to publication, as it is stored."""
    opened = open_case(NOTICE, filing(), AT, CALENDAR)
    # As before there was a publisher: its hash must stay what it was.
    steps = [replace(opened, cause="e-0")]
    for outcome, actor in (
        ("recommend", DISTRICT),
        ("accept", CITY),
        ("select", CITY),
        ("publish", CITY),
    ):
        made = done(decide(NOTICE, steps[-1].case, decision(outcome), actor, AT, CALENDAR))
        steps.append(replace(made, cause=f"e-{len(steps)}", key=UUID(int=len(steps)), publisher=actor))
    lines: list[dict[str, Any]] = []
    for step in steps:
        lines.append(step.line(lines[-1]["hash"] if lines else ""))
    return lines


def broken(lines: list[dict[str, Any]]) -> int | None:
    """The first line whose hash does not follow from it and the line before. Written anew, on purpose."""
    previous = ""
    for n, line in enumerate(lines):
        row = {k: v for k, v in line.items() if k != "hash" and (k not in ("data", "key", "publisher") or v)}
        text = json.dumps([previous, row], sort_keys=True, ensure_ascii=False)
        if sha256(text.encode()).hexdigest() != line["hash"]:
            return n
        previous = line["hash"]
    return None


def test_the_chain_verifies_and_says_the_same_again() -> None:
    assert broken(story()) is None
    assert story() == story()
    assert [line["version"] for line in story()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("field", [f for f in story()[0] if f != "hash"])
def test_a_changed_field_is_found_where_it_was_changed(field: str) -> None:
    lines = story()
    lines[2] = {**lines[2], field: "tampered"}
    assert broken(lines) == 2


def test_a_removed_or_exchanged_line_is_found() -> None:
    lines = story()
    assert broken(lines[:1] + lines[2:]) == 1
    assert broken([lines[0], lines[2], lines[1], *lines[3:]]) == 1
    # Made consistent in itself, a line still breaks the one after it.
    forged = {**lines[1], "reason": "tampered"}
    row = {k: v for k, v in forged.items() if k != "hash" and (k != "data" or v)}
    text = json.dumps([lines[0]["hash"], row], sort_keys=True, ensure_ascii=False)
    forged["hash"] = sha256(text.encode()).hexdigest()
    assert broken([lines[0], forged, *lines[2:]]) == 2
