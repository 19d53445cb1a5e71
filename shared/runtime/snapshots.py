"""A stream with its consumers as one file, and back: JetStream's snapshot API, for which nats-py has no call.

What belongs to one backup, and of which moment it is, is not here.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

CHUNK = 256 * 1024
"""Bytes of one message of a snapshot: the server takes 1 KiB to 1 MiB, and no message may exceed its `max_payload`."""

PATIENCE = 30.0
"""Seconds for the next answer or chunk. The server itself waits 5 s for an acknowledgement of ours."""

FINISH = 600.0
"""Seconds for the server to unpack what it was given and to index it."""


class SnapshotFailed(RuntimeError):
    """the server gave or took no whole snapshot"""


@dataclass(frozen=True)
class Snapshot:
    """What the server said of a stream when it packed it; it wants the same back."""

    config: dict[str, Any]
    state: dict[str, Any]


async def take(client: Client, stream: str, into: BinaryIO) -> Snapshot:
    """Write the stream and its consumers into a file. What arrives at the stream meanwhile is not in it."""
    async with _inbox(client) as (inbox, chunks):
        wish = {"deliver_subject": inbox, "chunk_size": CHUNK}
        answer = await _ask(client, f"$JS.API.STREAM.SNAPSHOT.{stream}", wish)
        number = 0
        while (chunk := await _next(chunks, stream)).data:
            into.write(chunk.data)
            if not chunk.reply:
                continue  # the last one, which need not be full
            number += 1
            # $JS.SNAPSHOT.ACK.<stream>.<id>.<size>.<number>; a gap would be found only when it is unpacked.
            if not chunk.reply.endswith(f".{number}"):
                raise SnapshotFailed(f"{stream}: chunk {number} is missing")
            await client.publish(chunk.reply)
        if (status := (chunk.headers or {}).get("Status", "204")) != "204":
            raise SnapshotFailed(f"{stream}: {status} {(chunk.headers or {}).get('Description', '')}")
    return Snapshot(answer["config"], answer["state"])


async def give(client: Client, stream: str, snapshot: Snapshot, out_of: BinaryIO, *, replicas: int) -> None:
    """Make the stream, which must not exist, of what `take` wrote."""
    config = {**snapshot.config, "num_replicas": replicas}
    answer = await _ask(
        client, f"$JS.API.STREAM.RESTORE.{stream}", {"config": config, "state": snapshot.state}
    )
    subject = answer["deliver_subject"]
    while chunk := out_of.read(CHUNK):
        taken = await client.request(subject, chunk, timeout=PATIENCE)
        if taken.data:
            _sound(json.loads(taken.data), stream)
    _sound(json.loads((await client.request(subject, b"", timeout=FINISH)).data), stream)


async def published(js: JetStreamContext, stream: str, since: datetime) -> set[str]:
    """The ids under which messages were stored since then. After a restore the server itself remembers none of them,
    and would store a second copy."""
    reader = await js.pull_subscribe(
        ">",
        stream=stream,
        config=ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_TIME,
            opt_start_time=since.astimezone(UTC).isoformat(),  # type: ignore[arg-type]  # what the server reads
            headers_only=True,
            mem_storage=True,
            num_replicas=1,
        ),
    )
    found: set[str] = set()
    try:
        left = (await reader.consumer_info()).num_pending or 0
        while left > 0:
            messages = await reader.fetch(min(left, 500), timeout=PATIENCE)
            left -= len(messages)
            found |= {id_ for m in messages if (id_ := (m.headers or {}).get("Nats-Msg-Id"))}
    finally:
        await reader.unsubscribe()
    return found


@asynccontextmanager
async def _inbox(client: Client) -> AsyncIterator[tuple[str, Subscription]]:
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    try:
        yield inbox, subscription
    finally:
        await subscription.unsubscribe()


async def _ask(client: Client, subject: str, wish: dict[str, Any]) -> dict[str, Any]:
    answer = await client.request(subject, json.dumps(wish).encode(), timeout=PATIENCE)
    return _sound(json.loads(answer.data), subject.rpartition(".")[2])


def _sound(answer: dict[str, Any], stream: str) -> dict[str, Any]:
    if error := answer.get("error"):
        raise SnapshotFailed(f"{stream}: {error.get('description', error)}")
    return answer


async def _next(chunks: Subscription, stream: str) -> Any:
    try:
        return await chunks.next_msg(PATIENCE)
    except (TimeoutError, nats.errors.TimeoutError):
        raise SnapshotFailed(f"{stream}: no chunk within {PATIENCE:.0f} s") from None
