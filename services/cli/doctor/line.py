"""What one check of `yiqi ops doctor` has found, and how a check that cannot be made is told.

What is checked is in the modules beside.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Any

from services.cli.common import Fail
from services.cli.wrongs import worded

PATIENCE = 20.0
"""Seconds for one check; what takes longer is a fault by itself."""


ALL = 180.0
"""For what one connection is asked, all of it."""


class State(IntEnum):
    """As the exit status has it."""

    GOOD = 0
    ATTENTION = 1
    FAULT = 2

    @property
    def chinese(self) -> str:
        return ("正常", "注意", "故障")[self]


@dataclass(frozen=True)
class Line:
    """`check` names it for machines, `name` for people; `do` begins with a command that exists, where one helps."""

    check: str
    name: str
    state: State
    what: str
    do: str = ""

    def told(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "name": self.name,
            "state": self.state.name.lower(),
            "what": self.what,
            "do": self.do,
        }


@dataclass(frozen=True)
class Topic:
    """One check: its lines are made of it."""

    check: str
    name: str
    do: str = ""
    """What to do when the check itself cannot be made."""

    def good(self, what: str) -> Line:
        return Line(self.check, self.name, State.GOOD, what)

    def attention(self, what: str, do: str = "") -> Line:
        return Line(self.check, self.name, State.ATTENTION, what, do)

    def fault(self, what: str, do: str = "") -> Line:
        return Line(self.check, self.name, State.FAULT, what, do)

    def share(self, part: float, whole: float, what: str, do: str) -> Line | None:
        """A limit that is nearly reached; None while there is room, or no limit."""
        if whole <= 0 or part < NEAR * whole:
            return None
        told = f"{what}已用{part / whole:.0%}"
        return self.fault(told, do) if part >= FULL * whole else self.attention(told, do)


NEAR, FULL = 0.8, 0.95


async def asked(
    topic: Topic, check: Callable[[Topic], Awaitable[Sequence[Line]]], patience: float = PATIENCE
) -> Sequence[Line]:
    """The lines of a check; one that cannot be made is itself a fault, and stops no other."""
    try:
        async with asyncio.timeout(patience):
            return await check(topic)
    except Fail as error:
        return [topic.fault(str(error), topic.do)]
    except Exception as error:
        if isinstance(error, TimeoutError):
            return [topic.fault(f"{patience:.0f}秒内没有应答", topic.do)]
        if (said := worded(error)) is None:
            raise
        # Its first sentence: what follows is for whoever has just begun.
        return [topic.fault(said[0].partition("。")[0], topic.do)]


def lasted(took: timedelta) -> str:
    seconds = took.total_seconds()
    for size, unit in ((86400, "天"), (3600, "小时"), (60, "分钟")):
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.0f}秒"
