"""Three servers, of which one at a time fails in every way: nothing that was acknowledged is lost, nothing happens twice,
and in the end each of the three has the same (T5, T7)."""

import asyncio
import gc
import os
import random
import shutil
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client

from shared.runtime.embedded import eventually
from shared.runtime.streams import CONSUMERS, EVT, IN, OUT, provision
from tests.bench.work import filings
from tests.chaos.cluster import Cluster
from tests.chaos.load import Ledger, Town, hasten, patient, town
from tests.chaos.oracle import Verdict

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # of `abandoned`
]
Tell = Callable[[Verdict], Verdict]
STREAMS = (IN, EVT, OUT)
SLOWEST = 15.0
"""Seconds that a publisher may have to insist while a leader is replaced: an election begins after 4 to 9 s of silence,
and this machine has two cores for everything."""


@pytest.fixture(autouse=True)
def abandoned() -> Iterator[None]:
    """A client of nats-py leaves a connection to the collector for each server that takes it and says nothing: here they
    are collected, and not in the test of somebody else."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as three:
        yield three


@pytest.fixture(scope="module")
def here(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with town(
        tmp_path_factory.mktemp("town"), server=cluster.nodes[0], urls=cluster.urls, replicas=3
    ) as running:
        yield running


async def equal(cluster: Cluster, client: Client) -> None:
    """What each node answers as the leader, message by message."""
    for stream in STREAMS:
        found = [await cluster.read(client, stream, i) for i in range(3)]
        assert len(found[0]) == cluster.streams(0)[stream]["last_seq"], f"{stream} has holes"
        assert found[1] == found[0], f"{stream}: n1 differs from n0"
        assert found[2] == found[0], f"{stream}: n2 differs from n0"


# --- faults ------------------------------------------------------------------------------------------


async def kill(cluster: Cluster, client: Client, i: int) -> None:
    cluster.nodes[i].kill()
    await asyncio.sleep(random.uniform(0.2, 1.5))  # the outage itself
    await asyncio.to_thread(cluster.restart, i)


async def pause(cluster: Cluster, client: Client, i: int) -> None:
    """It neither answers nor hangs up: its clients and the others have to notice by themselves."""
    cluster.signal(i, signal.SIGSTOP)
    await asyncio.sleep(5)  # the outage itself
    cluster.signal(i, signal.SIGCONT)
    await asyncio.to_thread(cluster.healthy, i)


async def step_down(cluster: Cluster, client: Client, i: int) -> None:
    for what in (*STREAMS, *(f"{c.stream}.{c.durable}" for c in CONSUMERS)):
        await cluster.step_down(client, what)


async def roll(cluster: Cluster) -> None:
    """As an upgrade does it: each sends its clients away, ends, comes back and catches up before the next."""
    for node in range(3):
        await asyncio.to_thread(cluster.lame_duck, node)
        await asyncio.to_thread(cluster.restart, node)


FAULTS: tuple[Callable[[Cluster, Client, int], Coroutine[Any, Any, None]], ...] = (kill, step_down, pause)


async def test_kills_pauses_elections_and_a_rolling_restart_lose_nothing(
    cluster: Cluster, here: Town, full: bool, oracle: Tell
) -> None:
    """T5."""
    random.seed(5)
    client, ledger = await patient(cluster.urls), Ledger()
    publishing = asyncio.create_task(ledger.file(client, filings(100_000, "t5"), rate=40 if full else 10))
    deadline = asyncio.get_running_loop().time() + (60 if full else 0)
    while True:
        for fault in FAULTS:
            leader = await cluster.leader(client, random.choice(STREAMS))
            await fault(cluster, client, leader if random.random() < 0.7 else random.randrange(3))
        if asyncio.get_running_loop().time() > deadline:
            break
    if full:
        await roll(cluster)
    ledger.stopping = True
    await publishing
    took = await here.drained(ledger)
    name = (
        f"T5 cluster, slowest publish {ledger.worst:.1f} s, drained in {took:.1f} s, "
        f"services restarted {here.restarts()}"
    )
    verdict = oracle(await here.judge(name, ledger))
    assert verdict.clean
    assert verdict.ok == verdict.sent > 50
    assert await here.dead() == 0
    assert ledger.worst <= SLOWEST
    await equal(cluster, client)
    await client.close()


# --- damage ------------------------------------------------------------------------------------------


def flip(block: Path) -> None:
    """Three bits."""
    content = bytearray(block.read_bytes())
    for at in random.sample(range(len(content)), 3):
        content[at] ^= 1 << random.randrange(8)
    block.write_bytes(content)


def cut(block: Path) -> None:
    os.truncate(block, block.stat().st_size // 2)


def blocks(store: Path) -> list[Path]:
    return sorted((store / "msgs").glob("*.blk"), key=lambda p: int(p.stem))


async def throw_away(cluster: Cluster, i: int) -> None:
    """What the README says of a node whose disk had a fault: it gets everything from the others."""
    cluster.nodes[i].stop()
    shutil.rmtree(cluster.nodes[i].directory / "jetstream")
    await asyncio.to_thread(cluster.restart, i)


async def test_a_damaged_store_costs_nothing_that_was_acknowledged(
    cluster: Cluster, here: Town, oracle: Tell
) -> None:
    """T7. What the others still have in their raft logs it gets by itself; what is older it lacks from then on."""
    random.seed(7)
    client, ledger, i = await patient(cluster.urls), Ledger(), 1
    await ledger.file(client, filings(40, "t7a"), rate=40)
    cluster.nodes[i].kill()
    flip(blocks(cluster.store(i, IN))[-1])
    cut(blocks(cluster.store(i, EVT))[-1])
    shutil.rmtree(cluster.store(i, OUT))
    await ledger.file(client, filings(20, "t7b"), rate=40)
    await asyncio.to_thread(cluster.restart, i)
    await ledger.file(client, filings(20, "t7c"), rate=40)
    await here.drained(ledger)
    name = f"T7 damaged store, node killed, it lacks {cluster.holes(i)} messages"
    verdict = oracle(await here.judge(name, ledger))
    assert verdict.clean
    assert verdict.ok == 80
    assert not any(cluster.holes(k) for k in range(3) if k != i)
    await throw_away(cluster, i)
    await equal(cluster, client)
    await client.close()


async def leads(cluster: Cluster, client: Client, consumer: str, i: int) -> None:
    """Have a node deliver what a consumer hears."""

    async def there() -> bool:
        stream, durable = consumer.split(".")
        with suppress(nats.errors.Error, nats.js.errors.Error):
            info = await client.jetstream(timeout=5).consumer_info(stream, durable)
            if info.cluster and info.cluster.leader == f"n{i}":
                return True
        await cluster.step_down(client, consumer, to=i)
        return False

    await eventually(there, 60, f"n{i} to lead {consumer}")


async def heard(client: Client, stream: str, durable: str) -> bool:
    """Whether the server has nothing more to deliver to a consumer."""
    with suppress(nats.errors.Error, nats.js.errors.Error):  # amid an election
        info = await client.jetstream(timeout=5).consumer_info(stream, durable)
        return not info.num_pending and not info.num_ack_pending
    return False


async def test_control_a_damaged_node_is_believed_until_its_store_is_thrown_away(
    cluster: Cluster, here: Town, oracle: Tell
) -> None:
    """T7. After an orderly end a node takes its store for what it was, says that it is healthy, and passes over what is
    not there. What the operator has to do then brings everything back."""
    client, ledger, i = await patient(cluster.urls), Ledger(), 2
    await asyncio.to_thread(here.take_away, "review")
    await ledger.file(client, filings(40, "t7d"), rate=40)
    await eventually(lambda: heard(client, IN, "intake-in"), 30, "intake to have read everything")
    await cluster.lead(client, EVT, 0)
    cluster.nodes[i].stop()
    cut(blocks(cluster.store(i, EVT))[-1])
    await asyncio.to_thread(cluster.restart, i)
    await leads(cluster, client, f"{EVT}.review-evt", i)
    assert cluster.page(i, "healthz")["status"] == "ok"
    # What tells is the monitoring port of this very node, and nothing else does.
    assert [cluster.holes(k) > 0 for k in range(3)] == [False, False, True]
    here.local.launch("review")
    await eventually(lambda: heard(client, EVT, "review-evt"), 60, "review to have read everything")
    lost = oracle(await here.judge("T7 control: damaged store, node stopped in good order", ledger))
    assert lost.lost > 0

    await throw_away(cluster, i)
    # Then everybody hears everything again: what had its effect has no other.
    js = client.jetstream(timeout=10)
    for consumer in CONSUMERS:
        await js.delete_consumer(consumer.stream, consumer.durable)
    assert await provision(js, replicas=3) == [f"consumer {c.durable}" for c in CONSUMERS]
    await hasten(client)
    took = await here.drained(ledger)
    name = f"T7 store thrown away, all delivered again, drained in {took:.1f} s"
    verdict = oracle(await here.judge(name, ledger))
    assert verdict.clean
    assert verdict.ok == 40
    await equal(cluster, client)
    assert await here.dead() == 0
    await client.close()
