"""`yiqi ops backup | restore`: streams and database as one folder, of one moment, and back into an empty place.

The folder is in `archive.py`, the database's half in `dump.py`, JetStream's in `shared/runtime/snapshots.py`.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import archive, dump
from services.cli.archive import Broken, Manifest, StreamPart, TablePart
from services.cli.common import FINDINGS, NO_SERVER, UNUSABLE, bus, console, fail, settings, shown
from shared.runtime import SERVICES
from shared.runtime.accounts import PROVISIONER
from shared.runtime.database import head, migrate
from shared.runtime.snapshots import Snapshot, SnapshotFailed, give, published, take
from shared.runtime.streams import ADVISORY, BUCKET, CONSUMERS, FILE, STREAMS, Drift, provision

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

OURS = (*(str(s.name) for s in STREAMS), BUCKET)

AFTERWARDS = (FILE, ADVISORY)
"""Nothing in the database follows from these being short: they may be longer than the moment, and writers need not
wait for them. Of all others the acknowledgements, or what was said, must be of the moment."""

SKEW = timedelta(hours=1)
"""The clocks of the bus and of the database may differ; looking back too far costs only time."""

BinOption = Annotated[Path | None, typer.Option("--pg-bin", help="pg_dump 和 pg_restore 所在的文件夹")]


def backup(
    folder: Annotated[Path, typer.Argument(help="备份放在哪里：一个还没有的文件夹")],
    check: Annotated[bool, typer.Option("--check", help="只核对已有的备份，不连接服务器")] = False,
    pg_bin: BinOption = None,
) -> None:
    """备份：流和数据库，同一时刻，写成一个文件夹。运行中即可进行，写入暂停片刻。内含个人信息，请加密保存。"""
    try:
        if check:
            manifest = archive.opened(folder)
            _tell(manifest)
            if wrong := _other_release(manifest):
                fail(wrong, FINDINGS)
            console.print("备份完整，本版本可以恢复")
            return
        asyncio.run(_backup(folder, pg_bin))
    except Broken as error:
        fail(str(error), UNUSABLE)
    except SnapshotFailed as error:
        fail(f"流没有备份成：{error}；未留下备份", NO_SERVER)


def restore(
    folder: Annotated[Path, typer.Argument(help="备份所在的文件夹")],
    replicas: Annotated[int, typer.Option(help="JetStream 副本数，生产为3")] = 1,
    pg_bin: BinOption = None,
) -> None:
    """恢复：把备份放回一个空的地方（没有流，数据库中没有表），并与备份清单核对。"""
    try:
        manifest = archive.opened(folder)
        if wrong := _other_release(manifest):
            fail(wrong, FINDINGS)
        asyncio.run(_restore(folder, manifest, replicas, pg_bin))
    except Broken as error:
        fail(str(error), UNUSABLE)
    except SnapshotFailed as error:
        fail(f"流没有恢复成：{error}。请清空 NATS 和数据库后重新恢复", NO_SERVER)


# --- backup ------------------------------------------------------------------------------------------


async def _backup(target: Path, pg_bin: Path | None) -> None:
    began, url = time.monotonic(), settings().database_url.get_secret_value()
    conn = await dump.connect(url)
    try:
        server = await dump.version(conn)
        if await dump.schemas(conn) != sorted(SERVICES) or (heads := await dump.heads(conn)) != _heads():
            fail("数据库与本版本不一致；请先运行 yiqi provision", FINDINGS)
    finally:
        await conn.close()
    program = dump.program("pg_dump", pg_bin, server)
    async with bus(PROVISIONER) as client:
        nats = _server(client)
        with archive.whole(target) as folder:
            async with dump.moment(url) as moment:
                taken = datetime.now(UTC)
                # First the bucket: what is put there is put before the commit that now waits, so the event that
                # caused it is in a stream by then.
                streams = await _take(client, folder, [BUCKET])
                streams |= await _take(client, folder, [n for n in OURS if n not in (BUCKET, *AFTERWARDS)])
                await moment.release()
                streams |= await _take(client, folder, AFTERWARDS)
                tables, in_flight = await moment.tables(), await moment.in_flight()
                with archive.writing(folder / archive.DUMP) as file:
                    await dump.dump(program, url, moment.snapshot, file)
            manifest = Manifest(
                taken=taken,
                yiqi=version("yiqi"),
                nats=nats,
                postgresql=server,
                heads=heads,
                streams={name: streams[name] for name in OURS},
                tables=tables,
                in_flight=in_flight,
                waited_seconds=round(moment.waited, 3),
                held_seconds=round(moment.held, 3),
            )
            archive.seal(folder, manifest)
            size = sum(path.stat().st_size for path in folder.iterdir())
    _tell(manifest)
    console.print(
        f"已备份到 {target}：{size / 1e6:.1f} MB，用时{time.monotonic() - began:.1f}秒，"
        f"其中写入暂停{moment.held:.2f}秒。内含个人信息，请加密保存"
    )


async def _take(client: "Client", folder: Path, names: Sequence[str]) -> dict[str, StreamPart]:
    async def one(name: str) -> StreamPart:
        with archive.writing(folder / archive.stream_file(name)) as file:
            snapshot = await take(client, name, file)
        state = snapshot.state
        return StreamPart(
            messages=state["messages"],
            first=state["first_seq"],
            last=state["last_seq"],
            config=snapshot.config,
            state=state,
        )

    try:
        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(one(name)) for name in names}
    except* SnapshotFailed as failed:
        raise failed.exceptions[0] from None
    return {name: task.result() for name, task in tasks.items()}


# --- restore -----------------------------------------------------------------------------------------


async def _restore(folder: Path, manifest: Manifest, replicas: int, pg_bin: Path | None) -> None:
    url = settings().database_url.get_secret_value()
    conn = await dump.connect(url)
    try:
        async with bus(PROVISIONER) as client:
            js = client.jetstream(timeout=10)
            _fits(manifest, await dump.version(conn), _server(client))
            await _is_empty(conn, js)
            program = dump.program("pg_restore", pg_bin, manifest.postgresql)
            # The dump grants to roles and names them in policies; only the migrations know which.
            await migrate(url)
            await conn.execute(f"drop schema {', '.join(SERVICES)} cascade")
            await dump.load(program, url, folder / archive.DUMP)
            await migrate(url)
            for name, part in manifest.streams.items():
                with (folder / archive.stream_file(name)).open("rb") as file:
                    await give(client, name, Snapshot(part.config, part.state), file, replicas=replicas)
            await _as_provisioned(js, replicas)
            await _same(manifest, await dump.tables(conn), js)
            said = await _forget_published(conn, js)
    finally:
        await conn.close()
    _tell(manifest)
    console.print(f"已恢复，逐表逐流与备份清单相符。待发事件中{said}条已在流中，不再重发")
    console.print("接下来：设置各服务角色的口令（与安装时相同），启动服务，运行 yiqi case verify")


def _fits(manifest: Manifest, postgresql: int, nats: str) -> None:
    if postgresql // 10000 < manifest.postgresql // 10000:
        fail(
            f"备份来自 PostgreSQL {manifest.postgresql // 10000}，这里是{postgresql // 10000}；"
            "请换用同版或更新的服务器",
            FINDINGS,
        )
    if _minor(nats) < _minor(manifest.nats):
        fail(f"备份来自 NATS {manifest.nats}，这里是{nats}；请换用同版或更新的服务器", FINDINGS)


def _server(client: "Client") -> str:
    found = client.connected_server_version
    return f"{found.major}.{found.minor}.{found.patch}"


def _minor(nats: str) -> tuple[int, ...]:
    return tuple(int(n) for n in nats.split(".")[:2])


async def _is_empty(conn: Any, js: "JetStreamContext") -> None:
    """What is there may be all that is left of the truth: nothing of it is ever overwritten."""
    found = [f"流 {i.config.name}" for i in await js.streams_info() if i.config.name in OURS]
    found += [f"数据库模式 {name}" for name in await dump.schemas(conn)]
    if found:
        fail(
            f"这里不是空的：{'、'.join(found)}。恢复从不覆盖已有数据；"
            "请换一个空的 NATS 和空的数据库，或先另存并自行删除现有的",
            FINDINGS,
        )


async def _as_provisioned(js: "JetStreamContext", replicas: int) -> None:
    """Streams and consumers as the code says; a cluster takes a moment to place the consumers."""
    patience = time.monotonic() + 30
    while True:
        try:
            await provision(js, replicas=replicas, check=True, days=settings().stream_days)
            return
        except Drift as drift:
            if time.monotonic() > patience:
                fail(f"恢复后的流与本版本不一致：\n{drift}", FINDINGS)
        await asyncio.sleep(0.1)


async def _same(manifest: Manifest, tables: dict[str, TablePart], js: "JetStreamContext") -> None:
    """Every table and every stream as the manifest has them."""
    wrong = [f"表 {n}" for n in manifest.tables.keys() | tables if manifest.tables.get(n) != tables.get(n)]
    lasts = {}
    for name, part in manifest.streams.items():
        state = (await js.stream_info(name)).state
        lasts[name] = state.last_seq
        # Of an empty stream the server says 0 or 1, as it came to be empty.
        first = state.first_seq if state.messages else part.first
        if (state.messages, first, state.last_seq) != (part.messages, part.first, part.last):
            wrong.append(f"流 {name}")
    for consumer in CONSUMERS:
        info = await js.consumer_info(consumer.stream, consumer.durable)
        # It would pass over the messages that come next.
        if info.delivered and info.delivered.stream_seq > lasts[consumer.stream]:
            wrong.append(f"消费者 {consumer.durable}")
    if wrong:
        fail(f"恢复出来的与备份清单不符：{'、'.join(sorted(wrong))}。请勿启动服务", FINDINGS)


async def _forget_published(conn: Any, js: "JetStreamContext") -> int:
    """Take out of the outboxes what the streams have already: the bus remembers no ids after a restore, and whoever
    reads its answers there would read them twice."""
    forgotten = 0
    for service in SERVICES:
        for row in await conn.fetch(
            f"select stream, min(at) as since, array_agg(id) as ids from {service}.outbox group by stream"
        ):
            known = await published(js, row["stream"], row["since"] - SKEW)
            ids = [id_ for id_ in row["ids"] if str(id_) in known]
            await conn.execute(f"delete from {service}.outbox where id = any($1)", ids)
            forgotten += len(ids)
    return forgotten


# --- both --------------------------------------------------------------------------------------------


def _heads() -> dict[str, str]:
    return {service: head(service) for service in SERVICES}


def _other_release(manifest: Manifest) -> str:
    mine = _heads()
    other = [
        f"{s} {manifest.heads.get(s)}（本版本 {mine[s]}）"
        for s in SERVICES
        if manifest.heads.get(s) != mine[s]
    ]
    if not other:
        return ""
    return f"备份来自另一版本（{manifest.yiqi}）：{'、'.join(other)}。请用当时的版本恢复，再升级"


def _tell(manifest: Manifest) -> None:
    rows = sum(part.rows for part in manifest.tables.values())
    messages = sum(part.messages for part in manifest.streams.values())
    console.print(
        f"{shown(manifest.taken)} 的备份：{len(manifest.tables)}张表{rows}行，{len(manifest.streams)}个流{messages}条消息"
    )
    if count := manifest.in_flight.get("claimed", 0):
        console.print(f"当时有{count}封邮件已领取、未交出：恢复后重新排队")
    if count := manifest.in_flight.get("data", 0):
        console.print(f"当时有{count}封邮件正在交出：恢复后记为 unknown，由人核对，不会自动重发")
