"""What a letter about a case says: which letter an event owes, to whom, and the values that it is written from.

Under which key a letter is owed is in `owed.py`, its wording in `letters/`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from shared.contracts.case import CaseChanged, CaseOpened
from shared.contracts.types import Party
from shared.notices.calendar import SHANGHAI
from shared.notices.directory import Directory
from shared.notices.model import Deadline, Form, Notice
from shared.notices.procedure import actor_name, who_acts
from shared.notices.stages import CLOCK, Duty, Outcome, Stage

Params = dict[str, Any]
"""JSON types only: the ledger keeps them until the letter is written."""

REPORTS = {"report": "in_time", "report_late": "late", "report_unowed": "unowed"}
TOLD = {*REPORTS, "missed", "raise", "fact", "score", "recount", "amend"}
"""Outcomes that review tells by itself; the stage stays what it was, and no procedure may name them."""

CHANGES_SHOWN = 12
HIDDEN = "（已修改）"
PERSONAL = {"contact", "phone", "phones", "email"}
"""Types of columns whose values are no business of a letter, whatever an event says."""


@dataclass(frozen=True, slots=True)
class Told:
    letter: str
    party: Party
    params: Params


def told(notice: Notice, change: CaseChanged, directory: Directory, at: datetime | None) -> list[Told]:
    """To the filer what the outcome says, to whoever must act next that a case waits.

    `at` is when it happened, as far as the caller knows.
    """
    stage = notice.procedure.by_id[change.stage]
    if change.outcome in REPORTS:
        return [_report(notice, change, directory)]
    if change.outcome == "missed":
        return _missed(notice, change, directory)
    if change.outcome == "raise":
        return _raised(notice, change, directory, stage, at)
    if change.outcome in ("fact", "score"):
        return []
    letter, basis = occasion(notice, change, stage)
    found = []
    if letter is not None:
        acts = stage if _filer_acts(notice, stage, letter) else None
        params = case_params(notice, change, directory, basis, acts)
        found.append(Told(letter, address_of(change.filer, directory), params))
    if change.outcome == "recount" and change.due is None:
        return found
    return found + _wanted(notice, change, directory, stage)


def _wanted(notice: Notice, change: CaseChanged, directory: Directory, stage: Stage) -> list[Told]:
    """The letter to the agency that must act now. The issuer gets none, it works from its lists."""
    code = _played(notice, change).get(stage.actor)
    if stage.ends or stage.actor in ("filer", "city") or code is None or code == notice.issuer:
        return []
    mine = [o for o in stage.outcomes.values() if who_acts(stage, o) == stage.actor and not o.by_filing]
    if stage.actor == "recommender":
        letter = "recommend_wanted"
    elif any("ground" not in o.needs for o in mine):
        letter = "action_wanted"
    else:
        # A title that stands, and could only be challenged: nobody waits for anything.
        return []
    role = notice.roles.get(stage.actor)
    basis = [of_stage(stage), *([clause(role.clause, "", role.name)] if role else [])]
    params = {
        **case_params(notice, change, directory, basis, stage),
        "role": actor_name(notice, stage.actor),
        "options": [o.name for o in mine],
        # What was decided before, and why, was told to the filer; who acts now judges afresh.
        "reason": "",
        "fixes": [],
    }
    return [Told(letter, _reached(code, change, directory), params)]


def _report(notice: Notice, change: CaseChanged, directory: Directory) -> Told:
    duty = notice.by_duty.get(change.duty or "")
    params = {
        **case_params(notice, change, directory, [of_duty(duty)] if duty else [], None),
        "how": REPORTS[change.outcome],
        "duty": duty.name if duty else None,
        "period": change.period,
    }
    return Told("report_received", address_of(change.filer, directory), params)


def _missed(notice: Notice, change: CaseChanged, directory: Directory) -> list[Told]:
    duty = notice.by_duty.get(change.duty or "")
    if duty is None or change.due is None:
        # Of a duty that the notice no longer names there is nothing to quote.
        return []
    form = notice.by_form.get(duty.form)
    report = form.report if form else None
    ground = notice.by_ground.get(duty.ground or "")
    basis = [of_duty(duty), *clauses(notice, [ground.id] if ground else [])]
    params = {
        **case_params(notice, change, directory, basis, None),
        "due": due_on(change.due, derived=duty.derived, provisional=False),
        "duty": duty.name,
        "period": change.period,
        "form": form_name(notice, duty.form),
        "about": _header(form, report.about) if report else None,
        "periods": [_header(form, key) for key in report.period] if report else [],
        "ground": ground.name if ground else None,
        "misses": duty.misses,
        "derived": duty.derived,
    }
    return [Told("duty_missed", address_of(change.filer, directory), params)]


def _raised(
    notice: Notice, change: CaseChanged, directory: Directory, stage: Stage, at: datetime | None
) -> list[Told]:
    """To whoever may propose what follows from a ground; to the issuer where nobody may at this stage."""
    played = _played(notice, change)
    may = [
        (played.get(who_acts(stage, o)), o.name)
        for o in stage.outcomes.values()
        if "ground" in o.needs and who_acts(stage, o) != CLOCK
    ]
    moves = next((o for o in stage.outcomes.values() if o.raised), None)
    params = case_params(notice, change, directory, clauses(notice, change.rules), None)
    params |= {
        "reason_name": "情况",
        "grounds": [notice.by_ground[g].name if g in notice.by_ground else g for g in change.rules],
        "since": at.astimezone(SHANGHAI).date().isoformat() if at else None,
        "moves_to": notice.procedure.by_id[moves.to].name if moves else None,
    }
    asked = params["ask"] != common(notice, directory)["ask"]
    agencies = dict.fromkeys(code for code, _ in may if code) or {notice.issuer: None}
    return [
        Told(
            "ground_raised",
            _reached(code, change, directory),
            {
                **params,
                "proposals": [name for one, name in may if one == code],
                # The issuer would be told to ask itself: the filer is whom the facts can be asked of.
                "ask": change.filer.name if code == notice.issuer and not asked else params["ask"],
            },
        )
        for code in agencies
    ]


def occasion(notice: Notice, change: CaseChanged, stage: Stage) -> tuple[str | None, list[Params]]:
    """The letter that the filer is owed, and what it rests on."""
    of_filing = filing_basis(notice, change.filer, change.district) or [of_stage(stage)]
    if isinstance(change, CaseOpened):
        return (None if change.package else "accepted"), of_filing
    if change.outcome == "amend":
        # The answer to a package tells of all its rows at once.
        return ("accepted" if change.changed and not change.package else None), of_filing
    found = _decision(notice, change)
    if found is None:
        return None, [of_stage(stage)]
    decided_in, outcome = found
    if outcome.by_filing and outcome.letter is None:
        # It answers a letter of its own, `returned`; so also what came in a package gets its receipt.
        return ("accepted" if change.changed else None), [of_stage(decided_in)]
    basis = clauses(notice, change.rules) or [
        clause(outcome.clause or decided_in.clause, decided_in.ref or "", decided_in.name, decided_in.derived)
    ]
    return outcome.letter, basis


def decisions(notice: Notice, outcome: str, to: str) -> list[tuple[Stage, Outcome]]:
    """Where an outcome of that name leads to that stage. A change of a case does not say where it came from."""
    found = ((stage, stage.outcomes.get(outcome)) for stage in notice.procedure.stages)
    return [(stage, one) for stage, one in found if one is not None and one.to == to]


def _decision(notice: Notice, change: CaseChanged) -> tuple[Stage, Outcome] | None:
    found = decisions(notice, change.outcome, change.stage)
    parts = {part for part, code in _played(notice, change).items() if code == change.actor}
    # Two stages may lead to one end by outcomes of one name; who decided tells them apart.
    return next(((s, o) for s, o in found if who_acts(s, o) in parts), found[0] if found else None)


def _played(notice: Notice, change: CaseChanged) -> dict[str, str | None]:
    """Who plays which part in this case: a district that recommends itself plays two."""
    return {
        "city": notice.issuer,
        "district": change.district,
        "recommender": change.recommender,
        "filer": change.filer.code,
        CLOCK: CLOCK,
        **{key: role.agency for key, role in notice.roles.items()},
    }


def _reached(code: str, change: CaseChanged, directory: Directory) -> Party:
    """An agency that acts in a case; one that filed it as well is reached where its filing says."""
    return address_of(change.filer, directory) if code == change.filer.code else party(code, directory)


def _filer_acts(notice: Notice, stage: Stage, letter: str) -> bool:
    """Whether the date of the stage is one that the filer must keep. A hearing may be the filer's own stage or
    run beside the work of another; either way its date is the filer's."""
    if letter == "hearing" and _opinion(notice, stage):
        return True
    return stage.actor == "filer" and stage.ends is None


