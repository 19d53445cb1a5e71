"""The door's connection to the bus: publish for an agency, ask on its behalf, and say when the bus is away.

What may be said is judged before; what it means is judged by whoever hears it.
"""

import json
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import PubAck

from services.intake.door.judging import Fit
from shared.contracts.envelope import CONTENT_TYPE
from shared.runtime import connection, files, metrics, shim
from shared.runtime.accounts import DOOR, inbox
from shared.runtime.settings import Settings
from shared.runtime.streams import IN

log = logging.getLogger("yiqi.door")

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds for one answer of the bus. A leader's death may take longer: then the publisher repeats."""


class Away(Exception):
    """The bus did not say that it has it: repeating the same is always right."""


class TooLarge(Exception):
    """More than the stream takes."""


class Bus:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = Client()
        self._ending = False

    async def run(self) -> None:
        """Connect, however long it takes, and stay so: the door answers meanwhile that the bus is away."""
        shim.read()
        tls = connection.tls(self._settings)
        await self._client.connect(
            self._settings.nats_servers,
            name="yiqi-door",
            nkeys_seed=str(self._settings.nats_seed) if self._settings.nats_seed else None,
            tls=tls,
            tls_handshake_first=tls is not None,
            inbox_prefix=inbox(DOOR).encode(),
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=5,
            error_cb=_error,
            closed_cb=self._closed,
        )
        log.info("connected")

    async def close(self) -> None:
        self._ending = True
        await self._client.close()

    async def answers(self) -> bool:
        """Whether the server does; for the page of readiness."""
        try:
            self._connected()
            await self._client.flush(timeout=2)
        except (Away, nats.errors.Error, OSError):
            return False
        return True

    async def publish(self, publisher: str, event: Fit) -> PubAck:
        """As any publisher does, with its own id; the PubAck says that it is stored, not that it is accepted."""
        return await self._asked(
            lambda: self._client.jetstream(timeout=PATIENCE).publish(
                event.subject,
                event.body,
                stream=IN,
                headers={"Nats-Msg-Id": f"{publisher}:{event.id}", "Content-Type": CONTENT_TYPE},
            )
        )

    async def ask(self, subject: str, question: dict[str, Any]) -> dict[str, Any]:
        """Under the token of a publisher: what it is told is of its own only."""
        body = json.dumps(question).encode()
        reply = await self._asked(lambda: self._client.request(subject, body, timeout=PATIENCE))
        try:
            answer = json.loads(reply.data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Away
        return answer

    async def store(self, publisher: str, sha256: str, chunks: Iterable[bytes]) -> bool:
        """A file whose digest has been checked; whether any of it was new."""
        return await self._asked(lambda: files.store(self._client, publisher, sha256, chunks))

    def _connected(self) -> None:
        # A client that reconnects keeps what it is given and sends it later, when nobody waits for it any more.
        if not self._client.is_connected:
            raise Away

    async def _asked(self, question: Callable[[], Awaitable[T]]) -> T:
        self._connected()
        try:
            return await question()
        except nats.js.errors.APIError as error:
            if error.err_code == 10054:
                raise TooLarge from None
            log.error("publish refused", extra={"answer": error.description})
            raise Away from None
        except (nats.errors.Error, OSError, TimeoutError) as error:
            log.warning("bus away", extra={"error_type": type(error).__name__})
            raise Away from None

    async def _closed(self) -> None:
        """For ever: nats-py never reopens. The supervisor starts a fresh process."""
        if not self._ending:
            log.critical("connection to NATS closed, exiting")
            os._exit(1)


async def _error(error: Exception) -> None:
    if connection.forbidden(error):
        metrics.FORBIDDEN.inc()
        log.error("forbidden by the bus", extra={"detail": str(error)[:200]})
        return
    log.warning("nats", extra={"error_type": type(error).__name__, "detail": str(error)[:200]})
