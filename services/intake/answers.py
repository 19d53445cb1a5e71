"""What became of an event, for a publisher that was away: all services' feedback is heard, so that it can be found by
the id of the event, and read again from the bus in its order.

The feedback itself stays where it is, on its stream: here is only which message answers which event.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any
from uuid import UUID

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from services.intake import store
from shared.contracts import registry
from shared.contracts.answer import Answer, AnswersAsked, AnswersTold, StatusAsked, StatusTold
from shared.contracts.problem import Problem, faults, problem
from shared.contracts.registry import EVENT_ANSWERS, EVENT_STATUS, Ask
from shared.runtime.database import Database
from shared.runtime.decode import Item
from shared.runtime.delivery import Tx, outage
from shared.runtime.service import Context
from shared.runtime.streams import OUT

log = logging.getLogger("yiqi.intake")

MOST_BYTES = 900_000
"""Of the answers in one reply; the bus carries 1 MiB, which one answer alone never exceeds."""

MOST_WAITING, MOST_WAITING_BYTES = 2000, 4 << 20
"""Questions that wait for their turn; what is more is dropped, and whoever asked asks again."""

UNREADABLE = "问题应为一个 JSON 对象"
AWAY = problem("unavailable", "暂时不能答复", "请稍后再问", status=503)


# --- hearing -----------------------------------------------------------------------------------------


def key_of(publisher: str, id_: str) -> UUID:
    """An event by its publisher and id, whatever that says: an id may be anything that a publisher made up."""
    return UUID(bytes=blake2b(f"{publisher}\0{id_}".encode(), digest_size=16).digest())


async def on_out(tx: Tx, items: Sequence[Item]) -> None:
    """Note which event each answer is about; of several about one event the last. What was said of other content under
    the same id is no answer to the event that has it."""
    rows: dict[UUID, dict[str, Any]] = {}
    for item in items:
        accepted = item.type.name == registry.EVENT_ACCEPTED.name
        id_ = item.data.accepted if accepted else item.data.rejected.id
        if id_ is not None and (accepted or not item.data.type.endswith(":conflict")):
            key, at = key_of(item.token, id_), item.raw.at.isoformat()
            if key not in rows or rows[key]["seq"] < item.raw.seq:
                rows[key] = {"key": str(key), "seq": item.raw.seq, "accepted": accepted, "at": at}
    store.keep_answers(tx.conn, list(rows.values()))
    # That table is what makes it happen once: the inbox, which is for ever, need not know answers too.
    tx.without_effect |= {item.key for item in items}


# --- telling -----------------------------------------------------------------------------------------


async def status(js: JetStreamContext, engine: Database, publisher: str, asked: StatusAsked) -> StatusTold:
    async with engine.connect() as conn:
        row = await store.answer(conn, key_of(publisher, asked.id))
    if row is None:
        return StatusTold(id=asked.id, state="unanswered")
    try:
        found = _event(await js.get_msg(OUT, row.seq), publisher)
    except nats.js.errors.NotFoundError:
        found = None  # the stream has forgotten it
    return StatusTold(id=asked.id, state="accepted" if row.accepted else "rejected", answer=found)


async def answers(js: JetStreamContext, publisher: str, asked: AnswersAsked) -> AnswersTold:
    """Read from the stream itself, which is in order and complete at every moment; our table is neither, as several
    processes write it."""
    found: list[Answer] = []
    last, size, more = asked.after, 0, False
    while True:
        try:
            message = await js.get_msg(OUT, seq=last + 1, subject=_of(publisher), next=True)
        except nats.js.errors.NotFoundError:
            break
        size += len(message.data or b"")
        if len(found) == asked.limit or (found and size > MOST_BYTES):
            more = True
            break
        assert message.seq
        last = message.seq
        if event := _event(message, publisher):
            found.append(Answer(seq=last, event=event))
    return AnswersTold(answers=tuple(found), last=last, more=more)


def _of(publisher: str) -> str:
    return f"sme.out.v1.{publisher}.>"


def _event(message: RawStreamMsg, publisher: str) -> dict[str, Any] | None:
    if not str(message.subject).startswith(_of(publisher)[:-1]):
        return None  # another stream stood here when it was noted
    try:
        event = from_json(message.data or b"")
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def question(ask: Ask, body: bytes) -> BaseModel | Problem:
    body = body or b"{}"
    try:
        return ask.payload.model_validate_json(body, strict=True)
    except ValidationError as error:
        try:
            document = from_json(body)
        except ValueError:
            document = None
        errors = faults(error, document)
        return problem("validation", "问题不符合接口契约", f"共{len(errors)}处错误", errors)


Reply = Callable[[str, Any], Awaitable[BaseModel]]


async def tell(context: Context) -> None:
    """Answer questions until the service stops; every process of intake takes its share of them."""

    async def told(publisher: str, asked: Any) -> BaseModel:
        if isinstance(asked, StatusAsked):
            return await status(context.jetstream, context.engine, publisher, asked)
        return await answers(context.jetstream, publisher, asked)

    subscriptions = [await _listen(context.client, ask, told) for ask in (EVENT_STATUS, EVENT_ANSWERS)]
    try:
        await asyncio.Event().wait()
    finally:
        for subscription in subscriptions:
            with suppress(nats.errors.Error):  # the connection has ended before us
                await subscription.unsubscribe()


async def _listen(client: Client, ask: Ask, told: Reply) -> Any:
    async def hear(message: Msg) -> None:
        if not message.reply:
            return
        # The bus has proven it: an agency can ask under its own token only.
        publisher = message.subject.split(".")[3]
        try:
            asked = question(ask, message.data)
            answer = asked if isinstance(asked, Problem) else await told(publisher, asked)
        except Exception as error:
            if not outage(error):
                log.exception("a question was not answered", exc_info=error)
            answer = AWAY
        with suppress(nats.errors.Error):  # away as well: whoever asked asks again
            await message.respond(answer.model_dump_json(exclude_none=True).encode())

    return await client.subscribe(
        ask.pattern,
        queue="intake",
        cb=hear,
        pending_msgs_limit=MOST_WAITING,
        pending_bytes_limit=MOST_WAITING_BYTES,
    )
