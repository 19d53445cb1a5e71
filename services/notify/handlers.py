"""What notify hears, and the two things it does of itself: sending what is owed, recalling deadlines.

Which letters are owed is in `owed.py`, how they read in `letters/`, the ledger in `store.py`.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from email.headerregistry import Address
from uuid import UUID

from services.notify import owed, recall, reminders, smtp, store
from services.notify.address import BadAddress
from services.notify.compose import LETTERS, Unwritable, compose
from services.notify.owed import Owed
from shared.contracts import registry
from shared.contracts.case import AuditHeaded, CaseChanged, CaseOpened
from shared.contracts.mail import MailFailed, MailSent, MailSettled, MailUnknown
from shared.contracts.registry import EventType
from shared.contracts.submission import PackageJudged
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.directory import Directory
from shared.notices.load import CompiledNotice, load_all
from shared.runtime import files, metrics
from shared.runtime.decode import Item
from shared.runtime.delivery import Tx
from shared.runtime.service import Context, Service

PATIENCE = (5, 15, 60, 300, 900)
"""Seconds between attempts when nothing was sent; the last repeats."""
GIVE_UP_AFTER = 100
"""Attempts, at 15 minutes a day: then the mail has failed and a person must see to it."""

SETTLED: dict[str, tuple[EventType, type[MailSettled]]] = {
    "sent": (registry.MAIL_SENT, MailSent),
    "failed": (registry.MAIL_FAILED, MailFailed),
    "unknown": (registry.MAIL_UNKNOWN, MailUnknown),
}


@dataclass
class Notify:
    notices: Mapping[str, CompiledNotice] = field(default_factory=dict)
    directory: Directory = field(default_factory=lambda: Directory(agencies=()))
    calendar: Calendar = field(default_factory=Calendar.load)
    operators: tuple[str, ...] = ()
    sender: str = ""
    work: asyncio.Event = field(default_factory=asyncio.Event)
    _noted: set[tuple[str, str, str]] = field(default_factory=set)
    _recalled: set[str] = field(default_factory=set)
    _looked_again: bool = False

    async def setup(self, context: Context) -> None:
        self.notices = load_all(context.settings.notices)
        for compiled in self.notices.values():
            for path, why in owed.crossed(compiled.notice, LETTERS):
                raise ValueError(f"{compiled.notice.id} {'.'.join(map(str, path))}: {why}")
        self.directory = Directory.load(context.settings.agencies)
        self.calendar = Calendar.load(context.settings.calendars)
        self.operators, self.sender = context.settings.operators, context.settings.mail_from_name

    # --- what is owed ---

    async def on_evt(self, tx: Tx, items: Sequence[Item]) -> None:
        letters: list[Owed] = []
        facts: set[tuple[str, str, str]] = set()
        changes: list[tuple[CaseChanged, date]] = []
        for item in items:
            data = item.data
            if isinstance(data, AuditHeaded):
                if self.operators:
                    counts = await store.waiting(tx.conn)
                    letters += owed.letters_of_day(data, self.operators, self.sender, **counts)
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
        store.owe(tx.conn, letters)
        fresh = facts - self._noted
        store.note(tx.conn, sorted(fresh))
        # Only a saving: what is noted need not be written again.
        tx.after.append(lambda: self._noted.update(fresh))
        recall.remember(tx.conn, self.notices, changes, self.calendar, tx.now)
        tx.after.append(self.work.set)

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
                        owed.letter_of_deadline(notice, deadline, rung, a, self.directory, self.calendar, now)
                        for kind in deadline.remind
                        for a in self.directory.of_kind(kind)
                        if reminders.concerns(notice, deadline, a) and reminders.binds(deadline, a.code, done)
                    ]
                    entered.add(key)
            store.owe(conn, letters)
        # After the commit: a rung that was rolled back must be entered by the next turn.
        self._recalled |= entered
        looked = recall.MOST
        while looked == recall.MOST:
            async with context.engine.begin() as conn:
                looked, letters = await recall.recall(conn, self.notices, self.directory, self.calendar, now)
                store.owe(conn, letters)
            entered |= {letter.key for letter in letters}
        if entered:
            self.work.set()

    # --- sending ---

    async def send(self, context: Context) -> None:
        """One worker: claims, composes, delivers, settles. Its claims are its own for as long as it holds an
        advisory lock on a connection of its own, which the database frees the moment the process dies."""
        settings = context.settings
        worker = random.SystemRandom().getrandbits(62)
        relay = smtp.Relay(
            settings.smtp_host,
            settings.smtp_port,
            hostname=settings.mail_domain,
            security=settings.smtp_security,
            user=settings.smtp_user,
            password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
            final_timeout=settings.smtp_reply_timeout,
        )
        async with context.engine.connect() as alive:
            await alive.execute("select pg_advisory_lock(:worker)", {"worker": worker})
            try:
                while True:
                    self.work.clear()
                    while await self._one(context, relay, worker):
                        pass
                    try:
                        await asyncio.wait_for(self.work.wait(), 5)
                    except TimeoutError:
                        # Also the moment to notice that the lock went with its connection.
                        await alive.execute("select 1")
            finally:
                # Not back to the pool: the lock would live on with it, and what this worker claimed be stuck.
                alive.end()
                await relay.close()

    async def _one(self, context: Context, relay: smtp.Relay, worker: int) -> bool:
        settings = context.settings
        async with context.engine.begin() as conn:
            claimed = await store.claim(conn, worker)
        if claimed is None:
            return False
        letter, attempt = claimed
        try:
            attached = {
                a.sha256: await files.fetch(context.jetstream, files.OURS, a.sha256)
                for a in letter.attachments
            }
            message = compose(
                letter,
                message_id_domain=settings.mail_domain,
                sender=Address(settings.mail_from_name, addr_spec=settings.mail_from),
                date=context.clock.now(),
                files=attached,
            )
        except (BadAddress, Unwritable, files.Missing) as error:
            await self._settle(context, letter, attempt, "failed", type(error).__name__)
            return True

        async def before_data() -> bool:
            async with context.engine.begin() as conn:
                return await store.begin_data(conn, letter.mail, attempt)

        outcome = await relay.deliver(
            settings.mail_from, letter.address or "", message.as_bytes(), before_data
        )
        match outcome:
            case smtp.Sent():
                await self._settle(context, letter, attempt, "sent", None)
            case smtp.Unknown(why):
                await self._settle(context, letter, attempt, "unknown", why)
            case smtp.Failed(why):
                await self._settle(context, letter, attempt, "failed", why)
            case smtp.Later(why) if attempt >= GIVE_UP_AFTER:
                await self._settle(context, letter, attempt, "failed", why)
            case smtp.Later(why):
                wait = PATIENCE[min(attempt, len(PATIENCE)) - 1]
                async with context.engine.begin() as conn:
                    await store.postpone(conn, letter.mail, attempt, why, wait)
                metrics.MAILS.labels(letter.letter, "postponed").inc()
        return True

    async def _settle(
        self, context: Context, letter: Owed, attempt: int, state: str, why: str | None
    ) -> None:
        async with context.delivery.transaction() as tx:
            if await store.settle(tx.conn, letter.mail, attempt, state, why):
                _tell(tx, letter.mail, letter.letter, letter.to, letter.case, state, why, attempt)

    async def recover(self, context: Context) -> None:
        """Every second: what dead workers left behind."""
        async with context.delivery.transaction() as tx:
            for row in await store.recover(tx.conn, await store.orphans(tx.conn)):
                _tell(tx, row.id, row.letter, row.to_code, row.case, "unknown", "worker died", row.attempt)


def _tell(
    tx: Tx, mail: UUID, letter: str, to: str, case: UUID | None, state: str, why: str | None, attempt: int
) -> None:
    type_, payload = SETTLED[state]
    tx.after.append(metrics.MAILS.labels(letter, state).inc)
    # The attempt is part of the cause: `unknown` may be followed by the answer of a worker thought dead.
    tx.say(type_, to, payload(mail=mail, letter=letter, to=to, case=case, why=why), mail, attempt, state)


notify = Notify()
service = Service(
    "notify",
    {"evt": notify.on_evt},
    setup=notify.setup,
    tasks=(notify.send, notify.send),
    sweeps=(notify.remind, notify.recover),
)
