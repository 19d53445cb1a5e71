"""What authorities tell of enterprises (titles, approved investments): who may, what must agree, put on record as told.

What follows from it for an enterprise is not decided here.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from pydantic_core import PydanticCustomError

from services.intake import store
from services.intake.findings import OURS, fault
from shared.contracts import registry
from shared.contracts.enterprise import InvestmentApproved, InvestmentRecorded, TitleGranted, TitleRecorded
from shared.contracts.problem import Problem, problem
from shared.contracts.registry import EventType
from shared.contracts.submission import EventAccepted
from shared.contracts.types import Finding, Kind
from shared.notices.calendar import SHANGHAI
from shared.notices.directory import Directory
from shared.notices.values import uscc
from shared.runtime.decode import Item
from shared.runtime.delivery import Tx

Told = TitleGranted | InvestmentApproved

EVERYWHERE: dict[type[Told], tuple[Kind, ...]] = {
    TitleGranted: ("city",),
    InvestmentApproved: ("city", "K1"),
}
"""Who may tell it of every district (ours: no source says); the department of a district may of its own."""


def told(tx: Tx, items: Sequence[Item], directory: Directory) -> None:
    rows = []
    for item in items:
        data: Told = item.data
        if (why := may_not(data, item.token, directory)) is not None:
            tx.refuse(item, why)
            continue
        if found := list(faults(data, item.received.astimezone(SHANGHAI).date(), directory)):
            tx.refuse(item, problem("refused", "不予受理", f"共{len(found)}处问题", found))
            continue
        row = data.model_dump(mode="json", exclude_none=True)
        rows.append(
            {
                "key": str(item.key),
                "what": item.type.name,
                "uscc": data.enterprise.uscc,
                "district": data.district,
                "by": item.token,
                "at": item.received.isoformat(),
                "data": row,
            }
        )
        known: dict[str, Any] = {**data.model_dump(), "by": item.token, "received": item.received}
        recorded: EventType
        recorded, model = (
            (registry.TITLE_RECORDED, TitleRecorded)
            if isinstance(data, TitleGranted)
            else (registry.INVESTMENT_RECORDED, InvestmentRecorded)
        )
        tx.say(recorded, data.district, model(**known), item.key, subject=data.enterprise.uscc)
        tx.answer(item, registry.EVENT_ACCEPTED, EventAccepted(accepted=item.event.id, type=item.event.type))
    store.keep_told(tx.conn, rows)


def may_not(data: Told, publisher: str, directory: Directory) -> Problem | None:
    agency = directory.find(publisher)
    if agency and (
        agency.kind in EVERYWHERE[type(data)] or (agency.kind == "K2" and agency.district == data.district)
    ):
        return None
    return problem("authority", "无权办理", "由市级主管部门或企业所在区的主管部门报告", status=403)


def faults(data: Told, today: date, directory: Directory) -> Iterator[Finding]:
    try:
        uscc(data.enterprise.uscc)
    except PydanticCustomError as error:
        yield fault("R-GEN-001", error.type, error.message(), "#/data/enterprise/uscc", OURS)
    if data.district not in {agency.district for agency in directory.of_kind("K2")}:
        yield _ours("district.unknown", "没有这个区", "district")
    if isinstance(data, TitleGranted):
        if data.valid_until is not None and data.valid_until < data.valid_from:
            yield _ours("date.order", "有效期的终止日早于起始日", "valid_until")
        past: tuple[str, ...] = ("granted_on", "reviewed_on")
    else:
        if data.investment is None and data.equipment is None:
            yield _ours(
                "amount.missing", "investment（核定投资额）和 equipment（设备购置额）至少写一项", "investment"
            )
        past = ("approved_on",)
    for name in past:
        if (day := getattr(data, name)) is not None and day > today:
            yield _ours("date.future", "不能晚于报告之日", name)


def _ours(code: str, detail: str, name: str) -> Finding:
    return fault(code.split(".")[0], code, detail, f"#/data/{name}", OURS)
