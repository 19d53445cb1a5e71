"""The words that templates put values in: dates as GB/T 9704 writes them, periods, counts, what was changed.

Which values a letter has is in `owed.py` and `cases.py`, the letters themselves are in `letters/`.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from shared.contracts.types import Severity

CHANGE_LIMIT = 200
DERIVED = "（系统默认，非通知规定）"
PROVISIONAL = "（暂定，以当年放假安排公布后的日期为准）"
SEVERITY: dict[Severity, str] = {"hard": "须改正", "soft": "请核对", "info": "说明"}


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def day(iso: str | date, weekday: bool = True) -> str:
    """2025年3月7日（星期五）: Arabic numerals, no leading zeros (GB/T 9704)."""
    when = date.fromisoformat(iso) if isinstance(iso, str) else iso
    name = f"（星期{'一二三四五六日'[when.weekday()]}）" if weekday else ""
    return f"{when.year}年{when.month}月{when.day}日{name}"


def due(params: Mapping[str, Any]) -> str:
    """A date to keep, with what is uncertain about it and what is ours."""
    last = day(params["date"])
    if params["at"]:
        # A printed hour is part of the date: 2019年6月18日17时（星期二）.
        last = last.replace("（", f"{hour(params['at'])}（")
    text = f"{day(params['from'])}至{last}" if params["from"] else f"{last}截止"
    if params["rest_day"]:
        text += "，当日为休息日，日期不顺延"
    if params["provisional"]:
        text += PROVISIONAL
    return text + (DERIVED if params["derived"] else "")


def hour(text: str) -> str:
    """`17:00` as 17时, `12:30` as 12时30分."""
    hours, minutes = map(int, text.split(":"))
    return f"{hours}时" + (f"{minutes}分" if minutes else "")


def countdown(left: int) -> str:
    if left > 0:
        return f"还有{left}天"
    return {0: "今天截止", -1: "已于昨天截止"}.get(left, f"已过期{-left}天")


def until(params: Mapping[str, Any]) -> str:
    """The last day of a title or of a public notice: nothing has to be done on it, so no weekday."""
    text = day(params["date"], weekday=False) + (PROVISIONAL if params["provisional"] else "")
    return text + (DERIVED if params["derived"] else "")


def period(text: str) -> str:
    """What a report is about: a year, a quarter (`2025-1`), or the day of a change."""
    if re.fullmatch(r"\d{4}", text):
        return f"{text}年"
    if quarter := re.fullmatch(r"(\d{4})-([1-4])", text):
        return f"{quarter[1]}年第{'一二三四'[int(quarter[2]) - 1]}季度"
    return day(text, weekday=False) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text


def when(duty: Mapping[str, Any]) -> str:
    """By when a duty is owed, again and again; `since` is what has to be done before it begins."""
    since = duty["since"]
    if duty["yearly"]:
        month, last = map(int, duty["yearly"].split("-"))
        text = "每年2月底前" if (month, last) == (2, 29) else f"每年{month}月{last}日前"
    elif duty["quarterly"]:
        text = "每季度末前"
    else:
        entered = "变更为市局得知" if duty["after"] == "change" else since or "列入名单"
        text = f"{entered}之日起{duty['days']}日内"
    if since and duty["after"] != "entry":
        text = f"{since}之后，{text}"
    return text + (DERIVED if duty["derived"] else "")


def numbers(sheet: Mapping[str, Any]) -> str:
    """The numbers that people read out; of a long sheet the first, and how many there are."""
    first: list[str] = sheet["numbers"]
    # Reports for several quarters may tell of one case.
    shown = "、".join(dict.fromkeys(first))
    return shown + (f"等{sheet['accepted']}项" if sheet["accepted"] > len(first) else "")


def changed(params: Mapping[str, Any]) -> str:
    if params["hidden"]:
        return "（已修改）"
    before, after = (cut(params[key], CHANGE_LIMIT) for key in ("before", "after"))
    if not before:
        return f"新填写“{after}”"
    return f"由“{before}”改为“{after}”" if after else f"删去“{before}”"


FILTERS: dict[str, Callable[..., str]] = {
    "day": day,
    "due": due,
    "countdown": countdown,
    "severity": SEVERITY.__getitem__,
    "until": until,
    "period": period,
    "when": when,
    "changed": changed,
    "numbers": numbers,
}
