"""Lists that nobody files: the districts' departments as the notice prints them, and the cases of a round.

How a list looks is in `test_paper.py` and `test_annexes.py`; the command with its database is tried live.
"""

from datetime import UTC, datetime

import pytest

from services.cli import printing
from services.cli.demo.lives import STATIONS
from services.export import card, word
from services.export.table import Row
from shared.notices.load import load_all
from shared.notices.model import Summary
from tests.unit.test_paper import word_rows, word_xml
from tests.unit.test_printed_cards import stored

NOTICE = load_all(None)[STATIONS].notice
SUMMARIES = {one.form.id: one for one in NOTICE.summaries}


def test_the_departments_are_listed_as_the_source_prints_them() -> None:
    header, *lines = word_rows(word.catalogue(NOTICE, SUMMARIES["F14"].form, printing._districts(NOTICE)))
    assert header == ["序号", "单位", "电话", "地址"]
    assert [line[0] for line in lines] == [str(n) for n in range(1, 12)]
    assert lines[0][:3] == ["1", "越秀区商务局", "37662647 37631957"]
    assert lines[5] == ["6", "番禺区科技工业商务和信息化局", "34608880", "番禺区市桥街清河东路口岸大街11号"]
    assert lines[10][1:3] == ["从化区科技工业商务和信息化局", "87922791"]


@pytest.mark.parametrize("contacts", [True, False])
def test_the_stations_of_a_round_are_listed_by_their_applications(contacts: bool) -> None:
    form = SUMMARIES["F13"].form
    values = {
        **stored(STATIONS, "F12"),
        "district": "天河区",
        "filled_by": "天河区商务金融局",
        "filled_on": "",
    }
    row = Row("F12-1", datetime(2019, 6, 1, tzinfo=UTC), values)
    made = word.catalogue(NOTICE, card.narrowed(form, () if contacts else form.personal), [row])
    header, line, *_ = word_rows(made)
    told = dict(zip(header, line, strict=True))
    assert (told["区"], told["服务站名称"], told["类型"]) == (
        "天河区",
        values["station_name"],
        values["operator_type"],
    )
    assert told.get("服务站负责人") == (values["head_name"] if contacts else None)
    assert told["区初审意见"] == ""
    text = "".join(word_xml(made).itertext())
    assert "填报单位（加盖公章）：天河区商务金融局" in text
    assert "系统拟定" in "".join(
        word_xml(made, "word/header1.xml").itertext()
    )  # the source prints no such table


def test_what_a_summary_names_must_exist() -> None:
    whole = SUMMARIES["F13"]
    assert list(whole.crossed(NOTICE)) == []
    (strange,) = Summary(of="F99", form=SUMMARIES["F14"].form).crossed(NOTICE)
    assert strange[0] == ("of",)
    found = [path for path, _ in Summary(of="districts", form=whole.form).crossed(NOTICE)]
    assert ("form", "columns", 1, "key") in found
