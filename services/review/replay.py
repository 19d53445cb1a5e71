"""Pure: a case played again from its history, and whether that gives the case as it is kept.

What a step may do is in the modules that make steps; here every line is taken as it was written.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import date, datetime
from typing import Any

from services.review import panel
from services.review.case import Case, Owed, chained, content
from services.review.decide import FILED, ROUTE, recount
from services.review.duties import settled
from services.review.terms import after_change, entering, moved
from shared.contracts.types import Assessment, Finding, Outbound
from shared.notices.calendar import Calendar
from shared.notices.model import Notice

LISTS: dict[str, type[Outbound]] = {"findings": Finding, "assessments": Assessment}


def audit(notice: Notice, case: Case, lines: Sequence[Mapping[str, Any]], calendar: Calendar) -> list[str]:
    """What is wrong with a case and its history, in Chinese: a broken chain, a state that does not follow. `lines`
    are rows of the history in order, `hash` included. Empty when all is well."""
    wrong = list(_broken(lines))
    filed = next((line["data"]["content"] for line in reversed(lines) if "content" in line["data"]), None)
    if filed and filed != content(case):
        wrong.append("内容与最后一次报送不符")
    if not wrong:
        again, kept = _ordered(replay(notice, case, lines, calendar)), _ordered(case)
        names = [f.name for f in fields(Case) if getattr(again, f.name) != getattr(kept, f.name)]
        wrong += [f"重演经过所得的{name}与现状不符" for name in names]
    return wrong


def replay(notice: Notice, case: Case, lines: Sequence[Mapping[str, Any]], calendar: Calendar) -> Case:
    """The case that its history makes. What was filed is kept once, in the case: the first filing is got back by
    undoing the later ones, newest first."""
    first = case
    for line in reversed(lines[1:]):
        first = _filed(first, line["data"], 0)
    opened = replace(
        first, version=1, due=None, provisional=False, wakes=None, paused=None,
        judgements={}, scores={}, score=None, owed=(),
    )  # fmt: skip
    now = entering(notice, opened, notice.procedure.by_id[lines[0]["stage"]], _at(lines[0]), calendar)
    for line in lines[1:]:
        now = replace(_after(notice, now, line, calendar), version=line["version"])
    return now


def _ordered(case: Case) -> Case:
    return replace(case, owed=tuple(sorted(case.owed, key=lambda o: (o.due, o.duty, o.period))))


def _broken(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    previous = ""
    for n, line in enumerate(lines, 1):
        said = {key: value for key, value in line.items() if key != "hash"}
        if line["version"] != n:
            yield f"第{n}行的版本是{line['version']}"
        if chained(previous, said) != line["hash"]:
            yield f"第{n}行与其校验值不符"
        previous = line["hash"]


def _at(line: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(line["at"])


def _filed(case: Case, data: Mapping[str, Any], side: int) -> Case:
    """The case with what a filing replaced: as it was before (0), or as it is after (1)."""
    changes: dict[str, Any] = {}
    for name in ("revision", "late", *FILED, *ROUTE):
        if name not in data:
            continue
        if name == "values":
            values = {**case.values, **{key: both[side] for key, both in data[name].items()}}
            changes[name] = {key: value for key, value in values.items() if value is not None}
        elif name in LISTS:
            changes[name] = tuple(LISTS[name].model_validate(one) for one in data[name][side])
        else:
            changes[name] = data[name][side]
    return replace(case, **changes)


def _after(notice: Notice, case: Case, line: Mapping[str, Any], calendar: Calendar) -> Case:
    key, data, at = line["outcome"], line["data"], _at(line)
    outcome = notice.procedure.by_id[case.stage].outcomes.get(key)
    if outcome is not None and outcome.by_filing:
        return entering(notice, _filed(case, data, 1), notice.procedure.by_id[line["stage"]], at, calendar)
    if outcome is not None:
        stage = notice.procedure.by_id[case.stage]
        after = moved(notice, case, outcome, at, calendar)
        if judged := data.get("judgements"):
            after = replace(after, judgements={**case.judgements, **judged})
        if stage.panel and "panel" in outcome.needs:
            after = replace(after, score=panel.result(stage.panel, case.scores))
        return after
    match key:
        case "amend":
            return _filed(case, data, 1)
        case "recount":
            counted = recount(notice, case, at, calendar)
            return counted.case if counted else case
        case "score":
            return replace(case, scores={**case.scores, data["expert"]: data["points"]})
        case "missed" | "report" | "report_late":
            return settled(notice, case, _rows(case, data["settled"]), at, calendar)
        case "fact" if data.get("kind") == "change":
            return after_change(notice, case, date.fromisoformat(data["occurred_on"]), calendar)
    return case


def _rows(case: Case, told: Sequence[Sequence[Any]]) -> list[Owed]:
    known = {(o.duty, o.period): o for o in case.owed}
    pending = {o.duty: o for o in case.owed if o.state == "owed"}
    return [
        replace(known.get((duty, period)) or pending[duty], period=period, state=state, wakes=None)
        for duty, period, state in told
    ]
