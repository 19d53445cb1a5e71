"""What a submission leaves behind in bytes, and what the services weigh when all is quiet: the figures of the sizing table.

    python -m tests.bench.size [--n 1000] [--write]

Filed, opened, receipt mailed, every tenth decided to publication, which also makes catalogues. `--write` puts the tables
into `deploy/README.md` and `README.en.md`. How they look is in `sizing.py`, how fast it goes in `__main__.py`.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import nats
from nats.js import JetStreamContext

from services.cli.local import Local
from shared.contracts.registry import DECISION_MADE
from shared.runtime.embedded import eventually
from shared.runtime.streams import BUCKET, CONSUMERS
from tests.bench import machine
from tests.bench.sizing import DATABASE, HELD, PAGES, Sizes, Stored, write, written
from tests.bench.work import Filed, filings, offset
from tests.chaos.ledger import CITY, event

AT_ONCE = 64
WITHIN = 900.0


async def _file(js: JetStreamContext, these: list[Filed]) -> None:
    for first in range(0, len(these), AT_ONCE):
        some = these[first : first + AT_ONCE]
        await asyncio.gather(
            *(js.publish(f.subject, f.body, headers={"Nats-Msg-Id": str(f.id)}) for f in some)
        )


async def _decide(js: JetStreamContext, these: list[Filed], outcome: str) -> None:
    for filed in these:
        data = {"case": str(filed.case), "outcome": outcome, "reason": "按程序办理"}
        id_, body = event(DECISION_MADE, CITY, data, "size", filed.case, outcome)
        await js.publish(DECISION_MADE.subject(CITY), body, headers={"Nats-Msg-Id": id_})


async def _quiet(js: JetStreamContext, dsn: str) -> bool:
    for consumer in CONSUMERS:
        info = await js.consumer_info(consumer.stream, consumer.durable)
        if info.num_pending or info.num_ack_pending:
            return False
    db = await asyncpg.connect(dsn)
    try:
        left = "select count(*) from notify.mail where state in ('queued', 'claimed', 'data')"
        stale = "select count(*) from export.stale"
        return not await db.fetchval(left) and not await db.fetchval(stale)
    finally:
        await db.close()


async def _stored(js: JetStreamContext, dsn: str) -> dict[str, Stored]:
    """Bytes on disk by schema and by stream; the database's own books are brought up to date before."""
    db = await asyncpg.connect(dsn)
    try:
        await db.execute("checkpoint")
        size = await db.fetchval("select sum(pg_total_relation_size(relid)) from pg_stat_user_tables")
    finally:
        await db.close()
    found = {DATABASE: Stored(float(size))}
    for name in (*HELD, BUCKET):
        state = (await js.stream_info(name)).state
        found[name] = Stored(state.bytes, state.messages)
    return found


async def _measure(local: Local, n: int) -> tuple[dict[str, Stored], dict[str, Stored]]:
    client = await nats.connect(local.nats.url)
    js, dsn = client.jetstream(timeout=30), local.postgres.dsn("yiqi")

    async def rest() -> None:
        await eventually(lambda: _quiet(js, dsn), WITHIN, "the system to be quiet")

    try:
        before = await _stored(js, dsn)
        these = list(filings(n, "size"))
        await _file(js, these)
        await rest()
        filed = await _stored(js, dsn)
        # Of institutions that recommend themselves: the city decides at once.
        some = these[1::10]
        for outcome in ("accept", "select", "publish"):
            await _decide(js, some, outcome)
            await rest()
        after = await _stored(js, dsn)
    finally:
        await client.close()
    return _each(before, filed, n), _each(filed, after, len(some))


def _each(before: Mapping[str, Stored], after: Mapping[str, Stored], n: int) -> dict[str, Stored]:
    return {
        what: Stored((one.size - before[what].size) / n, (one.messages - before[what].messages) / n)
        for what, one in after.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="put the tables into the pages of deploy/")
    asked = parser.parse_args()
    sizes = measured(asked.n)
    for language in PAGES:
        print(written(sizes, language))
    if asked.write:
        write(sizes)


def measured(n: int) -> Sizes:
    with tempfile.TemporaryDirectory() as folder:
        local = Local(Path(folder), accounts=False)
        local.clock.write_text(str(offset().total_seconds()))
        try:
            local.start(120)
            idle = _memory(local)
            filed, published = asyncio.run(_measure(local, n))
            after = _memory(local)
            servers = {
                "nats-server": machine.memory(machine.tree(local.nats.pid or 0))[0],
                DATABASE: machine.memory(machine.tree(local.postgres.pid or 0))[0],
            }
        finally:
            local.stop()
    memory = {name: (idle[name], after[name]) for name in idle}
    return Sizes(n, len(range(1, n, 10)), filed, published, memory, servers)


def _memory(local: Local) -> dict[str, float]:
    return {name: machine.memory(machine.tree(p.pid))[0] for name, p in local.running.items()}


if __name__ == "__main__":
    main()
