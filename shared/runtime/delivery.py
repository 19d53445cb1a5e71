"""Exactly-once effects: a batch of raw messages in, one transaction, events out, then the acks.

What a service does with an event is not here, nor is anything of FastStream: the tests, the replay of dead
rows and the broker all enter by `Delivery.handle`.

The order below is the promise. Effects, the inbox row and the outbox rows commit together; what was said is
published after the commit with an id that follows from its cause; the ack comes last. A crash anywhere
leaves either nothing, or rows that the sweeper publishes again under the same ids.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import nats.errors
import nats.js.errors
from pydantic import BaseModel

from shared.contracts import registry
from shared.contracts.english import in_english
from shared.contracts.problem import Problem, problem
from shared.contracts.registry import EVENT_REJECTED, EventType, majors
from shared.runtime import metrics, spans, traces
from shared.runtime.clock import Clock
from shared.runtime.database import Again, Connection, Database, passes
from shared.runtime.dead import AT_ONCE, TAKEN, bury, claim, give_up, rejection
from shared.runtime.decode import Dead, Item, Raw, decode
from shared.runtime.publisher import Message, Publisher
from shared.runtime.streams import STREAM_OF

log = logging.getLogger("yiqi.delivery")

SWEEP_AFTER = timedelta(seconds=3)
"""An outbox row this old was left behind by a crash or an outage; younger ones are being published."""


MOST_BYTES = 1_000_000
"""Of an event that we say: the streams take 1 MiB with subject and headers. What they do not take would stay
in the outbox for ever, so it is never put there."""

WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between the attempts of an event that speaks of something that is not known yet."""
LONGER = (60.0, 120.0, 240.0)
"""The same, while what was said before it still lies unread: an hour's backlog takes its time."""
MOST_WAITS = 14
"""Deliveries after which it waits no more."""
OFTEN = 15
"""Deliveries after which we take a message over. The bus gives it up after `max_deliver` of them, in silence, and a process
that ends again and again spends those of all that it was given, not only of what ends it."""

MOST_AGAIN = 12
"""Attempts, over about half a minute, after which what meets another every time is a fault and not a race."""


MOST_TRIES = 3
"""Times that a process may end while it handles one message alone, before that message is put among the dead unseen."""


class TooBig(ValueError):
    """what would be said is more than a stream takes"""


def outage(error: BaseException) -> bool:
    """Also the bus may be away while a handler reads files from it."""
    return passes(error) or isinstance(error, (nats.errors.Error, nats.js.errors.ServiceUnavailableError))


@dataclass
class Tx:
    """One transaction over one batch: what handlers read and write with, and what they say."""

    conn: Connection
    now: datetime
    said: list[Message] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    waits: list[Item] = field(default_factory=list)
    without_effect: set[UUID] = field(default_factory=set)
    """Keys that the inbox must not know: they come again, or a person may replay them."""
    after: list[Callable[[], object]] = field(default_factory=list)
    """What to do once it is committed, and only then: counting, remembering. An attempt that is rolled back
    is followed by another."""
    had: Sequence[Item] = ()
    """Those that have had their effect by it."""

    def say(
        self,
        type_: EventType,
        token: str,
        data: BaseModel,
        *cause: object,
        subject: str | None = None,
        causation: str | None = None,
        trace: str | None = None,
    ) -> None:
        """Say a fact. `cause` names it for ever: the same cause gives the same id."""
        id_, body = type_.wire(data, *cause, at=self.now, subject=subject, causation=causation, trace=trace)
        self.said.append(Message(UUID(id_), STREAM_OF[type_.cls], type_.subject(token), body))

    def answer(self, item: Item, type_: EventType, data: BaseModel) -> None:
        """Feedback to the publisher of `item`, on its own subject; what is wrong with it is told in English, too."""
        if errors := getattr(data, "errors", ()):
            data = data.model_copy(update={"errors": in_english(errors)})
        self.say(type_, item.token, data, item.key, causation=item.event.id, trace=traces.of(item).trace)

    def refuse(self, item: Item, why: Problem) -> None:
        """The event is well formed and may not be followed: tell its publisher exactly why."""
        self.answer(item, EVENT_REJECTED, rejection(why, item.raw, item.event.id, item.event.type))
        self.after.append(metrics.REFUSED.labels(item.type.name).inc)

    def wait(self, item: Item, why: Problem, unread: datetime | None = None) -> None:
        """What the event speaks of is not known: it may be on its way by another stream, so the event comes again
        later, as if nothing had been; after all of `WAITS` it is dead, and its publisher is told why. Crashes spend
        deliveries too: that many of them are not yet that much time. `unread` is since when something lies on the bus
        that may bring it; while that was said before the event, nobody knows that it will not."""
        self.without_effect.add(item.key)
        waited = (self.now - item.received).total_seconds()
        before = unread is not None and unread < item.raw.at and item.raw.deliveries < MOST_WAITS
        if item.raw.deliveries <= len(WAITS) or waited < sum(WAITS) or before:
            self.waits.append(item)
        else:
            self.dead.append(
                Dead(item.raw, "waited", "speaks of nothing known", why, item.event.id, item.event.type)
            )