# --- values ------------------------------------------------------------------------------------------


def case_params(
    notice: Notice, change: CaseChanged, directory: Directory, basis: list[Params], acts: Stage | None
) -> Params:
    """`acts` is the stage that waits for the reader. Only who must act is told a date: to anybody else
    it would read as a promise."""
    shared = common(notice, directory)
    stage = notice.procedure.by_id[change.stage]
    form = notice.by_form.get(change.form)
    by_clock = change.actor == CLOCK
    actor = notice.issuer if by_clock else change.actor
    filed = actor == change.filer.code
    decided_by = change.filer.name if filed else party(actor, directory).name
    derived = stage.within is None or stage.within.derived
    until = stage.within is not None and stage.within.validity
    found = _decision(notice, change)
    # An actor that the directory does not know has a code and no name: nobody could ask it anything.
    asked = not filed and actor != notice.issuer and directory.find(actor) is not None
    return {
        **shared,
        "case": {
            "id": str(change.case),
            "number": change.number,
            "title": change.title,
            "form": form_name(notice, change.form),
            "filer": change.filer.name,
        },
        "stage": stage.name,
        "closed": stage.ends is not None,
        "title": stage.listed or (form is not None and form.item_kind == "title"),
        "action": found[1].name if found else "",
        "by_clock": by_clock,
        "decided_by": decided_by,
        "decider": _decider(notice, change, directory, stage),
        "ask": decided_by if asked else shared["ask"],
        "reason": change.reason,
        "reason_name": "情况" if by_clock else "审核意见",
        "fixes": [_fix(form, fix.field, fix.detail) for fix in change.fixes],
        "clauses": basis,
        "late": change.late,
        "again": not isinstance(change, CaseOpened),
        "changes": [_change(form, c.field, c.before, c.after) for c in change.changed[:CHANGES_SHOWN]],
        "changes_total": len(change.changed),
        "due": due_on(change.due, derived=derived, provisional=change.provisional)
        if acts and change.due and not until
        else None,
        "valid_until": {"date": change.due.isoformat(), "derived": derived} if until and change.due else None,
        "opinion": _opinion(notice, stage),
        "yours": [o.name for o in stage.outcomes.values() if who_acts(stage, o) == "filer"]
        if stage.actor == "filer"
        else [],
        "after": _after(notice, stage),
        "duties": [_duty(duty) for duty in notice.duties if change.stage in duty.stages],
    }


