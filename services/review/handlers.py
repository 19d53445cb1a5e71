"""What review hears and says: accepted rows become cases, decisions, scores, facts and time move them.

What may happen is in `decide.py`, `duties.py` and `panel.py`, what is remembered in `store.py`.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.review import holding, mirror, parties, store
from services.review.case import Case, Step, dated
from services.review.decide import decide, elapse, file_again, open_case, recount
from services.review.duties import fact, report
from services.review.panel import score
from services.review.parties import no_party
from services.review.telling import SAYS, changed, listeners, moved
from shared.contracts import registry
from shared.contracts.case import (
    DecisionMade,
    DecisionsMade,
    DecisionsSettled,
    FactReported,
    ScoreGiven,
)
from shared.contracts.problem import MOST, Problem, problem
from shared.contracts.submission import EventAccepted, SubmissionAccepted
from shared.contracts.types import Finding
from shared.notices.calendar import Calendar
from shared.notices.directory import Directory
from shared.notices.load import CompiledNotice, load_all
from shared.notices.model import Form, Notice
from shared.notices.stages import CLOCK
from shared.runtime import metrics
from shared.runtime.decode import Item
from shared.runtime.delivery import WAITS, Tx
from shared.runtime.service import Context, Service
from shared.runtime.streams import BEFORE_CASES, BEFORE_REVIEW, unfinished_since

log = logging.getLogger("yiqi.review")

GRACE = timedelta(seconds=5)
"""The clock acts so much later than something is due: what the bus stored before midnight by its own clock, which is
not ours, has been heard by then."""
NO_NOTICE = problem(
    "notice", "没有装载这个通知", "本项目的通知没有装载，或者已没有项目所在的阶段", status=409
)


class Batch:
    """The cases of one batch as they become, and the steps that made them so."""

    def __init__(self, known: dict[UUID, Case]) -> None:
        self.known = known
        self.now = dict(known)
        self.steps: list[Step] = []
        self.refusals: list[dict[str, Any]] = []

    def at(self, review: "Review", id_: UUID, moment: datetime) -> Case | None:
        """A case as it was when something about it arrived: what had come due by then goes before it, also when
        nobody has looked since; what came due later follows it."""
        case = self.now.get(id_)
        notice = review.notice_of(case) if case else None
        if case and notice and (case.wakes or case.owed):
            self.take(elapse(notice, case, moment, review.calendar))
        return self.now.get(id_)

    def refused(self, item: Item, case: Case, why: Problem, what: str, at: datetime, n: int = 0) -> None:
        self.refusals.append(
            {
                "key": item.key,
                "n": n,
                "case": case.case,
                "at": at.isoformat(),
                "publisher": item.token,
                "what": what,
                "code": why.type.rsplit(":", 1)[1],
                "why": why.detail,
            }
        )

    def take(self, steps: Sequence[Step], item: Item | None = None) -> None:
        """`item` is the event that brought them about; what the clock does because of it is nobody's deed."""
        for step in steps:
            if item and step.actor != CLOCK:
                step = replace(step, key=item.key, publisher=item.publisher)
            told = dated(self.now.get(step.case.case), replace(step, cause=item.event.id if item else ""))
            self.steps.append(told)
            self.now[told.case.case] = told.case


