"""The real system under fire: servers, services that are started again when they end, publishers that insist, and what
there is to be seen of it all afterwards.

What is sent and what must become of it is in `ledger.py`; which faults there are, in the tests.
"""

import asyncio
import dataclasses
import json
import os
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from shared.runtime import SERVICES, files
from shared.runtime.accounts import DESK, PROVISIONER, USERS, inbox
from shared.runtime.embedded import eventually
from shared.runtime.streams import CONSUMERS, IN, OUT
from tests.bench import machine
from tests.bench.work import offset
from tests.chaos.ledger import Chain, Sent
from tests.chaos.oracle import Verdict
from tests.chaos.places import everything
from tests.chaos.process import Nursed
from tests.smtp_stub import Stub

AT_ONCE = 32
"""Chains that are on their way at the same time."""
ACK_WAIT = 3
ANSWERED = 600
"""Seconds for an event to be answered, whatever happens meanwhile."""


class Lab(Nursed):
    """The system with a mail server in a mood, and clocks that wait no longer than they must."""

    def __init__(self, directory: Path, smtp: int, changes: Sequence[str] = ("hasten",), **more: Any) -> None:
        extra = {
            "YIQI_SMTP_REPLY_TIMEOUT": "3",
            "YIQI_CATALOGUES": str(directory / "catalogues"),
            "YIQI_BATCH": "50",
            **more.pop("extra", {}),
        }
        super().__init__(directory, changes, mail=False, extra=extra, **more)
        self.mails.port = smtp
        self.clock.write_text(str(offset().total_seconds()))

    async def _provision(self) -> None:
        await super()._provision()
        client = await self.connect(PROVISIONER)
        for consumer in CONSUMERS:
            config = consumer.config()
            config.ack_wait = ACK_WAIT
            await client.jetstream().add_consumer(consumer.stream, config)
        await client.close()

    def pid(self, name: str) -> int | None:
        with suppress(OSError, ValueError):
            return int((self.directory / f"{name}.pid").read_text())
        return None

    def strike(self, name: str, by: signal.Signals = signal.SIGKILL) -> None:
        """A signal to the service itself; it is started again when it ends."""
        if pid := self.pid(name):
            with suppress(ProcessLookupError):
                os.kill(pid, by)

    def take_away(self, name: str) -> None:
        """The service is away until `launch`."""
        process = self.running.pop(name)
        process.kill()  # the fork ends with it
        process.wait()

    def crashes(self) -> Counter[str]:
        """`service point` and how often it ended there."""
        found: Counter[str] = Counter()
        for service in SERVICES:
            file = self.directory / f"{service}.crashes"
            found.update(f"{service} {p}" for p in (file.read_text().split() if file.exists() else ()))
        return found


