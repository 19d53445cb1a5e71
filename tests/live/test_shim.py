"""What one message does to nats-py as it comes, and does not do to it as repaired by `shared/runtime/shim.py`.

Each scenario runs in a process of its own, once with the repairs and once without: without, it must fail,
or the repair is no longer needed.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
import pytest
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from shared.runtime import shim
from shared.runtime.embedded import Nats, eventually
from shared.runtime.pull import Pull, leave

Hpub = Callable[..., None]

READER = """
import asyncio, json, os, sys, time
import nats
from shared.runtime import shim

url, repaired, stream, patience = sys.argv[1], sys.argv[2] == "repaired", sys.argv[3], float(sys.argv[4])
if repaired:
    shim.install()

async def quiet(error):
    pass

async def main():
    client = await nats.connect(url, error_cb=quiet, allow_reconnect=False)
    subscription = await client.jetstream(timeout=2).pull_subscribe_bind(durable="reader", stream=stream)
    bodies, started, headers = [], time.monotonic(), []
    while len(bodies) < 3 and time.monotonic() < started + patience:
        try:
            for message in await asyncio.wait_for(subscription.fetch(20, timeout=1), 2):
                bodies.append(message.data.decode())
                headers.append(message.headers)
                await message.ack()
        except Exception as error:
            last = error
    print(json.dumps({"bodies": bodies, "headers": headers}), flush=True)
    os._exit(0)

asyncio.run(main())
"""


async def _streams(url: str, names: Sequence[str]) -> None:
    """Anew, each with a consumer; a stream `H1` takes `h1.>`."""
    client = await nats.connect(url)
    js = client.jetstream()
    for name in names:
        with suppress(nats.js.errors.NotFoundError):
            await js.delete_stream(name)
        await js.add_stream(name=name, subjects=[f"{name.lower()}.>"])
        reader = ConsumerConfig(durable_name="reader", ack_policy=AckPolicy.EXPLICIT, ack_wait=60)
        await js.add_consumer(name, reader)
    await client.close()


BATCHES = """
import asyncio, json, os, sys, time
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub
from shared.runtime import shim

url, repaired = sys.argv[1], sys.argv[2] == "repaired"
if repaired:
    shim.install()
broker = NatsBroker(url, logger=None, apply_types=False)

async def raw(message):
    return message.raw_message

@broker.subscriber(
    "batches.x", stream=JStream("BATCHES", declare=False), durable="reader", decoder=raw, no_reply=True,
    pull_sub=PullSub(batch_size=20, batch=True, timeout=1.5), ack_policy=AckPolicy.MANUAL,
)
async def receive(messages):
    end(m.data.decode() for m in messages)

def end(bodies):
    print(json.dumps({"bodies": [*bodies], "seconds": time.monotonic() - published}), flush=True)
    os._exit(0)

async def main():
    global published
    await broker.start()
    published = time.monotonic()
    asyncio.get_running_loop().call_later(4, end, [])
    await broker.publish(b"late", "batches.x", stream="BATCHES")
    await asyncio.Event().wait()

