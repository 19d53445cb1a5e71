"""What people type into a cell, as values; and values as the text that is printed.

Which column holds which kind of value is not here: that is the form.
"""

import re
import unicodedata
from calendar import monthrange
from collections.abc import Callable
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from pydantic_core import PydanticCustomError

from shared.contracts.types import Amount, Contact, Months, Period, Quantity, Rate

BLANK = {"", "-", "--", "—", "——", "－", "/", "／", "无", "N/A"}
"""How people say that a cell does not apply; `—` is what spec §2.3 and §2.6 print."""

_SPACES = re.compile(r"\s+")
_SPLIT = re.compile(r"[、；;，,/\s]+")
_EXTENSION = re.compile(r"(?:转|[-－—]{1,2})(\d{1,5})$")
_PHONE = re.compile(
    r"(?<!\d)(?:\+?86[- ]?)?"
    r"(?:1[3-9]\d[- ]?\d{4}[- ]?\d{4}|[48]00-?\d{3}-?\d{4}"
    r"|(?:(?:\(?0|(?<=86-))\d{2,3}\)?[- ]?)?\d{7,8}(?:(?:转|-)\d{1,5})?)(?!\d)"
)
_MAIL = re.compile(r"[^\s、；;，,/：:()（）]+@[^\s、；;，,/：:()（）]+")
_LABEL = re.compile(
    r"(?:联系人|联系方式|联系电话|手机|电话|固话|座机|邮箱|电子邮箱)\s*[：:]?|(?:E-?mail|Tel)\s*[：:]",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
_DASH = re.compile(r"\s*(?:—+|–|－|-|~|～|至|到|、|和)\s*")
_HYPHENS = str.maketrans("‐‑‒–—―−", "-" * 7)
_NEGATIVE = re.compile(r"^\D*[-−]\s*\d")
_TERM = re.compile(r"(\d+(?:\.\d+)?)(年|天|日)?")


def fault(code: str, detail: str) -> PydanticCustomError:
    """A fault of a value; `code` names the rule that it breaks, the value itself is never repeated."""
    return PydanticCustomError(code, detail)


def narrow(text: str) -> str:
    """Full-width letters, digits and signs as ASCII. For codes and numbers only: it turns ㎡ into m2."""
    return unicodedata.normalize("NFKC", text)


def tidy(value: object) -> str:
    """A cell as text: numbers without a stray `.0`, no blanks around, lines kept."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "是" if value else "否"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, date):
        return f"{value.year}年{value.month}月{value.day}日"
    return unicodedata.normalize("NFC", str(value)).replace("\r\n", "\n").strip(" \t\n\u3000")


def length(text: str) -> int:
    """Characters as the notices count them: code points after NFC, blanks and line breaks not counted.

    spec §0.4: `服务 中小\\n企业。` has 7.
    """
    return len(_SPACES.sub("", unicodedata.normalize("NFC", text)))


@lru_cache(maxsize=4096)
def same(text: str) -> str:
    """A form in which two spellings of one name or header are equal; never shown to people."""
    return _SPACES.sub("", narrow(text)).strip("★*:：").casefold()


def is_blank(text: str) -> bool:
    return text.strip() in BLANK


# --- identifiers -------------------------------------------------------------------------------------

_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)


def uscc(text: str) -> str:
    """统一社会信用代码, GB 32100-2015 (R-GEN-001).

    Our own fifteen lines: python-stdnum 2.2 wants eight leading digits and so refuses codes that begin
    with a letter, which rural collectives and some registrars have.
    """
    code = narrow(text).upper().strip()
    if len(code) != 18:
        raise fault("R-GEN-001.length", f"统一社会信用代码应为18位，实为{len(code)}位")
    strange = sorted({c for c in code if c not in _ALPHABET})
    if strange:
        raise fault("R-GEN-001.alphabet", "统一社会信用代码含有不使用的字符（不用 I、O、S、V、Z）")
    total = sum(_ALPHABET.index(c) * w for c, w in zip(code, _WEIGHTS, strict=False))
    if _ALPHABET[(31 - total % 31) % 31] != code[17]:
        raise fault("R-GEN-001.check", "统一社会信用代码校验码不符")
    return code


@lru_cache(maxsize=4096)  # the same contact stands on every row of a unit; parsing one costs 30 µs
def phone(text: str) -> str:
    """One telephone number (R-GEN-003): `13800138000`, `020-83726619`, `020-83522270-802`.

    A bare 8-digit number gets Guangzhou's area code; phonenumbers calls it invalid otherwise.
    """
    raw = _SPACES.sub("", narrow(text)).translate(_HYPHENS).replace("(", "").replace(")", "-")
    raw = re.sub(r"^\+?86-?(?=1[3-9]|0)", "", raw)
    raw = re.sub(r"^\+?86-(?=[2-9]\d{1,2}-)", "0", raw)
    extension = ""
    if re.match(r"^(?:0\d{2,3}-?)?\d{7,8}(?:转|-)\d{1,5}$", raw) and (m := _EXTENSION.search(raw)):
        raw, extension = raw[: m.start()], "-" + m[1]
    digits = raw.replace("-", "")
    if len(digits) == 8 and not digits.startswith("0"):
        digits = "020" + digits
    try:
        number = phonenumbers.parse(digits, "CN")
    except phonenumbers.NumberParseException:
        raise fault("R-GEN-003", "不是有效的电话号码") from None
    if not digits.isdigit() or not phonenumbers.is_valid_number(number):
        raise fault("R-GEN-003", "不是有效的电话号码（手机11位，固话可带区号和分机）")
    if digits.startswith("1"):
        return digits
    if digits.startswith(("400", "800")):
        return f"{digits[:3]}-{digits[3:6]}-{digits[6:]}"
    area = digits[:3] if digits.startswith(("010", "02")) else digits[:4]
    return f"{area}-{digits[len(area) :]}{extension}"


def email(text: str) -> str:
    """One e-mail address, syntax only (R-GEN-004); ASCII local part, so that every relay takes it."""
    try:
        found = validate_email(narrow(text), check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError:
        raise fault("R-GEN-004", "不是有效的电子邮箱地址") from None
    return found.normalized


def contact(text: str) -> Contact:
    """`张三 020-83726619、13800138000 a@b.cn` in whatever order people write it."""
    plain = _LABEL.sub(" ", narrow(text).translate(_HYPHENS))
    mails = _MAIL.findall(plain)
    rest = _MAIL.sub(" ", plain)
    numbers = [m.group() for m in _PHONE.finditer(rest)]
    rest = _PHONE.sub(" ", rest)
    name = "、".join(filter(None, map(_name, _SPLIT.split(rest))))
    if re.search(r"\d{3,}", name):
        raise fault("R-GEN-003", "联系电话无法识别（手机11位，固话可带区号和分机）")
    if not numbers:
        raise fault("R-GEN-003", "缺少联系电话")
    if not name:
        raise fault("contact.name", "缺少联系人姓名")
    if len(name) > 50:
        raise fault("contact.name", "联系人姓名过长，请只写姓名和联系方式")
    return Contact(
        name=name,
        phones=tuple(dict.fromkeys(phone(n) for n in numbers)),
        email=email(mails[0]) if mails else None,
    )


def phones(text: str) -> list[str]:
    """Several telephone numbers in one place, as `固话+手机` asks for; words between them do not matter."""
    plain = _LABEL.sub(" ", narrow(text).translate(_HYPHENS))
    numbers = [m.group() for m in _PHONE.finditer(plain)]
    if not numbers or re.search(r"\d{3,}", _PHONE.sub(" ", plain)):
        raise fault("R-GEN-003", "不是有效的电话号码（手机11位，固话可带区号和分机）")
    return list(dict.fromkeys(map(phone, numbers)))


def _name(part: str) -> str:
    part = part.strip(":.-").replace("()", "")
    return part if part.count("(") == part.count(")") else part.strip("()")


# --- quantities --------------------------------------------------------------------------------------


def _numbers(text: str) -> list[Decimal]:
    try:
        return [Decimal(n.replace(",", "")) for n in _NUMBER.findall(narrow(text))]
    except InvalidOperation:  # pragma: no cover  # the pattern admits nothing that Decimal refuses
        return []


def quantity(text: str) -> Quantity:
    """`约100人` → 100; `1万人` → 10 000; a range counts its upper end; text without a number is kept."""
    numbers = _numbers(text)
    if not numbers:
        return Quantity(text=text)
    number = max(numbers) * (10_000 if re.search(r"\d\s*万", narrow(text)) else 1)
    if number < 1 or _NEGATIVE.match(narrow(text)):
        raise fault("at_least_one", "数目应不小于1")
    return Quantity(text=text, number=int(number))


def amount(text: str) -> Amount:
    """A sum in the unit of the header (万元): `1,000`, `最高500万元`, `1亿元` → 10 000; `—` has no number."""
    if is_blank(text):
        return Amount(text="—")
    plain = _SPACES.sub("", narrow(text)).replace(",", "")
    if _NEGATIVE.match(plain):
        raise fault("not_negative", "金额不能为负数")
    sums = re.findall(r"(\d+(?:\.\d+)?)(亿|万|元)?", plain)
    numbers = [Decimal(n) * _UNITS[unit] for n, unit in sums]
    if re.search(r"亿\d+(?:\.\d+)?万", plain):
        numbers = [sum(numbers, Decimal(0))]  # 1亿5000万 is one sum
    if not numbers:
        return Amount(text=text)
    return Amount(text=text, number=max(numbers))


_UNITS = {"亿": Decimal(10_000), "万": Decimal(1), "元": Decimal("0.0001"), "": Decimal(1)}


def months(text: str) -> Months:
    """A term in months: `12`, `6-36个月`, `最长3年` → 36; `—`, days and text without a number are kept."""
    if is_blank(text):
        return Months(text="—")
    plain = re.sub(r"(\d+)年(?:零)?(\d+)个?月", lambda m: str(int(m[1]) * 12 + int(m[2])), _plain(text))
    numbers: list[int] = []
    unit = ""
    for number, stated in reversed(_TERM.findall(plain)):
        # `1-3年`: a number without a unit has that of the next one.
        unit = stated or (unit if re.search(rf"{re.escape(number)}[-~至—]", plain) else "")
        if unit in ("天", "日"):
            return Months(text=text)
        numbers.append(int(Decimal(number) * (12 if unit == "年" else 1)))
    if not numbers:
        return Months(text=text)
    if min(numbers) < 1 or _NEGATIVE.match(plain):
        raise fault("at_least_one", "贷款期限应不少于1个月")
    return Months(text=text, min=min(numbers), max=max(numbers))


def rate(text: str) -> Rate:
    """A yearly rate in percent: `3.65%起`, `LPR+50BP` (kept as text); a range prints as `3.65%—4.5%`."""
    if is_blank(text):
        return Rate(text="—")
    plain = _plain(text)
    if _NEGATIVE.match(plain) and not re.search(r"LPR", plain, re.IGNORECASE):
        raise fault("not_negative", "利率不能为负数")
    # Several products in one cell, or a rate that hangs on another: kept for people, without bounds.
    numbers = [] if re.search(r"LPR|BP|基点|\d[年期个]", plain, re.IGNORECASE) else _numbers(plain)
    if not numbers or len(numbers) > 2:
        return Rate(text=text)
    if numbers[0] > numbers[-1]:
        raise fault("F5.10", "贷款利率区间的下限高于上限")
    if m := re.fullmatch(r"([\d.]+)%?[-~至—–]+([\d.]+)%?", plain):
        text = f"{m[1]}%—{m[2]}%"
    return Rate(text=text, min=numbers[0], max=numbers[-1])


def _plain(text: str) -> str:
    return _SPACES.sub("", narrow(text))


def fraction(value: float) -> str:
    """A cell that the spreadsheet stores as 0.0365 and shows as 3.65%."""
    return f"{(Decimal(repr(value)) * 100).normalize():f}%"


def period(text: str, year: int | None = None) -> Period:
    """A date or range: `2025年6月10日`, `6月10日—12日`, `2025.6.10-2025.7.1`, `2025年6月`, `长期`.

    A missing year is the year of the round; a month alone is the whole month; other text is kept as it is.
    """
    plain = _plain(text)
    plain = re.sub(r"(?<!\d)(20\d\d)(\d\d)(\d\d)(?!\d)", r"\1年\2月\3日", plain)
    plain = re.sub(r"(\d{4})[-./](\d{1,2})[-./](\d{1,2})(?!\d)", r"\1年\2月\3日", plain)
    plain = re.sub(r"(\d{4})[-./](\d{1,2})(?![-./\d])", r"\1年\2月", plain)
    plain = re.sub(r"(?<=[至到~—])(\d{1,2})[-./](\d{1,2})(?!\d)", r"\1月\2日", plain)
    plain = re.sub(r"(?<![\d月])(\d{1,2})(?=(?:-|~|—+|至|到|、)\d{1,2}月(?:$|份))", r"\1月", plain)
    plain = re.sub(r"[上下]午|周.|星期.|\(.*?\)|\d{1,2}:\d{2}", "", plain)
    ends: list[tuple[date, date]] = []
    y, m = year, None
    for part in _DASH.split(plain):
        if whole := re.fullmatch(r"(?:(\d{4})年)?(\d{1,2})月(?:份|底|中旬|上旬|下旬)?", part):
            y, m = int(whole[1] or y or 0) or None, int(whole[2])
            if y and 1 <= m <= 12:
                ends.append((date(y, m, 1), date(y, m, monthrange(y, m)[1])))
        elif exact := re.match(r"(?:(\d{4})年)?(?:(\d{1,2})[月./])?(\d{1,2})(?:[日号]|$)", part):
            y, m = int(exact[1] or y or 0) or None, int(exact[2]) if exact[2] else m
            if y and m:
                day = _day(y, m, int(exact[3]))
                ends.append((day, day))
    if not ends:
        return Period(text=text)
    start, end = ends[0][0], ends[-1][1]
    if end < start:
        raise fault("date.order", "结束日期早于开始日期")
    return Period(text=text, start=start, end=end)


def _day(y: int, m: int, d: int) -> date:
    try:
        return date(y, m, d)
    except ValueError:
        raise fault("date", "日期不存在，请检查月份和日") from None


# --- printing ----------------------------------------------------------------------------------------


def chinese_date(day: date) -> str:
    """2025年3月7日: Arabic, no leading zeros (R-GEN-010)."""
    return f"{day.year}年{day.month}月{day.day}日"


def printed(value: Any) -> str:
    """A stored value (as JSON) as the text of its catalogue cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "是" if value else "否"
    if isinstance(value, list):
        return "、".join(map(printed, value))
    if isinstance(value, dict):
        if "phones" in value:
            return " ".join(filter(None, [value["name"], *value["phones"], value.get("email")]))
        return str(value["text"])
    return str(value)


PARSERS: dict[str, Callable[[str], Any]] = {
    "contact": contact,
    "quantity": quantity,
    "amount": amount,
    "months": months,
    "rate": rate,
    "uscc": uscc,
    "phone": phone,
    "email": email,
}
