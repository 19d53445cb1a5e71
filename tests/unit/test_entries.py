"""What people write into the places of a card, and what is understood of it."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from shared.notices import entries
from shared.notices.entries import ENTRIES, NUMBERS
from shared.notices.values import phones


def refused(read: Callable[[], Any]) -> str:
    with pytest.raises(PydanticCustomError) as caught:
        read()
    return caught.value.type


@pytest.mark.parametrize(
    "text",
    [
        "2025年3月5日",
        "2025 年 3 月 5 日",
        "２０２５年３月５号",
        "2025-03-05",
        "2025.3.5",
        "2025/3/5",
        "20250305",
    ],
)
def test_a_date_is_written_in_many_ways(text: str) -> None:
    assert entries.day(text) == date(2025, 3, 5)


@pytest.mark.parametrize(
    "text", ["2025年3月", "3月5日", "2025年2月30日", "2025年13月1日", "明天", "2025年3月日", "2025"]
)
def test_what_is_no_date(text: str) -> None:
    assert refused(lambda: entries.day(text)) == "date"


@pytest.mark.parametrize("text", ["2016年5月", "2016/5", "2016.05", "2016-05", "2016年5月1日"])
def test_a_month(text: str) -> None:
    assert entries.year_month(text) == "2016-05"


@pytest.mark.parametrize("text", ["2016", "2016年13月", "2016年0月", "5月", "0016年5月"])
def test_what_is_no_month(text: str) -> None:
    assert refused(lambda: entries.year_month(text)) == "date"


@pytest.mark.parametrize(
    ("text", "empty"),
    [("2025 年 月 日", True), ("2025年10月 日", True), ("年 月", True), ("____年__月__日".replace("_", " "), True),
     ("2025年3月", False), ("2025年3月5日", False), ("", False)],
)  # fmt: skip
def test_what_a_form_preprints_is_no_date(text: str, empty: bool) -> None:
    assert entries.is_preprinted(text) is empty


@pytest.mark.parametrize(
    ("kind", "text", "unit", "value"),
    [
        ("integer", "12", "", 12),
        ("integer", "１２人", "人", 12),
        ("integer", "约100", "", 100),
        ("integer", "1,200家", "家", 1200),
        ("integer", "3.0", "", 3),
        ("decimal", "80.5㎡", "㎡", Decimal("80.5")),
        ("decimal", "-3", "万元", Decimal(-3)),
        ("decimal", "−3", "万元", Decimal(-3)),
        ("decimal", "500万", "万元", Decimal(500)),
        ("decimal", "30亿元", "亿元", Decimal(30)),
        ("percent", "60.01%", "", Decimal("60.01")),
        ("percent", "60％", "", Decimal(60)),
    ],
)
def test_numbers_with_or_without_their_unit(kind: str, text: str, unit: str, value: Any) -> None:
    assert NUMBERS[kind](text, unit) == value


@pytest.mark.parametrize(
    ("kind", "text", "unit", "code"),
    [
        ("integer", "3.5", "", "number.whole"),
        ("integer", "三", "", "number"),
        ("integer", "3到5", "", "number"),
        ("decimal", "1.2亿", "万元", "number.unit"),
        ("decimal", "5000元", "万元", "number.unit"),
        ("decimal", "9" * 13, "", "number.size"),
        ("percent", "不详", "", "number"),
    ],
)
def test_a_number_that_could_mean_another_is_refused(kind: str, text: str, unit: str, code: str) -> None:
    assert refused(lambda: NUMBERS[kind](text, unit)) == code


@pytest.mark.parametrize(("rule", "text", "broken"), [
    ("R-GEN-005", "510630", False), ("R-GEN-005", " ５１０６３０ ", False), ("R-GEN-005", "51063", True),
    ("R-GEN-005", "5106300", True), ("R-GEN-005", "51O630", True),
])  # fmt: skip
def test_a_postcode_has_six_digits(rule: str, text: str, broken: bool) -> None:
    if broken:
        assert refused(lambda: entries.postcode(text)) == rule
    else:
        assert entries.postcode(text) == "510630"


@pytest.mark.parametrize(
    "text", ["是", "√", "☑是 □否", "是（√）否（ ）", "有", "提供", "是，免费", "true", "☑"]
)
def test_yes(text: str) -> None:
    assert entries.flag(text) is True


@pytest.mark.parametrize("text", ["否", "无", "□是 ☑否", "不提供", "×", "否（另议）", "false", "□"])
def test_no(text: str) -> None:
    assert entries.flag(text) is False


@pytest.mark.parametrize("text", ["也许", "□是 □否", "☑是 ☑否", "2"])
def test_neither_yes_nor_no(text: str) -> None:
    assert refused(lambda: entries.flag(text)) == "flag"


def test_several_telephone_numbers() -> None:
    assert phones("固话：83726619 手机：13800138000") == ["020-83726619", "13800138000"]
    assert phones("138 0013 8000 / +86 13900139000") == ["13800138000", "13900139000"]
    assert phones("020-83726619、020-83726619") == ["020-83726619"]
    assert phones("83522270-802/13800138000") == ["020-83522270-802", "13800138000"]
    assert refused(lambda: phones("12345")) == "R-GEN-003"
    assert refused(lambda: phones("无")) == "R-GEN-003"


LABELS = ("科技园区", "文化创意园区", "商协会", "其他")


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("1. 科技园区（ ）； 2. 文化创意园区（√）； 3. 商协会（ ）； 4. 其他（ ）", ["文化创意园区"]),
        ("1、科技园区( )2、文化创意园区(　)3、商协会(✓)4、其他()", ["商协会"]),
        ("科技园区□ 文化创意园区■ 商协会□ 其他□", ["文化创意园区"]),
        ("□科技园区 ☑文化创意园区 □商协会 ☑其他", ["文化创意园区", "其他"]),
        ("（）1.科技园区 （√）2.商协会", ["商协会"]),
        ("□科技园区 □商协会", []),
        ("商协会", None),
        ("商协会（2019年成立）", None),
        ("无", None),
        ("", None),
    ],
)
def test_ticks_before_and_behind(text: str, chosen: list[str] | None) -> None:
    assert entries.ticked(text, LABELS) == chosen


@given(st.sampled_from(LABELS), st.sampled_from("√✓✔☑■"), st.sampled_from(["（{}）", "({})", "[ {} ]", "{}"]))
def test_the_one_that_is_ticked_is_found_wherever_it_stands(label: str, tick: str, shape: str) -> None:
    behind = "；".join(f"{n}. {one}" + shape.format(tick if one == label else "□" if shape == "{}" else " ")
                      for n, one in enumerate(LABELS, 1))  # fmt: skip
    assert entries.chosen(behind, LABELS) == label
    before = " ".join(
        shape.format(tick if one == label else "□" if shape == "{}" else " ") + one for one in LABELS
    )
    assert entries.chosen(before, LABELS) == label


@given(st.sampled_from(sorted(ENTRIES)), st.text(max_size=40))
def test_whatever_is_written_is_understood_or_refused(kind: str, text: str) -> None:
    try:
        ENTRIES[kind](text)
    except PydanticCustomError as error:
        assert error.message()  # noqa: PT017 - either outcome is right, and nothing else may happen


@given(
    st.sampled_from(sorted(NUMBERS)),
    st.text("0123456789.,-−+eE万亿元%％ 人", max_size=20),
    st.sampled_from(["", "人", "万元"]),
)
def test_a_number_is_a_number_or_refused(kind: str, text: str, unit: str) -> None:
    try:
        assert abs(NUMBERS[kind](text, unit)) < 10**12
    except PydanticCustomError as error:
        assert error.message()  # noqa: PT017 - as above
