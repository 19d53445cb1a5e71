"""Review alone, in this process, as the real role of its service: on a real bus and a real database.

What is done to it, and what must hold, is in the tests.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import nats
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from pydantic import BaseModel

from services.review.handlers import Review
from shared.contracts import registry
from shared.contracts.case import DecisionMade
from shared.contracts.envelope import YIQI
from shared.contracts.registry import EventType
from shared.contracts.submission import SubmissionAccepted
from shared.contracts.types import Party
from shared.runtime.clock import Clock
from shared.runtime.database import connect
from shared.runtime.decode import Raw
from shared.runtime.delivery import Delivery
from shared.runtime.embedded import Nats, Postgres
from shared.runtime.publisher import Publisher
from shared.runtime.service import Context
from shared.runtime.settings import Settings
from shared.runtime.streams import CONSUMERS, EVT, IN, provision

OWN, FOREIGN, CITY, FILER = "440106", "440104", "440100", "k6-0123456789abcdef"
PASSWORD = "only-in-this-test"


@dataclass
class World:
    dsn: str
    """As the service's role; `admin` is a superuser."""
    admin: asyncpg.Connection
    context: Context
    review: Review
    client: Client
    js: JetStreamContext
    _seq: int = 0
    _cases: list[UUID] = field(default_factory=list)

    # --- events, as they come from the bus ---

    def said(self, type_: EventType, who: str, id_: str, data: BaseModel) -> Raw:
        """An event of an agency, proven by its subject."""
        self._seq += 1
        document = {
            "specversion": "1.0",
            "id": id_,
            "source": f"urn:cn:gov:gz:{who}:oa",
            "type": type_.ce_type,
            "time": datetime.now(UTC).isoformat(),
            "data": data.model_dump(mode="json", exclude_none=True),
        }
        return Raw(type_.subject(who), json.dumps(document).encode(), None, IN, self._seq, datetime.now(UTC))

    def decision(self, who: str, case: UUID, outcome: str = "recommend", **more: Any) -> Raw:
        made = DecisionMade(case=case, outcome=outcome, reason="理由", **more)
        return self.said(registry.DECISION_MADE, who, f"{who}/{case}/{outcome}/{self._seq}", made)

    def filing(self, case: UUID, revision: int = 1, district: str = OWN) -> Raw:
        """A row that intake has accepted, to be recommended by a district."""
        now = datetime.now(UTC)
        filed = SubmissionAccepted(
            case=case, number=f"F3-{case.hex[:8].upper()}", revision=revision, notice="gz-collection-2025q1", form="F3",
            filer=Party(code=FILER, kind="K6", name="某机构"), recommender=district, unit=district, district=district,
            direction="D05", item_kind="activity", title=f"讲座{case.hex[:4]}", values={"activity_name": f"讲座{revision}"},
            findings=(), late=False, received=now,
        )  # fmt: skip
        _, body = registry.SUBMISSION_ACCEPTED.wire(filed, case, revision, at=now)
        self._seq += 1
        return Raw(registry.SUBMISSION_ACCEPTED.subject(district), body, None, EVT, self._seq, now)

    async def hear(self, *raws: Raw) -> None:
        for stream, consumer in ((EVT, "review-evt"), (IN, "review-in")):
            if batch := [raw for raw in raws if raw.stream == stream]:
                await self.context.delivery.handle(consumer, batch)

    async def opened(self, n: int) -> list[UUID]:
        """New cases, all of the same district."""
        cases = [uuid5(YIQI, f"tamper/{len(self._cases) + i}") for i in range(n)]
        self._cases += cases
        await self.hear(*(self.filing(case) for case in cases))
        return cases

    # --- what there is ---

    async def outcomes(self, case: UUID) -> list[str]:
        rows = await self.admin.fetch(
            'select outcome from review.history where "case" = $1 order by version', case
        )
        return [row["outcome"] for row in rows]

    async def dead(self) -> list[tuple[str, str]]:
        rows = await self.admin.fetch("select code, why from review.dead order by n")
        return [(row["code"], row["why"]) for row in rows]

    async def foreign(self) -> int:
        """Decisions of an agency that is no party of the case: filer, recommender, district or city."""
        return int(
            await self.admin.fetchval(
                'select count(*) from review.history h join review."case" c using ("case") where h.actor <> all(array['
                "c.filer ->> 'code', c.recommender, c.district, $1, 'clock']) and h.outcome not in ('fact', 'raise')",
                CITY,
            )
        )

    async def replica(self, clock: Clock | None = None) -> Context:
        """Another process of the service, as far as the database and the bus can tell."""
        context = self.context
        delivery = Delivery(
            "review", context.engine, context.delivery.publisher, clock or context.clock, {}, proven=True
        )
        return Context(
            context.settings, context.engine, clock or context.clock, delivery, self.client, self.js
        )


@asynccontextmanager
async def world(
    server: Nats, postgres: Postgres, database: str, agencies: Path | None = None
) -> AsyncIterator[World]:
    postgres.sql(f"alter role yiqi_review password '{PASSWORD}'", database)
    dsn = postgres.dsn(database, "yiqi_review", PASSWORD)
    client = await nats.connect(server.url)
    js = client.jetstream(timeout=5)
    for info in await js.streams_info():
        await js.delete_stream(str(info.config.name))
    await provision(js)
    engine, publisher, clock, review = connect(dsn, "review"), Publisher(client), Clock(), Review()
    await publisher.start()
    heard = {
        c.durable: ({e.name: e for e in c.events}, review.on_in if c.stream == IN else review.on_evt)
        for c in CONSUMERS
        if c.service == "review"
    }
    delivery = Delivery("review", engine, publisher, clock, heard, proven=True)
    context = Context(Settings(agencies=agencies), engine, clock, delivery, client, js)
    admin = await asyncpg.connect(postgres.dsn(database))
    try:
        await review.setup(context)
        yield World(dsn, admin, context, review, client, js)
    finally:
        await admin.close()
        await engine.dispose()
        await client.close()


async def stream(js: JetStreamContext, name: str) -> list[bytes]:
    last = (await js.stream_info(name)).state.last_seq
    return [(await js.get_msg(name, seq)).data or b"" for seq in range(1, last + 1)]


async def events(js: JetStreamContext, type_: EventType) -> Sequence[Any]:
    """The payloads of one type, in their order."""
    found = [json.loads(body) for body in await stream(js, EVT)]
    return [type_.payload.model_validate(one["data"]) for one in found if one["type"] == type_.ce_type]
