"""How each rule of the domain specification is kept, which tests prove it from both sides, and where each of its dates
is recalled.

What a rule demands is not here (the notice says it), nor is judging (`rules`, `forms`). Nothing is run:
notices are read as data, tests as source.
"""

import ast
import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from string import ascii_lowercase
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from shared.contracts.types import Severity
from shared.notices.model import Notice, Rule
from shared.notices.stages import DeadlineId

How = Literal["checked", "timed", "procedural", "manual", "information", "open"]
Side = Literal["met", "broken"]

HOW: dict[How, str] = {
    "checked": "系统检查",
    "timed": "按期限",
    "procedural": "由程序保证",
    "manual": "人工认定",
    "information": "仅供了解",
    "open": "尚未实现",
}
"""Strongest first: what several notices keep in different ways is counted once, by the strongest."""

MECHANISMS: dict[str, How] = {
    "form": "checked",
    "package": "checked",
    "identity": "checked",
    "contract": "checked",
    "directory": "checked",
    "deadline": "timed",
    "calendar": "timed",
    "procedure": "procedural",
    "catalogue": "procedural",
}
"""What `enforced_by` may name. A catalogue is printed by us: there is nothing that could be refused. A rule
with any other mechanism is `open`, because nobody can say how it is kept."""

REQUIRED = ("R-COL", "R-CLU", "R-STA", "R-GEN")
"""What this system sets out to keep. The rules of other documents are registered and counted."""

BOTH: frozenset[Side] = frozenset({"met", "broken"})


class Registered(BaseModel):
    """A rule of the specification in one line; `severity` is empty where the specification gives none.

    `clause` may name several places, joined by `；`. `系统约定` among them: partly or wholly ours.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^R-[A-Z]{3}-\d{3}$")]
    severity: Severity | None
    clause: Annotated[str, StringConstraints(min_length=1)]
    text: Annotated[str, StringConstraints(min_length=1)]

    @property
    def prefix(self) -> str:
        return self.id[:5]

    @property
    def clauses(self) -> tuple[str, ...]:
        return tuple(self.clause.split("；"))


@dataclass(frozen=True)
class Kept:
    """A rule where it is kept. `id` is that of the notice, which may divide a rule (`R-COL-010a`) and then
    words the part itself; a rule that no notice has is `open` and without a place."""

    rule: Registered
    id: str
    text: str
    how: How = "open"
    notice: str = ""
    place: str = ""
    by: str = ""
    sides: frozenset[Side] = frozenset()

    @property
    def required(self) -> bool:
        return self.rule.prefix in REQUIRED

    @property
    def unproven(self) -> bool:
        return self.how == "checked" and self.sides != BOTH


def register() -> dict[str, Registered]:
    """Every rule of the specification by id, in its order. The file is made by hand from the specification,
    which is no part of this repository; a new rule there is a new line here."""
    text = (resources.files(__package__) / "data" / "rules.csv").read_text(encoding="utf-8")
    rows = (
        Registered.model_validate({**row, "severity": row["severity"] or None})
        for row in csv.DictReader(text.splitlines())
    )
    return {row.id: row for row in rows}


class Dated(BaseModel):
    """A line of the specification's calendar (§10). `later` says why no notice recalls it yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: DeadlineId
    text: Annotated[str, StringConstraints(min_length=1)]
    who: Annotated[str, StringConstraints(min_length=1)]
    clause: Annotated[str, StringConstraints(min_length=1)]
    later: str


def dates() -> dict[str, Dated]:
    """Every date of the specification's calendar, in its order."""
    text = (resources.files(__package__) / "data" / "dates.csv").read_text(encoding="utf-8")
    return {row["id"]: Dated.model_validate(row) for row in csv.DictReader(text.splitlines())}


