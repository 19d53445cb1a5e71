"""An event held against its contract as a service would: the same decoder, and every fault told.

Reading files is not here.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from shared.contracts.english import FAULTS
from shared.contracts.registry import EVENTS
from shared.contracts.types import Finding
from shared.runtime.decode import Item, Raw, decode

BY_TYPE = {e.ce_type: e for e in EVENTS}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""When the bus stored it is of no account here."""


@dataclass(frozen=True)
class Verdict:
    where: str
    type: str | None
    faults: list[Finding]

    @property
    def good(self) -> bool:
        return not self.faults

    def told(self) -> dict[str, Any]:
        errors = [f.model_dump(mode="json", exclude_none=True) for f in self.faults]
        return {"file": self.where, "type": self.type, "ok": self.good, "errors": errors}

    def lines(self) -> Iterator[str]:
        if self.good:
            yield f"{self.where}：符合 {self.type}"
            return
        yield f"{self.where}：{len(self.faults)} 处错误"
        yield from (f"  {line(fault)}" for fault in self.faults)


def line(fault: Finding) -> str:
    return f"{fault.pointer}  {fault.code}  {fault.detail}" + (
        f" / {fault.detail_en}" if fault.detail_en else ""
    )


def split(name: str, body: bytes) -> Iterator[tuple[str, bytes]]:
    """One document, or one a line; each as it stands, byte for byte."""
    lines = [(n, text) for n, text in enumerate(body.splitlines(), 1) if text.strip()]
    if len(lines) > 1 and not _is_json(body) and _is_json(lines[0][1]):
        yield from ((f"{name}:{n}", text) for n, text in lines)
    else:
        yield name, body


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def judge(documents: Iterable[tuple[str, bytes]]) -> Iterator[Verdict]:
    return (_judged(where, body) for where, body in documents)


def _judged(where: str, body: bytes) -> Verdict:
    try:
        head = json.loads(body)
    except (ValueError, RecursionError):
        head = None
    said = head.get("type") if isinstance(head, dict) else None
    type_ = BY_TYPE.get(said) if isinstance(said, str) else None
    if isinstance(head, dict) and type_ is None:
        return Verdict(where, None, [_unknown(said)])
    type_ = type_ or EVENTS[0]  # for what is no object at all, any contract finds the same
    # The bus proves who speaks; here the event is believed, so that all else of it can be judged.
    source = head.get("source") if isinstance(head, dict) else None
    parts = source.split(":") if isinstance(source, str) else []
    token = parts[4] if type_.cls == "in" and len(parts) == 6 and parts[4].isascii() else "440100"
    found = decode(Raw(type_.subject(token), body, None, "", 0, EPOCH), {type_.name: type_})
    if isinstance(found, Item):
        return Verdict(where, type_.ce_type, [])
    assert found.problem, found
    told = found.problem
    general = _finding(found.code, told.detail, "#", told.detail_en or told.title_en)
    return Verdict(where, type_.ce_type, list(found.problem.errors) or [general])


def _unknown(said: Any) -> Finding:
    if not isinstance(said, str):
        return _finding("schema.missing", "缺少必填字段 type", "#/type", FAULTS["schema.missing"])
    near = get_close_matches(said, BY_TYPE, 1, 0.6)
    chinese, english = (f"；是否为 {near[0]}？", f" Do you mean {near[0]}?") if near else ("", "")
    return _finding("type", f"没有这种事件{chinese}", "#/type", f"There is no event of this type.{english}")


def _finding(code: str, detail: str, pointer: str, english: str | None) -> Finding:
    return Finding(
        rule="schema",
        code=code,
        severity="hard",
        clause="接口契约",
        detail=detail,
        detail_en=english,
        pointer=pointer,
    )
