"""Working days under the State Council's yearly arrangements, and the counting of legal periods.

What falls due, and who is reminded when, is not here: that is the notice's procedure.
"""

import datetime as dt
from calendar import monthrange
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

SHANGHAI = ZoneInfo("Asia/Shanghai")

ONE_DAY = dt.timedelta(days=1)
SATURDAY = 5

# What an unpublished year is sure to have: the statutory days that need no lunar or solar-term table,
# as the law stands since 2025. Spring Festival, Qingming, Duanwu, Mid-Autumn, bridge days and make-up
# days are unknown until the paper comes out, which is why every result from such a year is provisional.
FIXED_HOLIDAYS = frozenset({(1, 1), (5, 1), (5, 2), (10, 1), (10, 2), (10, 3)})


class CalendarError(ValueError):
    """Calendar data that cannot be used; the message names the file and says in Chinese what is wrong."""


@dataclass(frozen=True, slots=True)
class Due:
    """A counted date; provisional if it was counted through a year without an official arrangement."""

    date: dt.date
    provisional: bool


@dataclass(frozen=True, slots=True, eq=False)
class Calendar:
    """Which days are worked. No method ever raises for a year it does not know."""

    _off: Mapping[dt.date, bool]
    _official: frozenset[int]

    @classmethod
    def load(cls, extra: Path | None = None) -> Self:
        """The packaged years; a year's file in the mounted directory replaces the packaged one."""
        if extra is not None and not extra.is_dir():
            raise CalendarError(f"{extra}：不是目录")
        packaged = resources.files(__package__) / "data" / "calendar"
        years = {file.year: file for folder in (packaged, extra) if folder for file in _read_all(folder)}
        # In order of years, so that the later paper has the last word on the end of December.
        off = {day.date: day.off for _, year in sorted(years.items()) for day in year.days}
        return cls(MappingProxyType(off), frozenset(year for year, file in years.items() if file.official))

    def is_working_day(self, day: dt.date) -> bool:
        if isinstance(day, dt.datetime):
            # A datetime never equals a date: it would miss every holiday without a word.
            raise TypeError("a day is wanted: take the date in Asia/Shanghai first")
        off = self._off.get(day)
        if off is not None:
            return not off
        if day.weekday() >= SATURDAY:
            return False
        return not self.provisional(day) or (day.month, day.day) not in FIXED_HOLIDAYS

    def provisional(self, day: dt.date) -> bool:
        """Whether the year still waits for its official arrangement."""
        return day.year not in self._official

    def add_working_days(self, start: dt.date, n: int) -> Due:
        """The n-th working day after `start`, which is itself not counted (Civil Code 201)."""
        if n < 0:
            raise ValueError("working days are counted forwards")
        day = start
        left = n
        while left:
            day += ONE_DAY
            left -= self.is_working_day(day)
        return self._due(day, counted_from=start + ONE_DAY if n else start)

    def next_working_day(self, day: dt.date) -> Due:
        """`day` itself when it is worked, otherwise the first working day after it."""
        return self._seek(day, ONE_DAY)

    def previous_working_day(self, day: dt.date) -> Due:
        """`day` itself when it is worked, otherwise the last working day before it."""
        return self._seek(day, -ONE_DAY)

    @staticmethod
    def add_period(start: dt.date, *, years: int = 0, months: int = 0, days: int = 0) -> dt.date:
        """The corresponding day, or the end of a month that has none (Civil Code 202); never shifted.

        This is the end of a validity (AMB-07c). For something that has to be done by then, see `period_end`.
        """
        year, month = divmod((start.year + years) * 12 + start.month - 1 + months, 12)
        last = monthrange(year, month + 1)[1]
        return start.replace(year=year, month=month + 1, day=min(start.day, last)) + days * ONE_DAY

    def period_end(self, start: dt.date, *, years: int = 0, months: int = 0, days: int = 0) -> Due:
        """The last day of a period, moved past rest days (Civil Code 203).

        Only for periods that are counted. A date printed in a notice stands as printed (R-GEN-009).
        """
        return self.next_working_day(self.add_period(start, years=years, months=months, days=days))

    def _seek(self, day: dt.date, step: dt.timedelta) -> Due:
        found = day
        while not self.is_working_day(found):
            found += step
        return self._due(found, counted_from=day)

    def _due(self, day: dt.date, counted_from: dt.date) -> Due:
        first, last = sorted((counted_from.year, day.year))
        return Due(day, any(year not in self._official for year in range(first, last + 1)))


class _Day(BaseModel):
    name: str
    date: dt.date
    off: bool = Field(alias="isOffDay")


class _Year(BaseModel):
    """One file in the shape of the open data set holiday-cn, whose own files carry no status."""

    year: int
    status: Literal["official", "provisional"] | None = None
    days: tuple[_Day, ...]

    @property
    def official(self) -> bool:
        # holiday-cn keeps an empty file for the coming year until the paper is out.
        return self.status == "official" or (self.status is None and bool(self.days))

    @model_validator(mode="after")
    def _is_one_years_arrangement(self) -> Self:
        seen: set[dt.date] = set()
        for day in self.days:
            # New Year's arrangement reaches back into December, and is ordered by the new year's paper.
            if day.date.year != self.year and (day.date.year, day.date.month) != (self.year - 1, 12):
                raise ValueError(f"{day.date} 不属于{self.year}年的安排")
            if day.date in seen:
                raise ValueError(f"{day.date} 重复")
            seen.add(day.date)
        if self.official and not self.days:
            raise ValueError("status 为 official，但没有任何日期")
        return self


def _read_all(folder: Traversable) -> Iterator[_Year]:
    for file in folder.iterdir():
        if file.name.endswith(".json"):
            yield _read(file)


def _read(file: Traversable) -> _Year:
    try:
        year = _Year.model_validate_json(file.read_bytes())
    except OSError as error:
        raise CalendarError(f"{file.name}：无法读取（{error.strerror}）") from error
    except ValidationError as error:
        raise CalendarError(f"{file.name}：{_explain(error.errors()[0])}") from error
    if file.name != f"{year.year}.json":
        raise CalendarError(f"{file.name}：year 为 {year.year}，与文件名不符")
    return year


def _explain(error: ErrorDetails) -> str:
    place = ".".join(map(str, error["loc"]))
    match error["type"]:
        case "json_invalid":
            return f"不是有效的 JSON（{error['ctx']['error']}）"
        case "missing":
            return f"缺少 {place}"
        case "value_error":
            return str(error["ctx"]["error"])
        case _:
            return f"{place or '内容'} 无效：{error['input']!r}"
