"""The rules of a notice: CEL expressions compiled when the notice loads, verdicts and findings for an item.

Counting and remembering are not here: what needs memory arrives as named facts.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from typing import Any

from cel_expr_python import cel

from shared.contracts.types import Assessment, Finding, ItemKind, Kind, Values, Verdict
from shared.notices.columns import Column
from shared.notices.forms import dates_of, figures, miscomputed
from shared.notices.model import Form, Notice, Rule
from shared.notices.values import printed

_T = cel.Type
_TEXTS = _T.List(_T.STRING)
_ROWS = _T.List(_T.Map(_T.STRING, _T.STRING))

_COMMON: dict[str, Any] = {
    "filer.kind": _T.STRING,
    "filer.code": _T.STRING,
    "filer.name": _T.STRING,
    "filer.registered": _T.BOOL,
    "unit.kind": _T.STRING,
    "unit.name": _T.STRING,
    "notice.quota_mode": _T.STRING,
    "round.year": _T.INT,
    "round.quarter": _T.INT,
}
_ITEM: dict[str, Any] = {
    "item.form": _T.STRING,
    "item.kind": _T.STRING,
    "item.direction": _T.STRING,
    "item.direction_label": _T.STRING,
    "item.title": _T.STRING,
    "item.late": _T.BOOL,
    "item.start": _T.STRING,
    "item.end": _T.STRING,
    "item.district": _T.STRING,
    "item.district_name": _T.STRING,
    "item.materials": _TEXTS,
    "facts.published_earlier": _T.BOOL,
    "facts.published_where": _T.STRING,
    "facts.refiled": _T.BOOL,
}
_PACKAGE: dict[str, Any] = {
    "filed.forms": _TEXTS,
    "filed.titles": _T.Map(_T.STRING, _TEXTS),
    "facts.has_scan": _T.BOOL,
    "facts.has_editable": _T.BOOL,
}
_PARTS: dict[str, dict[str, Any]] = {
    "contact": {"name": _T.STRING, "phones": _TEXTS, "email": _T.STRING},
    "period": {"text": _T.STRING, "start": _T.STRING, "end": _T.STRING},
    "quantity": {"text": _T.STRING, "number": _T.INT},
    "amount": {"text": _T.STRING, "number": _T.DOUBLE},
    "months": {"text": _T.STRING, "min": _T.INT, "max": _T.INT},
    "rate": {"text": _T.STRING, "min": _T.DOUBLE, "max": _T.DOUBLE},
}
"""Parts of composite values as an expression sees them. Dates are ISO text, which compares like dates;
an absent part is empty text or 0."""

_KINDS: dict[str, Any] = {
    "integer": _T.INT,
    "decimal": _T.DOUBLE,
    "percent": _T.DOUBLE,
    "flag": _T.BOOL,
    "phones": _TEXTS,
}
"""What a plain value is to an expression; text where nothing is said. A date is ISO text."""

_PARAMS = ((bool, _T.BOOL), (int, _T.INT), (float, _T.DOUBLE), (tuple, _TEXTS), (str, _T.STRING))
"""In this order: to Python a truth is a whole number."""

_NAME = re.compile(r"\{([^{}]*)\}")
_DOTTED = re.compile(r"[a-z_][a-z_0-9]*(?:\.[a-z_][a-z_0-9]*)*")
_FACT = re.compile(r"\bfacts\.([a-z_0-9]+)")


@dataclass(frozen=True)
class Facts:
    """What the item itself does not say: remembered by intake, absent when a workbook is judged offline.

    `tallies` wants every count of the unit, not only those that the item adds to: a sentence may give them
    all. One that is left out counts 0.
    """

    published_earlier: bool = False
    published_where: str = ""
    refiled: bool = False
    tallies: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """One row with the circumstances of its filing.

    The unit is whom the item is counted against: the recommender if there is one (AMB-14), else the filer.
    The district is the one it is filed in: its code and what people call it. `materials` came with it.
    """

    form: Form
    stored: Values
    title: str
    kind: ItemKind
    direction: str | None
    filer_kind: Kind
    filer_code: str
    filer_name: str
    registered: bool
    late: bool
    unit_kind: Kind | None = None
    unit_name: str | None = None
    district: str = ""
    district_name: str = ""
    materials: tuple[str, ...] = ()


class RuleError(ValueError):
    """An expression of the notice does not compile: where it stands and why."""

    def __init__(self, where: tuple[str | int, ...], why: str) -> None:
        super().__init__(why)
        self.where = where


def _names(form: Form) -> dict[str, Any]:
    """A table within a card is known by how many rows it has, by its columns, each a list of texts, and by its
    rows, each with its texts by column. A computed figure is known by its key."""
    columns: dict[str, Column] = {**form.by_key, **_line_columns(form)}
    names: dict[str, Any] = {f"row.{one.key}": _T.DOUBLE for one in form.computed}
    for key, block in form.blocks.items():
        names[f"row.{key}.count"] = _T.INT
        names[f"row.{key}.rows"] = _ROWS
        names |= {f"row.{key}.{column.key}": _TEXTS for column in block.columns}
    for key, column in columns.items():
        parts = _PARTS.get(column.type)
        if parts is None:
            names[f"row.{key}"] = _KINDS.get(column.type, _T.STRING)
        else:
            names |= {f"row.{key}.{part}": kind for part, kind in parts.items()}
    return names


def _params(rule: Rule) -> dict[str, Any]:
    return {
        name: next(kind for of, kind in _PARAMS if isinstance(value, of))
        for name, value in rule.params.items()
    }


@dataclass(frozen=True)
class _Expression:
    """A compiled expression and the names in it: handing over everything that is known would cost four
    times the evaluation."""

    compiled: Any
    names: tuple[str, ...]

    def true(self, known: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
        """Whether it is known to hold. CEL answers a failure with a text, which Python would take for true.

        What fails on the data of one row (an index, a conversion) does not hold; a name that the caller has
        left out is the caller's fault (KeyError).
        """
        data = {name: params[name] if name in params else known[name] for name in self.names}
        return self.compiled.eval(data=data).value() is True


def _used(text: str, names: Mapping[str, Any]) -> tuple[str, ...]:
    """The declared names in an expression. Of `row.title.contains` it is `row.title`; the variable of a
    macro (`p` in `all(p, …)`) is not declared."""
    found = set()
    for token in _DOTTED.findall(text):
        parts = token.split(".")
        found |= {name for n in range(len(parts)) if (name := ".".join(parts[: n + 1])) in names}
    return tuple(sorted(found))


@dataclass(frozen=True)
class _Compiled:
    rule: Rule
    when: _Expression | None
    holds: _Expression
    params: dict[str, Any]
    tallied: bool

    def verdict(self, known: Mapping[str, Any], on: date) -> Verdict:
        rule = self.rule
        if (rule.since and on < rule.since) or (rule.until and on > rule.until):
            return "not_in_force"
        if self.when is not None and not self.when.true(known, self.params):
            return "not_applicable"
        return "met" if self.holds.true(known, self.params) else "broken"

    def filled(self, template: str | None, known: Mapping[str, Any]) -> str:
        data = {**known, **self.params}
        return _NAME.sub(lambda m: _spoken(data[m[1]]), template or "")

    def finding(self, known: Mapping[str, Any], pointer: str) -> Finding:
        """That it is broken. What the notice does not say in English, nobody puts into its mouth."""
        rule = self.rule
        return Finding(
            rule=rule.id,
            code=rule.id,
            severity=rule.severity,
            clause=rule.clause,
            detail=self.filled(rule.says, known),
            detail_en=self.filled(rule.says_en, known) if rule.says_en else None,
            pointer=pointer,
        )


def _spoken(value: Any) -> str:
    if isinstance(value, bool):
        return "是" if value else "否"
    if isinstance(value, float):
        # Four decimals are enough to read, unless they hide on which side of a whole number it lies.
        near = round(value, 4)
        return f"{value if near.is_integer() else near:.10f}".rstrip("0").rstrip(".")
    return "、".join(value) if isinstance(value, list) else f"{value}"


def _unseen(notice: Notice, i: int, rule: Rule) -> Iterator[RuleError]:
    """Evidence that no item has. What is not about one item has neither a figure nor evidence."""
    if rule.scope == "package" and (rule.figure is not None or rule.evidence):
        yield RuleError(("rules", i, "scope"), "scope: package 的规则不能有 figure 和 evidence")
        return
    for form in notice.forms:
        if rule.forms and form.id not in rule.forms:
            continue
        known = {*form.by_key, *form.blocks, *(m.key for m in notice.materials if form.id in m.forms)}
        for j, key in enumerate(rule.evidence):
            if key not in known:
                why = f"表 {form.id} 没有栏目或材料 {key}；现有 {'、'.join(sorted(known))}"
                yield RuleError(("rules", i, "evidence", j), why)


class RuleBook:
    """All expressions of one notice, compiled. Raises `RuleError` for the first that is wrong;
    `problems()` lists them all."""

    def __init__(self, notice: Notice) -> None:
        self.notice = notice
        self._errors: list[RuleError] = []
        self._environments: dict[tuple[tuple[str, str], ...], Any] = {}
        self._common: dict[str, Any] = {
            "notice.quota_mode": notice.quota_mode,
            "round.year": notice.round.year,
            "round.quarter": notice.round.quarter or 0,
            **{f"facts.{t.name}": 0 for t in notice.tallies},
        }
        facts = {f"facts.{t.name}": _T.INT for t in notice.tallies}
        tallied = {t.name for t in notice.tallies}
        self._by_form: dict[str, list[_Compiled]] = {f.id: [] for f in notice.forms}
        self._package: list[_Compiled] = []
        self._tallies: dict[str, list[tuple[str, str, Any]]] = {f.id: [] for f in notice.forms}
        rows = {f.id: _names(f) for f in notice.forms}
        for i, form_ in enumerate(notice.forms):
            self._errors += [RuleError(("forms", i, *where), why) for where, why in miscomputed(form_)]
        for i, rule in enumerate(notice.rules):
            self._errors += _unseen(notice, i, rule)
            if rule.holds is None:
                continue
            uses = set(_FACT.findall(f"{rule.when} {rule.holds}")) & tallied
            if uses and rule.severity == "hard":
                self._errors.append(
                    RuleError(("rules", i, "severity"), "用到计数的规则只能是 soft：计数在判定接收之后才有")
                )
            if rule.scope == "package":
                names = {**_COMMON, **_PACKAGE, **facts, **_params(rule)}
                self._package.append(self._compile(i, rule, names, tallied=bool(uses)))
                continue
            for form in rule.forms or self._by_form:
                if form in rows:
                    row = rows[form] if rule.forms else {}
                    names = {**_COMMON, **_ITEM, **facts, **row, **_params(rule)}
                    self._by_form[form].append(self._compile(i, rule, names, tallied=bool(uses), form=form))
        for i, tally in enumerate(notice.tallies):
            for form in tally.forms or self._tallies:
                if form in rows:
                    names = {**_COMMON, **_ITEM, **(rows[form] if tally.forms else {})}
                    where = self._expression(("tallies", i, "where"), tally.where, names, {}, form)
                    self._tallies[form].append((tally.name, tally.by, where))
        if self._errors:
            raise self._errors[0]
        self._asked = {
            form: frozenset(f for one in rules for f in _FACT.findall(f"{one.rule.when} {one.rule.holds}"))
            for form, rules in self._by_form.items()
        }

    @classmethod
    def problems(cls, notice: Notice) -> Sequence[RuleError]:
        book = cls.__new__(cls)
        try:
            cls.__init__(book, notice)
        except RuleError:
            # A rule of several forms is compiled for each of them; its fault is one.
            return tuple({error.where: error for error in reversed(book._errors)}.values())[::-1]
        return ()

    def _environment(self, names: Mapping[str, Any]) -> Any:
        """One for all expressions that may use the same names: each costs a quarter of a megabyte."""
        key = tuple(sorted((name, kind.name()) for name, kind in names.items()))
        if key not in self._environments:
            self._environments[key] = cel.NewEnv(variables=dict(names))
        return self._environments[key]

    def _expression(
        self,
        where: tuple[str | int, ...],
        text: str,
        names: dict[str, Any],
        params: Mapping[str, Any],
        form: str | None,
    ) -> Any:
        at = f"表 {form}：" if form else ""
        try:
            compiled = self._environment(names).compile(text)
        except RuntimeError as error:
            self._errors.append(RuleError(where, at + _explain(str(error), names)))
            return None
        if compiled.return_type() != _T.BOOL:
            self._errors.append(
                RuleError(where, f"{at}表达式应得出真或假（bool），实为 {compiled.return_type().name()}")
            )
            return None
        # A rehearsal on an empty row finds what compiling does not: a bad pattern, a conversion that fails.
        answer = compiled.eval(data={**{n: _seen(None, t) for n, t in names.items()}, **params}).value()
        if not isinstance(answer, bool):
            why = str(answer).removeprefix("INVALID_ARGUMENT: ").removeprefix("UNKNOWN: ")
            self._errors.append(RuleError(where, f"{at}表达式在空行上无法求值：{why}；请先判断是否为空"))
        return _Expression(compiled, _used(text, names))

    def _compile(
        self, i: int, rule: Rule, names: dict[str, Any], *, tallied: bool, form: str | None = None
    ) -> _Compiled:
        params = {k: list(v) if isinstance(v, tuple) else v for k, v in rule.params.items()}
        when = None
        if rule.when is not None:
            when = self._expression(("rules", i, "when"), rule.when, names, params, form)
        holds = self._expression(("rules", i, "holds"), rule.holds or "", names, params, form)
        for part, template in (("says", rule.says), ("says_en", rule.says_en), ("figure", rule.figure)):
            for name in _NAME.findall(template or ""):
                if name not in names:
                    why = f"占位符 {{{name}}} 没有对应的值{_meant(name, names)}"
                    self._errors.append(RuleError(("rules", i, part), why))
        return _Compiled(rule, when, holds, params, tallied)

    # --- judging ---

    def known(self, item: Item, facts: Facts) -> dict[str, Any]:
        """Every name that an expression may use, with its value for this item."""
        directions = self.notice.by_direction
        label = directions[item.direction].label if item.direction in directions else item.direction or ""
        start, end = dates_of(item.stored, item.form) or ("", "")
        known: dict[str, Any] = {
            **self._common,
            "filer.kind": item.filer_kind,
            "filer.code": item.filer_code,
            "filer.name": item.filer_name,
            "filer.registered": item.registered,
            "unit.kind": item.unit_kind or item.filer_kind,
            "unit.name": item.unit_name or item.filer_name,
            "item.form": item.form.id,
            "item.kind": item.kind,
            "item.direction": item.direction or "",
            "item.direction_label": label,
            "item.title": item.title,
            "item.late": item.late,
            "item.start": str(start),
            "item.end": str(end),
            "item.district": item.district,
            "item.district_name": item.district_name,
            "item.materials": list(item.materials),
            "facts.published_earlier": facts.published_earlier,
            "facts.published_where": facts.published_where,
            "facts.refiled": facts.refiled,
        }
        for name, count in facts.tallies.items():
            known[f"facts.{name}"] = count
        for key, block in item.form.blocks.items():
            rows = item.stored.get(key) or ()
            texts = [{column.key: printed(row.get(column.key)) for column in block.columns} for row in rows]
            known |= {f"row.{key}.count": len(texts), f"row.{key}.rows": texts}
            for column in block.columns:
                known[f"row.{key}.{column.key}"] = [text[column.key] for text in texts]
        for column in item.form.by_key.values():
            value = item.stored.get(column.key)
            parts = _PARTS.get(column.type)
            if parts is None:
                known[f"row.{column.key}"] = _seen(value, _KINDS.get(column.type, _T.STRING))
                continue
            for part, kind in parts.items():
                known[f"row.{column.key}.{part}"] = _seen(value.get(part) if value else None, kind)
        for line in item.form.lines:
            known[f"row.{line.key}"] = item.stored.get(line.key) or ""
        for key, figure in figures(item.form, item.stored).items():
            known[f"row.{key}"] = _seen(figure, _T.DOUBLE)
        return known

    def asks(self, form: str) -> frozenset[str]:
        """The facts that the rules of a form ask for; what nobody asks need not be looked up."""
        return self._asked.get(form, frozenset())

    def verdicts(
        self, form: str, known: dict[str, Any], on: date, *, tallied: bool
    ) -> Iterator[tuple[Rule, Verdict, str]]:
        """One verdict a rule, with the sentence when it is broken. `tallied` picks the rules that count
        (judged after acceptance) or those that do not (judged before)."""
        for one in self._by_form[form]:
            if one.tallied is tallied:
                verdict = one.verdict(known, on)
                yield one.rule, verdict, one.filled(one.rule.says, known) if verdict == "broken" else ""

    def findings(
        self, form: str, known: dict[str, Any], on: date, *, tallied: bool, root: str = "#/data/values"
    ) -> list[Finding]:
        return [
            one.finding(known, f"{root}/{one.rule.column}" if one.rule.column else root)
            for one in self._by_form[form]
            if one.tallied is tallied and one.verdict(known, on) == "broken"
        ]

    def assess(self, form: str, known: Mapping[str, Any], on: date) -> list[Assessment]:
        """What each rule with a figure found in the item, met or not, so that a reviewer sees them all."""
        return [
            Assessment(
                rule=one.rule.id,
                clause=one.rule.clause,
                severity=one.rule.severity,
                verdict=one.verdict(known, on),
                figure=one.filled(one.rule.figure, known),
                evidence=one.rule.evidence,
            )
            for one in self._by_form[form]
            if one.rule.figure is not None
        ]

    def tallies(self, form: str, known: dict[str, Any]) -> list[tuple[str, str]]:
        """The counts that this item adds to: `(tally, scope)`, scope being a direction or empty."""
        return [
            (name, known["item.direction"] if by == "direction" else "")
            for name, by, where in self._tallies[form]
            if where.true(known, {})
        ]

    def package_findings(
        self, filer: Mapping[str, Any], package: Mapping[str, Any], on: date, *, tallied: bool
    ) -> list[Finding]:
        """Findings about a package as a whole; `filer` gives all of `filer.…`, `package` gives
        `filed.forms`, `filed.titles` (by form, of every item), `facts.has_scan`, `facts.has_editable` and the tallies of the filer."""
        own = {"unit.kind": filer["filer.kind"], "unit.name": filer["filer.name"]}
        known = {**self._common, **own, "filed.titles": {}, **filer, **package}
        return [
            one.finding(known, "#/data")
            for one in self._package
            if one.tallied is tallied and one.verdict(known, on) == "broken"
        ]


def _line_columns(form: Form) -> dict[str, Column]:
    return {line.key: Column(field=line.field, key=line.key, header=line.label) for line in form.lines}


def _seen(value: Any, kind: Any) -> Any:
    if kind == _T.INT:
        return int(value) if value is not None else 0
    if kind == _T.DOUBLE:
        return float(value) if value is not None else 0.0
    if kind == _T.STRING:
        return value or ""
    if kind == _T.BOOL:
        return bool(value)
    if kind == _PACKAGE["filed.titles"]:
        return dict(value or {})
    return list(value or ())


def _explain(error: str, names: Mapping[str, Any]) -> str:
    """The checker's own message in one line, with what may be written instead."""
    message = re.sub(r"^INVALID_ARGUMENT: ERROR: <input>:\d+:(\d+): ", r"第\1列：", error.split("\n")[0])
    if m := re.search(r"undeclared reference to '([^']+)'", message):
        return f"表达式里没有 {m[1]} 这个名字{_meant(m[1], names)}"
    message = message.replace("found no matching overload for", "类型不符，没有这样的运算：")
    message = re.sub(r" expecting .*", "", message.replace("Syntax error: ", "语法错误："))
    return message.split("[")[0].strip()


def _meant(name: str, names: Mapping[str, Any]) -> str:
    near = get_close_matches(name, names, n=1)
    return f"{f'，是否想写 {near[0]}？' if near else '；'}可用：{'、'.join(sorted(names))}"
