"""How a service takes messages of a consumer: nats-py's pull subscription with a fetch of our own.

What the messages are is not here; `shim.py` puts it in nats-py's place, so FastStream uses it unawares.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext


class Pull(JetStreamContext.PullSubscription):
    """One request of a batch stands at the server, so that a message costs no round trip of its own. What comes
    while the service is busy waits here (`waiting`): whoever holds a message must say so before its ack_wait
    ends, and give it back (`leave`) when it stops."""

    stands = 10.0
    """Seconds of a request."""
    most_bytes = 4 << 20
    """Of a request: as much again is in hand, and a process has 100 MB. A message has at most 1 MiB."""

    linger, most_linger = 0.001, 0.008
    """Seconds to wait for more, for every message of the last batch but one; at most."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._standing = 0
        """Messages that are still to come on the request that stands."""
        self._until = 0.0
        self._connection = 0
        self._refused = False
        self._last = 1
        self._partial = False
        self._taken: list[Msg] = []
        """What a `fetch` that still waits for more has taken from the queue."""

    async def fetch(
        self, batch: int = 1, timeout: float | None = 5, heartbeat: float | None = None
    ) -> list[Msg]:
        """Whatever has come, at once; if nothing has, the first that comes within `timeout`.

        nats-py waits for a full batch until the timeout, and raises a bare asyncio.TimeoutError, which escapes
        FastStream's loop together with the messages collected so far: they come back after ack_wait. FastStream
        asks again until its batch is full, so the call after a partial batch says that there is no more.
        """
        if self._partial:
            self._partial = False
            raise nats.errors.TimeoutError
        self._take(batch)
        if not self._taken:
            await self._ask(batch)
            try:
                async with asyncio.timeout(timeout):
                    self._count(await self._sub._pending_queue.get())
            except TimeoutError:
                raise nats.errors.TimeoutError from None
            self._take(batch)
        if not self._taken:
            # A request ended. What neither ran out nor was used up (no consumer, no leader) would end at once again.
            await asyncio.sleep(0.25 if self._refused else 0)
            raise nats.errors.TimeoutError
        if len(self._taken) < batch and self._last > 1:
            # Under load, batches of a few would cost more than the wait for some more; alone, a message never waits.
            await asyncio.sleep(min(self.linger * (self._last - 1), self.most_linger))
            self._take(batch)
        await self._ask(batch)
        messages, self._taken = self._taken, []
        if not messages:  # we left meanwhile
            raise nats.errors.TimeoutError
        self._last = len(messages)
        self._partial = len(messages) < batch
        return messages

    async def _ask(self, batch: int) -> None:
        """See to it that a request stands: never two, and none that would wait in a client without connection."""
        if not self._nc.is_connected:
            return
        now, connection = time.monotonic(), self._nc.stats["reconnects"]
        # Past its time its status was lost; over another connection it was forgotten with the old one.
        if self._standing > 0 and now < self._until and connection == self._connection:
            return
        request = {"batch": batch, "expires": int(self.stands * 1e9), "max_bytes": self.most_bytes}
        self._standing, self._until, self._connection = batch, now + self.stands + 1, connection
        await self._nc.publish(self._nms, json.dumps(request).encode(), self._deliver)

    def _take(self, batch: int) -> None:
        """Of what has come, as much as makes a batch."""
        queue = self._sub._pending_queue
        while len(self._taken) < batch and not queue.empty():
            self._count(queue.get_nowait())

    def _count(self, message: Msg) -> None:
        """A message, or the status that ends a request: it may be the one before, so it takes along only what
        that one had left."""
        self._sub._pending_queue.task_done()
        self._sub._pending_size -= len(message.data)
        if JetStreamContext.is_status_msg(message):
            left = (message.headers or {}).get("Nats-Pending-Messages")
            self._refused = left is None
            self._standing = max(0, self._standing - int(left)) if left else 0
        else:
            self._standing = max(0, self._standing - 1)
            self._taken.append(message)

    def waiting(self) -> list[Msg]:
        """The messages that have come and that no `fetch` has returned yet."""
        queued = self._sub._pending_queue._queue  # type: ignore[attr-defined]  # asyncio has no way to look
        return [*self._taken, *(m for m in queued if not JetStreamContext.is_status_msg(m))]


async def leave(client: Client, subscriptions: Sequence[Pull]) -> list[Msg]:
    """Have nothing more sent to us; returns what has come and no `fetch` has returned. The subscriptions
    themselves stay, for FastStream to end."""
    for subscription in subscriptions:
        await client._send_unsubscribe(subscription._sub._id)
    await client.flush(timeout=5)
    left: list[Msg] = []
    for subscription in subscriptions:
        subscription._take(len(subscription._taken) + subscription.pending_msgs)
        left += subscription._taken
        subscription._taken = []  # a fetch that waits for more returns nothing now
    return left
