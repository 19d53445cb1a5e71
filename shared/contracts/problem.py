"""What a publisher reads when an event is refused: an RFC 9457 problem document.

How faults are found is not here; this only gives them one shape.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from shared.contracts.english import FAULTS, in_english, problem_in_english
from shared.contracts.scalars import Whole
from shared.contracts.types import Finding, Outbound, Unnamed

MOST = 100
"""Findings listed in one document; the rest are counted, so that a hopeless file stays readable."""

LONGEST = 300
"""Characters of a pointer; one that runs into a longer name (a publisher's invention) names what holds it."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_QUOTED = re.compile("'([^']*)'")

PREFIX = "urn:cn:gov:gz:sme:problem:"


class Problem(Outbound):
    type: str
    title: str
    status: Whole
    detail: Unnamed
    title_en: str | None = None
    detail_en: str | None = None
    errors: tuple[Finding, ...] = ()
    truncated: bool = False


def listed(errors: Sequence[Finding]) -> tuple[Finding, ...]:
    """As many as are listed; should there be more, the worst: nobody is to look for why among a hundred hints."""
    if len(errors) > MOST:
        errors = sorted(errors, key=lambda one: ("hard", "soft", "info").index(one.severity))
    return tuple(errors[:MOST])


def problem(name: str, title: str, detail: str, errors: Sequence[Finding] = (), status: int = 422) -> Problem:
    """A problem document of the kind `name` (a stable word, the last part of its `type` URN)."""
    title_en, detail_en = problem_in_english(title, len(errors))
    return Problem(
        type=PREFIX + name,
        title=title,
        status=status,
        detail=detail,
        title_en=title_en,
        detail_en=detail_en,
        errors=in_english(listed(errors)),
        truncated=len(errors) > MOST,
    )


def pointer(parts: Iterable[str | int], root: str = "#") -> str:
    """RFC 6901 pointer as a URI fragment: `#/data/values/contact`."""
    made = root
    for part in parts:
        step = "/" + str(part).replace("~", "~0").replace("/", "~1")
        if len(made) + len(step) > LONGEST:
            break
        made += step if step.isprintable() else quote(step, safe="/", errors="replace")
    return made


def locate(loc: Sequence[str | int], document: Any) -> list[str | int]:
    """`loc` of pydantic without union tags and branch names: only steps that exist in the document.

    The last step is kept even when it is absent, because a missing field is exactly what it names.
    """
    path: list[str | int] = []
    here = document
    for i, step in enumerate(loc):
        if isinstance(here, dict) and step in here:
            here = here[str(step)]
        elif isinstance(here, (list, tuple)) and isinstance(step, int) and step < len(here):
            here = here[step]
        elif not (i == len(loc) - 1 and isinstance(here, dict)):
            continue
        path.append(step)
    return path


SAYINGS = {
    "missing": "缺少必填字段",
    "extra_forbidden": "没有这个字段，请检查拼写",
    "string_type": "应为文本",
    "string_too_long": "文本过长",
    "string_too_short": "不能为空",
    "string_pattern_mismatch": "格式不符",
    "int_parsing": "应为整数",
    "int_type": "应为整数",
    "decimal_parsing": "应为数字",
    "decimal_type": "应为数字",
    "finite_number": "应为有限的数",
    "date_type": "日期应写作 2025-03-07",
    "date_parsing": "日期应写作 2025-03-07",
    "datetime_type": "时间应写作带时区的 RFC 3339，如 2025-03-07T09:00:00+08:00",
    "datetime_parsing": "时间应写作带时区的 RFC 3339，如 2025-03-07T09:00:00+08:00",
    "uuid_type": "应为 UUID",
    "uuid_parsing": "应为 UUID，如 0b6a7c1e-2f4d-5a89-9c3e-7d1f60a2b845",
    "timezone_aware": "时间必须带时区",
    "literal_error": "不在允许的取值之内",
    "json_invalid": "不是合法的 JSON",
    "model_type": "应为对象",
    "dict_type": "应为对象",
    "tuple_type": "应为数组",
    "too_short": "数目不足",
    "value_error": "取值不合要求",
}


def faults(error: ValidationError, document: Any, root: str = "#") -> list[Finding]:
    """The faults of an event that does not fit its contract; values are never echoed, nor what somebody made up for a
    field and is no name of one: that may be anything."""
    found = []
    for e in error.errors(include_url=False, include_input=False, include_context=True):
        kind = e["type"]
        context = e.get("ctx", {})
        loc = e["loc"]
        if kind == "extra_forbidden" and not _IDENTIFIER.fullmatch(str(loc[-1])):
            loc = loc[:-1]
        path = locate(loc, document)
        detail, english = SAYINGS.get(kind, "取值不合要求"), FAULTS.get(f"schema.{kind}")
        if kind == "literal_error":
            detail = f"应为以下之一：{'、'.join(_QUOTED.findall(context.get('expected', '')))}"
            english = f"Must be {context.get('expected', '')}."
        elif "max_length" in context:
            detail = f"最多 {context['max_length']} 个字符"
            english = f"At most {context['max_length']} characters or items."
        found.append(
            Finding(
                rule="schema",
                code=f"schema.{kind}",
                severity="hard",
                clause="接口契约",
                detail=detail,
                detail_en=english,
                pointer=pointer(_named(path) if kind == "finite_number" else path, root),
            )
        )
    return found


def nul(path: Sequence[str | int], root: str = "#") -> Finding:
    """The fault of a text with U+0000 in it, which no schema of pydantic's finds."""
    return Finding(
        rule="schema",
        code="schema.null_character",
        severity="hard",
        clause="接口契约",
        detail="文本中不能有 U+0000",
        detail_en=FAULTS["schema.null_character"],
        pointer=pointer(_named(path), root),
    )


def _named(path: Sequence[str | int]) -> Sequence[str | int]:
    """As far as its steps are names: in what a contract leaves open, a publisher may call anything a field."""
    strange = (n for n, step in enumerate(path) if isinstance(step, str) and not _IDENTIFIER.fullmatch(step))
    return path[: next(strange, len(path))]
