"""The clock does not overtake what was said in time and lies unread on the bus: on a real bus and a real database, by
the service's own sweep."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import nats
import pytest
from nats.js import JetStreamContext

from services.review import handlers, parties, store
from services.review.decide import open_case
from services.review.handlers import GRACE, Review
from shared.contracts import registry
from shared.contracts.case import DecisionMade
from shared.contracts.submission import SubmissionAccepted
from shared.contracts.types import Party
from shared.runtime import delivery
from shared.runtime.clock import Clock
from shared.runtime.database import connect
from shared.runtime.decode import Raw
from shared.runtime.delivery import MOST_WAITS, Delivery
from shared.runtime.embedded import Nats, Postgres, eventually
from shared.runtime.publisher import Publisher
from shared.runtime.service import Context
from shared.runtime.settings import Settings
from shared.runtime.streams import CONSUMERS, EVT, IN, provision, unfinished_since

FOLDER = Path(__file__).parents[1] / "examples" / "yongping"
NOTICE = "yongping-workshops-2026"
SUBJECT = registry.DECISION_MADE.subject("990100")
HEARS = [c for c in CONSUMERS if c.durable == "review-in"]


@dataclass
class World:
    review: Review
    context: Context
    js: JetStreamContext

    async def stage(self) -> str:
        async with self.context.engine.connect() as conn:
            return str((await conn.read('select stage from review."case"'))[0].stage)

    async def turn(self) -> str:
        await self.review.tick(self.context)
        return await self.stage()

    async def hear(self, durable: str = "review-in", stream: str = IN) -> None:
        """As the service would: what lay on the bus is read, and done with."""
        reader = await self.js.pull_subscribe_bind(durable, stream=stream)
        for message in await reader.fetch(10, timeout=5):
            await message.ack_sync()
        await reader.unsubscribe()


@asynccontextmanager
async def world(server: Nats, postgres: Postgres, database: str) -> AsyncIterator[World]:
    client = await nats.connect(server.url)
    engine = connect(postgres.dsn(database), "review")
    js = client.jetstream(timeout=5)
    for info in await js.streams_info():
        await js.delete_stream(str(info.config.name))
    await provision(js)
    publisher, clock = Publisher(client), Clock()
    await publisher.start()
    settings = Settings(notices=FOLDER)
    context = Context(settings, engine, clock, Delivery("review", engine, publisher, clock, {}), client, js)
    review = Review()
    try:
        await review.setup(context)
        yield World(review, context, js)
    finally:
        await engine.dispose()
        await client.close()


async def on_notice(here: World, ends: datetime) -> None:
    """A case in public notice, whose term ends at that moment."""
    notice, now = here.review.notices[NOTICE].notice, datetime.now(UTC)
    filed = SubmissionAccepted(
        case=UUID(int=5), number="F1-X", revision=1, notice=NOTICE, form="F1", item_kind="product", title="工坊",
        filer=Party(code="k6-abc", kind="K6", name="某工坊"), unit="k6-abc", district="990101", findings=(),
        values={"workshop": "工坊"}, late=False, received=now,
    )  # fmt: skip
    opened = open_case(notice, filed, now, here.review.calendar)
    waiting = replace(opened.case, stage="notice", due=now.date(), wakes=ends)
    async with here.context.engine.begin() as conn:
        step = replace(opened, case=waiting)
        await store.write(
            conn, [step], {}, parties.changed({NOTICE: notice}, {}, [step]), here.review.form_of
        )


@pytest.mark.parametrize("said", [True, False], ids=["unread", "control: nothing said"])
async def test_the_clock_waits_for_what_was_said_before(
    nats_server: Nats, postgres: Postgres, database: str, said: bool
) -> None:
    async with world(nats_server, postgres, database) as here:
        assert await unfinished_since(here.js, HEARS) is None
        if said:
            await here.js.publish(SUBJECT, b"an objection")
        ends = datetime.now(UTC) + timedelta(seconds=0.5)
        await on_notice(here, ends)
        if not said:
            await eventually(lambda: datetime.now(UTC) > ends, 5, "the end of the term")
            assert await here.turn() == "notice"  # not at once: clocks differ

            async def over() -> bool:
                return await here.turn() == "recognised"

            await eventually(over, GRACE.total_seconds() + 5, "what the end of the term brings")
            return
        oldest = await unfinished_since(here.js, HEARS)
        assert oldest
        assert oldest < ends
        await eventually(lambda: datetime.now(UTC) > ends + GRACE * 1.2, 10, "the end of the term and more")
        assert await here.turn() == "notice"
        await here.hear()
        assert await unfinished_since(here.js, HEARS) is None
        assert await here.turn() == "recognised"


async def test_what_was_said_afterwards_holds_nothing_up(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with world(nats_server, postgres, database) as here:
        ends = datetime.now(UTC) - GRACE * 2
        await on_notice(here, ends)
        await here.js.publish(SUBJECT, b"too late")
        assert await here.turn() == "recognised"


async def test_a_decision_waits_for_the_case_that_lies_unread(
    nats_server: Nats, postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it has come: of an hour's backlog nobody says that there is no such case. Control: once all that
    was said before it is heard, it is told so at once."""
    monkeypatch.setattr(delivery, "WAITS", (0.01,))
    monkeypatch.setattr(handlers, "WAITS", (0.01,))
    async with world(nats_server, postgres, database) as here:
        await here.js.publish(registry.SUBMISSION_ACCEPTED.subject("990101"), b"its case")
        type_, data = registry.DECISION_MADE, DecisionMade(case=UUID(int=7), outcome="accept", reason="同意")
        raw, other = [await said(here, type_, data, cause) for cause in ("it", "other")]
        context = here.context
        heard = {type_.name: type_}
        mine = Delivery(
            "review",
            context.engine,
            context.delivery.publisher,
            context.clock,
            {"review-in": (heard, here.review.on_in)},
        )
        await eventually(
            lambda: datetime.now(UTC) > raw.at + timedelta(seconds=0.1), 5, "more than all waits"
        )
        assert raw.seq in await mine.handle("review-in", [raw])
        spent = replace(other, deliveries=MOST_WAITS)  # the bus gives it up soon
        assert await mine.handle("review-in", [spent]) == {}
        await here.hear("review-evt", EVT)
        assert await mine.handle("review-in", [raw]) == {}
        async with context.engine.connect() as conn:
            dead = await conn.read("select seq, code from review.dead order by n")
        assert [(row.seq, row.code) for row in dead] == [(other.seq, "waited"), (raw.seq, "waited")]


async def said(here: World, type_: registry.EventType, data: DecisionMade, cause: str) -> Raw:
    """An event of the city as it comes from the bus, not for the first time."""
    source = "urn:cn:gov:gz:990100:oa"
    body = type_.event(data, cause, at=datetime.now(UTC), source=source).wire()
    ack = await here.js.publish(SUBJECT, body)
    stored = await here.js.get_msg(IN, ack.seq)
    assert stored.time
    return Raw(SUBJECT, body, None, IN, ack.seq, stored.time, deliveries=5)
