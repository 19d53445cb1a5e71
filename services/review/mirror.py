"""The second copy of the history: what is said of every line on the audit stream, read back and compared, and its head.

The lines themselves are made in `case.py` and kept in `store.py`.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

import nats.js.errors
from nats.js import JetStreamContext
from pydantic import ValidationError

from services.review.replay import altered
from shared.contracts import registry
from shared.contracts.case import AuditHeaded, HistoryWritten, Line
from shared.notices.calendar import SHANGHAI
from shared.runtime.delivery import Tx
from shared.runtime.service import Context
from shared.runtime.streams import AUDIT

MOST_LINES = 5000
"""Of one message: about 600 kB."""
AT_ONCE = 64
US = "review"
ADD = (
    "insert into review.head (day, seq, lines, hash) values (:day, :seq, :lines, :hash) "
    "on conflict do nothing returning day"
)


def say(tx: Tx, lines: Sequence[Mapping[str, Any]]) -> None:
    """Tell the stream of the lines that this transaction adds: one message, as far as they fit."""
    for first in range(0, len(lines), MOST_LINES):
        some = lines[first : first + MOST_LINES]
        told = HistoryWritten.model_construct(
            lines=tuple(
                Line.model_construct(case=UUID(one["case"]), version=one["version"], hash=one["hash"])
                for one in some
            )
        )
        tx.say(registry.HISTORY_WRITTEN, US, told, some[0]["case"], some[0]["version"])


# --- reading it ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """One message of the stream; without a body when it is no longer there."""

    seq: int
    body: bytes | None
    at: datetime | None

    @property
    def lines(self) -> tuple[Line, ...] | None:
        """None when it is none of ours, or not there."""
        try:
            said = registry.HISTORY_WRITTEN.envelope.model_validate_json(self.body or b"")
        except ValidationError:
            return None
        lines: tuple[Line, ...] = said.data.lines
        return lines


@dataclass(frozen=True)
class Head:
    """All messages up to `seq` in one hash, and how many lines they have told of."""

    seq: int = 0
    lines: int = 0
    hash: str = hashlib.sha256().hexdigest()

    def after(self, message: Message) -> "Head":
        digest = hashlib.sha256(bytes.fromhex(self.hash) + (message.body or b"")).hexdigest()
        return Head(message.seq, self.lines + len(message.lines or ()), digest)


async def last_of(jetstream: JetStreamContext) -> int:
    info = await jetstream.stream_info(AUDIT)
    return int(info.state.last_seq)


async def messages(jetstream: JetStreamContext, after: int = 0, upto: int = 0) -> AsyncIterator[Message]:
    """Every message of the stream in its order, also those that are missing."""

    async def one(seq: int) -> Message:
        try:
            found = await jetstream.get_msg(AUDIT, seq)
        except nats.js.errors.NotFoundError:
            return Message(seq, None, None)
        return Message(seq, found.data or b"", found.time)

    upto = upto or await last_of(jetstream)
    for first in range(after + 1, upto + 1, AT_ONCE):
        for message in await asyncio.gather(*map(one, range(first, min(first + AT_ONCE, upto + 1)))):
            yield message


# --- comparing ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """A row that is not what it was: of which case, which line, and what differs, in Chinese."""

    case: UUID | None
    version: int
    why: str


@dataclass
class Mirror:
    """The stream as it was read: the hash of every line, and the message that has told it (0: it is on its way)."""

    told: dict[tuple[UUID, int], tuple[str, int]] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)

    def hear(self, message: Message) -> None:
        lines = message.lines
        if lines is None:
            what = "已不在" if message.body is None else "读不出来"
            self.broken.append(Broken(None, 0, f"审计流第{message.seq}条{what}"))
        for one in lines or ():
            known, seq = self.told.setdefault((one.case, one.version), (one.hash, message.seq))
            if known != one.hash:
                why = f"审计流第{seq}条与第{message.seq}条所记不同"
                self.broken.append(Broken(one.case, one.version, why))

    def compare(self, case: UUID, lines: Sequence[Mapping[str, Any]]) -> Broken | None:
        """The first line of a case that is broken; whatever it has told of the case is then done with."""
        found = self._first(case, lines)
        for version in range(1, len(lines) + 1):
            self.told.pop((case, version), None)
        rest = 0
        while (case, len(lines) + rest + 1) in self.told:
            rest += 1
            _, seq = self.told.pop((case, len(lines) + rest))
            if found is None:
                why = f"这一行已不在，审计流第{seq}条记有"
                found = Broken(case, len(lines) + rest, why)
        return found

    def _first(self, case: UUID, lines: Sequence[Mapping[str, Any]]) -> Broken | None:
        previous = ""
        for n, line in enumerate(lines, 1):
            told, seq = self.told.get((case, n), ("", 0))
            if line["version"] != n:
                return Broken(case, n, f"这一行已不在，审计流第{seq}条记有" if told else "这一行已不在")
            if altered(previous, line):
                return Broken(case, n, "内容与其校验值不符")
            if not told:
                return Broken(case, n, "审计流没有记这一行")
            if told != line["hash"]:
                why = f"校验值 {line['hash'][:12]}… 与审计流第{seq}条所记的 {told[:12]}… 不同"
                return Broken(case, n, why)
            previous = line["hash"]
        return None

    def left(self, upto: int) -> Iterator[Broken]:
        """Cases that the stream tells of, up to a message, and the database does not have."""
        first: dict[UUID, tuple[int, int]] = {}
        for (case, version), (_, seq) in sorted(self.told.items()):
            if 0 < seq <= upto:
                first.setdefault(case, (version, seq))
        for case, (version, seq) in first.items():
            yield Broken(case, version, f"整个项目已不在，审计流第{seq}条起记有")


# --- once a day ---------------------------------------------------------------------------------------


class Daily:
    """The head of the stream, told once a day of the clock in Guangzhou, by whichever replica is first."""

    def __init__(self) -> None:
        self.until: date | None = None

    async def tell(self, context: Context) -> None:
        today = context.clock.now().astimezone(SHANGHAI).date()
        if self.until is not None and today <= self.until:
            return
        async with context.engine.connect() as conn:
            row = (await conn.read("select * from review.head order by day desc limit 1")).one_or_none()
        self.until = row.day if row else None
        if self.until is not None and today <= self.until:
            return
        head = Head(row.seq, row.lines, row.hash) if row else Head()
        async for message in messages(context.jetstream, head.seq):
            head = head.after(message)
        async with context.delivery.transaction() as tx:
            values = {"day": today, "seq": head.seq, "lines": head.lines, "hash": head.hash}
            if await tx.conn.execute(ADD, values):
                dead = (await tx.conn.read("select count(*) from review.dead where state = 'dead'")).scalar()
                told = AuditHeaded(day=today, seq=head.seq, lines=head.lines, head=head.hash, dead=dead)
                tx.say(registry.AUDIT_HEADED, US, told, today)
        self.until = today
