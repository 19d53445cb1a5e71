"""What people type into cells: every parser, on both sides of what it takes (spec §0.4, §2, §15.6)."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from shared.contracts.types import Contact
from shared.notices import values

D = Decimal


def code(parse: Callable[[str], object], text: str) -> str:
    with pytest.raises(PydanticCustomError) as caught:
        parse(text)
    return caught.value.type


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("服务 中小\n企业。", 7),  # T-COL-12
        ("", 0),
        ("　\t\r\n ", 0),
        ("ABC 12", 5),
        ("e\u0301", 1),  # NFC makes one character of it
    ],
)
def test_length_counts_neither_blanks_nor_line_breaks(text: str, expected: int) -> None:
    assert values.length(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (3.0, "3"),
        (2.5, "2.5"),
        (12, "12"),
        (True, "是"),
        (date(2025, 3, 7), "2025年3月7日"),
        ("　甲\r\n乙 ", "甲\n乙"),
    ],
)
def test_a_cell_as_text(value: object, expected: str) -> None:
    assert values.tidy(value) == expected


@pytest.mark.parametrize(
    "text",
    [
        "91110000600037341L",  # T-ID-01
        "N2440106MF0123456X",
        "Y1440106MF0123456Q",
        "51440100MJ01234562",  # T-ID-03
    ],
)
def test_a_credit_code_with_its_check_character(text: str) -> None:
    assert values.uscc(text) == text
    assert values.uscc(f" {text.lower()} ") == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("91110000600037341K", "R-GEN-001.check"),  # T-ID-02
        ("9111000060003734IL", "R-GEN-001.alphabet"),  # T-ID-04
        ("9111000060003734L", "R-GEN-001.length"),  # T-ID-05
        ("91110000600037341L1", "R-GEN-001.length"),
    ],
)
def test_a_wrong_credit_code_says_what_is_wrong(text: str, expected: str) -> None:
    assert code(values.uscc, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("83726619", "020-83726619"),  # T-ID-07
        ("020-83726619", "020-83726619"),
        ("13800138000", "13800138000"),
        ("１３８００１３８０００", "13800138000"),
        ("138 0013 8000", "13800138000"),
        ("+86 13800138000", "13800138000"),
        ("+86-20-83726619", "020-83726619"),
        ("（020）83522270-802", "020-83522270-802"),
        ("83522270转802", "020-83522270-802"),
        ("020—83726619", "020-83726619"),  # an em dash, as Chinese keyboards give
        ("0755-83726619", "0755-83726619"),
        ("400-820-8820", "400-820-8820"),
    ],
)
def test_a_telephone_number(text: str, expected: str) -> None:
    assert values.phone(text) == expected


@pytest.mark.parametrize(
    "text", ["1380013800", "138001380000", "8372661", "020-8372661", "110", "", "电话", "12345678901"]
)
def test_no_telephone_number(text: str) -> None:
    assert code(values.phone, text) == "R-GEN-003"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("张三 020-83726619", Contact(name="张三", phones=("020-83726619",))),
        (
            "张三 83522270-802、13800138000",  # T-ID-08
            Contact(name="张三", phones=("020-83522270-802", "13800138000")),
        ),
        (
            "联系人：张三；电话：１３８００１３８０００；邮箱：a@b.cn",
            Contact(name="张三", phones=("13800138000",), email="a@b.cn"),
        ),
        ("联系人张三 联系电话13800138000", Contact(name="张三", phones=("13800138000",))),
        ("张三13800138000", Contact(name="张三", phones=("13800138000",))),
        ("张三\n020—83726619", Contact(name="张三", phones=("020-83726619",))),
        ("张三（经理） 13800138000", Contact(name="张三(经理)", phones=("13800138000",))),
        ("张三 83726619 李四 83726620", Contact(name="张三、李四", phones=("020-83726619", "020-83726620"))),
        ("张三 13800138000/13800138000", Contact(name="张三", phones=("13800138000",))),
        ("张三 400-820-8820", Contact(name="张三", phones=("400-820-8820",))),
    ],
)
def test_a_contact_in_whatever_order(text: str, expected: Contact) -> None:
    assert values.contact(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("张三", "R-GEN-003"),
        ("张三 1380013800", "R-GEN-003"),  # ten digits
        ("13800138000", "contact.name"),
        ("张三 13800138000 zhangsan@x", "R-GEN-004"),
        ("很" * 51 + " 13800138000", "contact.name"),
    ],
)
def test_an_incomplete_contact(text: str, expected: str) -> None:
    assert code(values.contact, text) == expected


def test_the_text_of_a_fault_never_repeats_the_value() -> None:
    with pytest.raises(PydanticCustomError) as caught:
        values.contact("李小明 1380013800")
    assert "李小明" not in str(caught.value)
    assert "1380013800" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"), [("a@b.cn", "a@b.cn"), ("a＠b.cn", "a@b.cn"), ("A@B.CN", "A@b.cn")]
)
def test_an_address(text: str, expected: str) -> None:
    assert values.email(text) == expected


@pytest.mark.parametrize("text", ["a@b", "a b@c.cn", "张@b.cn", "@b.cn", "a@"])
def test_no_address(text: str) -> None:
    assert code(values.email, text) == "R-GEN-004"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100", 100),
        ("约100人", 100),
        ("１００", 100),
        ("3台", 3),
        ("1", 1),
        ("1,000人", 1000),
        ("50-100人", 100),
        ("1万人", 10_000),
        ("1.5万人次", 15_000),
        ("若干", None),
        ("—", None),
    ],
)
def test_a_quantity(text: str, expected: int | None) -> None:
    found = values.quantity(text)
    assert (found.text, found.number) == (text, expected)


@pytest.mark.parametrize("text", ["0", "0人", "0.5", "-5"])
def test_a_quantity_below_one(text: str) -> None:
    assert code(values.quantity, text) == "at_least_one"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,000", D(1000)),
        ("500.5", D("500.5")),
        ("0", D(0)),
        ("最高500万元", D(500)),
        ("１０００", D(1000)),
        ("1亿元", D(10_000)),
        ("1亿5000万元", D(15_000)),
        ("10亿-20亿", D(200_000)),
        ("100-500", D(500)),
        ("3000元", D("0.3")),
        ("面议", None),
        ("—", None),
        ("/", None),
        ("无", None),
    ],
)
def test_an_amount_in_ten_thousands(text: str, expected: D | None) -> None:
    assert values.amount(text).number == expected


@pytest.mark.parametrize("text", ["-5", "－5", "-0.01万元"])
def test_a_negative_amount(text: str) -> None:
    assert code(values.amount, text) == "not_negative"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", (12, 12)),
        ("1", (1, 1)),
        ("6-36个月", (6, 36)),
        ("最长3年", (36, 36)),
        ("1-3年", (12, 36)),
        ("6个月-3年", (6, 36)),
        ("1年6个月", (18, 18)),
        ("1.5年", (18, 18)),
        ("最长180天", (None, None)),
        ("随借随还", (None, None)),
        ("—", (None, None)),
    ],
)
def test_a_term_in_months(text: str, expected: tuple[int | None, int | None]) -> None:
    found = values.months(text)
    assert (found.min, found.max) == expected


@pytest.mark.parametrize("text", ["0", "0-12", "-1"])
def test_a_term_below_one_month(text: str) -> None:
    assert code(values.months, text) == "at_least_one"


@pytest.mark.parametrize(
    ("text", "printed", "expected"),
    [
        ("3.65%-4.5%", "3.65%—4.5%", (D("3.65"), D("4.5"))),
        ("3.65％～4.5％", "3.65%—4.5%", (D("3.65"), D("4.5"))),
        ("4%-4%", "4%—4%", (D(4), D(4))),
        ("3.65%起", "3.65%起", (D("3.65"), D("3.65"))),
        ("3.65", "3.65", (D("3.65"), D("3.65"))),
        ("LPR+50BP", "LPR+50BP", (None, None)),
        ("1年期3.0%，3年期3.5%", "1年期3.0%，3年期3.5%", (None, None)),
        ("—", "—", (None, None)),
    ],
)
def test_a_yearly_rate(text: str, printed: str, expected: tuple[D | None, D | None]) -> None:
    found = values.rate(text)
    assert (found.text, (found.min, found.max)) == (printed, expected)


def test_a_rate_upside_down_or_negative() -> None:
    assert code(values.rate, "4.51%-4.5%") == "F5.10"
    assert code(values.rate, "-1%") == "not_negative"


@pytest.mark.parametrize(("cell", "expected"), [(0.0365, "3.65%"), (0.04, "4%"), (0.1, "10%"), (1.0, "100%")])
def test_a_percentage_as_spreadsheets_store_it(cell: float, expected: str) -> None:
    assert values.fraction(cell) == expected


JUNE = (date(2025, 6, 1), date(2025, 6, 30))
TENTH = (date(2025, 6, 10), date(2025, 6, 10))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025年6月10日", TENTH),
        ("２０２５年６月１０日", TENTH),
        ("2025-06-10", TENTH),
        ("2025.6.10", TENTH),
        ("20250610", TENTH),
        ("6月10日", TENTH),
        ("6/10", TENTH),
        ("2025年6月10日（周二）14:30", TENTH),
        ("6月10日 上午9:00-11:00", TENTH),
        ("6月10日—12日", (date(2025, 6, 10), date(2025, 6, 12))),
        ("6月10、12日", (date(2025, 6, 10), date(2025, 6, 12))),
        ("2025-06-10至06-12", (date(2025, 6, 10), date(2025, 6, 12))),
        ("2025.6.10-2025.7.1", (date(2025, 6, 10), date(2025, 7, 1))),
        ("5月31日至6月1日", (date(2025, 5, 31), date(2025, 6, 1))),
        ("2025年12月30日-2026年1月2日", (date(2025, 12, 30), date(2026, 1, 2))),
        ("2025年6月", JUNE),
        ("6月", JUNE),
        ("6月中旬", JUNE),
        ("2025-06", JUNE),
        ("4-6月", (date(2025, 4, 1), date(2025, 6, 30))),
        ("2024年2月", (date(2024, 2, 1), date(2024, 2, 29))),
    ],
)
def test_a_period(text: str, expected: tuple[date, date]) -> None:
    found = values.period(text, year=2025)
    assert (found.text, found.start, found.end) == (text, *expected)


@pytest.mark.parametrize("text", ["长期", "全年", "2025年", "2025年第二季度", "待定", "13月", "每月第一周"])
def test_a_period_that_only_people_can_read(text: str) -> None:
    found = values.period(text, year=2025)
    assert (found.text, found.start, found.end) == (text, None, None)


def test_without_a_year_a_day_stays_text() -> None:
    assert values.period("6月10日").start is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025年2月29日", "date"),
        ("2025-02-30", "date"),
        ("6月12日-10日", "date.order"),
        ("7月-6月", "date.order"),
    ],
)
def test_an_impossible_period(text: str, expected: str) -> None:
    assert code(lambda t: values.period(t, year=2025), text) == expected


def test_printed_dates_have_no_leading_zeros() -> None:
    assert values.chinese_date(date(2025, 3, 7)) == "2025年3月7日"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        ("甲", "甲"),
        ({"text": "约100人", "number": 100}, "约100人"),
        ({"name": "张三", "phones": ["020-83726619", "13800138000"]}, "张三 020-83726619 13800138000"),
        ({"name": "张三", "phones": ["13800138000"], "email": "a@b.cn"}, "张三 13800138000 a@b.cn"),
    ],
)
def test_a_stored_value_in_print(value: object, expected: str) -> None:
    assert values.printed(value) == expected


PARSERS: list[Callable[[str], Any]] = [*values.PARSERS.values(), lambda text: values.period(text, year=2025)]


@given(st.text(max_size=40) | st.text("0123456789年月日-—至亿万元%个.,、（）() LPR人约", max_size=24))
def test_no_text_makes_a_parser_fail_in_any_other_way(text: str) -> None:
    for parse in PARSERS:
        try:
            parse(values.tidy(text) or "—")  # blank cells never reach a parser
        except PydanticCustomError:
            continue


@given(st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True))
def test_a_contact_prints_and_reads_back_the_same(number: str) -> None:
    try:
        found = values.contact(f"张三 {number}")
    except PydanticCustomError:
        return  # a range that has not been given out
    assert values.contact(values.printed(found.model_dump())) == found
