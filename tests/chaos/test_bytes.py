"""Bad bytes, hostile headers and whatever a schema allows or does not, on every subject of all four services (guide
T21, T22), each between two good events.

What one judgement says is in `tests/live/test_delivery.py` and `tests/unit/test_schemas.py`, what a client does with
one header in `tests/live/test_shim.py`.
"""

import asyncio
import gzip
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import nats
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats.aio.client import Client

from services.cli.local import Local
from shared.contracts import registry
from shared.contracts.envelope import OUR_SOURCE
from shared.contracts.registry import EVENTS, EventType
from shared.runtime import SERVICES
from shared.runtime.decode import Item, Raw, _uuid, decode
from shared.runtime.embedded import eventually
from shared.runtime.streams import EVT, IN, OUT, STREAM_OF
from tests.chaos.oracle import Verdict
from tests.goldens import golden
from tests.schemas import changed, good

Oracle = Callable[[Verdict], Verdict]

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
SABOTAGE = ROOT / "tests" / "live" / "sabotage"
DURING = datetime(2025, 3, 3, 2, 0, tzinfo=UTC)
HEARD = [e for e in EVENTS if e.hears and e.cls != "out"]
PUBLISHER, VICTIM = "440106", "nobody-else"
PATIENCE = 100.0


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    sabotage = {"PYTHONPATH": str(SABOTAGE), "SABOTAGE": "impatient"}
    here = Local(tmp_path_factory.mktemp("bytes"), sync_always=False, extra=sabotage, accounts=False)
    here.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    try:
        yield here.start(timeout=100)
    finally:
        here.stop()


# --- events ---------------------------------------------------------------------------------------------


def document(type_: EventType, id_: str, **more: Any) -> dict[str, Any]:
    """The example of the contract, as somebody's own."""
    found: dict[str, Any] = json.loads(golden(type_.ce_type).read_text())
    source = f"urn:cn:gov:gz:{PUBLISHER}:oa" if type_.cls == "in" else OUR_SOURCE
    return {**found, "source": source, "id": id_, **more}


def wire(made: Any) -> bytes:
    return json.dumps(made, ensure_ascii=False).encode("utf-8", "surrogatepass")


def without(made: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in made.items() if k != key}


