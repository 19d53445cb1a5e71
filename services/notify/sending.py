"""Sending what is owed: mails are claimed, written, handed to the relay over several connections, and settled.

What the wire says is in `smtp.py`, the states in `store.py`, how fast a domain may be written to in `pace.py`.

One process is one worker: its claims are its own for as long as it holds an advisory lock on a connection of its own,
which the database frees the moment the process dies. On that very connection it claims, and says that a mail is about
to leave: who has lost the lock can do neither. What many mails need written is written together, each mail waits for
the commit that has its own line in it.
"""

import asyncio
import contextlib
import heapq
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from functools import partial
from typing import Generic, TypeVar
from uuid import UUID

from services.notify import contacts, smtp, store, undelivered, verp
from services.notify.address import BadAddress
from services.notify.compose import Unwritable, compose
from services.notify.owed import Owed
from services.notify.pace import DEFAULT, Pace
from services.notify.recipients import People
from services.notify.store import Claim, Gate, Settled
from services.notify.templates import Letters
from services.notify.undelivered import SUPPRESSED, Undelivered
from shared.contracts import registry
from shared.contracts.mail import MailFailed, MailSent, MailSettled, MailUnknown
from shared.contracts.registry import EventType
from shared.notices.directory import Directory
from shared.runtime import files, metrics, spans
from shared.runtime.database import Connection, passes
from shared.runtime.delivery import Tx
from shared.runtime.service import Context
from shared.runtime.settings import Settings

log = logging.getLogger("yiqi.sending")

PATIENCE = (5, 15, 60, 300, 900)
"""Seconds between attempts when nothing was sent; the last repeats."""
GIVE_UP_AFTER = 100
"""Attempts, at 15 minutes a day: then the mail has failed and a person must see to it."""
RELAY_PAUSES = (0.5, 1.0, 2.0, 5.0)
"""Seconds that a connection waits after the relay was in trouble; the last repeats."""

CLAIM = 50
"""Mails that are claimed together: what a process that dies gives back, and one transaction."""
POLL = 5.0
"""Seconds after which a worker looks for itself, and notices that its lock went with its connection."""
GATHER = 0.01
"""Seconds from the first answer to the commit of it and of those that came meanwhile: what a process that dies then
knows alone is `unknown`."""
UNWRITTEN = 500
"""Outcomes that may wait for the database before no further mail is begun."""
GRACE = 5.0
"""Seconds for mails that are on their way when the service stops, and for the last outcomes."""

SETTLED: dict[str, tuple[EventType, type[MailSettled]]] = {
    "sent": (registry.MAIL_SENT, MailSent),
    "failed": (registry.MAIL_FAILED, MailFailed),
    "unknown": (registry.MAIL_UNKNOWN, MailUnknown),
}

Asked = TypeVar("Asked")


