"""What review hears and says: accepted rows become cases, decisions move them.

What may happen is in `decide.py`, what is remembered in `store.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from services.review import store
from services.review.decide import Case, Step, at_term, decide, file_again, open_case, recount
from shared.contracts import registry
from shared.contracts.case import CaseChanged, CaseOpened, CasePublished
from shared.contracts.problem import Problem, problem
from shared.contracts.submission import EventAccepted, SubmissionAccepted
from shared.notices.calendar import Calendar
from shared.notices.load import CompiledNotice, load_all
from shared.runtime import metrics
from shared.runtime.decode import Item
from shared.runtime.delivery import Tx
from shared.runtime.service import Context, Service

SAYS = {
    "opened": registry.CASE_OPENED,
    "advanced": registry.CASE_ADVANCED,
    "returned": registry.CASE_RETURNED,
    "closed": registry.CASE_CLOSED,
    "published": registry.CASE_PUBLISHED,
}


class Review:
    def __init__(self) -> None:
        self.notices: dict[str, CompiledNotice] = {}
        self.calendar = Calendar.load()
        self.recounted = False

    async def setup(self, context: Context) -> None:
        self.notices = load_all(context.settings.notices)
        self.calendar = Calendar.load(context.settings.calendars)

    async def on_evt(self, tx: Tx, items: Sequence[Item]) -> None:
        """Accepted rows: a new case, or a later filing of a known one."""
        known = await store.cases(tx.conn, {i.data.case for i in items})
        now = dict(known)
        steps: list[Step] = []
        for item in items:
            filed: SubmissionAccepted = item.data
            notice = self.notices[filed.notice].notice
            case = now.get(filed.case)
            if case is None:
                step: Step | None = open_case(notice, filed, tx.now, self.calendar)
            else:
                step = file_again(notice, case, filed, tx.now, self.calendar)
                if step is None and filed.revision > case.revision:
                    self._too_late(tx, item, filed)
            if step is not None:
                steps.append(replace(step, cause=item.event.id))
                now[filed.case] = step.case
        await self._tell(tx, steps, known)

    async def tick(self, context: Context) -> None:
        """Every second: what the end of a term brings about, the longest overdue first, each once. A step may
        wake the case again, when several terms passed while nobody looked."""
        if not self.recounted:
            await self._recount(context)
            self.recounted = True
        while True:
            async with context.delivery.transaction() as tx:
                known = {case.case: case for case in await store.woken(tx.conn, tx.now, self.notices)}
                steps = {
                    id_: at_term(self.notices[case.notice].notice, case, self.calendar)
                    for id_, case in known.items()
                }
                await self._tell(tx, [step for step in steps.values() if step], known)
                if still := [id_ for id_, step in steps.items() if step is None]:
                    store.sleep(tx.conn, still)
            if not known:
                return

    async def _recount(self, context: Context) -> None:
        """Dates that were provisional when they were counted: this start may know more. Not in `setup`, which
        must not need the database."""
        async with context.delivery.transaction() as tx:
            known = {case.case: case for case in await store.provisional(tx.conn)}
            steps = [
                recount(self.notices[case.notice].notice, case, tx.now, self.calendar)
                for case in known.values()
                if case.notice in self.notices
            ]
            await self._tell(tx, [step for step in steps if step], known)

    async def on_in(self, tx: Tx, items: Sequence[Item]) -> None:
        """Decisions of agencies, in the order in which the bus stored them."""
        known = await store.cases(tx.conn, {i.data.case for i in items})
        now = dict(known)
        steps: list[Step] = []
        for item in items:
            case = now.get(item.data.case)
            if case is None:
                # Its filing may still wait on the other stream, behind an outage.
                tx.wait(item, problem("case", "没有这个项目", "请核对项目的 case", status=404))
                continue
            step = self._decide(tx, item, case)
            if isinstance(step, Problem):
                tx.refuse(item, step)
                continue
            steps.append(step)
            now[step.case.case] = step.case
            tx.after.append(metrics.DECISIONS.labels(now[step.case.case].stage, step.outcome).inc)
            tx.answer(
                item,
                registry.EVENT_ACCEPTED,
                EventAccepted(
                    accepted=item.event.id, type=item.event.type, case=step.case.case, number=step.case.number
                ),
            )
        await self._tell(tx, steps, known)

    def _decide(self, tx: Tx, item: Item, case: Case) -> Step | Problem:
        notice = self.notices[case.notice].notice
        found = decide(notice, case, item.data, item.token, tx.now, self.calendar)
        return replace(found, cause=item.event.id) if isinstance(found, Step) else found

    def _too_late(self, tx: Tx, item: Item, filed: SubmissionAccepted) -> None:
        """The case ended between intake's judgement and now: the filer is told, nothing is lost silently."""
        tx.say(
            registry.EVENT_REJECTED,
            filed.filer.code,
            registry.EVENT_REJECTED.payload(
                **dict(
                    problem(
                        "case.ended", "项目已办结", f"项目{filed.number}已办结，本次报送未生效", status=409
                    )
                ),
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

    async def _tell(self, tx: Tx, steps: Sequence[Step], known: dict[UUID, Case]) -> None:
        if not steps:
            return
        await store.write(tx.conn, steps, known)
        for step in steps:
            type_ = SAYS[step.says]
            tx.say(
                type_,
                step.case.district,
                _changed(step),
                step.case.case,
                step.case.version,
                subject=step.case.number,
                causation=step.cause,
            )


def _changed(step: Step) -> CaseChanged:
    case = step.case
    payload = SAYS[step.says].payload
    more: dict[str, Any] = {}
    if payload is CasePublished:
        more = {"item_kind": case.item_kind, "values": case.values, "filed": case.filed}
    elif payload is CaseOpened:
        more = {"counts": step.counts}
    changed: CaseChanged = payload.model_construct(
        case=case.case,
        number=case.number,
        version=case.version,
        notice=case.notice,
        form=case.form,
        stage=case.stage,
        outcome=step.outcome,
        actor=step.actor,
        filer=case.filer,
        recommender=case.recommender,
        unit=case.unit,
        district=case.district,
        title=case.title,
        late=case.late,
        reason=step.reason,
        rules=step.rules,
        acknowledges=step.acknowledges,
        fixes=step.fixes,
        due=case.due,
        provisional=case.provisional,
        package=case.package,
        **more,
    )  # type: ignore[assignment]
    return changed


review = Review()
service = Service(
    "review", {"in": review.on_in, "evt": review.on_evt}, setup=review.setup, sweeps=(review.tick,)
)
