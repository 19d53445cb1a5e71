"""A backup that is taken while everybody writes, restored into an empty place, and run there.

The snapshots of a cluster's streams are here too; the words of the command line are not.
"""

import asyncio
import itertools
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from services.cli import archive, backup, common, dump
from services.cli.local import Local
from shared.contracts.registry import DECISION_MADE
from shared.runtime import SERVICES
from shared.runtime.decode import Item, Raw, decode
from shared.runtime.embedded import Nats, eventually, free_port, wait_until
from shared.runtime.streams import CONSUMERS, EVT, IN, OUT
from tests.bench.work import Filed, filings
from tests.chaos.oracle import Verdict
from tests.chaos.places import SLOW, as_operator, bus, contents, drain, empty, ended, place, rows, sent, yiqi

Tell = Callable[[Verdict], Verdict]

CITY = "440100"
pytestmark = pytest.mark.timeout(600)

RATE = 80
"""Filings a second: the mails of them are slower, and have to be waited for."""


# --- who files -----------------------------------------------------------------------------------------


@dataclass
class Load:
    """Publishers that file and decide, some at a time, until they are told to stop."""

    client: Client
    work: Iterator[Filed]
    answers: dict[str, asyncio.Event] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    """The place in the stream of every event that got its PubAck."""
    cases: dict[str, str] = field(default_factory=dict)
    """What each filing becomes, by its id."""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def heard(self, message: Msg) -> None:
        data = json.loads(message.data)["data"]
        if (
            answered := self.answers.get(data.get("accepted") or data.get("rejected", {}).get("id"))
        ) is not None:
            answered.set()

    async def run(self) -> None:
        await self.client.subscribe("sme.out.v1.*.event.*", cb=self.heard)
        start = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for n in itertools.count():
                if self.over.is_set():
                    return
                await asyncio.sleep(max(0.0, start + n / RATE - asyncio.get_running_loop().time()))
                group.create_task(self._file(next(self.work), decide=n % 4 == 0))

    async def _file(self, filed: Filed, *, decide: bool) -> None:
        self.cases[str(filed.id)] = str(filed.case)
        await self._publish(str(filed.id), filed.subject, filed.body)
        if decide:
            await self._publish(*decision(filed))

    async def _publish(self, id_: str, subject: str, body: bytes) -> None:
        answered = self.answers[id_] = asyncio.Event()
        ack = await self.client.jetstream(timeout=30).publish(
            subject, body, headers={"Nats-Msg-Id": id_}, stream=IN
        )
        self.acknowledged[id_] = ack.seq
        await answered.wait()


def decision(filed: Filed) -> tuple[str, str, bytes]:
    id_ = f"{filed.id}:reject"
    document = {
        "specversion": "1.0",
        "id": id_,
        "source": f"urn:cn:gov:gz:{CITY}:oa",
        "type": DECISION_MADE.ce_type,
        "time": "2025-02-25T09:30:00+08:00",
        "data": {"case": str(filed.case), "outcome": "reject", "reason": "不符合要求"},
    }
    return id_, DECISION_MADE.subject(CITY), json.dumps(document, ensure_ascii=False).encode()


# --- the fates -----------------------------------------------------------------------------------------


async def judge(name: str, load: Load, there: Local, left: Counter[str]) -> Verdict:
    """What became of all that is in the streams of the restored place; `left` had gone out before the backup."""
    verdict = Verdict(name)
    async with bus(there) as (_, js):
        incoming = [m.event["id"] for m in (await contents(js, IN)).values()]
        outgoing = [m.event for m in (await contents(js, OUT)).values()]
        between = [m.event for m in (await contents(js, EVT)).values()]
    accepted = {e["data"].get("accepted") for e in outgoing}
    rejected = {e["data"]["rejected"]["id"] for e in outgoing if "rejected" in e["data"]}
    cases = rows(there, '(select "case" from review."case")')
    verdict.sent = len(incoming)
    for id_ in incoming:
        if id_ in rejected:
            verdict.refused += 1
        elif id_ in accepted and (id_ not in load.cases or f"({load.cases[id_]})" in cases):
            verdict.ok += 1
        else:
            verdict.lost += 1
    for said in (outgoing, between):
        verdict.duplicate_effects += sum(n - 1 for n in Counter(e["id"] for e in said).values())
    again = sent(there)
    verdict.mails_twice = sum((again & left).values()) + sum(n - 1 for n in again.values())
    verdict.mails_unknown = len(rows(there, "notify.mail", "state = 'unknown'"))
    return verdict


