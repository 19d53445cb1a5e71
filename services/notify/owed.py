"""Which letters an event makes due: to whom, about what, under which key that never comes twice.

What a letter about a case says is in `cases.py`. Wording is not here, that is `letters/`; nor is sending, that
is `smtp.py`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from uuid import UUID

from services.notify import cases
from services.notify.hours import When, when_of
from services.notify.quotes import (
    Params,
    address_of,
    basis_of,
    common,
    deadline_basis,
    due_of,
    duty_params,
    filed_elsewhere,
    filing_basis,
    filing_due,
    form_name,
    keep,
    owed_by,
    plain,
    settled,
    stamped,
)
from services.notify.reminders import Occasion, Rung
from shared.contracts.case import AuditHeaded, CaseChanged, CaseOpened
from shared.contracts.envelope import derived_id
from shared.contracts.problem import MOST
from shared.contracts.submission import JudgedSheet, PackageJudged, SubmissionRefused
from shared.contracts.types import Finding, Party
from shared.notices.calendar import Calendar
from shared.notices.directory import Agency, Directory
from shared.notices.model import Deadline, Notice

SEVERITIES = ("hard", "soft", "info")
OPERATORS = "operators"
"""Who operates us: no agency."""


_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Attached:
    sha256: str
    name: str


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who a letter was found to be for: the code of a contact person, or the agency itself. `occasion` is the key that
    all of one occasion and agency share; `place` the district of the agency; `day` the day of the choice; `why` is the
    reason for which it may not be sent."""

    contact: str | None
    occasion: str
    place: str | None
    day: date
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Owed:
    """One letter to one recipient on one occasion. `key` is made of stable ids only, so that the same
    occasion, told twice, is owed once; `address` is absent when nobody knows it, and then a person must.

    `when` it may leave is in `hours.py`. Of the reminders of one `ladder` a newer one takes the place of an older that
    has not left. One that is to `hold` waits for somebody to release it.
    """

    key: str
    letter: str
    to: str
    to_name: str
    address: str | None
    params: Params
    case: UUID | None = None
    attachments: tuple[Attached, ...] = ()
    when: When = "now"
    ladder: str | None = None
    hold: bool = False
    parties: tuple[str, ...] = ()
    """Of a letter about a case: everybody who plays a role in it. To nobody else it may be sent."""
    district: str | None = None
    """In which it was filed, where the letter answers a filing."""
    recipient: Recipient | None = None
    """Set by `recipients.py`, through which every letter enters the ledger."""
    owner: str | None = None
    """Who is told when it does not arrive, by code; never who it goes to."""
    arrived: datetime | None = None
    """Of a letter that answers a filing: when the bus stored that."""

    @property
    def trace(self) -> str:
        """The trace of what it is about, as its events have it: a case, a package, an event that was refused."""
        found = _ID.search(self.key)
        return (self.case or (UUID(found[0]) if found else self.mail)).hex

    @property
    def mail(self) -> UUID:
        """The id of the mail, and so its Message-ID."""
        return UUID(derived_id("mail", self.key))

    @property
    def notice(self) -> str:
        """The notice that it is about; none of what is ours alone."""
        return str(self.params.get("notice_id", ""))


def letters_of_case(
    notice: Notice, change: CaseChanged, directory: Directory, at: datetime | None = None
) -> list[Owed]:
    """To the filer, what the outcome says; to whoever must act next, that a case waits; to whoever may propose,
    that a ground was raised, with the date of `at`, the time of the event.

    A case that a package opened owes no `accepted`: the answer to the package has told it.
    """
    return [
        _to(
            f"case/{change.case}/{change.version}/{one.letter}/{one.party.code}",
            one.letter,
            one.party,
            stamped(one.params, at),
            change.case,
            hold=one.hold,
            parties=cases.parties(notice, change),
            district=change.district,
            owner=_owner(one.party.code, change.district, notice.issuer, directory),
            arrived=change.filed
            if isinstance(change, CaseOpened) and one.party.code == change.filer.code
            else None,
        )
        for one in cases.told(notice, change, directory, at)
    ]