def recalled(notices: Sequence[Notice]) -> dict[str, list[tuple[str, str]]]:
    """By date, `(notice, place)` of every occasion on which somebody is reminded of it; or of the assumption that
    says why a notice leaves it open."""
    found: dict[str, list[tuple[str, str]]] = {}
    for notice in notices:
        for id_, place in _dated(notice):
            found.setdefault(id_, []).append((notice.id, place))
    return found


def _dated(notice: Notice) -> Iterator[tuple[str, str]]:
    mine = set()
    for i, deadline in enumerate(notice.deadlines):
        if deadline.remind and deadline.recalled:
            mine.add(deadline.id)
            yield deadline.id, f"deadlines[{i}]"
    for i, duty in enumerate(notice.duties):
        if duty.remind:
            mine.add(duty.id)
            yield duty.id, f"duties[{i}]"
    for i, stage in enumerate(notice.procedure.stages):
        for id_ in stage.within.dates if stage.within and stage.reminded else ():
            mine.add(id_)
            yield id_, f"procedure.stages[{i}].within"
    for id_ in notice.assumptions:
        if id_.startswith("DL-") and id_ not in mine:
            yield id_, f"assumptions.{id_}"


def how(rule: Rule) -> tuple[How, str]:
    """The way in which a notice keeps a rule, and the field and value that say so."""
    if rule.holds is not None:
        return "checked", "holds"
    if rule.enforced_by is not None:
        return MECHANISMS.get(rule.enforced_by, "open"), f"enforced_by: {rule.enforced_by}"
    if rule.judged_by is not None:
        return "manual", f"judged_by: {rule.judged_by}"
    return "information", ""


def cover(
    registered: Mapping[str, Registered],
    notices: Sequence[Notice],
    proofs: Mapping[str, frozenset[Side]],
) -> list[Kept]:
    """One line for each rule and notice that has it, in the order of the register."""
    found: dict[str, list[Kept]] = {id_: [] for id_ in registered}
    for notice in notices:
        for id_, text, way, place, by in _kept_by(notice):
            if rule := registered.get(base(id_)):
                text = rule.text if id_ == rule.id else text
                sides = proofs.get(id_, frozenset())
                found[rule.id].append(Kept(rule, id_, text, way, notice.id, place, by, sides))
    return [
        one
        for id_, kept in found.items()
        for one in kept or [Kept(registered[id_], id_, registered[id_].text)]
    ]


def unregistered(registered: Mapping[str, Registered], notices: Sequence[Notice]) -> list[tuple[str, str]]:
    """What a notice has beyond the specification, as `(notice, rule)`: a reader should not take the list of
    the specification's rules for all that is judged."""
    return [
        (notice.id, id_) for notice in notices for id_, *_ in _kept_by(notice) if base(id_) not in registered
    ]


def counts(kept: Sequence[Kept]) -> dict[str, Counter[How]]:
    """How many rules of each prefix are kept in which way; each rule counts once."""
    strongest: dict[str, How] = {}
    order = list(HOW)
    for one in kept:
        known = strongest.get(one.rule.id, "open")
        strongest[one.rule.id] = min(known, one.how, key=order.index)
    found: dict[str, Counter[How]] = {}
    for id_, way in strongest.items():
        found.setdefault(id_[:5], Counter())[way] += 1
    return found


def base(id_: str) -> str:
    """The rule of the specification that a notice's rule is, or is a part of."""
    return id_.rstrip(ascii_lowercase)


def _kept_by(notice: Notice) -> Iterator[tuple[str, str, How, str, str]]:
    for i, rule in enumerate(notice.rules):
        way, by = how(rule)
        yield rule.id, rule.text, way, f"rules[{i}]", by
    for i, ground in enumerate(notice.grounds):
        if ground.id not in notice.by_rule:
            yield ground.id, ground.name, "procedural", f"grounds[{i}]", "grounds"


# --- tests, read as source ---------------------------------------------------------------------------


