"""A package on its way through intake: its files fetched, its workbooks read, its answer given.

How one row is judged is in `parse.py`, what is remembered in `store.py`.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

from services.intake import child, parse, store
from services.intake.evidence import Evidence, unfit
from services.intake.findings import in_words_of
from services.intake.parse import Filing, Judged
from services.intake.sheets import Sheet, Unusable, file_name
from shared.contracts import registry
from shared.contracts.problem import MOST, listed, problem
from shared.contracts.submission import EventAccepted, JudgedSheet, PackageFiled, PackageJudged
from shared.contracts.types import FileRef, Finding
from shared.runtime import files, metrics
from shared.runtime.decode import Item
from shared.runtime.delivery import Tx
from shared.runtime.service import Context

log = logging.getLogger("yiqi.intake")

MOST_SHEETS, MOST_ROWS = 400, 5000
"""Of one package: what is judged together is in memory together (5,000 faulty rows are 100 MB), and its answer must
fit into an event."""

MOST_NUMBERS = 20
"""Of one sheet that an answer lists: who filed more finds the others in its letters."""


@dataclass
class Read:
    """One sheet of one workbook, with its rows judged."""

    file: FileRef
    sheet: Sheet
    rows: list[Judged]

    def located(self) -> list[Finding]:
        """Every finding of the sheet and its rows, with its place."""
        return parse.of_the_sheet(self.sheet) + [
            f for j in self.rows for f in parse.placed(j.findings, j.place)
        ]


@dataclass
class Package:
    """A package while it is judged."""

    item: Item
    filing: Filing
    sheets: list[Read] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    there: list[FileRef] = field(default_factory=list)
    """The files that arrived and may be kept, and the forms that arrived: one that cannot be read is told by itself."""

    @classmethod
    async def read(cls, evidence: Evidence, item: Item, filing: Filing) -> Self:
        """Fetch the files of a package, keep them, and read its workbooks, each in the limited child."""
        package = cls(item, filing)
        notice = filing.notice.notice
        forms = []
        for i, ref in enumerate(package.data.files):
            if ref.role == "workbook" and ref.material is None:
                forms.append((i, ref))  # a file that says which paper it is, is none of the forms
                continue
            try:
                await evidence.take(item.token, ref)
            except Unusable as error:
                package.findings.append(unfit(i, error))
            else:
                package.there.append(ref)
        package.findings += parse.unknown_materials(notice, package.data.files)
        package.filing = replace(filing, materials=parse.materials_of(notice, package.there, named=True))
        for i, ref in forms:
            try:
                await package._open(evidence, ref)
            except Unusable as error:
                package.findings.append(unfit(i, error))
        package.findings = in_words_of(notice, package.findings)
        return package

    async def _open(self, evidence: Evidence, ref: FileRef) -> None:
        """Read one workbook, and keep it if it can be read."""
        body = await evidence.fetch(self.item.token, ref)
        self.there.append(ref)
        sheets = await child.read(body, ref.name, self.filing.notice)
        if len(self.sheets) + len(sheets) > MOST_SHEETS:
            raise Unusable("package.sheets", f"一次报送的工作表超过{MOST_SHEETS}个，请分几次报送")
        if len(self.judged) + sum(len(sheet.rows) for sheet in sheets) > MOST_ROWS:
            raise Unusable("package.rows", f"一次报送的内容超过{MOST_ROWS}行，请分几次报送")
        await evidence.keep(self.item.token, ref, ref.role, body)
        for sheet in sheets:
            rows = parse.rows_of(self.filing, sheet, sum(len(r.rows) for r in self.sheets))
            self.sheets.append(Read(ref, sheet, rows))
            self.findings += _of_file(ref, parse.of_the_sheet(sheet))

    @property
    def judged(self) -> list[Judged]:
        return [j for read in self.sheets for j in read.rows]

    @property
    def data(self) -> PackageFiled:
        data: PackageFiled = self.item.data
        return data

    def examine(self, counts: Mapping[str, int], *, tallied: bool) -> None:
        """The rules about the package as a whole; those that count only after its rows are counted."""
        roles = {ref.role for ref in self.there}
        facts = {f"facts.{t.name}": counts.get(t.name, 0) for t in self.filing.notice.notice.tallies}
        forms = sorted({j.form for j in self.judged})
        known = {
            "filed.forms": forms,
            "filed.titles": parse.titles(self.judged),
            "facts.has_scan": "scan" in roles,
            "facts.has_editable": "workbook" in roles,
            **facts,
        }
        filing = self.filing
        self.findings += filing.notice.rules.package_findings(
            filing.names(), known, filing.on, tallied=tallied
        )

    def let_go(self) -> None:
        """Let go of the sound rows too, where the filer chose so or the package may not be taken at all."""
        broken = [f for f in self.findings if f.severity == "hard"]
        whole = self.data.mode == "all_or_nothing" and (broken or any(j.hard for j in self.judged))
        if whole or any(f.code == f.rule for f in broken):
            for judged in self.judged:
                judged.case = None

    async def conclude(self, context: Context, tx: Tx) -> None:
        """Package rules, the marked-up workbook, the answer."""
        filing, item = self.filing, self.item
        notice = filing.notice
        accepted = [j for j in self.judged if j.case is not None and not j.hard]
        counts = await store.tallies(tx.conn, notice.notice.id, filing.unit)
        self.examine(counts, tallied=True)
        marked = await self._marked(context, tx)
        sheets = []
        for read in self.sheets:
            numbers = [number_of_case(j) for j in read.rows if j.case is not None and not j.hard]
            taken = len(numbers)
            form = read.sheet.form
            sheets.append(
                JudgedSheet(
                    file=file_name(read.file.name),
                    form=form,
                    sheet=read.sheet.sheet,
                    rows=len(read.rows),
                    accepted=taken,
                    numbers=tuple(numbers[:MOST_NUMBERS]),
                    marked=marked.get(read.file.sha256),
                )
            )
            tx.after.append(partial(metrics.ROWS.labels(form or "none", "accepted").inc, taken))
            tx.after.append(
                partial(metrics.ROWS.labels(form or "none", "refused").inc, len(read.rows) - taken)
            )
        findings = self.findings + [
            f
            for read in self.sheets
            for j in read.rows
            for f in _of_file(read.file, parse.placed(j.findings, j.place))
        ]
        for finding in findings:
            tx.after.append(metrics.BROKEN.labels(finding.rule, finding.severity).inc)
        refused = len(self.judged) - len(accepted)
        outcome = "refused" if not accepted else "partly" if refused else "accepted"
        rows = accepted or self.judged
        late = filing.late and (not rows or any(j.late for j in rows))
        store.keep_package(
            tx.conn,
            {
                "key": item.key,
                "publisher": item.token,
                "notice": notice.notice.id,
                "unit": filing.unit,
                "outcome": outcome,
                "rows": len(self.judged),
                "accepted": len(accepted),
                "forms": sorted({j.form for j in accepted}),
                "files": [r.sha256 for r in self.data.files],
                "late": late,
                "received": filing.received.isoformat(),
            },
        )
        tx.say(
            registry.PACKAGE_JUDGED,
            filing.district,
            PackageJudged(
                package=str(item.key),
                notice=notice.notice.id,
                filer=filing.party(),
                district=filing.district,
                mode=self.data.mode,
                outcome=outcome,
                sheets=tuple(sheets),
                findings=tuple(findings[:MOST]),
                late=late,
                received=filing.received,
            ),
            item.key,
        )
        if outcome == "refused":
            tx.refuse(item, problem("refused", "不予受理", f"共{len(findings)}处问题", findings))
        else:
            tx.answer(
                item,
                registry.EVENT_ACCEPTED,
                EventAccepted(
                    accepted=item.event.id,
                    type=item.event.type,
                    errors=listed(findings),
                    truncated=len(findings) > MOST,
                ),
            )

    async def _marked(self, context: Context, tx: Tx) -> dict[str, str]:
        """The filer's own workbooks with the faults in their cells: SHA-256 of the filed one → of the marked."""
        found: dict[str, str] = {}
        # Where nothing was taken, the sound rows must be filed again as well.
        only = self.data.only_faults and any(j.case is not None and not j.hard for j in self.judged)
        for sha256, name in {r.file.sha256: r.file.name for r in self.sheets}.items():
            located = [f for r in self.sheets if r.file.sha256 == sha256 for f in r.located()]
            if not located:
                continue
            try:
                filed = await store.body_of_file(tx.conn, sha256)
                body = await child.mark(filed, name, located, self.filing.notice, only_faults=only)
            except Unusable:
                # It could be read and not be written: the answer then lists the places, without the copy.
                log.warning("workbook was not marked", extra={"sha256": sha256})
                continue
            # Sent before the commit: whoever hears of it can fetch it, and sending again changes nothing.
            found[sha256] = await files.send(context.client, files.OURS, body)
            await store.keep_file(tx.conn, found[sha256], file_name(name), "marked", files.OURS, body)
        return found


def _of_file(ref: FileRef, findings: Iterable[Finding]) -> list[Finding]:
    """Two workbooks of a package may each have a `Sheet1`. Not by its name: people write people into those."""
    return [f.model_copy(update={"file": ref.sha256}) for f in findings]


def number_of_case(judged: Judged) -> str:
    """The number of the case that an accepted row opens, continues or tells of: a report has none of its own."""
    return judged.owner.number if judged.owner else judged.number
