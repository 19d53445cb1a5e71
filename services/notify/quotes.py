"""What letters of any kind are made of: who writes and who is written to, clauses as the notice words them, dates.

Which letter is owed is in `cases.py` and `owed.py`, the wording in `letters/`.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any

from shared.contracts.types import Party
from shared.notices.directory import Directory
from shared.notices.model import Deadline, Form, Notice, Rule
from shared.notices.procedure import who_acts
from shared.notices.stages import Duty, Stage

Params = dict[str, Any]
"""JSON types only: the ledger keeps them until the letter is written."""

RULES_SHOWN = 3


def common(notice: Notice, directory: Directory) -> Params:
    """What every letter about a notice is given."""
    issuer = party(notice.issuer, directory).name
    about = plain(notice.title, notice.number, issuer, notice.unit or "", issuer + (notice.unit or ""))
    return {**about, "notice_id": notice.id}


def plain(about: str, number: str | None, issuer: str, unit: str, ask: str) -> Params:
    """What every letter is given; the base template counts on each of these."""
    return {
        "notice": about,
        "number": number,
        "issuer": issuer,
        "unit": unit,
        "ask": ask,
        "case": None,
        "reason": "",
        "reason_name": "审核意见",
        "note": "",
        "clauses": [],
        "fixes": [],
        "changes": [],
        "changes_total": 0,
        "findings": [],
        "more": 0,
        "due": None,
        "dates": [],
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


def filed_elsewhere(notice: Notice, forms: Iterable[str]) -> list[Form]:
    """The forms, if all of them are ones that the filing date of the round does not bind: reports, which have dates
    of their own, and what continues a case that is open already."""
    known = [notice.by_form.get(id_) for id_ in dict.fromkeys(forms)]
    found = [form for form in known if form and (form.report or form.continues)]
    return found if len(found) == len(known) else []


def owed_by(notice: Notice, forms: Sequence[Form]) -> list[Duty]:
    """The duties that these forms fulfil."""
    return [duty for duty in notice.duties if duty.form in {form.id for form in forms}]


def basis_of(notice: Notice, forms: Sequence[Form]) -> list[Params]:
    """What such a filing rests on: its duty; the clause of the form itself where it has none."""
    found = [of_duty(duty) for duty in owed_by(notice, forms)]
    dutiful = {duty.form for duty in notice.duties}
    return found + [clause(f.clause, "", form_name(notice, f.id)) for f in forms if f.id not in dutiful]


def deadline_basis(notice: Notice, deadline: Deadline) -> list[Params]:
    """The rules that a deadline rests on: its own, then those of its clause that bind whom it binds."""
    mine = [r for r in notice.rules if r.clause == deadline.clause and _binds(notice, deadline, r)]
    strict = [r for r in mine if r.severity == "hard"]
    ids = dict.fromkeys([*([deadline.rule] if deadline.rule else []), *(r.id for r in strict or mine)])
    return clauses(notice, [*ids][:RULES_SHOWN]) or [clause(deadline.clause)]


def _binds(notice: Notice, deadline: Deadline, rule: Rule) -> bool:
    """Many rules share a clause with a date: what is ours, what is about other people's forms, and what the files
    of a package must be, say nothing of it."""
    about_files = rule.enforced_by == "package" or "facts.has_" in f"{rule.when} {rule.holds}"
    theirs = not rule.forms or any(notice.may_file(f, kind) for f in rule.forms for kind in deadline.kinds)
    return rule.severity != "info" and not rule.derived and not about_files and theirs


def filing_due(notice: Notice, filer: Party, district: str) -> Params | None:
    deadline = notice.filing_deadline(filer.kind, district)
    return due_of(deadline) if deadline else None


def duty_params(duty: Duty, stage: Stage | None = None) -> Params:
    """`since` is the step that the filer still has to take in this stage before the duty begins."""
    return {
        "name": duty.name,
        "clause": duty.clause,
        "yearly": duty.yearly,
        "quarterly": duty.quarterly,
        "after": duty.after,
        "days": duty.days,
        "since": _since(duty, stage) if stage else None,
        "derived": duty.derived,
    }


def _since(duty: Duty, stage: Stage) -> str | None:
    if stage.id in duty.stages:
        return None
    steps = (o for o in stage.outcomes.values() if who_acts(stage, o) == "filer" and o.to in duty.stages)
    return next((o.name for o in steps), None)


def duties_from(notice: Notice, stage: Stage) -> list[Params]:
    """What is owed from now on, or from the next step of the filer on."""
    return [
        duty_params(duty, stage) for duty in notice.duties if stage.id in duty.stages or _since(duty, stage)
    ]


def due_of(deadline: Deadline) -> Params:
    known = due_on(deadline.until or deadline.on, derived=deadline.derived, provisional=False)
    return {
        **known,
        "from": deadline.on.isoformat() if deadline.until else None,
        "at": deadline.at.isoformat("minutes") if deadline.at else None,
    }


def due_on(day: date, *, derived: bool, provisional: bool) -> Params:
    return {
        "date": day.isoformat(),
        "from": None,
        "at": None,
        "derived": derived,
        "provisional": provisional,
        "rest_day": False,
    }


def keep(what: str, due: Params, *about: object) -> Params:
    """A date for the reader's calendar. `about` names for ever what is due, so that a moved date replaces the one before,
    in whichever letters they stand."""
    known = {key: due[key] for key in ("date", "from", "at")}
    return {**known, "about": "/".join(map(str, about)), "what": what}


def settled(what: str, *about: object) -> Params:
    """What was due no longer is: the date goes from the reader's calendar."""
    return {"date": None, "from": None, "at": None, "about": "/".join(map(str, about)), "what": what}


def stamped(params: Params, at: datetime | None) -> Params:
    """Of two letters about one date the calendar believes that of the later occasion, also when it is written first.
    Without `at`, a reminder, the writing is the occasion."""
    return params | {"dates": [d | {"said": int(at.timestamp())} if at else d for d in params["dates"]]}


def form_name(notice: Notice, id_: str) -> str:
    form = notice.by_form.get(id_)
    if form is None:
        return id_
    title = notice.form_title(form)
    # A form that is no numbered annex is named by its title.
    return title if form.annex in title else f"{form.annex} {title}"
