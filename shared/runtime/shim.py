"""Four repairs of nats-py 2.16, without which one hostile or unlucky message stops a service.

Nothing else is patched, and nothing of FastStream is. Each repair names the defect it closes; delete it
when upstream does (`tests/live/test_shim.py` fails without them).
"""

import asyncio
import json
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
    """Whatever there is, at once; if there is nothing, the first that comes within `timeout`.

    nats-py waits for a full batch until the timeout, and raises a bare asyncio.TimeoutError, which escapes
    FastStream's loop together with the messages collected so far: they come back after ack_wait. FastStream
    asks again until its batch is full, so the call after a partial batch says that there is no more.

    No request outlives its call: messages that the server sent to a busy service would wait in the client
    with their ack_wait running, and an outage would spend their deliveries.
    """
    if getattr(self, "_partial", False):
        self._partial = False
        raise nats.errors.TimeoutError
    messages: list[Any] = []
    while not self._sub._pending_queue.empty():
        _keep(messages, await self._sub.next_msg(1))
    if not getattr(self, "_empty", False):
        await _ask(self, messages, batch, {"no_wait": True}, 5)
    if not messages:
        patience = timeout or 5
        await _ask(self, messages, 1, {"expires": int(max(0.1, patience - 0.2) * 1e9)}, patience)
        if messages:
            # What woke us is seldom alone: without this, batches would be of 1, many, 1, many.
            await _ask(self, messages, batch, {"no_wait": True}, 5)
    # After a partial batch there was nothing more a moment ago: wait for the next, do not ask again at once.
    self._partial = self._empty = len(messages) < batch
    if not messages:
        self._partial = False
        raise nats.errors.TimeoutError
    return messages


async def _ask(self: Any, messages: list[Any], most: int, request: dict[str, Any], patience: float) -> None:
    """One pull request: collect until there are `most`, the server says that there is no more, or silence."""
    if len(messages) >= most:
        return
    request = {"batch": most - len(messages), **request}
    await self._nc.publish(self._nms, json.dumps(request).encode(), self._deliver)
    while len(messages) < most:
        try:
            message = await self._sub.next_msg(patience)
        except TimeoutError:
            return
        if not _keep(messages, message):
            return


def _keep(messages: list[Any], message: Any) -> bool:
    """Collect a message; False for a status, which ends a request."""
    if JetStreamContext.is_status_msg(message):
        return False
    messages.append(message)
    return True


def install() -> None:
    """Once per process, before the first connection."""
    assert asyncio.TimeoutError is TimeoutError  # since Python 3.11; the repair above relies on it
    Client._process_headers = _headers  # type: ignore[method-assign]
    Client._build_message = _message  # type: ignore[method-assign]
    JetStreamContext.PullSubscription.fetch = _fetch  # type: ignore[method-assign]
