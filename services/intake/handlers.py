"""What intake hears and says: rows and packages in, accepted or refused with findings out.

Judgement is in `parse.py`, reading spreadsheets in `workbook.py`, memory in `store.py`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.intake import answers, enterprises, identity, parse, store
from services.intake.belonging import Fresh, belong, corrects, standing
from services.intake.evidence import Evidence, unfit
from services.intake.findings import in_words_of
from services.intake.given import faults, given_rows
from services.intake.packages import Package
from services.intake.parse import Filing, Judged
from services.intake.sheets import Unusable
from shared.contracts import registry
from shared.contracts.problem import MOST, problem
from shared.contracts.submission import (
    CatalogueRecorded,
    EventAccepted,
    Filer,
    PackageFiled,
    SubmissionAccepted,
    SubmissionFiled,
    SubmissionRefused,
)
from shared.contracts.types import Assessment, Finding
from shared.notices.directory import Directory
from shared.notices.load import CompiledNotice, load_all
from shared.notices.rules import Facts
from shared.notices.values import chinese_date
from shared.runtime import metrics
from shared.runtime.decode import Item
from shared.runtime.delivery import Tx
from shared.runtime.service import Context, Service

OF_ENTERPRISES = (registry.TITLE_GRANTED, registry.INVESTMENT_APPROVED)


class Intake:
    """The service's read-only knowledge (notices, directory) and its handlers."""

    def __init__(self) -> None:
        self.notices: dict[str, CompiledNotice] = {}
        self.directory = Directory(agencies=())
        self.context: Context | None = None
        self.given = False
        self.assessed: set[str] = set()
        """The notices of which some rule tells a figure of every item."""

    async def setup(self, context: Context) -> None:
        """A broken notice file ends the start here, with every error and its line."""
        self.notices = load_all(context.settings.notices)
        self.directory = Directory.load(context.settings.agencies)
        for compiled in self.notices.values():
            if any(rule.figure is not None for rule in compiled.notice.rules):
                self.assessed.add(compiled.notice.id)
            for path, why in faults(compiled, self.directory):
                raise ValueError(f"{compiled.notice.id} {'.'.join(map(str, path))}: {why}")
        self.context = context

    async def open_given(self, context: Context) -> None:
        """Once, at the first sweep: the items that the notices themselves bring, through the same door as all others.
        Not in `setup`, which must not need the database. Of two replicas that do it at once, one finds the other's."""
        if self.given:
            return
        rows = [row for one in self.notices.values() for row in given_rows(one, self.directory)]
        if rows:
            async with context.delivery.transaction() as tx:
                there = await store.submissions(tx.conn, {j.case for _, j in rows if j.case})
                fresh = [(f, j) for f, j in rows if j.case not in there]
                await self._accept(tx, fresh, await self._examine(tx, fresh))
        self.given = True

    # --- what other systems file ---

    async def on_in(self, tx: Tx, items: Sequence[Item]) -> None:
        assert self.context
        rows: list[tuple[Item, Filing, Judged]] = []
        packages: list[Package] = []
        evidence = Evidence(self.context, tx)
        of_enterprises = [i for i in items if i.type in OF_ENTERPRISES]
        enterprises.told(tx, of_enterprises, self.directory)
        for item in items:
            if item.type in OF_ENTERPRISES:
                continue
            if isinstance(item.data, CatalogueRecorded):
                await self._record(tx, item, item.data)
                continue
            filing, wrong = self._filing(item, item.data)
            if filing is None:
                tx.refuse(item, problem("refused", "不予受理", f"共{len(wrong)}处问题", wrong))
            elif isinstance(item.data, SubmissionFiled):
                data = item.data
                notice = filing.notice.notice
                filing = replace(filing, materials=parse.materials_of(notice, data.files))
                judged = parse.judge(
                    filing,
                    data.form,
                    data.values,
                    direction=data.direction,
                    item_kind=data.item_kind,
                    case=data.case,
                )
                judged.findings += parse.unknown_materials(notice, data.files)
                judged.findings += in_words_of(notice, await self._attach(evidence, item, data))
                rows.append((item, filing, judged))
            else:
                packages.append(await Package.read(evidence, item, filing))
        everything = [(f, j) for _, f, j in rows] + [(p.filing, j) for p in packages for j in p.judged]
        known = await self._examine(tx, everything)
        for package in packages:
            package.examine({}, tallied=False)
            package.let_go()
        await self._accept(tx, everything, known)
        for item, filing, judged in rows:
            self._answer(tx, item, filing, judged)
            of = judged.owner.case if judged.owner else judged.case
            if of and not judged.hard:
                store.attach(tx.conn, of, (ref.sha256 for ref in item.data.files))
        for package in packages:
            await package.conclude(self.context, tx)

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
        district = parse.district_of(agency, by, notice.notice.issuer)
        department = self.directory.find(district)
        filing = Filing(
            notice,
            filer,
            by,
            district,
            item.received,
            package=str(item.key) if isinstance(data, PackageFiled) else None,
            district_name=department.short if department else "",
        )
        return filing, []

    async def _attach(self, evidence: Evidence, item: Item, data: SubmissionFiled) -> list[Finding]:
        """Keep the files that a row refers to; what was not sent, or may not be kept, is a fault of the row."""
        found = []
        for i, ref in enumerate(data.files):
            try:
                await evidence.take(item.token, ref)
            except Unusable as error:
                found.append(unfit(i, error))
        return found

    async def _examine(self, tx: Tx, rows: Sequence[tuple[Filing, Judged]]) -> dict[UUID, Any]:
        """Facts for all rows with two queries, then every rule that does not count. Rows that speak of another case
        come last, with two more: that case may be among the others."""
        new: list[tuple[Filing, Judged]] = []
        later: list[tuple[Filing, Judged]] = []
        for filing, judged in rows:
            form = filing.notice.notice.by_form.get(judged.form)
            speaks = form is not None and judged.item is not None and (form.report or form.continues)
            (later if speaks else new).append((filing, judged))
        known: dict[UUID, Any] = {}
        latest: dict[UUID, tuple[int, UUID | None, str]] = {}
        await self._examine_all(tx, new, known, latest)
        if later:
            await self._find_owners(tx, new, later)
            await self._examine_all(tx, later, known, latest)
        return known

    async def _find_owners(
        self, tx: Tx, new: Sequence[tuple[Filing, Judged]], later: Sequence[tuple[Filing, Judged]]
    ) -> None:
        """The case that each report tells of, or that each row continues."""
        named = {}
        for filing, judged in later:
            form = filing.notice.notice.by_form[judged.form]
            named[id(judged)] = identity.wanted(form, judged.row.stored or {}, judged.row.title, judged.named)
        notices = {f.notice.notice.id for f, _ in later}
        stored = await store.spoken_of(tx.conn, notices, set(named.values()))
        fresh = [Fresh.of(f, j) for f, j in new if j.case and not j.hard]
        for filing, judged in later:
            belong(filing, judged, named[id(judged)], [*stored, *fresh])

    async def _examine_all(
        self,
        tx: Tx,
        rows: Sequence[tuple[Filing, Judged]],
        known: dict[UUID, Any],
        latest: dict[UUID, tuple[int, UUID | None, str]],
    ) -> None:
        """`latest` is what was filed last of each case, in the store or before in this batch."""
        found = await store.submissions(tx.conn, {j.case for _, j in rows if j.case})
        known.update(found)
        latest.update(
            {c: (row.revision, row.digest, row.state) for c, row in found.items() if c not in latest}
        )
        there = dict(found)
        keys = {
            (j.form, key)
            for f, j in rows
            if "published_earlier" in f.notice.rules.asks(j.form) and (key := parse.published_key(f, j))
        }
        earlier = await store.published(tx.conn, keys)
        for filing, judged in rows:
            if judged.case is None:
                continue
            revision, digest, state = latest.get(judged.case, (0, None, ""))
            key = parse.published_key(filing, judged)
            hit = earlier.get((judged.form, key)) if key else None
            facts = Facts(
                published_earlier=hit is not None and hit.case != judged.case,
                published_where=hit.where if hit is not None else "",
                refiled=revision > 0
                and digest != judged.digest
                and state != "returned"
                and judged.base == judged.form,
            )
            judged.correction = state == "returned"
            parse.examine(filing, judged, facts)
            row = there.get(judged.case)
            judged.findings += standing(filing, judged, row, state)
            again = digest == judged.digest and not corrects(filing, judged, row)
            judged.revision = revision if again else revision + 1
            if not judged.hard:
                after = "published" if state == "published" else "open"
                latest[judged.case] = (judged.revision, judged.digest, after)
                if not filing.notice.notice.tallies:
                    there[judged.case] = Fresh.of(filing, judged)

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
            mine = {}
            for key in _counts(filing, judged):
                counted[key] += int(judged.revision == 1 and key[2:] in judged.tallies)
                mine[key[2]] = counted[key]
            parse.count(filing, judged, mine)
            owner = judged.owner
            # What continues or tells of a case goes the way that the case went.
            by = owner.recommender if owner else filing.by.code if filing.by else None
            unit = owner.unit if owner else filing.unit
            district = (owner.district if owner else "") or filing.district
            # Whose quota it counts against stays.
            stays = known.get(judged.case) if notice.tallies and not owner else None
            stored.append(
                {
                    "case": judged.case,
                    "number": judged.number,
                    "notice": notice.id,
                    "form": judged.form,
                    "unit": stays.unit if stays else unit,
                    "filer": filing.filer.code,
                    "title": judged.row.title,
                    "direction": judged.direction,
                    "item_kind": judged.item.kind,
                    "revision": judged.revision,
                    "digest": judged.digest,
                    "state": "open",
                    "version": 0,
                    "tallies": judged.tallies,
                    "late": judged.late,
                    "package": filing.package,
                    "received": filing.received.isoformat(),
                    "recommender": stays.recommender if stays else by,
                    "district": district,
                }
            )
            reports = notice.by_form[judged.form].report is not None
            tx.say(
                registry.SUBMISSION_ACCEPTED,
                district,
                SubmissionAccepted.model_construct(
                    case=judged.case,
                    number=judged.number,
                    revision=judged.revision,
                    notice=notice.id,
                    form=judged.form,
                    filer=filing.party(),
                    recommender=by,
                    unit=unit,
                    district=district,
                    direction=judged.direction,
                    item_kind=judged.item.kind,
                    title=judged.row.title,
                    values=judged.row.stored,
                    findings=tuple(judged.findings),
                    late=judged.late,
                    received=filing.received + timedelta(microseconds=judged.position),
                    package=filing.package,
                    counts=tuple(name for name, _ in judged.tallies),
                    assessments=self._assessments(filing, judged),
                    about=owner.case if owner and reports else None,
                    period=judged.period,
                ),
                judged.case,
                judged.revision,
                subject=judged.number,
            )
        await store.accept(tx.conn, stored)

    def _assessments(self, filing: Filing, judged: Judged) -> tuple[Assessment, ...]:
        if filing.notice.notice.id not in self.assessed:
            return ()
        return tuple(filing.notice.rules.assess(judged.form, judged.known, filing.on))

    def _answer(self, tx: Tx, item: Item, filing: Filing, judged: Judged) -> None:
        for finding in judged.findings:
            tx.after.append(metrics.BROKEN.labels(finding.rule, finding.severity).inc)
        if judged.hard:
            known = judged.form in filing.notice.forms  # what somebody made up is no label
            tx.after.append(metrics.ROWS.labels(judged.form if known else "none", "refused").inc)
            why = problem("refused", "不予受理", f"共{len(judged.findings)}处问题", judged.findings)
            tx.refuse(item, why)
            tx.say(
                registry.SUBMISSION_REFUSED,
                filing.district,
                SubmissionRefused(
                    notice=filing.notice.notice.id,
                    form=judged.form,
                    filer=filing.party(),
                    district=filing.district,
                    title=judged.row.title,
                    findings=tuple(judged.findings[:MOST]),
                    received=filing.received,
                ),
                item.key,
            )
            return
        tx.after.append(metrics.ROWS.labels(judged.form, "accepted").inc)
        assert judged.case
        tx.answer(
            item,
            registry.EVENT_ACCEPTED,
            EventAccepted.model_construct(
                accepted=item.event.id,
                type=item.event.type,
                case=judged.case,
                number=judged.number,
                errors=tuple(judged.findings),
            ),
        )

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
service = Service(
    "intake",
    {"in": intake.on_in, "evt": intake.on_evt, "out": answers.on_out},
    setup=intake.setup,
    tasks=(answers.tell,),
    sweeps=(intake.open_given,),
)
