"""Effects happen once: duplicates, poison, outages and crashes against a real bus and a real database.

The service here has one table, and a row in it is the effect. Nothing of the four services takes part.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid5

import nats
import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from prometheus_client import REGISTRY
from sqlalchemy import Column, Identity, Integer, MetaData, Table, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from services.intake.handlers import Intake
from services.notify.handlers import Notify
from shared.contracts import registry
from shared.contracts.envelope import YIQI
from shared.contracts.mail import MailSent
from shared.contracts.problem import problem
from shared.contracts.submission import EventAccepted
from shared.notices.directory import Directory
from shared.notices.load import load_all
from shared.runtime import shim
from shared.runtime.clock import Clock
from shared.runtime.database import Again, Connection, Database, connect, delivery_tables
from shared.runtime.decode import Item, Raw
from shared.runtime.delivery import WAITS, Delivery, Handler, Tx
from shared.runtime.embedded import Nats, Postgres, eventually
from shared.runtime.publisher import Message, Publisher
from shared.runtime.service import Context
from shared.runtime.settings import Settings
from shared.runtime.streams import CATALOGUES, EVT, IN, OUT, STREAMS, provision
from tests.goldens import golden

CASE = "0b6a7c1e-2f4d-5a89-9c3e-7d1f60a2b845"
AT = datetime(2025, 3, 5, 1, 30, tzinfo=UTC)
SUBJECT = registry.DECISION_MADE.subject("440106")

METADATA = MetaData(schema="probe")
delivery_tables(METADATA)
# Without a unique key: an effect that happens twice is two rows.
Table(
    "effect",
    METADATA,
    Column("n", Integer, Identity(), primary_key=True),
    Column("event", Text),
    Column("reason", Text),
)


def document(id_: str, reason: str = "同意", **more: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "urn:cn:gov:gz:440106:oa",
        "type": registry.DECISION_MADE.ce_type,
        "time": "2025-03-05T09:30:00+08:00",
        "data": {"case": CASE, "outcome": "recommend", "reason": reason},
        **more,
    }


def wire(id_: str, reason: str = "同意", **more: Any) -> bytes:
    return json.dumps(document(id_, reason, **more), ensure_ascii=False).encode()


def raw(body: bytes, seq: int, headers: dict[str, str] | None = None) -> Raw:
    return Raw(SUBJECT, body, headers, IN, seq, AT)


async def effect(tx: Tx, items: Sequence[Item]) -> None:
    """A row for each event; one fact between services, and one answer."""
    for item in items:
        await tx.conn.execute(
            "insert into probe.effect (event, reason) values (:event, :reason)",
            {"event": item.event.id, "reason": item.data.reason},
        )
        told = MailSent(mail=item.data.case, letter=item.event.id, to=item.token)
        tx.say(registry.MAIL_SENT, item.token, told, item.key)
        tx.answer(item, registry.EVENT_ACCEPTED, EventAccepted(accepted=item.event.id, type=item.event.type))


async def effect_or_poison(tx: Tx, items: Sequence[Item]) -> None:
    await effect(tx, items)
    if any(item.data.reason == "poison" for item in items):
        raise RuntimeError("a bug that one event meets")


def held() -> float:
    """How often an attempt met an outage, in this process."""
    return REGISTRY.get_sample_value("yiqi_batches_held_total") or 0.0


class Forgetful(Delivery):
    """The negative control: everything but the inbox."""

    def _fresh(self, tx: Tx, items: Sequence[Item], known: Mapping[UUID, UUID]) -> list[Item]:
        return list(items)

    def _remember(self, conn: Connection, items: Sequence[Item]) -> None:
        pass


@dataclass
class World:
    dsn: str
    url: str
    engine: Database
    client: Client
    js: JetStreamContext

    async def delivery(self, handler: Handler = effect, kind: type[Delivery] = Delivery) -> Delivery:
        publisher = Publisher(self.client)
        await publisher.start()
        return kind("probe", self.engine, publisher, Clock(), self.handlers(handler))

    async def cut_off(self, handler: Handler = effect) -> Delivery:
        """A delivery whose connection to the bus has ended: it commits, and can say nothing."""
        client = await nats.connect(self.url)
        publisher = Publisher(client)
        await publisher.start()
        await client.close()
        return Delivery("probe", self.engine, publisher, Clock(), self.handlers(handler))

    def handlers(self, handler: Handler) -> dict[str, Any]:
        return {"probe-in": ({registry.DECISION_MADE.name: registry.DECISION_MADE}, handler)}

    async def rows(self, sql: str) -> list[Any]:
        async with self.engine.begin() as conn:
            return [tuple(row) for row in await conn.execute(sql)]

    async def effects(self) -> list[str]:
        return [event for (event,) in await self.rows("select event from probe.effect order by n")]

    async def dead(self) -> list[tuple[int, str, str]]:
        return await self.rows("select seq, code, state from probe.dead order by n")

    async def outbox(self) -> int:
        return int((await self.rows("select count(*) from probe.outbox"))[0][0])

    async def backdate(self) -> None:
        """As if what lies in the outbox had been left behind an hour ago."""
        await self.rows("update probe.outbox set at = at - interval '1 hour' returning id")

    async def stream(self, name: str) -> list[dict[str, Any]]:
        info = await self.js.stream_info(name)
        messages = [await self.js.get_msg(name, seq) for seq in range(1, info.state.last_seq + 1)]
        return [json.loads(m.data or b"") for m in messages]

    async def said(self) -> list[str]:
        return [event["data"]["letter"] for event in await self.stream(EVT)]

    async def answers(self) -> list[tuple[str, Any]]:
        """(what, id) of the feedback."""
        return [
            ("accepted", d["accepted"]) if "accepted" in d else ("rejected", d["rejected"].get("id"))
            for d in (event["data"] for event in await self.stream(OUT))
        ]

    async def through_the_bus(self, *messages: tuple[bytes, dict[str, str] | None]) -> list[Raw]:
        """Store messages and fetch them as a service does."""
        for body, headers in messages:
            await self.js.publish(SUBJECT, body, stream=IN, headers=headers)
        subscription = await self.js.pull_subscribe("", durable="probe", stream=IN)
        found: list[Raw] = []
        while len(found) < len(messages):
            with suppress(TimeoutError):
                for m in await subscription.fetch(len(messages), timeout=5):
                    at = m.metadata.sequence.stream
                    found.append(Raw(m.subject, m.data, m.headers, IN, at, m.metadata.timestamp))
                    await m.ack()
        return found


@asynccontextmanager
async def fresh(nats_server: Nats, postgres: Postgres, database: str) -> AsyncIterator[World]:
    shim.install()
    dsn = postgres.dsn(database)
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    tables = [str(CreateTable(t).compile(dialect=dialect)) for t in METADATA.sorted_tables]
    postgres.sql(";".join(["create schema probe", *tables]), database)
    engine = connect(dsn, "probe")
    client = await nats.connect(nats_server.url)
    js = client.jetstream(timeout=5)
    for name in [str(s.name) for s in STREAMS] + [f"OBJ_{CATALOGUES}"]:
        try:
            await js.delete_stream(name)
        except nats.js.errors.NotFoundError:
            continue
    await provision(js)
    try:
        yield World(dsn, nats_server.url, engine, client, js)
    finally:
        await client.close()
        await engine.dispose()


# --- once --------------------------------------------------------------------------------------------


async def test_an_event_has_its_effect_its_fact_and_its_answer(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        delivery = await world.delivery()
        await delivery.handle("probe-in", [raw(wire("a"), 1)])
        assert await world.effects() == ["a"]
        assert await world.said() == ["a"]
        assert await world.answers() == [("accepted", "a")]
        assert await world.dead() == []
        assert await world.outbox() == 2  # published; forgotten by the next transaction
        await delivery.sweep()
        assert await world.outbox() == 0
        assert len(await world.stream(EVT)) == 1


def deliveries(seed: int) -> list[list[Raw]]:
    """40 events, each one to five times, shuffled, in batches of any size."""
    dice = random.Random(seed)
    copies = [raw(wire(f"e{n}"), n) for n in range(40) for _ in range(dice.randint(1, 5))]
    dice.shuffle(copies)
    batches = []
    while copies:
        size = dice.randint(1, 20)
        batches.append(copies[:size])
        copies = copies[size:]
    return batches


ONCE = {f"e{n}": 1 for n in range(40)}


@pytest.mark.parametrize("seed", range(3))
async def test_duplicates_in_and_across_batches_and_processes_have_one_effect(
    nats_server: Nats, postgres: Postgres, database: str, seed: int
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        first, second = await world.delivery(), await world.delivery()
        batches = deliveries(seed)

        async def work(delivery: Delivery, mine: list[list[Raw]]) -> None:
            for batch in mine:
                await delivery.handle("probe-in", batch)

        # Both get everything, in opposite orders: what one commits the other is just trying.
        await asyncio.gather(work(first, batches), work(second, batches[::-1]))
        assert Counter(await world.effects()) == ONCE
        assert Counter(await world.said()) == ONCE
        assert Counter(await world.answers()) == {("accepted", e): 1 for e in ONCE}
        assert await world.dead() == []
        await first.sweep()
        await second.sweep()
        assert await world.outbox() == 0


async def test_without_the_inbox_the_same_deliveries_have_more_effects(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        delivery = await world.delivery(kind=Forgetful)
        batches = deliveries(0)
        for batch in batches:
            await delivery.handle("probe-in", batch)
        assert len(await world.effects()) == sum(map(len, batches)) > 40


async def test_the_same_id_of_two_publishers_is_two_events(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        delivery = await world.delivery()
        other = Raw(
            registry.DECISION_MADE.subject("440103"),
            wire("a", source="urn:cn:gov:gz:440103:oa"),
            None,
            IN,
            2,
            AT,
        )
        await delivery.handle("probe-in", [raw(wire("a"), 1), other])
        assert await world.effects() == ["a", "a"]
        assert await world.dead() == []


@pytest.mark.parametrize("together", [True, False])
async def test_the_same_id_with_another_body_is_dead_and_told(
    nats_server: Nats, postgres: Postgres, database: str, together: bool
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        delivery = await world.delivery()
        first, other = raw(wire("a"), 1), raw(wire("a", "不同意"), 2)
        for batch in [[first, other]] if together else [[first], [other]]:
            await delivery.handle("probe-in", batch)
        assert await world.rows("select event, reason from probe.effect") == [("a", "同意")]
        assert await world.dead() == [(2, "conflict", "dead")]
        assert sorted(await world.answers()) == [("accepted", "a"), ("rejected", "a")]
        refused = (await world.stream(OUT))[-1] if together else (await world.stream(OUT))[1]
        assert refused["data"]["status"] == 409
        assert refused["data"]["rejected"]["seq"] == 2


# --- bad input ---------------------------------------------------------------------------------------

GOOD = wire("x")
BINARY = {
    "ce-specversion": "1.0",
    "ce-id": "binary-1",
    "ce-source": "urn:cn:gov:gz:440106:oa",
    "ce-type": registry.DECISION_MADE.ce_type,
    "ce-time": "2025-03-05T09:30:00%2B08:00",
}
BAD: dict[str, tuple[bytes, dict[str, str] | None, str | None]] = {
    # name: body, headers, the id by which the publisher is told
    "empty": (b"", None, None),
    "open brace": (b"{", None, None),
    "a number": (b"1", None, None),
    "a list": (b"[]", None, None),
    "null": (b"null", None, None),
    "deep objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, None, None),
    "deep arrays": (b"[" * 200_000, None, None),
    "NaN": (json.dumps(document("nan", data={"case": CASE, "version": float("nan")})).encode(), None, "nan"),
    "UTF-16": (json.dumps(document("utf16")).encode("utf-16"), None, "utf16"),
    "GBK": (wire("gbk").decode().encode("gbk"), None, None),
    "byte order mark": (b"\xef\xbb\xbf" + wire("bom"), None, "bom"),
    "lone surrogate in a value": (json.dumps(document("sur", "\ud800")).encode(), None, "sur"),
    "lone surrogate in the id": (json.dumps(document("\ud800")).encode(), None, None),
    "lone surrogate in a key": (json.dumps({**document("key"), "a\ud800": 1}).encode(), None, "key"),
    "NUL in a value": (wire("nul", "a\0b"), None, "nul"),
    "NUL in the id": (wire("\0"), None, None),
    "NUL in a key": (wire("nul-key", data={"a\0b": 1}), None, "nul-key"),
    "a raw NUL byte": (GOOD.replace(b"oa", b"o\0a"), None, None),
    "an id of 900 kB": (wire("x" * 900_000), None, None),
    "a type of 900 kB": (wire("long-type", type="x" * 900_000), None, "long-type"),
    "a key of 900 kB": (wire("long-key", data={"k" * 900_000: 1}), None, "long-key"),
    "a reason of 900 kB": (wire("long", "x" * 900_000), None, "long"),
    "an integer of 5,000 digits": (
        GOOD.replace(b'"outcome"', b'"version":' + b"9" * 5000 + b',"outcome"'),
        None,
        None,
    ),
    "another type than the subject's": (wire("type", type="cn.gov.gz.sme.submission.filed.v1"), None, "type"),
    "another publisher": (wire("liar", source="urn:cn:gov:gz:440103:oa"), None, "liar"),
    "time without a zone": (wire("zone", time="2025-03-05T09:30:00"), None, "zone"),
    "an unknown field": (wire("extra", data={**document("")["data"], "outcom": "x"}), None, "extra"),
    "binary, no JSON": (b"{", BINARY, "binary-1"),
    "binary, not of the contract": (
        b'{"id": "inner", "reason": 1}',
        {**BINARY, "ce-id": "binary-2"},
        "binary-2",
    ),
    "binary, a surrogate": (b'{"reason": "\\ud800"}', {**BINARY, "ce-id": "binary-3"}, "binary-3"),
}


async def test_bad_bytes_are_dead_and_their_neighbours_are_done(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        messages: list[tuple[bytes, dict[str, str] | None]] = []
        for n, (body, headers, _) in enumerate(BAD.values()):
            messages += [(wire(f"before-{n}"), None), (body, headers)]
        raws = await world.through_the_bus(*messages, (wire("last"), None))
        delivery = await world.delivery()
        await delivery.handle("probe-in", raws)
        assert await world.effects() == [*(f"before-{n}" for n in range(len(BAD))), "last"]
        # Only what is bad, all of it, byte for byte.
        bodies = [bytes(b) for (b,) in await world.rows("select body from probe.dead order by seq")]
        assert bodies == [body for body, _, _ in BAD.values()]
        told = [d for event in await world.stream(OUT) if "rejected" in (d := event["data"])]
        by_seq = {d["rejected"]["seq"]: d for d in told}
        assert {name: by_seq[2 * n].get("rejected").get("id") for n, name in enumerate(BAD, 1)} == {
            name: id_ for name, (_, _, id_) in BAD.items()
        }
        assert len(told) == len(BAD)
        await delivery.sweep()
        assert await world.outbox() == 0


async def test_a_fault_in_binary_mode_has_the_pointer_of_the_structured_event(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        body = json.dumps({"case": CASE, "outcome": "recommend", "reason": ""}).encode()
        delivery = await world.delivery()
        await delivery.handle("probe-in", [raw(body, 1, BINARY), raw(wire("s", ""), 2)])
        errors = [event["data"]["errors"] for event in await world.stream(OUT)]
        assert [[(e["code"], e["pointer"]) for e in found] for found in errors] == [
            [("schema.string_too_short", "#/data/reason")]
        ] * 2


async def test_what_is_odd_but_sound_is_done(nats_server: Nats, postgres: Postgres, database: str) -> None:
    """Duplicate keys: the last one counts, for the identity as for the content."""
    odd = [
        (wire("dup-key")[:-1] + b', "id": "dup-key-last"}', None),
        (b" \n" + wire("blank") + b"\n", None),
        (wire("backslash", "C:\\u0000 is no NUL"), None),
        (wire("unknown-attribute", partitionkey="x"), None),
        (json.dumps(document("")["data"]).encode(), {**BINARY, "CE-ID": quote("odd-1"), "Status": "404"}),
        (wire("headers"), {"Nats-Rollup-": "all", "reply_to": "sme.out.v1.440103.event.accepted"}),
    ]
    odd[4][1].pop("ce-id")  # type: ignore[union-attr]
    async with fresh(nats_server, postgres, database) as world:
        raws = await world.through_the_bus(*odd)
        await (await world.delivery()).handle("probe-in", raws)
        assert await world.effects() == [
            "dup-key-last",
            "blank",
            "backslash",
            "unknown-attribute",
            "odd-1",
            "headers",
        ]
        assert await world.dead() == []


async def test_headers_and_subjects_that_no_text_can_hold_are_dead_not_poison(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        delivery = await world.delivery()
        strange = Raw("sme.in.v1.a\0b.decision.made", wire("a"), None, IN, 1, AT)
        headers = raw(b"{", 2, {"X-Nul": "a\0b", "X-Surrogate": "\udcff"})
        await delivery.handle("probe-in", [strange, headers, raw(wire("good"), 3)])
        assert await world.effects() == ["good"]
        assert await world.dead() == [(1, "subject", "dead"), (2, "schema", "dead")]


async def test_a_bad_message_that_comes_again_is_one_dead_row_and_one_answer(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        for _ in range(3):  # as after crashes between the commit and the ack
            await (await world.delivery()).handle("probe-in", [raw(b"{", 7), raw(wire("good"), 8)])
        assert await world.dead() == [(7, "schema", "dead")]
        assert await world.answers() == [
            ("rejected", None),
            ("accepted", "good"),
        ] or await world.answers() == [
            ("accepted", "good"),
            ("rejected", None),
        ]


async def test_a_poisonous_event_isolates_itself(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        delivery = await world.delivery(effect_or_poison)
        batch = [raw(wire(f"e{n}", "poison" if n == 3 else "同意"), n) for n in range(6)] + [raw(b"{", 9)]
        await delivery.handle("probe-in", batch)
        assert await world.effects() == ["e0", "e1", "e2", "e4", "e5"]
        assert await world.said() == ["e0", "e1", "e2", "e4", "e5"]
        assert await world.dead() == [(3, "internal", "dead"), (9, "schema", "dead")]
        (answer,) = [
            e["data"] for e in await world.stream(OUT) if e["data"].get("rejected", {}).get("id") == "e3"
        ]
        assert answer["status"] == 500
        assert "bug" not in json.dumps(answer)


async def test_an_event_whose_facts_no_stream_takes_is_dead_and_blocks_nothing(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async def boast(tx: Tx, items: Sequence[Item]) -> None:
        await effect(tx, items)
        for item in items:
            if item.event.id == "big":
                told = MailSent(mail=item.data.case, letter="x" * 1_100_000, to=item.token)
                tx.say(registry.MAIL_SENT, item.token, told, item.key, "again")

    async with fresh(nats_server, postgres, database) as world:
        delivery = await world.delivery(boast)
        await delivery.handle("probe-in", [raw(wire("big"), 1), raw(wire("small"), 2)])
        assert await world.effects() == ["small"]
        assert await world.dead() == [(1, "internal", "dead")]
        assert await world.said() == ["small"]
        await delivery.sweep()
        assert await world.outbox() == 0


# --- attempts ----------------------------------------------------------------------------------------


async def test_what_follows_a_commit_is_done_once_however_often_it_was_tried(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        counted: list[str] = []
        attempts = 0

        async def meets_another(tx: Tx, items: Sequence[Item]) -> None:
            nonlocal attempts
            attempts += 1
            await effect(tx, items)
            tx.after += [partial(counted.append, item.event.id) for item in items]
            if attempts < 4:
                raise Again

        delivery = await world.delivery(meets_another)
        await delivery.handle("probe-in", [raw(wire("a"), 1), raw(wire("b"), 2)])
        assert attempts == 4
        assert counted == ["a", "b"]
        assert await world.effects() == ["a", "b"]


async def test_what_speaks_of_the_unknown_waits_then_is_dead_and_can_be_replayed(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        known: set[str] = set()

        async def waiting(tx: Tx, items: Sequence[Item]) -> None:
            for item in items:
                if item.event.id in known:
                    await effect(tx, [item])
                else:
                    tx.wait(item, problem("case", "没有这个项目", "请核对", status=404))

        delivery = await world.delivery(waiting)
        known.add("neighbour")
        batch = [raw(wire("early"), 1), raw(wire("neighbour"), 2), raw(wire("never"), 3)]
        assert await delivery.handle("probe-in", batch) == {1: WAITS[0], 3: WAITS[0]}
        assert await world.effects() == ["neighbour"]
        known.add("early")  # meanwhile its case has come
        again = [replace(one, deliveries=2) for one in (batch[0], batch[2])]
        assert await delivery.handle("probe-in", again) == {3: WAITS[1]}
        assert await world.effects() == ["neighbour", "early"]
        last = replace(batch[2], deliveries=len(WAITS) + 1)
        assert await delivery.handle("probe-in", [last]) == {}
        assert await world.dead() == [(3, "waited", "dead")]
        assert ("rejected", "never") in await world.answers()
        known.add("never")
        await world.rows("update probe.dead set state = 'replay' returning n")
        await delivery.replay()
        assert await world.effects() == ["neighbour", "early", "never"]
        assert await world.dead() == [(3, "waited", "replayed")]


async def test_what_meets_another_every_time_is_a_fault(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    """And one event that does is dead, its neighbours are not held for ever."""
    async with fresh(nats_server, postgres, database) as world:

        async def never(tx: Tx, items: Sequence[Item]) -> None:
            await effect(tx, items)
            if any(item.event.id == "b" for item in items):
                raise Again

        delivery = await world.delivery(never)
        delivery.most_again = 3
        await delivery.handle("probe-in", [raw(wire("a"), 1), raw(wire("b"), 2), raw(wire("c"), 3)])
        assert await world.effects() == ["a", "c"]
        assert await world.dead() == [(2, "internal", "dead")]


async def test_intake_takes_an_item_and_its_correction_in_one_batch(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        intake = Intake()
        intake.notices, intake.directory = load_all(None), Directory.load()
        filed = registry.SUBMISSION_FILED
        example = json.loads(golden(filed.ce_type).read_bytes())
        publisher = Publisher(world.client)
        await publisher.start()
        intake.context = Context(Settings(), world.engine, Clock(), None, world.client, world.js)  # type: ignore[arg-type]  # no files are fetched
        delivery = Delivery(
            "intake", world.engine, publisher, Clock(), {"in": ({filed.name: filed}, intake.on_in)}
        )
        token = example["source"].split(":")[4]
        text = "content"
        example["data"]["files"] = []
        bodies = []
        for n in (1, 2):
            values = {**example["data"]["values"], text: example["data"]["values"][text] + f"（第{n}稿）"}
            document = {**example, "id": f"draft-{n}", "data": {**example["data"], "values": values}}
            bodies.append(json.dumps(document, ensure_ascii=False).encode())
        received = datetime(2025, 2, 25, tzinfo=UTC)
        raws = [Raw(filed.subject(token), b, None, IN, n, received) for n, b in enumerate(bodies, 1)]
        await delivery.handle("in", raws)
        assert await world.rows("select revision from intake.submission") == [(2,)]
        accepted = [e["data"] for e in await world.stream(EVT)]
        assert [a["revision"] for a in accepted] == [1, 2]
        assert accepted[1]["values"][text].endswith("（第2稿）")


async def test_notify_remembers_only_what_was_committed(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    """It spares itself facts that are in the database: one that was rolled back is not."""
    async with fresh(nats_server, postgres, database) as world:
        notify = Notify(load_all(None), Directory.load())
        attempts = 0

        async def rolled_back(tx: Tx, items: Sequence[Item]) -> None:
            nonlocal attempts
            attempts += 1
            await notify.on_evt(tx, items)
            if attempts < 3:
                raise Again

        opened = registry.CASE_OPENED
        publisher = Publisher(world.client)
        heard = {"notify-evt": ({opened.name: opened}, rolled_back)}
        delivery = Delivery("notify", world.engine, publisher, Clock(), heard)
        body = golden(opened.ce_type).read_bytes()
        await delivery.handle("notify-evt", [Raw(opened.subject("440106"), body, None, EVT, 1, AT)])
        data = json.loads(body)["data"]
        facts = {fact for (fact,) in await world.rows("select fact from notify.fact")}
        assert facts == {"filed", *data["counts"]}


@pytest.mark.parametrize("again", [True, False])
async def test_what_was_delivered_before_is_not_handled_only_to_be_rolled_back(
    nats_server: Nats, postgres: Postgres, database: str, again: bool
) -> None:
    """A workbook would be read for nothing. What a publisher sends twice has no such mark: it is tried."""
    async with fresh(nats_server, postgres, database) as world:
        handled: list[str] = []

        async def noting(tx: Tx, items: Sequence[Item]) -> None:
            handled.extend(item.event.id for item in items)
            await effect(tx, items)

        delivery = await world.delivery(noting)
        await delivery.handle("probe-in", [raw(wire("a"), 1)])
        await delivery.handle(
            "probe-in", [replace(raw(wire("a"), 1), deliveries=2 if again else 1), raw(wire("b"), 2)]
        )
        assert handled == (["a", "b"] if again else ["a", "a", "b", "b"])
        assert await world.effects() == ["a", "b"]


# --- outages -----------------------------------------------------------------------------------------


async def test_a_killed_database_holds_the_batch_and_loses_nothing(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        attempts = 0
        restarting: list[asyncio.Future[Any]] = []

        async def dies_once(tx: Tx, items: Sequence[Item]) -> None:
            nonlocal attempts
            attempts += 1
            await effect(tx, items)
            if attempts == 1:
                await asyncio.to_thread(postgres.kill)
                restarting.append(asyncio.ensure_future(asyncio.to_thread(postgres.start)))

        delivery = await world.delivery(dies_once)
        batch = [raw(wire(f"e{n}"), n) for n in range(5)] + [raw(b"{", 5)]
        await delivery.handle("probe-in", batch)
        await restarting[0]
        assert attempts >= 2
        assert await world.effects() == [f"e{n}" for n in range(5)]
        assert await world.dead() == [(5, "schema", "dead")]
        assert await world.said() == [f"e{n}" for n in range(5)]


async def test_a_database_that_takes_no_connection_is_waited_for(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        postgres.sql(
            "grant usage on schema probe to yiqi_intake;"
            "grant all on all tables in schema probe to yiqi_intake;"
            "alter role yiqi_intake password 'test';"
            f'alter database "{database}" connection limit 0',
            database,
        )
        engine = connect(postgres.dsn(database, "yiqi_intake", "test"), "probe")
        publisher = Publisher(world.client)
        await publisher.start()
        delivery = Delivery("probe", engine, publisher, Clock(), world.handlers(effect))
        before = held()

        async def tried_twice() -> bool:
            return held() >= before + 2

        handling = asyncio.create_task(delivery.handle("probe-in", [raw(wire("a"), 1), raw(wire("b"), 2)]))
        await eventually(tried_twice, 10, "two attempts")
        postgres.sql(f'alter database "{database}" connection limit 20', database)
        await handling
        await engine.dispose()
        assert await world.effects() == ["a", "b"]
        assert await world.dead() == []


async def test_a_bus_that_is_away_leaves_the_facts_to_the_sweeper_of_another_process(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        await (await world.cut_off()).handle("probe-in", [raw(wire(f"e{n}"), n) for n in range(5)])
        assert await world.effects() == [f"e{n}" for n in range(5)]
        assert await world.said() == []
        assert await world.outbox() == 10
        other = await world.delivery()
        await other.sweep()
        assert await world.said() == []  # young rows are being published by their own process
        await world.backdate()
        await other.sweep()
        assert await world.said() == [f"e{n}" for n in range(5)]
        assert await world.outbox() == 0


async def test_a_crash_after_publishing_publishes_again_and_the_stream_keeps_one(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        crashed = await world.delivery()
        await crashed.handle("probe-in", [raw(wire("a"), 1)])
        assert await world.outbox() == 2  # it ends here, before it forgets what is published
        await world.backdate()
        other = await world.delivery()
        await other.sweep()
        assert await world.outbox() == 0
        assert await world.said() == ["a"]


async def test_without_an_id_the_stream_keeps_both(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    """The negative control of the one above: it is the id that the stream recognises."""
    async with fresh(nats_server, postgres, database) as world:
        subject = registry.MAIL_SENT.subject("440106")
        for _ in range(2):
            await world.js.publish(subject, b'{"data": {"letter": "a"}}', stream=EVT)
        assert await world.said() == ["a", "a"]


async def test_a_rolled_back_transaction_still_knows_what_was_published(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    attempts = 0

    async def deadlocked_once(tx: Tx, items: Sequence[Item]) -> None:
        nonlocal attempts
        attempts += 1
        await effect(tx, items)
        if attempts == 2:
            raise Again

    async with fresh(nats_server, postgres, database) as world:
        delivery = await world.delivery(deadlocked_once)
        await delivery.handle("probe-in", [raw(wire("a"), 1)])
        await delivery.handle("probe-in", [raw(wire("b"), 2)])
        await delivery.sweep()
        assert attempts == 3
        assert await world.outbox() == 0


async def test_two_sweepers_at_once_publish_every_row_once(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        cut_off = await world.cut_off()
        for start in range(0, 300, 100):
            await cut_off.handle("probe-in", [raw(wire(f"e{n}"), n) for n in range(start, start + 100)])
        await world.backdate()
        await asyncio.gather(*[(await world.delivery()).sweep() for _ in range(3)])
        assert Counter(await world.said()) == {f"e{n}": 1 for n in range(300)}
        assert await world.outbox() == 0


async def test_facts_keep_the_order_in_which_they_were_said(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        delivery = await world.delivery()
        for start in range(0, 60, 20):
            await delivery.handle("probe-in", [raw(wire(f"e{n}"), n) for n in range(start, start + 20)])
        assert await world.said() == [f"e{n}" for n in range(60)]


async def test_a_message_refused_by_its_stream_stays_in_the_outbox(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        publisher = Publisher(world.client)
        await publisher.start()
        good, lost = (
            Message(uuid5(YIQI, s), EVT, s, b'{"data": {"letter": "x"}}')
            for s in (registry.MAIL_SENT.subject("440106"), "nobody.listens")
        )
        assert await publisher.publish([lost, good], patience=5) == [good.id]


async def test_a_timer_uses_the_same_door(nats_server: Nats, postgres: Postgres, database: str) -> None:
    async with fresh(nats_server, postgres, database) as world:
        delivery = await world.delivery()
        told = MailSent(mail=UUID(CASE), letter="timer", to="440106")
        for _ in range(2):  # the timer fires again after a crash
            async with delivery.transaction() as tx:
                tx.say(registry.MAIL_SENT, "440106", told, "occasion")

        async def fails() -> None:
            async with delivery.transaction() as tx:
                tx.say(registry.MAIL_SENT, "440106", told, "another")
                raise LookupError

        with pytest.raises(LookupError):
            await fails()
        assert await world.said() == ["timer"]


# --- dead rows ---------------------------------------------------------------------------------------


async def test_a_replayed_row_has_its_effect_once(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        await (await world.delivery(effect_or_poison)).handle("probe-in", [raw(wire("a", "poison"), 1)])
        assert await world.dead() == [(1, "internal", "dead")]
        repaired = await world.delivery()
        await repaired.replay()
        assert await world.effects() == []  # nobody asked for it
        for _ in range(2):
            await world.rows("update probe.dead set state = 'replay' returning n")
            await repaired.replay()
        assert await world.effects() == ["a"]
        assert await world.dead() == [(1, "internal", "replayed")]


async def test_a_replayed_row_that_fails_again_is_dead_again(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    async with fresh(nats_server, postgres, database) as world:
        delivery = await world.delivery(effect_or_poison)
        await delivery.handle("probe-in", [raw(wire("a", "poison"), 1)])
        await world.rows("update probe.dead set state = 'replay' returning n")
        await delivery.replay()
        assert await world.dead() == [(1, "internal", "replayed"), (1, "internal", "dead")]
        assert await world.effects() == []


async def test_a_replay_that_is_killed_half_way_is_not_forgotten(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    reached = asyncio.Event()

    async def endless(tx: Tx, items: Sequence[Item]) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with fresh(nats_server, postgres, database) as world:
        await (await world.delivery(effect_or_poison)).handle("probe-in", [raw(wire("a", "poison"), 1)])
        await world.rows("update probe.dead set state = 'replay' returning n")
        killed = asyncio.ensure_future((await world.delivery(endless)).replay())
        await reached.wait()
        killed.cancel()
        await asyncio.gather(killed, return_exceptions=True)
        await (await world.delivery()).replay()
        assert await world.effects() == ["a"]


async def test_received_is_when_the_bus_stored_it(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    """A late flag must not depend on when our services were up again."""
    seen: list[datetime] = []

    async def look(tx: Tx, items: Sequence[Item]) -> None:
        seen.extend(item.received for item in items)

    async with fresh(nats_server, postgres, database) as world:
        await (await world.delivery(look)).handle("probe-in", [raw(wire("a"), 1)])
        (stored,) = await world.through_the_bus((wire("b"), None))
        await (await world.delivery(look)).handle("probe-in", [stored])
        assert seen == [AT, stored.at]
        assert abs(seen[1] - datetime.now(UTC)) < timedelta(minutes=1)


async def test_eventually_everything_leaves_the_outbox_while_the_bus_restarts(
    postgres: Postgres, database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Nats(tmp_path_factory.mktemp("bus"), sync_always=False) as own:
        async with fresh(own, postgres, database) as world:
            delivery = await world.delivery()
            await delivery.handle("probe-in", [raw(wire("before"), 1)])
            await asyncio.to_thread(own.kill)
            held = asyncio.ensure_future(delivery.handle("probe-in", [raw(wire("during"), 2)]))
            await asyncio.to_thread(own.start)
            await held
            await delivery.handle("probe-in", [raw(wire("after"), 3)])

            async def emptied() -> bool:
                await world.backdate()
                await delivery.sweep()
                return await world.outbox() == 0

            await eventually(emptied, 30, "an empty outbox")
            assert sorted(await world.said()) == ["after", "before", "during"]
            assert await world.effects() == ["before", "during", "after"]