def _decider(notice: Notice, change: CaseChanged, directory: Directory, stage: Stage) -> str:
    """Who decides what is proposed: who acts here or, where the filer is heard first, in the stage after."""
    ahead = [stage, *(notice.procedure.by_id[o.to] for o in stage.outcomes.values())]
    actor = next((s.actor for s in ahead if s.actor != "filer" and not s.ends), "city")
    return party(_played(notice, change).get(actor) or notice.issuer, directory).name


def _opinion(notice: Notice, stage: Stage) -> str:
    """What the filer's own statement is called in this stage. A step that ends the case is a withdrawal."""
    return next(
        (
            o.name
            for o in stage.outcomes.values()
            if who_acts(stage, o) == "filer" and not o.by_filing and not notice.procedure.by_id[o.to].ends
        ),
        "",
    )


def _after(notice: Notice, stage: Stage) -> str:
    """Where the end of the term leads by itself."""
    then = stage.outcomes.get(stage.within.then) if stage.within and stage.within.then else None
    return notice.procedure.by_id[then.to].name if then else ""


def _duty(duty: Duty) -> Params:
    return {
        "name": duty.name,
        "clause": duty.clause,
        "yearly": duty.yearly,
        "quarterly": duty.quarterly,
        "after": duty.after,
        "days": duty.days,
        "derived": duty.derived,
    }


