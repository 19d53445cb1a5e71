"""The same durable work by hand: nats-py and asyncpg, no framework, no rules, no recovery.

Every hop writes what the services write (inbox, effect, outbox) into the same tables in one transaction,
publishes pipelined, acknowledges last. Incoming events are validated; a row is judged by nothing else.
What the services do beside (dead rows, conflicts, sweeping, watchdogs, replicas that meet) is left out.

    python -m tests.bench.handwritten intake|review|notify
"""

import asyncio
import hashlib
import itertools
import json
import os
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import nats
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic_core import to_json

from shared.contracts import registry
from shared.contracts.envelope import OUR_SOURCE, YIQI
from shared.contracts.types import Values
from shared.runtime.streams import STREAM_OF

BATCH = 200
CITY = "440100"
PRODUCTS, ACTIVITIES = "F4", "F3"
Said = list[tuple[UUID, str, str, bytes]]
"""id, stream, subject, body"""

INBOX = (
    "insert into {0}.inbox (key, digest) select * from unnest($1::uuid[], $2::uuid[]) on conflict do nothing"
)
PROVEN = (
    "insert into {0}.inbox (key, digest, token) select *, 'yiqi:intake' from unnest($1::uuid[], $2::uuid[]) "
    "on conflict do nothing"
)
OUTBOX = (
    "insert into {0}.outbox (id, stream, subject, body) "
    "select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) on conflict do nothing"
)
FORGET = "delete from {0}.outbox where id = any($1::uuid[])"
SUBMISSION = """
insert into intake.submission ("case", number, notice, form, unit, filer, title, direction, item_kind, revision,
    digest, tallies, late, received)
select c, n, o, f, u, u, t, d, k, 1, g, j, false, r from unnest($1::uuid[], $2::text[], $3::text[], $4::text[],
    $5::text[], $6::text[], $7::text[], $8::text[], $9::uuid[], $10::jsonb[], $11::timestamptz[])
    as x (c, n, o, f, u, t, d, k, g, j, r) on conflict do nothing
"""
TALLY = """
insert into intake.tally (notice, unit, name, scope, used)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[])
on conflict (notice, unit, name, scope) do update set used = tally.used + excluded.used
"""
CASE = """
insert into review."case" ("case", number, notice, form, stage, version, revision, filer, unit, district, direction,
    item_kind, title, "values", findings, late, filed, entered, provisional)
select c, n, o, f, 'formal_check', 1, 1, p, u, d, i, k, t, v, '[]', false, a, a, false from unnest($1::uuid[], $2::text[],
    $3::text[], $4::text[], $5::jsonb[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::jsonb[],
    $12::timestamptz[]) as x (c, n, o, f, p, u, d, i, k, t, v, a) on conflict do nothing
"""
HISTORY = """
insert into review.history ("case", version, at, actor, stage, outcome, reason, rules, acknowledges, fixes, cause, hash,
    key, publisher)
select c, 1, $2, a, 'formal_check', 'file', '', '[]', '[]', '[]', e, h, k, 'yiqi:intake'
from unnest($1::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[]) as x (c, a, e, h, k)
"""
PARTY = """
insert into review.party ("case", agency, roles)
select c, a, array[r] from unnest($1::uuid[], $2::text[], $3::text[]) as x (c, a, r) on conflict do nothing
"""
MAIL = """
insert into notify.mail (id, key, letter, to_code, to_name, address, params, attachments, "case", not_before)
select i, k, 'accepted', c, n, a, p, '[]', q, '2000-01-01' from unnest($1::uuid[], $2::text[], $3::text[], $4::text[],
    $5::text[], $6::jsonb[], $7::uuid[]) as x (i, k, c, n, a, p, q) on conflict do nothing
"""


