"""What people write into the places of a card: dates, numbers, codes, yes and no, a tick in a printed list.

Contacts, periods and sums of lists are in `values.py`.
"""

import re
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from shared.notices.values import PARSERS, fault, narrow, phone, phones

TICKS = "√✓✔☑☒■●◉◼⬛"
"""How people fill a box in; ☒ is what Word's own check box shows."""
BOXES = "□☐○◯◻▢"

_MARK = f"[{TICKS}{BOXES}]|[(\\[][{TICKS}vVxX]?[)\\]]"
_SPACES = re.compile(r"\s+")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_YES = {"是", "有", "能", "可以", "提供", "同意", "承诺", "接受", "true", "yes", "y", *TICKS}
_NO = {"否", "无", "不", "没有", "不能", "不提供", "不同意", "false", "no", "n", "×", "x", *BOXES}


def _plain(text: str) -> str:
    return _SPACES.sub("", narrow(text))


def _parts(text: str) -> tuple[int, int, int | None] | None:
    """Year, month and day as written: `2025年3月5日`, `2025-03-05`, `2025.3.5`, `20250305`, `2025/3`."""
    plain = _plain(text).replace("号", "日")
    found = (
        re.fullmatch(r"(\d{4})[年./-](\d{1,2})(?:月|[./-](?=\d)|$)(?:(\d{1,2})日?)?", plain)
        or re.fullmatch(r"(\d{4})(\d{2})(\d{2})", plain)
    )  # fmt: skip
    return (int(found[1]), int(found[2]), int(found[3]) if found[3] else None) if found else None


def day(text: str) -> date:
    parts = _parts(text)
    if parts is None or parts[2] is None:
        raise fault("date", "应为年月日，如2025年3月5日")
    try:
        return date(parts[0], parts[1], parts[2])
    except ValueError:
        raise fault("date", "日期不存在，请检查月份和日") from None


def year_month(text: str) -> str:
    """`2016年5月` and `2016/5` as `2016-05`; a day is let go."""
    parts = _parts(text)
    if parts is None or not 1 <= parts[1] <= 12 or parts[0] < 1900:
        raise fault("date", "应为年和月，如2016年5月")
    return f"{parts[0]:04}-{parts[1]:02}"


def is_preprinted(text: str) -> bool:
    """`2025 年 月 日`, as the form prints it: nobody has written a date there."""
    return re.fullmatch(r"(?:\d{4})?年(?:\d{1,2}月日|月日?)", _plain(text).strip("_")) is not None


def number(text: str, unit: str = "") -> Decimal:
    """One number, with or without the unit of its column: `1,200.5`, `80㎡`, `约100`, `-3`.

    Another order of magnitude (`1.2亿` where 万元 is asked for) is a fault, and so are two numbers: nobody knows
    which is meant.
    """
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", _plain(text)).replace("−", "-")
    plain = plain.removesuffix(_plain(unit)) if unit else plain
    plain = plain.removesuffix(unit[0]) if unit[:1] in ("万", "亿") else plain
    if re.search(r"[万亿千百元]", plain):
        raise fault("number.unit", f"应以{unit or '表上所印单位'}为单位，只填数字")
    found = _NUMBER.findall(plain.replace("㎡", "").replace("m2", ""))
    if len(found) != 1:
        raise fault("number", "应为一个数字" if found else "应为数字")
    value = Decimal(found[0])
    if abs(value) >= 10**12:
        raise fault("number.size", "数字过大，请核对单位")
    return value


def integer(text: str, unit: str = "") -> int:
    found = number(text, unit)
    if found != found.to_integral_value():
        raise fault("number.whole", "应为整数")
    return int(found)


def percent(text: str, unit: str = "") -> Decimal:
    """`60.01%`, `60.01` and `60.01％` are the same: the column says that it is a percentage."""
    return number(_plain(text).replace("%", ""), unit)


def postcode(text: str) -> str:
    code = _plain(text)
    if not re.fullmatch(r"\d{6}", code):
        raise fault("R-GEN-005", "邮政编码应为6位数字")
    return code


def flag(text: str) -> bool:
    plain = _plain(text).casefold()
    chosen = ticked(plain, ("是", "否"))
    if chosen is not None:
        if len(chosen) != 1:
            raise fault("flag", "请选“是”或“否”中的一项")
        return chosen[0] == "是"
    if plain in _YES or (plain.startswith(("是", "有", "提供")) and plain[1:2] in ("", "，", ",", "(", ":")):
        return True
    if plain in _NO or (plain.startswith(("否", "无")) and plain[1:2] in ("", "，", ",", "(", ":")):
        return False
    raise fault("flag", "应填“是”或“否”")


def ticked(text: str, labels: Sequence[str]) -> list[str] | None:
    """Which of the printed choices are ticked; None when the text is no printed list of them.

    A tick stands before its choice (`☑民营`) or behind it, mostly in brackets (`商协会（√）`): the first choice
    shows which.
    """
    plain = _plain(text)
    names = {_plain(label): label for label in labels}
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    first = re.search(known, plain)
    if first is None:
        return None
    numbered = r"(?:\d{1,2}[.、)])?"
    if re.search(rf"(?:{_MARK}){numbered}$", plain[: first.start()]):
        pattern = rf"(?P<mark>{_MARK}){numbered}(?P<label>{known})"
    else:
        pattern = rf"(?P<label>{known})(?P<mark>{_MARK})"
    choices = list(re.finditer(pattern, plain))
    if not choices:
        return None
    return list(dict.fromkeys(names[c["label"]] for c in choices if re.search(f"[{TICKS}vVxX]", c["mark"])))


def chosen(text: str, labels: Sequence[str]) -> str:
    """The one choice that is ticked in a printed list, else the text itself."""
    found = ticked(text, labels)
    if found is None:
        return text
    if not found:
        return ""
    if len(found) > 1:
        raise fault("list.several", f"只能选一项，选了{len(found)}项：{'、'.join(found)}")
    return found[0]


def uscc(text: str) -> str:
    """With the blanks that people put between its groups."""
    code: str = PARSERS["uscc"](_plain(text))
    return code


NUMBERS: dict[str, Callable[[str, str], Any]] = {"integer": integer, "decimal": number, "percent": percent}
"""What takes the unit of its column besides the text."""

ENTRIES: dict[str, Callable[[str], Any]] = {
    "date": day,
    "year_month": year_month,
    "postcode": postcode,
    "flag": flag,
    "phones": phones,
    "phone": phone,
    "email": PARSERS["email"],
    "uscc": uscc,
}
"""Each takes the text of a place and gives its value, or a fault."""
