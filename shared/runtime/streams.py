"""JetStream as data: the streams, the consumers and the bucket, and the command that makes them.

Services never create or change any of it: they bind, and refuse to start on something else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from shared.contracts.registry import EVENTS, EventType

DAY = 24 * 3600.0
IN, EVT, OUT, FILE, ADVISORY = "SME_IN", "SME_EVT", "SME_OUT", "SME_FILE", "SME_ADVISORY"
AUDIT = "SME_AUDIT"
CATALOGUES = "CATALOGUES"
DAYS = 400
"""After which a stream forgets (derived: no source says so): a round of a year, and a month to spare."""
BUCKET = f"OBJ_{CATALOGUES}"
"""The stream behind the bucket."""
ACK_WAIT = 60
"""Seconds after which the server delivers again what it has not heard of."""

STREAM_OF = {"in": IN, "evt": EVT, "out": OUT, "audit": AUDIT}


def _stream(name: str, subjects: list[str], max_bytes: int, **more: Any) -> StreamConfig:
    """Limits retention: an acknowledged message stays, so that the dedupe window outlives a restart and
    everything can be replayed, for as long as `aged` says. No TTL, rollup or schedules: publishers could forge or wipe with them."""
    return StreamConfig(
        name=name,
        subjects=subjects,
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_bytes=max_bytes,
        max_msg_size=1024 * 1024,
        duplicate_window=2 * 3600,
        deny_delete=True,
        deny_purge=True,
        **more,
    )


GIB = 1024**3
STREAMS = (
    # Listed one by one: an unknown type has no stream, so its publisher is told at once instead of never.
    _stream(IN, list(dict.fromkeys(e.pattern for e in EVENTS if e.cls == "in")), 4 * GIB),
    _stream(EVT, ["sme.evt.v1.*.*.*"], 8 * GIB),
    _stream(OUT, ["sme.out.v1.*.*.*"], 2 * GIB),
    # Nobody consumes it: it is read from its beginning when somebody compares.
    _stream(AUDIT, ["sme.audit.v1.*.*.*"], 2 * GIB),
    # A chunk is its content, so a second copy of a subject says nothing new; intake keeps what it accepts.
    _stream(
        FILE,
        ["sme.file.v1.*.*.*"],
        4 * GIB,
        max_msgs_per_subject=1,
        allow_direct=True,
        discard_new_per_subject=True,
    ),
    _stream(
        ADVISORY,
        ["$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>"],
        GIB // 16,
    ),
)


FORGETS = (IN, EVT, OUT, FILE)
"""The streams with what people have written; that of the consumers' misfortunes tells only numbers."""


@dataclass(frozen=True)
class Consumer:
    """What one service hears of one stream. The durable's name is derived, never typed."""

    service: str
    events: tuple[EventType, ...]

    @property
    def stream(self) -> str:
        (stream,) = {STREAM_OF[e.cls] for e in self.events}
        return stream

    @property
    def durable(self) -> str:
        return f"{self.service}-{self.stream.removeprefix('SME_').lower()}"

    def config(self) -> ConsumerConfig:
        """A new object each time: FastStream changes the one it is given."""
        return ConsumerConfig(
            durable_name=self.durable,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_deliver=20,
            max_ack_pending=4000,
            filter_subjects=list(dict.fromkeys(e.pattern for e in self.events)),
        )


CONSUMERS = tuple(
    Consumer(service, events)
    for service in ("intake", "review", "notify", "export")
    for cls in ("in", "evt", "out")
    if (events := tuple(e for e in EVENTS if e.cls == cls and service in e.hears))
)

BEFORE_REVIEW = tuple(c for c in CONSUMERS if c.durable in ("intake-in", "review-in", "review-evt"))
"""Those that must have finished with what was said before a moment, for review to have heard all of it."""

BEFORE_CASES = tuple(c for c in BEFORE_REVIEW if c.durable != "review-in")
"""Those of them that may still bring a case. Not those that speak of one: the first that speaks of none would hold up
all the others."""


async def unfinished_since(js: JetStreamContext, consumers: Iterable[Consumer]) -> datetime | None:
    """When the oldest message was stored that one of these consumers has not finished with; None when there is none.
    What is unread was said before now, however late it will be heard."""
    oldest: datetime | None = None
    for consumer in consumers:
        info = await js.consumer_info(consumer.stream, consumer.durable)
        if not info.num_pending and not info.num_ack_pending:
            continue
        floor = info.ack_floor.stream_seq if info.ack_floor else 0
        try:
            # The next of any subject: no later than the one that is meant.
            found = await js.get_msg(consumer.stream, seq=floor + 1, subject=">", next=True)
        except nats.js.errors.NotFoundError:
            continue  # finished with meanwhile
        if found.time and (oldest is None or found.time < oldest):
            oldest = found.time
    return oldest


class Drift(RuntimeError):
    """The server has something else than the code says; a person decides which is right."""


