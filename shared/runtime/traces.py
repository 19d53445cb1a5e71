"""Trace contexts: W3C `traceparent` read from what arrives, and which of them the code is at.

What our own events carry follows from their ids (`shared/contracts/envelope.py`), so nothing is kept and nothing costs
while nobody looks. OpenTelemetry only exports (`spans.py`), and only where an endpoint is set.
"""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from shared.runtime.decode import Item, Raw

_PARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?=$|-)"
)
_SAID = b'"traceparent":"'
_LENGTH = 55


class Where(NamedTuple):
    """`span` is None where a trace begins."""

    trace: str
    span: str | None
    sampled: bool = True


def parse(text: str | None) -> Where | None:
    """By W3C Trace Context: what is not well formed is as good as none."""
    found = _PARENT.match(text or "")
    return Where(found[1], found[2], bool(int(found[3], 16) & 1)) if found else None


def of(item: Item) -> Where:
    """The context that a message came with: of the event, else of the bus's header; without either it begins a trace
    by its own identity, and comes to the same one again."""
    return parse(item.event.traceparent) or parse(_header(item.raw)) or Where(item.key.hex, None)


def of_raw(raw: Raw) -> str | None:
    """The trace of a message that may be anything."""
    found = parse(_header(raw))
    return found.trace if found else None


def _header(raw: Raw) -> str | None:
    headers = raw.headers or {}
    return headers.get("traceparent") or headers.get("Traceparent")


def header(body: bytes) -> dict[str, str]:
    """Of one of our own events: the same on the bus, for whoever looks at headers only."""
    at = body.find(_SAID, 0, 1000)
    return {} if at < 0 else {"traceparent": body[at + len(_SAID) : at + len(_SAID) + _LENGTH].decode()}


def handling(consumer: str, item: Item) -> Where:
    """Of what a consumer does with a message, whenever and however often."""
    span = blake2b(item.key.bytes, digest_size=8, person=consumer.encode()[:16]).hexdigest()
    return Where(of(item).trace, span)


def attempt(mail: UUID, n: int) -> str:
    """The span of an attempt to send a mail."""
    return blake2b(mail.bytes + n.to_bytes(4, "big"), digest_size=8).hexdigest()


class Batch(NamedTuple):
    consumer: str
    items: Sequence[Item]
    began: int

    @property
    def where(self) -> Where:
        """Of one message, its own; of many, one that all of theirs are linked from."""
        if len(self.items) == 1:
            return handling(self.consumer, self.items[0])
        first, last = self.items[0].key.bytes, self.items[-1].key.bytes
        made = blake2b(first + last, digest_size=24, person=self.consumer.encode()[:16]).hexdigest()
        return Where(made[:32], made[32:])


_here: ContextVar[Batch | None] = ContextVar("batch", default=None)


@contextmanager
def at(consumer: str, items: Sequence[Item]) -> Iterator[None]:
    """What is logged within is about these."""
    token = _here.set(Batch(consumer, items, time.time_ns()) if items else None)
    try:
        yield
    finally:
        _here.reset(token)


def here() -> Batch | None:
    return _here.get()


def where() -> Where | None:
    batch = _here.get()
    return batch.where if batch else None
