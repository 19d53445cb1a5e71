"""Places in which the system runs or shall run, what an operator does there, and what there is to be read of it.

Who publishes, and what is judged, is in the tests.
"""

import email
import io
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import nats
import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from services import cli
from services.cli import common
from services.cli.local import Local
from shared.runtime import SERVICES
from shared.runtime.embedded import eventually
from shared.runtime.streams import CONSUMERS
from tests.bench.work import offset
from tests.chaos.process import Nursed

SLOW = 120
"""Seconds for what takes one or two: other tests may run on the machine."""

OWED = "state in ('queued', 'claimed', 'data')"


def yiqi(place: Local, *arguments: str | Path) -> subprocess.Popen[str]:
    """The command as an operator runs it."""
    return subprocess.Popen(
        [sys.executable, "-c", "from services.cli import main; main()", *map(str, arguments)],
        env={k: v for k, v in os.environ.items() if not k.startswith("YIQI_")} | place.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(place: Local, *arguments: str | Path) -> tuple[int, str]:
    """The same command within this process: a start less to wait for."""
    said = io.StringIO()
    with as_operator(place), redirect_stdout(said), redirect_stderr(said), pytest.raises(SystemExit) as end:
        cli.main(list(map(str, arguments)))
    return int(end.value.code or 0), said.getvalue()


@contextmanager
def as_operator(place: Local) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.environment.items():
            patch.setenv(name, value)
        common.settings.cache_clear()
        yield
    common.settings.cache_clear()


def place(directory: Path, services: tuple[str, ...] = SERVICES) -> Local:
    found = Nursed(directory, sync_always=False, services=services, accounts=False)
    found.clock.write_text(str(offset().total_seconds()))
    return found


def empty(directory: Path, services: tuple[str, ...] = SERVICES) -> Local:
    """Servers and a database with nothing in them."""
    found = place(directory, services)
    found.nats.start()
    found.postgres.start()
    found.postgres.create_database("yiqi")
    return found


# --- what is there -------------------------------------------------------------------------------------


@asynccontextmanager
async def bus(place: Local) -> AsyncIterator[tuple[Client, JetStreamContext]]:
    client = await nats.connect(place.nats.url)
    try:
        yield client, client.jetstream(timeout=10)
    finally:
        await client.close()


@dataclass(frozen=True)
class Stored:
    subject: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    at: datetime

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]


async def everything(js: JetStreamContext, stream: str) -> AsyncIterator[Msg]:
    """Every message of a stream, from its beginning. Asked for, not subscribed to: what nats-py calls an ordered
    consumer stood still for good on a machine that had other things to do."""
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=300)
    reader = await js.pull_subscribe(">", stream=stream, config=config)
    left, until = (await reader.consumer_info()).num_pending or 0, time.monotonic() + 60
    while left > 0:
        try:
            messages = await reader.fetch(min(left, 500), timeout=5)
        except TimeoutError:
            if time.monotonic() > until:
                raise
            continue
        left, until = left - len(messages), time.monotonic() + 60
        for message in messages:
            yield message
    await reader.unsubscribe()


async def contents(js: JetStreamContext, stream: str) -> dict[int, Stored]:
    """Every message of a stream, by its sequence."""
    return {
        m.metadata.sequence.stream: Stored(
            m.subject, tuple(sorted((m.headers or {}).items())), m.data, m.metadata.timestamp
        )
        async for m in everything(js, stream)
    }


async def drain(place: Local) -> None:
    """Until everything is done that is to do."""
    db = await asyncpg.connect(place.postgres.dsn("yiqi"))
    left: dict[str, int] = {}

    async def rests() -> bool:
        left.clear()
        for service in SERVICES:
            left[f"{service}.outbox"] = await db.fetchval(f"select count(*) from {service}.outbox")
        left["mails"] = await db.fetchval(f"select count(*) from notify.mail where {OWED}")
        for consumer in CONSUMERS:
            info = await js.consumer_info(consumer.stream, consumer.durable)
            left[consumer.durable] = (info.num_pending or 0) + (info.num_ack_pending or 0)
        return not any(left.values())

    try:
        async with bus(place) as (_, js):
            await eventually(rests, 2 * SLOW, "the system to be at rest")
    except TimeoutError:
        raise AssertionError(f"not at rest: {left}") from None
    finally:
        await db.close()


def rows(place: Local, table: str, where: str = "true") -> set[str]:
    """The rows of a table as texts."""
    return set(place.postgres.sql(f"select t::text from {table} t where {where}", "yiqi").splitlines())


def sent(place: Local) -> Counter[str]:
    """What has left, by Message-ID."""
    return Counter(
        str(email.message_from_bytes(path.read_bytes())["Message-ID"]) for path in place.mails.messages()
    )
