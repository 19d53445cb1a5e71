"""How often something is recalled: the ladder of a date, and the ladders that a notice need not write.

On which mornings its rungs fall is not here: the calendar decides that, in the service that recalls.
"""

from datetime import time
from typing import Annotated, Self

from pydantic import Field, model_validator

from shared.notices.columns import Data

Days = Annotated[int, Field(gt=0, le=3660)]


class Ladder(Data):
    """Reminders before a date, on it, and so many days after it when it was missed. One before moves to the previous
    working day, one after to the next: never on a rest day."""

    days_before: tuple[Days, ...] = ()
    on_day: bool = False
    missed_after: Days | None = None
    at: time = time(9, 0)
    derived: bool = True

    @model_validator(mode="after")
    def _rungs(self) -> Self:
        if not self.days_before and not self.on_day and self.missed_after is None:
            raise ValueError("提醒的日子一个也没有；不提醒请写 remind: []")
        if len({*self.days_before}) < len(self.days_before):
            raise ValueError("days_before 中有重复的天数")
        return self

    @property
    def text(self) -> str:
        """In Chinese: `前30、14日，当日，逾期后1日`."""
        before = "前" + "、".join(map(str, sorted(self.days_before, reverse=True))) + "日"
        parts = (
            before if self.days_before else "",
            "当日" if self.on_day else "",
            f"逾期后{self.missed_after}日" if self.missed_after else "",
        )
        return "，".join(part for part in parts if part)


# Ours (spec §10 [D]): no document says how often anybody is to be reminded.
FILING = Ladder(days_before=(30, 14, 7, 3, 1), on_day=True, missed_after=1)
"""Of a printed date, until which something is to be filed."""
DUTY = Ladder(days_before=(30, 14, 7, 3, 1), on_day=True)
"""Of a duty. That it was missed is an event of its case, and has a letter of its own."""
EXPIRY = Ladder(days_before=(180, 90, 30, 7))
"""Of a validity."""
TERM = Ladder(days_before=(3, 1), on_day=True, missed_after=1)
"""Of a stage that somebody must leave within a term; the letter that began it has told the date already."""
ENDING = Ladder(days_before=(3, 1), on_day=True)
"""Of a term at whose end the clock acts: nobody can miss it."""
OVERDUE = Ladder(missed_after=1)
"""Of a stage that lasts until a printed date: that is recalled by itself, to all whom it binds."""
