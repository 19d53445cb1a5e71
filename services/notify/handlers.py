"""What notify hears, and what it does of itself: sending what is owed, recalling deadlines, the mail of the morning.

Which letters are owed is in `owed.py`, how they read in `letters/`, the ledger in `store.py` and `pending.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from services.notify import check, contacts, daily, lmtp, owed, pending, recall, reminders, sending, store
from services.notify.hours import Hours
from services.notify.owed import Owed
from services.notify.recipients import People
from services.notify.sending import Rules, Sending
from services.notify.store import Gate
from services.notify.templates import LETTERS, Letters
from shared.contracts import registry
from shared.contracts.case import AuditHeaded, CaseChanged, CaseOpened
from shared.contracts.mail import MailsSettled
from shared.contracts.problem import MOST, Problem, problem
from shared.contracts.submission import EventAccepted, PackageJudged
from shared.contracts.types import Finding
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.directory import Directory
from shared.notices.load import CompiledNotice, load_all
from shared.runtime.database import Connection
from shared.runtime.decode import Item
from shared.runtime.delivery import Tx
from shared.runtime.service import Context, Service

NO_HEAD_AFTER = timedelta(hours=1)
"""After which operators get their report without the head of the audit stream: review has not told it. Counted from
when this process first saw the day, because a process that was down has heard nothing."""


@dataclass
class Notify:
    notices: Mapping[str, CompiledNotice] = field(default_factory=dict)
    directory: Directory = field(default_factory=lambda: Directory(agencies=()))
    people: People = field(default_factory=lambda: People(Directory(agencies=())))
    calendar: Calendar = field(default_factory=Calendar.load)
    operators: tuple[str, ...] = ()
    sender: str = ""
    gate: Gate = field(default_factory=Gate)
    letters: Letters = field(init=False)
    _noted: set[tuple[str, str, str]] = field(default_factory=set)
    _recalled: set[str] = field(default_factory=set)
    _looked_again: bool = False
    _reminded: datetime | None = None
    """Up to which moment everything that is to be recalled is in the ledger."""
    _today: tuple[date, datetime] | None = None
    """The day, and when this process first saw it."""
    _reported: date | None = None
    _turned: date | None = None

    def __post_init__(self) -> None:
        self.sending = Sending(self._rules)

    async def setup(self, context: Context) -> None:
        self.notices = load_all(context.settings.notices)
        for compiled in self.notices.values():
            for path, why in owed.crossed(compiled.notice, LETTERS):
                raise ValueError(f"{compiled.notice.id} {'.'.join(map(str, path))}: {why}")
        self.directory = Directory.load(context.settings.agencies)
        self.people = People(self.directory)
        self.calendar = Calendar.load(context.settings.calendars)
        settings = context.settings
        self.letters = check.load(settings.letters, self.notices, self.directory)
        self.operators, self.sender = settings.operators, settings.mail_from_name
        if unknown := set(settings.hold_letters) - set(LETTERS):
            raise ValueError(f"to be held, and no letter: {', '.join(sorted(unknown))}")
        self.gate = Gate(Hours(settings.sending_hours, self.calendar), frozenset(settings.hold_letters))

    # --- what is owed ---

    async def on_evt(self, tx: Tx, items: Sequence[Item]) -> None:
        letters: list[Owed] = []
        facts: set[tuple[str, str, str]] = set()
        changes: list[tuple[CaseChanged, date]] = []
        for item in items:
            data = item.data
            if isinstance(data, AuditHeaded):
                letters += await self._report(tx.conn, data.day, data, tx.now)
                continue
            compiled = self.notices.get(data.notice)
            if compiled is None:
                continue
            notice = compiled.notice
            if isinstance(data, CaseChanged):
                letters += owed.letters_of_case(notice, data, self.directory, item.event.time)
                if isinstance(data, CaseOpened):
                    facts |= {(notice.id, data.unit, fact) for fact in ("filed", *data.counts)}
                changes.append((data, item.event.time.astimezone(SHANGHAI).date()))
            elif isinstance(data, PackageJudged):
                letters += owed.letters_of_package(notice, data, self.directory)
            elif item.type is registry.SUBMISSION_REFUSED:
                letters += owed.letters_of_refusal(notice, data, self.directory, event=item.event.id)
        await self._owe(tx.conn, letters, tx.now)
        fresh = facts - self._noted
        store.note(tx.conn, sorted(fresh))
        # Only a saving: what is noted need not be written again.
        tx.after.append(lambda: self._noted.update(fresh))
        recall.remember(tx.conn, self.notices, changes, self.calendar, tx.now)
        tx.after.append(self.sending.work.set)

    async def turn(self, context: Context) -> None:
        """Once a day: whose term is over gets none of the mails that still wait, also of what the directory lists."""
        now = context.clock.now()
        day = contacts.day_of(now)
        if day != self._turned:
            async with context.engine.begin() as conn:
                await contacts.turn(conn, self.people, now)
            self._turned = day

    async def remind(self, context: Context) -> None:
        """Every second: enter the reminders that have become due. A rung that is in the ledger stays one."""
        now = context.clock.now()
        if not self._looked_again:
            await recall.look_again(context.engine, self.notices, self.calendar, now)
            self._looked_again = True
        entered: set[str] = set()
        letters: list[Owed] = []
        async with context.engine.begin() as conn:
            for compiled in self.notices.values():
                notice = compiled.notice
                for deadline in notice.deadlines if notice.status == "in_force" else ():
                    rung = reminders.due_now(reminders.rungs(deadline, self.calendar), None, now)
                    if rung is None or (key := f"{notice.id}/{deadline.id}/{rung.key}") in self._recalled:
                        continue
                    if reminders.to_tell(rung, self.calendar, now) > now:
                        continue
                    needed = deadline.unless or deadline.only
                    done = await store.facts(conn, notice.id) if needed else set()
                    letters += [
                        owed.letter_of_deadline(notice, deadline, rung, a, self.directory, self.calendar)
                        for kind in deadline.remind
                        for a in self.directory.of_kind(kind)
                        if reminders.concerns(notice, deadline, a) and reminders.binds(deadline, a.code, done)
                    ]
                    entered.add(key)
            await self._owe(conn, letters, now)
        # After the commit: a rung that was rolled back must be entered by the next turn.
        self._recalled |= entered
        looked = recall.MOST
        while looked == recall.MOST:
            async with context.engine.begin() as conn:
                looked, letters = await recall.recall(conn, self.notices, self.directory, self.calendar, now)
                await self._owe(conn, letters, now)
            entered |= {letter.key for letter in letters}
        self._reminded = now
        if entered:
            self.sending.work.set()

    # --- what waits ---

    async def _owe(self, conn: Connection, letters: Sequence[Owed], now: datetime) -> None:
        store.owe(conn, await contacts.recipients(conn, self.people, letters, now), self.gate, now)

    async def on_in(self, tx: Tx, items: Sequence[Item]) -> None:
        """What agencies say of their contact persons, and issuers of mails that are held."""
        await contacts.on_in(tx, [i for i in items if i.type is registry.CONTACT_CHANGED], self.people)
        for item in items:
            if item.type is registry.CONTACT_CHANGED:
                continue
            said: MailsSettled = item.data
            if wrong := self._may_not(said, item.token):
                tx.refuse(item, wrong)
                continue
            found = await pending.settle(tx.conn, said, item.token, item.event.id, self.gate, tx.now)
            if not found.done:
                why = "没有这样的留存邮件，或者已经处理过"
                tx.refuse(item, problem("held", "没有留存的邮件", why, status=404))
                continue
            errors = tuple(
                Finding(
                    rule="held",
                    code="held",
                    severity="info",
                    clause="R-GEN-012",
                    detail="这封邮件不在留存，未处理",
                    pointer=f"#/data/mails/{said.mails.index(mail)}",
                )
                for mail in found.missing[:MOST]
            )
            told = EventAccepted(accepted=item.event.id, type=item.event.type, errors=errors)
            tx.answer(item, registry.EVENT_ACCEPTED, told)
        tx.after.append(self.sending.work.set)

    def _may_not(self, said: MailsSettled, publisher: str) -> Problem | None:
        compiled = self.notices.get(said.notice)
        if compiled is None:
            return problem("notice", "没有这个通知", "请核对 notice", status=404)
        if compiled.notice.issuer != publisher:
            return problem("authority", "无权办理", "留存的邮件由发文单位处理", status=403)
        if not self.directory.may_sign(publisher, said.officer):
            return problem(
                "officer", "经办人不属于本单位", "经办人的代码不在本单位的名单中，请核对", status=403
            )
        if said.text and said.action != "edit":
            return problem("held", "多写了 text", "text 只用于 edit（补充说明）")
        return None

    async def gather(self, context: Context) -> None:
        """Every second, after `remind`: the mail of the morning, of all that had come when everything was recalled."""
        until = self._reminded
        async with context.engine.connect() as conn:
            if until is None or not await pending.any_gathered(conn, until):
                return
        async with context.engine.begin() as conn:
            made = await pending.merge(conn, until, self.gate.hours)
        if made:
            self.sending.work.set()

    async def report(self, context: Context) -> None:
        """Every second: the report of the day, should nothing be heard of the audit stream."""
        now = context.clock.now()
        today = now.astimezone(SHANGHAI).date()
        if self._today is None or self._today[0] != today:
            self._today = today, now
        if not self.operators or self._reported == today or now < self._today[1] + NO_HEAD_AFTER:
            return
        async with context.engine.begin() as conn:
            if not await store.reported(conn, today, self.operators):
                await self._owe(conn, await self._report(conn, today, None, now), now)
        self._reported = today
        self.sending.work.set()

    async def _report(
        self, conn: Connection, day: date, headed: AuditHeaded | None, now: datetime
    ) -> list[Owed]:
        if not self.operators:
            return []
        notices = [compiled.notice for compiled in self.notices.values()]
        parts = await daily.parts(conn, headed, notices, self.directory, self.calendar, now)
        return owed.letters_of_day(day, headed, self.operators, self.sender, parts)

    # --- sending ---

    async def send(self, context: Context) -> None:
        await self.sending.run(context)

    def _rules(self) -> Rules:
        return Rules(self.directory, self.people, self.letters, self.gate)

    async def listen(self, context: Context) -> None:
        await lmtp.listen(context, self._rules)

    async def recover(self, context: Context) -> None:
        await sending.recover(context)


notify = Notify()
service = Service(
    "notify",
    {"in": notify.on_in, "evt": notify.on_evt},
    setup=notify.setup,
    tasks=(notify.send, notify.listen),
    sweeps=(notify.turn, notify.recover, notify.remind, notify.gather, notify.report),
    counts=store.COUNTS,
)