class Review:
    context: Context

    def __init__(self) -> None:
        self.notices: dict[str, CompiledNotice] = {}
        self.owing: frozenset[str] = frozenset()
        self.calendar = Calendar.load()
        self.directory = Directory(agencies=())
        self.listening: frozenset[str] = frozenset()
        self.recounted = False
        self.introduced = False
        self.stuck: set[UUID] = set()
        """Cases of which something is due that their notice, as it is loaded here, knows nothing of. Only remembered:
        another start, with another file, may know."""

    async def setup(self, context: Context) -> None:
        self.context = context
        self.notices = load_all(context.settings.notices)
        self.owing = frozenset(id_ for id_, one in self.notices.items() if one.notice.duties)
        self.calendar = Calendar.load(context.settings.calendars)
        self.directory = Directory.load(context.settings.agencies)
        self.listening = frozenset(one.code for one in self.directory.agencies if one.listens)

    # --- what is filed ---

    async def on_evt(self, tx: Tx, items: Sequence[Item]) -> None:
        """Accepted rows: a new case, a later filing of a known one, or a report about one."""
        await self._introduce(tx)
        batch = Batch(await store.cases(tx.conn, {i.data.about or i.data.case for i in items}, self.owing))
        for item in items:
            filed: SubmissionAccepted = item.data
            compiled = self.notices.get(filed.notice)
            # Received by intake, perhaps long before it has come to us. What the notice itself has brought was
            # "received" on its day, years ago perhaps: a case begins when it is told, and owes nothing before.
            case = batch.at(self, filed.about or filed.case, filed.received)
            at = _moment(filed.received, case) if case else item.received
            if compiled is None or (case and self.notice_of(case) is None):
                tx.wait(item, NO_NOTICE)
                continue
            notice = compiled.notice
            if filed.about and case is None:
                tx.wait(item, problem("case", "没有这个项目", "报告所说的项目不存在", status=404))
            elif filed.about and case:
                batch.take(report(notice, case, filed, at, self.calendar), item)
            elif case is None:
                batch.take([open_case(notice, filed, at, self.calendar)], item)
            elif step := file_again(notice, case, filed, at, self.calendar):
                batch.take([step], item)
            elif filed.revision > case.revision:
                self._too_late(tx, item, filed, case)
        await self._tell(tx, batch)

    # --- what time brings ---

    async def tick(self, context: Context) -> None:
        """Every second: what has come due, each once; of several dates that passed while nobody looked, all in
        their order."""
        if not self.recounted:
            await self._recount(context)
            self.recounted = True
        until = context.clock.now() - GRACE
        async with context.engine.connect() as conn:
            if not await store.ripe(conn, until, self.notices, self.owing, self.stuck):
                return
        until = min(until, await self.heard_until(context))
        while True:
            async with context.delivery.transaction() as tx:
                batch = Batch(await store.woken(tx.conn, until, self.notices, self.owing, self.stuck))
                for id_, case in batch.known.items():
                    notice = self.notice_of(case)
                    steps = elapse(notice, case, until, self.calendar) if notice else []
                    batch.take(steps)
                    if not steps:
                        self.stuck.add(id_)
                # Stable: what happened to one case stays in its order.
                batch.steps.sort(key=lambda step: step.at)
                await self._tell(tx, batch)
            if not batch.known:
                return

    async def heard_until(self, context: Context) -> datetime:
        """The moment up to which everything that was said has been heard: the clock must not overtake a report, an
        objection or a filing that lies unread on the bus. What it then does is dated by when it was due."""
        oldest = await unfinished_since(context.jetstream, BEFORE_REVIEW)
        return context.clock.now() if oldest is None else oldest + context.clock.offset

    async def _recount(self, context: Context) -> None:
        """Dates that were provisional when they were counted: this start may know more. Not in `setup`, which
        must not need the database."""
        last = UUID(int=0)
        while True:
            async with context.delivery.transaction() as tx:
                batch = Batch(await store.provisional(tx.conn, self.owing, last))
                for case in batch.known.values():
                    last = case.case
                    if notice := self.notice_of(case):
                        step = recount(notice, case, tx.now, self.calendar)
                        batch.take([step] if step else [])
                await self._tell(tx, batch)
            if not batch.known:
                return

    def notice_of(self, case: Case) -> Notice | None:
        """None when the notice is not loaded or has lost the stage, or the form, which says what of it is contact data:
        one such case must not stop the clock of all."""
        compiled = self.notices.get(case.notice)
        lost = compiled is None or self.form_of(case.notice, case.form) is None
        if compiled is None or lost or case.stage not in compiled.notice.procedure.by_id:
            log.error("a case stands in no stage of its notice", extra={"case": str(case.case)})
            return None
        return compiled.notice

    async def _introduce(self, tx: Tx) -> None:
        """Before the first batch: what the database must know to tell whose decision it may store. Not in `setup`,
        which must not need the database."""
        if self.introduced:
            return
        bodies = {id_: parties.bodies(one.notice) for id_, one in self.notices.items()}
        if taken := await store.introduce(tx.conn, bodies, self.directory.officers):
            log.error("codes of officers that were another agency's", extra={"officers": taken})
        tx.after.append(lambda: setattr(self, "introduced", True))

    def _unlisted(self, item: Item, officer: str | None) -> Problem | None:
        """Of an agency that has listed its officers, one of those decides; of another agency's, nobody."""
        if self.directory.may_sign(item.token, officer):
            return None
        return problem("officer", "经办人不属于本单位", "经办人的代码不在本单位的名单中，请核对", status=403)

    def form_of(self, notice: str, form: str) -> Form | None:
        compiled = self.notices.get(notice)
        return compiled.notice.by_form.get(form) if compiled else None

    def trusted(self, notice: Notice, case: Case, publisher: str) -> bool:
        """Whose word raises a ground by itself: the parties of the case, and departments of the city. What others
        report is on record, for a person to look at."""
        known = self.directory.find(publisher)
        return no_party(notice, case, publisher) is None or (
            known is not None and known.kind in ("city", "K1")
        )

    # --- what agencies say ---

    async def on_in(self, tx: Tx, items: Sequence[Item]) -> None:
        """Decisions, scores and reports of agencies, in the order in which the bus stored them."""
        await self._introduce(tx)
        settled: dict[UUID, tuple[DecisionMade, ...] | None] = {}
        taken: set[UUID] = set()
        for item in items:
            if isinstance(item.data, DecisionsMade) and item.data.hold:
                kept = [d.model_dump(mode="json") for d in item.data.decisions]
                if not await holding.hold(tx.conn, item.token, item.event.id, item.key, tx.now, kept):
                    taken.add(item.key)
            elif isinstance(item.data, DecisionsSettled) and not self._unlisted(item, item.data.officer):
                settled[item.key] = await self._settled(tx, item)
        named = {id_ for item in items for id_ in _named(item, settled.get(item.key))}
        batch = Batch(await store.cases(tx.conn, named, self.owing))
        unread: datetime | None = None
        if any(item.raw.deliveries > len(WAITS) for item in items):
            unread = await unfinished_since(self.context.jetstream, BEFORE_CASES)
        for item in items:
            data = item.data
            if isinstance(data, DecisionsSettled):
                held = settled.get(item.key)
                if wrong := self._unlisted(item, data.officer):
                    tx.refuse(item, wrong)
                elif held is None:
                    why = "没有这一批，或者已经处理过"
                    tx.refuse(item, problem("held", "没有待定的办理决定", why, status=404))
                else:
                    self._all(tx, item, batch, held, hold=False)
            elif item.key in taken:
                why = "本单位已有同一编号的一批决定，请换一个事件编号重报"
                tx.refuse(item, problem("held", "批号已经用过", why, status=409))
            elif isinstance(data, DecisionsMade):
                self._all(tx, item, batch, data.decisions, hold=data.hold)
            elif (case := batch.at(self, data.case, item.received)) is None:
                # Its filing may still wait on the other stream, behind an outage.
                tx.wait(item, problem("case", "没有这个项目", "请核对项目的 case", status=404), unread)
            else:
                self._one(tx, item, batch, case)
        await self._tell(tx, batch)

    def _one(self, tx: Tx, item: Item, batch: Batch, case: Case) -> None:
        """One decision, one expert's sheet, or one fact."""
        notice, data, at = self.notice_of(case), item.data, _moment(item.received, case)
        if notice is None:
            tx.wait(item, NO_NOTICE)
            return
        found: Step | list[Step] | Problem
        if wrong := self._unlisted(item, getattr(data, "officer", None)):
            found = wrong
        elif isinstance(data, ScoreGiven):
            found = score(notice, case, data, item.token, at)
        elif isinstance(data, FactReported):
            trusted = self.trusted(notice, case, item.token)
            found = fact(notice, case, data, item.token, at, self.calendar, trusted=trusted)
        else:
            found = decide(notice, case, data, item.token, at, self.calendar)
        if isinstance(found, Problem):
            batch.refused(item, case, found, getattr(data, "outcome", item.type.name), at)
            tx.refuse(item, found)
            return
        steps = found if isinstance(found, list) else [found]
        batch.take(steps, item)
        for step in steps:
            tx.after.append(metrics.DECISIONS.labels(step.case.stage, step.outcome).inc)
        after = batch.now[case.case]
        tx.answer(
            item,
            registry.EVENT_ACCEPTED,
            EventAccepted(
                accepted=item.event.id,
                type=item.event.type,
                case=after.case,
                number=after.number,
                errors=(_closed(notice, after),) if _ended(notice, case) else (),
            ),
        )

    def _all(
        self, tx: Tx, item: Item, batch: Batch, decisions: Sequence[DecisionMade], *, hold: bool
    ) -> None:
        """Many decisions, each by itself. Those that are held are tried, so that what is wrong with them is known
        before anybody relies on them."""
        wrong: list[Finding] = []
        for i, decision in enumerate(decisions):
            case = batch.at(self, decision.case, item.received)
            at = _moment(item.received, case)
            notice = self.notice_of(case) if case else None
            if case is None:
                found: Step | Problem = problem("case", "没有这个项目", "没有这个项目，请核对 case")
            elif notice is None:
                found = NO_NOTICE
            else:
                found = self._unlisted(item, decision.officer) or decide(
                    notice, case, decision, item.token, at, self.calendar
                )
            if isinstance(found, Problem):
                wrong.append(_fault(found, i))
                if case and not hold:
                    batch.refused(item, case, found, decision.outcome, at, i)
            elif not hold:
                batch.take([found], item)
                tx.after.append(metrics.DECISIONS.labels(found.case.stage, found.outcome).inc)
        if not hold and wrong and len(wrong) == len(decisions):
            tx.refuse(item, problem("decisions", "没有一项可以办理", f"共{len(wrong)}项，均不能办理", wrong))
            return
        told = wrong[:MOST]
        if len(wrong) > MOST:
            told.append(_fault(problem("more", "", f"共{len(wrong)}项办不了，只列出前{MOST}项"), MOST))
        accepted = EventAccepted(accepted=item.event.id, type=item.event.type, errors=tuple(told))
        tx.answer(item, registry.EVENT_ACCEPTED, accepted)

    async def _settled(self, tx: Tx, item: Item) -> tuple[DecisionMade, ...] | None:
        """The decisions that are released by this event; none when they are discarded, None when there is no such
        batch of this publisher."""
        said: DecisionsSettled = item.data
        state = {"release": "released", "discard": "discarded"}[said.action]
        held = await holding.settle(tx.conn, item.token, said.held, state, tx.now, said.officer, said.reason)
        if held is None:
            return None
        return tuple(DecisionMade.model_validate(one) for one in held) if said.action == "release" else ()

    def _too_late(self, tx: Tx, item: Item, filed: SubmissionAccepted, case: Case) -> None:
        """The case has ended, or what was approved is frozen: the filer is told, nothing is lost silently."""
        stage = self.notices[case.notice].notice.procedure.by_id[case.stage]
        why = f"项目{case.number}已到“{stage.name}”阶段，内容不能再改，本次报送未生效"
        if not stage.ends and not stage.frozen and filed.recommender != case.recommender:
            why = f"项目{case.number}正由原推荐单位办理，被退回后才能改报其他单位，本次报送未生效"
        tx.say(
            registry.EVENT_REJECTED,
            filed.filer.code,
            registry.EVENT_REJECTED.payload(
                **dict(problem("case.frozen", "内容不能再改", why, status=409)),
                rejected={
                    "id": item.event.id,
                    "type": item.event.type,
                    "subject": item.raw.subject,
                    "stream": item.raw.stream,
                    "seq": item.raw.seq,
                },
            ),
            item.key,
        )

    async def _tell(self, tx: Tx, batch: Batch) -> None:
        store.refuse(tx.conn, batch.refusals)
        if not batch.steps:
            return
        notices = {id_: compiled.notice for id_, compiled in self.notices.items()}
        parted = parties.changed(notices, batch.known, batch.steps)
        mirror.say(tx, await store.write(tx.conn, batch.steps, batch.known, parted, self.form_of))
        # What has moved may stand where its notice knows what is due.
        self.stuck.difference_update(step.case.case for step in batch.steps)
        for step in batch.steps:
            case, told = step.case, changed(step)
            named = {"subject": case.number, "causation": step.cause or None}
            tx.say(SAYS[step.says], case.district, told, case.case, case.version, **named)
            for code in listeners(case, notices[case.notice].issuer, self.listening):
                tx.say(registry.CASE_MOVED, code, moved(told), code, case.case, case.version, **named)