@dataclass
class Field:
    """What a test has in hand: the system, the mail server, publishers."""

    lab: Lab
    stub: Stub
    client: Client
    waiting: dict[str, asyncio.Event]
    """Set when the event of this id is answered."""
    speakers: dict[str, asyncio.Task[Client]] = dataclasses.field(default_factory=dict)
    wrong: list[str] = dataclasses.field(default_factory=list)
    """What `judge` found otherwise than it should be."""

    @property
    def js(self) -> JetStreamContext:
        return self.client.jetstream(timeout=2)

    async def speaker(self, who: str) -> Client:
        """On the bus as an agency, as the desk for one that has no account, or as a service."""
        seed = self.lab.seed(who)
        assert seed
        # The attempt is kept, not what comes of it: of two chains that ask at once, one would never be closed.
        if seed.stem not in self.speakers:
            self.speakers[seed.stem] = asyncio.create_task(lasting(self.lab, seed.stem))
        return await asyncio.shield(self.speakers[seed.stem])

    # --- publishing ---

    async def send(self, chains: Iterable[Chain], *, rate: float | None = None) -> None:
        """Publish all of it, as many at a time as `AT_ONCE`; with a `rate`, so many chains a second at most."""
        room = asyncio.Semaphore(AT_ONCE)
        running: set[asyncio.Task[None]] = set()
        start, n = asyncio.get_running_loop().time(), 0
        for chain in chains:
            if rate is not None:
                n += 1
                due = start + n / rate
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            await room.acquire()
            task = asyncio.create_task(self._chain(chain))
            running.add(task)
            task.add_done_callback(running.discard)
            task.add_done_callback(lambda _: room.release())
        await asyncio.gather(*running)

    async def _chain(self, chain: Chain) -> None:
        for sent in chain:
            known = self.waiting.setdefault(sent.id, asyncio.Event())
            speaker = await self.speaker(sent.token)
            for file in sent.files:
                await self._insist(partial(files.send, speaker, sent.token, file))
            for copy in range(sent.copies):
                await self._publish(speaker, sent, copy)
            # An officer decides on what he has seen.
            if sent is not chain[-1] and sent.fate != "dead":
                async with asyncio.timeout(ANSWERED):
                    await known.wait()

    async def _publish(self, speaker: Client, sent: Sent, copy: int) -> None:
        js = speaker.jetstream(timeout=2)
        headers = {"Nats-Msg-Id": f"{sent.token}:{hash(sent.body)}:{copy}"}

        async def publish() -> int:
            ack = await js.publish(sent.subject, sent.body, stream=IN, headers=headers, timeout=2)
            return int(ack.seq)

        sent.seqs.append(await self._insist(publish))

    async def _insist(self, attempt: Callable[[], Any]) -> Any:
        """As the contract asks of a publisher: the same again until it is acknowledged."""
        while True:
            try:
                return await attempt()
            except (nats.errors.Error, nats.js.errors.Error, OSError):
                await asyncio.sleep(0.1)

    # --- draining ---

    async def drained(self, within: float = 120) -> float:
        """Until nothing is on its way any more; how many seconds that took."""
        began = asyncio.get_running_loop().time()
        await eventually(self._empty, within, "the system to have drained")
        return asyncio.get_running_loop().time() - began

    async def replayed(self, which: str = "code = 'parked'") -> int:
        """Have the dead that are `which` handled again, as an operator does; how many they were. `drained` waits for it."""
        async with self.database() as db:
            told = [await db.execute(f"update {s}.dead set state = 'replay' where {which}") for s in SERVICES]
        return sum(int(one.split()[-1]) for one in told)

    async def _empty(self) -> bool:
        try:
            for consumer in CONSUMERS:
                info = await self.js.consumer_info(consumer.stream, consumer.durable)
                if info.num_pending or info.num_ack_pending:
                    return False
            async with self.database() as db:
                left = [await db.fetchval(f"select count(*) from {s}.outbox") for s in SERVICES]
                left += [
                    await db.fetchval(
                        f"select count(*) from {s}.dead where state like 'replay%' and state <> 'replayed'"
                    )
                    for s in SERVICES
                ]
                left.append(await db.fetchval("select count(*) from export.stale"))
                mails = await db.fetchval(
                    "select count(*) from notify.mail where state in ('queued', 'claimed', 'data')"
                )
        except (OSError, nats.errors.Error, nats.js.errors.Error, asyncpg.PostgresError):
            return False
        return not any(left) and not mails

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Any]:
        db = await asyncpg.connect(self.lab.postgres.dsn("yiqi"), timeout=5)
        try:
            yield db
        finally:
            await db.close()

    # --- what there is ---

    def spent(self, name: str) -> float:
        """Seconds of a processor that a service has taken, in all its lives."""
        return machine.cpu(machine.tree(self.lab.running[name].pid), ended=True)

    def memory(self) -> list[float]:
        """MB of each service as it runs now, with what it has started."""
        return [
            machine.memory(machine.tree(pid))[0] for name in self.lab.names if (pid := self.lab.pid(name))
        ]

    async def mails(self) -> Counter[str]:
        """How many mails are in which state."""
        async with self.database() as db:
            return Counter({r["state"]: r["n"] for r in await db.fetch(_MAILS)})

    async def rows(self) -> dict[str, str]:
        """A digest of the rows of each table, delivery's own left out."""
        async with self.database() as db:
            tables = [r["name"] for r in await db.fetch(_TABLES, list(SERVICES))]
            return {
                t: await db.fetchval(f"select md5(string_agg(t::text, ';' order by t::text)) from {t} t")
                for t in tables
            }

    async def waits(self, chains: Sequence[Chain]) -> float:
        """The seconds within which 99 of 100 of these were answered, by the clock of the bus."""
        filed = {seq: s.id for chain in chains for s in chain for seq in s.seqs[:1]}
        at = {
            filed[m.metadata.sequence.stream]: m.metadata.timestamp
            async for m in everything(self.js, IN)
            if m.metadata.sequence.stream in filed
        }
        took = []
        async for message in everything(self.js, OUT):
            data = json.loads(message.data)["data"]
            if came := at.pop(str(data.get("accepted") or (data.get("rejected") or {}).get("id")), None):
                took.append((message.metadata.timestamp - came).total_seconds())
        return sorted(took)[int(len(took) * 0.99)]

    async def judge(self, name: str, chains: Sequence[Chain]) -> Verdict:
        """The fate of everything that was acknowledged."""
        verdict = Verdict(name)
        seen = await self._seen()
        for sent in (s for chain in chains for s in chain if s.seqs):
            verdict.sent += 1
            fate = seen.fate(sent)
            if fate == sent.fate:
                setattr(verdict, fate, getattr(verdict, fate) + 1)
            else:
                verdict.lost += 1
                self.wrong.append(f"{sent.kind} {sent.id} {sent.seqs} should be {sent.fate}, is {fate}")
        verdict.duplicate_effects = len(seen.twice)
        self.wrong += seen.twice
        verdict.mails_twice = sum(count > 1 for count in self.stub.accepted.values())
        verdict.mails_unknown = seen.unknown
        # A mail that is called sent and that the server does not have is lost as any other thing.
        verdict.lost += sum(1 for mail in seen.sent if not self.stub.accepted[mail])
        verdict.foreign_decisions = seen.foreign
        return verdict

    async def _seen(self) -> "Seen":
        answers = await self._said()
        async with self.database() as db:
            dead = Counter[int]()
            for service in SERVICES:
                dead.update(
                    r["seq"]
                    for r in await db.fetch(
                        f"select seq from {service}.dead where stream = $1 and state <> 'replayed'", IN
                    )
                )
            cases = {r["case"]: r["n"] for r in await db.fetch(_OPENED)}
            mails = await db.fetch('select id, letter, "case", state from notify.mail')
            twice = [str(dict(row)) for sql in _DOUBLED for row in await db.fetch(sql)]
            foreign = await db.fetchval(_FOREIGN)
        twice += [
            f"{id_} {set(said)}" for id_, said in answers.items() if {"accepted", "refused"} <= set(said)
        ]
        twice += [f"dead {seq} {n} times" for seq, n in dead.items() if n > 1]
        twice += [
            f"{id_} {what} {ids}"
            for id_, said in answers.items()
            for what, ids in said.items()
            if len(ids) > 1
        ]
        return Seen(
            dead=dead,
            cases=cases,
            answers=answers,
            mails=Counter((m["case"], m["letter"]) for m in mails),
            sent={f"<m-{m['id']}@yiqi.test>" for m in mails if m["state"] == "sent"},
            unknown=sum(m["state"] == "unknown" for m in mails),
            twice=twice,
            foreign=int(foreign),
        )

    async def _said(self) -> dict[str, dict[str, set[str]]]:
        """Every answer in the stream, read from its beginning: the event, the answer, and the ids that it had. One
        answer twice under one id is one; two ids are two."""
        found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        async for message in everything(self.js, OUT):
            self._note(message, found)
        return found

    @staticmethod
    def _note(message: Msg, found: Mapping[str, Mapping[str, set[str]]]) -> None:
        document = json.loads(message.data)
        data = document["data"]
        if accepted := data.get("accepted"):
            found[accepted]["accepted"].add(document["id"])
        elif told := data.get("rejected"):
            # Of what cannot be read there is the place only.
            what = f"{told.get('id') or told['seq']}"
            kind = "refused" if data["type"].rsplit(":", 1)[1] not in _BROKEN else f"dead {told['seq']}"
            found[what][kind].add(document["id"])


