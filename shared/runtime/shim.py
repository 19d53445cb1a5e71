"""Five repairs of nats-py 2.16, without which one hostile or unlucky message stops a service.

Nothing else is patched, and nothing of FastStream is. Each repair names the defect it closes; delete it
when upstream does (`tests/live/test_shim.py` fails without them).
"""

import asyncio
from typing import Any

import nats.aio.client
from nats.aio.client import Client
from nats.js.client import JetStreamContext

from shared.runtime.pull import Pull

_process_headers = Client._process_headers
_build_message = Client._build_message


async def _headers(self: Client, headers: Any) -> Any:
    """A stored message whose header block is only `NATS/1.0` raises IndexError in the read loop, which
    then ends without a word: `is_connected` stays True and nothing is received any more."""
    try:
        return await _process_headers(self, headers)
    except Exception as error:  # noqa: BLE001 - whatever a hostile block raises, the read loop must go on
        return {"X-Malformed-Headers": type(error).__name__}


def _message(self: Client, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> Any:
    """fetch() takes any `Status` header for a status of the server. On a stored message (its reply is an
    ack subject) the publisher wrote it: such a message would be skipped for ever, or break the batch.

    A subject that is not UTF-8, which servers take and store, raises in the read loop and ends it too."""
    if not subject.isascii():
        subject = subject.decode("utf-8", "replace").encode()
    if headers and reply.startswith(b"$JS.ACK."):
        forged = [name for name in headers if name.lower() == "status"]
        if forged:
            headers = dict(headers)
            for name in forged:
                headers["X-Forged-" + name] = headers.pop(name)
    return _build_message(self, sid, subject, reply, data, headers)


def read() -> None:
    """What any process of ours needs that reads messages, a command too; before the first connection."""
    Client._process_headers = _headers  # type: ignore[method-assign]
    Client._build_message = _message  # type: ignore[method-assign]
    # Where somebody has installed `fast_mail_parser`, nats-py reads headers with it and their values are
    # lists: no event in binary mode could be read, and the whole batch would come again for ever.
    vars(nats.aio.client)["parse_email"] = None


def install() -> None:
    """Once per service, before the first connection: its batches, too, are fetched by us."""
    assert asyncio.TimeoutError is TimeoutError  # since Python 3.11; `Pull.fetch` relies on it
    read()
    JetStreamContext.PullSubscription = Pull  # type: ignore[misc]
