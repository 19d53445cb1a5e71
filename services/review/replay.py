"""Pure: a case played again from its history, and whether that gives the case as it is kept.

What a step may do is in the modules that make steps; here every line is taken as it was written. Its dates too: the
calendar and the notice by which they were counted may be others by now.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import date, datetime
from typing import Any

from services.review import panel
from services.review.case import FILED, ROUTE, TERM, Case, Owed, chained, digest_of, filing_of
from shared.contracts.types import Assessment, Finding, Outbound
from shared.notices.model import Notice

LISTS: dict[str, type[Outbound]] = {"findings": Finding, "assessments": Assessment}
Filings = Mapping[int, Mapping[str, Any]]
"""What was filed, by revision: all but the last, which the case has."""


def audit(
    notice: Notice,
    case: Case,
    filings: Filings,
    lines: Sequence[Mapping[str, Any]],
    let_go: Mapping[int, str] | None = None,
) -> list[str]:
    """What is wrong with a case and its history, in Chinese: a broken chain, a filing that is not the one of then, a
    state that does not follow. `lines` are rows of the history in order, `hash` included; `let_go` has the revisions
    whose contact data is gone, with the digest of the rest. Empty when all is well."""
    if not lines:
        return ["没有经过"]
    wrong = list(_broken(lines))
    if wrong:
        return wrong
    all_filed = {**filings, case.revision: filing_of(case)}
    for line in lines:
        revision = line["data"].get("revision")
        if revision is None:
            continue
        if revision not in all_filed:
            wrong.append(f"第{revision}次报送的内容已不在（可能已按保存期限清除）")
        elif digest_of(all_filed[revision]) != (let_go or {}).get(revision, line["data"]["filing"]):
            wrong.append(f"第{revision}次报送的内容与经过不符")
    if not wrong:
        try:
            again = _ordered(replay(notice, case, filings, lines))
        except KeyError as gone:
            return [f"按现行的通知不能重演：没有{gone}"]
        kept = _ordered(case)
        names = [f.name for f in fields(Case) if getattr(again, f.name) != getattr(kept, f.name)]
        wrong += [f"重演经过所得的{name}与现状不符" for name in names]
    return wrong


def replay(notice: Notice, case: Case, filings: Filings, lines: Sequence[Mapping[str, Any]]) -> Case:
    """The case that its history makes. Raises KeyError for a stage that the notice no longer has."""
    all_filed = {**filings, case.revision: filing_of(case)}
    now = replace(
        case, judgements={}, scores={}, score=None, owed=(), stage="", entered=_at(lines[0]), **TERM
    )
    for line in lines:
        now = _after(notice, now, line, all_filed)
    return now


def _broken(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    previous = ""
    for n, line in enumerate(lines, 1):
        if line["version"] != n:
            yield f"第{n}行的版本是{line['version']}"
        if altered(previous, line):
            yield f"第{n}行与其校验值不符"
        previous = line["hash"]


def altered(previous: str, line: Mapping[str, Any]) -> bool:
    """Whether a line is not the one that was hashed after the one before."""
    said = {key: value for key, value in line.items() if key != "hash"}
    return bool(chained(previous, said) != line["hash"])


def _ordered(case: Case) -> Case:
    return replace(case, owed=tuple(sorted(case.owed, key=lambda o: (o.due, o.duty, o.period))))


def _after(notice: Notice, case: Case, line: Mapping[str, Any], all_filed: Filings) -> Case:
    data, changes = line["data"], {"version": line["version"], "stage": line["stage"]}
    there = notice.procedure.by_id[line["stage"]]
    before = notice.procedure.by_id.get(case.stage)
    outcome = before.outcomes.get(line["outcome"]) if before else None
    if before is None or outcome is not None:
        changes["entered"] = _at(line)
        if there.panel is not None:
            changes |= {"scores": {}, "score": None}
    if before and before.panel and outcome and "panel" in outcome.needs:
        changes["score"] = panel.result(before.panel, case.scores)
    if "revision" in data:
        changes |= {"revision": data["revision"], **_filed(all_filed[data["revision"]])}
    if "judgements" in data:
        changes["judgements"] = {**case.judgements, **data["judgements"]}
    if "points" in data:
        changes["scores"] = {**case.scores, data["expert"]: data["points"]}
    changes |= {name: _read(name, value) for name, value in data.get("term", {}).items()}
    if "owed" in data:
        changes["owed"] = _owed(case, data)
    return replace(case, **changes)


def _at(line: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(line["at"])


def _filed(filing: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(LISTS[name].model_validate(one) for one in filing[name])
        if name in LISTS
        else filing[name]
        for name in (*FILED, *ROUTE)
    }


def _read(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return datetime.fromisoformat(value) if name == "wakes" else date.fromisoformat(value)


def _owed(case: Case, data: Mapping[str, Any]) -> tuple[Owed, ...]:
    rows = {(o.duty, o.period): o for o in case.owed}
    for duty, period in data["gone"]:
        del rows[duty, period]
    for duty, period, began, due, provisional, state, wakes in data["owed"]:
        dates = date.fromisoformat(began), date.fromisoformat(due)
        rows[duty, period] = Owed(duty, period, *dates, provisional, state, _read("wakes", wakes))
    return tuple(rows.values())