async def swallowed(there: Local) -> set[tuple[str, int]]:
    """What the bus holds to be done with, and the service knows nothing of: nobody would ever give it again."""
    found: set[tuple[str, int]] = set()
    async with bus(there) as (_, js):
        stored = {stream: await contents(js, stream) for stream in (IN, EVT)}
        for consumer in (c for c in CONSUMERS if c.stream in stored):  # answers are in no inbox
            info = await js.consumer_info(consumer.stream, consumer.durable)
            heard = {e.name: e for e in consumer.events}
            known = rows(there, f"(select key from {consumer.service}.inbox)")
            for seq, m in stored[consumer.stream].items():
                item = decode(Raw(m.subject, m.body, dict(m.headers), consumer.stream, seq, m.at), heard)
                if (
                    isinstance(item, Item)
                    and seq <= info.ack_floor.stream_seq
                    and f"({item.key})" not in known
                ):
                    found.add((consumer.stream, seq))
    return found


async def said_again(there: Local) -> set[str]:
    """What is in a stream and would be published once more."""
    async with bus(there) as (_, js):
        stored = {
            dict(m.headers).get("Nats-Msg-Id") for n in (EVT, OUT) for m in (await contents(js, n)).values()
        }
    owed = set().union(*(rows(there, f"(select id from {s}.outbox)") for s in SERVICES))
    return {id_ for id_ in owed if id_.strip("()") in stored}


async def hasten(there: Local) -> None:
    """What the services had in hand at the backup comes again after `ACK_WAIT`; a test does not wait for that."""
    async with bus(there) as (_, js):
        for consumer in CONSUMERS:
            waiting = (await js.consumer_info(consumer.stream, consumer.durable)).num_ack_pending or 0
            if not waiting:
                continue
            config = consumer.config()
            config.ack_wait = 1
            await js.add_consumer(consumer.stream, config)
            reader = await js.pull_subscribe_bind(consumer.durable, consumer.stream)
            again: list[Msg] = []
            while sum(m.metadata.num_delivered > 1 for m in again) < waiting:
                again += await reader.fetch(waiting, timeout=30)
            await js.add_consumer(consumer.stream, consumer.config())
            for message in again:
                await message.nak()
            await reader.unsubscribe()


# --- tests ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backup")


@dataclass
class Taken:
    """The first place after its load, with the backups that were taken during it."""

    here: Local
    load: Load
    before: dict[str, int]
    """Acknowledged before the backup began."""
    left: Counter[str]
    """Had left before the backup began."""


@pytest.fixture(scope="module")
def taken(folder: Path, full: bool) -> Iterator[Taken]:
    """One load, and during it a backup, and one as it must not be taken."""
    here = place(folder / "here")
    try:
        here.start(SLOW)
        yield asyncio.run(_under_load(here, folder, 1000 if full else 40))
    finally:
        here.stop()


async def _under_load(here: Local, folder: Path, some: int) -> Taken:
    async with bus(here) as (client, js):
        load = Load(client, filings(1_000_000, "backup"))
        running = asyncio.create_task(load.run())

        async def more() -> None:
            count = len(load.acknowledged)
            await eventually(lambda: len(load.acknowledged) > count + some, 120, "some load")

        await more()
        with as_operator(here):
            await careless(js, folder / "careless")
            before, left = dict(load.acknowledged), sent(here)
            await backup._backup(folder / "good", None)
        await more()  # writers go on
        load.over.set()
        await running
    for name in here.names:
        here.kill(name)
    return Taken(here, load, before, left)