def _fix(form: Form | None, field: str, detail: str) -> Params:
    column = form.by_key.get(field) if form else None
    return {
        "header": _header(form, field),
        "field": column.field if column else "",
        "detail": detail,
    }


def _change(form: Form | None, field: str, before: str, after: str) -> Params:
    types: set[str] = set()
    if form and field in form.by_key:
        types = {form.by_key[field].type}
    elif form and field in form.blocks:
        types = {column.type for column in form.blocks[field].columns}
    hidden = HIDDEN in (before, after) or bool(types & PERSONAL)
    return {
        "header": _header(form, field),
        "hidden": hidden,
        "before": "" if hidden else before,
        "after": "" if hidden else after,
    }


def _header(form: Form | None, key: str) -> str:
    """As the form prints it."""
    if form and key in form.by_key:
        return form.by_key[key].header
    if form and key in form.blocks:
        return form.blocks[key].title
    return "附件材料" if key == "files" else key


# --- what letters of any kind are made of ------------------------------------------------------------


def common(notice: Notice, directory: Directory) -> Params:
    """What every letter is given; the base template counts on each of these."""
    issuer = party(notice.issuer, directory).name
    return {
        "notice": notice.title,
        "number": notice.number,
        "issuer": issuer,
        "unit": notice.unit or "",
        "ask": issuer + (notice.unit or ""),
        "case": None,
        "reason": "",
        "reason_name": "审核意见",
        "clauses": [],
        "fixes": [],
        "changes": [],
        "changes_total": 0,
        "findings": [],
        "more": 0,
        "due": None,
    }


def address_of(filer: Party, directory: Directory) -> Party:
    """The address that was filed wins; without one, that of the directory."""
    if filer.email:
        return filer
    known = directory.find(filer.code)
    return filer.model_copy(update={"email": known.email if known else None})


def party(code: str, directory: Directory) -> Party:
    known = directory.find(code)
    if known is None:
        return Party(code=code, kind="K6", name=code)
    return Party(code=code, kind=known.kind, name=known.name, email=known.email)


def clauses(notice: Notice, ids: Sequence[str]) -> list[Params]:
    """Grounds and rules as the notice words them; a ground goes before the rule of the same id."""
    found = []
    for id_ in ids:
        if ground := notice.by_ground.get(id_):
            found.append(clause(ground.clause, id_, ground.name))
        elif rule := notice.by_rule.get(id_):
            found.append(clause(rule.clause, id_, rule.text, rule.derived))
        else:
            found.append(clause("", id_))
    return found


def clause(where: str, id_: str = "", text: str = "", derived: bool = False) -> Params:
    return {"clause": where, "id": id_, "text": text, "derived": derived}


def of_stage(stage: Stage) -> Params:
    return clause(stage.clause, stage.ref or "", stage.name, stage.derived)


def of_duty(duty: Duty) -> Params:
    return clause(duty.clause, duty.id, duty.name, duty.derived)


def filing_basis(notice: Notice, filer: Party, district: str) -> list[Params]:
    deadline = notice.filing_deadline(filer.kind, district)
    return [clause(deadline.clause, deadline.id, deadline.name, deadline.derived)] if deadline else []


def filing_due(notice: Notice, filer: Party, district: str) -> Params | None:
    deadline = notice.filing_deadline(filer.kind, district)
    return due_of(deadline) if deadline else None


def due_of(deadline: Deadline) -> Params:
    known = due_on(deadline.until or deadline.on, derived=deadline.derived, provisional=False)
    return {**known, "from": deadline.on.isoformat() if deadline.until else None}


def due_on(day: date, *, derived: bool, provisional: bool) -> Params:
    return {
        "date": day.isoformat(),
        "from": None,
        "derived": derived,
        "provisional": provisional,
        "rest_day": False,
    }


def form_name(notice: Notice, id_: str) -> str:
    form = notice.by_form.get(id_)
    return f"{form.annex} {notice.form_title(form)}" if form else id_
