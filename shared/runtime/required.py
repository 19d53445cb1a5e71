"""What a service needs before it starts: the consumers and the tables that it was written for.

Nothing is made here: that is `streams.provision` and `database.migrate`.
"""

from collections.abc import Sequence

import asyncpg
import nats.js.errors
from nats.js import JetStreamContext

from shared.runtime.database import Database, head, passes
from shared.runtime.streams import Consumer, Drift, as_heard, differs


async def assert_consumers(jetstream: JetStreamContext, consumers: Sequence[Consumer]) -> None:
    """A service starts only on the consumers it was written for; it creates and changes none. One that hears more is of
    a later release, which is on its way or was taken back."""
    wrong: list[str] = []
    for consumer in consumers:
        try:
            found = (await jetstream.consumer_info(consumer.stream, consumer.durable)).config
        except nats.js.errors.NotFoundError:
            wrong.append(f"consumer {consumer.durable} is missing: run `yiqi provision`")
            continue
        lines = differs(consumer.config(), as_heard(consumer, found))
        wrong += [f"consumer {consumer.durable}: {line}" for line in lines]
    if wrong:
        raise Drift("\n".join(wrong))


async def assert_schema(engine: Database, service: str) -> None:
    """On tables of an earlier release events would fail, and be put among the dead: a service ends until the migrator
    has been there. One that starts while the database is away takes it to be as it was."""
    try:
        async with engine.connect() as conn:
            found = await conn.execute(f"select version_num from {service}.alembic_version")
            revision = found.scalar()
    except asyncpg.UndefinedTableError:
        revision = None
    except Exception as error:
        if passes(error):
            return
        raise
    if revision is None or revision < head(service):
        raise Drift(f"schema is {revision}, should be {head(service)}: run `yiqi provision`")