def letters_of_package(notice: Notice, judged: PackageJudged, directory: Directory) -> list[Owed]:
    refiled = judged.outcome != "accepted"
    elsewhere = filed_elsewhere(notice, [sheet.form for sheet in judged.sheets if sheet.form])
    params = {
        **common(notice, directory),
        **_findings(judged.findings),
        "outcome": judged.outcome,
        "all_or_nothing": judged.mode == "all_or_nothing",
        "sheets": [_sheet(notice, sheet) for sheet in judged.sheets],
        "rows": sum(sheet.rows for sheet in judged.sheets),
        "accepted": sum(sheet.accepted for sheet in judged.sheets),
        "late": judged.late and not elsewhere,
        "due": filing_due(notice, judged.filer, judged.district) if refiled and not elsewhere else None,
        "clauses": basis_of(notice, elsewhere)
        if elsewhere
        else filing_basis(notice, judged.filer, judged.district),
        "duties": [duty_params(duty) for duty in owed_by(notice, elsewhere)] if refiled else [],
        "dates": []
        if elsewhere
        else _filing_date(notice, judged.filer, judged.district, settled_=not refiled),
    }
    key = f"package/{judged.package}/judged/{judged.filer.code}"
    filer, said = address_of(judged.filer, directory), stamped(params, judged.received)
    owner = _owner(judged.filer.code, judged.district, notice.issuer, directory)
    files = _marked(judged)
    letter = _to(key, "judged", filer, said, attachments=files, district=judged.district, owner=owner)
    return [replace(letter, arrived=judged.received)]


def letters_of_refusal(
    notice: Notice, refused: SubmissionRefused, directory: Directory, *, event: str
) -> list[Owed]:
    """`event` is the id of the event that told it: a refused row has no id of its own."""
    elsewhere = filed_elsewhere(notice, [refused.form])
    params = {
        **common(notice, directory),
        **_findings(refused.findings),
        "title": refused.title,
        "form": form_name(notice, refused.form),
        "due": None if elsewhere else filing_due(notice, refused.filer, refused.district),
        "dates": [] if elsewhere else _filing_date(notice, refused.filer, refused.district),
        "clauses": basis_of(notice, elsewhere)
        if elsewhere
        else filing_basis(notice, refused.filer, refused.district),
        "duties": [duty_params(duty) for duty in owed_by(notice, elsewhere)],
    }
    key = f"submission/{event}/refused/{refused.filer.code}"
    filer, said = address_of(refused.filer, directory), stamped(params, refused.received)
    owner = _owner(refused.filer.code, refused.district, notice.issuer, directory)
    letter = _to(key, "refused", filer, said, district=refused.district or None, owner=owner)
    return [replace(letter, arrived=refused.received)]


def letter_of_deadline(
    notice: Notice,
    deadline: Deadline,
    rung: Rung,
    agency: Agency,
    directory: Directory,
    calendar: Calendar,
) -> Owed:
    last = deadline.until or deadline.on
    due = {
        **due_of(deadline),
        "rest_day": deadline.until is None and not calendar.is_working_day(deadline.on),
    }
    params = {
        **common(notice, directory),
        "name": deadline.name,
        "due": due,
        "dates": [keep(deadline.name, due, "deadline", notice.id, deadline.id)],
        "clauses": deadline_basis(notice, deadline),
        "after": "",
        "renewal": None,
    }
    # With the day: a date that is moved is recalled anew.
    key = f"deadline/{notice.id}/{deadline.id}/{last}/{rung.key}/{agency.code}"
    ladder = f"deadline/{notice.id}/{deadline.id}/{agency.code}"
    party = Party(code=agency.code, kind=agency.kind, name=agency.name, email=agency.email)
    owner = _owner(agency.code, agency.district, notice.issuer, directory)
    return _recalled(_to(key, deadline.letter or "deadline", party, params, owner=owner), ladder)


def letters_of_occasion(
    notice: Notice,
    change: CaseChanged,
    occasion: Occasion,
    rung: Rung,
    directory: Directory,
    calendar: Calendar,
) -> list[Owed]:
    """The reminders that a case waits for something; `change` is the step that brought it into its stage."""
    key = f"case/{change.case}/{occasion.key}/{rung.key}"
    ladder = f"case/{change.case}/{occasion.what}"
    return [
        _recalled(
            _to(
                f"{key}/{one.party.code}",
                one.letter,
                one.party,
                one.params,
                case=change.case,
                parties=cases.parties(notice, change),
                district=change.district,
                owner=_owner(one.party.code, change.district, notice.issuer, directory),
            ),
            f"{ladder}/{one.party.code}",
        )
        for one in cases.recalled(notice, change, occasion, directory, calendar)
    ]


