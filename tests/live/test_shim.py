"""What one message does to nats-py as it comes, and does not do to it as repaired by `shared/runtime/shim.py`.

Each scenario runs in a process of its own, once with the repairs and once without: without, it must fail,
or the repair is no longer needed.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats
import nats.js.errors
import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from shared.runtime.embedded import Nats

Hpub = Callable[[int, bytes, bytes, bytes], None]

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
    bodies, started = [], time.monotonic()
    while len(bodies) < 3 and time.monotonic() < started + patience:
        try:
            for message in await asyncio.wait_for(subscription.fetch(20, timeout=1), 2):
                bodies.append(message.data.decode())
                await message.ack()
        except Exception as error:
            last = error
    print(json.dumps({"bodies": bodies}), flush=True)
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
