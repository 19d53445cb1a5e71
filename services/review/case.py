"""A case as it stands, and the line of history that every step adds to it.

What brings a step about is not here: `decide.py`, `duties.py` and `panel.py`; nor is storing them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    which it is overdue, none once it is settled; `late` is what came after it had been missed."""

    duty: str
    period: str
    began: date
    due: date
    provisional: bool = False
    state: Literal["owed", "done", "missed", "late"] = "owed"
    wakes: datetime | None = None


@dataclass(frozen=True)
class Case:
    """A case as it stands. `version` grows with every step; events carry it, so order does not matter.

    `entered` is when its stage began, `due` the last day of that stage where it has one, and `wakes` the moment
    at which the clock then acts by itself. `paused` is the day that a stage which the case will return to had.
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

    `data` is what the step rests on beyond the rest of the line, in JSON types: what a filing replaced, the points
    of an expert, the judgements of a decision. With it the history can be played again (`replay.py`).
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
    counts: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()
    duty: str | None = None
    period: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

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


def content(case: Case) -> str:
    """What was filed, in short: with it in the line, the history vouches for the values too, which are kept once."""
    text = json.dumps([case.title, case.values], sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def chained(previous: str, row: Mapping[str, Any]) -> str:
    """The hash of a line after the one before. Empty `data` is left out: lines were hashed before there was any."""
    said = {key: value for key, value in row.items() if key != "data" or value}
    return hashlib.sha256(
        json.dumps([previous, said], sort_keys=True, ensure_ascii=False).encode()
    ).hexdigest()
