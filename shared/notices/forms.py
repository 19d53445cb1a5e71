"""A form as a pydantic model, a JSON Schema, and a judge of one row.

Reading and writing spreadsheets is not here, nor are rules that need more than the row itself.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from functools import partial
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from shared.contracts.types import (
    Amount,
    Contact,
    Finding,
    ItemKind,
    Months,
    Period,
    Quantity,
    Rate,
    Values,
)
from shared.notices import entries, values
from shared.notices.cards import Block
from shared.notices.columns import Column
from shared.notices.layout import ADDED, Computed
from shared.notices.model import CodeList, Form, Notice, Round

TEXT_LIMIT = 2000
"""Ours, where the notice states none (spec §2.0): longer text is noted, not refused."""

SHORT_LIMIT = 200
"""What a printed date, number or contact may take (`types.Short`); nobody needs more, so it is refused."""

BLOCK_ROWS = 200
"""Rows of a table within a card; ours."""

_SHAPES: dict[str, type[BaseModel]] = {
    "contact": Contact,
    "period": Period,
    "quantity": Quantity,
    "amount": Amount,
    "months": Months,
    "rate": Rate,
}


@dataclass(frozen=True)
class Row:
    """One judged row: `stored` is None when the row cannot be stored at all."""

    stored: Values | None
    findings: tuple[Finding, ...]
    title: str = ""
    item_kind: ItemKind = "activity"
    direction: str | None = None


def _required(text: str) -> str:
    if not text:
        raise values.fault("missing", "不能为空")
    return text


def _text(value: Any) -> str:
    if isinstance(value, Mapping | list | tuple):
        raise values.fault("schema.text", "应为文字，不能是列表或对象")
    return values.tidy(value)


def _before(parse: Callable[[str], Any]) -> BeforeValidator:
    def read(value: Any) -> Any:
        if isinstance(value, Mapping):
            return value
        return parse(_within(SHORT_LIMIT, _required(_text(value))))

    return BeforeValidator(read)


def _consistent(value: Any) -> Any:
    """Parts given one by one keep the same promises as parts read from a text."""
    match value:
        case Contact():
            mail = values.email(value.email) if value.email else None
            return value.model_copy(update={"phones": tuple(map(values.phone, value.phones)), "email": mail})
        case Period(start=None, end=date()):
            raise values.fault("date.order", "有结束日期而没有开始日期")
        case Period(start=date() as start, end=None):
            return value.model_copy(update={"end": start})
        case Period(start=date() as start, end=date() as end) if end < start:
            raise values.fault("date.order", "结束日期早于开始日期")
        case Quantity(number=int() as number) if number < 1:
            raise values.fault("at_least_one", "数目应不小于1")
        case Amount(number=Decimal() as sum_) if sum_ < 0:
            raise values.fault("not_negative", "金额不能为负数")
        case Months(min=int() as least) if least < 1:
            raise values.fault("at_least_one", "贷款期限应不少于1个月")
        case Months(min=int() as least, max=int() as most) if least > most:
            raise values.fault("months.order", "期限的下限高于上限")
        case Rate(min=Decimal() as low) if low < 0:
            raise values.fault("not_negative", "利率不能为负数")
        case Rate(min=Decimal() as low, max=Decimal() as high) if low > high:
            raise values.fault("F5.10", "贷款利率区间的下限高于上限")
    return value


def _optional(value: Any) -> Any:
    return None if value is None or (isinstance(value, str) and values.tidy(value) == "") else value


def _closed(code_list: CodeList, text: str) -> str:
    text = _required(entries.chosen(text, [c.label for c in code_list.values]))
    known = choose(code_list, text)
    if known is None and not code_list.open:
        labels = "、".join(c.label for c in code_list.values)
        raise values.fault("list.closed", f"应为以下之一：{labels}")
    return known or text


def choose(code_list: CodeList, text: str) -> str | None:
    """The exact label that a typed text stands for: ★, brackets, blanks and width do not matter."""
    wanted = values.same(text)
    for choice in code_list.values:
        if wanted in (values.same(choice.label), *map(values.same, choice.aliases)):
            return choice.label
    return None


def _annotation(column: Column, lists: Mapping[str, CodeList], year: int) -> Any:
    shape: Any = str
    if column.type in _SHAPES:
        model = _SHAPES[column.type]
        parse = partial(values.period, year=year) if column.type == "period" else values.PARSERS[column.type]
        either = {"anyOf": [{"type": "string"}, TypeAdapter(model).json_schema()]}
        shape = Annotated[model, _before(parse), AfterValidator(_consistent), WithJsonSchema(either)]
    elif column.list is not None:
        pick = partial(_closed, lists[column.list])
        labels = [c.label for c in lists[column.list].values]
        schema: dict[str, Any] = {"type": "string", "examples": labels}
        if not lists[column.list].open:
            schema = {"type": "string", "enum": labels}
        shape = Annotated[
            str,
            BeforeValidator(_text),
            AfterValidator(_required),
            AfterValidator(pick),
            WithJsonSchema(schema),
        ]
    elif column.type in _PLAIN:
        shape = _entry(column)
    else:
        after = [AfterValidator(_required)]
        if column.stated and column.limit:
            after.append(AfterValidator(partial(_within, column.limit)))
        shape = Annotated[str, BeforeValidator(_text), *after]
    if not column.required or column.conditional:
        shape = Annotated[shape | None, BeforeValidator(_optional)]
        return (shape, Field(default=None, description=column.header))
    return (shape, Field(description=column.header))


_PLAIN: dict[str, tuple[Any, dict[str, Any]]] = {
    "phone": (str, {"type": "string"}),
    "phones": (
        tuple[str, ...],
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]},
    ),
    "email": (str, {"type": "string", "format": "email"}),
    "uscc": (str, {"type": "string", "minLength": 18, "maxLength": 18}),
    "postcode": (str, {"type": "string", "pattern": r"^\d{6}$"}),
    "date": (date, {"type": "string", "format": "date"}),
    "year_month": (str, {"type": "string", "examples": ["2016-05"]}),
    "integer": (int, {"type": ["integer", "string"]}),
    "decimal": (Decimal, {"type": ["number", "string"]}),
    "percent": (Decimal, {"type": ["number", "string"]}),
    "flag": (bool, {"type": ["boolean", "string"]}),
}
"""Types that are one JSON value: how it is stored, and what a publisher may write."""


def _entry(column: Column) -> Any:
    """A value that is read from what people write, whether they write it on paper or in JSON."""
    shape, schema = _PLAIN[column.type]
    counts = entries.NUMBERS.get(column.type)
    parse = entries.ENTRIES.get(column.type)
    dated = column.type in ("date", "year_month")

    def read(value: Any) -> Any:
        if isinstance(value, list | tuple) and column.type == "phones":
            value = "、".join(map(_text, value))
        text = _required(_text(value))
        if dated and entries.is_preprinted(text):
            raise values.fault("missing", "不能为空")
        _within(SHORT_LIMIT, text)
        found: Any = counts(text, column.unit) if counts else parse(text) if parse else text
        if column.least is not None and found < column.least:
            raise values.fault("least", f"应不小于{column.least}")
        return found

    return Annotated[shape, BeforeValidator(read), WithJsonSchema(schema)]


def _rows(form: Form, block: Block, lists: Mapping[str, CodeList], year: int) -> Any:
    """A table within a card: a list of rows, each judged by its own columns."""
    fields: dict[str, Any] = {c.key: _annotation(c, lists, year) for c in block.columns}
    row = create_model(
        f"{form.id.replace('-', '_')}_{block.key}",
        __config__=ConfigDict(extra="forbid", frozen=True),
        **fields,
    )
    most = Annotated[tuple[row, ...], Field(max_length=BLOCK_ROWS)]
    least = Annotated[most, Field(min_length=1)] if block.required else most
    return (
        least,
        Field(description=block.title) if block.required else Field(default=(), description=block.title),
    )


def _within(limit: int, text: str) -> str:
    if (n := values.length(text)) > limit:
        raise values.fault("limit", f"不超过{limit}字，实为{n}字")
    return text


class FormJudge:
    """Judges rows of one form of one notice; built once, used for every row."""

    def __init__(self, notice: Notice, form: Form) -> None:
        self.form = form
        self.lists = notice.lists
        self.round: Round = notice.round
        self.lines = {
            line.key: Column(
                field=line.field, key=line.key, header=line.label, type=line.type, required=line.required
            )
            for line in form.lines
        }
        self.columns = {
            **{k: c.model_copy(update={"header": self.round.fill(c.header)}) for k, c in form.by_key.items()},
            **self.lines,
        }
        fields: dict[str, Any] = {
            key: _annotation(column, notice.lists, notice.round.year) for key, column in self.columns.items()
        }
        for key, block in form.blocks.items():
            fields[key] = _rows(form, block, notice.lists, notice.round.year)
        if not form.card:
            fields[ADDED] = (dict[str, str], Field(default={}, description="表中另加的列"))
        self.model: type[BaseModel] = create_model(
            form.id.replace("-", "_") + "Row",
            __config__=ConfigDict(extra="forbid", frozen=True),
            **fields,
        )

    def schema(self) -> dict[str, Any]:
        """JSON Schema 2020-12 of `data.values`; a composite column takes its printed text or its parts.

        It is how a row should be written: the judge takes more (what people type into a cell) and looks deeper (check
        digits, lists, limits), which it answers with findings.
        """
        made = self.model.model_json_schema()
        for part in (made, *made.get("$defs", {}).values()):
            for key in part.get("required", ()):
                one = part["properties"][key]
                for branch in one.get("anyOf", [one]):
                    if "string" in branch.get("type", ""):  # a name, or a list of them
                        branch.setdefault("minLength", 1)
        for key, column in self.columns.items():
            if column.limit:
                said = "不超过" if column.stated else "建议不超过"
                made["properties"][key]["description"] += f"（{said}{column.limit}字，空格不计）"
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:cn:gov:gz:sme:form:{self.form.id}",
            **made,
            "description": f"{self.form.annex} {self.round.fill(self.form.title)}",
        }

    def judge(self, raw: Mapping[str, Any], root: str = "#/data/values") -> Row:
        """Every fault of the row at once; the values are in their stored shape when there is no hard one."""
        try:
            stored = self.model.model_validate(raw).model_dump(mode="json", exclude_defaults=True)
        except ValidationError as error:
            found = tuple(self._fault(e, root) for e in error.errors(include_input=False))
            return Row(None, found, self._named({k: v for k, v in raw.items() if isinstance(v, str)}))
        findings = tuple(self._notes(stored, root))
        return Row(stored, findings, self._named(stored), self._item_kind(stored), self._direction(stored))

    def finding(
        self,
        key: str,
        code: str,
        severity: Any,
        detail: str,
        root: str,
        rule: str = "",
        column: Column | None = None,
        within: str = "",
    ) -> Finding:
        column = column or self.columns.get(key)
        header = re.sub(r"\s*[（(]\s*[)）]|[：:]$", "", column.header) if column else ""
        return Finding(
            rule=rule or (column.field if column else self.form.id),
            code=code,
            severity=severity,
            clause=self.form.clause,
            detail=f"{within}“{header}”：{detail}" if column else detail,
            pointer=f"{root}/{key}",
        )

    def _fault(self, error: Any, root: str) -> Finding:
        # A shape that pydantic itself refuses names its branch of a union behind the column: only rows go deeper.
        path = [str(step).replace("~", "~0").replace("/", "~1") for step in error["loc"]]
        key = path[0] if path else ""
        column = self.columns.get(key)
        if block := self.form.blocks.get(key):
            column = next((c for c in block.columns if c.key == "".join(path[2:3])), None)
            key = "/".join(path[:3])
        code, detail, rule = error["type"], error["msg"], ""
        if column and column.rule and (code in KEPT_BY_COLUMN or code.endswith(".length")):
            rule = column.rule
        elif code.startswith("R-"):
            rule = code.split(".")[0]
        elif code == "missing":
            detail = "不能为空"
        elif code == "extra_forbidden":
            known = "、".join((*self.columns, *self.form.blocks))
            code, detail = "schema.extra", f"表{self.form.id}没有字段 {key}；可用：{known}"
        elif block and column is None:
            rule, code, detail = block.field, "schema." + code, f"“{block.title}”：{_rows_fault(code)}"
        elif "." not in code and code not in OURS:
            code, detail = "schema." + code, "取值不合要求"
        within = f"“{block.title}”第{int(path[1]) + 1}行，" if block and column else ""
        return self.finding(key, code, "hard", detail, root, rule, column, within)

    def _notes(self, stored: Values, root: str) -> list[Finding]:
        found = []
        for key, column in self.columns.items():
            value = stored.get(key)
            if value is None:
                if column.conditional:
                    found.append(self.finding(key, "conditional", "soft", column.conditional, root))
                continue
            limit = column.limit or (TEXT_LIMIT if column.type in ("text", "person") else None)
            if (
                limit
                and not column.stated
                and isinstance(value, str)
                and len(value) > limit  # blanks do not count, so only what is longer need be measured
                and (n := values.length(value)) > limit
            ):
                found.append(self.finding(key, "limit", "soft", f"建议不超过{limit}字，实为{n}字", root))
            if column.list and (code_list := self.lists[column.list]).open:
                if choose(code_list, value) is None and not value.startswith("其他"):
                    labels = "、".join(c.label for c in code_list.values)
                    detail = f"不在所列范围内，按“其他”处理；所列：{labels}"
                    found.append(
                        self.finding(key, "list.other", "soft", detail, root, code_list.rule or column.field)
                    )
                elif values.same(value) == "其他":
                    detail = "选“其他”时请写明具体领域，如“其他（知识产权）”"
                    found.append(
                        self.finding(
                            key, "list.unnamed", "soft", detail, root, code_list.rule or column.field
                        )
                    )
        return found

    def _named(self, row: Mapping[str, Any]) -> str:
        return " ".join(values.printed(row.get(k)) for k in self.form.name)[:200]

    def _item_kind(self, stored: Values) -> ItemKind:
        if self.form.item_kind_from is None:
            return self.form.item_kind
        value = stored.get(self.form.item_kind_from)
        return "product" if value is None or values.is_blank(values.printed(value)) else "activity"

    def _direction(self, stored: Values) -> str | None:
        """The direction of the item: that of the form, or of the domain it names (derived, spec §1.2)."""
        if self.form.direction:
            return self.form.direction
        for column in self.form.by_key.values():
            if column.list and (label := stored.get(column.key)):
                for choice in self.lists[column.list].values:
                    if choice.label == label and choice.direction:
                        return choice.direction
        return None


def _rows_fault(code: str) -> str:
    return "至少要填写一行" if code == "too_short" else f"应为不超过{BLOCK_ROWS}行的列表"


KEPT_BY_COLUMN = {"limit", "list.closed", "list.several"}
"""What the `rule` of a column is about: how long its value is, and that it is one of those in its closed list."""

OURS = {"at_least_one", "not_negative", "date", "limit", "number", "flag", "least"}
"""Codes of `values` that need no prefix; one with a dot or `R-` is ours anyway."""


def dates_of(stored: Values, form: Form) -> tuple[date, date] | None:
    """The period in which the item takes place, when the row says one."""
    for column in form.by_key.values():
        value = stored.get(column.key)
        if column.type == "period" and value and value.get("start"):
            return date.fromisoformat(value["start"]), date.fromisoformat(value["end"])
    return None


# --- figures that follow from others -------------------------------------------------------------------

_EXACT = Context(prec=250)
"""Digits enough for any quotient of two numbers of SHORT_LIMIT characters: nothing is rounded on the way."""

_DECIMALS = Decimal("1E-10")
"""Roots are rounded to this, so that exactly 5 % a year is 5 and not a little more (指引 3.2.2: 高于5%)."""

_NUMBERS: dict[str, str | None] = {
    "integer": None,
    "decimal": None,
    "percent": None,
    "amount": "number",
    "quantity": "number",
}
"""Types that can be reckoned with, and the part of the value that is the number."""


def figures(form: Form, stored: Values) -> dict[str, Decimal | None]:
    """What the form computes from a stored row, by key; None where the row does not give enough for it."""
    return {one.key: _figure(form, one, stored) for one in form.computed}


def _figure(form: Form, one: Computed, stored: Values) -> Decimal | None:
    found = [_number(form.by_key[key], stored.get(key)) for key in one.of]
    known = [n for n in found if n is not None]
    if len(known) < len(found):
        return None
    exact = mean(known) if one.how == "mean" else growth(known, yearly=one.how == "mean_growth")
    # `plus` makes nothing of a nothing below zero, which would be printed as -0.
    return None if exact is None else _EXACT.plus(exact.quantize(_DECIMALS, context=_EXACT))


def _number(column: Column, value: Any) -> Decimal | None:
    part = _NUMBERS[column.type]
    if part is not None and value is not None:
        value = value.get(part)
    return None if value is None else Decimal(str(value))


def mean(of: Sequence[Decimal]) -> Decimal:
    total = Decimal(0)
    for one in of:
        total = _EXACT.add(total, one)
    return _EXACT.divide(total, Decimal(len(of)))


def growth(of: Sequence[Decimal], *, yearly: bool = False) -> Decimal | None:
    """The compound rate in percent from the first figure to the last, or the mean of the `yearly` rates (AMB-06).
    From nothing, or from less than nothing, there is no rate."""
    bases = of[:-1] if yearly else of[:1]
    if min(of) < 0 or min(bases) == 0:
        return None
    if yearly:
        steps = [_EXACT.divide(after, before) for before, after in zip(bases, of[1:], strict=True)]
        ratio = mean(steps)
    else:
        ratio = _root(_EXACT.divide(of[-1], of[0]), len(of) - 1)
    return _EXACT.multiply(_EXACT.subtract(ratio, Decimal(1)), Decimal(100))


def _root(of: Decimal, n: int) -> Decimal:
    return of if n == 1 or of == 0 else _EXACT.power(of, _EXACT.divide(Decimal(1), Decimal(n)))


def miscomputed(form: Form) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What cannot be computed: from columns that are no numbers, or under a name that is taken."""
    for i, one in enumerate(form.computed):
        taken = [*form.by_key, *form.blocks, *(line.key for line in form.lines)]
        if one.key in (*taken, *(other.key for other in form.computed[:i])):
            yield ("computed", i, "key"), f"{one.key} 已用于本表的另一栏"
        for j, key in enumerate(one.of):
            column = form.by_key.get(key)
            if column is None or column.type not in _NUMBERS:
                yield ("computed", i, "of", j), f"{key} 不是数字，不能用于计算"
