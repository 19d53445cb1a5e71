"""One message judged alone: what it is, who says it, and under which identity; or why it is none of ours.

What follows from it is not here: that is `delivery.py`.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, from_json

from shared.contracts import registry
from shared.contracts.envelope import (
    OUR_SOURCE,
    Envelope,
    binary_attributes,
    binary_to_structured,
    is_binary,
)
from shared.contracts.problem import MOST, Problem, faults, nul, problem
from shared.contracts.registry import EventType
from shared.contracts.types import Finding

_TOKEN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_PLAIN = re.compile(r"[!-~]{1,128}")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
MALFORMED = (ValidationError, ValueError, RecursionError)


LATER = "later"
"""The code of what only a later release can handle; its `why` is the type, by which that release finds it."""


class _Unknown(BaseModel):
    """Data whose model a later release has."""

    model_config = ConfigDict(extra="ignore")


_UNKNOWN = Envelope[_Unknown]


class Unstorable(ValueError):
    """U+0000 in a text, which PostgreSQL keeps in neither text nor jsonb"""


@dataclass(frozen=True, slots=True)
class Raw:
    """A message as it came, from the bus or from a dead row."""

    subject: str
    body: bytes
    headers: Mapping[str, str] | None
    stream: str
    seq: int
    at: datetime
    deliveries: int = 1
    """How often it has been delivered; more than once, it may have had its effect."""


@dataclass(frozen=True, slots=True)
class Item:
    """A message that is what its subject says. `token` is the publisher (or the district), proven by the
    subject; `received` is when the bus stored it, which an outage of ours does not move."""

    type: EventType
    event: Envelope[Any]
    token: str
    key: UUID
    digest: UUID
    received: datetime
    raw: Raw

    @property
    def data(self) -> Any:
        return self.event.data

    @property
    def publisher(self) -> str:
        """Whoever said it, as the bus has proven it: an agency by the token of its subject, or the one of our services
        that says such events. No agency's code has a colon."""
        return self.token if self.type.cls == "in" else f"yiqi:{self.type.says[0]}"


@dataclass(frozen=True, slots=True)
class Dead:
    raw: Raw
    code: str
    why: str
    problem: Problem | None = None
    id: str | None = None
    type: str | None = None


def _uuid(*parts: bytes) -> UUID:
    return UUID(bytes=hashlib.blake2b(b"\0".join(parts), digest_size=16).digest())


def decode(raw: Raw, heard: Mapping[str, EventType], offset: timedelta = timedelta()) -> Item | Dead:
    """Judge one message alone, so that a bad one never harms its neighbours."""
    found = registry.of_subject(raw.subject)
    if found is None or found[0].name not in heard or not _TOKEN.fullmatch(found[1]):
        return Dead(raw, "subject", "no such event on this subject")
    newest, token = found
    body = raw.body
    try:
        if is_binary(raw.headers):
            body = binary_to_structured(raw.headers or {}, raw.body)
        type_, event = _read(newest, raw, body)
    except MALFORMED as error:
        return _malformed(raw, body, error)
    later = registry.is_later(newest, event.type)
    if event.type != type_.ce_type and not later:
        carried = "、".join(t.ce_type for t in registry.majors(newest))
        why = problem("type", "事件类型与主题不符", f"主题应承载 {carried}")
        return Dead(raw, "type", "type does not match subject", why, event.id)
    if (event.publisher != token) if type_.cls == "in" else (event.source != OUR_SOURCE):
        why = problem(
            "identity", "发布者与主题不符", f"source 应为 urn:cn:gov:gz:{token}:<系统名>", status=403
        )
        return Dead(raw, "identity", "source is not the publisher of the subject", why, event.id, event.type)
    if later:
        return Dead(raw, LATER, event.type, None, event.id, event.type)
    key = _uuid(event.source.encode(), event.id.encode())
    return Item(type_, event, token, key, _uuid(body), raw.at + offset, raw)


def _strictly(body: bytes) -> None:
    """pydantic reads NaN and Infinity as numbers, even where it ignores them; no JSON has them, nor does PostgreSQL."""
    try:
        from_json(body, allow_inf_nan=False)
    except ValueError as error:
        found = InitErrorDetails(type="json_invalid", input=None, ctx={"error": str(error)})
        raise ValidationError.from_exception_data("JSON", [found]) from None


def _read(newest: EventType, raw: Raw, body: bytes) -> tuple[EventType, Envelope[Any]]:
    """By the newest version, which nearly every event is of; else by its own; else by its attributes alone, if it is of
    one that only a later release knows."""
    event: Envelope[Any] | None = None
    try:
        event = _valid(newest.envelope, body)
        says = event.type
    except MALFORMED as error:
        fault = error
        says = _plain(_head(raw, body).get("type")) or ""
    if registry.is_later(newest, says):
        return newest, _valid(_UNKNOWN, body)
    for type_ in registry.majors(newest)[1:]:
        if type_.ce_type == says:
            return type_, _valid(type_.envelope, body)
    if event is None:
        raise fault
    return newest, event


def _valid(envelope: type[Envelope[Any]], body: bytes) -> Envelope[Any]:
    # To the letter of the published schema: `"1"` is no number, and 0 is no moment.
    event = envelope.model_validate_json(body, strict=True)
    if b"NaN" in body or b"Infinity" in body:
        _strictly(body)
    # The substring first: the pattern alone would cost more than all of the validation.
    if (b"\\u0000" in body or b"\0" in body) and _NUL.search(body):
        raise Unstorable(Unstorable.__doc__)
    return event


def _head(raw: Raw, body: bytes) -> Mapping[str, Any]:
    """What the event says of itself, as far as it can be read at all."""
    if is_binary(raw.headers):
        return binary_attributes(raw.headers or {})
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _malformed(raw: Raw, body: bytes, error: Exception) -> Dead:
    """`body` is the structured document, as far as one could be made."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    errors: list[Finding] = []
    if isinstance(error, ValidationError):
        errors = faults(error, document)
    elif isinstance(error, Unstorable):
        errors = [nul(where) for where in islice(_nuls(document, ()), MOST)]
    detail = "文本中不能有 U+0000" if isinstance(error, Unstorable) else f"共{len(errors) or 1}处错误"
    why = problem("validation", "事件不符合接口契约", detail, errors)
    head = _head(raw, body)
    places = ", ".join(f"{e.code} at {e.pointer}" for e in errors[:5]) or type(error).__name__
    return Dead(raw, "schema", places[:500], why, _plain(head.get("id")), _plain(head.get("type")))


def _nuls(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """Where U+0000 stands in a document: the text, or what has a key with it."""
    if isinstance(value, str):
        if "\0" in value:
            yield path
    elif isinstance(value, dict):
        if any("\0" in key for key in value):
            yield path
        for key, one in value.items():
            yield from _nuls(one, (*path, key))
    elif isinstance(value, list):
        for n, one in enumerate(value):
            yield from _nuls(one, (*path, n))


def _plain(said: Any) -> str | None:
    """What the event says of itself, if it can be an id or a type at all: anything else is not repeated."""
    return said if isinstance(said, str) and _PLAIN.fullmatch(said) else None
