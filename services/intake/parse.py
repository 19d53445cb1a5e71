"""Pure judgement of what is filed: who may file it, is the row sound, which rules does it break.

Remembering (duplicates, counts, history) is not here: it arrives as arguments. Nor is reading workbooks.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from services.intake.admission import admit as admit
from services.intake.admission import district_of as district_of
from services.intake.findings import fault as fault
from services.intake.findings import in_words_of
from services.intake.identity import Known, base_of, period_of
from services.intake.identity import case_of as case_of
from services.intake.identity import number_of as number_of
from services.intake.sheets import Sheet
from shared.contracts.submission import Filer
from shared.contracts.types import FileRef, Finding, ItemKind, Party, Values
from shared.notices.calendar import SHANGHAI
from shared.notices.directory import Agency
from shared.notices.forms import Row
from shared.notices.load import CompiledNotice
from shared.notices.model import Deadline, Form, Notice, Tally
from shared.notices.rules import Facts, Item
from shared.notices.values import chinese_date, narrow, same

ALL = "all"
"""The material of a file that is all papers of the notice, bound in one volume."""


@dataclass(frozen=True)
class Filing:
    """Who files, for whom, when: the same for all rows of a package."""

    notice: CompiledNotice
    filer: Filer
    by: Agency | None
    """The agency that is asked to recommend it."""
    district: str
    received: datetime
    package: str | None = None
    district_name: str = ""
    materials: tuple[str, ...] = ()
    """Which papers of the notice came with it."""

    @property
    def unit(self) -> str:
        """Whose quota it counts against: the recommender's, else the filer's own (AMB-14)."""
        return self.by.code if self.by else self.filer.code

    @property
    def identity(self) -> str:
        """Whose items are told apart by their names. Where nothing is counted, no unit but the filer matters: asked of
        another recommender, its item is still the same."""
        return self.unit if self.notice.notice.tallies else self.filer.code

    @property
    def on(self) -> date:
        return self.received.astimezone(SHANGHAI).date()

    @property
    def deadline(self) -> Deadline | None:
        return self.notice.notice.filing_deadline(self.filer.kind, self.district)

    @property
    def late(self) -> bool:
        return self.deadline is not None and self.deadline.missed(self.received)

    def party(self) -> Party:
        return Party(code=self.filer.code, kind=self.filer.kind, name=self.filer.name, email=self.filer.email)

    def names(self) -> dict[str, Any]:
        """The filer as the expressions of package rules see it."""
        return {
            "unit.kind": self.by.kind if self.by else self.filer.kind,
            "unit.name": self.by.name if self.by else self.filer.name,
            "filer.kind": self.filer.kind,
            "filer.code": self.filer.code,
            "filer.name": self.filer.name,
            "filer.registered": bool(self.filer.miit_registered),
        }


@dataclass
class Judged:
    """One row on its way: what it is, what is wrong with it, and which case it belongs to."""

    form: str
    row: Row
    findings: list[Finding]
    base: str = ""
    """The form that opens the case which it belongs to."""
    case: UUID | None = None
    named: UUID | None = None
    """The case that the filer says it belongs to."""
    owner: Known | None = None
    """The case that it continues or tells of."""
    period: str = ""
    digest: UUID | None = None
    direction: str | None = None
    item: Item | None = None
    known: dict[str, Any] = field(default_factory=dict)
    tallies: list[tuple[str, str]] = field(default_factory=list)
    revision: int = 1
    position: int = 0
    """Among the rows of its package: catalogues keep the order in which a unit lists its items."""
    overdue: bool = False
    correction: bool = False
    """It answers a return, for which the procedure sets a date of its own: it cannot be late for the round."""
    root: str = "#/data/values"
    place: tuple[str, int, Mapping[str, str]] | None = None
    """Sheet, row and cells by column, when it came in a workbook."""
    blocked: bool = False
    """By a fault of its whole sheet, such as another year in the title."""

    @property
    def hard(self) -> bool:
        return self.blocked or any(f.severity == "hard" for f in self.findings)

    @property
    def late(self) -> bool:
        return self.overdue and not self.correction

    @property
    def number(self) -> str:
        assert self.case
        return number_of(self.base, self.case)


def judge(
    filing: Filing,
    form: str,
    raw: Mapping[str, Any],
    *,
    direction: str | None = None,
    item_kind: ItemKind | None = None,
    case: UUID | None = None,
    root: str = "#/data/values",
    given: bool = False,
) -> Judged:
    """What the row says of itself: its values, its direction, whether its form fits (R-COL-002, 017). One that is
    `given` by the notice is filed by nobody."""
    compiled = filing.notice
    judge_ = compiled.forms.get(form)
    notice = compiled.notice
    if judge_ is None:
        known = "、".join(compiled.forms)
        finding = fault(
            "R-COL-017", "form.unknown", f"该通知没有表 {form}；现有 {known}", "#/data/form", "征集通知·三"
        )
        return Judged(form, Row(None, ()), in_words_of(notice, [finding]), form, root=root)
    row = judge_.judge(raw, root)
    findings = list(row.findings)
    if not given and not notice.may_file(form, filing.filer.kind):
        findings.append(
            fault(
                "R-COL-017",
                "form.kind",
                f"本类单位（{filing.filer.kind}）不报送{judge_.form.annex}",
                "#/data/form",
            )
        )
    chosen = direction or row.direction
    if direction is not None:
        known_direction = notice.by_direction.get(direction)
        if known_direction is None:
            labels = "、".join(d.label for d in notice.directions)
            findings.append(
                fault(
                    "R-COL-002",
                    "direction.unknown",
                    f"征集方向应为以下之一：{labels}",
                    "#/data/direction",
                    "征集通知·一(一)",
                )
            )
        elif form not in known_direction.forms:
            annexes = "、".join(
                compiled.forms[f].form.annex for f in known_direction.forms if f in compiled.forms
            )
            findings.append(
                fault(
                    "R-COL-017",
                    "direction.form",
                    f"征集方向为{known_direction.label}的，应填{annexes or '其他附件'}",
                    "#/data/direction",
                    "征集通知·三",
                )
            )
    judged = Judged(
        form,
        row,
        in_words_of(notice, findings),
        base_of(notice, form),
        direction=chosen,
        root=root,
        named=case,
    )
    if row.stored is not None:
        kind = item_kind or row.item_kind
        judged.period = period_of(judge_.form, row.stored)
        judged.overdue = filing.late and _of_the_round(judge_.form)
        own = case_of(
            notice.id, judged.base, filing.identity, " ".join(filter(None, (row.title, judged.period)))
        )
        judged.case = own if judge_.form.report else case or own
        # The stored values are in the order of the form, so the same content always has the same digest.
        content = to_json([row.stored, chosen, kind])
        judged.digest = UUID(bytes=hashlib.blake2b(content, digest_size=16).digest())
        judged.item = Item(
            judge_.form,
            row.stored,
            row.title,
            kind,
            chosen,
            filing.filer.kind,
            filing.filer.code,
            filing.filer.name,
            bool(filing.filer.miit_registered),
            judged.overdue,
            filing.by.kind if filing.by else None,
            filing.by.name if filing.by else None,
            filing.district,
            filing.district_name,
            filing.materials,
        )
    return judged


def _of_the_round(form: Form) -> bool:
    """Whether the date until which items are filed is about this form. What is reported of a title, or asked for
    later in a procedure, has terms of its own."""
    return form.item_kind != "report" and form.report is None and form.continues is None


def materials_of(notice: Notice, files: Iterable[FileRef], *, named: bool = False) -> tuple[str, ...]:
    """Which papers of the notice these files are: what each says of itself (one volume may be all of them), or where
    that is allowed, its name."""
    files = tuple(files)
    found = {ref.material for ref in files}
    if ALL in found:
        return tuple(m.key for m in notice.materials)
    if named:
        names = [_spelt(ref.name) for ref in files if ref.role == "scan" and ref.material is None]
        found |= {m.key for m in notice.materials if any(_has(n, _spelt(w)) for w in m.named for n in names)}
    return tuple(m.key for m in notice.materials if m.key in found)


def _spelt(name: str) -> str:
    """A file name in the spelling in which it compares: signs and blanks count between two digits only."""
    text = re.sub(r"(?<=\d)[至到](?=\d)", "-", narrow(name).casefold())
    return re.sub(r"[\W_]+", lambda sign: "-" * bool(re.search(r"\d[\W_]+\d", _around(sign))), text)


def _around(sign: re.Match[str]) -> str:
    return sign.string[max(0, sign.start() - 1) : sign.end() + 1]


def _has(name: str, word: str) -> bool:
    """A year is one only where no digit or date goes on: 财务报表20190520 is none of 2019."""
    before, after = r"(?<!\d)" * word[:1].isdigit(), r"(?!-?\d)" * word[-1:].isdigit()
    return re.search(before + re.escape(word) + after, name) is not None


def unknown_materials(notice: Notice, files: Sequence[FileRef]) -> list[Finding]:
    known = {m.key: m.name for m in notice.materials}
    listed = "、".join(f"{key}（{name}）" for key, name in known.items())
    listed = f"{listed}、{ALL}（全部合订为一份）" if listed else "（本通知没有列出材料）"
    return [
        fault(
            "material",
            "material.unknown",
            f"没有这种材料；可用：{listed}",
            f"#/data/files/{i}/material",
            notice.clause_name,
        )
        for i, ref in enumerate(files)
        if ref.material is not None and ref.material not in {*known, ALL}
    ]


def rows_of(filing: Filing, sheet: Sheet, first: int = 0) -> list[Judged]:
    """The rows of a sheet, judged one by one; `first` is how many rows the package has before them."""
    if sheet.form is None:
        return []
    blocked = any(f.severity == "hard" and f.row is None for f in sheet.findings)
    rows = []
    for i, raw in enumerate(sheet.rows, first):
        judged = judge(filing, sheet.form, raw.raw, root=f"#/data/rows/{i}")
        judged.findings += [f for f in sheet.findings if f.row == raw.row]
        judged.place, judged.position, judged.blocked = (sheet.sheet, raw.row, raw.cells), i, blocked
        rows.append(judged)
    return rows


def of_the_sheet(sheet: Sheet) -> list[Finding]:
    """The findings that no row of the sheet has taken."""
    rows = {raw.row for raw in sheet.rows}
    return [f for f in sheet.findings if f.row not in rows]


def examine(filing: Filing, judged: Judged, facts: Facts) -> None:
    """Every rule that does not count: adds its findings, and which counts the item would add to."""
    if judged.item is None:
        return
    book = filing.notice.rules
    judged.known = book.known(judged.item, facts)
    judged.findings += book.findings(judged.form, judged.known, filing.on, tallied=False, root=judged.root)
    if judged.late:
        deadline = filing.deadline
        assert deadline
        assert deadline.rule
        judged.findings.append(
            Finding(
                rule=deadline.rule,
                code="late",
                severity=deadline.late,
                clause=deadline.clause,
                detail=_too_late(deadline),
                pointer="#",
            )
        )
    judged.tallies = book.tallies(judged.form, judged.known)


def _too_late(deadline: Deadline) -> str:
    """With the hour where one is printed, as `2019年6月18日17时`."""
    last = f"截止日{chinese_date(deadline.on)}"
    if at := deadline.at:
        minutes = f"{at.minute}分" if at.minute else ""
        last = f"截止时间{chinese_date(deadline.on)}{at.hour}时{minutes}"
    then = "逾期不予受理" if deadline.late == "hard" else "是否受理由主管部门决定"
    return f"报送时间已过{last}，{then}"


def count(filing: Filing, judged: Judged, tallies: Mapping[str, int]) -> None:
    """The rules that count (quotas), for an item that is accepted; they are soft by construction."""
    judged.known |= {f"facts.{name}": n for name, n in tallies.items()}
    judged.findings += filing.notice.rules.findings(
        judged.form, judged.known, filing.on, tallied=True, root=judged.root
    )


def placed(findings: Sequence[Finding], place: tuple[str, int, Mapping[str, str]] | None) -> list[Finding]:
    """Findings with the sheet, row and cell that they are about."""
    if place is None:
        return list(findings)
    sheet, row, cells = place
    return [f if f.row else replace_finding(f, sheet, row, _cell(f.pointer, cells)) for f in findings]


def _cell(pointer: str, cells: Mapping[str, str]) -> str | None:
    """The cell of a value, or of the table that a missing one belongs to: `…/incidents/2/level`."""
    path = pointer.split("/")[3:]
    for start in range(len(path)):
        for end in range(len(path), start, -1):
            if cell := cells.get("/".join(path[start:end])):
                return cell
    return None


def replace_finding(finding: Finding, sheet: str, row: int, cell: str | None) -> Finding:
    """A card has cells and no row."""
    return finding.model_copy(update={"sheet": sheet, "row": row or None, "cell": cell})


def published_key(filing: Filing, judged: Judged) -> str | None:
    """(institution, name) of a row, normalised, for the comparison with earlier catalogues (R-COL-022)."""
    if judged.row.stored is None:
        return None
    form = filing.notice.forms[judged.form].form
    organizer = str(judged.row.stored.get(form.organizer or "") or filing.filer.name)
    return earlier_key(organizer, name_of(form.name, judged.row.stored))


def titles(rows: Iterable[Judged]) -> dict[str, list[str]]:
    """What is filed together, by form: names in the spelling in which two of them compare."""
    found: dict[str, list[str]] = {}
    for judged in rows:
        found.setdefault(judged.form, []).append(same(judged.row.title))
    return found


def earlier_key(unit: str, name: str) -> str:
    return same(unit) + "|" + same(name)


def name_of(keys: Sequence[str], stored: Values) -> str:
    return " ".join(str(stored.get(k) or "") for k in keys)


# --- offline -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checked:
    """A sheet judged alone: its rows with what was typed, and every finding with its place."""

    form: str | None
    sheet: str
    rows: Sequence[tuple[Judged, Mapping[str, Any]]]
    findings: list[Finding]


def offline(filing: Filing, sheets: Sequence[Sheet]) -> list[Checked]:
    """Judge workbooks without a server: nothing is remembered from elsewhere, so quotas and duplicates are
    those of these sheets, and earlier catalogues are not asked. Which papers go with it is not known either: they
    are taken to be there."""
    filing = replace(filing, materials=tuple(m.key for m in filing.notice.notice.materials))
    used: Counter[tuple[str, str]] = Counter()
    filed: dict[UUID, tuple[int, UUID | None]] = {}
    checked: list[Checked] = []
    for sheet in sheets:
        rows = list(zip(rows_of(filing, sheet), (raw.raw for raw in sheet.rows), strict=False))
        for judged, _ in rows:
            if judged.case is None:
                continue
            revision, digest = filed.get(judged.case, (0, None))
            examine(filing, judged, Facts(refiled=revision > 0 and digest != judged.digest))
            if judged.hard or digest == judged.digest:
                continue
            filed[judged.case] = (revision + 1, judged.digest)
            if revision == 0:
                used.update(judged.tallies)
            count(
                filing,
                judged,
                {t.name: used[t.name, _scope(t, judged)] for t in filing.notice.notice.tallies},
            )
            judged.known = {}  # of 20,000 rows it would be 40 MB, and nobody asks again
        findings = of_the_sheet(sheet)
        findings += [f for judged, _ in rows for f in placed(judged.findings, judged.place)]
        checked.append(Checked(sheet.form, sheet.sheet, rows, findings))
    totals: Counter[str] = Counter()
    for (name, _), n in used.items():
        totals[name] += n
    if checked:
        checked[0].findings.extend(_package_rules(filing, checked, totals))
    return checked


def _package_rules(filing: Filing, checked: Sequence[Checked], totals: Mapping[str, int]) -> list[Finding]:
    """That the sealed scan is there cannot be told from a workbook, so it is not asked."""
    known = {
        "filed.forms": sorted({c.form for c in checked if c.form and c.rows}),
        "filed.titles": titles(judged for c in checked for judged, _ in c.rows),
        "facts.has_scan": True,
        "facts.has_editable": True,
        **{f"facts.{t.name}": totals.get(t.name, 0) for t in filing.notice.notice.tallies},
    }
    book, names = filing.notice.rules, filing.names()
    return [
        f
        for tallied in (False, True)
        for f in book.package_findings(names, known, filing.on, tallied=tallied)
    ]


def _scope(tally: Tally, judged: Judged) -> str:
    return (judged.direction or "") if tally.by == "direction" else ""
