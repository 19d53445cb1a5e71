"""The calendar of the specification: every date is recalled by a notice or says why not; ladders that cannot be."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.notices.coverage import dates, recalled
from shared.notices.ladders import DUTY, EXPIRY, FILING, Ladder
from shared.notices.load import NoticeBroken, load, load_all
from shared.notices.stages import Duty, Within

NOTICES = [one.notice for one in load_all().values()]
DATA = Path(__file__).parents[2] / "shared/notices/data"
PLACES = {
    "DL-01": "deadlines[0]",
    "DL-02": "deadlines[1]",
    "DL-03": "deadlines[2]",
    "DL-04": "assumptions.DL-04",
    "DL-05": "procedure.stages[6].within",
    "DL-06": "duties[0]",
    "DL-07": "procedure.stages[9].within",
    "DL-08": "procedure.stages[9].within",
    "DL-09": "duties[1]",
    "DL-10": "deadlines[0]",
    "DL-11": "deadlines[0]",
    "DL-12": "deadlines[2]",
    "DL-13": "deadlines[3]",
    "DL-14": "duties[0]",
    "DL-15": "duties[1]",
    "DL-16": "procedure.stages[8].within",
}
"""Spec §10 has DL-01 to DL-22. The rest are of documents that are no notices yet."""


def test_the_calendar_has_the_22_dates_of_the_specification() -> None:
    assert list(dates()) == [f"DL-{n:02}" for n in range(1, 23)]


def test_every_date_is_recalled_by_a_notice_or_says_why_not() -> None:
    found = recalled(NOTICES)
    ours = {id_: [place for _, place in found[id_]] for id_ in dates() if id_ in found}
    assert ours == {id_: [place] for id_, place in PLACES.items()}
    assert [one.id for one in dates().values() if one.later] == [f"DL-{n}" for n in range(17, 23)]
    assert not {one.id for one in dates().values() if one.later} & found.keys()


def test_a_date_of_which_nobody_is_reminded_is_not_recalled() -> None:
    text = (DATA / "gz-clusters.yaml").read_text(encoding="utf-8")
    silent = text.replace("remind: [city], dates: [DL-05]", "remind: [], dates: [DL-05]")
    assert "DL-05" not in recalled([load(silent.encode()).notice])


def test_the_ladders_of_the_specification_are_the_defaults() -> None:
    assert (FILING.days_before, FILING.on_day, FILING.missed_after) == ((30, 14, 7, 3, 1), True, 1)
    assert (EXPIRY.days_before, EXPIRY.on_day, EXPIRY.missed_after) == ((180, 90, 30, 7), False, None)
    assert {ladder.at.hour for ladder in (FILING, DUTY, EXPIRY)} == {9}
    clusters = next(n for n in NOTICES if n.id == "gz-clusters")
    assert clusters.by_duty["DL-06"].ladder == DUTY
    validity = clusters.procedure.by_id["recognised"]
    assert validity.within
    assert (validity.within.recalled, validity.reminded) == (EXPIRY, ("filer", "district", "city"))
    assert DUTY.text == "前30、14、7、3、1日，当日"
    assert FILING.text == "前30、14、7、3、1日，当日，逾期后1日"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "一个也没有"),
        ({"days_before": (7, 7)}, "重复"),
        ({"days_before": (0,)}, "greater than 0"),
        ({"missed_after": 0}, "greater than 0"),
    ],
)
def test_a_ladder_that_cannot_be_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Ladder(**fields)


def test_nothing_that_the_clock_does_by_itself_can_be_missed() -> None:
    late = Ladder(days_before=(3,), missed_after=1)
    with pytest.raises(ValidationError, match="没有逾期可提醒"):
        Within(days=5, then="pass", ladder=late)
    with pytest.raises(ValidationError, match="另行发信"):
        Duty(id="DL-99", name="x", clause="x", form="F1", stages=("a",), quarterly=True, ladder=late)


@pytest.mark.parametrize(
    ("old", "new", "path", "message"),
    [
        ("remind: [city], dates", "remind: [mayor], dates", "procedure.stages[6].within.remind[0]", "没有办理者 mayor"),
        ("days_before: [180, 90, 30, 7]", "days_before: [180, 180]", "deadlines[0].ladder", "重复"),
        ("    covers: previous\n", "    covers: previous\n    remind: [filer, nobody]\n", "duties[0].remind[1]", "没有办理者 nobody"),
        ("    letter: expiring", "    letter: expiring\n    only: sung", "deadlines[0].only", "应为以下之一"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_where_it_stands(old: str, new: str, path: str, message: str) -> None:
    text = (DATA / "gz-clusters.yaml").read_text(encoding="utf-8")
    assert old in text
    broken = text.replace(old, new, 1)
    with pytest.raises(NoticeBroken) as caught:
        load(broken.encode(), "某通知.yaml")
    (error,) = caught.value.errors
    assert (error.path, message in error.message) == (path, True)
    assert re.search(message, str(error))
    changed_at = next(
        n for n, (a, b) in enumerate(zip(text.splitlines(), broken.splitlines(), strict=False), 1) if a != b
    )
    assert abs(error.line - changed_at) <= 1