asyncio.run(main())
"""


def run(script: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


PLAIN = b"NATS/1.0\r\nA: b\r\n\r\n"
HOSTILE: dict[str, tuple[bytes, bytes]] = {
    "a header block of its first line": (b".x", b"NATS/1.0"),
    "Status: 404": (b".x", b"NATS/1.0\r\nStatus: 404\r\n\r\n"),
    "Status: 409": (b".x", b"NATS/1.0\r\nStatus: 409\r\n\r\n"),
    "Status: 500": (b".x", b"NATS/1.0\r\nStatus: 500\r\n\r\n"),
    "Status: 100": (b".x", b"NATS/1.0\r\nStatus: 100\r\n\r\n"),
    "a subject that is not UTF-8": (b".\xff\xfe", b"NATS/1.0\r\nA: b\r\n\r\n"),
}
HARMLESS: dict[str, tuple[bytes, bytes]] = {
    "no header": (b".x", b"NATS/1.0\r\n\r\n"),
    "an inline status": (b".x", b"NATS/1.0 404 No Messages\r\n\r\n"),
    "status in small letters": (b".x", b"NATS/1.0\r\nstatus: 404\r\n\r\n"),
    "a status of words": (b".x", b"NATS/1.0\r\nStatus: accepted\r\n\r\n"),
    "values that are not UTF-8": (b".x", b"NATS/1.0\r\nA: \xff\xfe\r\nB\xff: 1\r\n\r\n"),
    "a NUL": (b".x", b"NATS/1.0\r\nA: a\0b\r\n\r\n"),
    "no colon": (b".x", b"NATS/1.0\r\nnonsense\r\n\r\n"),
    "a thousand headers": (
        b".x",
        b"NATS/1.0\r\n" + b"".join(b"H%d: x\r\n" % n for n in range(1000)) + b"\r\n",
    ),
}


SCENARIOS = [
    *(("repaired", name) for name in (*HOSTILE, *HARMLESS)),
    *(("as it comes", name) for name in HOSTILE),
]


@pytest.fixture(scope="module")
def received(nats_server: Nats, hpub: Hpub) -> dict[tuple[str, str], list[str]]:
    """What a client gets of a message and its two neighbours, for every scenario at once: mostly it waits."""
    streams = {scenario: f"H{n}" for n, scenario in enumerate(SCENARIOS)}
    asyncio.run(_streams(nats_server.url, list(streams.values())))

    def play(scenario: tuple[str, str]) -> list[str]:
        how, message = scenario
        subject, header = {**HOSTILE, **HARMLESS}[message]
        prefix = streams[scenario].lower().encode()
        hpub(nats_server.port, prefix + b".x", PLAIN, b"before")
        hpub(nats_server.port, prefix + subject, header, b"hostile")
        hpub(nats_server.port, prefix + b".x", PLAIN, b"after")
        patience = "20" if how == "repaired" else "2.5"
        bodies: list[str] = run(READER, nats_server.url, how, streams[scenario], patience)["bodies"]
        return bodies

    with ThreadPoolExecutor(6) as pool:
        return dict(zip(SCENARIOS, pool.map(play, SCENARIOS), strict=True))


@pytest.mark.parametrize("message", [*HOSTILE, *HARMLESS])
def test_a_repaired_client_gets_the_message_and_its_neighbours(
    received: dict[tuple[str, str], list[str]], message: str
) -> None:
    assert received["repaired", message] == ["before", "hostile", "after"]


@pytest.mark.parametrize("message", HOSTILE)
def test_without_the_repair_it_does_not(received: dict[tuple[str, str], list[str]], message: str) -> None:
    assert set(received["as it comes", message]) < {"before", "hostile", "after"}


def test_headers_are_text_whatever_else_is_installed(nats_server: Nats, hpub: Hpub) -> None:
    """`fast_mail_parser`, which other tests use, changes how nats-py reads headers; the control shows it."""
    found = {}
    for how in ("repaired", "as it comes"):
        asyncio.run(_streams(nats_server.url, [stream := "PLAIN-" + how.partition(" ")[0]]))
        for n in range(3):
            hpub(nats_server.port, stream.lower().encode() + b".x", PLAIN, b"%d" % n)
        found[how] = run(READER, nats_server.url, how, stream, "20")["headers"]
    assert found == {"repaired": [{"A": "b"}] * 3, "as it comes": [{"A": ["b"]}] * 3}


def test_a_batch_is_what_has_arrived(nats_server: Nats) -> None:
    asyncio.run(_streams(nats_server.url, ["BATCHES"]))
    found = run(BATCHES, nats_server.url, "repaired")
    assert found["bodies"] == ["late"]
    assert found["seconds"] < 1.0


def test_without_the_repair_a_batch_that_is_not_full_comes_late_or_is_lost(nats_server: Nats) -> None:
    """FastStream asks on until its batch is full or its time is over, and what nats-py raises then escapes its
    loop together with the messages: they come again after ack_wait."""
    asyncio.run(_streams(nats_server.url, ["BATCHES"]))
    assert run(BATCHES, nats_server.url, "as it comes")["seconds"] > 1.4


# --- fetch in one process ----------------------------------------------------------------------------


async def subscribed(js: JetStreamContext, stream: str) -> Pull:
    subscription = await js.pull_subscribe_bind(durable="reader", stream=stream)
    assert isinstance(subscription, Pull)
    return subscription


@asynccontextmanager
async def reading(server: Nats, stream: str) -> AsyncIterator[tuple[JetStreamContext, Pull]]:
    """A fresh stream, and a subscription of its consumer `reader`."""
    shim.install()
    await _streams(server.url, [stream])
    client = await nats.connect(server.url, reconnect_time_wait=0.1, max_reconnect_attempts=-1)
    try:
        js = client.jetstream(timeout=5)
        yield js, await subscribed(js, stream)
    finally:
        await client.close()


async def collect(subscription: Pull, n: int, batch: int = 20) -> list[str]:
    """The bodies of `n` messages, as FastStream's loop asks for them."""
    bodies: list[str] = []
    while len(bodies) < n:
        with suppress(TimeoutError):
            for message in await subscription.fetch(batch, timeout=1):
                bodies.append(message.data.decode())
                await message.ack()
    return bodies