async def careless(js: JetStreamContext, target: Path) -> None:
    """The negative control: the database first and the streams later, and nobody waits."""
    moment = dump.moment

    async def done() -> int:
        floor = (await js.consumer_info(IN, "intake-in")).ack_floor
        return floor.stream_seq if floor else 0

    async def nobody(conn: Any) -> float:
        await conn.execute("begin")
        return 0.0

    @asynccontextmanager
    async def later(url: str) -> AsyncIterator[dump.Moment]:
        async with moment(url) as found:
            count = await done()

            async def more() -> bool:
                return await done() > count + 20

            await eventually(more, 30, "a bit of load")
            yield found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dump, "_hold", nobody)
        patch.setattr(dump, "moment", later)
        await backup._backup(target, None)


def test_a_backup_under_load_is_whole_in_an_empty_place(taken: Taken, folder: Path, oracle: Tell) -> None:
    here, load = taken.here, taken.load
    manifest = archive.opened(folder / "good")
    there = empty(folder / "there")
    try:
        # What is damaged or foreign is refused before anything is touched.
        for name, spoil in SPOILT.items():
            shutil.copytree(folder / "good", folder / name)
            spoil(folder / name)
            status, said = ended(there, "ops", "restore", folder / name)
            assert status in (common.FINDINGS, common.UNUSABLE), (name, said)
            assert "已恢复" not in said
            assert asyncio.run(is_untouched(there)), name
            shutil.rmtree(folder / name)

        process = yiqi(there, "ops", "restore", folder / "good")
        said, _ = process.communicate(timeout=90)
        assert process.returncode == 0, said
        asyncio.run(is_as_it_was(here, there, manifest))
        for table in ("review.history", *(f"{s}.inbox" for s in SERVICES)):  # to which rows are only added
            assert rows(there, table) <= rows(here, table), table
            assert len(rows(there, table)) == manifest.tables[table].rows, table
        gone = {
            m.removeprefix("(").rstrip(")")
            for m in rows(there, "(select id from notify.mail where state = 'sent')")
        }
        assert {f"<m-{m}@yiqi.test>" for m in gone} <= set(sent(here))

        status, said = ended(there, "ops", "restore", folder / "good")
        assert (status, "不是空的" in said) == (common.FINDINGS, True)

        assert not asyncio.run(swallowed(there))
        assert not asyncio.run(said_again(there))
        asyncio.run(hasten(there))
        there.start(SLOW)
        asyncio.run(drain(there))
        verdict = oracle(asyncio.run(judge("backup", load, there, taken.left)))
        status, said = ended(there, "case", "verify")
    finally:
        there.stop()
    assert status == 0, said
    assert verdict.clean, verdict
    assert verdict.sent >= len(taken.before) > 0
    assert max(taken.before.values()) <= manifest.streams[IN].last


def test_control_a_backup_without_the_lock_loses(taken: Taken, folder: Path, oracle: Tell) -> None:
    """Also without the care for what had been published by then."""

    async def forgets_nothing(conn: Any, js: JetStreamContext) -> int:
        return 0

    there = empty(folder / "elsewhere", ())
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backup, "_forget_published", forgets_nothing)
            status, said = ended(there, "ops", "restore", folder / "careless")
        assert status == 0, said
        lost, twice = asyncio.run(swallowed(there)), asyncio.run(said_again(there))
        stored = archive.opened(folder / "careless").streams
    finally:
        there.stop()
    sent = stored[IN].messages + stored[EVT].messages
    verdict = Verdict("backup control: no lock", sent, ok=sent - len(lost), lost=len(lost))
    verdict.duplicate_effects = len(twice)
    oracle(verdict)
    assert verdict.lost > 0
    assert verdict.duplicate_effects > 0


def test_a_backup_that_is_killed_leaves_nothing_that_looks_like_one(taken: Taken, folder: Path) -> None:
    process = yiqi(taken.here, "ops", "backup", folder / "killed")
    (left,) = wait_until(lambda: list(folder.glob("killed.*")), 30, "the backup to begin")
    process.kill()
    process.communicate()
    assert not (folder / "killed").exists()
    status, said = ended(taken.here, "ops", "backup", "--check", left)
    assert (status, "不是完整的备份" in said) == (common.UNUSABLE, True), said
    # Writers go on.
    taken.here.postgres.sql("set lock_timeout = '10s'; delete from intake.outbox where false", "yiqi")


