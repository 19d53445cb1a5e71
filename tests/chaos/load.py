"""Publishers that insist, beside the real services under one supervisor: what they were promised, and what there is of
it afterwards.

Which faults there are meanwhile is in the tests.
"""

import asyncio
import email
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from services.cli.local import Local
from shared.runtime import SERVICES
from shared.runtime.embedded import Nats, eventually
from shared.runtime.streams import CONSUMERS, IN
from tests.bench.work import Filed, offset
from tests.chaos.oracle import Verdict
from tests.chaos.process import Nursed

ACK_WAIT = 3
"""Of `hasten`: what was on its way in a connection that broke comes again after 3 s instead of 60."""


async def quiet(error: Exception) -> None:
    """An outage is what the test is about."""


async def patient(urls: list[str]) -> Client:
    """A connection as the contract asks of a publisher: it comes back whatever happens."""
    return await nats.connect(
        urls,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,
        ping_interval=2,
        connect_timeout=2,
        error_cb=quiet,
    )


@dataclass
class Ledger:
    """What publishers have sent: `acked` are stored, as the bus has said; `open` have had no answer yet."""

    acked: dict[UUID, Filed] = field(default_factory=dict)
    open: dict[UUID, Filed] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    worst: float = 0
    """Seconds that a publisher had to insist."""
    stopping: bool = False

    async def publish(self, client: Client, filed: Filed, timeout: float = 2) -> bool:
        """The same id until there is an answer, or until `stopping`."""
        began = time.monotonic()
        self.open[filed.id] = filed
        while not self.stopping:
            try:
                await client.jetstream().publish(
                    filed.subject,
                    filed.body,
                    timeout=timeout,
                    stream=IN,
                    headers={"Nats-Msg-Id": str(filed.id)},
                )
            except (nats.errors.Error, nats.js.errors.Error, OSError) as error:
                self.failures[f"{type(error).__name__} {getattr(error, 'description', '')}".strip()] += 1
                await asyncio.sleep(0.05)
                continue
            del self.open[filed.id]
            self.acked[filed.id] = filed
            self.worst = max(self.worst, time.monotonic() - began)
            return True
        return False

    async def file(
        self,
        client: Client,
        these: Iterable[Filed],
        *,
        rate: float = 1000,
        at_once: int = 8,
        timeout: float = 2,
    ) -> None:
        """So many a second, each by a publisher of its own, until all are acknowledged or `stopping`."""
        room, running, start = asyncio.Semaphore(at_once), set[asyncio.Task[bool]](), time.monotonic()
        for n, filed in enumerate(these):
            if (early := start + n / rate - time.monotonic()) > 0:
                await asyncio.sleep(early)
            await room.acquire()
            if self.stopping:
                break
            task = asyncio.create_task(self.publish(client, filed, timeout))
            running.add(task)
            task.add_done_callback(running.discard)
            task.add_done_callback(lambda _: room.release())
        await asyncio.gather(*running)


