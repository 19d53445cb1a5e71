"""A bad line between a program and a server: slow, uneven, losing packets, or dead without either end being told.

This kernel has no `tc netem`; what TCP makes of a lost packet is a pause for everything behind it, and that is what this
does.
"""

import asyncio
import random
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self

from shared.runtime.embedded import HOST, free_port

PACKET = 1448
AGAIN = 0.2
"""Seconds, besides the way there and back, after which a packet that was not answered is sent again."""


class Line:
    """Relays to a port of this machine, in a thread of its own; `delay`, `jitter` and `loss` may change at any time."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.port = free_port()
        self.delay = self.jitter = self.loss = 0.0
        self._silent: set[object] = set()
        self._open: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="line")

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def impair(self, delay: float, jitter: float, loss: float) -> None:
        self.delay, self.jitter, self.loss = delay, jitter, loss

    def go_silent(self) -> None:
        """Nothing passes any more on the connections that there are, and nobody is told; new ones are as before."""
        self._silent |= self._open

    def _do(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, HOST, self.port)

    async def _close(self) -> None:
        self._server.close()
        connections = list(self._open)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._connected(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        task.add_done_callback(self._silent.discard)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            there, back = await asyncio.open_connection(HOST, self.to)
            ends.append(back)
            task = asyncio.current_task()
            async with asyncio.TaskGroup() as both:
                both.create_task(self._relay(task, reader, back))
                both.create_task(self._relay(task, there, writer))
        except OSError:
            pass  # nobody listens there: hang up, as the server would
        finally:
            for end in ends:
                end.transport.abort()
                with suppress(OSError):
                    await end.wait_closed()

    async def _relay(
        self, connection: object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        sent: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arrivals = asyncio.create_task(self._arrive(connection, sent, writer))
        due = 0.0
        try:
            with suppress(OSError):
                while content := await reader.read(PACKET):
                    due = max(due, self._loop.time() + self._takes())
                    sent.put_nowait((due, content))
            sent.put_nowait((due, b""))
            with suppress(OSError):
                await arrivals
        finally:
            arrivals.cancel()

    async def _arrive(
        self, connection: object, sent: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, content = await sent.get()
            if (early := due - self._loop.time()) > 0:
                await asyncio.sleep(early)
            if connection in self._silent:
                await self._loop.create_future()  # for ever
            if not content:
                writer.write_eof()
                return
            writer.write(content)
            await writer.drain()

    def _takes(self) -> float:
        way: float = self.delay + random.uniform(-self.jitter, self.jitter)
        lost = 0
        while random.random() < self.loss:
            lost += 1
        return way + (2.0**lost - 1) * (2 * self.delay + AGAIN)
