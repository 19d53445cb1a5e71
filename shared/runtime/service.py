"""A service on the bus: FastStream's broker, the watchdogs, health pages, and the once-a-second sweep.

The only module that touches FastStream. What a service does is in its `handlers.py`; how effects happen
once is in `delivery.py`.
"""

import asyncio
import gc
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import nats.errors
import nats.js.errors
from faststream import AckPolicy
from faststream.asgi import AsgiFastStream, AsgiResponse, get
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from faststream.nats.security import NatsNKey, NatsSecurity
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from prometheus_client import make_asgi_app

from shared.contracts.registry import of_subject
from shared.runtime import connection, ledger, metrics, shim, spans, streams
from shared.runtime.accounts import inbox
from shared.runtime.clock import Clock
from shared.runtime.database import Database, connect, head, passes
from shared.runtime.decode import Raw
from shared.runtime.delivery import OFTEN, Delivery, Handler
from shared.runtime.publisher import Publisher
from shared.runtime.pull import leave
from shared.runtime.required import assert_consumers, assert_schema
from shared.runtime.settings import Settings
from shared.runtime.streams import CONSUMERS, Consumer

log = logging.getLogger("yiqi.service")

FROZEN_AFTER = 30.0
"""Seconds without a turn of the event loop after which the process ends itself: it would ignore SIGTERM too."""

STUCK_AFTER = 60.0

SUSPECT = 3
"""Deliveries from which a message is handled alone. Only a process that ended, or a wait of its own, spends them."""


@dataclass
class Context:
    """What a service's own tasks get: the parts that the runtime owns."""

    settings: Settings
    engine: Database
    clock: Clock
    delivery: Delivery
    client: Client
    jetstream: JetStreamContext


Task = Callable[[Context], Awaitable[None]]


@dataclass
class Service:
    """`handlers` by event class (`in`, `evt`, `out`); `tasks` run from start to stop; `sweeps` run every second; `proven` as
    its `Delivery` has it; `counts` are selects of its own for `ledger.py`."""

    name: str
    handlers: Mapping[str, Handler]
    setup: Callable[[Context], Awaitable[None]] | None = None
    tasks: Sequence[Task] = ()
    sweeps: Sequence[Task] = ()
    proven: bool = False
    counts: str = ""

    @property
    def consumers(self) -> tuple[Consumer, ...]:
        return tuple(c for c in CONSUMERS if c.service == self.name)

    def app(self, settings: Settings) -> AsgiFastStream:
        """The ASGI application: importing a service starts nothing, this does not either."""
        shim.install()
        broker = NatsBroker(
            settings.nats_servers,
            name=f"yiqi-{self.name}",
            inbox_prefix=inbox(self.name),
            security=_security(settings),
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=5,
            closed_cb=_closed,
            error_cb=_error,
            graceful_timeout=15.0,
            ack_policy=AckPolicy.MANUAL,
            apply_types=False,
            logger=None,
        )
        state = _State(self, settings, broker)
        for consumer in self.consumers:
            state.subscribe(consumer)
        return AsgiFastStream(
            broker,
            logger=None,
            asgi_routes=[
                ("/livez", get(state.live)),
                ("/readyz", get(state.ready)),
                ("/metrics", make_asgi_app()),
            ],
            on_startup=[state.start],
            after_startup=[state.started],
            on_shutdown=[state.stop],
            after_shutdown=[state.stopped],
        )

    async def run(self, settings: Settings) -> None:
        for ending in (signal.SIGTERM, signal.SIGINT):
            # uvicorn stops in good order and then raises the signal once more, for whoever listened before it.
            signal.signal(ending, _end)
        await self.app(settings).run(
            log_level=logging.WARNING,
            run_extra_options={
                "host": settings.host,
                "port": str(settings.port),
                "access_log": "false",
                "lifespan": "on",
            },
        )


def _count(service: Service) -> Task:
    async def count(context: Context) -> None:
        await ledger.watch(context.engine, service.name, service.counts)

    return count


def _security(settings: Settings) -> NatsSecurity:
    tls = connection.tls(settings)
    if settings.nats_seed is None:
        return NatsSecurity(ssl_context=tls, tls_handshake_first=tls is not None)
    return NatsNKey(settings.nats_seed, ssl_context=tls, tls_handshake_first=tls is not None)