def _recalled(one: Owed, ladder: str) -> Owed:
    """A reminder, whichever letter it is: `hours.py` says which of them cannot wait for the morning."""
    return replace(one, when="morning", ladder=ladder)


def letters_of_day(
    day: date, headed: AuditHeaded | None, operators: Sequence[str], sender: str, parts: Sequence[Params]
) -> list[Owed]:
    """To whoever operates us, once a day: what has failed and what waits for a person (`parts`, see `daily.py`), and
    the head of the audit stream, which is to be kept elsewhere; `headed` is missing when review has told none."""
    params = {
        **plain("运维日报", None, sender, "", "系统运维"),
        "day": day.isoformat(),
        "seq": headed.seq if headed else None,
        "lines": headed.lines if headed else None,
        "head": headed.head if headed else None,
        "parts": list(parts),
    }
    return [
        Owed(f"daily/{day}/{address}", "daily", OPERATORS, "运维人员", address, params)
        for address in operators
    ]


def crossed(notice: Notice, letters: Sequence[str]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What the notice says of letters and cannot be done: where, and what to write instead."""
    listed = "、".join(sorted(letters))
    for i, stage in enumerate(notice.procedure.stages):
        for key, outcome in stage.outcomes.items():
            where = ("procedure", "stages", i, "outcomes", key, "letter")
            if outcome.letter and outcome.letter not in letters:
                yield where, f"没有信函 {outcome.letter}；现有 {listed}"
            if key in cases.TOLD:
                yield ("procedure", "stages", i, "outcomes", key), f"结果名 {key} 由系统使用，请另取名称"
            twins = {(o.letter, o.hold) for _, o in cases.decisions(notice, key, outcome.to)}
            if len(twins) > 1:
                # A change of a case names its outcome and where it led, not where it came from.
                what = "不同的信函" if len({letter for letter, _ in twins}) > 1 else "不同的留存（hold）"
                yield where, f"结果 {key} → {outcome.to} 在不同阶段写了{what}；请改用不同的结果名"
    for i, deadline in enumerate(notice.deadlines):
        if deadline.letter and deadline.letter not in letters:
            yield ("deadlines", i, "letter"), f"没有信函 {deadline.letter}；现有 {listed}"


def _to(
    key: str,
    letter: str,
    party: Party,
    params: Params,
    case: UUID | None = None,
    attachments: tuple[Attached, ...] = (),
    *,
    hold: bool = False,
    parties: tuple[str, ...] = (),
    district: str | None = None,
    owner: str | None = None,
    arrived: datetime | None = None,
) -> Owed:
    return Owed(
        key,
        letter,
        party.code,
        party.name,
        party.email,
        params,
        case,
        attachments,
        when=when_of(letter, params),
        hold=hold,
        parties=parties,
        district=district,
        owner=owner,
        arrived=arrived,
    )


def _filing_date(notice: Notice, filer: Party, district: str, *, settled_: bool = False) -> list[Params]:
    """Once all is in, the date goes from the calendars of those who were reminded of it, and from no others."""
    deadline = notice.filing_deadline(filer.kind, district)
    if deadline is None:
        return []
    about = ("deadline", notice.id, deadline.id)
    if not settled_:
        return [keep(deadline.name, due_of(deadline), *about)]
    reminded = deadline.unless == "filed" and filer.kind in deadline.remind
    return [settled(deadline.name, *about)] if reminded else []


def _owner(to: str, district: str | None, issuer: str, directory: Directory) -> str | None:
    """Who sees to a letter that does not arrive: the department of the district, else who issued the notice; of what
    is written to the issuer itself, whoever operates us."""
    if district and district != to and directory.find(district) is not None:
        return district
    return issuer


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
        "numbers": list(sheet.numbers),
    }


def _marked(judged: PackageJudged) -> tuple[Attached, ...]:
    """Each marked workbook once, although every sheet of it names it."""
    files = {sheet.marked: sheet.file for sheet in judged.sheets if sheet.marked}
    return tuple(Attached(sha256, _marked_name(name)) for sha256, name in files.items())


def _marked_name(name: str) -> str:
    """A copy is an .xlsx or a .docx, whatever its filer's own was."""
    stem, dot, suffix = name.rpartition(".")
    suffix = "xlsx" if suffix.casefold() in ("xls", "ods", "et") else suffix
    return f"{stem}（已标注）.{suffix}" if dot else f"{name}（已标注）"
