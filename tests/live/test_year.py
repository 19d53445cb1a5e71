"""The simulated year in short (in full: `python -m tests.bench.year`), and that its comparison can fail."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any
from uuid import uuid4

import pytest

from services.notify import reminders, store
from services.notify.owed import Owed
from shared.notices.calendar import Calendar, Due
from shared.runtime.embedded import Postgres
from tests.bench.owed_year import Comparison
from tests.bench.year import year

SPRING = date(2026, 4, 20)


def spring(postgres: Postgres, name: str, careless: Calendar | None = None) -> Comparison:
    """Few cases until the end of April: enough for every kind of mistake below."""
    found, _ = asyncio.run(year(postgres, 27, until=SPRING, careless=careless, name=f"year_{name}"))
    return found


def test_every_reminder_of_a_year_is_entered_once_on_its_morning(postgres: Postgres) -> None:
    found, told = asyncio.run(year(postgres, 81))
    assert (found.wrong, found.examples) == (0, [])
    assert found.total.owed == found.total.sent > 700
    assert min(told.restarts, told.died, told.outages) > 3
    assert len(found.by) == 19
    assert [name for name, one in found.by.items() if not one.owed] == []


def test_without_the_key_of_the_ledger_reminders_come_twice(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.owe

    def anew(one: Owed) -> Owed:
        assert one.recipient
        other = replace(one.recipient, occasion=f"{one.recipient.occasion}/{uuid4()}")
        return replace(one, key=f"{one.key}/{uuid4()}", recipient=other)

    def forgetful(conn: Any, letters: Sequence[Owed], *more: Any) -> None:
        real(conn, [anew(one) for one in letters], *more)

    monkeypatch.setattr(store, "owe", forgetful)
    assert spring(postgres, "key").total.twice > 0


class Careless(Calendar):
    """Takes a rung for what the ladder says, on whatever day it falls."""

    __slots__ = ()

    def previous_working_day(self, day: date) -> Due:
        return Due(day, False)

    def next_working_day(self, day: date) -> Due:
        return Due(day, False)


def test_without_the_move_to_a_working_day_reminders_come_on_rest_days(postgres: Postgres) -> None:
    true = Calendar.load()
    total = spring(postgres, "rest", Careless(true._off, true._official)).total
    assert total.rest > 0
    assert total.missing > 0


def test_a_sweep_that_runs_ahead_of_its_rungs_is_early(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reminders.rungs

    def hasty(deadline: Any, calendar: Calendar) -> list[reminders.Rung]:
        return [replace(one, at=one.at.replace(hour=8)) for one in real(deadline, calendar)]

    monkeypatch.setattr(reminders, "rungs", hasty)
    assert spring(postgres, "early").total.early > 0


def test_what_is_forgotten_is_missing(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reminders, "next_at", lambda *_: None)
    assert spring(postgres, "missing").total.missing > 0
