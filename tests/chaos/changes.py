"""What is done to a service from outside, so that a test can see what comes of it. The product knows none of this.

Clocks that a test would only wait for are shortened, processes end at named points, and for the negative controls a
promise is broken. `POINTS` are the points; a test sees to it that each was met.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

EVERYWHERE = (
    "received",
    "handled",
    "committed",
    "half_published",
    "published",
    "half_acked",
    "acked",
    "swept",
)
"""Of every service: messages are there; their handler is done and nothing is written; the transaction is committed; one
of the messages that it says is sent; all of them; one of the batch is acknowledged; all of it; the sweeper has sent what
was left behind, and not yet forgotten it."""

POINTS: dict[str, tuple[str, ...]] = {
    "intake": (*EVERYWHERE, "file_fetched", "workbook_read", "file_sent"),
    "review": EVERYWHERE,
    # A mail: its claim is committed; so is that its text is about to leave; the text has left; the server has answered;
    # what became of it is committed; it is put back for later, and that is not.
    "notify": (*EVERYWHERE, "claimed", "before_data", "written", "answered", "settled", "postponed"),
    "export": (*EVERYWHERE, "object_stored", "file_written"),
}

PATIENCE = 2.0
"""Seconds after which a process that has not come to its point chooses another."""


class Crash:
    """This process ends at one point, more often one of those that were met least; `<service>.crashes` has a line for
    each end."""

    def __init__(self) -> None:
        self.service = ""
        self.folder = Path()
        self.point = ""
        self.passes = 0
        self.sparing = False
        self.chosen = 0.0
        self.chance = random.Random()

    def begin(self, service: str, start: int) -> None:
        self.service = service
        self.chance.seed(f"{service}/{start}")
        self.sparing = start % 2 == 0
        self._choose()

    @property
    def file(self) -> Path:
        return self.folder / f"{self.service}.crashes"

    def _choose(self) -> None:
        met = Counter(self.file.read_text().split()) if self.file.exists() else Counter[str]()
        points = [p for p in POINTS[self.service] if p != self.point]
        self.chance.shuffle(points)
        # Not always the rarest: one that is hard to come by must not be waited for by every process.
        self.point = min(points, key=lambda p: met[p]) if self.chance.random() < 0.5 else points[0]
        # Not always at once: what comes again after a crash is handled one by one, and would be done one a life. Every
        # second life spares what comes first: a message that ends three processes alone is put aside, as it should be.
        # Export has few batches, each of many facts.
        spared = (2, 4) if self.service == "export" else (10, 30)
        self.passes = self.chance.choice(spared if self.sparing else (0, 0, 1, 3))
        self.chosen = time.monotonic()

    def at(self, point: str) -> None:
        if self.chosen and time.monotonic() - self.chosen > PATIENCE:
            self._choose()
        if self.here(point):
            self.now()

    def here(self, point: str) -> bool:
        if self.point != point or (self.folder / "calm").exists():
            return False
        self.passes -= 1
        return self.passes < 0

    def now(self) -> None:
        with self.file.open("a") as file:
            file.write(self.point + "\n")
        os._exit(137)


crash = Crash()


def begin(names: Sequence[str], service: str, folder: Path, start: int) -> None:
    """In a process that has just been forked."""
    crash.folder = folder
    if "crashing" in names:
        crash.begin(service, start)


def _around(place: Any, name: str, before: str = "", after: str = "") -> None:
    """Pass a point before or after an async function."""
    inner = getattr(place, name)

    async def passing(*arguments: Any, **more: Any) -> Any:
        if before:
            crash.at(before)
        result = await inner(*arguments, **more)
        if after:
            crash.at(after)
        return result

    _replace(place, **{name: passing})


def _replace(place: Any, **what: Any) -> None:
    for name, value in what.items():
        setattr(place, name, value)


# --- changes -----------------------------------------------------------------------------------------


def crashing(service: str) -> None:
    """The process ends at every point of the runtime and of its own service, once after the other."""
    _runtime()
    {"notify": _notify, "intake": _intake, "export": _export}.get(service, lambda: None)()


def _runtime() -> None:
    from nats.aio.msg import Msg

    from shared.runtime.database import Connection
    from shared.runtime.delivery import Delivery
    from shared.runtime.publisher import Publisher
    from shared.runtime.service import _State

    _around(Delivery, "handle", before="received")
    _around(Connection, "commit", before="handled", after="committed")
    _around(_State, "receive", after="acked")
    sweep, publish, ack = Delivery.sweep, Publisher.publish, Msg.ack
    sweeping = False

    async def sweep_(self: Delivery) -> None:
        nonlocal sweeping
        sweeping = True
        try:
            await sweep(self)
        finally:
            sweeping = False

    async def publish_(self: Publisher, messages: Sequence[Any], *more: Any) -> Any:
        if messages and crash.here("half_published"):
            await publish(self, messages[:1], *more)
            crash.now()
        done = await publish(self, messages, *more)
        if messages:
            crash.at("swept" if sweeping else "published")
        return done

    async def ack_(self: Msg) -> None:
        await ack(self)
        if crash.here("half_acked"):
            await self._client.flush()
            crash.now()

    _replace(Delivery, sweep=sweep_)
    _replace(Publisher, publish=publish_)
    _replace(Msg, ack=ack_)


def _intake() -> None:
    from services.intake import child
    from shared.runtime import files

    _around(files, "fetch", after="file_fetched")
    _around(files, "send", after="file_sent")
    _around(child, "read", after="workbook_read")


def _export() -> None:
    from services.export import formats, pdf, plain, publish, sheet

    # Minutes of typesetting the same thousands of rows, in which nothing would end.
    _replace(formats, FORMATS={"xlsx": sheet.catalogue})
    _replace(pdf, catalogue=lambda *rows, public, faces: plain.json(*rows, public=public))
    _around(publish, "to_store", after="object_stored")
    to_folder = publish.to_folder

    def to_folder_(*arguments: Any) -> Any:
        written = to_folder(*arguments)
        crash.at("file_written")
        return written

    _replace(publish, to_folder=to_folder_)


def _notify() -> None:
    from aiosmtplib.protocol import SMTPProtocol

    from services.notify import sending, smtp, store

    _around(sending.Sending, "_settle", after="settled")
    _around(store, "postpone", after="postponed")
    compose, read = getattr(sending, "compose"), SMTPProtocol.read_response  # noqa: B009 - not its own name
    deliver, write = smtp.Relay.deliver, smtp.Relay._write
    writing: ContextVar[bool] = ContextVar("writing", default=False)

    def compose_(*arguments: Any, **more: Any) -> Any:
        crash.at("claimed")
        return compose(*arguments, **more)

    async def deliver_(
        self: smtp.Relay, sender: str, to: str, mail: bytes, before_data: Any, *id_: Any
    ) -> Any:
        async def before() -> bool:
            ours = await before_data()
            crash.at("before_data")
            return bool(ours)

        outcome = await deliver(self, sender, to, mail, before, *id_)
        crash.at("answered")
        return outcome

    async def write_(self: smtp.Relay, *arguments: Any) -> Any:
        # Of this connection only: others are at other points at the same time.
        token = writing.set(True)
        try:
            return await write(self, *arguments)
        finally:
            writing.reset(token)

    async def read_(self: SMTPProtocol, *arguments: Any, **more: Any) -> Any:
        if writing.get():
            crash.at("written")
        return await read(self, *arguments, **more)

    _replace(sending, compose=compose_)
    _replace(smtp.Relay, deliver=deliver_, _write=write_)
    _replace(SMTPProtocol, read_response=read_)


def hasten(service: str) -> None:
    """What a dead process held comes again after 3 s instead of 60, and so with every other wait that only waits."""
    from shared.runtime import delivery, streams

    _replace(streams, ACK_WAIT=3)
    _replace(delivery, SWEEP_AFTER=delivery.SWEEP_AFTER / 3)
    if service == "notify":
        from services.notify import pace, sending

        _replace(sending, PATIENCE=(0.3, 0.6, 1, 2, 3), RELAY_PAUSES=(0.1, 0.2, 0.4))
        _replace(pace, PAUSES=(0.1, 0.2, 0.4))


def forgetful(service: str) -> None:
    """Control: what is known already is handled again; the inbox is written, because the history refers to it."""
    from shared.runtime.database import Connection
    from shared.runtime.delivery import Delivery

    later = Connection.later

    def later_(self: Connection, sql: str, values: Any, at_least: int = 0) -> None:
        later(self, sql, values, 0 if ".inbox " in sql else at_least)

    _replace(Delivery, _fresh=lambda self, tx, items, known: list(items))
    _replace(Connection, later=later_)


def defaults(service: str) -> None:
    """Control: FastStream's default policy, REJECT_ON_ERROR. A batch whose handler fails is rejected with everything in
    it, and nothing is held back while the database is away."""
    from shared.runtime.decode import Dead, Item, decode
    from shared.runtime.delivery import Delivery
    from shared.runtime.service import _raw_of, _State

    async def once(self: Delivery, attempt: Callable[[], Any]) -> Any:
        return await attempt()

    async def commit(self: Delivery, consumer: str, raws: Sequence[Any]) -> Any:
        heard, handler = self.handlers[consumer]
        decoded = [decode(raw, heard, self.clock.offset) for raw in raws]
        items = [d for d in decoded if isinstance(d, Item)]
        dead = [d for d in decoded if isinstance(d, Dead)]
        return [await self._transact(handler, items, dead)]

    async def receive(self: _State, consumer: Any, messages: list[Any]) -> None:
        assert self.context
        try:
            await self.context.delivery.handle(consumer.durable, [_raw_of(m) for m in messages])
        except Exception:  # noqa: BLE001 - as FastStream has it
            for m in messages:
                await m.term()
            return
        for m in messages:
            await m.ack()

    _replace(Delivery, _hold=once, commit=commit)
    _replace(_State, receive=receive)


def poisoned(service: str) -> None:
    """The product has a fault: an event that says `poison` ends the process, at once and every time, while the file
    `cured` is not there."""
    from shared.runtime.delivery import Delivery

    transact = Delivery._transact

    async def transact_(self: Delivery, handler: Any, items: Sequence[Any], dead: Sequence[Any]) -> Any:
        if any(b"poison" in item.raw.body for item in items) and not (crash.folder / "cured").exists():
            os._exit(139)
        return await transact(self, handler, items, dead)

    _replace(Delivery, _transact=transact_)


def resending(service: str) -> None:
    """Control: a mail that was on its way when its worker died is sent again, as a queue would do."""
    if service != "notify":
        return
    from services.notify import store

    recover = store.recover

    async def recover_(conn: Any, workers: Sequence[int], *more: Any) -> Any:
        await conn.execute(
            "update notify.mail set state = 'claimed' where state = 'data' and worker = any(:workers)",
            {"workers": list(workers)},
        )
        return await recover(conn, workers, *more)

    _replace(store, recover=recover_)


def estranged(service: str) -> None:
    """Control: a release that knows an event by another key than the one before."""
    from shared.runtime import decode

    key = decode._uuid
    _replace(decode, _uuid=lambda *parts: key(b"another release", *parts))


CHANGES: dict[str, Callable[[str], None]] = {
    change.__name__: change
    for change in (crashing, hasten, forgetful, defaults, poisoned, resending, estranged)
}


def apply(names: Sequence[str], service: str) -> None:
    for name in names:
        CHANGES[name](service)
