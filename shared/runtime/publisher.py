"""Pipelined JetStream publishing: many messages in flight, every PubAck awaited, none for ever.

nats-py's own `publish_async` is not used: its futures never resolve on an API error or a lost reply, and
each call costs a task. The retry is not here: what is not acknowledged stays in the outbox.
"""

import asyncio
import itertools
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from shared.runtime import metrics, traces

log = logging.getLogger("yiqi.publisher")

PATIENCE = 6.0
"""Seconds for the PubAcks of one call; the worst seen over a leader's death is 5.5."""


@dataclass(frozen=True, slots=True)
class Message:
    id: UUID
    stream: str
    subject: str
    body: bytes


class Publisher:
    """`publish` returns the ids that the streams acknowledged, in any number of calls at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: dict[str, asyncio.Future[bool]] = {}
        self._tokens = itertools.count()
        self._prefix = ""

    async def start(self) -> None:
        inbox = self._client.new_inbox()
        self._prefix = inbox + "."
        await self._client.subscribe(inbox + ".*", cb=self._acknowledged)

    async def _acknowledged(self, reply: Msg) -> None:
        future = self._waiting.get(reply.subject)
        if future is None or future.done():
            return
        try:
            answer = json.loads(reply.data) if reply.data else {}
        except ValueError:
            answer = {}
        if answer.get("seq") and not answer.get("error"):
            future.set_result(True)
            return
        log.error(
            "publish refused", extra={"answer": (answer.get("error") or {}).get("description", "no stream")}
        )
        future.set_result(False)

    async def publish(self, messages: Sequence[Message], patience: float = PATIENCE) -> list[UUID]:
        loop = asyncio.get_running_loop()
        futures: list[tuple[UUID, str, asyncio.Future[bool]]] = []
        try:
            for message in messages:
                reply = f"{self._prefix}{next(self._tokens)}"
                future: asyncio.Future[bool] = loop.create_future()
                self._waiting[reply] = future
                futures.append((message.id, reply, future))
                await self._client.publish(
                    message.subject,
                    message.body,
                    reply=reply,
                    headers={
                        "Nats-Msg-Id": str(message.id),
                        "Nats-Expected-Stream": message.stream,
                        "Content-Type": "application/cloudevents+json",
                        **traces.header(message.body),
                    },
                )
            await asyncio.wait([f for _, _, f in futures], timeout=patience)
        except (NatsError, OSError) as error:
            log.warning("publish interrupted", extra={"error_type": type(error).__name__})
        finally:
            for _, reply, _ in futures:
                self._waiting.pop(reply, None)
        done = [
            id_ for id_, _, future in futures if future.done() and not future.cancelled() and future.result()
        ]
        metrics.PUBLISHED.inc(len(done))
        if len(done) < len(messages):
            metrics.UNPUBLISHED.inc(len(messages) - len(done))
            log.warning("publish not acknowledged", extra={"messages": len(messages) - len(done)})
        return done
