"""Letters as they would be, about a unit that there is not: for previews, for checking templates, for tests.

What they say comes from the notice and from the code that writes the real ones; what a person would have typed is here.
No real agency's address is in any of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from services.notify import owed
from services.notify.digest import digests
from services.notify.owed import OPERATORS, Owed
from services.notify.reminders import occasions, rungs
from services.notify.undelivered import SUPPRESSED, Undelivered, letters
from shared.contracts.case import (
    AuditHeaded,
    CaseAdvanced,
    CaseChanged,
    CaseClosed,
    CaseOpened,
    CasePublished,
    CaseReturned,
    Change,
    Fix,
)
from shared.contracts.envelope import derived_id
from shared.contracts.submission import JudgedSheet, PackageJudged, SubmissionRefused
from shared.contracts.types import Finding, Kind, Party
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.directory import Agency, Directory
from shared.notices.model import Form, Notice
from shared.notices.procedure import who_acts
from shared.notices.stages import CLOCK, Outcome, Stage

CASE = UUID(derived_id("sample", "case"))
CODE, UNIT, MAILBOX, TITLE = "shili", "示例单位", "shili@example.com", "示例项目"
REASON = "示例意见：内容不够明确。"
SHA256 = "0" * 64
"""Of the workbook that comes with the answer to a package."""
TOGETHER = 4
"""Reminders in one letter of a morning."""
NINE = time(9, 0, tzinfo=SHANGHAI)


@dataclass(frozen=True, slots=True)
class Sample:
    """One letter, and when it would be written."""

    owed: Owed
    at: datetime


def samples(
    notices: Mapping[str, Notice], directory: Directory, calendar: Calendar | None = None
) -> list[Sample]:
    """Every letter that these notices owe, each as often as it may read differently."""
    nowhere = _anonymous(directory)
    days = calendar or Calendar.load()
    found = [s for notice in notices.values() for s in _Samples(notice, nowhere, days).all()]
    mornings = _mornings(found)
    lost = _undelivered([found[0], *mornings[:1]], nowhere)
    return [*found, *mornings, *(_daily(count) for count in (0, 1)), *lost]


def _anonymous(directory: Directory) -> Directory:
    """The same agencies, none with an address or number of its own."""
    hidden = {"phones": (), "address": None, "officers": ()}
    agencies = (a.model_copy(update={**hidden, "email": f"{a.code}@example.com"}) for a in directory.agencies)
    return Directory(agencies=tuple(agencies))


def _mornings(found: list[Sample]) -> list[Sample]:
    """For each reader the reminders that wait for a morning, as they go together."""
    readers: dict[str, list[Sample]] = {}
    for sample in found:
        if sample.owed.when == "morning":
            readers.setdefault(sample.owed.to, []).append(sample)
    at = {to: min(s.at for s in some) for to, some in readers.items()}
    return [
        Sample(one, at[to])
        for to, some in readers.items()
        for one, _ in digests(at[to].date(), [s.owed for s in some[:TOGETHER]])
    ]


def _daily(count: int) -> Sample:
    day = date(2025, 3, 4)
    headed = AuditHeaded(day=day, seq=118, lines=342, head="8d" * 32, dead=count) if count else None
    dead = {
        "name": "无法处理的消息",
        "count": count,
        "lines": [f"notify：{count}条"],
        "see": "yiqi dead list",
        "acts": True,
    }
    (one,) = owed.letters_of_day(day, headed, [MAILBOX], "示例平台", [dead])
    return Sample(one, datetime.combine(day + timedelta(days=1), NINE))


def _undelivered(lost: list[Sample], directory: Directory) -> Iterator[Sample]:
    for sample, why, stopped in zip(lost, ("550 5.1.1", SUPPRESSED), (False, True), strict=False):
        gone = Undelivered(replace(sample.owed, owner=OPERATORS), why, stopped)
        for one in letters([gone], directory, ["yunwei@example.com"]):
            yield Sample(one, sample.at)


class _Samples:
    def __init__(self, notice: Notice, directory: Directory, calendar: Calendar) -> None:
        self.notice, self.directory, self.calendar = notice, directory, calendar
        self.form = next(
            (f for f in notice.forms if not f.report and not f.continues and f.columns), notice.forms[0]
        )
        kinds: list[Kind] = [k for a in notice.allowed if self.form.id in a.forms for k in a.kinds]
        self.filer = Party(code=CODE, kind=(kinds or ["K6"])[0], name=UNIT, email=MAILBOX)
        self.district: Agency | None = next((a for a in directory.of_kind("K2") if a.district), None)
        self.at = datetime.combine(notice.issued_on + timedelta(days=14), NINE)
        self.due = self.at.date() + timedelta(days=7)

    def all(self) -> Iterator[Sample]:
        recalled: set[str] = set()
        for event in self._events():
            for one in owed.letters_of_case(self.notice, event, self.directory, self.at):
                yield self._sample(one)
            if event.stage not in recalled:
                recalled.add(event.stage)
                yield from self._recalled(event)
        yield from self._packages()
        yield from self._deadlines()

    def _recalled(self, event: CaseChanged) -> Iterator[Sample]:
        """What the case waits for now, recalled for the last time before and once after."""
        began = self.at.date()
        awaits: list[dict[str, Any]] = [{"began": began, "due": event.due}] if event.due else []
        for duty in self.notice.duties:
            if event.stage in duty.stages:
                period = self._period(duty.yearly, duty.quarterly)
                awaits.append({"began": began, "due": self.due, "duty": duty.id, "period": period})
        for one in occasions(self.notice, event.stage, awaits):
            for rung in one.rungs(self.calendar)[-2:]:
                for letter in owed.letters_of_occasion(
                    self.notice, event, one, rung, self.directory, self.calendar
                ):
                    yield Sample(letter, rung.at)

    def _sample(self, one: Owed) -> Sample:
        return Sample(one, self.at)

    # --- cases ---

    def _events(self) -> Iterator[CaseChanged]:
        procedure = self.notice.procedure
        for start in procedure.start:
            for late in (False, True):
                yield self._change(CaseOpened, start.stage, "file", CODE, late=late)
        first = procedure.start[0].stage
        column = self._columns()[0]
        changed = (Change(field=column, before="原内容", after="新内容"),)
        yield self._change(CaseAdvanced, first, "amend", CODE, changed=changed)
        for stage in procedure.stages:
            for key, outcome in stage.outcomes.items():
                yield self._decided(stage, key, outcome)
        for duty in self.notice.duties:
            about = {"duty": duty.id, "period": self._period(duty.yearly, duty.quarterly)}
            for told in ("report", "report_late", "report_unowed"):
                yield self._change(CaseAdvanced, duty.stages[0], told, CODE, **about)
            missed = {**about, "due": self.at.date() - timedelta(days=1)}
            yield self._change(CaseAdvanced, duty.stages[0], "missed", CLOCK, **missed)
        for stage in procedure.stages:
            if self.notice.grounds and any("ground" in o.needs for o in stage.outcomes.values()):
                raised = {"rules": (self.notice.grounds[0].id,), "reason": REASON}
                yield self._change(CaseAdvanced, stage.id, "raise", self.notice.issuer, **raised)

    def _decided(self, stage: Stage, key: str, outcome: Outcome) -> CaseChanged:
        to = self.notice.procedure.by_id[outcome.to]
        kind: type[CaseChanged] = CaseReturned if to.returned else CaseAdvanced
        if to.ends == "closed":
            kind = CaseClosed
        decided = not outcome.by_filing and who_acts(stage, outcome) != CLOCK
        more: dict[str, Any] = {"reason": REASON} if decided else {}
        if outcome.letter == "published":
            kind = CasePublished
            more |= {"item_kind": self.form.item_kind or "activity", "values": {}, "filed": self.at}
        if "fixes" in outcome.needs:
            detail = "请写明全称，并与所附材料一致"
            more["fixes"] = tuple(Fix(field=key, detail=detail) for key in self._columns()[:2])
        if grounds := outcome.grounds or tuple(g.id for g in self.notice.grounds[:1]):
            more["rules"] = grounds if "ground" in outcome.needs or outcome.raised or outcome.grounds else ()
        if outcome.by_filing:
            more |= {"changed": (Change(field=self._columns()[0], before="原内容", after="新内容"),)}
        if to.within:
            years = to.within.years or 0
            more["due"] = self.due.replace(year=self.due.year + years) if years else self.due
        return self._change(kind, to.id, key, self._code(who_acts(stage, outcome)), **more)

    def _change(
        self, of: type[CaseChanged], stage: str, outcome: str, actor: str, **more: Any
    ) -> CaseChanged:
        known: dict[str, Any] = {
            "case": CASE,
            "number": f"{self.form.id}-00000000",
            "version": 3,
            "notice": self.notice.id,
            "form": self.form.id,
            "stage": stage,
            "outcome": outcome,
            "actor": actor,
            "filer": self.filer,
            "recommender": self.district.code if self.district else None,
            "unit": CODE,
            "district": self._district,
            "title": TITLE,
            "late": False,
            "due": self.due if self.notice.procedure.by_id[stage].within else None,
        }
        return of(**(known | more))

    def _code(self, part: str) -> str:
        """Who plays this part."""
        if part in self.notice.roles:
            return self.notice.roles[part].agency
        parts = {"filer": CODE, CLOCK: CLOCK, "recommender": self._district, "district": self._district}
        return parts.get(part, self.notice.issuer)

    @property
    def _district(self) -> str:
        return self.district.code if self.district else self.notice.issuer

    def _columns(self) -> list[str]:
        return [*self.form.by_key] or ["files"]

    def _period(self, yearly: str | None, quarterly: bool) -> str:
        if yearly:
            return str(self.at.year)
        return f"{self.at.year}-1" if quarterly else self.at.date().isoformat()

    # --- filings ---

    def _packages(self) -> Iterator[Sample]:
        whole: dict[str, Any] = {
            "package": "shili",
            "notice": self.notice.id,
            "filer": self.filer,
            "district": self._district,
            "received": self.at.astimezone(UTC),
        }
        for forms in ([self.form], [f for f in self.notice.forms if f.report][:1]):
            for outcome, accepted in (("accepted", 5), ("partly", 4), ("refused", 0)) if forms else ():
                findings = self._findings(forms[0]) if accepted < 5 else ()
                sheets = tuple(self._sheet(form, accepted) for form in forms)
                late = {
                    "late": outcome == "accepted",
                    "mode": "all_or_nothing" if not accepted else "valid_rows",
                }
                judged = PackageJudged(**whole, **late, outcome=outcome, sheets=sheets, findings=findings)
                for one in owed.letters_of_package(self.notice, judged, self.directory):
                    yield self._sample(one)
            for form in forms:
                refused = SubmissionRefused(
                    notice=self.notice.id,
                    form=form.id,
                    filer=self.filer,
                    district=self._district,
                    title=TITLE,
                    findings=self._findings(form),
                    received=self.at,
                )
                for one in owed.letters_of_refusal(
                    self.notice, refused, self.directory, event=f"shili-{form.id}"
                ):
                    yield self._sample(one)

    def _sheet(self, form: Form, accepted: int) -> JudgedSheet:
        numbers = tuple(f"{form.id}-0000000{n}" for n in range(accepted))
        marked = None if accepted == 5 else SHA256
        return JudgedSheet(
            file=f"{form.annex}.xlsx",
            form=form.id,
            sheet=form.annex,
            rows=5,
            accepted=accepted,
            numbers=numbers,
            marked=marked,
        )

    def _findings(self, form: Form) -> tuple[Finding, ...]:
        key = next(iter(form.by_key), None)
        header, field = (form.by_key[key].header, form.by_key[key].field) if key else ("材料", "R-GEN-001")
        place = {"sheet": form.annex, "row": 5, "cell": "B5"}
        known = {"rule": field, "code": "missing", "clause": form.clause}
        return (
            Finding(severity="hard", detail=f"“{header}”：不能为空", **known, **place),
            Finding(severity="soft", detail=f"“{header}”：请核对是否与所附材料一致", **known),
        )

    # --- deadlines ---

    def _deadlines(self) -> Iterator[Sample]:
        for deadline in self.notice.deadlines:
            ladder = rungs(deadline, self.calendar)
            agency = next(
                (a for kind in deadline.remind for a in self.directory.of_kind(kind)), self.district
            )
            # The last one before, and the one after.
            for rung in ladder[-2:] if agency else ():
                assert agency is not None  # for mypy
                one = owed.letter_of_deadline(
                    self.notice, deadline, rung, agency, self.directory, self.calendar
                )
                yield Sample(one, rung.at)
