"""What intake hears and says: rows and packages in, accepted or refused with findings out.

Judgement is in `parse.py`, reading spreadsheets in `workbook.py`, memory in `store.py`.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.intake import child, parse, store
from services.intake.attachments import Unusable
from services.intake.parse import Filing, Judged
from services.intake.workbook import Sheet
from shared.contracts import registry
from shared.contracts.problem import problem
from shared.contracts.submission import (
    CatalogueRecorded,
    EventAccepted,
    Filer,
    JudgedSheet,
    PackageFiled,
    PackageJudged,
    SubmissionAccepted,
    SubmissionFiled,
    SubmissionRefused,
)
from shared.contracts.types import FileRef, Finding
from shared.notices.directory import Directory
from shared.notices.load import CompiledNotice, load_all
from shared.notices.rules import Facts
from shared.notices.values import chinese_date
from shared.runtime import files, metrics
from shared.runtime.delivery import Item, Tx
from shared.runtime.service import Context, Service

MOST_FINDINGS = 100

log = logging.getLogger("yiqi.intake")


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
    workbooks: dict[str, bytes] = field(default_factory=dict)

    @property
    def judged(self) -> list[Judged]:
        return [j for read in self.sheets for j in read.rows]

    @property
    def data(self) -> PackageFiled:
        data: PackageFiled = self.item.data
        return data


class Intake:
    """The service's read-only knowledge (notices, directory) and its handlers."""

    def __init__(self) -> None:
        self.notices: dict[str, CompiledNotice] = {}
        self.directory = Directory(agencies=())
        self.context: Context | None = None

    async def setup(self, context: Context) -> None:
        """A broken notice file ends the start here, with every error and its line."""
        self.notices = load_all(context.settings.notices)
        self.directory = Directory.load(context.settings.agencies)
        self.context = context

    # --- what other systems file ---

    async def on_in(self, tx: Tx, items: Sequence[Item]) -> None:
        rows: list[tuple[Item, Filing, Judged]] = []
        packages: list[Package] = []
        for item in items:
            if isinstance(item.data, CatalogueRecorded):
                await self._record(tx, item, item.data)
                continue
            filing, wrong = self._filing(item, item.data)
            if filing is None:
                tx.refuse(item, problem("refused", "不予受理", f"共{len(wrong)}处问题", wrong))
            elif isinstance(item.data, SubmissionFiled):
                data = item.data
                judged = parse.judge(
                    filing,
                    data.form,
                    data.values,
                    direction=data.direction,
                    item_kind=data.item_kind,
                    case=data.case,
                )
                rows.append((item, filing, judged))
            else:
                packages.append(await self._read(item, filing))
        everything = [(f, j) for _, f, j in rows] + [(p.filing, j) for p in packages for j in p.judged]
        known = await self._examine(tx, everything)
        for package in packages:
            package.findings += self._package_rules(package, {}, tallied=False)
            self._all_or_nothing(package)
        await self._accept(tx, everything, known)
        for item, filing, judged in rows:
            self._answer(tx, item, filing, judged)
        for package in packages:
            await self._conclude(tx, package)

    def _filing(
        self, item: Item, data: SubmissionFiled | PackageFiled
    ) -> tuple[Filing | None, list[Finding]]:
        notice = self.notices.get(data.notice)
        agency, wrong = parse.admit(notice, self.directory, data.filer, data.recommender, item.token)
        if wrong or notice is None:
            return None, wrong
        filer = data.filer
        if agency is not None:
            filer = Filer(**{**dict(filer), "name": agency.name})
        recommender = data.recommender if data.recommender != filer.code else None
        by = self.directory.find(recommender) if recommender else None
        filing = Filing(
            notice,
            filer,
            by,
            parse.district_of(agency, by, notice.notice.issuer),
            item.received,
            package=str(item.key) if isinstance(data, PackageFiled) else None,
        )
        return filing, []

    async def _examine(self, tx: Tx, rows: Sequence[tuple[Filing, Judged]]) -> dict[UUID, Any]:
        """Facts for all rows with two queries, then every rule that does not count."""
        known = await store.submissions(tx.conn, {j.case for _, j in rows if j.case})
        keys = {(j.form, key) for f, j in rows if (key := parse.published_key(f, j))}
        earlier = await store.published(tx.conn, keys)
        latest: dict[UUID, tuple[int, UUID | None, str]] = {
            case: (row.revision, row.digest, row.state) for case, row in known.items()
        }
        for filing, judged in rows:
            if judged.case is None:
                continue
            revision, digest, state = latest.get(judged.case, (0, None, ""))
            key = parse.published_key(filing, judged)
            hit = earlier.get((judged.form, key)) if key else None
            facts = Facts(
                published_earlier=hit is not None and hit.case != judged.case,
                published_where=hit.where if hit is not None else "",
                refiled=revision > 0 and digest != judged.digest and state != "returned",
            )
            judged.correction = state == "returned"
            parse.examine(filing, judged, facts)
            if state in ("closed", "published"):
                judged.findings.append(
                    parse.fault(
                        "R-COL-040",
                        "case.ended",
                        "该项目已办结，不再受理同名报送；如需重报请联系市级主管部门",
                        judged.root,
                    )
                )
            elif (owner := known.get(judged.case)) is not None and owner.filer != filing.filer.code:
                judged.findings.append(
                    parse.fault(
                        "R-GEN-011", "case.foreign", "同名项目已由其他单位报送", judged.root, "R-GEN-011"
                    )
                )
            same = digest == judged.digest
            judged.revision = revision if same else revision + 1
            if not judged.hard:
                latest[judged.case] = (judged.revision, judged.digest, "open")
        return known

    def _package_rules(self, package: Package, counts: Mapping[str, int], *, tallied: bool) -> list[Finding]:
        """The rules about the package as a whole; those that count only after its rows are counted."""
        filing = package.filing
        roles = {ref.role for ref in package.data.files if ref.sha256 in package.workbooks}
        facts = {f"facts.{t.name}": counts.get(t.name, 0) for t in filing.notice.notice.tallies}
        forms = sorted({j.form for j in package.judged})
        known = {
            "filed.forms": forms,
            "facts.has_scan": "scan" in roles,
            "facts.has_editable": "workbook" in roles,
            **facts,
        }
        return filing.notice.rules.package_findings(filing.names(), known, filing.on, tallied=tallied)

    def _all_or_nothing(self, package: Package) -> None:
        """Let go of the sound rows too, where the filer chose so or the package may not be taken at all."""
        broken = [f for f in package.findings if f.severity == "hard"]
        whole = package.data.mode == "all_or_nothing" and (broken or any(j.hard for j in package.judged))
        if whole or any(f.code == f.rule for f in broken):
            for judged in package.judged:
                judged.case = None

    async def _accept(self, tx: Tx, rows: Sequence[tuple[Filing, Judged]], known: dict[UUID, Any]) -> None:
        """Store what is accepted, count it, judge the rules that count, and say it."""
        fresh: dict[tuple[UUID, int], tuple[Filing, Judged]] = {}
        steps: Counter[tuple[str, str, str, str]] = Counter()
        for filing, judged in rows:
            if judged.hard or judged.case is None or judged.item is None:
                continue
            row = known.get(judged.case)
            if row is not None and row.revision >= judged.revision:
                continue
            if (judged.case, judged.revision) in fresh:
                continue
            fresh[judged.case, judged.revision] = (filing, judged)
            for key in _counts(filing, judged):
                # A step of 0 only reads the count: a sentence may name counts that this item adds nothing to.
                steps[key] += int(judged.revision == 1 and key[2:] in judged.tallies)
        if not fresh:
            return
        now = await store.tally(tx.conn, steps)
        counted = {key: used - steps[key] for key, used in now.items()}
        stored = []
        for filing, judged in fresh.values():
            assert judged.case
            assert judged.item
            assert judged.row.stored
            notice = filing.notice.notice
            late = filing.late and not judged.correction
            mine = {}
            for key in _counts(filing, judged):
                counted[key] += int(judged.revision == 1 and key[2:] in judged.tallies)
                mine[key[2]] = counted[key]
            parse.count(filing, judged, mine)
            number = parse.number_of(judged.form, judged.case)
            stored.append(
                {
                    "case": judged.case,
                    "number": number,
                    "notice": notice.id,
                    "form": judged.form,
                    "unit": filing.unit,
                    "filer": filing.filer.code,
                    "title": judged.row.title,
                    "direction": judged.direction,
                    "item_kind": judged.item.kind,
                    "revision": judged.revision,
                    "digest": judged.digest,
                    "state": "open",
                    "version": 0,
                    "tallies": judged.tallies,
                    "late": late,
                    "package": filing.package,
                    "received": filing.received.isoformat(),
                }
            )
            tx.say(
                registry.SUBMISSION_ACCEPTED,
                filing.district,
                SubmissionAccepted.model_construct(
                    case=judged.case,
                    number=number,
                    revision=judged.revision,
                    notice=notice.id,
                    form=judged.form,
                    filer=filing.party(),
                    recommender=filing.by.code if filing.by else None,
                    unit=filing.unit,
                    district=filing.district,
                    direction=judged.direction,
                    item_kind=judged.item.kind,
                    title=judged.row.title,
                    values=judged.row.stored,
                    findings=tuple(judged.findings),
                    late=late,
                    received=filing.received + timedelta(microseconds=judged.position),
                    package=filing.package,
                    counts=tuple(name for name, _ in judged.tallies),
                ),
                judged.case,
                judged.revision,
                subject=number,
            )
        await store.accept(tx.conn, stored)

    def _answer(self, tx: Tx, item: Item, filing: Filing, judged: Judged) -> None:
        for finding in judged.findings:
            metrics.BROKEN.labels(finding.rule, finding.severity).inc()
        if judged.hard:
            metrics.ROWS.labels(judged.form, "refused").inc()
            why = problem("refused", "不予受理", f"共{len(judged.findings)}处问题", judged.findings)
            tx.refuse(item, why)
            tx.say(
                registry.SUBMISSION_REFUSED,
                filing.district,
                SubmissionRefused(
                    notice=filing.notice.notice.id,
                    form=judged.form,
                    filer=filing.party(),
                    title=judged.row.title,
                    findings=tuple(judged.findings[:MOST_FINDINGS]),
                    received=filing.received,
                ),
                item.key,
            )
            return
        metrics.ROWS.labels(judged.form, "accepted").inc()
        assert judged.case
        tx.answer(
            item,
            registry.EVENT_ACCEPTED,
            EventAccepted.model_construct(
                accepted=item.event.id,
                type=item.event.type,
                case=judged.case,
                number=parse.number_of(judged.form, judged.case),
                errors=tuple(judged.findings),
            ),
        )

    # --- packages ---

    async def _read(self, item: Item, filing: Filing) -> Package:
        """Fetch the files of a package and read its workbooks, each in the limited child."""
        assert self.context
        package = Package(item, filing)
        notice = filing.notice
        for i, ref in enumerate(package.data.files):
            try:
                body = await files.fetch(self.context.jetstream, item.token, ref.sha256, ref.size)
            except files.Missing as error:
                package.findings.append(
                    parse.fault(
                        "R-COL-018",
                        "file.missing",
                        f"文件未收到：{error}",
                        f"#/data/files/{i}",
                        "征集通知·三",
                    )
                )
                continue
            package.workbooks[ref.sha256] = body
            if ref.role == "scan":
                continue
            try:
                sheets = await child.read(body, ref.name, notice)
            except Unusable as error:
                package.findings.append(
                    parse.fault("R-COL-018", error.code, error.detail, f"#/data/files/{i}", "征集通知·三")
                )
                continue
            for sheet in sheets:
                rows = parse.rows_of(filing, sheet, sum(len(r.rows) for r in package.sheets))
                package.sheets.append(Read(ref, sheet, rows))
                package.findings += parse.of_the_sheet(sheet)
        return package

    async def _conclude(self, tx: Tx, package: Package) -> None:
        """Package rules, the marked-up workbook, the answer."""
        assert self.context
        filing, item = package.filing, package.item
        notice = filing.notice
        accepted = [j for j in package.judged if j.case is not None and not j.hard]
        counts = await store.tallies(tx.conn, notice.notice.id, filing.unit)
        package.findings += self._package_rules(package, counts, tallied=True)
        marked = await self._marked(tx, package)
        sheets = []
        for read in package.sheets:
            taken = sum(1 for j in read.rows if j.case is not None and not j.hard)
            form = read.sheet.form
            sheets.append(
                JudgedSheet(
                    file=read.file.name,
                    form=form,
                    sheet=read.sheet.sheet,
                    rows=len(read.rows),
                    accepted=taken,
                    marked=marked.get(read.file.sha256),
                )
            )
            metrics.ROWS.labels(form or "none", "accepted").inc(taken)
            metrics.ROWS.labels(form or "none", "refused").inc(len(read.rows) - taken)
        for ref in package.data.files:
            if content := package.workbooks.get(ref.sha256):
                await store.keep_file(tx.conn, ref.sha256, ref.name, ref.role, item.token, content)
        findings = package.findings + [f for j in package.judged for f in parse.placed(j.findings, j.place)]
        for finding in findings:
            metrics.BROKEN.labels(finding.rule, finding.severity).inc()
        refused = len(package.judged) - len(accepted)
        outcome = "refused" if not accepted else "partly" if refused else "accepted"
        late = filing.late and not (accepted and all(j.correction for j in accepted))
        await store.keep_package(
            tx.conn,
            {
                "key": item.key,
                "publisher": item.token,
                "notice": notice.notice.id,
                "unit": filing.unit,
                "outcome": outcome,
                "rows": len(package.judged),
                "accepted": len(accepted),
                "forms": sorted({j.form for j in accepted}),
                "files": [r.sha256 for r in package.data.files],
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
                mode=package.data.mode,
                outcome=outcome,
                sheets=tuple(sheets),
                findings=tuple(findings[:MOST_FINDINGS]),
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
                    accepted=item.event.id, type=item.event.type, errors=tuple(findings[:MOST_FINDINGS])
                ),
            )

    async def _marked(self, tx: Tx, package: Package) -> dict[str, str]:
        """The filer's own workbooks with the faults in their cells: SHA-256 of the filed one → of the marked."""
        assert self.context
        found: dict[str, str] = {}
        for sha256, name in {r.file.sha256: r.file.name for r in package.sheets}.items():
            located = [f for r in package.sheets if r.file.sha256 == sha256 for f in r.located()]
            if not located:
                continue
            try:
                body = await child.mark(package.workbooks[sha256], name, located, package.filing.notice)
            except Unusable:
                # It could be read and not be written: the answer then lists the places, without the copy.
                log.warning("workbook was not marked", extra={"sha256": sha256})
                continue
            # Sent before the commit: whoever hears of it can fetch it, and sending again changes nothing.
            found[sha256] = await files.send(self.context.client, files.OURS, body)
            await store.keep_file(tx.conn, found[sha256], name, "marked", files.OURS, body)
        return found

    # --- memory ---

    async def _record(self, tx: Tx, item: Item, data: CatalogueRecorded) -> None:
        """An earlier catalogue, told by the city: from now on its rows may not be provided again."""
        cities = {n.notice.issuer for n in self.notices.values()}
        if item.token not in cities:
            tx.refuse(
                item, problem("authority", "无权办理", "只有发布通知的市级部门可以登记目录", status=403)
            )
            return
        await store.publish(
            tx.conn,
            [
                {
                    "form": data.form,
                    "key": parse.earlier_key(row.unit, row.name),
                    "where": f"《{data.title}》（{chinese_date(data.published_on)}）第{row.serial or i}号",
                    "case": None,
                }
                for i, row in enumerate(data.rows, 1)
            ],
        )
        tx.answer(item, registry.EVENT_ACCEPTED, EventAccepted(accepted=item.event.id, type=item.event.type))

    async def on_evt(self, tx: Tx, items: Sequence[Item]) -> None:
        """What became of the cases: returned ones may be corrected, closed ones stop counting, published
        ones may not come again."""
        changes: dict[UUID, tuple[int, str]] = {}
        for item in items:
            state = {"case.returned": "returned", "case.closed": "closed"}.get(item.type.name, "published")
            if item.data.case not in changes or changes[item.data.case][0] < item.data.version:
                changes[item.data.case] = (item.data.version, state)
        gone = await store.follow(tx.conn, changes)
        steps: Counter[tuple[str, str, str, str]] = Counter()
        for row in gone:
            for name, scope in row.tallies:
                steps[row.notice, row.unit, name, scope] -= 1
        await store.tally(tx.conn, steps)
        await store.publish(tx.conn, list(self._published(items)))

    def _published(self, items: Sequence[Item]) -> Iterable[dict[str, Any]]:
        for item in items:
            data = item.data
            compiled = self.notices.get(data.notice)
            if item.type is not registry.CASE_PUBLISHED or compiled is None:
                continue
            form = compiled.notice.by_form[data.form]
            unit = str(data.values.get(form.organizer or "") or data.filer.name)
            yield {
                "form": data.form,
                "key": parse.earlier_key(unit, parse.name_of(form.name, data.values)),
                "where": f"《{compiled.notice.form_title(form)}》项目{data.number}",
                "case": data.case,
            }


def _counts(filing: Filing, judged: Judged) -> list[tuple[str, str, str, str]]:
    """The keys of every count that a rule about this item may look at."""
    notice = filing.notice.notice
    return [
        (notice.id, filing.unit, t.name, (judged.direction or "") if t.by == "direction" else "")
        for t in notice.tallies
    ]


intake = Intake()
service = Service("intake", {"in": intake.on_in, "evt": intake.on_evt}, setup=intake.setup)