_MAILS = "select state, count(*)::int as n from notify.mail group by 1"
_TABLES = """select format('%I.%I', table_schema, table_name) as name from information_schema.tables
where table_schema = any($1) and table_type = 'BASE TABLE'
and table_name not in ('inbox', 'outbox', 'dead', 'alembic_version')"""
_BROKEN = {"validation", "type", "identity", "conflict", "internal"}
_OPENED = """select "case", count(*) filter (where version = 1) as n from review.history group by 1"""
_DOUBLED = (
    # A case that was opened more than once; an event that moved one more than once.
    'select "case" from review.history where version = 1 group by 1 having count(*) > 1',
    "select cause, \"case\", outcome from review.history where cause <> '' group by 1, 2, 3 having count(*) > 1",
    # What counts against a quota, counted once.
    "select t.notice, t.unit, t.name, t.scope, t.used, s.n from intake.tally t, lateral (select count(*) as n from "
    "intake.submission s where s.notice = t.notice and s.unit = t.unit and s.state <> 'closed' "
    "and s.tallies @> jsonb_build_array(jsonb_build_array(t.name, t.scope))) s where t.used <> s.n",
)
_FOREIGN = """select count(*) from review.history h join review."case" c using ("case") where h.actor ~ '^\\d{6}$'
and h.actor not in (c.district, coalesce(c.recommender, ''), c.filer ->> 'code', '440100')"""


