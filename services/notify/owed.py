"""Which letters an event makes due: to whom, about what, under which key that never comes twice.

Wording is not here, that is `letters/`; nor is sending, that is `smtp.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from services.notify.reminders import Rung
from shared.contracts.case import CaseChanged, CaseOpened
from shared.contracts.envelope import derived_id
from shared.contracts.problem import MOST
from shared.contracts.submission import JudgedSheet, PackageJudged, SubmissionRefused
from shared.contracts.types import Finding, Party
from shared.notices.calendar import Calendar
from shared.notices.directory import Agency, Directory
from shared.notices.model import Deadline, Form, Notice
from shared.notices.procedure import who_acts
from shared.notices.stages import CLOCK, Outcome, Stage

Params = dict[str, Any]
"""JSON types only: the ledger keeps them until the letter is written."""

SEVERITIES = ("hard", "soft", "info")


@dataclass(frozen=True, slots=True)
class Attached:
    sha256: str
    name: str


@dataclass(frozen=True, slots=True)
class Owed:
    """One letter to one recipient on one occasion. `key` is made of stable ids only, so that the same
    occasion, told twice, is owed once; `address` is absent when nobody knows it, and then a person must."""

    key: str
    letter: str
    to: str
    to_name: str
    address: str | None
    params: Params
    case: UUID | None = None
    attachments: tuple[Attached, ...] = ()

    @property
    def mail(self) -> UUID:
        """The id of the mail, and so its Message-ID."""
        return UUID(derived_id("mail", self.key))


def letters_of_case(notice: Notice, change: CaseChanged, directory: Directory) -> list[Owed]:
    """To the filer, what the outcome of the procedure says; to the recommender, that a case waits for it.

    A case that a package opened owes no `accepted`: the answer to the package has told it.
    """
    stage = notice.procedure.by_id[change.stage]
    letter, basis = _occasion(notice, change, stage)
    filer = _address_of(change.filer, directory)
    owed = []
    if letter is not None:
        acts = stage.actor == "filer" and stage.ends is None
        params = _case_params(notice, change, directory, basis, stage if acts else None)
        owed.append(_of_case(change, letter, filer, params))
    if stage.actor == "recommender" and stage.ends is None and change.recommender:
        party = _party(change.recommender, directory)
        params = _case_params(notice, change, directory, [_of_stage(stage)], stage)
        # What was decided before, and why, was told to the filer; the recommender judges afresh.
        owed.append(_of_case(change, "recommend_wanted", party, {**params, "reason": "", "fixes": []}))
    return owed


def letters_of_package(notice: Notice, judged: PackageJudged, directory: Directory) -> list[Owed]:
    refiled = judged.outcome != "accepted"
    params = {
        **_common(notice, directory),
        **_findings(judged.findings),
        "outcome": judged.outcome,
        "all_or_nothing": judged.mode == "all_or_nothing",
        "sheets": [_sheet(notice, sheet) for sheet in judged.sheets],
        "rows": sum(sheet.rows for sheet in judged.sheets),
        "accepted": sum(sheet.accepted for sheet in judged.sheets),
        "late": judged.late,
        "due": _filing_due(notice, judged.filer, judged.district) if refiled else None,
        "clauses": _filing_basis(notice, judged.filer, judged.district),
    }
    key = f"package/{judged.package}/judged/{judged.filer.code}"
    return [_to(key, "judged", _address_of(judged.filer, directory), params, attachments=_marked(judged))]


def letters_of_refusal(
    notice: Notice, refused: SubmissionRefused, directory: Directory, *, event: str
) -> list[Owed]:
    """`event` is the id of the event that told it: a refused row has no id of its own."""
    params = {
        **_common(notice, directory),
        **_findings(refused.findings),
        "title": refused.title,
        "form": _form(notice, refused.form),
        "due": _filing_due(notice, refused.filer, refused.district),
    }
    key = f"submission/{event}/refused/{refused.filer.code}"
    return [_to(key, "refused", _address_of(refused.filer, directory), params)]


def letter_of_deadline(
    notice: Notice, deadline: Deadline, rung: Rung, agency: Agency, directory: Directory, calendar: Calendar
) -> Owed:
    rules = [r for r in notice.rules if r.clause == deadline.clause and r.severity != "info"]
    params = {
        **_common(notice, directory),
        "name": deadline.name,
        "due": {
            **_due_of(deadline),
            "rest_day": deadline.until is None and not calendar.is_working_day(deadline.on),
        },
        "clauses": _clauses(notice, [r.id for r in rules]) or [_clause(deadline.clause)],
    }
    key = f"deadline/{notice.id}/{deadline.id}/{rung.key}/{agency.code}"
    party = Party(code=agency.code, kind=agency.kind, name=agency.name, email=agency.email)
    return _to(key, deadline.letter or "deadline", party, params)


def letter_of_correction(notice: Notice, change: CaseChanged, rung: Rung, directory: Directory) -> Owed:
    """The reminder that a returned case waits for its filer; `change` is the return that set the date."""
    stage = notice.procedure.by_id[change.stage]
    _, basis = _occasion(notice, change, stage)
    params = {
        **_case_params(notice, change, directory, basis, stage),
        "name": f"{stage.name}（{change.number}）",
    }
    key = f"case/{change.case}/{change.version}/deadline-{rung.key}/{change.filer.code}"
    return _to(key, "deadline", _address_of(change.filer, directory), params, case=change.case)


def crossed(notice: Notice, letters: Sequence[str]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What the notice says of letters and cannot be done: where, and what to write instead."""
    listed = "、".join(sorted(letters))
    for i, stage in enumerate(notice.procedure.stages):
        for key, outcome in stage.outcomes.items():
            where = ("procedure", "stages", i, "outcomes", key, "letter")
            if outcome.letter and outcome.letter not in letters:
                yield where, f"没有信函 {outcome.letter}；现有 {listed}"
            twins = {o.letter for _, o in _decisions(notice, key, outcome.to)}
            if len(twins) > 1:
                # A change of a case names its outcome and where it led, not where it came from.
                yield where, f"结果 {key} → {outcome.to} 在不同阶段写了不同的信函；请改用不同的结果名"
    for i, deadline in enumerate(notice.deadlines):
        if deadline.letter and deadline.letter not in letters:
            yield ("deadlines", i, "letter"), f"没有信函 {deadline.letter}；现有 {listed}"