def bad(type_: EventType, id_: str, large: bool) -> dict[str, bytes]:
    """Documents of which nothing may come but a dead row."""
    d = document(type_, id_)
    sound = wire(d)
    found = {
        "empty": b"",
        "blank": b" \n",
        "open brace": b"{",
        "a number": b"1",
        "null": b"null",
        "a text": b'"x"',
        "an array": b"[]",
        "an array of events": wire([d, d]),
        "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        "deep arrays": b"[" * 100_000,
        "deep within": sound[:-1] + b',"x":' + b"[" * 50_000 + b"}",
        "NaN": wire({**d, "time": float("nan")}),
        "infinite": sound.replace(b'"data": {', b'"data": {"": -Infinity, ', 1).replace(b'"time"', b'"time_"'),
        "two documents": sound + sound,
        "something behind": sound + b"x",
        "a comment": b"/* */" + sound,
        "single quotes": sound.replace(b'"', b"'"),
        "cut off": sound[:-10],
        "cut within a character": wire({**d, "time": "长"})[:-4],
        "UTF-16": json.dumps(d).encode("utf-16"),
        "UTF-32": json.dumps(d).encode("utf-32"),
        "GBK": wire({**d, "subject": "长沙"}).decode().encode("gbk"),
        "Latin-1": json.dumps({**d, "subject": "é"}, ensure_ascii=False).encode("latin-1", "replace"),
        "byte order mark": b"\xef\xbb\xbf" + sound,
        "gzip": gzip.compress(sound),
        "noise": bytes(range(256)) * 4,
        "a surrogate in the id": json.dumps({**d, "id": "\ud800"}).encode(),
        "a surrogate as bytes": wire({**d, "subject": "\ud800"}),
        "NUL in a text": json.dumps({**d, "subject": "a\0b"}).encode(),
        "a raw NUL": sound.replace(b'"1.0"', b'"1.0\0"', 1),
        "an integer of 5,000 digits": sound.replace(b'"specversion": "1.0"', b'"specversion": ' + b"9" * 5000, 1),
        "an id of nothing": wire({**d, "id": ""}),
        "an id with a blank": wire({**d, "id": f"{id_} x"}),
        "an id with an end of line": wire({**d, "id": f"{id_}\n"}),
        "an id that is a number": wire({**d, "id": 7}),
        "no id": wire(without(d, "id")),
        "no data": wire(without(d, "data")),
        "data that is null": wire({**d, "data": None}),
        "data that is a list": wire({**d, "data": [d["data"]]}),
        "data that is empty": wire({**d, "data": {}}),
        "another version": wire({**d, "specversion": "0.3"}),
        "another type": wire({**d, "type": "cn.gov.gz.sme.mail.sent.v1"}),
        "another source": wire({**d, "source": f"urn:cn:gov:gz:{VICTIM}:oa"}),
        "no source": wire({**d, "source": "http://evil.cn"}),
        "time without a zone": wire({**d, "time": "2025-03-05T09:30:00"}),
        "time that is a number": wire({**d, "time": 0}),
        "the last of two ids": sound[:-1] + b',"id":""}',
    }  # fmt: skip
    if large:
        found |= {
            "an id of 900 kB": wire({**d, "id": "x" * 900_000}),
            "a type of 900 kB": wire({**d, "type": "x" * 900_000}),
            "a text of 1 MB": wire({**d, "subject": "x" * 1_000_000}),
            "a key of 900 kB": wire({**without(d, "data"), "k" * 900_000: 1}),
        }
    return found


def lines(*texts: str) -> bytes:
    return (
        b"NATS/1.0\r\n"
        + "".join(f"{text}\r\n" for text in texts).encode("utf-8", "surrogateescape")
        + b"\r\n"
    )


def headers(type_: EventType, id_: str) -> dict[str, tuple[bytes, str]]:
    """Header blocks over a good event: what becomes of it. `refused` is by the bus, at once."""
    elsewhere = f"sme.in.v1.{VICTIM}.submission.filed"
    made = document(type_, id_)
    binary = [f"ce-{k}: {v}" for k, v in made.items() if isinstance(v, str) and v.isascii()]
    return {
        "the first line only": (b"NATS/1.0", "ok"),
        "no header": (b"NATS/1.0\r\n\r\n", "ok"),
        "an inline status": (b"NATS/1.0 503\r\n\r\n", "ok"),
        **{f"Status: {s}": (lines(f"Status: {s}"), "ok") for s in (100, 404, 408, 409, 500, 503)},
        "a status of words": (lines("Status: %d%s", "Description: x"), "ok"),
        "no colon": (lines("nonsense"), "ok"),
        "no name": (lines(": x"), "ok"),
        "a NUL": (lines("A: a\0b"), "ok"),
        "not UTF-8": (b"NATS/1.0\r\nA\xff: \xff\xfe\r\n\r\n", "ok"),
        "two identities": (lines(f"Nats-Msg-Id: {id_}-a", f"Nats-Msg-Id: {id_}-b"), "ok"),
        "ends of lines": (lines("A: b\n\nC: d\r\rE"), "ok"),
        "2,000 headers": (lines(*(f"H{n}: x" for n in range(2000))), "ok"),
        "60 kB": (lines("A: " + "x" * 60_000), "ok"),
        "300 kB": (lines("A: " + "x" * 300_000), "refused"),
        "reply_to": (lines(f"reply_to: {elsewhere}", f"Reply-To: {elsewhere}"), "ok"),
        "Nats-Rollup: all": (lines("Nats-Rollup: all"), "refused"),
        "Nats-Rollup: sub": (lines("Nats-Rollup: sub"), "refused"),
        "Nats-TTL": (lines("Nats-TTL: 1s"), "refused"),
        "Nats-Schedule": (lines("Nats-Schedule: @every 1s", f"Nats-Schedule-Target: {elsewhere}"), "refused"),
        "Nats-Expected-Stream": (lines("Nats-Expected-Stream: SME_OUT"), "refused"),
        "Nats-Expected-Last-Sequence": (lines("Nats-Expected-Last-Sequence: 0"), "refused"),
        "Nats-Marker-Reason": (lines("Nats-Marker-Reason: Purge"), "ok"),
        "binary, of nothing": (lines("ce-specversion: 1.0"), "dead"),
        "binary, bad escapes": (lines(*binary, "ce-id: %zz%ff%00"), "dead"),
        "binary, of another": (lines(*binary, f"ce-source: urn:cn:gov:gz:{VICTIM}:oa"), "dead"),
        "binary, another type": (lines(*binary, "ce-type: x"), "dead"),
        "binary, not UTF-8": (lines(*binary).replace(b"ce-id: ", b"ce-id: \xff"), "dead"),
        "binary, without data": (lines(*binary, "ce-data: {}"), "dead"),
    }  # fmt: skip


# --- the bus ---------------------------------------------------------------------------------------------


class Wire:
    """A connection that sends any bytes as header, and reads what the bus says of each."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.answers = self.socket.makefile("rb")
        self.answers.readline()
        self.socket.sendall(
            b'CONNECT {"headers":true,"verbose":false,"no_responders":true}\r\nSUB _W.x 1\r\n'
        )

    def stored(self, subject: str, header: bytes, body: bytes) -> int | None:
        """Its place in the stream, or None when the stream does not take it."""
        size = b"%d %d" % (len(header), len(header) + len(body))
        self.socket.sendall(
            b"HPUB " + subject.encode() + b" _W.x " + size + b"\r\n" + header + body + b"\r\n"
        )
        while not (line := self.answers.readline()).startswith(b"MSG"):
            assert line.startswith((b"PING", b"INFO")), line
            if line.startswith(b"PING"):
                self.socket.sendall(b"PONG\r\n")
        answer = json.loads(self.answers.read(int(line.split()[-1]) + 2))
        return None if "error" in answer else int(answer["seq"])

    def close(self) -> None:
        self.answers.close()
        self.socket.close()


@dataclass
class World:
    """What was published, the fate that each must have, and what became of it."""

    client: Client
    db: asyncpg.Connection
    wire: Wire
    sent: Counter[str] = field(default_factory=Counter)
    """By stream."""
    keys: dict[str, dict[UUID, str]] = field(default_factory=lambda: {s: {} for s in SERVICES})
    """Of every event that must be handled, by each service that hears it."""
    dead: dict[str, dict[tuple[str, int], str]] = field(default_factory=lambda: {s: {} for s in SERVICES})
    """The places of what must be dead."""
    refused: int = 0

    async def good(self, type_: EventType, id_: str, body: bytes | None = None) -> None:
        await self.publish(type_, body or wire(document(type_, id_)), id_)

    async def publish(self, type_: EventType, body: bytes, id_: str | None, what: str = "") -> None:
        stream = STREAM_OF[type_.cls]
        ack = await self.client.jetstream(timeout=10).publish(type_.subject(PUBLISHER), body, stream=stream)
        self.sent[stream] += 1
        self.expect(type_, id_, ack.seq, what)

    def expect(self, type_: EventType, id_: str | None, seq: int, what: str) -> None:
        source = f"urn:cn:gov:gz:{PUBLISHER}:oa" if type_.cls == "in" else OUR_SOURCE
        for service in type_.hears:
            if id_ is None:
                self.dead[service][STREAM_OF[type_.cls], seq] = f"{type_.name}: {what}"
            else:
                self.keys[service][_uuid(source.encode(), id_.encode())] = f"{type_.name}: {id_}"

    async def hpub(self, type_: EventType, header: bytes, id_: str, fate: str, what: str) -> None:
        stream = STREAM_OF[type_.cls]
        body = wire(document(type_, id_))
        seq = await asyncio.to_thread(self.wire.stored, type_.subject(PUBLISHER), header, body)
        assert (seq is None) == (fate == "refused"), what
        if seq is None:
            self.refused += 1
        else:
            self.sent[stream] += 1
            self.expect(type_, id_ if fate == "ok" else None, seq, what)

    async def handled(self, service: str) -> set[UUID]:
        """In the inbox; or dead after it had waited, as is right for what speaks of nothing known."""
        rows = await self.db.fetch(f"select key from {service}.inbox")
        return {r["key"] for r in rows}

    async def settle(self) -> tuple[int, int, dict[str, Any]]:
        """Wait until everything has its fate: how many events are done and dead, and what is other than expected."""

        async def all_there() -> bool:
            for service in SERVICES:
                buried = await self.db.fetchval(f"select count(*) from {service}.dead where code <> 'waited'")
                waited = await self.db.fetchval(f"select count(*) from {service}.dead where code = 'waited'")
                known = await self.handled(service)
                mine = len(self.keys[service].keys() & known) + waited
                if buried < len(self.dead[service]) or mine < len(self.keys[service]):
                    return False
            return True

        odd: dict[str, Any] = {}
        try:
            await eventually(all_there, PATIENCE, "every fate")
        except TimeoutError:
            odd["late"] = True
        done: set[tuple[UUID, str]] = set()
        dead: set[tuple[str, int, str]] = set()
        for service in SERVICES:
            rows = await self.db.fetch(f"select stream, seq, code, why from {service}.dead")
            known = await self.handled(service)
            waited = [r for r in rows if r["code"] == "waited"]
            missing = [name for key, name in self.keys[service].items() if key not in known]
            if len(missing) != len(waited):
                odd[f"{service}: not done"] = missing[:20]
            codes = Counter(r["code"] for r in rows)
            if codes.keys() - {"schema", "type", "identity", "waited"}:
                odd[f"{service}: codes"] = (
                    codes,
                    [
                        (self.dead[service].get((r["stream"], r["seq"])), r["why"])
                        for r in rows
                        if r["code"] == "internal"
                    ][:5],
                )
            buried = {(r["stream"], r["seq"]) for r in rows} - {(r["stream"], r["seq"]) for r in waited}
            if len(buried) != len(self.dead[service]):
                wrong = [self.dead[service][k] for k in self.dead[service].keys() - buried]
                odd[f"{service}: dead"] = (
                    len(buried),
                    len(self.dead[service]),
                    wrong[:20],
                    sorted(buried - self.dead[service].keys())[:20],
                )
            late = () if len(missing) == len(waited) else missing  # what waited in vain has been told so
            done |= self.keys[service].items() - {(k, n) for k, n in self.keys[service].items() if n in late}
            dead |= {(*place, service) for place in buried}
        return len(done), len({place[:2] for place in dead}), odd


@asynccontextmanager
async def world(local: Local) -> AsyncIterator[World]:
    client = await nats.connect(local.nats.url)
    db = await asyncpg.connect(local.postgres.dsn("yiqi"))
    raw = await asyncio.to_thread(Wire, local.nats.port)
    for service in SERVICES:
        await db.execute(f"delete from {service}.dead")
    try:
        yield World(client, db, raw)
    finally:
        raw.close()
        await db.close()
        await client.close()


async def intact(w: World, local: Local, pids: dict[str, int], before: dict[str, int]) -> None:
    """The same processes, no error in any log, and in the streams what was published and nothing else."""
    assert {name: p.pid for name, p in local.running.items() if p.poll() is None} == pids
    js = w.client.jetstream(timeout=10)
    for stream in (IN, EVT, OUT):
        state = (await js.stream_info(stream, subjects_filter=">")).state
        assert (state.first_seq in (0, 1), state.num_deleted or 0) == (True, 0)
        assert not [s for s in state.subjects or {} if VICTIM in s]
        if stream == IN:
            assert state.messages == before[IN] + w.sent[IN]
    for name in local.names:
        log = [
            json.loads(x) for x in (local.directory / f"{name}.log").read_text().splitlines() if x[:1] == "{"
        ]
        assert [x for x in log if x["level"] in ("ERROR", "CRITICAL")] == []


async def at_start(w: World, local: Local) -> tuple[dict[str, int], dict[str, int]]:
    js = w.client.jetstream(timeout=10)
    before = {s: (await js.stream_info(s)).state.messages for s in (IN, EVT, OUT)}
    return {name: p.pid for name, p in local.running.items()}, before


# --- T21 ---------------------------------------------------------------------------------------------------


async def test_bad_bytes_on_every_subject_are_dead_and_their_neighbours_done(
    local: Local, oracle: Oracle, full: bool
) -> None:
    async with world(local) as w:
        pids, before = await at_start(w, local)
        sent = 0
        for n, type_ in enumerate(HEARD):
            for i, (what, body) in enumerate(bad(type_, f"bad-{n}", full or n % 6 == 0).items()):
                await w.good(type_, f"between-{n}-{i}")
                await w.publish(type_, body, None, what)
                sent += 2
            await w.good(type_, f"last-{n}")
            sent += 1
        done, dead, odd = await w.settle()
        oracle(
            Verdict(
                f"T21 bad bytes on {len(HEARD)} subjects",
                sent=sent,
                ok=done,
                dead=dead,
                lost=sent - done - dead,
            )
        )
        assert odd == {}
        await intact(w, local, pids, before)


# --- T22 ---------------------------------------------------------------------------------------------------


async def test_hostile_headers_on_every_subject_hold_up_nobody(local: Local, oracle: Oracle) -> None:
    async with world(local) as w:
        pids, before = await at_start(w, local)
        sent = 0
        for n, type_ in enumerate(HEARD):
            for i, (what, (header, fate)) in enumerate(headers(type_, f"h-{n}").items()):
                id_ = f"h-{n}-{i}"
                header = headers(type_, id_)[what][0]
                await w.good(type_, f"before-{id_}")
                await w.hpub(type_, header, id_, fate, what)
                sent += 2
            await w.good(type_, f"after-{n}")
            sent += 1
        done, dead, odd = await w.settle()
        lost = sent - done - dead - w.refused
        oracle(
            Verdict(
                f"T22 hostile headers on {len(HEARD)} subjects",
                sent=sent,
                ok=done,
                dead=dead,
                refused=w.refused,
                lost=lost,
            )
        )
        assert odd == {}
        await intact(w, local, pids, before)


async def test_control_without_the_shim_one_header_ends_it_all(tmp_path: Path, oracle: Oracle) -> None:
    sabotage = {"PYTHONPATH": str(SABOTAGE), "SABOTAGE": "bare"}
    here = Local(
        tmp_path, sync_always=False, mail=False, extra=sabotage, services=("export",), accounts=False
    )
    type_ = registry.CATALOGUE_REQUESTED
    await asyncio.to_thread(here.start, 100)
    try:
        async with world(here) as w:
            await w.good(type_, "before")

            async def first() -> bool:
                return len(await w.handled("export")) == 1

            await eventually(first, 120, "the one before")
            await w.hpub(type_, b"NATS/1.0", "hostile", "ok", "")
            await w.good(type_, "after")

            async def more() -> bool:
                return len(await w.handled("export")) > 1

            with pytest.raises(TimeoutError):
                await eventually(more, 5, "the others")
            assert here.running["export"].poll() is None
            assert here.page("export", "livez") == "ok\n"  # and nobody sees it
            oracle(Verdict("T22 control, without the shim", sent=3, ok=1, lost=2))
    finally:
        await asyncio.to_thread(here.stop)


# --- what the schemas allow, and what they do not ---------------------------------------------------------


def documents(type_: EventType, n: int) -> list[dict[str, Any]]:
    """Half of them what the schema allows, half with something changed."""
    schema = type_.envelope.model_json_schema()
    same = {"source": f"urn:cn:gov:gz:{PUBLISHER}:oa", "type": type_.ce_type, "specversion": "1.0"}
    made = good(schema).map(lambda d: {**d, **same})
    found: list[dict[str, Any]] = []

    @settings(
        max_examples=n,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(made, changed(made, keep=frozenset({*same, "id"}))))
    def collect(one: dict[str, Any]) -> None:
        found.append(one)

    collect()
    return found[:n]


async def test_whatever_a_schema_allows_or_does_not_has_one_fate(
    local: Local, oracle: Oracle, full: bool
) -> None:
    inbound = [e for e in HEARD if e.cls == "in"]
    each = (3_000 if full else 300) // len(inbound) + 1
    async with world(local) as w:
        pids, before = await at_start(w, local)
        sent = 0
        for type_ in inbound:
            for n, one in enumerate(documents(type_, each)):
                id_ = f"{type_.name}-{n}"
                body = json.dumps({**one, "id": id_}).encode()
                raw = Raw(type_.subject(PUBLISHER), body, None, IN, 1, DURING)
                is_one = isinstance(decode(raw, {type_.name: type_}), Item)
                await w.publish(type_, body, id_ if is_one else None, json.dumps(one)[:300])
                sent += 1
        done, dead, odd = await w.settle()
        oracle(
            Verdict("T21 documents from the schemas", sent=sent, ok=done, dead=dead, lost=sent - done - dead)
        )
        assert odd == {}
        await intact(w, local, pids, before)