def differs(wanted: Any, found: Any) -> list[str]:
    """The settings that we state and the server has otherwise."""
    if found is None:
        return ["(missing)"]
    lines = []
    for field in fields(wanted):
        want, have = getattr(wanted, field.name), getattr(found, field.name)
        if want is None or field.name in ("metadata", "name"):
            continue
        if isinstance(want, list):
            want, have = sorted(want), sorted(have or [])
        if want != have:
            lines.append(f"{field.name}: {have!r}, should be {want!r}")
    return lines


def as_heard(consumer: Consumer, found: ConsumerConfig) -> ConsumerConfig:
    """What the server has, without the events that only a later release hears."""
    wanted = consumer.config().filter_subjects or []
    return found.evolve(filter_subjects=wanted) if set(wanted) < set(found.filter_subjects or ()) else found


def aged(days: int) -> tuple[StreamConfig, ...]:
    """The streams with what they forget. Everything on them may say who a person is, and the database lets that go
    (`yiqi ops retain`): the bus must not remember it for ever. What makes effects happen once is the inbox, which
    outlives the streams, so nothing that is heard twice is done twice, however late. The others name nobody."""
    return tuple(s.evolve(max_age=days * DAY) if s.name in FORGETS else s for s in STREAMS)


async def copies(js: JetStreamContext) -> int:
    """How many there are of what was filed: whoever does not say another number means this one."""
    try:
        return (await js.stream_info(IN)).config.num_replicas or 1
    except nats.js.errors.NotFoundError:
        return 1


async def _widen(js: JetStreamContext, found: StreamConfig, most: int) -> StreamConfig:
    try:
        return (await js.update_stream(found.evolve(max_bytes=most))).config
    except nats.js.errors.APIError as error:  # mostly that the server has not as much
        raise Drift(f"stream {found.name}: {error.description}") from None


async def provision(
    js: JetStreamContext,
    *,
    replicas: int | None = None,
    check: bool = False,
    days: int = DAYS,
    age: bool = False,
    room: Mapping[str, int] | None = None,
) -> list[str]:
    """Make what is missing, also subjects of events that are new and that a consumer hears them, and refuse what differs;
    returns what was made. Without `replicas` there are as many as before. `check` makes nothing. `room` lets streams hold
    more bytes, and what has more than the code says may keep it: how much is filed is the city's. `age` changes after how many days existing streams forget, and nothing
    else of them: a shorter time deletes at once, so somebody must want it."""
    made: list[str] = []
    wrong: list[str] = []
    if replicas is None:
        replicas = await copies(js)
    for wanted in aged(days):
        stream = wanted.evolve(num_replicas=replicas)
        assert stream.name
        try:
            found = (await js.stream_info(stream.name)).config
        except nats.js.errors.NotFoundError:
            if check:
                wrong.append(f"stream {stream.name}: missing")
            else:
                await js.add_stream(stream)
                made.append(f"stream {stream.name}")
            continue
        if not check and (found.max_bytes or 0) < (most := (room or {}).get(stream.name, 0)):
            found = await _widen(js, found, most)
            made.append(f"stream {stream.name} has room for {most // GIB} GiB")
        stream = stream.evolve(max_bytes=max(stream.max_bytes or 0, found.max_bytes or 0))
        lines = differs(stream, found)
        more = found.evolve(subjects=stream.subjects)
        if not check and set(found.subjects or ()) < set(stream.subjects or ()) and not differs(stream, more):
            # An event that an earlier release did not know: nothing that is stored changes.
            await js.update_stream(more)
            made.append(f"stream {stream.name} takes more events")
            continue
        if age and not check and stream.max_age and [line.split(":")[0] for line in lines] == ["max_age"]:
            await js.update_stream(found.evolve(max_age=stream.max_age))
            made.append(f"stream {stream.name} forgets after {days} days")
            continue
        wrong += [f"stream {stream.name}: {line}" for line in lines]
    for consumer in CONSUMERS:
        try:
            have = (await js.consumer_info(consumer.stream, consumer.durable)).config
        except nats.js.errors.NotFoundError:
            if check:
                wrong.append(f"consumer {consumer.durable}: missing")
            else:
                await js.add_consumer(consumer.stream, consumer.config())
                made.append(f"consumer {consumer.durable}")
            continue
        heard = have.evolve(filter_subjects=consumer.config().filter_subjects)
        fewer = set(have.filter_subjects or ()) < set(heard.filter_subjects or ())
        if not check and fewer and not differs(consumer.config(), heard):
            # From now on: what was said before has passed. Processes of the release before keep what they do not know
            # until they end (`service.py`).
            await js.add_consumer(consumer.stream, heard)
            made.append(f"consumer {consumer.durable} hears more events")
            continue
        wrong += [f"consumer {consumer.durable}: {line}" for line in differs(consumer.config(), have)]
    try:
        await js.object_store(CATALOGUES)
    except nats.js.errors.NotFoundError:
        if check:
            wrong.append(f"bucket {CATALOGUES}: missing")
        else:
            await js.create_object_store(CATALOGUES, replicas=replicas)
            made.append(f"bucket {CATALOGUES}")
    if wrong:
        raise Drift("\n".join(wrong))
    return made
