"""Export by itself on a real bus and a real database: cases are published and closed, its sweep is called by hand.

python -m tests.live.catalogue_lab DSN URL POINT    # one sweep, by a process that ends itself with SIGKILL there
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from multiprocessing import get_context
from typing import Any
from uuid import UUID, uuid5

import nats
from nats.aio.client import Client
from nats.js import JetStreamContext
from pydantic import SecretStr

from services.export import formats, handlers, publish, store
from services.export.handlers import Export
from shared.contracts import registry
from shared.contracts.case import CaseClosed, CasePublished
from shared.contracts.types import Party
from shared.runtime.clock import Clock
from shared.runtime.database import connect
from shared.runtime.decode import Raw
from shared.runtime.delivery import Delivery
from shared.runtime.publisher import Publisher
from shared.runtime.service import Context
from shared.runtime.settings import Settings
from shared.runtime.streams import CATALOGUES, CONSUMERS, EVT

NOTICE, CITY, SPACE = "gz-collection-2025q1", "440100", UUID(int=6)
BEGIN = datetime(2025, 3, 18, 2, 0, tzinfo=UTC)


class Still(Clock):
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        super().__init__()
        self.moment = BEGIN

    def now(self) -> datetime:
        return self.moment


@dataclass
class Replica:
    """One process of the service, without its loop."""

    export: Export
    context: Context
    clock: Still
    seq: int = field(default=0)

    async def hear(self, *events: bytes) -> None:
        """A batch from the stream of our own events."""
        raws = []
        for body in events:
            self.seq += 1
            type_ = registry.CASE_CLOSED if b"case.closed" in body else registry.CASE_PUBLISHED
            raws.append(Raw(type_.subject("440106"), body, None, EVT, self.seq, self.clock.moment))
        await self.context.delivery.handle("export-evt", raws)

    async def publish(self, *numbers: int) -> None:
        await self.hear(*map(published, numbers))

    async def sweep(self, seconds: float = 0) -> None:
        """Let time go by, and sweep once."""
        self.clock.moment += timedelta(seconds=seconds)
        await self.export.update(self.context)

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        async with self.context.engine.connect() as conn:
            return [dict(row) for row in await conn.read(sql)]

    async def versions(self, *, public: bool = False) -> list[tuple[int, int]]:
        """(number, rows) of every version of F3."""
        found = await self.rows(
            f"select version, rows from export.version where form = 'F3' and public = {public} order by version"
        )
        return [(row["version"], row["rows"]) for row in found]

    async def marks(self) -> list[tuple[str, int]]:
        return [(row["form"], row["n"]) for row in await self.rows("select form, n from export.stale")]


def published(n: int, form: str = "F3") -> bytes:
    values = {
        "service_domain": "法律服务",
        "organizer": "某机构",
        "activity_name": f"第{n}场讲座",
        "venue": "线上",
        "content": "讲解合同风险",
        "contact": {"name": "张三", "phones": ["02083726619"], "email": None},
    }
    data = CasePublished(
        **_common(n, form, 3), stage="published", outcome="publish", item_kind="activity", values=values,
        filed=BEGIN + timedelta(seconds=n),
    )  # fmt: skip
    return bytes(registry.CASE_PUBLISHED.wire(data, n, 3, at=BEGIN)[1])


def closed(n: int, form: str = "F3", outcome: str = "withdraw") -> bytes:
    data = CaseClosed(**_common(n, form, 4), stage="withdrawn", outcome=outcome)
    return bytes(registry.CASE_CLOSED.wire(data, n, 4, at=BEGIN)[1])


def _common(n: int, form: str, version: int) -> dict[str, Any]:
    return {
        "case": uuid5(SPACE, str(n)),
        "number": f"{form}-{n:08}",
        "version": version,
        "notice": NOTICE,
        "form": form,
        "actor": CITY,
        "filer": Party(code="440106", kind="K2", name="某局"),
        "unit": "440106",
        "district": "440106",
        "title": f"第{n}场讲座",
        "late": False,
    }


@asynccontextmanager
async def replica(dsn: str, url: str) -> AsyncIterator[Replica]:
    client = await nats.connect(url)
    engine, clock = connect(dsn, "export"), Still()
    publisher = Publisher(client)
    await publisher.start()
    export = Export()
    heard = {
        c.durable: (
            {e.name: e for e in c.events},
            {"in": export.on_in, "evt": export.on_evt}[c.events[0].cls],
        )
        for c in CONSUMERS
        if c.service == "export"
    }
    settings = Settings(database_url=SecretStr(dsn), nats_url=url)
    delivery = Delivery("export", engine, publisher, clock, heard)
    context = Context(settings, engine, clock, delivery, client, client.jetstream(timeout=5))
    await export.setup(context)
    try:
        yield Replica(export, context, clock)
    finally:
        await engine.dispose()
        await client.close()


async def said(js: JetStreamContext) -> list[dict[str, Any]]:
    """What was said of catalogues on the bus, in order."""
    last = (await js.stream_info(EVT)).state.last_seq
    found = [json.loads((await js.get_msg(EVT, seq)).data or b"{}") for seq in range(1, last + 1)]
    return [event for event in found if "catalogue." in event["type"]]


async def stored(client: Client, object_: str) -> str:
    """The digest of an object as whoever reads it gets it."""
    bucket = await client.jetstream().object_store(CATALOGUES)
    return sha256((await bucket.get(object_)).data or b"").hexdigest()


# --- a process that ends -------------------------------------------------------------------------------


def _end(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _after(place: Any, name: str, times: int = 1) -> None:
    """End when this has been done so often."""
    inner: Callable[..., Any] = getattr(place, name)
    left = [times]

    async def ending(*arguments: Any, **more: Any) -> Any:
        done = await inner(*arguments, **more)
        left[0] -= 1
        if not left[0]:
            _end()
        return done

    setattr(place, name, ending)


POINTS: dict[str, Callable[[], None]] = {
    "rendered": lambda: setattr(publish, "to_store", _end),
    "first file stored": lambda: _after(publish, "to_store"),
    "all files stored": lambda: _after(publish, "to_store", len(formats.FORMATS)),
    "kept": lambda: _after(store, "keep"),
    "not committed": lambda: setattr(store, "settle", _end),
    "committed": lambda: setattr(Delivery, "publish", _end),
    "published": lambda: _after(Publisher, "publish"),
}


async def _sweep(dsn: str, url: str, point: str) -> None:
    POINTS[point]()
    async with replica(dsn, url) as one:
        await one.sweep(handlers.AT_MOST.total_seconds())


def _run(dsn: str, url: str, point: str) -> None:
    asyncio.run(_sweep(dsn, url, point))


async def dying(dsn: str, url: str, point: str) -> int | None:
    """Its exit status. Forked off a server that has imported everything once: that is most of a start."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_run, args=(dsn, url, point))
    process.start()
    await asyncio.to_thread(process.join, 60)
    return process.exitcode
