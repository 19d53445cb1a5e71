"""What came over HTTP as the event that it stands for, judged by the decoder of the services: the same verdict.

Publishing it is not here, nor is anything that a notice says: that is judged by intake when it has heard it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from shared.contracts.envelope import (
    CONTENT_TYPE,
    Envelope,
    binary_attributes,
    binary_to_structured,
    is_binary,
)
from shared.contracts.problem import Problem, faults, problem
from shared.contracts.registry import EVENTS, PREFIX, of_subject
from shared.contracts.types import Finding
from shared.runtime.decode import Dead, Raw, decode

_TYPE = re.compile(rf"{re.escape(PREFIX)}([a-z]+\.[a-z]+)\.v\d+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')

UNSUPPORTED = (
    f"请用 Content-Type: {CONTENT_TYPE}（structured），或 application/json 加全部 ce- 头（binary）；"
    "编码为 UTF-8，不压缩，一次一个事件"
)


@dataclass(frozen=True)
class Fit:
    """An event that fits its contract: under which subject and id, and as which document, it goes on the bus."""

    id: str
    subject: str
    body: bytes


def headers(raw: Iterable[tuple[bytes, bytes]], content_type: str) -> Mapping[str, str] | Problem | None:
    """The attributes of binary mode, named as on the bus; None: the body has them (structured mode)."""
    media, _, parameters = content_type.partition(";")
    charset = re.search(r'charset="?([^\s";]+)', parameters, re.IGNORECASE)
    pairs = [(name.decode("latin-1").lower(), value) for name, value in raw]
    found = [(name, value) for name, value in pairs if name.startswith("ce-")]
    media = media.strip().lower()
    plain = (charset is None or charset[1].lower() in ("utf-8", "us-ascii")) and not any(
        name == "content-encoding" and value.lower() != b"identity" for name, value in pairs
    )
    if plain and media == CONTENT_TYPE:
        return None
    if not plain or media != "application/json" or not is_binary({name: "" for name, _ in found}):
        return problem("media", "内容类型不受理", UNSUPPORTED, status=415)
    said: dict[str, str] = {}
    for name, value in found:
        if name in said or not value.isascii():
            why = "头重复" if name in said else "头应只有 ASCII 字符，其余按 UTF-8 百分号编码"
            return problem("validation", "事件不符合接口契约", "共1处错误", [_fault("header", why)])
        text = value.decode().strip()
        # RFC 7230 §3.2.6, as the HTTP binding of CloudEvents asks.
        quoted = _QUOTED.fullmatch(text)
        said[name] = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    return said


def judge(publisher: str, attributes: Mapping[str, str] | None, body: bytes, at: datetime) -> Fit | Problem:
    """Under the subject of whoever has proven to be `publisher`; `source` only repeats it."""
    name = _TYPE.fullmatch(_type(attributes, body))
    subject = f"sme.in.v1.{publisher}.{name[1]}" if name else ""
    type_ = of_subject(subject)
    if type_ is None:
        return _unknown(attributes, body)
    found = decode(Raw(subject, body, attributes, "", 0, at), {type_[0].name: type_[0]})
    if isinstance(found, Dead) and (found.problem or found.id is None):
        return found.problem or problem(found.code, "事件不符合接口契约", "事件没有可用的 id")
    id_ = found.id if isinstance(found, Dead) else found.event.id
    assert id_
    # Always one document: what its headers may hold would else count against the size that the bus carries.
    whole = body if attributes is None else binary_to_structured(attributes, body)
    return Fit(id_, subject, whole)


def _type(attributes: Mapping[str, str] | None, body: bytes) -> str:
    if attributes is not None:
        return str(binary_attributes(attributes).get("type", ""))
    document = _document(body)
    return str(document.get("type", "")) if isinstance(document, dict) else ""


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _unknown(attributes: Mapping[str, str] | None, body: bytes) -> Problem:
    """Of no type that anybody hears: what is wrong with its attributes, as far as there are any."""
    errors: list[Finding] = []
    try:
        whole = body if attributes is None else binary_to_structured(attributes, body)
        Envelope[BaseModel].model_validate_json(whole, strict=True)
    except ValidationError as error:
        errors = faults(error, _document(whole))
    except (ValueError, RecursionError):
        errors = [_fault("schema.json_invalid", "不是合法的 JSON", "#/data")]
    if not errors:
        known = "、".join(e.ce_type for e in EVENTS if e.cls == "in")
        errors = [_fault("type", f"没有这种事件；现有：{known}", "#/type")]
    return problem("validation", "事件不符合接口契约", f"共{len(errors)}处错误", errors)


def _fault(code: str, detail: str, pointer: str = "") -> Finding:
    return Finding(
        rule="schema", code=code, severity="hard", clause="接口契约", detail=detail, pointer=pointer
    )