def _moment(received: datetime, case: Case | None) -> datetime:
    """When it happened: as it arrived, which an outage of ours does not move; never before what is known of the case
    already."""
    return max(received, case.entered) if case else received


def _named(item: Item, released: Sequence[DecisionMade] | None) -> Iterator[UUID]:
    """The cases that an event speaks of."""
    match item.data:
        case DecisionsSettled():
            yield from (d.case for d in released or ())
        case DecisionsMade():
            yield from (d.case for d in item.data.decisions)
        case _:
            yield item.data.case


def _fault(why: Problem, i: int) -> Finding:
    return Finding(
        rule=why.type.rsplit(":", 1)[1],
        code=why.type.rsplit(":", 1)[1],
        severity="hard",
        clause="R-GEN-012",
        detail=why.detail[:500],
        pointer=f"#/data/decisions/{i}",
    )


def _ended(notice: Notice, case: Case) -> bool:
    return notice.procedure.by_id[case.stage].ends == "closed"


def _closed(notice: Notice, case: Case) -> Finding:
    stage = notice.procedure.by_id[case.stage]
    detail = "项目已办结，已记录，不产生效果"
    return Finding(
        rule="case.ended", code="case.ended", severity="info", clause=stage.clause, detail=detail, pointer="#/data/case"
    )  # fmt: skip


review = Review()
service = Service(
    "review",
    {"in": review.on_in, "evt": review.on_evt},
    setup=review.setup,
    sweeps=(review.tick, mirror.Daily().tell),
    proven=True,
    counts=store.COUNTS,
)