def test_a_backup_is_never_written_over_another_and_only_its_owner_reads_it(
    taken: Taken, folder: Path
) -> None:
    status, said = ended(taken.here, "ops", "backup", folder / "good")
    assert (status, "已经存在" in said) == (common.UNUSABLE, True), said
    status, said = ended(taken.here, "ops", "backup", "--check", folder / "good")
    assert (status, "备份完整" in said) == (common.GOOD, True), said
    assert {oct(p.stat().st_mode & 0o777) for p in (folder / "good").iterdir()} == {"0o600"}
    assert oct((folder / "good").stat().st_mode & 0o777) == "0o700"


def flip(file: str, at: int) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        data = bytearray((folder / file).read_bytes())
        data[at] ^= 1
        (folder / file).write_bytes(data)

    return spoil


def older(folder: Path) -> None:
    """As if taken by a release with another newest migration, every checksum right."""
    manifest = archive.opened(folder)
    for name in (archive.MANIFEST, archive.SUMS):
        (folder / name).unlink()
    heads = {**manifest.heads, "review": "0001"}
    archive.seal(folder, manifest.model_copy(update={"heads": heads}))


SPOILT: dict[str, Callable[[Path], None]] = {
    "a byte of the dump": flip(archive.DUMP, -1),
    "a byte of a stream": flip(archive.stream_file(EVT), 100),
    "a byte of the manifest": flip(archive.MANIFEST, 40),
    "a byte of the checksums": flip(archive.SUMS, 3),
    "no dump": lambda folder: (folder / archive.DUMP).unlink(),
    "no stream": lambda folder: (folder / archive.stream_file(OUT)).unlink(),
    "half written": lambda folder: (folder / archive.SUMS).unlink(),
    "another release": older,
}


async def is_untouched(there: Local) -> bool:
    schemas = there.postgres.sql(
        "select nspname from pg_namespace where nspname !~ '^(pg_|info|public)'", "yiqi"
    )
    async with bus(there) as (_, js):
        return not schemas.strip() and not await js.streams_info()


async def is_as_it_was(here: Local, there: Local, manifest: archive.Manifest) -> None:
    """Message by message what the first place has up to where the backup ends."""
    async with bus(here) as (_, original), bus(there) as (_, restored):
        for name, part in manifest.streams.items():
            want, have = await contents(original, name), await contents(restored, name)
            assert len(have) == part.messages, name
            assert have == {seq: m for seq, m in want.items() if seq <= part.last}, name


def test_a_backup_of_one_server_is_restored_into_a_cluster(taken: Taken, folder: Path, full: bool) -> None:
    if not full:
        pytest.skip("three more servers: in the long form")
    routes = [free_port() for _ in range(3)]
    others = ", ".join(f"nats://127.0.0.1:{port}" for port in routes)
    there = place(folder / "cluster", ())
    nodes = [
        Nats(
            folder / "cluster" / f"n{i}",
            sync_always=False,
            config=f"server_name: n{i}\ncluster {{ name: c, listen: 127.0.0.1:{port}, routes: [{others}] }}",
        )
        for i, port in enumerate(routes)
    ]
    there.nats = nodes[0]
    try:
        for node in nodes:
            node.start()
        there.postgres.start()
        there.postgres.create_database("yiqi")
        asyncio.run(has_a_leader(there))
        status, said = ended(there, "ops", "restore", folder / "good", "--replicas", "3")
        assert status == 0, said
        asyncio.run(is_as_it_was(taken.here, there, archive.opened(folder / "good")))
    finally:
        for node in nodes:
            node.stop()
        there.stop()


async def has_a_leader(there: Local) -> None:
    async with bus(there) as (_, js):

        async def answers() -> bool:
            try:
                await js.account_info()
            except (nats.errors.Error, nats.js.errors.Error):
                return False
            return True

        await eventually(answers, SLOW, "a leader of the cluster")