def _occasion(notice: Notice, change: CaseChanged, stage: Stage) -> tuple[str | None, list[Params]]:
    """The letter that the filer is owed, and what it rests on."""
    if isinstance(change, CaseOpened):
        return (None if change.package else "accepted"), _filing_basis(
            notice, change.filer, change.district
        ) or [_of_stage(stage)]
    decisions = _decisions(notice, change.outcome, change.stage)
    if not decisions:
        return None, [_of_stage(stage)]
    parts = _parts(notice, change)
    # Two stages may lead to one end by outcomes of one name; who decided tells them apart.
    decided_in, outcome = next(((s, o) for s, o in decisions if who_acts(s, o) in parts), decisions[0])
    basis = _clauses(notice, change.rules) or [
        _clause(
            outcome.clause or decided_in.clause, decided_in.ref or "", decided_in.name, decided_in.derived
        )
    ]
    return outcome.letter, basis


def _decisions(notice: Notice, outcome: str, to: str) -> list[tuple[Stage, Outcome]]:
    found = ((stage, stage.outcomes.get(outcome)) for stage in notice.procedure.stages)
    return [(stage, one) for stage, one in found if one is not None and one.to == to]


def _of_case(change: CaseChanged, letter: str, party: Party, params: Params) -> Owed:
    return _to(
        f"case/{change.case}/{change.version}/{letter}/{party.code}", letter, party, params, change.case
    )


def _to(
    key: str,
    letter: str,
    party: Party,
    params: Params,
    case: UUID | None = None,
    attachments: tuple[Attached, ...] = (),
) -> Owed:
    return Owed(key, letter, party.code, party.name, party.email, params, case, attachments)


def _common(notice: Notice, directory: Directory) -> Params:
    """What every letter is given; the base template counts on each of these."""
    issuer = _party(notice.issuer, directory).name
    return {
        "notice": notice.title,
        "number": notice.number,
        "issuer": issuer,
        "unit": notice.unit or "",
        "ask": issuer + (notice.unit or ""),
        "case": None,
        "reason": "",
        "clauses": [],
        "fixes": [],
        "findings": [],
        "more": 0,
        "due": None,
    }


def _case_params(
    notice: Notice, change: CaseChanged, directory: Directory, basis: list[Params], acts: Stage | None
) -> Params:
    """`acts` is the stage that waits for the reader. Only who must act is told a date: to anybody else
    it would read as a promise."""
    common = _common(notice, directory)
    actor = notice.issuer if change.actor == CLOCK else change.actor
    filed = actor == change.filer.code
    decided_by = change.filer.name if filed else _party(actor, directory).name
    due = None
    if acts and change.due:
        derived = acts.within is None or acts.within.derived
        due = _due(change.due, derived=derived, provisional=change.provisional)
    return {
        **common,
        "case": {
            "id": str(change.case),
            "number": change.number,
            "title": change.title,
            "form": _form(notice, change.form),
            "filer": change.filer.name,
        },
        "stage": notice.procedure.by_id[change.stage].name,
        "decided_by": decided_by,
        "ask": common["ask"] if filed or actor == notice.issuer else decided_by,
        "reason": change.reason,
        "fixes": [_fix(notice.by_form.get(change.form), fix.field, fix.detail) for fix in change.fixes],
        "clauses": basis,
        "late": change.late,
        "due": due,
    }