def proven(sources: Mapping[str, str]) -> dict[str, frozenset[Side]]:
    """The sides of each rule that the tests try: `sources` is test files by name. Raises `SyntaxError`.

    What counts is a row of a table that a test is parametrized with: a column `rule`, and the verdict in a
    column `expected` ("met" or "broken") or `broken` (True or False), both written out. So the list cannot
    outlive its tests: a table that no test runs on proves nothing, nor does one whose test, class or module is
    marked as skipped or failing, or whose test begins with giving up. What is decided while a test runs is not seen.
    """
    found: dict[str, set[Side]] = {}
    for name, source in sources.items():
        for rule, side in _tried(ast.parse(source, name)):
            found.setdefault(rule, set()).add(side)
    return {rule: frozenset(sides) for rule, sides in found.items()}


_SKIPPED = {"skip", "skipif", "xfail", "importorskip"}


def _tried(module: ast.Module) -> Iterator[tuple[str, Side]]:
    tables: dict[str, ast.expr] = {}
    for statement in module.body:
        if isinstance(statement, ast.Assign):
            tables |= {t.id: statement.value for t in statement.targets if isinstance(t, ast.Name)}
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            tables[statement.target.id] = statement.value or statement.target
    for node in _tests(module.body):
        for mark in node.decorator_list:
            if _called(mark) == "parametrize" and isinstance(mark, ast.Call) and len(mark.args) >= 2:
                names = _names(mark.args[0])
                rows = mark.args[1]
                rows = tables.get(rows.id, rows) if isinstance(rows, ast.Name) else rows
                for cells in _rows(rows):
                    yield from _verdict(dict(zip(names, cells, strict=False)))


def _tests(body: Sequence[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The tests that pytest runs: of the module and of its classes, never one within a function."""
    if _SKIPPED & {_called(mark) for mark in _marks(body)} or _gives_up(body):
        return
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if _SKIPPED & {_called(mark) for mark in node.decorator_list}:
                continue
            if isinstance(node, ast.ClassDef):
                if node.name.startswith("Test"):
                    yield from _tests(node.body)
            elif node.name.startswith("test") and not _gives_up(node.body):
                yield node


def _marks(body: Sequence[ast.stmt]) -> Iterator[ast.expr]:
    """`pytestmark = pytest.mark.skip`, or a list of marks."""
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in targets):
            value = getattr(node, "value", None)
            yield from value.elts if isinstance(value, ast.List | ast.Tuple) else filter(None, [value])


def _gives_up(body: Sequence[ast.stmt]) -> bool:
    """`pytest.skip(…)` without any condition."""
    calls = (node.value for node in body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    return any(_called(call) in _SKIPPED or _called(call) == "fail" for call in calls)


def _called(mark: ast.expr) -> str:
    """`parametrize` of `@pytest.mark.parametrize(…)`."""
    named = mark.func if isinstance(mark, ast.Call) else mark
    return named.attr if isinstance(named, ast.Attribute) else ""


def _names(columns: ast.expr) -> list[str]:
    if isinstance(columns, ast.Tuple | ast.List):
        return [str(_constant(c)) for c in columns.elts]
    return [name.strip() for name in str(_constant(columns)).split(",")]


def _rows(table: ast.expr) -> Iterator[Sequence[ast.expr]]:
    for row in table.elts if isinstance(table, ast.List | ast.Tuple) else ():
        if isinstance(row, ast.Tuple | ast.List):
            yield row.elts
        elif isinstance(row, ast.Call) and "marks" not in [k.arg for k in row.keywords]:
            yield row.args  # pytest.param(…); one with marks may be skipped


def _verdict(cells: Mapping[str, ast.expr]) -> Iterator[tuple[str, Side]]:
    rule = _constant(cells.get("rule"))
    expected, broken = _constant(cells.get("expected")), _constant(cells.get("broken"))
    if isinstance(rule, str):
        if expected == "broken" or broken is True:
            yield rule, "broken"
        elif expected == "met" or broken is False:
            yield rule, "met"


def _constant(node: ast.expr | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None
