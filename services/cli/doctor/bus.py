"""What `yiqi ops doctor` asks of NATS: whether we are let in, JetStream, replicas, drift, limits, lag, and its clock.

All of it with the rights of `operator`, who only reads; what the server is set to, its monitoring page alone tells.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import nats.errors
import nats.js.errors

from services.cli import common
from services.cli.doctor.line import ALL, Line, State, Topic, asked, lasted
from services.cli.doctor.outside import ending
from shared.runtime.accounts import OPERATOR
from shared.runtime.clock import Clock
from shared.runtime.connection import certificate
from shared.runtime.settings import Settings
from shared.runtime.streams import (
    ADVISORY,
    BUCKET,
    CONSUMERS,
    GIB,
    IN,
    STREAMS,
    Consumer,
    Drift,
    provision,
    unfinished_since,
)

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext
    from nats.js.api import ConsumerInfo, StreamInfo

LATE, TOO_LATE = timedelta(minutes=1), timedelta(minutes=10)
"""How long an event may lie before somebody looks, and before it is a fault: it should be accepted within 5 s."""

OFF, TOO_FAR_OFF = timedelta(seconds=1), timedelta(seconds=5)
"""Of clocks. The clock of review acts five seconds late so that what the bus has stored before comes first: clocks that
differ by more let a deadline lapse under a filing that was in time."""

UNREACHED = "核对 YIQI_NATS_URL、网络策略和 nats-server"


async def look(settings: Settings, clock: Clock, replicas: int | None, monitors: list[str]) -> list[Line]:
    found: list[Line] = []

    async def reached(topic: Topic) -> Sequence[Line]:
        async with _connected() as client:
            lines = [topic.good(f"已连上 {_server(client)}")]
            if told := certificate(client):
                lines.append(ending(topic, "NATS 服务器的证书", told))
            look = _Look(settings, clock, client, replicas)
            for one, check in look.checks():
                said = await asked(one, check)
                lines += said
                if one.check == "jetstream" and any(line.state is State.FAULT for line in said):
                    break  # the others would say the same, each after its timeout
        return lines

    found += await asked(Topic("nats", "NATS", UNREACHED), reached, ALL)
    for url in monitors:
        found += await asked(Topic("monitor", f"nats-server {url}", "核对 --monitor 的地址"), _monitor(url))
    return found


@asynccontextmanager
async def _connected() -> AsyncIterator["Client"]:
    async with common.bus(OPERATOR) as client:
        yield client


def _server(client: "Client") -> str:
    url = client.connected_url
    version = client.connected_server_version
    return f"{url.hostname if url else ''}，nats-server {version.major}.{version.minor}.{version.patch}"


class _Look:
    """Over one connection."""

    def __init__(self, settings: Settings, clock: Clock, client: "Client", replicas: int | None) -> None:
        self.settings, self.clock, self.client = settings, clock, client
        self.js: JetStreamContext = client.jetstream(timeout=5)
        self.replicas = replicas
        self.silent: list[str] = []
        """Streams and consumers that nobody answers for: without a leader nothing of them is written or read."""

    def checks(self) -> Iterator[tuple[Topic, Any]]:
        yield (
            Topic("jetstream", "JetStream", "让 nats-server 启用 jetstream，并把 HUB 账户设为 enabled"),
            self.jetstream,
        )
        yield Topic("streams", "流和消费者", "yiqi provision --check"), self.drift
        yield Topic("replicas", "副本", "等待 nats-server 追上；长时间不变见手册"), self.copies
        yield Topic("limits", "流的容量"), self.limits
        yield Topic("clock", "时钟（与 NATS）", "在各机器上启用时间同步（chrony）"), self.skew
        yield Topic("lag", "积压", "yiqi provision --check"), self.lag

    async def jetstream(self, topic: Topic) -> Sequence[Line]:
        try:
            info = await self.js.account_info()
        except (nats.js.errors.Error, nats.errors.NoRespondersError, nats.errors.TimeoutError):
            return [topic.fault("没有启用，或多数节点不在而没有元数据主节点", topic.do)]
        return [topic.good(f"{info.streams}个流，占用{info.storage / 1e6:.0f} MB")]

    async def drift(self, topic: Topic) -> Sequence[Line]:
        """The very check of `yiqi provision --check`."""
        try:
            await provision(self.js, replicas=self.replicas, check=True, days=self.settings.stream_days)
        except Drift as drift:
            lines = str(drift).splitlines()
            missing = all(line.endswith(": missing") for line in lines)
            return [
                topic.fault(line, "yiqi provision" if missing else "yiqi provision --check") for line in lines
            ]
        return [topic.good(f"{len(STREAMS)}个流、{len(CONSUMERS)}个消费者、存储桶与程序一致")]

    async def _of(self, name: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        """None of what is missing, which drift tells, and of what is silent, which is asked once only."""
        if name in self.silent:
            return None
        try:
            return await ask()
        except nats.js.errors.NotFoundError:
            return None
        except (nats.js.errors.ServiceUnavailableError, nats.js.errors.ServerError, nats.errors.TimeoutError):
            self.silent.append(name)
            return None

    async def _streams(self) -> list["StreamInfo"]:
        names = (*(str(s.name) for s in STREAMS), BUCKET)
        found = [await self._of(name, partial(self.js.stream_info, name)) for name in names]
        return [info for info in found if info is not None]

    async def _consumers(self) -> list[tuple[Consumer, "ConsumerInfo"]]:
        found = []
        for consumer in CONSUMERS:
            ask = partial(self.js.consumer_info, consumer.stream, consumer.durable)
            if (info := await self._of(consumer.durable, ask)) is not None:
                found.append((consumer, info))
        return found

    async def copies(self, topic: Topic) -> Sequence[Line]:
        """Every stream and consumer has a leader, and every copy of it is there and up to date."""
        streams: list[tuple[str, Any]] = [(str(i.config.name), i.cluster) for i in await self._streams()]
        consumers = [(c.durable, i.cluster) for c, i in await self._consumers()]
        lines = [
            topic.fault(f"{name} 没有主节点，读写都停着", "等待多数节点恢复，查看各 nats-server 的日志")
            for name in self.silent
        ]
        clustered = any(cluster and cluster.name for _, cluster in streams)
        count = {name: 1 + len((cluster and cluster.replicas) or ()) for name, cluster in streams}
        most = max(count.values(), default=1)
        again = "备份后重建：yiqi ops backup、yiqi ops restore --replicas 3"
        fewer = (name for name, n in count.items() if n < most)
        lines += [topic.attention(f"{name} 只有{count[name]}份，别的有{most}份", again) for name in fewer]
        away = Counter[str]()
        for name, cluster in (*streams, *consumers):
            for peer in (cluster and cluster.replicas) or ():
                if peer.offline:
                    away[peer.name] += 1
                elif not peer.current:
                    told = f"{name} 的副本 {peer.name} 落后{peer.lag or 0}条"
                    lines.append(topic.attention(told, topic.do))
        for node, n in away.items():
            told = f"节点 {node} 不在线，{n}个流和消费者少一份"
            lines.append(topic.fault(told, f"查看 {node} 的日志，恢复它；别的节点先不要动"))
        if not lines and clustered and most == 1:
            return [topic.attention("是集群，流却只有一份", again)]
        return lines or [topic.good(f"每个流{most}份，都是最新" if most > 1 else "单机，一份")]

    async def limits(self, topic: Topic) -> Sequence[Line]:
        lines = []
        for info in await self._streams():
            most = info.config.max_bytes or 0
            # The bucket has no limit of its own, but the server's (`--monitor`).
            do = f"yiqi provision --only bus --room {info.config.name}={max(1, 2 * most // GIB)}，先看磁盘有没有"
            if near := topic.share(info.state.bytes, most, f"流 {info.config.name}", do):
                lines.append(near)
        return lines or [topic.good("都有余地")]

    async def skew(self, topic: Topic) -> Sequence[Line]:
        """What the services take for now, beside the clock that decides what was in time."""
        before = self.clock.now()
        answer = await self.client.request(f"$JS.API.STREAM.INFO.{IN}", b"", timeout=5)
        after = self.clock.now()
        if (told := json.loads(answer.data).get("ts")) is None:
            return []  # no stream; drift tells
        return [compared(topic, before, after, _moment(told), self.clock, topic.do)]

    async def lag(self, topic: Topic) -> Sequence[Line]:
        """What no service has finished with, and whether anybody listens at all."""
        lines = []
        waits = {c.durable: i for c, i in await self._consumers()}
        for consumer in CONSUMERS:
            if (info := waits.get(consumer.durable)) is None:
                continue
            since = await unfinished_since(self.js, [consumer])
            age = datetime.now(UTC) - since if since else timedelta()
            count = (info.num_pending or 0) + (info.num_ack_pending or 0)
            do = f"查看 {consumer.service} 的日志；yiqi dead list"
            if not await self._listened(consumer):
                lines.append(
                    topic.fault(
                        f"{consumer.durable} 没有进程在读，{count}条未处理", f"启动 {consumer.service}"
                    )
                )
            elif age > TOO_LATE:
                lines.append(topic.fault(f"{consumer.durable} {count}条，最早的已{lasted(age)}", do))
            elif age > LATE:
                lines.append(topic.attention(f"{consumer.durable} {count}条，最早的已{lasted(age)}", do))
        lines += await self._given_up(topic)
        return lines or [topic.good("各消费者都有进程在读，没有积压")]

    async def _listened(self, consumer: Consumer) -> bool:
        """A service has a request standing at the server, or is busy with what it was given: then for a moment none."""

        async def listens() -> bool:
            info = await self.js.consumer_info(consumer.stream, consumer.durable)
            return bool(info.num_waiting or info.num_ack_pending)

        from shared.runtime.embedded import eventually

        try:
            return await eventually(listens, 1.5)
        except TimeoutError:
            return False

    async def _given_up(self, topic: Topic) -> list[Line]:
        """Messages that were delivered as often as they may be: no process will ever hear them by itself. A replay makes the
        consumer anew, and what the bus gave up before that is being heard again."""
        lines = []
        for consumer, info in await self._consumers():
            subject = f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{consumer.stream}.{consumer.durable}"
            try:
                found = await self.js.get_last_msg(ADVISORY, subject)
            except nats.js.errors.NotFoundError:
                continue
            if found.time is None or found.time < info.created:
                continue
            told = json.loads(found.data or b"{}")
            age = lasted(datetime.now(UTC) - found.time)
            where = f"{consumer.stream} 第{told.get('stream_seq')}条（{consumer.durable}）"
            do = f"yiqi ops replay {consumer.service} --yes，会从头再投递一遍，办过的不再办"
            lines.append(topic.fault(f"{age}前总线放弃投递 {where}", do))
        return lines


def compared(topic: Topic, before: datetime, after: datetime, there: datetime, clock: Clock, do: str) -> Line:
    """Two clocks; the way to the other one and back is no difference."""
    off = max(timedelta(), before - there, there - after)
    if off <= OFF:
        return topic.good(f"相差不到{OFF.total_seconds():.0f}秒")
    ahead = "快" if before > there else "慢"
    told = f"本机{ahead}{lasted(off)}"
    if abs(clock.offset) > OFF:
        told, do = f"{told}（YIQI_CLOCK 移动了时钟，它只用于演示）", "去掉 YIQI_CLOCK，重启各服务"
    return topic.fault(told, do) if off > TOO_FAR_OFF else topic.attention(told, do)


def _moment(told: str) -> datetime:
    """With as many digits as Python takes: Go tells nine or fewer."""
    whole, _, part = told.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{part[:6].ljust(6, '0')}+00:00")


def _monitor(url: str) -> Any:
    async def check(topic: Topic) -> Sequence[Line]:
        if not url.startswith(("http://", "https://")):
            return [topic.fault("地址应以 http:// 或 https:// 开头", topic.do)]
        told = await asyncio.to_thread(_page, f"{url.rstrip('/')}/varz")
        stream = told.get("jetstream") or {}
        config, stats = stream.get("config") or {}, stream.get("stats") or {}
        if not config:
            return [topic.fault("没有启用 JetStream", "在 nats.conf 中加上 jetstream")]
        lines = []
        if not config.get("sync_always"):
            do = "在 nats.conf 的 jetstream 中写 sync_interval: always，重启该节点"
            lines.append(topic.fault("sync_interval 不是 always：断电会丢失已确认的消息", do))
        near = topic.share(
            stats.get("storage", 0),
            config.get("max_storage", 0),
            "JetStream 的磁盘",
            "扩大磁盘和 max_file_store",
        )
        lines += [near] if near else []
        return lines or [topic.good("sync_interval 为 always，磁盘有余地")]

    return check


def _page(url: str) -> Any:
    with urlopen(url, timeout=5) as answer:  # noqa: S310 - the scheme is checked above
        return json.load(answer)
