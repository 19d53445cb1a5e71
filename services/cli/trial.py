"""What `yiqi publisher simulate` publishes: events as another system would send them, and the same with a mistake each.

How they travel and what is made of the answers is in `publisher.py`.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import shared.contracts
from shared.contracts.registry import SUBMISSION_FILED, EventType
from shared.contracts.types import Kind
from shared.notices.columns import Column, Type
from shared.notices.directory import Agency
from shared.notices.model import Form, Notice

PUBLISHED = Path(shared.contracts.__file__).parent / "published"
"""Where a golden example of every type is kept, with its schema."""

Document = dict[str, Any]

TYPED: dict[Type, str] = {
    "person": "张三",
    "contact": "张三 83726619",
    "period": "6月10日",
    "quantity": "约100人",
    "amount": "500",
    "months": "12",
    "rate": "3.65%-4.5%",
    "phone": "83726619",
    "phones": "83726619",
    "email": "shili@example.com",
    "uscc": "91110000600037341L",
    "postcode": "510000",
    "date": "2025年3月5日",
    "year_month": "2025年3月",
    "integer": "3",
    "decimal": "1.5",
    "percent": "10",
    "flag": "是",
}
"""What a person might type into a column of each type; nobody is meant."""


@dataclass(frozen=True)
class Trial:
    """One event to publish. `mistake` says what is wrong with it on purpose; without one it should be accepted."""

    document: Document
    mistake: str = ""

    @property
    def body(self) -> bytes:
        return json.dumps(self.document, ensure_ascii=False).encode()


def lists(notice: Notice, kind: Kind) -> list[Form]:
    """The forms of one row that open a case, and that such an agency may file."""
    return [
        f
        for f in notice.forms
        if f.columns and not f.report and not f.continues and notice.may_file(f.id, kind)
    ]


def row(form: Form, notice: Notice, mark: str) -> dict[str, str]:
    """A row of a list as people would fill it in; `mark` makes its name another one each time."""
    columns = {c.key: _typed(c, notice, mark if c.key in form.name else "") for c in form.columns}
    return {**columns, **{line.key: TYPED.get(line.type, "示例") for line in form.lines}}


def _typed(column: Column, notice: Notice, mark: str) -> str:
    if column.list is not None:
        return notice.lists[column.list].values[0].label
    return TYPED.get(column.type, f"示例{mark}"[: column.limit])


def filings(notice: Notice, form: Form, agency: Agency, count: int, now: datetime) -> Iterator[Document]:
    """Rows of one annex, each another item."""
    direction = next((d.code for d in notice.directions if form.id in d.forms), None)
    for _ in range(count):
        id_ = str(uuid.uuid4())
        data = {
            "notice": notice.id,
            "form": form.id,
            "filer": _filer(agency),
            **({"direction": direction} if direction else {}),
            "values": row(form, notice, id_[:8]),
        }
        yield _envelope(SUBMISSION_FILED, agency, id_, now, data)


def golden(type_: EventType, agency: Agency, count: int, now: datetime) -> Iterator[Document]:
    """The published examples of a type, one after the other, as this agency would say them today."""
    examples = sorted((PUBLISHED / type_.ce_type / "examples").glob("*.json"))
    for path in islice(cycle(examples), count):
        data = json.loads(path.read_text(encoding="utf-8"))["data"]
        if "filer" in data:
            data["filer"] = _filer(agency)
        yield _envelope(type_, agency, str(uuid.uuid4()), now, data)


def _filer(agency: Agency) -> Document:
    return {"code": agency.code, "kind": agency.kind, "name": agency.name}


def _envelope(type_: EventType, agency: Agency, id_: str, now: datetime, data: Document) -> Document:
    return {
        "specversion": "1.0",
        "id": id_,
        "source": f"urn:cn:gov:gz:{agency.code}:simulate",
        "type": type_.ce_type,
        "time": now.isoformat(timespec="seconds"),
        "datacontenttype": "application/json",
        "data": data,
    }


def _without_zone(d: Document) -> None:
    d["time"] = d["time"][:19]


def _misspelled(d: Document) -> None:
    first = next(iter(d["data"]))
    d["data"][first + "s"] = d["data"].pop(first)


def _unknown_field(d: Document) -> None:
    d["data"]["remark"] = "示例"


def _somebody_else(d: Document) -> None:
    d["source"] = "urn:cn:gov:gz:somebody-else:simulate"


def _another_type(d: Document) -> None:
    d["type"] = "cn.gov.gz.sme.unheard.of.v1"


def _spaced_id(d: Document) -> None:
    d["id"] = d["id"].replace("-", " ")


def _no_data(d: Document) -> None:
    del d["data"]


MISTAKES: dict[str, Callable[[Document], None]] = {
    "字段拼错": _misspelled,
    "多出没有的字段": _unknown_field,
    "时间没有时区": _without_zone,
    "source 是别的单位": _somebody_else,
    "type 与主题不符": _another_type,
    "id 含有空格": _spaced_id,
    "没有 data": _no_data,
}
"""What another system gets wrong on its first day; of whatever type, each must be rejected with the place."""


def spoilt(document: Document, mistake: str) -> Trial:
    copy: Document = json.loads(json.dumps(document))
    copy["id"] = str(uuid.uuid4())  # or the bus would take it for the one before
    MISTAKES[mistake](copy)
    return Trial(copy, mistake)