class Publishing:
    """Many messages in flight, every PubAck awaited."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.prefix = client.new_inbox() + "."
        self.tokens = itertools.count()
        self.waiting: dict[str, asyncio.Future[None]] = {}

    async def start(self) -> None:
        await self.client.subscribe(self.prefix + "*", cb=self.acknowledged)

    async def acknowledged(self, reply: Msg) -> None:
        if b'"error"' in reply.data:
            raise RuntimeError(reply.data)
        self.waiting.pop(reply.subject).set_result(None)

    async def publish(self, said: Said) -> None:
        futures = []
        for id_, stream, subject, body in said:
            reply = f"{self.prefix}{next(self.tokens)}"
            future = self.waiting[reply] = asyncio.get_running_loop().create_future()
            futures.append(future)
            headers = {"Nats-Msg-Id": str(id_), "Nats-Expected-Stream": stream}
            await self.client.publish(subject, body, reply=reply, headers=headers)
        await asyncio.gather(*futures)


def hashed(*parts: bytes) -> UUID:
    return UUID(bytes=hashlib.blake2b(b"\0".join(parts), digest_size=16).digest())


def event(
    type_: registry.EventType, token: str, data: dict[str, Any], at: str, *cause: object
) -> tuple[UUID, str, str, bytes]:
    id_ = uuid5(YIQI, "/".join(map(str, (type_.ce_type, *cause))))
    body = to_json(
        {
            "specversion": "1.0",
            "id": str(id_),
            "source": OUR_SOURCE,
            "type": type_.ce_type,
            "time": at,
            "datacontenttype": "application/json",
            "data": data,
        }
    )
    return id_, STREAM_OF[type_.cls], type_.subject(token), body


def columns(rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def party(filer: Any) -> dict[str, Any]:
    return {"code": filer.code, "kind": filer.kind, "name": filer.name, "email": filer.email}


async def intake(conn: Any, events: list[Any], at: datetime) -> Said:
    now = at.isoformat()
    rows, said = [], []
    used: Counter[tuple[str, str, str, str]] = Counter()
    for one in events:
        data = one.data
        product = data.form == PRODUCTS
        title = data.values["product_name" if product else "activity_name"]
        values: Values = {k: v.strip() for k, v in data.values.items()}
        case = uuid5(YIQI, f"case/{data.notice}/{data.form}/{data.filer.code}/{title}")
        number = f"{data.form}-{case.hex[:8]}"
        direction, kind = ("D06", "product") if product else ("D01", "activity")
        counts = [
            ["direction_items", direction],
            [f"direction_{'products' if product else 'activities'}", direction],
        ]
        for name, scope in counts:
            used[data.notice, data.filer.code, name, scope] += 1
        digest = hashed(json.dumps(values, ensure_ascii=False, sort_keys=True).encode())
        rows.append(
            (
                case,
                number,
                data.notice,
                data.form,
                data.filer.code,
                title,
                direction,
                kind,
                digest,
                json.dumps(counts),
                at,
            )
        )
        accepted = {
            "case": str(case), "number": number, "revision": 1, "notice": data.notice, "form": data.form,
            "filer": party(data.filer), "unit": data.filer.code, "district": "440100", "direction": direction,
            "item_kind": kind, "title": title, "values": values, "findings": [], "late": False, "received": now,
            "counts": [name for name, _ in counts],
        }  # fmt: skip
        said.append(event(registry.SUBMISSION_ACCEPTED, "440100", accepted, now, case, 1))
        answer = {"accepted": one.id, "type": one.type, "case": str(case), "number": number, "errors": []}
        said.append(event(registry.EVENT_ACCEPTED, data.filer.code, answer, now, one.source, one.id))
    await conn.execute(SUBMISSION, *columns(rows))
    await conn.execute(TALLY, *columns([(*key, n) for key, n in sorted(used.items())]))
    return said


async def review(conn: Any, events: list[Any], at: datetime) -> Said:
    now = at.isoformat()
    cases, history, playing, said = [], [], [], []
    for one in events:
        d = one.data
        filer = party(d.filer)
        cases.append((d.case, d.number, d.notice, d.form, json.dumps(filer), d.unit, d.district, d.direction, d.item_kind, d.title,
                      json.dumps(d.values, ensure_ascii=False), d.received))  # fmt: skip
        line = json.dumps([str(d.case), 1, now, d.filer.code, "formal_check", "file", "", [], [], [], one.id])
        key = hashed(one.source.encode(), one.id.encode())
        history.append((d.case, d.filer.code, one.id, hashlib.sha256(line.encode()).hexdigest(), key))
        playing += [(d.case, d.filer.code, "filer"), (d.case, d.district, "district"), (d.case, CITY, "city")]
        opened = {
            "case": str(d.case), "number": d.number, "version": 1, "notice": d.notice, "form": d.form,
            "stage": "formal_check", "outcome": "file", "actor": d.filer.code, "filer": filer, "unit": d.unit,
            "district": d.district, "title": d.title, "late": False, "reason": "", "rules": [], "acknowledges": [],
            "fixes": [], "provisional": False, "counts": d.counts,
        }  # fmt: skip
        said.append(event(registry.CASE_OPENED, d.district, opened, now, d.case, 1))
    lines = [{"case": str(case), "version": 1, "hash": hash_} for case, _, _, hash_, _ in history]
    said.append(event(registry.HISTORY_WRITTEN, "review", {"lines": lines}, now, lines[0]["case"], 1))
    await conn.execute(CASE, *columns(cases))
    await conn.execute(PARTY, *columns(playing))
    (ids, *more) = columns(history)
    await conn.execute(HISTORY, ids, at, *more)
    return said


async def notify(conn: Any, events: list[Any], _: datetime) -> Said:
    mails = []
    for one in events:
        d = one.data
        key = f"case/{d.case}/{d.version}/accepted/{d.filer.code}"
        params = {
            "notice": "广州市工业和信息化局关于开展2025年第一季度广州市中小企业服务产品征集工作的通知",
            "issuer": "广州市工业和信息化局", "unit": "服务体系建设处", "ask": "广州市工业和信息化局服务体系建设处",
            "case": {"id": str(d.case), "number": d.number, "title": d.title, "form": d.form, "filer": d.filer.name},
            "stage": "形式审查", "decided_by": d.filer.name, "reason": "", "fixes": [], "findings": [], "more": 0,
            "clauses": [{"clause": "征集通知·三", "id": "DL-01", "text": "报送截止", "derived": False}],
            "late": False, "due": None, "number": None,
        }  # fmt: skip
        mails.append((uuid5(YIQI, "mail/" + key), key, d.filer.code, d.filer.name, d.filer.email,
                      json.dumps(params, ensure_ascii=False), d.case))  # fmt: skip
    await conn.execute(MAIL, *columns(mails))
    return []


HOPS: dict[str, tuple[registry.EventType, str, str, Any]] = {
    "intake": (registry.SUBMISSION_FILED, "SME_IN", "intake-in", intake),
    "review": (registry.SUBMISSION_ACCEPTED, "SME_EVT", "review-evt", review),
    "notify": (registry.CASE_OPENED, "SME_EVT", "notify-evt", notify),
}


async def main(name: str) -> None:
    type_, stream, durable, effect = HOPS[name]
    conn = await asyncpg.connect(os.environ["BENCH_DATABASE_URL"])
    client = await nats.connect(os.environ["BENCH_NATS_URL"])
    messages = await client.jetstream().pull_subscribe_bind(durable=durable, stream=stream)
    publishing = Publishing(client)
    await publishing.start()
    done: list[UUID] = []
    validate = type_.envelope.model_validate_json
    while True:
        try:
            batch = await messages.fetch(BATCH, timeout=5)
        except TimeoutError:
            continue
        events = [validate(m.data) for m in batch]
        at = datetime.now(UTC)
        async with conn.transaction():
            if done:
                await conn.execute(FORGET.format(name), done)
            inbox = [
                (hashed(e.source.encode(), e.id.encode()), hashed(m.data))
                for e, m in zip(events, batch, strict=True)
            ]
            statement = PROVEN if name == "review" else INBOX
            await conn.execute(statement.format(name), *columns(inbox))
            said = await effect(conn, events, at)
            if said:
                rows = [(id_, to, subject, body.decode()) for id_, to, subject, body in said]
                await conn.execute(OUTBOX.format(name), *columns(rows))
        await publishing.publish(said)
        done = [id_ for id_, *_ in said]
        for message in batch:
            await message.ack()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
