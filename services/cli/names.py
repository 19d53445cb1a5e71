"""What the keys in the tables of the services are called: by the notice, the directory, and for what the engine writes
itself by us. Keys stay what they are in `--json`.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from services.cli import common
from shared.notices.load import CompiledNotice, load_all
from shared.notices.stages import CLOCK

OURS = {
    "file": "报送",
    "amend": "补充修改",
    "recount": "重新计算期限",
    "missed": "到期未报",
    "raise": "登记事由",
    "fact": "登记情况",
    "score": "登记评分",
    "report": "收到报告",
    "report_late": "收到逾期的报告",
    "report_unowed": "收到不应报的报告",
}
"""What the engine itself writes into a history."""
STATES = {
    "owed": "应报",
    "done": "已报",
    "late": "逾期已报",
    "missed": "逾期未报",
    "raised": "已登记事由",
    "held": "留存",
    "released": "已生效",
    "discarded": "已作废",
    "met": "符合",
    "not_met": "不符合",
    "not_applicable": "不适用",
}
"""Of a duty, of decisions that are held, of what a person judged."""


@cache
def _notices() -> Mapping[str, CompiledNotice]:
    return load_all(common.settings().notices)


def _beside(name: str | None, key: str) -> str:
    return f"{name}（{key}）" if name and name != key else key


def agency(code: str) -> str:
    """Its short name; an applicant that is not listed has none."""
    if code == CLOCK:
        return "系统（期限或事由）"
    found = common.directory().find(code)
    return _beside(found.short if found else None, code)


def stage(notice: str, key: str) -> str:
    compiled = _notices().get(notice)
    found = compiled.notice.procedure.by_id.get(key) if compiled else None
    return _beside(found.name if found else None, key)


def outcome(notice: str, at: str | None, key: str) -> str:
    """As it is called in the stage where it was decided; elsewhere the same key may have another name."""
    return _beside(bare_outcome(notice, at, key), key)


def bare_outcome(notice: str, at: str | None, key: str) -> str | None:
    compiled = _notices().get(notice)
    stages = compiled.notice.procedure.by_id if compiled else {}
    first = [stages[at]] if at in stages else []
    for one in (*first, *stages.values()):
        if key in one.outcomes:
            return one.outcomes[key].name
    return OURS.get(key)


def bare_stage(notice: str, key: str) -> str:
    compiled = _notices().get(notice)
    found = compiled.notice.procedure.by_id.get(key) if compiled else None
    return found.name if found else key


def duty(notice: str, key: str) -> str:
    compiled = _notices().get(notice)
    found = compiled.notice.by_duty.get(key) if compiled else None
    return _beside(found.name if found else None, key)


def column(notice: str, form: str, key: str) -> str:
    """The printed header of a value, or the title of a table."""
    judge = compiled.forms.get(form) if (compiled := _notices().get(notice)) else None
    if judge is None:
        return key
    if one := judge.columns.get(key):
        return _beside(" ".join(one.header.split()), key)
    block = judge.form.blocks.get(key)
    return _beside(block.title if block else None, key)


def state(key: str) -> str:
    return STATES.get(key, key)


def steps(notice: str, history: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Outcome and stage of every line; an outcome is named by the stage of the line before."""
    before = [None, *(line["stage"] for line in history)]
    return [
        (outcome(notice, at, line["outcome"]), stage(notice, line["stage"]))
        for at, line in zip(before, history, strict=False)
    ]