async def test_one_request_stands_however_often_it_is_asked(nats_server: Nats) -> None:
    async with reading(nats_server, "STANDING") as (js, subscription):
        for _ in range(3):
            with pytest.raises(nats.errors.TimeoutError):
                await subscription.fetch(20, timeout=0.1)
        assert (await js.consumer_info("STANDING", "reader")).num_waiting == 1


@pytest.mark.parametrize("most_bytes", [Pull.most_bytes, 2000], ids=["in number", "in bytes"])
async def test_requests_do_not_pile_up_as_they_are_used_up_and_run_out(
    nats_server: Nats, most_bytes: int
) -> None:
    """Every request ends with a status, which may come when the next one stands already."""
    async with reading(nats_server, "PILE") as (js, subscription):
        subscription.stands, subscription.most_bytes = 0.2, most_bytes
        for n in range(200):
            await js.publish("pile.x", str(n).encode())
        assert await collect(subscription, 200, batch=7) == [str(n) for n in range(200)]
        for _ in range(20):
            with suppress(TimeoutError):
                await subscription.fetch(7, timeout=0.15)
            info = await js.consumer_info("PILE", "reader")
            assert (info.num_waiting or 0) <= 1


async def test_everything_comes_once_and_in_order_in_batches_of_at_most_what_was_asked(
    nats_server: Nats,
) -> None:
    async with reading(nats_server, "ORDERLY") as (js, subscription):
        sizes: list[int] = []
        fetch = subscription.fetch

        async def measured(*arguments: Any, **more: Any) -> Any:
            messages = await fetch(*arguments, **more)
            sizes.append(len(messages))
            # Never more in our hands than this batch and another.
            assert len(subscription.waiting()) <= 20
            return messages

        subscription.fetch = measured  # type: ignore[method-assign]
        publishing = asyncio.gather(*(js.publish("orderly.x", str(n).encode()) for n in range(300)))
        bodies = await collect(subscription, 300)
        await publishing
        assert bodies == [((await js.get_msg("ORDERLY", n)).data or b"").decode() for n in range(1, 301)]
        assert max(sizes) <= 20


async def test_a_request_that_died_with_its_connection_is_asked_again(tmp_path: Path) -> None:
    with Nats(tmp_path / "nats", sync_always=False) as server:
        async with reading(server, "REBORN") as (js, subscription):
            with pytest.raises(nats.errors.TimeoutError):
                await subscription.fetch(20, timeout=0.1)
            server.kill()
            server.start()
            client = subscription._nc
            await eventually(lambda: client.is_connected and client.stats["reconnects"], 10, "the client")
            await js.publish("reborn.x", b"after")
            # Sooner than the request would have ended that the old server forgot.
            assert await asyncio.wait_for(collect(subscription, 1), subscription.stands / 2) == ["after"]


async def test_who_leaves_gives_back_what_came_and_gets_no_more(nats_server: Nats) -> None:
    async with reading(nats_server, "LEFT") as (js, subscription):
        with pytest.raises(nats.errors.TimeoutError):
            await subscription.fetch(20, timeout=0.1)
        for n in range(5):
            await js.publish("left.x", str(n).encode())
        await eventually(lambda: len(subscription.waiting()) == 5, 5, "what was asked for")
        left = await leave(subscription._nc, [subscription])
        assert [m.data for m in left] == [str(n).encode() for n in range(5)]
        assert subscription.waiting() == []
        for message in left:
            await message.nak()
        await js.publish("left.x", b"5")
        other = await subscribed(js, "LEFT")
        assert sorted(await asyncio.wait_for(collect(other, 6), 10)) == ["0", "1", "2", "3", "4", "5"]
        assert subscription.waiting() == []
        await subscription.unsubscribe()  # as FastStream does afterwards


async def test_who_leaves_gives_back_what_a_fetch_has_taken_and_not_returned(nats_server: Nats) -> None:
    """A fetch that waits for some more holds messages that are in no queue and in no hands."""
    async with reading(nats_server, "MIDWAY") as (js, subscription):
        for n in range(3):
            await js.publish("midway.x", str(n).encode())
        assert await collect(subscription, 3) == ["0", "1", "2"]
        with pytest.raises(nats.errors.TimeoutError):
            await subscription.fetch(20)  # there is no more
        subscription.linger = subscription.most_linger = 1.0
        subscription._last = 3
        fetching = asyncio.create_task(subscription.fetch(20, timeout=5))
        await js.publish("midway.x", b"3")
        await eventually(
            lambda: subscription.waiting() and not subscription.pending_msgs, 5, "the fetch to take it"
        )
        assert [m.data for m in await leave(subscription._nc, [subscription])] == [b"3"]
        with pytest.raises(nats.errors.TimeoutError):
            await fetching