def _end(_signal: int, _frame: Any) -> None:
    raise SystemExit(0)


async def _closed() -> None:
    """Closed is for ever (nats-py never reopens): end at once, the supervisor starts a fresh process."""
    if not _State.stopping:
        log.critical("connection to NATS closed, exiting")
        os._exit(1)


async def _error(error: Exception) -> None:
    if connection.forbidden(error):
        # The caller gets no more than a missing answer.
        metrics.FORBIDDEN.inc()
        log.error("forbidden by the bus", extra={"detail": str(error)[:200]})
        return
    log.warning("nats", extra={"error_type": type(error).__name__, "detail": str(error)[:200]})


class _State:
    """One running service."""

    stopping = False

    def __init__(self, service: Service, settings: Settings, broker: NatsBroker) -> None:
        self.service = service
        self.settings = settings
        self.broker = broker
        self.clock = Clock(settings.clock)
        self.context: Context | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.beat = time.monotonic()
        self.progress: dict[str, tuple[int, float]] = {}
        self.subscribers: list[Any] = []
        self.hand: dict[int, list[Msg]] = {}
        """Batches from their fetch to their acks."""
        self.newer: list[Msg] = []
        """Events that only a later release knows, whose consumer hears them already: its processes will handle them."""
        self.held: set[int] = set()

    # --- messages ---

    def subscribe(self, consumer: Consumer) -> None:
        subscriber = self.broker.subscriber(
            # The consumer exists with its own filters; the subject here only names the subscription.
            consumer.events[0].pattern,
            stream=JStream(consumer.stream, declare=False),
            durable=consumer.durable,
            config=consumer.config(),
            pull_sub=PullSub(batch_size=self.settings.batch, batch=True, timeout=5.0),
            decoder=_raw,
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
            inbox_prefix=f"{inbox(self.service.name)}.".encode(),  # FastStream does not take the broker's
            title=consumer.durable,
        )

        @subscriber
        async def receive(messages: list[Any]) -> None:  # not Msg: FastStream could not describe us with it
            try:
                await self.receive(consumer, messages)
            except Exception:
                log.exception("a batch was not finished with", extra={"consumer": consumer.durable})
                raise  # to FastStream, which tells nobody

        self.subscribers.append(subscriber)

    async def receive(self, consumer: Consumer, messages: list[Msg]) -> None:
        """Commit, publish, acknowledge, in this order: that is the promise of `delivery.py`."""
        assert self.context
        if _State.stopping:
            await _give_back(messages)
            return
        messages = self._known(consumer, messages)
        if not messages:
            return
        self.hand[id(messages)] = messages
        metrics.BATCH.observe(len(messages))
        try:
            pairs = await self._often([(m, _raw_of(m)) for m in messages])
            if any(raw.deliveries >= SUSPECT for _, raw in pairs):
                await self._apart(consumer, pairs)
            else:
                await self._together(consumer, pairs)
        except Exception as error:
            # Nothing is acknowledged: the server delivers again.
            log.exception("batch was not handled", exc_info=error, extra={"consumer": consumer.durable})
        finally:
            del self.hand[id(messages)]

    async def _often(self, batch: list[tuple[Msg, Raw]]) -> list[tuple[Msg, Raw]]:
        """Take over what was delivered too often, before anything else is done that may end us; the rest."""
        assert self.context
        often = [(message, raw) for message, raw in batch if raw.deliveries >= OFTEN]
        if not often:
            return batch
        await self.context.delivery.take_over([raw for _, raw in often])
        for message, _ in often:
            await message.ack()
        return [(message, raw) for message, raw in batch if raw.deliveries < OFTEN]

    def _known(self, consumer: Consumer, messages: list[Msg]) -> list[Msg]:
        """What this release hears. The rest is no fault of its sayer, and nobody may be told so: it is kept, told to be
        in progress, so that it spends no deliveries, and given back when this process makes room for a later release."""
        known, newer = list[Msg](), list[Msg]()
        for message in messages:
            found = of_subject(message.subject)
            (known if found and found[0] in consumer.events else newer).append(message)
        if newer:
            self.newer += newer
            log.warning("of a later release", extra={"consumer": consumer.durable, "messages": len(newer)})
        return known

    async def _together(self, consumer: Consumer, batch: list[tuple[Msg, Raw]]) -> None:
        assert self.context
        waits = await self.context.delivery.handle(consumer.durable, [raw for _, raw in batch])
        # Not flushed: an ack lost with its connection costs a redelivery that the inbox knows.
        for message, raw in batch:
            await _acknowledge(message, raw, waits)

    async def _apart(self, consumer: Consumer, batch: list[tuple[Msg, Raw]]) -> None:
        """One of these may be what ends the process each time that it is handled: it must not take the others along,
        nor be before the same ones each time."""
        assert self.context
        random.shuffle(batch)
        for message, raw in batch:
            await _acknowledge(message, raw, await self.context.delivery.alone(consumer.durable, raw))
            await self.context.client.flush(timeout=5)

    def _in_hand(self) -> Iterator[Msg]:
        """Every message that the server has given us and that we have not acknowledged."""
        yield from self.newer
        for messages in self.hand.values():
            yield from messages
        for subscriber in self.subscribers:
            if subscriber.subscription is not None:
                yield from subscriber.subscription.waiting()

    async def _keep(self) -> None:
        """Tell the server that work goes on: a long workbook must not be delivered twice, and an outage of
        the database, for which batches are held, must not spend their deliveries. What is done within a
        quarter of ack_wait is not told."""
        held = {id(m): m for m in self._in_hand() if not m.is_acked}
        for key in held.keys() & self.held:
            await held[key].in_progress()
        self.held = set(held)

    # --- life ---

    async def start(self) -> None:
        threading.Thread(target=self._guard, name="loop-guard", daemon=True).start()
        name = self.service.name
        metrics.BUILD.labels(name, version("yiqi")).set(1)
        for consumer in self.service.consumers:
            for event in consumer.events:
                # From nothing: the first one would otherwise not be seen to grow.
                metrics.LAG.labels(consumer.durable, event.name)
        spans.export(self.settings.traces, name)
        engine = connect(self.settings.database_url.get_secret_value(), name)
        client = await self.broker.connect()
        jetstream = client.jetstream(timeout=5)
        await assert_consumers(jetstream, self.service.consumers)
        await assert_schema(engine, name)
        publisher = Publisher(client)
        await publisher.start()
        delivery = Delivery(
            name,
            engine,
            publisher,
            self.clock,
            {
                c.durable: ({e.name: e for e in c.events}, self.service.handlers[c.events[0].cls])
                for c in self.service.consumers
            },
            proven=self.service.proven,
        )
        self.context = Context(self.settings, engine, self.clock, delivery, client, jetstream)
        if self.service.setup:
            await self.service.setup(self.context)

    async def started(self) -> None:
        assert self.context
        context = self.context
        self.tasks = [
            asyncio.create_task(self._every(1.0, self._sweep), name="sweep"),
            asyncio.create_task(self._every(streams.ACK_WAIT / 4, self._keep), name="keep"),
            asyncio.create_task(self._every(self.settings.watchdog, self._watch), name="watch"),
            *(
                asyncio.create_task(self._endless(task, context))
                for task in (_count(self.service), *self.service.tasks)
            ),
        ]
        # What is loaded stays for good: the collector need not walk it again, nor after every few hundred rows.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        log.info("started", extra={"consumers": [c.durable for c in self.service.consumers]})

    async def stop(self) -> None:
        _State.stopping = True
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.context is None:
            return
        subscriptions = [s.subscription for s in self.subscribers if s.subscription is not None]
        with suppress(nats.errors.Error, OSError):  # an outage: they come again after ack_wait
            await _give_back([*await leave(self.context.client, subscriptions), *self.newer])

    async def stopped(self) -> None:
        if self.context:
            await self.context.engine.dispose()
        await asyncio.to_thread(spans.finish)
        log.info("stopped")

    async def _endless(self, task: Task, context: Context) -> None:
        """A task that ends by an outage is started again; one that ends otherwise ends the process."""
        while True:
            try:
                await task(context)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.exception("task failed", exc_info=error)
                if not passes(error) and not isinstance(error, nats.errors.Error):
                    os._exit(1)
            await asyncio.sleep(1)

    async def _every(self, seconds: float, step: Callable[[], Awaitable[None]]) -> None:
        # Not for ever: `asyncio.wait_for` of Python 3.11, of which nats-py is full, loses a cancellation that comes
        # together with its result, and `stop` would wait for a step that comes again and again.
        while not _State.stopping:
            try:
                await step()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                level = logging.WARNING if passes(error) else logging.ERROR
                log.log(level, "step failed", exc_info=error, extra={"step": step.__name__})
            self.beat = time.monotonic()
            await asyncio.sleep(seconds)

    async def _sweep(self) -> None:
        assert self.context
        await self.context.delivery.sweep()
        await self.context.delivery.replay()
        for sweep in self.service.sweeps:
            await sweep(self.context)

    async def _watch(self) -> None:
        """A consumer that is gone or changed, or that does not move, is not noticed by the pull loop: it
        asks again for ever, without a log line. The process ends, and starts only on what it expects."""
        assert self.context
        try:
            await self.context.client.flush(timeout=5)
        except (nats.errors.Error, OSError):
            return  # reconnecting; closed_cb decides when that is hopeless
        metrics.CERTIFICATE.set(connection.good_until(self.context.client))
        for consumer in self.service.consumers:
            try:
                info = await self.context.jetstream.consumer_info(consumer.stream, consumer.durable)
            except nats.js.errors.NotFoundError:
                log.critical("consumer is gone, exiting", extra={"consumer": consumer.durable})
                os._exit(1)
            except (nats.errors.Error, nats.js.errors.Error):
                return
            pending, floor = info.num_pending or 0, (info.delivered.consumer_seq if info.delivered else 0)
            metrics.PENDING.labels(consumer.durable).set(pending)
            metrics.UNACKED.labels(consumer.durable).set(info.num_ack_pending or 0)
            last, since = self.progress.get(consumer.durable, (-1, time.monotonic()))
            moved = floor != last or not pending
            self.progress[consumer.durable] = (floor, time.monotonic() if moved else since)
            held = info.num_ack_pending or 0
            if not moved and not held and time.monotonic() - since > STUCK_AFTER:
                log.critical("consumer does not move, exiting", extra={"consumer": consumer.durable})
                os._exit(1)

    def _guard(self) -> None:
        while not _State.stopping:
            time.sleep(1)
            if time.monotonic() - self.beat > FROZEN_AFTER + self.settings.watchdog:
                log.critical("event loop is frozen, exiting")
                os._exit(1)

    # --- pages ---

    async def live(self, _: Any) -> AsgiResponse:
        """The process and its event loop only: restarting does not help against an outage elsewhere."""
        return AsgiResponse(b"ok\n", 200)

    async def ready(self, _: Any) -> AsgiResponse:
        """NATS answers, the database answers, and its schema is the one this code was written for, or a later one: that
        only adds to it (`deploy/README.md`), and both releases run while one takes the other's place."""
        if self.context is None:
            return AsgiResponse(b"starting\n", 503)
        try:
            await self.context.client.flush(timeout=2)
            async with self.context.engine.connect() as conn:
                found = await conn.execute(f"select version_num from {self.service.name}.alembic_version")
                revision = found.scalar()
        except Exception as error:  # noqa: BLE001 - whatever it is, it makes us not ready
            return AsgiResponse(f"{type(error).__name__}\n".encode(), 503)
        wanted = head(self.service.name)
        if revision is None or revision < wanted:
            return AsgiResponse(f"schema is {revision}, should be {wanted}\n".encode(), 503)
        return AsgiResponse(b"ok\n", 200)


async def _acknowledge(message: Msg, raw: Raw, waits: Mapping[int, float]) -> None:
    await (message.nak(delay=waits[raw.seq]) if raw.seq in waits else message.ack())


async def _give_back(messages: Iterable[Msg]) -> None:
    """To whoever takes over, rather than to nobody until ack_wait; not at once, or we might be the next."""
    for message in messages:
        await message.nak(delay=1)


def _raw_of(message: Msg) -> Raw:
    told = message.metadata
    return Raw(
        message.subject,
        message.data,
        message.headers,
        told.stream,
        told.sequence.stream,
        told.timestamp,
        told.num_delivered,
    )


async def _raw(message: NatsMessage) -> Any:
    """The batch as it came. Nothing is decoded by FastStream: one bad byte would take all of it along."""
    return message.raw_message