@dataclass
class Seen:
    """What there is when all is quiet."""

    dead: Counter[int]
    cases: dict[UUID, int]
    answers: Mapping[str, Mapping[str, set[str]]]
    mails: Counter[tuple[UUID, str]]
    sent: set[str]
    unknown: int
    twice: list[str]
    foreign: int

    def fate(self, sent: Sent) -> str:
        """What became of it; `nothing` when there is no trace."""
        answers = self.answers.get(sent.id, {})
        if any(seq in self.dead for seq in sent.seqs):
            return "dead"
        if answers.get("accepted"):
            if sent.kind != "filing" or sent.case is None:
                return "ok"
            return (
                "ok" if self.cases.get(sent.case) == 1 and self.mails[sent.case, "accepted"] == 1 else "half"
            )
        return "refused" if answers.get("refused") else "nothing"


@asynccontextmanager
async def field(
    directory: Path, changes: Sequence[str] = ("hasten",), *, stub: Stub | None = None, **more: Any
) -> AsyncIterator[Field]:
    """The system, running and ready."""
    async with stub or Stub() as server:
        lab = Lab(directory, server.port, changes, **more)
        try:
            await asyncio.to_thread(lab.start, 60)
            async with beside(lab, server) as here:
                yield here
        finally:
            await asyncio.to_thread(lab.stop)


async def _listen(client: Client, waiting: Mapping[str, asyncio.Event]) -> None:
    """Set what is answered. From the stream: a subscriber that is away for a moment misses what is said meanwhile, and
    an officer would wait for his answer for ever."""
    last = 0
    while not client.is_closed:
        # A reader that may not acknowledge, and loses what is on its way with its connection: then another, from there.
        after = ConsumerConfig(
            ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=last + 1
        )
        with suppress(TimeoutError, OSError, nats.errors.Error, nats.js.errors.Error):
            reader = await client.jetstream(timeout=2).pull_subscribe(">", stream=OUT, config=after)
            try:
                for message in await reader.fetch(200, timeout=1):
                    if message.metadata.sequence.stream != last + 1:
                        break
                    last += 1
                    data = json.loads(message.data)["data"]
                    id_ = str(data.get("accepted") or (data.get("rejected") or {}).get("id"))
                    if id_ in waiting:
                        waiting[id_].set()
            finally:
                await reader.unsubscribe()


@asynccontextmanager
async def beside(lab: Lab, server: Stub) -> AsyncIterator[Field]:
    """Publishers of a system that runs, and who listens to what they are answered."""
    connections: list[Client] = []
    speakers: dict[str, asyncio.Task[Client]] = {}
    listening: asyncio.Task[None] | None = None
    try:
        connections.append(client := await lasting(lab, PROVISIONER))
        here = Field(lab, server, client, {}, speakers)
        listening = asyncio.create_task(_listen(client, here.waiting))
        yield here
    finally:
        # Also when the test has failed: one that tries to come back lets nobody cancel it, and the loop never ends.
        for attempt in speakers.values():
            attempt.cancel()  # one that has come on the bus is done
        came = await asyncio.gather(*speakers.values(), return_exceptions=True)
        for one in (*connections, *(c for c in came if isinstance(c, Client))):
            await one.close()
        if listening:
            await listening


async def lasting(lab: Lab, who: str) -> Client:
    """A connection that comes back whatever happens, as that of another system should."""
    return await nats.connect(
        lab.nats.url,
        nkeys_seed=str(lab.seed(who)),
        inbox_prefix=inbox(who if who in USERS else DESK).encode(),
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.2,
        error_cb=_quiet,
    )


async def _quiet(error: Exception) -> None:
    pass
