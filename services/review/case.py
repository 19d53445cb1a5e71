"""A case as it stands, and the line of history that every step adds to it.

What brings a step about is not here: `decide.py`, `duties.py` and `panel.py`; nor is storing them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from shared.contracts.case import Change, Fix
from shared.contracts.types import Assessment, Finding, ItemKind, Judgement, Party, Values
from shared.notices.model import Notice

Said = Literal["opened", "advanced", "returned", "closed", "published"]


@dataclass(frozen=True)
class Owed:
    """One duty of a case for one period. `began` is the day that its term is counted from, `wakes` the moment at
    which it is overdue, none once it is settled; `late` is what came after it had been missed, `raised` a miss that
    has been held against the case and counts no more."""

    duty: str
    period: str
    began: date
    due: date
    provisional: bool = False
    state: Literal["owed", "done", "missed", "late", "raised"] = "owed"
    wakes: datetime | None = None


@dataclass(frozen=True)
class Case:
    """A case as it stands. `version` grows with every step; events carry it, so order does not matter.

    `entered` is when its stage began; where that has a term, `began` is the day from which the term is counted, `due`
    its last day and `wakes` the moment at which the clock then acts by itself. `paused` is the `began` of a stage
    that the case will return to: of a term the beginning is kept, as a calendar that arrives may move its end.
    `scores` are the sheets of the panel by expert, points by criterion; `score` is what the panel concluded.
    """

    case: UUID
    number: str
    notice: str
    form: str
    stage: str
    version: int
    revision: int
    filer: Party
    recommender: str | None
    unit: str
    district: str
    direction: str | None
    item_kind: ItemKind
    title: str
    values: Values
    findings: tuple[Finding, ...]
    late: bool
    package: str | None
    filed: datetime
    entered: datetime
    began: date | None = None
    due: date | None = None
    provisional: bool = False
    wakes: datetime | None = None
    paused: date | None = None
    assessments: tuple[Assessment, ...] = ()
    judgements: Mapping[str, Judgement] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    score: Decimal | None = None
    owed: tuple[Owed, ...] = ()


@dataclass(frozen=True)
class Step:
    """One line of a case's history, and the case after it.

    `data` is what the step rests on beyond the rest of the line, in JSON types: the points of an expert, the
    judgements of a decision, the digest of a filing, and the dates that the step set (`dated`). With it the history
    can be played again (`replay.py`). It names no person: `replaces`, what a filing takes the place of, is kept
    apart, where it can be let go. `key` and `publisher` are the event that brought it about as the inbox has it;
    nobody's event makes the clock act.
    """

    case: Case
    says: Said
    actor: str
    outcome: str
    at: datetime
    reason: str = ""
    rules: tuple[str, ...] = ()
    acknowledges: tuple[str, ...] = ()
    fixes: tuple[Fix, ...] = ()
    officer: str | None = None
    cause: str = field(default="", compare=False)
    key: UUID | None = field(default=None, compare=False)
    publisher: str | None = field(default=None, compare=False)
    counts: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()
    duty: str | None = None
    period: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    replaces: Mapping[str, Any] | None = None

    def line(self, previous: str) -> dict[str, Any]:
        """The history row; its hash covers everything that it says and the hash before it."""
        row = {
            "case": str(self.case.case),
            "version": self.case.version,
            "at": self.at.astimezone(UTC).isoformat(),
            "actor": self.actor,
            "officer": self.officer,
            "stage": self.case.stage,
            "outcome": self.outcome,
            "reason": self.reason,
            "rules": list(self.rules),
            "acknowledges": list(self.acknowledges),
            "fixes": [f.model_dump() for f in self.fixes],
            "cause": self.cause,
            "data": dict(self.data),
            "key": str(self.key) if self.key else None,
            "publisher": self.publisher,
        }
        return {**row, "hash": chained(previous, row)}


def says(notice: Notice, before: Case, after: Case) -> Said:
    """What the others are told of a case that has come from one stage into another."""
    there = notice.procedure.by_id[after.stage]
    if there.ends:
        return there.ends
    if there.listed and not notice.procedure.by_id[before.stage].listed:
        return "published"
    return "returned" if there.returned else "advanced"


FILED = ("form", "title", "values", "findings", "direction", "item_kind", "package", "assessments", "late")
"""What a filing brings, and a later one brings anew."""
ROUTE = ("recommender", "unit", "district")
"""What a later one may change besides, when it answers a return: the case was with the wrong agency."""


def filing_of(case: Case) -> dict[str, Any]:
    """What was filed last, in JSON types."""
    return {name: _json(getattr(case, name)) for name in (*FILED, *ROUTE)}


def digest_of(filing: Mapping[str, Any]) -> str:
    """With it in the line, the history vouches for what was filed, wherever that is kept."""
    text = json.dumps(filing, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _json(value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    return [one.model_dump(mode="json", exclude_none=True) for one in value]


TERM: dict[str, Any] = {"began": None, "due": None, "provisional": False, "wakes": None, "paused": None}
"""The dates of a stage, and what they are where it has none."""


def dated(before: Case | None, step: Step) -> Step:
    """The step with the dates that it set, told in its line: they hang on a calendar and a notice that may be others
    when somebody looks again."""
    was, now = before or replace(step.case, owed=(), **TERM), step.case
    data = dict(step.data)
    if term := {n: _day(getattr(now, n)) for n in TERM if getattr(now, n) != getattr(was, n)}:
        data["term"] = term
    if now.owed != was.owed:
        known = {(o.duty, o.period): o for o in was.owed}
        kept = {(o.duty, o.period) for o in now.owed}
        data["owed"] = [
            [o.duty, o.period, _day(o.began), _day(o.due), o.provisional, o.state, _day(o.wakes)]
            for o in now.owed
            if known.get((o.duty, o.period)) != o
        ]
        data["gone"] = [list(key) for key in known if key not in kept]
    return replace(step, data=data)


def _day(value: date | datetime | bool | None) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value.isoformat() if isinstance(value, date) else value


LATER = ("data", "key", "publisher")


def chained(previous: str, row: Mapping[str, Any]) -> str:
    """The hash of a line after the one before. What is empty of `LATER` is left out: lines were hashed before there was
    any."""
    said = {key: value for key, value in row.items() if key not in LATER or value}
    return hashlib.sha256(
        json.dumps([previous, said], sort_keys=True, ensure_ascii=False).encode()
    ).hexdigest()
