"""Figures that follow from others: growth and mean, exact to all digits that a threshold can ask for."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.types import Values
from shared.notices.columns import Column
from shared.notices.forms import figures, growth, mean, miscomputed
from shared.notices.layout import Computed, Form
from shared.notices.load import NoticeBroken, load

FILE = Path(__file__).parents[2] / "shared/notices/data/gz-clusters.yaml"
TENTH_DECIMAL = Decimal("1E-10")


def decimals(*texts: str) -> list[Decimal]:
    return [Decimal(t) for t in texts]


def form(*computed: Computed, kind: str = "decimal") -> Form:
    columns = [Column(field=f"F1.0{n}", key=f"y{n}", header=f"第{n}年", type=kind) for n in range(1, 5)]
    return Form.model_validate(
        {
            "id": "F1", "annex": "表", "title": "表", "title_in_notice": "表", "clause": "一",
            "item_kind": "title", "name": ["y1"], "columns": columns, "computed": computed,
        }
    )  # fmt: skip


def computed(how: str, *of: str, key: str = "figure") -> Computed:
    return Computed.model_validate({"key": key, "label": "数", "how": how, "of": of})


def stored(*yearly: str) -> Values:
    return {f"y{n}": figure for n, figure in enumerate(yearly, 1)}


def figure(how: str, *yearly: str) -> Decimal | None:
    one = computed(how, *(f"y{n}" for n in range(1, 5)))
    return figures(form(one), stored(*yearly))["figure"]


@pytest.mark.parametrize(
    ("how", "yearly", "expected"),
    [
        # exactly 5 % a year is not more than 5 %
        ("growth", ("100", "105", "110.25", "115.7625"), "5"),
        ("growth", ("100", "105", "110.25", "115.7626"), "5.0000302343"),
        # only the ends count
        ("growth", ("100", "1", "9999", "133.1"), "10"),
        ("growth", ("100", "120", "110", "100"), "0"),
        # so small a loss that it is none, and not a -0 either
        ("growth", ("99999999999", "1", "1", "99999999998.9999999999"), "0"),
        ("growth", ("8", "4", "2", "1"), "-50"),
        ("growth", ("100", "90", "80", "0"), "-100"),
        # the mean of +100 %, -50 % and +100 %; compound it is +26 %
        ("mean_growth", ("1", "2", "1", "2"), "50"),
        ("growth", ("1", "2", "1", "2"), "25.9921049895"),
        ("mean_growth", ("100", "110", "121", "0"), "-26.6666666667"),
        ("mean", ("10", "20", "30", "41"), "25.25"),
        ("mean", ("0", "0", "0", "1"), "0.25"),
    ],
)
def test_a_figure_is_exact(how: str, yearly: tuple[str, ...], expected: str) -> None:
    found = figure(how, *yearly)
    assert found == Decimal(expected)
    assert str(found) != "-0E-10"


@pytest.mark.parametrize(
    ("how", "yearly"),
    [
        ("growth", ("0", "105", "110", "115")),
        ("growth", ("-1", "105", "110", "115")),
        ("growth", ("100", "105", "110", "-115")),
        ("mean_growth", ("100", "0", "110", "115")),
        ("mean_growth", ("0", "105", "110", "115")),
        ("growth", ("100", "105", "110")),
        ("mean_growth", ("100", "105", "110")),
        ("mean", ("100", "105", "110")),
    ],
)
def test_from_nothing_or_not_enough_there_is_none(how: str, yearly: tuple[str, ...]) -> None:
    assert figure(how, *yearly) is None


def test_a_base_of_nothing_in_between_does_not_matter_to_the_compound_rate() -> None:
    assert figure("growth", "100", "0", "0", "100") == 0


@pytest.mark.parametrize("kind", ["amount", "quantity"])
def test_a_value_of_parts_gives_its_number(kind: str) -> None:
    form_ = form(computed("mean", "y1", "y2"), kind=kind)
    values = {"y1": {"text": "约10", "number": "10"}, "y2": {"text": "20", "number": 20}}
    assert figures(form_, values) == {"figure": 15}
    assert figures(form_, {**values, "y2": {"text": "若干"}}) == {"figure": None}


def test_the_smallest_and_largest_numbers_that_can_be_written_do_no_harm() -> None:
    least = "0." + "0" * 197 + "1"
    assert figure("growth", least, "1", "1", "9" * 12) is not None
    assert figure("mean_growth", least, "1", "1", "9" * 12) is not None
    assert figure("mean", least, least, least, least) == 0


# --- what holds of all numbers -------------------------------------------------------------------------

amounts = st.decimals(min_value=Decimal("0.01"), max_value=Decimal(10**9), places=2)
rates = st.decimals(min_value=Decimal(-99), max_value=Decimal(900), places=4)
several = st.lists(amounts, min_size=2, max_size=8)


def rounded(number: Decimal | None) -> Decimal:
    assert number is not None
    return number.quantize(TENTH_DECIMAL)


@given(amounts, rates, st.integers(min_value=1, max_value=6))
def test_what_grows_at_one_rate_has_that_rate_either_way(base: Decimal, rate: Decimal, years: int) -> None:
    yearly = [base * (1 + rate / 100) ** n for n in range(years + 1)]
    # The powers themselves are rounded by Python's own 28 digits.
    for found in (growth(yearly), growth(yearly, yearly=True)):
        assert found is not None
        assert abs(found - rate) < Decimal("1E-9")


@given(several, st.sampled_from([2, 5, 1000]))
def test_a_rate_does_not_depend_on_the_unit(yearly: list[Decimal], factor: int) -> None:
    for each_year in (False, True):
        larger = growth([factor * n for n in yearly], yearly=each_year)
        assert rounded(larger) == rounded(growth(yearly, yearly=each_year))


@given(several)
def test_the_compound_rate_is_never_above_the_mean_of_the_yearly_ones(yearly: list[Decimal]) -> None:
    assert rounded(growth(yearly)) <= rounded(growth(yearly, yearly=True))


@given(several)
def test_the_compound_rate_has_the_sign_of_the_change(yearly: list[Decimal]) -> None:
    found = growth(yearly)
    assert found is not None
    assert (found > 0, found < 0) == (yearly[-1] > yearly[0], yearly[-1] < yearly[0])


@given(several)
def test_a_mean_lies_between_the_least_and_the_most(of: list[Decimal]) -> None:
    assert min(of) <= mean(of) <= max(of)
    assert rounded(mean(of)) == rounded(mean(of[::-1]))


# --- what cannot be computed ---------------------------------------------------------------------------


def test_a_figure_is_computed_from_numbers_under_a_name_of_its_own() -> None:
    assert list(miscomputed(form(computed("mean", "y1", "y2")))) == []
    wrong = form(
        computed("mean", "y1", "y2", key="y3"), computed("mean", "y1", "y2"), computed("mean", "y1", "y3")
    )
    assert [where for where, _ in miscomputed(wrong)] == [("computed", 0, "key"), ("computed", 2, "key")]
    texts = form(computed("mean", "y1", "y2"), kind="text")
    assert [where for where, _ in miscomputed(texts)] == [("computed", 0, "of", 0), ("computed", 0, "of", 1)]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("of: [output_y3, output_y2, output_y1]", "of: [cluster_name, output_y2, output_y1]", "cluster_name"),
        ("of: [output_y3, output_y2, output_y1]", "of: [incidents, output_y2, output_y1]", "incidents"),
        ("{key: output_mean, label", "{key: area_km2, label", "area_km2"),
        ("{key: rd_growth, label", "{key: output_growth, label", "output_growth"),
    ],
)
def test_a_notice_that_cannot_be_computed_does_not_load(before: str, after: str, told: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert text.count(before) == 1
    with pytest.raises(NoticeBroken, match=told):
        load(text.replace(before, after).encode())