def _parts(notice: Notice, change: CaseChanged) -> set[str]:
    """The parts that the actor plays in this case: a district that recommends itself plays two."""
    played = {
        "city": notice.issuer,
        "district": change.district,
        "recommender": change.recommender,
        "filer": change.filer.code,
        CLOCK: CLOCK,
        **{key: role.agency for key, role in notice.roles.items()},
    }
    return {part for part, code in played.items() if code == change.actor}


def _address_of(party: Party, directory: Directory) -> Party:
    """The address that was filed wins; without one, that of the directory."""
    if party.email:
        return party
    known = directory.find(party.code)
    return party.model_copy(update={"email": known.email if known else None})


def _party(code: str, directory: Directory) -> Party:
    known = directory.find(code)
    if known is None:
        return Party(code=code, kind="K6", name=code)
    return Party(code=code, kind=known.kind, name=known.name, email=known.email)


def _clauses(notice: Notice, ids: Sequence[str]) -> list[Params]:
    found = []
    for id_ in ids:
        rule = notice.by_rule.get(id_)
        found.append(_clause(rule.clause, id_, rule.text, rule.derived) if rule else _clause("", id_))
    return found


def _clause(clause: str, id_: str = "", text: str = "", derived: bool = False) -> Params:
    return {"clause": clause, "id": id_, "text": text, "derived": derived}


def _of_stage(stage: Stage, clause: str | None = None) -> Params:
    return _clause(clause or stage.clause, stage.ref or "", stage.name, stage.derived)


def _filing_basis(notice: Notice, filer: Party, district: str) -> list[Params]:
    deadline = notice.filing_deadline(filer.kind, district)
    return [_clause(deadline.clause, deadline.id, deadline.name, deadline.derived)] if deadline else []


def _filing_due(notice: Notice, filer: Party, district: str) -> Params | None:
    deadline = notice.filing_deadline(filer.kind, district)
    return _due_of(deadline) if deadline else None


def _due_of(deadline: Deadline) -> Params:
    due = _due(deadline.until or deadline.on, derived=deadline.derived, provisional=False)
    return {**due, "from": deadline.on.isoformat() if deadline.until else None}


def _due(day: date, *, derived: bool, provisional: bool) -> Params:
    return {
        "date": day.isoformat(),
        "from": None,
        "derived": derived,
        "provisional": provisional,
        "rest_day": False,
    }


def _form(notice: Notice, id_: str) -> str:
    form = notice.by_form.get(id_)
    return f"{form.annex} {notice.form_title(form)}" if form else id_


def _fix(form: Form | None, field: str, detail: str) -> Params:
    column = form.by_key.get(field) if form else None
    return {
        "header": column.header if column else field,
        "field": column.field if column else "",
        "detail": detail,
    }


def _findings(findings: Sequence[Finding]) -> Params:
    """The gravest first, so that what is cut off is what matters least."""
    ordered = sorted(findings, key=lambda f: SEVERITIES.index(f.severity))
    return {
        "findings": [
            {
                "where": _where(f),
                "detail": f.detail[:300],
                "rule": f.rule,
                "clause": f.clause,
                "severity": f.severity,
            }
            for f in ordered[:MOST]
        ],
        "more": max(0, len(findings) - MOST),
    }


def _where(finding: Finding) -> str:
    place = f"“{finding.sheet}”" if finding.sheet else ""
    if finding.row is not None:
        place += f"第{finding.row}行"
    if finding.cell:
        place += f"（{finding.cell}）" if place else finding.cell
    return place


def _sheet(notice: Notice, sheet: JudgedSheet) -> Params:
    form = notice.by_form.get(sheet.form) if sheet.form else None
    return {
        "file": sheet.file,
        "name": form.annex if form else sheet.sheet or "未能识别的表",
        "rows": sheet.rows,
        "accepted": sheet.accepted,
    }


def _marked(judged: PackageJudged) -> tuple[Attached, ...]:
    """Each marked workbook once, although every sheet of it names it."""
    files = {sheet.marked: sheet.file for sheet in judged.sheets if sheet.marked}
    return tuple(Attached(sha256, _marked_name(name)) for sha256, name in files.items())


def _marked_name(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}（已标注）.{suffix}" if dot else f"{name}（已标注）"
