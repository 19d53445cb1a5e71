"""What a letter about a case says: which letter an event owes, to whom, and the values that it is written from.

Under which key a letter is owed is in `owed.py`, its wording in `letters/`; what letters of any kind are made of
is in `quotes.py`.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.notify.quotes import (
    Params,
    address_of,
    clause,
    clauses,
    common,
    due_on,
    duties_from,
    filing_basis,
    form_name,
    keep,
    of_duty,
    of_stage,
    party,
    settled,
)
from services.notify.reminders import Occasion
from shared.contracts.case import CaseChanged, CaseOpened
from shared.contracts.types import Party
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.directory import Directory
from shared.notices.model import Form, Notice
from shared.notices.procedure import actor_name, who_acts
from shared.notices.stages import CLOCK, Duty, Outcome, Stage

REPORTS = {"report": "in_time", "report_late": "late", "report_unowed": "unowed"}
TOLD = {*REPORTS, "missed", "raise", "fact", "score", "recount", "amend"}
"""Outcomes that review tells by itself; the stage stays what it was, and no procedure may name them."""

OF_A_TITLE = {
    "duty_missed",
    "report_received",
    "hearing",
    "revocation_proposed",
    "revoked",
    "kept",
    "renewed",
}
"""Letters about a title that stands, or stood: somebody in its district must act on them."""

CHANGES_SHOWN = 12
HIDDEN = "（已修改）"


@dataclass(frozen=True, slots=True)
class Told:
    letter: str
    party: Party
    params: Params
    hold: bool = False


def told(notice: Notice, change: CaseChanged, directory: Directory, at: datetime | None) -> list[Told]:
    """To the filer what the outcome says, to whoever must act next that a case waits.

    `at` is when it happened, as far as the caller knows.
    """
    found = [_to_the_district(one, notice, change, directory) for one in _told(notice, change, directory, at)]
    asked = common(notice, directory)["ask"]
    # Nobody is told to ask itself what it does not know.
    return [
        replace(one, params={**one.params, "ask": asked}) if one.params["ask"] == one.party.name else one
        for one in found
    ]


def _to_the_district(one: Told, notice: Notice, change: CaseChanged, directory: Directory) -> Told:
    """What the notice itself brought in, the issuer filed in name only: the department of the district keeps it,
    reports on it, and could not know what the issuer is told."""
    department = directory.find(change.district)
    given = change.filer.code == notice.issuer and department is not None
    if not given or one.letter not in OF_A_TITLE or one.party.code != notice.issuer:
        return one
    # A statement in the system is the filer's own to make.
    params = {**one.params, "whose": "通知列入的本区项目", "opinion": ""}
    return replace(one, party=party(change.district, directory), params=params)


def _told(notice: Notice, change: CaseChanged, directory: Directory, at: datetime | None) -> list[Told]:
    stage = notice.procedure.by_id[change.stage]
    if change.outcome in REPORTS:
        return [_report(notice, change, directory)]
    if change.outcome == "missed":
        return _missed(notice, change, directory, stage)
    if change.outcome == "raise":
        return _raised(notice, change, directory, stage, at)
    if change.outcome in ("fact", "score"):
        return []
    letter, basis = occasion(notice, change, stage)
    found = []
    if letter is not None:
        acts = stage if _filer_acts(notice, stage, letter) else None
        params = case_params(notice, change, directory, basis, acts)
        params["dates"] += _over(notice, change, change.filer.code)
        decided = _decision(notice, change)
        hold = decided is not None and decided[1].hold
        found.append(Told(letter, address_of(change.filer, directory), params, hold))
    if change.outcome == "recount" and change.due is None:
        return found
    return found + _wanted(notice, change, directory, stage)


def _wanted(notice: Notice, change: CaseChanged, directory: Directory, stage: Stage) -> list[Told]:
    """The letter to the agency that must act now. The issuer gets none, it works from its lists."""
    code = _played(notice, change).get(stage.actor)
    if stage.ends or stage.actor in ("filer", "city") or code is None or code == notice.issuer:
        return []
    mine = {k: o for k, o in stage.outcomes.items() if who_acts(stage, o) == stage.actor and not o.by_filing}
    if stage.actor == "recommender":
        letter = "recommend_wanted"
    elif any("ground" not in o.needs for o in mine.values()):
        letter = "action_wanted"
    else:
        # A title that stands, and could only be challenged: nobody waits for anything.
        return []
    role = notice.roles.get(stage.actor)
    basis = [of_stage(stage), *([clause(role.clause, "", role.name)] if role else [])]
    params = {
        **case_params(notice, change, directory, basis, stage),
        "role": actor_name(notice, stage.actor),
        # With the key, which is what a decision is published by.
        "options": [f"{o.name}（{key}）" for key, o in mine.items()],
        # What was decided before, and why, was told to the filer; who acts now judges afresh.
        "reason": "",
        "fixes": [],
    }
    params["dates"] += _over(notice, change, code)
    return [Told(letter, _reached(code, change, directory), params)]


def _report(notice: Notice, change: CaseChanged, directory: Directory) -> Told:
    duty = notice.by_duty.get(change.duty or "")
    params = {
        **case_params(notice, change, directory, [of_duty(duty)] if duty else [], None),
        "how": REPORTS[change.outcome],
        "duty": duty.name if duty else None,
        "period": change.period,
    }
    if duty and params["how"] != "unowed":
        what = f"{duty.name}：{change.number} {change.title}"
        params["dates"] = [settled(what, "duty", change.case, duty.id, change.period)]
    return Told("report_received", address_of(change.filer, directory), params)


def _missed(notice: Notice, change: CaseChanged, directory: Directory, stage: Stage) -> list[Told]:
    duty = notice.by_duty.get(change.duty or "")
    if duty is None or change.due is None:
        # Of a duty that the notice no longer names there is nothing to quote.
        return []
    ground = notice.by_ground.get(duty.ground or "")
    basis = [of_duty(duty), *clauses(notice, [ground.id] if ground else [])]
    params = {
        **case_params(notice, change, directory, basis, None),
        **_how(notice, duty, change.period),
        "due": due_on(change.due, derived=duty.derived, provisional=False),
        "ground": ground.name if ground else None,
        "misses": duty.misses,
        "derived": duty.derived,
        # Where one miss is enough, the clock has moved the case by itself before this letter is read.
        "moves_to": _moves_to(notice, stage) if ground and duty.misses == 1 else None,
        "proposals": [o.name for o in _proposals(stage)],
    }
    return [Told("duty_missed", address_of(change.filer, directory), params)]


def _how(notice: Notice, duty: Duty, period: str) -> Params:
    """What a duty is fulfilled by."""
    form = notice.by_form.get(duty.form)
    report = form.report if form else None
    return {
        "duty": duty.name,
        "period": period,
        "form": form_name(notice, duty.form),
        "about": _header(form, report.about) if report else None,
        "periods": [_header(form, key) for key in report.period] if report else [],
    }


def _raised(
    notice: Notice, change: CaseChanged, directory: Directory, stage: Stage, at: datetime | None
) -> list[Told]:
    """To whoever may propose what follows from a ground; to the issuer where nobody may at this stage."""
    played = _played(notice, change)
    may = [(played.get(who_acts(stage, o)), o.name) for o in _proposals(stage)]
    params = case_params(notice, change, directory, clauses(notice, change.rules), None)
    params |= {
        "reason_name": "情况",
        "grounds": [notice.by_ground[g].name if g in notice.by_ground else g for g in change.rules],
        "since": at.astimezone(SHANGHAI).date().isoformat() if at else None,
        "moves_to": _moves_to(notice, stage),
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
                "ask": _keeper(notice, change, directory)
                if code == notice.issuer and not asked
                else params["ask"],
            },
        )
        for code in agencies
    ]


def recalled(
    notice: Notice, change: CaseChanged, one: Occasion, directory: Directory, calendar: Calendar
) -> list[Told]:
    """The reminders of what a case waits for, to each of those whom its notice names; `change` is the step that
    brought it into its stage."""
    stage, due, within = one.stage, one.awaited.due, one.stage.within
    played = _played(notice, change)
    if change.filer.code == notice.issuer and directory.find(change.district) is not None:
        # What the notice itself brought in, the department of the district keeps.
        played["filer"] = change.district
    printed = one.duty.after is None if one.duty else within is not None and within.by is not None
    ours = one.duty.derived if one.duty else within is None or within.derived
    ends = due_on(due, derived=ours, provisional=one.awaited.provisional)
    ends["rest_day"] = printed and not calendar.is_working_day(due)
    asked = common(notice, directory)["ask"]
    renewal = next(
        (o for o in stage.outcomes.values() if o.last_days and who_acts(stage, o) == "filer"), None
    )
    found = []
    for code in dict.fromkeys(code for part in one.remind if (code := played.get(part))):
        mine, acts = code == played["filer"], code == played.get(stage.actor)
        correction = stage.returned and one.duty is None
        basis = occasion(notice, change, stage)[1] if correction else [of_stage(stage)]
        params = case_params(notice, change, directory, basis, None) | {"due": ends, "changes": []}
        if not correction:
            # What was decided before, and why, was told when it was.
            params |= {"reason": "", "fixes": []}
        if params["ask"] == party(code, directory).name:
            params["ask"] = asked
        what = one.duty or stage
        about = (
            ("duty", change.case, what.id, one.awaited.period) if one.duty else ("case", change.case, what.id)
        )
        params["dates"] = [keep(f"{what.name}：{change.number} {change.title}", ends, *about)]
        if one.duty:
            letter = "duty_due"
            params |= {
                **_how(notice, one.duty, one.awaited.period),
                "clauses": [of_duty(one.duty)],
                "mine": mine,
            }
        elif acts and not (within and (within.validity or (within.then and not mine))):
            letter, params["name"] = "deadline", f"{stage.name}（{change.number}）"
        else:
            letter = "expiring"
            params |= {"name": stage.name, "mine": mine, "renewal": None}
            if renewal and renewal.last_days:
                first = due - timedelta(days=renewal.last_days)
                params["renewal"] = {"name": renewal.name, "from": first.isoformat()}
        found.append(Told(letter, _reached(code, change, directory), params))
    return found


def _keeper(notice: Notice, change: CaseChanged, directory: Directory) -> str:
    """Who knows the case from near: its filer; of what the notice itself brought in, the district."""
    given = change.filer.code == notice.issuer and directory.find(change.district) is not None
    return party(change.district, directory).name if given else change.filer.name


def _moves_to(notice: Notice, stage: Stage) -> str | None:
    """Where a ground takes a case by itself."""
    moves = next((o for o in stage.outcomes.values() if o.raised), None)
    return notice.procedure.by_id[moves.to].name if moves else None


def _proposals(stage: Stage) -> list[Outcome]:
    """What a person may decide on a ground."""
    return [o for o in stage.outcomes.values() if "ground" in o.needs and who_acts(stage, o) != CLOCK]


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


def parties(notice: Notice, change: CaseChanged) -> tuple[str, ...]:
    """Everybody who plays a part in this case, and may be written to about it."""
    return tuple(sorted({code for code in _played(notice, change).values() if code and code != CLOCK}))


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
    ends = due_on(change.due, derived=derived, provisional=change.provisional) if change.due else None
    return {
        **shared,
        "case": {
            "id": str(change.case),
            "number": change.number,
            "title": change.title,
            "form": form_name(notice, change.form),
            "filer": change.filer.name,
        },
        "whose": "贵单位报送的项目",
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
        "due": ends if acts and not until else None,
        "dates": [
            keep(
                f"{stage.name}：{change.number} {change.title}",
                ends,
                *("case", change.case, stage.id),
            )
        ]
        if ends and acts and not until
        else [],
        "valid_until": ends if until else None,
        # When the stage is over by itself: nobody has to do anything by then.
        "ends": ends if stage.within and stage.within.then and not until else None,
        "opinion": _opinion(notice, stage),
        "yours": [o.name for o in stage.outcomes.values() if who_acts(stage, o) == "filer"]
        if stage.actor == "filer"
        else [],
        "after": _after(notice, stage),
        "duties": duties_from(notice, stage),
    }


def _over(notice: Notice, change: CaseChanged, code: str) -> list[Params]:
    """The date that this reader had to keep in the stage that the step has left."""
    found = _decision(notice, change)
    if found is None:
        return []
    left, _ = found
    theirs = left.actor == "filer" or _opinion(notice, left) != ""
    kept = theirs if code == change.filer.code else _played(notice, change).get(left.actor) == code
    if not kept or left.id == change.stage or left.within is None or left.within.validity:
        return []
    what = f"{left.name}：{change.number} {change.title}"
    return [settled(what, "case", change.case, left.id)]


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


def _fix(form: Form | None, field: str, detail: str) -> Params:
    column = form.by_key.get(field) if form else None
    return {
        "header": _header(form, field),
        "field": column.field if column else "",
        "detail": detail,
    }


def _change(form: Form | None, field: str, before: str, after: str) -> Params:
    hidden = HIDDEN in (before, after) or bool(form and field in form.personal)
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
