"""The dead rows of a service: what is written of a message that has no effect, and which of them are heard again.

What makes a message dead is not here: that is `decode.py`, `delivery.py` and the handlers.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shared.contracts.problem import Problem, problem
from shared.contracts.registry import EVENT_KEPT, EVENT_REJECTED
from shared.contracts.submission import EventKept, EventRejected, Rejected
from shared.runtime import metrics, traces
from shared.runtime.database import Database
from shared.runtime.decode import LATER, Dead, Item, Raw

if TYPE_CHECKING:
    from shared.runtime.delivery import Tx

KEPT = "已留存，系统升级后按收到时间办理，无须重新报送"
KEPT_EN = "Kept: after our upgrade it is handled as of when it was received. Do not send it again."

TAKEN = "taken"
"""The code of what has no fault and was delivered too often: it is heard again at once, and its publisher told nothing."""

AT_ONCE = 100
"""Rows of one sweep, which has other things to do each second."""

CLAIM = """
update {0}.dead set state = case state when 'discard' then state when 'replaying' then 'retrying' else 'replaying' end
where n = (
  select n from {0}.dead where state in ('replay', 'replaying', 'discard', 'dead') and n > :last
  and (state <> 'dead' or code = :later and why = any(:known))
  order by n limit 1 for update skip locked
) returning *
"""
"""What a person has marked, what a process had in hand when it ended, and what an earlier release has kept for this
one. One that ends the process is tried once more by the next, and then left (`retrying`) to a person."""


def rejection(why: Problem, raw: Raw, id_: str | None, type_: str | None) -> EventRejected:
    return EventRejected(
        **dict(why),
        rejected=Rejected(id=id_, type=type_, subject=raw.subject, stream=raw.stream, seq=raw.seq),
    )


def bury(tx: "Tx", service: str) -> None:
    """Write the rows of what is dead, and tell who published it."""
    if not tx.dead:
        return
    dead = list({(d.raw.stream, d.raw.seq): d for d in tx.dead}.values())
    for d in dead:
        if d.code != TAKEN:
            tx.after.append(metrics.DEAD.labels(service, d.code).inc)
        _tell(tx, d)
    tx.conn.later(
        f"insert into {service}.dead (stream, seq, subject, headers, body, received, code, why, state) "
        "select new.*, case code when :taken then 'replay' else 'dead' end from unnest(cast(:stream as text[]), cast(:seq as bigint[]), cast(:subject as text[]), "
        "cast(:headers as jsonb[]), cast(:body as bytea[]), cast(:received as timestamptz[]), "
        "cast(:code as text[]), cast(:why as text[])) "
        "as new (stream, seq, subject, headers, body, received, code, why) "
        # Delivered again after a crash before the ack: it lies there already.
        f"where not exists (select 1 from {service}.dead as old "
        "where old.stream = new.stream and old.seq = new.seq "
        "and (old.state = 'dead' or new.code = :taken and old.state in ('replay', 'replaying')))",
        {
            "taken": TAKEN,
            "stream": [d.raw.stream for d in dead],
            "seq": [d.raw.seq for d in dead],
            "subject": [_text(d.raw.subject) for d in dead],
            "headers": [
                json.dumps({_text(name): _text(value) for name, value in (d.raw.headers or {}).items()})
                for d in dead
            ],
            "body": [d.raw.body for d in dead],
            "received": [d.raw.at for d in dead],
            "code": [d.code for d in dead],
            "why": [d.why for d in dead],
        },
    )


def _tell(tx: "Tx", d: Dead) -> None:
    """The address of the answer is the subject's token, which the bus has proven; the id of the answer follows from the
    place in the stream, because the event's own id may be missing."""
    token = d.raw.subject.split(".")[3] if d.raw.subject.startswith("sme.in.") else None
    if not token:
        return
    cause, trace = (d.raw.stream, d.raw.seq, d.code), traces.of_raw(d.raw)
    if d.code == LATER:
        told = EventKept(kept=d.id or "", type=d.type or "", detail=KEPT, detail_en=KEPT_EN)
        tx.say(EVENT_KEPT, token, told, *cause, causation=d.id, trace=trace)
    elif d.problem is not None:
        tx.say(EVENT_REJECTED, token, rejection(d.problem, d.raw, d.id, d.type), *cause, trace=trace)


def give_up(tx: "Tx", judged: Item | Dead) -> None:
    """A person has discarded what its publisher was told to be kept: now it must be told otherwise."""
    event = judged.event if isinstance(judged, Item) else judged
    why = problem(
        "unsupported", "不受理此版本的事件", f"没有办理 {event.type}；请用现行版本和新的 id 重新报送"
    )
    _tell(tx, Dead(judged.raw, "discarded", "", why, event.id, event.type))


async def claim(engine: Database, service: str, known: Sequence[str], last: int) -> Any:
    """The next row after `last` that is to be heard again; `known` are the types that this release hears."""
    async with engine.connect() as conn:
        found = await conn.execute(
            CLAIM.format(service), {"last": last, "later": LATER, "known": list(known)}
        )
        return found.one_or_none()


def _text(said: str) -> str:
    """A text that PostgreSQL takes, of one that anybody may have written."""
    return said.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