@dataclass
class Town:
    """The four services, what they need, and their supervisor."""

    local: Nursed
    dsn: str
    """Of the database itself, whatever lies between it and the services."""

    async def count(self, sql: str, *values: Any) -> int:
        db = await asyncpg.connect(self.dsn, timeout=10)
        try:
            return int(await db.fetchval(sql, *values) or 0)
        finally:
            await db.close()

    async def done(self, ledger: Ledger) -> bool:
        """Every acknowledged filing has its case and its mails."""
        return await self._unfinished(ledger) == 0

    async def _unfinished(self, ledger: Ledger) -> int:
        wanted = [f.case for f in ledger.acked.values()]
        try:
            return await self.count(
                """select count(*) from unnest($1::uuid[]) as wanted where not exists (
                select 1 from review."case" c join notify.mail m using ("case") where "case" = wanted and m.letter = 'accepted'
                and not exists (select 1 from notify.mail q where q."case" = wanted
                and q.state not in ('sent', 'failed', 'unknown')))""",
                wanted,
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return -1  # it is away, too

    async def drained(self, ledger: Ledger, timeout: float = 120) -> float:
        """Seconds until all that was promised is done."""
        began = time.monotonic()
        try:
            await eventually(
                lambda: self.done(ledger), timeout, "everything that was acknowledged to be done"
            )
        except TimeoutError as error:
            raise TimeoutError(
                f"{await self._unfinished(ledger)} of {len(ledger.acked)} never done"
            ) from error
        return time.monotonic() - began

    async def judge(self, name: str, ledger: Ledger) -> Verdict:
        """Of everything that was acknowledged: what has had its effect, and what has had it more than once."""
        wanted = [f.case for f in ledger.acked.values()]
        ids = [str(f.id) for f in ledger.acked.values()]
        ok = await self.count('select count(*) from review."case" where "case" = any($1)', wanted)
        dead = await self.count(
            "select count(*) from intake.dead where convert_from(body, 'UTF8')::jsonb ->> 'id' = any($1)", ids
        )
        again = await self.count(
            """select count(*) from (select 1 from review.history where "case" = any($1) group by "case"
            having count(*) > 1) again""",
            wanted,
        )
        mails = Counter(
            email.message_from_bytes(p.read_bytes())["Message-ID"] for p in self.local.mails.messages()
        )
        return Verdict(
            name,
            sent=len(wanted),
            ok=ok,
            dead=dead,
            lost=len(wanted) - ok - dead,
            duplicate_effects=again,
            mails_twice=sum(n > 1 for n in mails.values()),
            mails_unknown=await self.count("select count(*) from notify.mail where state = 'unknown'"),
        )

    async def dead(self) -> int:
        """Messages that no service could handle."""
        return sum([await self.count(f"select count(*) from {s}.dead") for s in SERVICES])

    def take_away(self, service: str) -> None:
        """It is away, in good order, until `launch`."""
        process = self.local.running.pop(service)
        process.terminate()
        process.wait(30)

    def restarts(self) -> int:
        return sum(len(self.local.ends(name)) for name in self.local.names)

    def metric(self, service: str, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.local.page(service, "metrics").splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{"))
        )

    def log(self, service: str) -> str:
        return (self.local.directory / f"{service}.log").read_text()


async def hasten(client: Client) -> None:
    """Give every consumer the ack_wait that the sabotaged services expect."""
    for consumer in CONSUMERS:
        config = consumer.config().evolve(ack_wait=ACK_WAIT)
        await client.jetstream(timeout=10).add_consumer(consumer.stream, config)


async def _hasten(server: Nats) -> None:
    client = await patient([server.url])
    await hasten(client)
    await client.close()


@contextmanager
def town(
    directory: Path,
    *,
    server: Nats | None = None,
    urls: list[str] | None = None,
    replicas: int = 1,
    prepare: Callable[[Local], None] = lambda _: None,
) -> Iterator[Town]:
    """The services up, ready and supervised; `server` is in the place of a NATS of their own, one of a cluster if there
    are more `urls`. `prepare` comes before the services start."""
    extra = {"YIQI_WATCHDOG": "2"}
    if urls:
        extra["YIQI_NATS_URL"] = ",".join(urls)
    local = Nursed(directory, ("hasten",), extra=extra, replicas=replicas, accounts=False)
    local.nats = server or local.nats
    local.clock.write_text(str(offset().total_seconds()))
    supervisor = threading.Thread(target=local.supervise, name="supervisor")
    try:
        local.infrastructure()
        asyncio.run(_hasten(local.nats))
        here = Town(local, local.postgres.dsn("yiqi"))
        prepare(local)
        for name in local.names:
            local.launch(name)
        local.ready(60)
        supervisor.start()
        yield here
    finally:
        local._stopping.set()
        if supervisor.ident:
            supervisor.join()
        local.stop()
