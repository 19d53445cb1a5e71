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

from services.review import parties, store
from services.review.decide import open_case
from services.review.handlers import GRACE, Review
from shared.contracts import registry
from shared.contracts.submission import SubmissionAccepted
from shared.contracts.types import Party
from shared.runtime.clock import Clock
from shared.runtime.database import connect
from shared.runtime.delivery import Delivery
from shared.runtime.embedded import Nats, Postgres, eventually
from shared.runtime.publisher import Publisher
from shared.runtime.service import Context
from shared.runtime.settings import Settings
from shared.runtime.streams import CONSUMERS, IN, provision, unfinished_since

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

    async def hear(self) -> None:
        """As the service would: what lay on the bus is read, and done with."""
        reader = await self.js.pull_subscribe_bind("review-in", stream=IN)
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
