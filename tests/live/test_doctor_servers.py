"""`yiqi ops doctor` at servers that are set up or filled so that they would lose or refuse something: each really so.

What it finds of a system that runs is in `test_doctor.py`.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import nats
import nats.errors
import pytest
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from services.cli.doctor import data
from services.cli.local import Local
from shared.runtime.embedded import Nats, Postgres, eventually, wait_until
from shared.runtime.streams import BUCKET, CONSUMERS, EVT, IN, STREAMS, provision
from tests.chaos.cluster import Cluster
from tests.chaos.places import ended
from tests.live.test_doctor import Seen, doctor

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # of `abandoned`
]

NOWHERE = "postgresql://yiqi@127.0.0.1:1/yiqi"


@pytest.fixture(autouse=True)
def abandoned() -> Iterator[None]:
    """As in `test_doctor.py`."""
    yield
    gc.collect()


class Servers(Local):
    """Nothing of ours runs on them."""

    def __init__(self, directory: Path, *urls: str, database: str = NOWHERE) -> None:
        super().__init__(directory, accounts=False)
        self.told = {"YIQI_NATS_URL": ",".join(urls) or "nats://127.0.0.1:1", "YIQI_DATABASE_URL": database}

    @property
    def environment(self) -> dict[str, str]:
        return {**self.told, **self.extra}


def seen_on(servers: Servers, check: str, *arguments: str) -> tuple[str, str]:
    """The worst state and what is said; nothing while the doctor did not come so far."""
    found: Seen = doctor(servers, *arguments)
    return found.of(check) if any(c["check"] == check for c in found.checks) else ("", "")


@asynccontextmanager
async def bus(*urls: str) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(list(urls), error_cb=_quiet)
    try:
        yield client.jetstream(timeout=10)
    finally:
        await client.close()


async def _quiet(error: Exception) -> None:
    """A node that is away is what the test is about."""


# --- PostgreSQL ----------------------------------------------------------------------------------------


def test_a_database_that_loses_what_it_confirmed_and_tells_what_it_should_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lax = Postgres(
        tmp_path / "postgres",
        settings={"fsync": "off", "log_error_verbosity": "default", "max_connections": "20"},
    )
    with lax, asyncio.Runner() as runner:
        servers = Servers(tmp_path / "nothing", database=lax.dsn())
        state, said = seen_on(servers, "database")
        assert state == "fault"
        assert "fsync 已关闭" in said
        assert "log_error_verbosity = terse" in said
        assert "连接" not in said
        assert "太旧" not in said
        held = [runner.run(asyncpg.connect(lax.dsn())) for _ in range(15)]
        assert "连接已用80%" in seen_on(servers, "database")[1]
        held += [runner.run(asyncpg.connect(lax.dsn())) for _ in range(3)]
        assert "连接已用95%" in seen_on(servers, "database")[1]
        for connection in held:
            runner.run(connection.close())
        # Of a server that is older than what a release needs there is no wheel: the release needs more.
        monkeypatch.setattr(data, "OLDEST_SERVER", 10**6)
        assert "太旧" in seen_on(servers, "database")[1]


# --- NATS ----------------------------------------------------------------------------------------------


async def _fill(url: str, size: int) -> None:
    async with bus(url) as js:
        await js.add_stream(StreamConfig(name="X", subjects=["x"]))
        for _ in range(size // 80_000):
            await js.publish("x", bytes(80_000))


@pytest.mark.parametrize(("size", "state"), [(240_000, "good"), (880_000, "attention"), (1_040_000, "fault")])
def test_a_server_whose_storage_ends(tmp_path: Path, size: int, state: str) -> None:
    with Nats(tmp_path / "nats", monitoring=True, limits="max_file_store: 1048576") as full:
        asyncio.run(_fill(full.url, size))
        found, said = seen_on(Servers(tmp_path / "x", full.url), "monitor", "--monitor", full.monitoring_url)
    assert found == state, said
    assert ("JetStream 的磁盘已用" in said) is (state != "good")


async def _give_up(url: str) -> None:
    """A filing that was delivered as often as it may be, and that nobody has acknowledged."""
    (wanted,) = (c for c in CONSUMERS if c.durable == "review-in")
    async with bus(url) as js:
        await provision(js)
        await js.delete_consumer(wanted.stream, wanted.durable)
        await js.add_consumer(wanted.stream, wanted.config().evolve(max_deliver=1, ack_wait=0.2))
        subject = wanted.events[0].pattern.replace("*", "440106")
        await js.publish(subject, b"{}", stream=IN)
        reader = await js.pull_subscribe_bind(wanted.durable, wanted.stream)
        assert len(await reader.fetch(1, timeout=5)) == 1
        with pytest.raises(nats.errors.TimeoutError):
            await reader.fetch(1, timeout=1)
        await reader.unsubscribe()


def test_a_message_that_the_bus_gives_up(tmp_path: Path) -> None:
    """Told until it is replayed."""
    with Nats(tmp_path / "nats") as server:
        servers = Servers(tmp_path / "x", server.url)
        asyncio.run(_give_up(server.url))
        for _ in range(2):
            state, said = seen_on(servers, "lag")
            assert state == "fault"
            assert "总线放弃投递 SME_IN 第1条（review-in）" in said
            assert "yiqi ops replay review --yes" in said
        status, told = ended(servers, "ops", "replay", "review", "--yes")
        assert status == 0, told
        assert "放弃投递" not in seen_on(servers, "lag")[1]


# --- a cluster -----------------------------------------------------------------------------------------


async def _three(urls: list[str], *names: str) -> None:
    async with bus(*urls) as js:
        for name in names:
            found = (await js.stream_info(name)).config
            await js.update_stream(found.evolve(num_replicas=3))


async def _one(urls: list[str]) -> None:
    async def made() -> bool:
        try:
            await provision(js, replicas=1)
        except nats.errors.Error:
            return False  # no leader of the cluster yet
        return True

    async with bus(*urls) as js:
        await eventually(made, 30, "the streams to be made")


async def _whose(urls: list[str], stream: str) -> int:
    async with bus(*urls) as js:
        cluster = (await js.stream_info(stream)).cluster
        assert cluster
        assert cluster.leader
        return int(cluster.leader.removeprefix("n"))


def test_a_cluster_with_one_copy_and_a_node_away(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as three:
        servers = Servers(tmp_path / "x", *three.urls)
        asyncio.run(_one(three.urls))
        assert seen_on(servers, "replicas") == (
            "attention",
            "是集群，流却只有一份 → 备份后重建：yiqi ops backup、yiqi ops restore --replicas 3",
        )
        # Its only copy is away.
        node = asyncio.run(_whose(three.urls, EVT))
        three.nodes[node].stop()
        wait_until(lambda: "SME_EVT 没有主节点" in seen_on(servers, "replicas")[1], 60, "it to be told")
        three.restart(node)
        asyncio.run(_three(three.urls, *(str(s.name) for s in STREAMS)))
        told = f"{BUCKET} 只有1份，别的有3份"
        wait_until(lambda: seen_on(servers, "replicas")[1].startswith(told), 60, "the bucket to be told")
        asyncio.run(_three(three.urls, BUCKET))
        wait_until(lambda: "每个流3份" in seen_on(servers, "replicas")[1], 60, "three copies")
        # Who does not say how many means those that there are.
        assert ended(servers, "provision", "--check", "--only", "bus")[0] == 0
        assert ended(servers, "provision", "--check", "--only", "bus", "--replicas", "1")[0] == 1
        assert "should be 1" in seen_on(servers, "streams", "--replicas", "1")[1]
        three.nodes[2].stop()
        wait_until(lambda: "节点 n2 不在线" in seen_on(servers, "replicas")[1], 60, "it to be told")
        assert seen_on(servers, "jetstream")[0] == "good"
        # Without a majority one sentence says it, and soon.
        three.nodes[1].stop()
        wait_until(lambda: "元数据主节点" in seen_on(servers, "jetstream")[1], 60, "it to be told")
        assert seen_on(servers, "lag") == ("", "")
