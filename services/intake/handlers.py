"""What intake hears and says: rows and packages in, accepted or refused with findings out.

Judgement is in `parse.py`, reading spreadsheets in `workbook.py`, memory in `store.py`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.intake import parse, store
from services.intake.packages import Package, missing
from services.intake.parse import Filing, Judged
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
from shared.contracts.types import Finding
from shared.notices.directory import Directory
from shared.notices.load import CompiledNotice, load_all
from shared.notices.rules import Facts
from shared.notices.values import chinese_date
from shared.runtime import files, metrics
from shared.runtime.decode import Item
from shared.runtime.delivery import Tx
from shared.runtime.service import Context, Service


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
        assert self.context
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
                judged.findings += await self._attach(tx, item, data)
                rows.append((item, filing, judged))
            else:
                packages.append(await Package.read(self.context, item, filing))
        everything = [(f, j) for _, f, j in rows] + [(p.filing, j) for p in packages for j in p.judged]
        known = await self._examine(tx, everything)
        for package in packages:
            package.examine({}, tallied=False)
            package.let_go()
        await self._accept(tx, everything, known)
        for item, filing, judged in rows:
            self._answer(tx, item, filing, judged)
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
        filing = Filing(
            notice,
            filer,
            by,
            parse.district_of(agency, by, notice.notice.issuer),
            item.received,
            package=str(item.key) if isinstance(data, PackageFiled) else None,
        )
        return filing, []

    async def _attach(self, tx: Tx, item: Item, data: SubmissionFiled) -> list[Finding]:
        """Keep the files that a row refers to; what was not sent is a fault of the row."""
        assert self.context
        found = []
        for i, ref in enumerate(data.files):
            if await store.has_file(tx.conn, ref.sha256):
                continue
            try:
                body = await files.fetch(self.context.jetstream, item.token, ref.sha256, ref.size)
            except files.Missing as error:
                found.append(missing(i, error))
                continue
            await store.keep_file(tx.conn, ref.sha256, ref.name, ref.role, item.token, body)
        return found

    async def _examine(self, tx: Tx, rows: Sequence[tuple[Filing, Judged]]) -> dict[UUID, Any]:
        """Facts for all rows with two queries, then every rule that does not count."""
        known = await store.submissions(tx.conn, {j.case for _, j in rows if j.case})
        keys = {
            (j.form, key)
            for f, j in rows
            if "published_earlier" in f.notice.rules.asks(j.form) and (key := parse.published_key(f, j))
        }
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
            tx.after.append(metrics.BROKEN.labels(finding.rule, finding.severity).inc)
        if judged.hard:
            tx.after.append(metrics.ROWS.labels(judged.form, "refused").inc)
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
                number=parse.number_of(judged.form, judged.case),
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
service = Service("intake", {"in": intake.on_in, "evt": intake.on_evt}, setup=intake.setup)