def _runs(items: Sequence[Item]) -> list[list[Item]]:
    """In their order: what may be handled together, and what is `alone`. One run at least, for the dead."""
    runs: list[list[Item]] = [[]]
    for item in items:
        if runs[-1] and (item.type.alone or runs[-1][-1].type.alone):
            runs.append([])
        runs[-1].append(item)
    return runs


Handler = Callable[[Tx, Sequence[Item]], Awaitable[None]]


async def _nothing(tx: Tx, items: Sequence[Item]) -> None:
    """The handler of no item."""


Done = TypeVar("Done")

_SUSPECTED = (
    "insert into {0} as old values (:stream, :seq, 1) on conflict (stream, seq) do update "
    "set tries = old.tries + 1 returning tries"
)
_CLEARED = "delete from {0} where stream = :stream and seq = :seq returning tries"


class Delivery:
    """The delivery of one service: its database, its publisher, its handlers by event name. Of a service whose inbox
    is `proven` it also keeps who published every event, for other tables to refer to."""

    def __init__(
        self,
        service: str,
        engine: Database,
        publisher: Publisher,
        clock: Clock,
        handlers: Mapping[str, tuple[Mapping[str, EventType], Handler]],
        *,
        proven: bool = False,
        most_again: int = MOST_AGAIN,
    ) -> None:
        self.service = service
        self.proven = proven
        self.engine = engine
        self.publisher = publisher
        self.clock = clock
        self.handlers = handlers
        self.most_again = most_again
        self._done: list[UUID] = []
        self._rows = f"{service}.outbox"

    async def handle(self, consumer: str, raws: Sequence[Raw], *, timed: bool = True) -> dict[int, float]:
        """`commit`, then publish what was said (or leave it to the sweeper); raises only when cancelled. Returns
        which messages, by sequence, must be delivered again, and after how many seconds. What has waited for a person
        is not `timed`."""
        done = await self.commit(consumer, raws)
        await self.publish([m for tx in done for m in tx.said])
        if timed:
            now = time.time()
            for item in (item for tx in done for item in tx.had):
                lag = metrics.LAG.labels(consumer, item.type.name)
                lag.observe(max(0.0, now - item.raw.at.timestamp()))
        pauses = WAITS + LONGER
        return {i.raw.seq: pauses[min(i.raw.deliveries, len(pauses)) - 1] for tx in done for i in tx.waits}

    async def alone(self, consumer: str, raw: Raw) -> dict[int, float]:
        """`handle` of a message that may be what ends every process. It is noted first, so that the next process knows
        what this one was at; nobody else is to blame then, and no neighbour is taken along."""
        tries = await self._hold(lambda: self._note(raw, _SUSPECTED))
        if tries <= MOST_TRIES:
            waits = await self.handle(consumer, [raw])
        else:
            why = problem("internal", "系统处理失败", "已转人工处理，无须重新报送", status=500)
            dead = Dead(raw, "parked", f"{tries - 1} processes ended while handling it", why)
            tx = await self._hold(lambda: self._transact(self.handlers[consumer][1], [], [dead]))
            await self.publish(tx.said)
            waits = {}
        await self._hold(lambda: self._note(raw, _CLEARED))
        return waits

    async def take_over(self, raws: Sequence[Raw]) -> None:
        """Keep here what the bus would soon give up: among the dead, to be heard again by the next sweep."""
        rows = [Dead(raw, TAKEN, f"delivered {raw.deliveries} times") for raw in raws]
        await self._hold(lambda: self._transact(_nothing, [], rows))

    async def _note(self, raw: Raw, sql: str) -> int:
        async with self.engine.connect() as conn:
            found = await conn.execute(
                sql.format(f"{self.service}.suspect"), {"stream": raw.stream, "seq": raw.seq}
            )
        return int(found.scalar() or 0)  # cleared by a replica that was given it too

    async def commit(self, consumer: str, raws: Sequence[Raw]) -> list[Tx]:
        """Give every message its effect, or a dead row, or let it wait; returns what was committed.

        While the database is away the batch is held; `service.py` tells the server that work goes on.
        """
        heard, handler = self.handlers[consumer]
        offset = self.clock.offset
        decoded = [decode(raw, heard, offset) for raw in raws]
        items = [d for d in decoded if isinstance(d, Item)]
        dead = [d for d in decoded if isinstance(d, Dead)]
        done: list[Tx] = []
        for run in _runs(items):
            done += await self._together(consumer, handler, run, dead)
            dead = []
        return done

    async def _together(
        self, consumer: str, handler: Handler, items: Sequence[Item], dead: Sequence[Dead]
    ) -> list[Tx]:
        try:
            with traces.at(consumer, items):
                return [await self._hold(lambda: self._transact(handler, items, dead))]
        except Exception as error:
            log.exception(
                "batch failed",
                extra={"consumer": consumer, "messages": len(items) + len(dead)},
                exc_info=error,
            )
            # One poisonous event must not take its neighbours along: each gets a transaction of its own.
            done = [await self._hold(lambda one=item: self._alone(consumer, handler, one)) for item in items]  # type: ignore[misc]
            return [*done, await self._hold(lambda: self._transact(handler, [], dead))]

    async def _hold(self, attempt: Callable[[], Awaitable[Done]]) -> Done:
        delay, met = 0.05, 0
        while True:
            try:
                return await attempt()
            except Exception as error:
                met += isinstance(error, Again)
                if not outage(error) or met >= self.most_again:
                    raise
                metrics.HELD.inc()
                log.warning("holding the batch", extra={"error_type": type(error).__name__})
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5)

    async def _alone(self, consumer: str, handler: Handler, item: Item) -> Tx:
        with traces.at(consumer, [item]):
            try:
                return await self._transact(handler, [item], [])
            except Exception as error:
                if outage(error) and not isinstance(error, Again):
                    raise
                log.exception(
                    "event failed", extra={"event": item.type.name, "seq": item.raw.seq}, exc_info=error
                )
                why = problem("internal", "系统处理失败", "已转人工处理，无须重新报送", status=500)
                dead = Dead(item.raw, "internal", type(error).__name__, why, item.event.id, item.event.type)
                return await self._transact(handler, [], [dead])

    async def _transact(self, handler: Handler, items: Sequence[Item], dead: Sequence[Dead]) -> Tx:
        """Nearly every event is new: the inbox is only written, with everything else, and what was in it makes
        the attempt fail. Then, and for what was delivered before, it is read first."""
        known = await self._known(items) if any(item.raw.deliveries > 1 for item in items) else {}
        try:
            return await self._attempt(handler, items, dead, known)
        except Again:
            return await self._attempt(handler, items, dead, await self._known(items))

    async def _attempt(
        self, handler: Handler, items: Sequence[Item], dead: Sequence[Dead], known: Mapping[UUID, UUID]
    ) -> Tx:
        async with self._begin() as conn:
            tx = Tx(conn, self.clock.now(), dead=list(dead))
            if fresh := self._fresh(tx, items, known):
                await handler(tx, fresh)
                fresh = [item for item in fresh if item.key not in tx.without_effect]
                self._remember(conn, fresh)
            bury(tx, self.service)
            self._owe(conn, tx.said)
        for step in tx.after:
            step()
        for item in fresh:
            metrics.HANDLED.labels(item.type.name).inc()
        tx.had = fresh
        if spans.exporting:
            spans.handled(fresh, tx.said)
        return tx

    async def _known(self, items: Sequence[Item]) -> dict[UUID, UUID]:
        """The digests of those that had their effect, by key."""
        async with self.engine.connect() as conn:
            rows = await conn.read(
                f"select key, digest from {self.service}.inbox where key = any(:keys)",
                {"keys": [item.key for item in items]},
            )
        return {row.key: row.digest for row in rows}

    def _fresh(self, tx: Tx, items: Sequence[Item], known: Mapping[UUID, UUID]) -> list[Item]:
        """The first of every identity that is new; a known id with another body is an error."""
        seen, fresh = dict(known), []
        for item in items:
            digest = seen.setdefault(item.key, item.digest)  # its own object only the first time
            if item.key not in known and digest is item.digest:
                fresh.append(item)
                continue
            tx.after.append(metrics.DUPLICATES.labels(item.type.name).inc)
            if digest != item.digest:
                why = problem("conflict", "同一 id 的事件内容不同", "请为新的内容使用新的 id", status=409)
                tx.dead.append(
                    Dead(item.raw, "conflict", "same id, other body", why, item.event.id, item.event.type)
                )
        return fresh

    def _remember(self, conn: Connection, items: Sequence[Item]) -> None:
        """The inbox: what makes effects happen once. In one order, so that replicas wait and never both."""
        if not items:
            return
        items = sorted(items, key=lambda item: item.key)
        values: dict[str, list[Any]] = {"keys": [i.key for i in items], "digests": [i.digest for i in items]}
        token, tokens = "", ""
        if self.proven:
            token, tokens = ", token", ", cast(:tokens as text[])"
            values["tokens"] = [i.publisher for i in items]
        conn.later(
            f"insert into {self.service}.inbox (key, digest{token}) "
            f"select * from unnest(cast(:keys as uuid[]), cast(:digests as uuid[]){tokens}) on conflict do nothing",
            values,
            at_least=len(items),
        )

    def _owe(self, conn: Connection, said: Sequence[Message]) -> None:
        if not said:
            return
        if any(len(m.body) > MOST_BYTES for m in said):
            raise TooBig(TooBig.__doc__)
        conn.later(
            f"insert into {self._rows} (id, stream, subject, body) select * from unnest("
            "cast(:id as uuid[]), cast(:stream as text[]), cast(:subject as text[]), cast(:body as text[])) "
            "on conflict do nothing",
            {
                "id": [m.id for m in said],
                "stream": [m.stream for m in said],
                "subject": [m.subject for m in said],
                "body": [m.body.decode() for m in said],
            },
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """For what no message causes (a timer, a worker, an operator): the same outbox, the same publisher."""
        async with self._begin() as conn:
            tx = Tx(conn, self.clock.now())
            yield tx
            self._owe(conn, tx.said)
        for step in tx.after:
            step()
        if spans.exporting:
            spans.handled((), tx.said)
        await self.publish(tx.said)

    # --- after the commit ---

    async def publish(self, said: Sequence[Message]) -> None:
        """Publish what was committed; what got its PubAck is forgotten by the next transaction. The rest
        stays in the outbox for the sweeper: publishing again is harmless, the id is the same."""
        if said:
            done = await self.publisher.publish(said)  # meanwhile another may have taken the list away
            self._done += done

    @asynccontextmanager
    async def _begin(self, at_least: int = 100) -> AsyncIterator[Connection]:
        """A transaction that also deletes what is published, when that is much, so that it costs no commit of
        its own; what is little waits for the sweep. Rolled back, it leaves that to the next; a crash before
        only publishes again what the bus recognises."""
        done: list[UUID] = []
        if len(self._done) >= at_least:
            done, self._done = self._done, []
        try:
            async with self.engine.begin() as conn:
                if done:
                    conn.later(f"delete from {self._rows} where id = any(:ids)", {"ids": done})
                yield conn
        except BaseException:
            self._done = done + self._done
            raise

    async def sweep(self) -> None:
        """Once a second, and at the start: forget what is published, publish what was left behind."""
        if self._done:
            async with self._begin(at_least=1):
                pass
        while True:
            async with self.engine.begin() as conn:
                left = [
                    Message(row.id, row.stream, row.subject, row.body.encode())
                    for row in await conn.execute(
                        f"select id, stream, subject, body from {self._rows} "
                        "where at < now() - cast(:after as interval) "
                        "order by n limit 200 for update skip locked",
                        {"after": SWEEP_AFTER},
                    )
                ]
                if not left:
                    return
                # Under the row locks, so that two replicas do not publish the same rows; the lock is short,
                # because what gets no PubAck within the publisher's patience is left for the next sweep.
                done = await self.publisher.publish(left)
                await conn.execute(f"delete from {self._rows} where id = any(:ids)", {"ids": done})
                metrics.SWEPT.inc(len(done))
                if len(done) < len(left):
                    return

    async def replay(self) -> None:
        """Give their effect to the dead rows that a person has marked, and to what an earlier release has kept for this
        one, through the same door."""
        last = 0
        known = [t.ce_type for heard, _ in self.handlers.values() for e in heard.values() for t in majors(e)]
        for _ in range(AT_ONCE):
            row = await claim(self.engine, self.service, known, last)
            if row is None:
                return
            last = row.n
            # Nobody would deliver it again: it has had all its deliveries.
            raw = Raw(
                row.subject, bytes(row.body), row.headers, row.stream, row.seq, row.received, len(WAITS) + 1
            )
            state = "discarded" if row.state == "discard" else "replayed"
            found = registry.of_subject(raw.subject)
            for consumer, (heard, _) in self.handlers.items():
                if not found or found[0].name not in heard:
                    continue
                if row.state == "discard":
                    async with self.transaction() as tx:
                        give_up(tx, decode(raw, heard))
                elif await self.handle(consumer, [raw], timed=False):
                    state = "replay"  # what it speaks of may still come: it waits here
            # Only now: after a crash in between it is replayed again, which the inbox makes harmless.
            async with self.engine.begin() as conn:
                await conn.execute(
                    f"update {self.service}.dead set state = :state where n = :n",
                    {"state": state, "n": row.n},
                )
