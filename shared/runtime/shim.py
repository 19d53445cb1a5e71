"""Four repairs of nats-py 2.16, without which one hostile or unlucky message stops a service.

Nothing else is patched, and nothing of FastStream is. Each repair names the defect it closes; delete it
when upstream does (`tests/live/test_shim.py` fails without them).
"""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.js.client import JetStreamContext

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


async def _fetch(self: Any, batch: int = 1, timeout: float | None = 5, heartbeat: float | None = None) -> Any:
    """Whatever has come, at once; if nothing has, the first that comes within `timeout`.

    nats-py waits for a full batch until the timeout, and raises a bare asyncio.TimeoutError, which escapes
    FastStream's loop together with the messages collected so far: they come back after ack_wait. FastStream
    asks again until its batch is full, so the call after a partial batch says that there is no more.

    One request of a batch stands at the server, so that a message costs no round trip of its own. What comes
    while the service is busy waits in the subscription (`waiting`): whoever holds a message must say so
    before its ack_wait ends.
    """
    if getattr(self, "_partial", False):
        self._partial = False
        raise nats.errors.TimeoutError
    messages = _take(self, batch)
    if not messages:
        await _ask(self, batch)
        try:
            async with asyncio.timeout(timeout):
                _count(self, messages, await self._sub._pending_queue.get())
        except TimeoutError:
            raise nats.errors.TimeoutError from None
        messages += _take(self, batch - len(messages))
    if not messages:
        # A request ended. What neither ran out nor was used up (no consumer, no leader) would end at once again.
        await asyncio.sleep(0.25 if self._refused else 0)
        raise nats.errors.TimeoutError
    if len(messages) < batch and (pause := LINGER * (getattr(self, "_last", 1) - 1)):
        # Under load, batches of a few would cost more than the wait for some more; alone, a message never waits.
        await asyncio.sleep(min(pause, MOST_LINGER))
        messages += _take(self, batch - len(messages))
    await _ask(self, batch)
    self._last = len(messages)
    self._partial = len(messages) < batch
    return messages


LINGER, MOST_LINGER = 0.001, 0.008
"""Seconds to wait for more, for every message of the last batch but one; at most."""


STANDS = 10.0
"""Seconds of a pull request."""
MOST_WAITING = 4 << 20
"""Bytes of a pull request: as much again is in hand, and a process has 100 MB. A message has at most 1 MiB."""


async def _ask(self: Any, batch: int) -> None:
    """See to it that a request stands: never two, and none that would wait in a client without connection."""
    if not self._nc.is_connected:
        return
    now, connection = time.monotonic(), self._nc.stats["reconnects"]
    # Past its time its status was lost; over another connection it was forgotten with the old one.
    stands = now < getattr(self, "_until", 0) and connection == self._connection
    if stands and self._standing > 0:
        return
    request = {"batch": batch, "expires": int(STANDS * 1e9), "max_bytes": MOST_WAITING}
    self._standing, self._until, self._connection = batch, now + STANDS + 1, connection
    await self._nc.publish(self._nms, json.dumps(request).encode(), self._deliver)


def _take(self: Any, most: int) -> list[Any]:
    """At most `most` of what has come."""
    messages: list[Any] = []
    queue = self._sub._pending_queue
    while len(messages) < most and not queue.empty():
        _count(self, messages, queue.get_nowait())
    return messages


def _count(self: Any, messages: list[Any], message: Any) -> None:
    """A message, or the status that ends a request: it may be the one before, so it takes along only what that
    one had left."""
    self._sub._pending_queue.task_done()
    self._sub._pending_size -= len(message.data)
    if JetStreamContext.is_status_msg(message):
        left = message.headers.get("Nats-Pending-Messages")
        self._refused = left is None
        self._standing = max(0, self._standing - int(left)) if left else 0
    else:
        self._standing = max(0, self._standing - 1)
        messages.append(message)


def waiting(subscription: Any) -> list[Any]:
    """The messages that have come and that no `fetch` has returned yet."""
    return [m for m in subscription._sub._pending_queue._queue if not JetStreamContext.is_status_msg(m)]


async def leave(client: Client, subscriptions: Sequence[Any]) -> list[Any]:
    """Have nothing more sent to us; returns what has come and no `fetch` has returned. The subscriptions
    themselves stay, for FastStream to end."""
    for subscription in subscriptions:
        await client._send_unsubscribe(subscription._sub._id)
    await client.flush(timeout=5)
    return [m for s in subscriptions for m in _take(s, s._sub._pending_queue.qsize())]


def install() -> None:
    """Once per process, before the first connection."""
    assert asyncio.TimeoutError is TimeoutError  # since Python 3.11; the repair above relies on it
    Client._process_headers = _headers  # type: ignore[method-assign]
    Client._build_message = _message  # type: ignore[method-assign]
    JetStreamContext.PullSubscription.fetch = _fetch  # type: ignore[method-assign]
