"""What a submission leaves behind in bytes, and what the services weigh when all is quiet: the figures of the sizing table.

    python -m tests.bench.size [--n 1000]

Filed, opened, receipt mailed, the first tenth decided to publication, which also makes catalogues. How fast it goes is in
`__main__.py`.
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
from shared.runtime.streams import BUCKET, CONSUMERS, STREAMS
from tests.bench import machine
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


async def _bytes(js: JetStreamContext, dsn: str) -> dict[str, int]:
    db = await asyncpg.connect(dsn)
    try:
        await db.execute("checkpoint")
        found = {
            f"PostgreSQL {row['schema']}": int(row["size"])
            for row in await db.fetch(
                "select schemaname as schema, sum(pg_total_relation_size(relid)) as size "
                "from pg_stat_user_tables group by 1 order by 1"
            )
        }
    finally:
        await db.close()
    for name in (*(str(s.name) for s in STREAMS), BUCKET):
        found[f"NATS {name}"] = int((await js.stream_info(name)).state.bytes)
    return found


async def _measure(local: Local, n: int) -> tuple[dict[str, int], dict[str, int]]:
    client = await nats.connect(local.nats.url)
    js, dsn = client.jetstream(timeout=30), local.postgres.dsn("yiqi")

    async def rest() -> None:
        await eventually(lambda: _quiet(js, dsn), WITHIN, "the system to be quiet")

    try:
        before = await _bytes(js, dsn)
        these = list(filings(n, "size"))
        await _file(js, these)
        await rest()
        filed = await _bytes(js, dsn)
        # Of institutions that recommend themselves: the city decides at once.
        some = [f for i, f in enumerate(these) if i % 10 == 1]
        for outcome in ("accept", "select", "publish"):
            await _decide(js, some, outcome)
            await rest()
        after = await _bytes(js, dsn)
    finally:
        await client.close()
    return _less(filed, before), _less(after, filed)


def _less(after: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {what: after[what] - before.get(what, 0) for what in after}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    n = parser.parse_args().n
    with tempfile.TemporaryDirectory() as folder:
        local = Local(Path(folder), accounts=False)
        local.clock.write_text(str(offset().total_seconds()))
        try:
            local.start(120)
            idle = {name: machine.memory(machine.tree(p.pid))[0] for name, p in local.running.items()}
            filed, decided = asyncio.run(_measure(local, n))
            after = {name: machine.memory(machine.tree(p.pid))[0] for name, p in local.running.items()}
            servers = {
                "nats-server": machine.memory(machine.tree(local.nats.pid or 0))[0],
                "postgres": machine.memory(machine.tree(local.postgres.pid or 0))[0],
            }
        finally:
            local.stop()
    print(f"bytes a submission ({n} filed, opened, receipt mailed; {n // 10} of them decided to publication)")
    print(f"{'':24} {'filed':>10} {'published, each':>16}")
    for what in filed:
        print(f"{what:24} {filed[what] / n:10.0f} {decided[what] / (n // 10):16.0f}")
    for kind in ("PostgreSQL", "NATS"):
        total = [sum(v for k, v in part.items() if k.startswith(kind)) for part in (filed, decided)]
        print(f"{kind + ', all':24} {total[0] / n:10.0f} {total[1] / (n // 10):16.0f}")
    print("PSS in MB, started / after all of it")
    for name, was in idle.items():
        print(f"{name:24} {was:10.0f} {after[name]:16.0f}")
    for name, now in servers.items():
        print(f"{name:24} {'':10} {now:16.0f}")


if __name__ == "__main__":
    main()
