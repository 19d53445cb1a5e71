"""Files over the bus: content-addressed chunks on the sender's own subject, assembled and checked on arrival.

What a file contains is not looked at here.
"""

import asyncio
import hashlib
from collections.abc import Iterable

import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from shared.contracts.registry import CHUNK, file_subject
from shared.runtime.streams import FILE

OURS = "yiqi"
"""The sender's token of files that we make for others (a marked-up workbook)."""


MOST_CHUNKS = 1280
"""Of 16 KiB, the largest file that anybody may refer to: nobody makes us ask for a million of one byte."""


class Missing(Exception):
    """The file was not sent, or not completely, or is not what its hash says."""


async def send(client: Client, publisher: str, data: bytes) -> str:
    """Send a file ahead of the event that refers to it; returns its SHA-256. Sending it again is harmless."""
    sha256 = hashlib.sha256(data).hexdigest()
    await store(client, publisher, sha256, (data[n : n + CHUNK] for n in range(0, len(data), CHUNK)))
    return sha256


async def store(client: Client, publisher: str, sha256: str, chunks: Iterable[bytes]) -> bool:
    """The chunks of a file that is what its hash says; whether any of them was new."""
    js = client.jetstream(timeout=5)
    new = False
    for index, chunk in enumerate(chunks):
        try:
            ack = await js.publish(
                file_subject(publisher, sha256, index),
                chunk,
                stream=FILE,
                headers={"Nats-Msg-Id": f"{publisher}:{sha256}:{index}"},
            )
            new |= not ack.duplicate
        except nats.js.errors.APIError as error:
            # One message a subject, and the first stays: this chunk is there already. A full stream says the same number.
            if error.err_code != 10077 or "per subject" not in (error.description or ""):
                raise
    return new


async def fetch(js: JetStreamContext, publisher: str, sha256: str, size: int | None = None) -> bytes:
    """The file that `publisher` sent. Chunks are read by subject, so their order of arrival is of no matter."""
    parts: list[bytes] = []
    total = 0
    while size is None or total < size:
        if len(parts) == MOST_CHUNKS:
            raise Missing(f"分块过多，每块{CHUNK // 1024}KiB即可")
        subject = file_subject(publisher, sha256, len(parts))
        try:
            found = await asyncio.wait_for(js.get_last_msg(FILE, subject, direct=True), 5)
        except nats.js.errors.NotFoundError:
            if size is None and parts:
                break
            raise Missing(f"第{len(parts) + 1}块没有收到") from None
        if not found.data:
            raise Missing(f"第{len(parts) + 1}块是空的")
        parts.append(found.data)
        total += len(parts[-1])
    data = b"".join(parts)
    parts.clear()
    if (size is not None and total != size) or hashlib.sha256(data).hexdigest() != sha256:
        raise Missing("内容与 sha256 或 size 不符")
    return data
