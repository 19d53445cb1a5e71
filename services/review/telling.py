"""What the others are told of a step: the state of its case and all that it waits for.

What happens to a case is not here: that is `decide.py`, `duties.py` and `panel.py`.
"""

from collections.abc import Collection, Iterator
from datetime import date
from typing import Any

from services.review.case import Case, Said, Step
from shared.contracts import registry
from shared.contracts.case import (
    Awaited,
    CaseChanged,
    CaseMoved,
    CaseOpened,
    CasePublished,
    FilerTold,
)
from shared.contracts.registry import EventType

SAYS: dict[Said, EventType] = {
    "opened": registry.CASE_OPENED,
    "advanced": registry.CASE_ADVANCED,
    "returned": registry.CASE_RETURNED,
    "closed": registry.CASE_CLOSED,
    "published": registry.CASE_PUBLISHED,
}


def changed(step: Step) -> CaseChanged:
    case = step.case
    payload = SAYS[step.says].payload
    more: dict[str, Any] = {}
    if payload is CasePublished:
        more = {"item_kind": case.item_kind, "values": case.values, "filed": case.filed}
    elif payload is CaseOpened:
        more = {"counts": step.counts, "filed": case.filed}
    told: CaseChanged = payload.model_construct(
        case=case.case,
        number=case.number,
        version=case.version,
        notice=case.notice,
        form=case.form,
        stage=case.stage,
        outcome=step.outcome,
        actor=step.actor,
        filer=case.filer,
        recommender=case.recommender,
        unit=case.unit,
        district=case.district,
        title=case.title,
        late=case.late,
        reason=step.reason,
        rules=step.rules,
        acknowledges=step.acknowledges,
        fixes=step.fixes,
        # Of a duty that was missed, its own day: the stage's may be years away.
        due=date.fromisoformat(step.data["due"]) if step.outcome == "missed" else case.due,
        provisional=case.provisional,
        package=case.package,
        changed=step.changed,
        duty=step.duty,
        period=step.period,
        score=case.score,
        awaits=tuple(_awaited(case)),
        **more,
    )  # type: ignore[assignment]
    return told


def moved(told: CaseChanged) -> CaseMoved:
    """The part of it that is for systems of others."""
    filer = FilerTold.model_construct(code=told.filer.code, name=told.filer.name)
    return CaseMoved.model_construct(
        **{name: getattr(told, name) for name in CaseMoved.model_fields if name != "filer"},
        filer=filer,
    )


def listeners(case: Case, issuer: str, listening: Collection[str]) -> Iterator[str]:
    """Of the agencies whose systems listen: the issuer, the department of the district, whoever recommends it."""
    if not listening:
        return
    yield from sorted({issuer, case.district, case.recommender or issuer} & set(listening))


def _awaited(case: Case) -> Iterator[Awaited]:
    if case.began and case.due:
        yield Awaited.model_construct(began=case.began, due=case.due, provisional=case.provisional)
    for one in case.owed:
        if one.state == "owed":
            yield Awaited.model_construct(
                duty=one.duty, period=one.period, began=one.began, due=one.due, provisional=one.provisional
            )