class Together(Generic[Asked]):
    """Yes or no for each of many that ask at the same time, by one statement: while one runs, the next ones gather."""

    def __init__(self, ask: Callable[[list[Asked]], Awaitable[set[Asked]]]) -> None:
        self._ask = ask
        self._waiting: list[tuple[Asked, asyncio.Future[bool]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def __call__(self, asked: Asked) -> bool:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                yes = await self._ask([asked for asked, _ in batch])
            except Exception as error:  # noqa: BLE001 - theirs to handle: each of them asked
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for asked, future in batch:
                if not future.done():
                    future.set_result(asked in yes)


@dataclass(frozen=True)
class Rules:
    """What sending needs of what the service has loaded: by it the letters are written, and whoever sees to one that
    does not arrive is told."""

    directory: Directory
    people: People
    letters: Letters
    gate: Gate


class Sending:
    """One worker. `work` is set when there may be something to send; outcomes that could not be written yet outlive a
    run, because no other process knows them."""

    def __init__(self, rules: Callable[[], Rules]) -> None:
        self.work = asyncio.Event()
        self._rules = rules
        self._outcomes: deque[Settled] = deque()
        self._told = asyncio.Event()
        self._written = asyncio.Event()
        self._again: list[float] = []

    async def run(self, context: Context) -> None:
        settings = context.settings
        self._ended = asyncio.Event()
        self._worker = random.SystemRandom().getrandbits(62)
        self._ledger = asyncio.Lock()
        self._ready: asyncio.Queue[Claim] = asyncio.Queue()
        self._parked: dict[str, deque[Claim]] = {}
        self._pace = Pace({**DEFAULT, **settings.mail_domain_rate})
        relays = [relay_of(context.settings) for _ in range(settings.smtp_connections)]
        async with context.engine.connect() as alive:
            await alive.execute("select pg_advisory_lock(:worker)", {"worker": self._worker})

            async def begin(mails: list[tuple[UUID, int]]) -> set[tuple[UUID, int]]:
                async with self._ledger:
                    ours = await store.begin_data(alive, self._worker, mails)
                return {one for one in mails if one[0] in ours}

            together = Together(begin)
            senders = [asyncio.create_task(self._send(context, relay, together)) for relay in relays]
            others = [
                asyncio.create_task(self._dispatch(context, alive)),
                asyncio.create_task(self._record(context)),
            ]
            try:
                done, _ = await asyncio.wait([*senders, *others], return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                await self._stop(context, senders, others)
                # Not back to the pool: the lock would live on with it, and what this worker claimed be stuck.
                alive.end()
                await asyncio.gather(*(relay.close() for relay in relays))

    async def _stop(
        self, context: Context, senders: list[asyncio.Task[None]], others: list[asyncio.Task[None]]
    ) -> None:
        """What is on its way may arrive: a mail that is cut off in DATA would be `unknown`."""
        self._ended.set()
        self.work.set()
        for _ in senders:
            self._ready.put_nowait(_END)
        others[0].cancel()
        _, late = await asyncio.wait(senders, timeout=GRACE)
        for task in (*late, *others):
            task.cancel()
        await asyncio.gather(*senders, *others, return_exceptions=True)
        try:
            async with asyncio.timeout(GRACE):
                while self._outcomes:
                    await self._write(context)
        except Exception as error:  # noqa: BLE001 - the next run writes them, or the next process finds `unknown`
            log.warning("outcomes not written", extra={"error_type": type(error).__name__})

    # --- claiming ---

    async def _dispatch(self, context: Context, alive: Connection) -> None:
        """Claim what may be sent now; what goes to a domain that must wait does not stand in the way of others."""
        loop = asyncio.get_running_loop()
        while not self._ended.is_set():
            self.work.clear()
            pause = self._unpark(loop.time())
            # Of each connection one in hand and one waiting; what more were claimed a crash would only give back.
            if self._ready.qsize() <= context.settings.smtp_connections:
                now, paused = context.clock.now(), tuple(self._parked)
                open_ = self._rules().gate.hours.open(now)
                async with self._ledger:
                    claims = await store.claim(alive, self._worker, CLAIM, now, open_=open_, paused=paused)
                for claim in claims:
                    self._admit(claim, loop.time())
                if len(claims) == CLAIM:
                    continue
            while self._again and self._again[0] <= loop.time():
                heapq.heappop(self._again)
            if self._again:
                pause = min(pause, self._again[0] - loop.time())
            await _wait(self.work, max(pause, 0.01))

    def _admit(self, claim: Claim, now: float) -> None:
        domain = _domain(claim)
        if domain in self._parked or self._pace.waits(domain, now):
            self._parked.setdefault(domain, deque()).append(claim)
        else:
            self._pace.begin(domain, now)
            self._ready.put_nowait(claim)

    def _unpark(self, now: float) -> float:
        """Seconds until the next of those that wait may go."""
        soonest = POLL
        for domain, waiting in list(self._parked.items()):
            while waiting and not (wait := self._pace.waits(domain, now)):
                self._pace.begin(domain, now)
                self._ready.put_nowait(waiting.popleft())
            if waiting:
                soonest = min(soonest, max(wait, 0.01))
            else:
                del self._parked[domain]
        return soonest

    # --- one connection ---

    async def _send(
        self, context: Context, relay: smtp.Relay, begin: Callable[[tuple[UUID, int]], Awaitable[bool]]
    ) -> None:
        loop = asyncio.get_running_loop()
        troubles = 0
        while True:
            claim = await self._next(context, relay)
            if claim is _END or self._ended.is_set():
                return
            refused, began = False, time.time_ns()
            try:
                outcome = await self._one(context, relay, claim, begin)
                refused = isinstance(outcome, smtp.Later) and not outcome.relay and outcome != smtp.CALLED_OFF
            finally:
                self._pace.end(_domain(claim), loop.time(), refused=refused)
                if self._parked or self._ready.qsize() <= context.settings.smtp_connections:
                    self.work.set()
            spans.sent(
                claim.owed.trace, claim.mail, claim.attempt, claim.owed.letter, began, type(outcome).__name__
            )
            self._settled(claim, outcome)
            while len(self._outcomes) > UNWRITTEN:
                self._written.clear()
                await self._written.wait()
            troubles = troubles + 1 if isinstance(outcome, smtp.Later) and outcome.relay else 0
            if troubles:
                await _wait(self._ended, RELAY_PAUSES[min(troubles, len(RELAY_PAUSES)) - 1])

    async def _next(self, context: Context, relay: smtp.Relay) -> Claim:
        if self._ready.empty():
            waiting = asyncio.ensure_future(self._ready.get())
            try:
                await asyncio.wait([waiting], timeout=context.settings.smtp_idle)
                if not waiting.done():
                    await relay.close()
                return await waiting
            finally:
                waiting.cancel()
        return self._ready.get_nowait()

    async def _one(
        self,
        context: Context,
        relay: smtp.Relay,
        claim: Claim,
        begin: Callable[[tuple[UUID, int]], Awaitable[bool]],
    ) -> smtp.Outcome:
        settings, letter = context.settings, claim.owed
        if claim.suppressed:
            return smtp.Failed(SUPPRESSED)
        try:
            attached = {
                a.sha256: await files.fetch(context.jetstream, files.OURS, a.sha256)
                for a in letter.attachments
            }
            message = compose(
                letter,
                letters=self._rules().letters,
                message_id_domain=settings.mail_domain,
                sender=Address(settings.mail_from_name, addr_spec=settings.mail_from),
                date=context.clock.now(),
                files=attached,
                reply_to=settings.mail_reply_to,
                unsubscribe=settings.mail_unsubscribe,
            ).as_bytes()
        except (BadAddress, Unwritable, files.Missing) as error:
            return smtp.Failed(type(error).__name__)
        return await relay.deliver(
            _sender(settings, claim.mail),
            letter.address or "",
            message,
            lambda: begin((claim.mail, claim.attempt)),
            claim.mail.hex,
        )

    # --- outcomes ---

    def _settled(self, claim: Claim, outcome: smtp.Outcome) -> None:
        mail, letter, attempt = claim.mail, claim.owed, claim.attempt
        match outcome:
            case smtp.Sent():
                done = Settled(mail, letter, attempt, "sent", None)
            case smtp.Unknown(why):
                done = Settled(mail, letter, attempt, "unknown", why)
            case smtp.Failed(why):
                done = Settled(mail, letter, attempt, "failed", why)
            case smtp.Later(why) if attempt >= GIVE_UP_AFTER:
                done = Settled(mail, letter, attempt, "failed", why)
            case smtp.Later(why):
                wait = PATIENCE[min(attempt, len(PATIENCE)) - 1]
                done = Settled(mail, letter, attempt, "queued", why, wait)
        self._outcomes.append(done)
        self._told.set()

    async def _record(self, context: Context) -> None:
        """Write outcomes as they come, many at a time; while the database is away they wait here."""
        while True:
            try:
                while self._outcomes:
                    await self._write(context)
            except Exception as error:
                if not passes(error):
                    raise
                log.warning("holding outcomes", extra={"error_type": type(error).__name__})
                await asyncio.sleep(0.5)
                continue
            self._told.clear()
            await self._told.wait()
            # What others are told in the next moment is written with it.
            await asyncio.sleep(GATHER)

    async def _write(self, context: Context) -> None:
        batch = [self._outcomes.popleft() for _ in range(min(len(self._outcomes), CLAIM * 4))]
        try:
            await self._settle(context, batch)
        except BaseException:
            self._outcomes.extendleft(reversed(batch))
            raise
        self._written.set()
        now = asyncio.get_running_loop().time()
        for wait in {one.wait for one in batch if one.state == "queued"}:
            heapq.heappush(self._again, now + wait)
            self.work.set()

    async def _settle(self, context: Context, batch: list[Settled]) -> None:
        later = [one for one in batch if one.state == "queued"]
        done = [one for one in batch if one.state != "queued"]
        async with context.delivery.transaction() as tx:
            if done:
                news = await store.settle(tx.conn, done, tx.now)
                for one in done:
                    if (one.mail, one.state) in news:
                        tell(tx, one.mail, one.owed, one.attempt, one.state, one.why)
                failed = [
                    Undelivered(one.owed, one.why, one.why == SUPPRESSED)
                    for one in done
                    if one.state == "failed" and (one.mail, one.state) in news
                ]
                await owe_undelivered(tx, context, self._rules(), failed)
            if later:
                await store.postpone(tx.conn, later, tx.now)
        for one in later:
            metrics.MAILS.labels(one.owed.letter, "postponed").inc()


_END = Claim(UUID(int=0), Owed("", "", "", "", None, {}), 0, suppressed=False)
"""Nothing comes any more."""


async def _wait(for_: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        # Not `wait_for`: that of Python 3.11 may swallow a cancellation.
        async with asyncio.timeout(seconds):
            await for_.wait()


def _domain(claim: Claim) -> str:
    """As `store.DOMAIN` has it."""
    return (claim.owed.address or "").rpartition("@")[2].lower()


def _sender(settings: Settings, mail: UUID) -> str:
    """What bounces come back to: by it one knows the mail, wherever it was sent on to."""
    if settings.bounce_domain is None or settings.bounce_secret is None:
        return settings.mail_from
    return verp.address(mail, settings.bounce_domain, settings.bounce_secret.get_secret_value())


def relay_of(settings: Settings, timeout: float = 60) -> smtp.Relay:
    return smtp.Relay(
        settings.smtp_host,
        settings.smtp_port,
        hostname=settings.mail_domain,
        security=settings.smtp_security,
        user=settings.smtp_user,
        password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
        timeout=timeout,
        final_timeout=settings.smtp_reply_timeout,
        most=settings.smtp_mails,
    )


def tell(tx: Tx, mail: UUID, letter: Owed, attempt: int, state: str, why: str | None) -> None:
    type_, payload = SETTLED[state]
    tx.after.append(metrics.MAILS.labels(letter.letter, state).inc)
    if state == "sent" and letter.arrived:
        took = max(0.0, (tx.now - letter.arrived).total_seconds())
        tx.after.append(partial(metrics.RECEIPT.labels(letter.letter).observe, took))
    # The attempt is part of the cause: `unknown` may be followed by the answer of a worker thought dead.
    tx.say(
        type_,
        letter.to,
        payload(mail=mail, letter=letter.letter, to=letter.to, case=letter.case, why=why),
        mail,
        attempt,
        state,
        trace=letter.trace,
    )


async def owe_undelivered(tx: Tx, context: Context, rules: Rules, failed: Sequence[Undelivered]) -> None:
    """A person is told of each, in the same transaction."""
    if not failed:
        return
    operators = context.settings.operators
    dead = await store.suppressed(tx.conn, list(undelivered.addresses(failed, rules.directory, operators)))
    letters = list(undelivered.letters(failed, rules.directory, operators, dead))
    store.owe(tx.conn, await contacts.recipients(tx.conn, rules.people, letters, tx.now), rules.gate, tx.now)


async def recover(context: Context) -> None:
    """Every second: what dead workers left behind."""
    async with context.delivery.transaction() as tx:
        for owed, attempt in await store.recover(tx.conn, await store.orphans(tx.conn), tx.now):
            tell(tx, owed.mail, owed, attempt, "unknown", "worker died")
